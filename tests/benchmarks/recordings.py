"""Times recordings from their files to their answers, start-up left out, and what memory they take.

    uv run python tests/benchmarks/recordings.py ckpt=<run>/checkpoints/best.ckpt folder=/corpora

Long recordings are noise of 16 kHz, an hour and three (`minutes=60,180`). The short ones are those
of the folder, or 500 of two seconds of noise without one; beside them stands what decoding alone
takes, by as many processes. Each has a process of its own. Memory is what the process holds besides
pages of files, which the system takes back as it needs them, before and at most.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

import ser
from ser.inference.lookahead import look_ahead
from ser.inference.recordings import Recording, find

RATE = 16000


def write(path: Path, seconds: int) -> None:
    """Write noise whose level goes up and down."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for place in range(0, seconds, 60):
            time_ = np.arange(RATE * min(60, seconds - place)) / RATE
            noise = 0.1 * rng.standard_normal(len(time_), np.float32)
            file.write(noise * (1 + np.sin(1.7 * time_)))


def measure(ckpt: str, folder: str) -> None:
    """Print what the recordings below a folder take, as JSON."""
    from scale import watched  # beside this file

    model, paths = ser.load(ckpt, compiled=True), find(folder)
    model.predict(paths[0] if len(paths) > 1 else [np.zeros(RATE)], RATE)  # warms up
    with watched() as peak:
        base, start = peak(), time.perf_counter()
        windows = sum(len(each.windows) for each in model.stream(paths))
        seconds, kilobytes = time.perf_counter() - start, peak()
    start = time.perf_counter()
    for path, opened in look_ahead(paths, model.window):
        if opened is None:
            Recording.of_file(path, model.window)
    decoding = time.perf_counter() - start
    print(json.dumps([len(paths), windows, seconds, decoding, base / 1024, kilobytes / 1024]))


def main() -> None:
    """Measure each and print a line of it."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        places = {}
        for minutes in map(int, given.get("minutes", "60,180").split(",")):
            place = places[f"{minutes} min"] = Path(folder, str(minutes))
            place.mkdir()
            write(place / "noise.wav", 60 * minutes)
        short = Path(given.get("folder", f"{folder}/short"))
        if "folder" not in given:
            short.mkdir()
            for number in range(500):
                write(short / f"{number}.wav", 2)
        for name, place in (places | {"short": short}).items():
            command = [sys.executable, __file__, "measure", given["ckpt"], str(place)]
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            count, windows, seconds, decoding, base, peak = json.loads(shown.splitlines()[-1])
            print(
                f"{name:7} {count:6} files, {windows:6} windows {seconds:7.2f} s,"
                f" {count / seconds:6.1f} files a second; decoding alone {decoding:6.2f} s,"
                f" {seconds / decoding:5.2f} times; {base:5.0f} MB before, {peak:5.0f} at most"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*sys.argv[2:])
    else:
        main()
