"""Arrays computed once and shared by every run: one memory-mapped file with an index beside it."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

log = logging.getLogger(__name__)


def cache_directory(directory: str | Path | None) -> Path:
    """Say where the cache lies: `directory`, or the user's cache folder when it is None."""
    return Path(directory).expanduser() if directory else user_cache_path("ser")


@dataclass(frozen=True)
class Store:
    """Rows of different lengths, end to end in one memory-mapped file.

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
    renamed when whole; the index is renamed last and vouches for it.

    Args:
        directory: The cache folder.
        kind: What the rows are, for the file's name.
        key: The `digest` of all that the rows depend on.
        produce: Yields (row, note) in order; called only when the store must be built.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{kind}-{key}.bin"
    with FileLock(path.with_suffix(".lock")):
        store = _open(path, key)
        if store is None:
            _build(path, produce())
            store = _open(path, key)
    return store


def _open(path: Path, key: str) -> Store | None:
    try:
        index = json.loads(path.with_suffix(".json").read_text())
        shape = (index["offsets"][-1], *index["row_shape"])
        whole = path.stat().st_size == np.prod(shape) * np.dtype(index["dtype"]).itemsize
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, IndexError):
        whole = False
    if not whole:
        log.warning("%s is damaged: building it again", path)
        return None
    values = np.memmap(path, index["dtype"], "r", shape=shape)
    return Store(key, values, np.array(index["offsets"]), tuple(index["notes"]))


def _build(path: Path, rows: Iterator[tuple[np.ndarray, str]]) -> None:
    partial = path.with_suffix(".tmp")  # only the holder of the lock writes it
    offsets, notes = [0], []
    try:
        with partial.open("wb") as file:
            for row, note in rows:
                file.write(np.ascontiguousarray(row).data)
                offsets.append(offsets[-1] + len(row))
                notes.append(note)
        os.replace(partial, path)
        index = {
            "dtype": row.dtype.str,
            "row_shape": row.shape[1:],
            "offsets": offsets,
            "notes": notes,
        }
        partial.write_text(json.dumps(index))
        os.replace(partial, path.with_suffix(".json"))
    finally:
        partial.unlink(missing_ok=True)
