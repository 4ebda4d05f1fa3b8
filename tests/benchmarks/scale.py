"""Times scan, split and cache of growing corpora, and measures the memory they take.

    uv run python tests/benchmarks/scale.py sizes=5000,20000,100000

The clips are links to one file of 50 ms under names of RAVDESS and, as TESS's words are any, of
TESS; each size has processes of its own, as only a whole process knows its peak. `scan` finds the
names, `split` parts them into speakers that train, validate and test, `cache` decodes each clip and
writes it, `open` finds what was written by a run before. The memory is the peak so far, above what
the imports take.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from ser.audio.window import Window
from ser.data.datamodule import EmotionDataModule
from ser.splits.protocols import Holdout

STEPS = ("scan", "split", "cache", "open")
RATE = 8000  # Hz
FEW = 64  # the links that one file may have are limited: 65,000 on ext4


def write(root: Path, count: int) -> None:
    """Write `count` clips: 16 speakers of RAVDESS with all emotions of speech, then TESS."""
    names = [
        f"Actor_{speaker:02}/03-01-{emotion:02}-01-{statement:02}-{take:02}-{speaker:02}.wav"
        for speaker in range(1, 17)
        for emotion in range(1, 9)
        for statement in (1, 2)
        for take in (1, 2)
    ]
    emotions = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    for number in range(max(0, count - len(names))):
        word = "".join("abcdefghij"[int(digit)] for digit in str(number // 14))
        speaker, emotion = ("OAF", "YAF")[number % 2], emotions[number // 2 % 7]
        names.append(f"{speaker}_{emotion}/{speaker}_{word}_{emotion}.wav")
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE // 20)
    for number in range(FEW):
        soundfile.write(root / f"{number}.tmp", noise, RATE, format="WAV", subtype="PCM_16")
    for folder in {os.path.dirname(name) for name in names}:
        (root / folder).mkdir()
    for number, name in enumerate(names[:count]):
        os.link(root / f"{number % FEW}.tmp", root / name)


def measure(root: str, cache: str) -> None:
    """Print the seconds of each step, and the process's peak of memory after it, as JSON."""
    window = Window(0.05, {"ravdess": 0.0, "tess": 0.0, "other": 0.0}, sample_rate=RATE)
    options = {"sample_rate": RATE, "cache": cache, "channels": ["speech"]}
    data = EmotionDataModule(root, window, Holdout(), **options)
    known = any(Path(cache).glob("*.json"))
    steps = {
        "scan": lambda: data.scanned,
        "split": lambda: data.splits.table(0),
        "open" if known else "cache": lambda: data.decoded,
    }
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, kilobytes = {}, {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - start
        kilobytes[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    clips = len(data.found.clips)
    print(json.dumps({"clips": clips, "seconds": seconds, "kilobytes": kilobytes}))


def measure_apart(root: Path, cache: Path) -> dict[str, dict]:
    """Measure in a new process, without what it prints besides."""
    command = [sys.executable, __file__, "measure", str(root), str(cache)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(shown.splitlines()[-1])


def main() -> None:
    """Measure each size and print what a clip of it takes, beside one of the first size."""
    (sizes,) = (text.removeprefix("sizes=") for text in sys.argv[1:] or ["sizes=5000,20000,100000"])
    first = None
    print("   clips step      seconds  us a clip  ratio   peak MB  B a clip  ratio")
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            root, cache = Path(folder, "corpora"), Path(folder, "cache")
            root.mkdir()
            write(root, size)
            found, again = (measure_apart(root, cache) for _ in range(2))
        seconds, kilobytes = found["seconds"], found["kilobytes"]
        seconds["open"], kilobytes["open"] = (
            again[kind]["open"] for kind in ("seconds", "kilobytes")
        )
        clips = found["clips"]
        each = {step: (seconds[step] / clips, kilobytes[step] * 1024 / clips) for step in STEPS}
        first = first or each
        for step in STEPS:
            (time_each, bytes_each), (time_first, bytes_first) = each[step], first[step]
            print(
                f"{clips:8} {step:8} {seconds[step]:8.2f} {1e6 * time_each:10.1f}"
                f" {time_each / time_first:6.2f} {kilobytes[step] / 1024:9.1f} {bytes_each:9.0f}"
                f" {bytes_each / max(bytes_first, 1):6.2f}"
            )
    print("ratio: what a clip takes, over what one of the first size takes (linear: about 1)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*sys.argv[2:])
    else:
        main()
