"""The look-ahead: other processes open the same recordings, in the same order."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.audio.window import Window
from ser.inference import lookahead
from ser.inference.lookahead import look_ahead
from ser.inference.recordings import SHORT, Recording

RATE = 8000
WINDOW = Window(1.0, "onset", sample_rate=16000)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Seventy short files, one of them broken, one missing, and one that is too long."""
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    found = [tmp_path / f"{number}.wav" for number in range(70)]
    for number, path in enumerate(found):
        soundfile.write(path, noise[number:], RATE)
    found[3].write_text("no audio")
    found[4].unlink()
    soundfile.write(found[5], np.tile(noise, round(SHORT) + 1), RATE)
    return found


def check(path: Path, opened: Recording | str | None) -> None:
    if path.name in ("3.wav", "4.wav"):
        with pytest.raises(ValueError, match=re.escape(opened)):
            Recording.of_file(path, WINDOW)
    elif path.name == "5.wav":
        assert opened is None
    else:
        alone = Recording.of_file(path, WINDOW)
        assert np.array_equal(opened.samples, alone.samples)
        assert (opened.spans, opened.digest) == (alone.spans, alone.digest)


def test_recordings_are_those_of_this_process(paths: list[Path]):
    found = list(look_ahead(paths, WINDOW))
    assert [path for path, _ in found] == paths
    for path, opened in found:
        check(path, opened)


def test_few_are_left_to_this_process(paths: list[Path]):
    assert list(look_ahead(paths[:64], WINDOW)) == [(path, None) for path in paths[:64]]


def test_an_iterator_is_not_waited_for(paths: list[Path]):
    asked = []

    def source() -> Iterator[Path]:
        for path in paths:
            asked.append(path)
            yield path

    for number, found in enumerate(look_ahead(source(), WINDOW), 1):
        assert found == (asked[-1], None)
        assert len(asked) == number


def test_small_files_of_much_sound_are_not_all_held(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lookahead, "PART_DECODED", 64_000)
    opened = lookahead._open(paths[10:20], WINDOW)  # of a second, 32 kB
    assert [one is None for one in opened] == [False] * 3 + [True] * 7


def test_processes_end_with_the_first(paths: list[Path]):
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from ser.audio.window import Window\nfrom ser.inference.lookahead import look_ahead\n"
        "found = look_ahead([Path(path) for path in sys.argv[1:]], Window(1.0, 'onset'))\n"
        "next(found)\n"
        "print(Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False
    )
    left = {*map(int, done.stdout.split())}
    assert left
    end = time.time() + 20
    while left and time.time() < end:
        left = {*filter(runs, left)}
        time.sleep(0.2)
    assert not left


def test_a_process_that_is_killed_is_told(paths: list[Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lookahead, "_open", _end)
    with pytest.raises(OSError, match="a process that read files was killed"):
        list(look_ahead(paths, WINDOW))


def runs(process: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _end(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
