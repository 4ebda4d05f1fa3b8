"""Errors of writing to the cache folder, which may be full or read-only."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What writing to a full disk is answered with, or beyond one's share of it."""


@contextmanager
def writing_to(directory: Path, partial: Path | None = None) -> Iterator[None]:
    """Turn what the file system refuses into one line that says what to do.

    Args:
        directory: The cache folder.
        partial: What is being written, and will be removed.

    Raises:
        ValueError: The folder cannot be written, or its disk is full.
    """
    try:
        yield
    except OSError as error:
        place, reason = f"cache.dir={str(directory)!r}", error.strerror or str(error)
        if error.errno not in FULL:
            raise ValueError(
                f"{place} cannot be written, and what is needed is not in it ({reason}): name"
                " another folder with cache.dir="
            ) from error
        written = partial.stat().st_size if partial and partial.exists() else 0
        room = (shutil.disk_usage(directory).free + written) / 1e9
        raise ValueError(
            f"{place} has no room for {partial.stem if partial else 'more'}, which needs over"
            f" {room:.3f} GB ({reason}): delete what is in it, as all of it can be made again, or"
            " name another folder with cache.dir=; cache.max_gb limits what is kept"
        ) from error
