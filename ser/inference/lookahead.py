"""The look-ahead: short recordings, decoded by other processes before their turn."""

import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from operator import length_hint
from pathlib import Path

from ser.audio.window import Window
from ser.inference.recordings import Recording

FEW = 64
"""Files up to which starting processes takes longer than decoding."""

PART_BYTES, PART = 2**20, 32
"""Of the files that a process decodes at once, and their number."""


def look_ahead(
    paths: Iterable[str | Path], window: Window
) -> Iterator[tuple[str | Path, Recording | str | None]]:
    """Yield each path, in order, and the recording that other processes have made of it by then.

    In its place is the reason where the file cannot be read, and None where it is long, or is one
    of few, or of the first of an iterator, which may never yield more.

    Args:
        paths: Of files; they may be more than fit into memory.
        window: What is cut out.

    Raises:
        OSError: A process was killed.
    """
    rest = iter(paths)
    for path in islice(rest, 0 if length_hint(paths) > FEW else FEW):
        yield path, None
    parts = _parts(rest)
    if (part := next(parts, None)) is None:
        return
    from loky import ProcessPoolExecutor, cpu_count  # not for a few

    # Unlike the standard library's, its processes do not run the caller's script once more.
    pool, ahead = ProcessPoolExecutor(cpu_count(), initializer=_begin), deque()
    try:
        while part is not None or ahead:
            if part is not None:
                ahead.append((part, pool.submit(_open, part, window)))
                part = next(parts, None)
            if part is None or len(ahead) > 2 * cpu_count():
                done, opened = ahead.popleft()
                yield from zip(done, opened.result(), strict=True)
    except BrokenProcessPool as error:
        raise OSError("a process that decoded was killed, perhaps for want of memory") from error
    finally:  # whoever asks for no more does not wait for what is ahead
        pool.shutdown(kill_workers=True)


def _parts(paths: Iterable[str | Path]) -> Iterator[list[str | Path]]:
    part, size = [], 0
    for path in paths:
        part.append(path)
        with suppress(OSError, ValueError, TypeError):  # decoding says why
            size += Path(path).expanduser().stat().st_size
        if size >= PART_BYTES or len(part) == PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process, which it reaches too, ends it


def _open(paths: Sequence[str | Path], window: Window) -> list[Recording | str | None]:
    return [_open_or_explain(path, window) for path in paths]


def _open_or_explain(path: str | Path, window: Window) -> Recording | str | None:
    try:
        return Recording.of_short_file(Path(path).expanduser(), window)
    except ValueError as error:
        return str(error)
