"""The store: rows of arrays in one memory-mapped file, with an index beside it."""

import fcntl
import hashlib
import json
import logging
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ser.cache.eviction import remove_leftovers
from ser.cache.writing import writing_to

log = logging.getLogger(__name__)


def cache_directory(directory: str | Path | None) -> Path:
    """Return where the cache lies: `directory`, or the user's cache folder when it is None."""
    return Path(directory).expanduser() if directory else user_cache_path("ser")


@dataclass(frozen=True)
class Store:
    """Rows of different lengths, end to end in one memory-mapped file.

    As long as it lives, it is not removed to make room.

    Attributes:
        key: What the rows were computed from, as a digest.
        values: All rows along the first axis.
        offsets: Where each row begins, with the total at the end: (rows + 1,).
        notes: One string a row.
    """

    key: str
    values: np.ndarray
    offsets: np.ndarray
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.notes)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


def digest(*facts: object) -> str:
    """Condense what a store depends on into 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def load_or_build(
    directory: Path, kind: str, key: str, produce: Callable[[], Iterator[tuple[np.ndarray, str]]]
) -> Store:
    """Open the store `<kind>-<key>`, building it first where it is missing or damaged.

    Processes that start together share one build. The file is written under a temporary name and
    renamed when whole; the index is renamed last and vouches for it. Only a build writes: a folder
    that may be read alone serves what is in it.

    Args:
        directory: The cache folder.
        kind: What the rows are, for the file's name.
        key: The `digest` of all that the rows depend on.
        produce: Yields (row, note) in order; called only when the store must be built.

    Raises:
        ValueError: It must be built, and the folder cannot be written or the disk is full.
    """
    path = directory / f"{kind}-{key}.bin"
    if (store := _open(path, key)) is not None:
        return store
    with ExitStack() as stack:
        with writing_to(directory):
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_lock(path))
        store = _open(path, key)  # another process may have built it while this one waited
        if store is None:
            if path.with_suffix(".json").exists():
                log.warning("%s is damaged, foreign or of another version: building it again", path)
            _build(path, produce())
            store = _open(path, key)
    return store


def _lock(path: Path) -> AbstractContextManager:
    lock = FileLock(path.with_suffix(".lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another process builds it, which is waited for", path.stem)
        return lock.acquire()


def _open(path: Path, key: str) -> Store | None:
    try:
        index = path.with_suffix(".json").open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    store = None
    try:
        store = _read(index, path, key)
    # Removed meanwhile; or what another program, or another version, may have put there.
    except (FileNotFoundError, LookupError, AttributeError, RecursionError, TypeError, ValueError):
        return None
    finally:
        if store is None:
            index.close()
    weakref.finalize(store, index.close)
    return store


def _read(index: BinaryIO, path: Path, key: str) -> Store:
    """Read a store whose index is open; a shared lock on that keeps `eviction` away."""
    with suppress(OSError):  # where neither is allowed, nor is removing
        fcntl.flock(index, fcntl.LOCK_SH)
        os.utime(index.fileno())  # when it was last used
    if os.fstat(index.fileno()).st_nlink == 0:
        raise FileNotFoundError("removed before it was locked")
    content = json.load(index)
    if content.pop("digest") != digest(content) or content["store"] != path.stem:
        raise ValueError("not the index that was written here")
    with path.open("rb") as file:
        # Reading 1.5 GB takes seconds: only where the file was touched since it was built.
        if content["state"] != _state(file.fileno()):
            log.info("%s was touched or moved: comparing all of it with its checksum", path)
            if content["sha256"] != hashlib.file_digest(file, "sha256").hexdigest():
                raise ValueError("not the values that were written here")
        shape = (content["offsets"][-1], *content["row_shape"])
        if shape[0]:
            values = np.memmap(file, content["dtype"], "r", shape=shape)
        else:  # nothing of any row, which cannot be mapped
            values = np.empty(shape, content["dtype"])
    return Store(key, values, np.array(content["offsets"]), tuple(content["notes"]))


def _state(file: int | Path) -> list[int]:
    """Return what changes with every write to a file; no program can set its third number."""
    status = os.stat(file)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _build(path: Path, rows: Iterator[tuple[np.ndarray, str]]) -> None:
    partial, index = path.with_suffix(".tmp"), path.with_suffix(".json")
    with writing_to(path.parent):  # only the holder of the lock is here
        for stale in (index, path):
            stale.unlink(missing_ok=True)
        remove_leftovers(path.parent)
    offsets, notes, checksum = [0], [], hashlib.sha256()
    try:
        with partial.open("wb", buffering=0) as file:
            for row, note in rows:
                rest = np.ascontiguousarray(row).reshape(-1).view(np.uint8)
                checksum.update(rest)
                with writing_to(path.parent, partial):
                    while len(rest):
                        rest = rest[file.write(rest) :]
                offsets.append(offsets[-1] + len(row))
                notes.append(note)
            with writing_to(path.parent, partial):
                os.fsync(file.fileno())  # else the names may outlive a power cut, and not the bytes
        os.replace(partial, path)
        content = {
            "store": path.stem,
            "dtype": row.dtype.str,
            "row_shape": row.shape[1:],
            "offsets": offsets,
            "notes": notes,
            "sha256": checksum.hexdigest(),
            "state": _state(path),
        }
        with writing_to(path.parent, partial):
            partial.write_text(json.dumps(content | {"digest": digest(content)}))
        os.replace(partial, index)
    finally:
        partial.unlink(missing_ok=True)
