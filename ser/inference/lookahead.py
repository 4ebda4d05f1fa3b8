"""The look-ahead: short recordings, decoded by other processes before their turn."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import current_process
from operator import length_hint
from pathlib import Path

from ser.audio.clips import SMALL
from ser.audio.window import Window
from ser.inference.recordings import Recording

WORKERS = 8
"""Processes at most: no model waits for more."""

PART, PART_BYTES = 32, 2**20
"""The number of files that a process decodes at once, and their bytes."""

PART_DECODED = 2**24
"""Bytes of samples that a process returns at once, if one more file does not exceed them."""


def look_ahead(
    paths: Iterable[str | Path], window: Window
) -> Iterator[tuple[str | Path, Recording | str | None]]:
    """Yield each path, in order, and the recording that other processes have made of it by then.

    In its place is the reason where the file cannot be read, and None where it is left to the
    caller: a long file, one of few, or one of an iterator, which may never yield more.

    Args:
        paths: Of files; they may be more than fit into memory.
        window: What is cut out.

    Raises:
        OSError: A process was killed.
    """
    if length_hint(paths) <= SMALL or current_process().daemon:  # which may start none
        yield from ((path, None) for path in paths)
        return
    from loky import ProcessPoolExecutor, cpu_count  # not for a few

    # Unlike the standard library's, its processes do not run the caller's script once more.
    workers, parts, ahead = min(cpu_count(), WORKERS), _parts(paths), deque()
    pool = ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),))
    try:
        for part in parts:
            ahead.append((part, pool.submit(_open, part, window)))
            if len(ahead) > 2 * workers:
                yield from _opened(*ahead.popleft())
        while ahead:
            yield from _opened(*ahead.popleft())
    except BrokenProcessPool as error:
        raise OSError("a process that read files was killed, for want of memory?") from error
    finally:  # whoever asks for no more does not wait for what is ahead
        pool.shutdown(kill_workers=True)


def _opened(
    part: Sequence[str | Path], answer: Future
) -> Iterator[tuple[str | Path, Recording | str | None]]:
    return zip(part, answer.result(), strict=True)


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


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process, which it reaches too, ends it
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End as soon as the first process is gone, killed perhaps."""
    while os.getppid() == parent:  # loky's parent_process() does not know its end
        time.sleep(1)
    os._exit(1)


def _open(paths: Sequence[str | Path], window: Window) -> list[Recording | str | None]:
    opened, size = [], 0
    for path in paths:
        one = _open_or_explain(path, window) if size <= PART_DECODED else None
        size += one.samples.nbytes if isinstance(one, Recording) else 0
        opened.append(one)
    return opened


def _open_or_explain(path: str | Path, window: Window) -> Recording | str | None:
    if not isinstance(path, str | Path):  # the caller says what is wrong with that
        return None
    try:
        return Recording.of_short_file(Path(path).expanduser(), window)
    except ValueError as error:
        return str(error)
