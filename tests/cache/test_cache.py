import errno
import gc
import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ser.cache.eviction import trim
from ser.cache.store import Store, digest, load_or_build

KEY = digest("numbers")


def rows(count: int = 3) -> Iterator[tuple[np.ndarray, str]]:
    for index in range(count):
        yield np.full((index + 1, 2), index, np.int16), f"row {index}"


def never() -> Iterator[tuple[np.ndarray, str]]:
    raise AssertionError("built again")
    yield


def build(directory: Path, produce: Callable = rows, key: str = KEY) -> Store:
    return load_or_build(directory, "numbers", key, produce)


def stems(directory: Path, suffix: str) -> set[str]:
    return {path.stem.removeprefix("numbers-") for path in directory.glob(f"*{suffix}")}


def test_rows_of_any_length_come_back(tmp_path: Path):
    build(tmp_path)
    store = build(tmp_path, never)
    assert len(store) == 3
    for index, (row, note) in enumerate(rows()):
        assert np.array_equal(store[index], row)
        assert store.notes[index] == note
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".json", ".lock"]


def other_bytes(values: Path, index: Path) -> None:
    """As many as before, with the times of before."""
    status = values.stat()
    values.write_bytes(bytes(reversed(values.read_bytes())))
    os.utime(values, ns=(status.st_atime_ns, status.st_mtime_ns))


def index_of_another(values: Path, index: Path) -> None:
    other = digest("another")
    build(index.parent, lambda: ((row + 1, note) for row, note in rows()), other)
    index.write_bytes(index.with_name(f"numbers-{other}.json").read_bytes())


def altered_index(values: Path, index: Path) -> None:
    index.write_text(index.read_text().replace("[0, 1, 3, 6]", "[0, 2, 3, 6]"))


FOREIGN = {
    "truncated": lambda values, _: os.truncate(values, values.stat().st_size - 1),
    "longer": lambda values, _: os.truncate(values, values.stat().st_size + 1),
    "empty": lambda values, _: os.truncate(values, 0),
    "other bytes": other_bytes,
    "no values": lambda values, _: values.unlink(),
    "index of another": index_of_another,
    "altered index": altered_index,
    "half an index": lambda _, index: os.truncate(index, index.stat().st_size // 2),
    "binary index": lambda _, index: index.write_bytes(b"\xff\x00\x01"),
    "deep index": lambda _, index: index.write_text("[" * 100_000),
} | {
    text: lambda _, index, text=text: index.write_text(text)
    for text in ("", "null", "3", '"a"', "[1]", '{"something": "else"}', '{"digest": []}')
}


@pytest.mark.parametrize("damage", FOREIGN.values(), ids=FOREIGN)
def test_a_damaged_or_foreign_file_is_built_again(
    tmp_path: Path, damage: Callable, caplog: pytest.LogCaptureFixture
):
    build(tmp_path)
    values = tmp_path / f"numbers-{KEY}.bin"
    time.sleep(0.02)  # longer than the clock that stamps files stands still
    damage(values, values.with_suffix(".json"))
    for store in (build(tmp_path), build(tmp_path, never)):
        assert [(row.tolist(), note) for row, note in zip(store, store.notes, strict=True)] == [
            (row.tolist(), note) for row, note in rows()
        ]
    assert caplog.text.count("damaged, foreign or of another version: building it again") == 1


def test_a_copied_store_is_compared_with_its_checksum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    build(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert len(build(tmp_path / "there", never)) == 3
    assert "checksum" not in caplog.text  # the files are the same ones
    (tmp_path / "copy").mkdir()
    for path in (tmp_path / "there").iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    assert len(build(tmp_path / "copy", never)) == 3
    assert "comparing all of it with its checksum" in caplog.text


def test_a_build_that_fails_leaves_nothing(tmp_path: Path):
    def fail() -> Iterator[tuple[np.ndarray, str]]:
        yield from rows()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build(tmp_path, fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path):
    def many() -> Iterator[tuple[np.ndarray, str]]:
        for index in range(100):
            yield np.full(10_000, index), ""

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(
            ValueError, match=r"no room for numbers-.*over \d+\.\d+ GB .*cache.dir="
        ):
            build(tmp_path, many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert len(build(tmp_path, many)) == 100


def test_a_folder_that_cannot_be_written_serves_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    build(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Permissions do not bind root, and a read-only mount needs it: what the system answers there.
    for name in ("utime", "replace", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr("ser.cache.store.FileLock", refuse)
    assert len(build(tmp_path, never)) == 3
    with pytest.raises(ValueError, match=r"cannot be written.*Read-only.*cache\.dir="):
        build(tmp_path, never, digest("another"))


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(ValueError, match=r"cannot be written.*cache\.dir="):
            build(folder)


def test_what_a_killed_builder_left_goes_with_the_next_build(tmp_path: Path):
    left = [f"numbers-{digest('killed')}.{suffix}" for suffix in ("tmp", "bin")]
    others = ["mine.tmp", "mine.bin", "numbers-mine.bin", "numbers-mine.tmp"]
    for name in (*left, *others):
        (tmp_path / name).touch()
    build(tmp_path)
    assert not [name for name in left if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in others)


def build_three(directory: Path) -> list[Store]:
    """Stores of 1 MB that were last opened in their order."""
    stores = []
    for place in range(3):
        stores.append(build(directory, lambda: iter([(np.zeros(125_000), "")]), f"{place:016}"))
        index = directory / f"numbers-{place:016}.json"
        os.utime(index, (place, place))
    return stores


def test_the_limit_takes_what_was_opened_longest_ago(tmp_path: Path):
    build_three(tmp_path)
    gc.collect()
    (tmp_path / "demo").mkdir()
    for name in ("demo/clip.wav", "mine.json", "mine.bin"):
        (tmp_path / name).write_bytes(bytes(3_000_000))
    trim(tmp_path, None)
    trim(tmp_path, 0.004)
    assert stems(tmp_path, ".json") == {f"{place:016}" for place in range(3)} | {"mine"}
    build(tmp_path, never, f"{0:016}")  # opened again: now the second is the oldest
    trim(tmp_path, 0.0021)
    assert stems(tmp_path, ".json") == {f"{0:016}", f"{2:016}", "mine"}
    assert stems(tmp_path, ".bin") == {f"{0:016}", f"{2:016}", "mine"}
    assert (tmp_path / "demo" / "clip.wav").exists()


def _hold(directory: Path, ready: object, done: object) -> None:
    store = build(directory, never, f"{0:016}")
    ready.set()
    done.wait(60)
    assert not store[0].any()


def test_the_limit_takes_nothing_that_a_process_has_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    stores = build_three(tmp_path)
    del stores[0], stores[1]  # the second stays open, in this process
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, done), daemon=True)
    process.start()
    assert ready.wait(60)
    trim(tmp_path, 0.0001)
    trim(tmp_path, 0.0001)
    assert stems(tmp_path, ".bin") == {f"{0:016}", f"{1:016}"}
    assert caplog.text.count("above cache.max_gb=0.0001: all of it is in use") == 1
    done.set()
    process.join(60)
    assert process.exitcode == 0
    trim(tmp_path, 0.0001)
    assert stems(tmp_path, ".bin") == {f"{1:016}"}
    assert not stores[0][0].any()


def test_a_run_trims_the_cache_that_it_opens(few: Path, tmp_path: Path):
    # Not above: the processes that are spawned here import this file, and would import torch.
    from lightning import Trainer

    from ser.audio.window import Window
    from ser.data.datamodule import EmotionDataModule
    from ser.splits.protocols import Holdout
    from ser.training.fit import feed

    def data(limit: object) -> EmotionDataModule:
        window = Window(1.0, {"ravdess": 1.0, "tess": 0.0, "other": "onset"})
        options = {"cache": str(tmp_path), "cache_max_gb": limit}
        return EmotionDataModule(str(few), window, Holdout(), **options)

    build(tmp_path)
    gc.collect()
    found = data(1e-6)
    found.setup("fit")
    model = SimpleNamespace(frontend=SimpleNamespace(cached=False))
    feed(model, found, Trainer(accelerator="cpu", barebones=True))
    assert {path.name.partition("-")[0] for path in tmp_path.glob("*.bin")} == {"audio"}


def test_a_build_is_not_removed_under_way(tmp_path: Path):
    def trim_meanwhile() -> Iterator[tuple[np.ndarray, str]]:
        for row in rows():
            trim(tmp_path, 1e-9)
            yield row

    assert len(build(tmp_path, trim_meanwhile)) == 3


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
