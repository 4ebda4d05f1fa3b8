import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ser.data.cache import digest, load_or_build


def rows(count: int = 3) -> Iterator[tuple[np.ndarray, str]]:
    for index in range(count):
        yield np.full((index + 1, 2), index, np.int16), f"row {index}"


def never() -> Iterator[tuple[np.ndarray, str]]:
    raise AssertionError("built again")
    yield


def build(directory: Path, produce=rows):
    return load_or_build(directory, "numbers", "key", produce)


def test_rows_of_any_length_come_back(tmp_path: Path):
    build(tmp_path)
    store = build(tmp_path, never)
    assert len(store) == 3
    for index, (row, note) in enumerate(rows()):
        assert np.array_equal(store[index], row)
        assert store.notes[index] == note
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".json", ".lock"]


def test_a_truncated_or_foreign_file_is_built_again(tmp_path: Path):
    build(tmp_path)
    values = tmp_path / "numbers-key.bin"
    values.write_bytes(values.read_bytes()[:-1])
    assert np.array_equal(build(tmp_path)[2], np.full((3, 2), 2))
    (tmp_path / "numbers-key.json").write_text(json.dumps({"something": "else"}))
    assert np.array_equal(build(tmp_path)[2], np.full((3, 2), 2))


def test_a_build_that_fails_leaves_nothing(tmp_path: Path):
    def fail() -> Iterator[tuple[np.ndarray, str]]:
        yield from rows()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build(tmp_path, fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def _build_slowly(directory: Path) -> None:
    def leave_a_mark() -> Iterator[tuple[np.ndarray, str]]:
        (directory / f"{os.getpid()}.mark").touch()
        for row in rows():
            time.sleep(0.5)
            yield row

    build(directory, leave_a_mark)


def _wait_for_builders(directory: Path, count: int) -> set[int]:
    for _ in range(600):
        marks = {int(path.stem) for path in directory.glob("*.mark")}
        if len(marks) == count:
            return marks
        time.sleep(0.1)
    raise AssertionError(f"{len(marks)} builders instead of {count}")


def test_two_that_start_together_share_one_build_also_when_the_first_is_killed(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_build_slowly, args=(tmp_path,), daemon=True) for _ in range(2)
    ]
    for process in processes:
        process.start()
    (first,) = _wait_for_builders(tmp_path, 1)
    os.kill(first, signal.SIGKILL)
    _wait_for_builders(tmp_path, 2)
    for process in processes:
        process.join(60)
    ends = {process.pid: process.exitcode for process in processes}
    assert ends.pop(first) == -signal.SIGKILL
    assert list(ends.values()) == [0]
    assert len(build(tmp_path, never)) == 3


def test_a_digest_depends_on_every_fact():
    facts = (1, "soxr", [("a", 2)])
    assert digest(*facts) == digest(*facts)
    assert len({digest(*facts), digest(2, *facts[1:]), digest(1, "soxr", [("a", 3)])}) == 3
