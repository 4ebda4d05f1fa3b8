"""Recordings decoded once and shared by all runs, as rows of memory-mapped samples."""

import hashlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import soxr

from ser.audio.containers import MP4_SUFFIXES, import_av
from ser.audio.decode import VERSION, decode_and_peak, warn_clipped
from ser.cache.fingerprints import fingerprints, state
from ser.cache.progress import counted
from ser.cache.rows import Rows
from ser.cache.store import Store, digest, load_or_build

ON_ERROR = ("raise", "skip")
"""What to do about files that cannot be read."""

SMALL = 64
"""Files up to which starting a process pool takes longer than decoding."""

ERROR = "error: "
"""Begins the note of a file that cannot be read."""

BEYOND = f"{ERROR}its segment"
"""Begins the note of a segment that its file, which can be read, does not hold."""

ROUNDING = 0.05
"""Seconds by which a segment may end beyond its file, as ends are often written rounded."""

Span = tuple[float, float | None]
"""Where a clip begins and ends in its file, in s; None is the file's end."""

WHOLE: Span = (0.0, None)

Piece = tuple[Path, Span]
"""A file, and what is taken of it."""

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodedClips:
    """Recordings and their samples.

    Attributes:
        waveforms: A row a recording that can be read; its note is the sha256 of its samples.
        readable: The places, among those asked for, of the rows.
        unreadable: By path below the root, of a segment with its seconds, why it was left out.
    """

    waveforms: Rows
    readable: Sequence[int]
    unreadable: Mapping[str, str]


def open_clips(
    blocks: Sequence[Sequence[Piece]],
    root: Path,
    sample_rate: int,
    cache: Path,
    on_error: str,
    whole: bool = True,
) -> DecodedClips:
    """Decode every recording, or open them where that was done before.

    A start that broke off goes on with the first block that is missing.

    Args:
        blocks: Files below `root` and what is taken of them: a store each.
        root: The folder.
        sample_rate: Hz.
        cache: The cache folder.
        on_error: `raise`, or `skip` to leave out what cannot be read.
        whole: Whether these are all that there are, of which one can be read.

    Raises:
        ValueError: Files cannot be read, and are to be raised; the log has a line for each.
    """
    waveforms = Rows.of(_open_blocks(blocks, root, sample_rate, cache, whole))
    notes = waveforms.notes
    readable = [row for row, note in enumerate(notes) if not note.startswith(ERROR)]
    if len(readable) == len(notes):
        return DecodedClips(waveforms, range(len(notes)), {})
    unreadable = {
        path.relative_to(root).as_posix() + (_shown(span) if note.startswith(BEYOND) else ""): (
            note.removeprefix(ERROR)
        )
        for (path, span), note in zip(chain.from_iterable(blocks), notes, strict=True)
        if note.startswith(ERROR)
    }
    for name, reason in unreadable.items():
        log.warning("not read: %s: %s", name, reason)
    if whole and not readable:
        raise _none_of(len(notes), [f"{name}: {why}" for name, why in unreadable.items()])
    counted = f"{len(notes) - len(readable)} of {len(notes)} recordings below {root} cannot be read"
    if on_error == "raise":
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
        raise ValueError(
            f"{counted}: {listed}{'; ...' if len(unreadable) > 5 else ''}: mend or remove them, or"
            " leave them out with data.on_error=skip"
        )
    log.warning("%s and are left out", counted)
    return DecodedClips(waveforms.only(readable), tuple(readable), unreadable)


def _open_blocks(
    blocks: Sequence[Sequence[Piece]], root: Path, sample_rate: int, cache: Path, whole: bool
) -> Iterator[Store]:
    files = [list(dict.fromkeys(path for path, _ in pieces)) for pieces in blocks]
    seen = look([*chain.from_iterable(files)], root, cache)
    reads = [sum(1 for _ in groupby(pieces, itemgetter(0))) for pieces in blocks]
    alone, done = whole and len(blocks) == 1, 0
    for pieces, own, count in zip(blocks, files, reads, strict=True):
        paths, spans = zip(*pieces, strict=True)
        place = None if alone else Place(done, sum(reads))
        of_block = [*islice(seen, len(own))]
        yield open_waveforms(paths, root, sample_rate, cache, spans, of_block, place)
        done += count


def look(files: Sequence[Path], root: Path, cache: Path) -> Iterator[tuple[int, str | None]]:
    """Return the state and then the fingerprint of each file, to be found out where it changes.

    Args:
        files: Below `root`.
        root: The folder.
        cache: The cache folder.

    Returns:
        A hash of what changes with every write, and the sha256 of the content.
    """
    before = np.fromiter((hash(state(path)) for path in files), np.int64, len(files))
    return zip(before, fingerprints(files, root, cache), strict=True)


class Place(NamedTuple):
    """A block among those that are decoded: how often files are read before it, and in all."""

    done: int
    total: int


def open_waveforms(
    paths: Sequence[Path],
    root: Path,
    sample_rate: int,
    directory: Path,
    spans: Sequence[Span] | None = None,
    seen: Sequence[tuple[int, str | None]] | None = None,
    place: Place | None = None,
) -> Store:
    """Open the decoded recordings, decoding them first where their content is new.

    The notes of the store are sha256 digests of the decoded samples. A file that cannot be read is
    an empty row whose note is `error: ` and the reason. It is tried again each time, as a file may
    become readable without being changed.

    Args:
        paths: Recordings below `root`, in the order of the store's rows.
        root: The folder.
        sample_rate: Hz.
        directory: The cache folder.
        spans: By row, which part of its file it is; None takes whole files. Rows of one file that
            follow each other are cut from one decoding of it.
        seen: What `look` returned of the files; None looks now.
        place: Of a block among others, which may be one of files that cannot be read.

    Raises:
        ValueError: None of the files can be read, or one changed meanwhile.
    """
    spans = spans or [WHOLE] * len(paths)
    cuts = [
        _Cuts(path, [span for _, span in group])
        for path, group in groupby(zip(paths, spans, strict=True), itemgetter(0))
    ]
    files = list(dict.fromkeys(paths))
    seen = seen or [*look(files, root, directory)]
    facts = [
        VERSION,
        soxr.__version__,
        sample_rate,
        [path.suffix.lower() for path in files],
        [content for _, content in seen],
    ]
    if len(files) < len(paths) or any(span != WHOLE for span in spans):
        places = {path: place for place, path in enumerate(files)}
        facts.append([[places[path], *span] for path, span in zip(paths, spans, strict=True)])

    def produce() -> Iterator[tuple[np.ndarray, str]]:
        yield from _decode_all(cuts, sample_rate, place)
        # The key is of what was read before: a store of other samples would serve every root.
        for path, (before, _) in zip(files, seen, strict=True):
            if hash(state(path)) != before:
                raise ValueError(
                    f"{path} changed while it was read: expected files that stay; start again"
                )

    store = load_or_build(directory, "audio", digest(*facts), produce)
    failed, row = {}, 0
    for cut in cuts:
        rows = range(row, row := row + len(cut.spans))
        notes = [store.notes[each] for each in rows]
        if any(note.startswith(ERROR) and not note.startswith(BEYOND) for note in notes):
            failed |= zip(rows, _decode_or_explain(cut, sample_rate).rows(), strict=True)
    if all(note.startswith(ERROR) for _, note in failed.values()):
        return store

    def mend() -> Iterator[tuple[np.ndarray, str]]:
        for row, note in enumerate(store.notes):
            yield failed[row] if row in failed else (store[row], note)

    mended = [note for _, note in failed.values()]
    return load_or_build(directory, "audio", digest(*facts, mended), mend)


class _Cuts(NamedTuple):
    """A file, and what is cut out of it."""

    path: Path
    spans: Sequence[Span]


class _Decoded(NamedTuple):
    """The samples of a file, where its cuts lie in them, and their notes."""

    samples: np.ndarray
    places: Sequence[tuple[int, int]]
    notes: Sequence[str]
    peak: float

    def rows(self) -> Iterator[tuple[np.ndarray, str]]:
        """Yield samples and note of each cut."""
        for (begin, end), note in zip(self.places, self.notes, strict=True):
            yield self.samples[begin:end], note


def _decode_all(
    cuts: Sequence[_Cuts], sample_rate: int, place: Place | None
) -> Iterator[tuple[np.ndarray, str]]:
    if any(cut.path.suffix.lower() in MP4_SUFFIXES for cut in cuts):
        import_av()  # its absence is told once, not for each file
    log.info("decoding %d recordings once", len(cuts))
    job = partial(_decode_or_explain, sample_rate=sample_rate)
    decoded = map_files(job, cuts, "decoding", place)
    loud, errors, read = [], [], False
    for cut, one in zip(cuts, decoded, strict=True):
        failed = [note for note in one.notes if note.startswith(ERROR)]
        errors += [f"{cut.path}: {note.removeprefix(ERROR)}" for note in failed[:1]]
        read = read or len(failed) < len(one.notes)
        if one.peak > 1:
            loud.append(cut.path)
        yield from one.rows()
    warn_clipped(loud)
    if not read and place is None:
        raise _none_of(len(cuts), errors)


def _none_of(count: int, errors: Sequence[str]) -> ValueError:
    return ValueError(f"none of {count} recordings can be read: {'; '.join(errors[:5])}")


def map_files(
    job: Callable[[_Job], _Result],
    files: Sequence[_Job],
    shown: str,
    place: Place | None = None,
) -> Iterator[_Result]:
    """Apply a job to files, in parallel where they are many, with a progress bar: in their order.

    Args:
        job: What is done with a file.
        files: The files, or what says which of them to read.
        shown: Before the bar.
        place: Of the files among others that it counts too.

    Raises:
        OSError: A process was killed.
    """
    done, total = place or (0, len(files))
    if len(files) <= SMALL:
        yield from counted(map(job, files), shown, total, done)
        return
    from joblib import Parallel, cpu_count, delayed  # not for what is decoded already

    # Joblib's processes, which a job of its launcher may ask for too: one of its workers
    # cannot spawn, and a fork of a process that runs torch's threads can hang.
    rows = Parallel(cpu_count(), return_as="generator")(
        delayed(_deaf)(os.getpid(), job, file) for file in files
    )
    try:
        yield from counted(rows, shown, total, done)
    except BrokenProcessPool as error:
        raise OSError("a process that read files was killed, for want of memory?") from error


def _deaf(parent: int, job: Callable[[_Job], _Result], file: _Job) -> _Result:
    """Work in a process that Ctrl-C does not reach: the parent, which it reaches too, ends it."""
    # Joblib stays in the parent where it has one process, and takes threads in a worker of its own.
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return job(file)


def _decode_or_explain(cut: _Cuts, sample_rate: int) -> _Decoded:
    """Decode a file; without samples, the notes are the error."""
    try:
        samples, peak = decode_and_peak(cut.path, sample_rate)
    except ValueError as error:
        reason = str(error).removeprefix(f"{cut.path}: ")  # it may lie elsewhere another time
        count = len(cut.spans)
        return _Decoded(np.empty(0, np.int16), [(0, 0)] * count, [ERROR + reason] * count, 0.0)
    places, notes = [], []
    for span in cut.spans:
        place, note = locate(span, len(samples), sample_rate)
        places.append(place)
        digested = hashlib.sha256(samples[slice(*place)]).hexdigest()
        notes.append(f"{ERROR}{note}" if note else digested)
    return _Decoded(samples, places, notes, peak)


def locate(span: Span, samples: int, sample_rate: int) -> tuple[tuple[int, int], str | None]:
    """Return the first sample of a span and the one after its last, or why there are none.

    Args:
        span: In s.
        samples: Of the file.
        sample_rate: Hz.
    """
    start, end = span
    begin = round(start * sample_rate)
    stop = samples if end is None else round(end * sample_rate)
    if begin < stop <= samples + ROUNDING * sample_rate and begin < samples:
        return (begin, min(stop, samples)), None
    told = f"from {start:.10g} s" if end is None else f"{start:.10g} to {end:.10g} s"
    return (0, 0), f"its segment {told} is not in the file, of {samples / sample_rate:.2f} s"


def _shown(span: Span) -> str:
    return f"#{span[0]:.10g}-{'' if span[1] is None else f'{span[1]:.10g}'}"
