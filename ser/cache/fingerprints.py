"""Content digests of files (sha256), computed again only for files that were touched."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from ser.cache.store import digest

log = logging.getLogger(__name__)


def fingerprints(paths: Sequence[Path], root: Path, directory: Path) -> list[str | None]:
    """Return the sha256 of each file's content; None for what is no file that can be read.

    They are remembered in the cache folder, a JSON file a root. Size and time of change alone
    would not do: two files that are swapped, or written over with their times kept, have the same.

    Args:
        paths: Files below `root`.
        root: Folder that the paths are remembered by.
        directory: The cache folder.
    """
    memory = directory / f"files-{digest(str(root.resolve()))}.json"
    known, new = _recall(memory), 0
    names = [path.relative_to(root).as_posix() for path in paths]
    for name, path in zip(names, paths, strict=True):
        now = state(path)
        if known.get(name, "").rpartition(" ")[0] == now:
            continue
        known.pop(name, None)
        if now and (sha256 := _hash(path)):
            known[name] = f"{now} {sha256}"
            new += 1
    if new:
        log.info("%d files are new or were touched since they were last read", new)
        _remember(memory, known)
    return [known[name].rpartition(" ")[2] if name in known else None for name in names]


def state(path: Path) -> str | None:
    """Return a text that changes with every write to a file, and when another takes its place."""
    with suppress(OSError):  # gone, or a broken link
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    return None


def _hash(path: Path) -> str | None:
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def _recall(memory: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, AttributeError, RecursionError):  # new, damaged or foreign
        entries = json.loads(memory.read_bytes())
        return {name: entry for name, entry in entries.items() if isinstance(entry, str)}
    return {}


def _remember(memory: Path, entries: dict[str, str]) -> None:
    # A folder that is full or may only be read: the files are read once more next time.
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(memory.with_suffix(".lock")):
            partial = memory.with_suffix(".tmp")
            with partial.open("w") as file:
                json.dump(_recall(memory) | entries, file)  # others may know more by now
            os.replace(partial, memory)
