"""LRU eviction above `cache.max_gb`; stores in use are kept."""

import fcntl
import logging
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)

OURS = re.compile(r"[a-z]+-[0-9a-f]{16}")
"""Stems of stores; any other file in the folder, and the embedded corpus, is left alone."""


def trim(directory: Path, max_gb: float | None) -> None:
    """Remove the stores that were opened longest ago until the others take at most `max_gb`.

    A store that any process has open stays, and so does one that is being built.

    Args:
        directory: The cache folder.
        max_gb: GB of 10^9 bytes; None removes nothing.
    """
    if max_gb is None:
        return
    found = []
    for index in directory.glob("*.json"):
        with suppress(FileNotFoundError):  # others trim too
            if OURS.fullmatch(index.stem):
                size = index.stat().st_size + index.with_suffix(".bin").stat().st_size
                found.append((index.stat().st_mtime_ns, index, size))
    total = sum(size for _, _, size in found)
    for _, index, size in sorted(found):
        if total <= max_gb * 1e9:
            return
        if _remove(index):
            log.info("cache.max_gb=%g: removed %s, opened longest ago", max_gb, index.stem)
            total -= size
    if total > max_gb * 1e9:
        _warn(directory, max_gb, round(total / 1e9, 3))


def remove_leftovers(directory: Path) -> None:
    """Remove what killed builders have left: files without an index that nobody is building."""
    for path in directory.iterdir():
        half = path.suffix == ".tmp" or (
            path.suffix == ".bin" and not path.with_suffix(".json").exists()
        )
        if half and OURS.fullmatch(path.stem):
            # Also raised where the lock is held: whoever holds it is at work on the file.
            with suppress(OSError), FileLock(path.with_suffix(".lock"), timeout=0):
                path.unlink()


def _remove(index: Path) -> bool:
    """Remove a store unless it is in use; say whether it is gone."""
    # A build holds the first lock, and a store that is open the second.
    with (
        suppress(OSError),
        FileLock(index.with_suffix(".lock"), timeout=0),
        index.open("r+") as file,
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        index.unlink()
        index.with_suffix(".bin").unlink()
        return True
    return False


@cache
def _warn(directory: Path, max_gb: float, total_gb: float) -> None:
    """Log once that the limit is not kept."""
    log.warning(
        "the cache in %s takes %g GB, above cache.max_gb=%g: all of it is in use, or may not be"
        " removed",
        directory,
        total_gb,
        max_gb,
    )
