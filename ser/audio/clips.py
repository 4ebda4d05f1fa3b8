"""Recordings decoded once and shared by all runs, as rows of memory-mapped samples."""

import hashlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import soxr

from ser.audio.containers import MP4_SUFFIXES, import_av
from ser.audio.decode import VERSION, decode_and_peak, warn_clipped
from ser.cache.fingerprints import fingerprints, state
from ser.cache.progress import counted
from ser.cache.rows import Rows, parted
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
    groups: Sequence[Sequence[tuple[Path, Span]]],
    root: Path,
    sample_rate: int,
    cache: Path,
    on_error: str,
) -> DecodedClips:
    """Decode every recording, or open them where that was done before.

    Stores are blocks of recordings: a start that broke off goes on with the first that is missing.

    Args:
        groups: Files below `root` and what is taken of them, stores of their own each: those of one
            are not decoded again for another.
        root: The folder.
        sample_rate: Hz.
        cache: The cache folder.
        on_error: `raise`, or `skip` to leave out what cannot be read.

    Raises:
        ValueError: Files cannot be read, and are to be raised; the log has a line for each.
    """
    pieces = [piece for group in groups for piece in group]
    stores = [store for _, store in open_blocks(groups, root, sample_rate, cache)]
    waveforms = Rows.of(stores)
    notes = waveforms.notes
    readable = readable_rows(notes)
    if len(readable) == len(notes):
        return DecodedClips(waveforms, readable, {})
    unreadable = {
        path.relative_to(root).as_posix() + (_shown(span) if note.startswith(BEYOND) else ""): (
            note.removeprefix(ERROR)
        )
        for (path, span), note in zip(pieces, notes, strict=True)
        if note.startswith(ERROR)
    }
    for name, reason in unreadable.items():
        log.warning("not read: %s: %s", name, reason)
    if not readable:
        raise _none_of(len(notes), [f"{name}: {why}" for name, why in unreadable.items()])
    counted = f"{len(notes) - len(readable)} of {len(notes)} recordings below {root} cannot be read"
    if on_error == "raise":
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
        raise ValueError(
            f"{counted}: {listed}{'; ...' if len(unreadable) > 5 else ''}: mend or remove them, or"
            " leave them out with data.on_error=skip"
        )
    log.warning("%s and are left out", counted)
    return DecodedClips(waveforms.only(readable), readable, unreadable)


def readable_rows(notes: Sequence[str]) -> tuple[int, ...]:
    """Return the rows whose notes are of recordings that can be read."""
    return tuple(row for row, note in enumerate(notes) if not note.startswith(ERROR))


def open_blocks(
    groups: Sequence[Sequence[tuple[Path, Span]]],
    root: Path,
    sample_rate: int,
    cache: Path,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[tuple[slice, Store]]:
    """Yield which recordings are in each store of `open_clips`, decoding what is missing.

    Args:
        groups: As there, and so are `root`, `sample_rate` and `cache`.
        root: As there.
        sample_rate: As there.
        cache: As there.
        shard: Which of how many shares of the blocks; the first of one are all.
    """
    files = list(dict.fromkeys(path for group in groups for path, _ in group))
    contents = dict(zip(files, fingerprints(files, root, cache), strict=True))
    blocks, begin = [], 0
    for group in groups:
        counts = [sum(1 for _ in pieces) for _, pieces in groupby(group, itemgetter(0))]
        place = 0
        for block in parted(counts):
            pieces = group[place : (place := place + sum(counts[block]))]
            blocks.append((slice(begin, begin := begin + len(pieces)), pieces))
    share, shares = shard
    chosen = blocks[share::shares]
    total, done = sum(len(pieces) for _, pieces in chosen), 0
    for rows, pieces in chosen:
        paths, spans = zip(*pieces, strict=True)
        known = [contents[path] for path in dict.fromkeys(paths)]
        place = Place(done, total)
        yield rows, open_waveforms(paths, root, sample_rate, cache, spans, known, place)
        done += len(pieces)


class Place(NamedTuple):
    """A block among those that are decoded: the rows before it, and of all of them."""

    done: int
    total: int


def open_waveforms(
    paths: Sequence[Path],
    root: Path,
    sample_rate: int,
    directory: Path,
    spans: Sequence[Span] | None = None,
    contents: Sequence[str | None] | None = None,
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
        contents: Fingerprints of the files; None makes them.
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
    before = [state(path) for path in files]
    facts = [
        VERSION,
        soxr.__version__,
        sample_rate,
        [path.suffix.lower() for path in files],
        contents or fingerprints(files, root, directory),
    ]
    if len(files) < len(paths) or any(span != WHOLE for span in spans):
        places = {path: place for place, path in enumerate(files)}
        facts.append([[places[path], *span] for path, span in zip(paths, spans, strict=True)])

    def produce() -> Iterator[tuple[np.ndarray, str]]:
        yield from _decode_all(cuts, sample_rate, place)
        # The key is of what was read before: a store of other samples would serve every root.
        for path, old in zip(files, before, strict=True):
            if state(path) != old:
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
    if not read and (place is None or place.total == len(cuts)):
        raise _none_of(len(cuts), errors)


def _none_of(count: int, errors: Sequence[str]) -> ValueError:
    return ValueError(f"none of {count} recordings can be read: {'; '.join(errors[:5])}")


def map_files(
    job: Callable[[_Job], _Result],
    files: Sequence[_Job],
    shown: str,
    place: Place | None = None,
) -> Iterable[_Result]:
    """Apply a job to files, in parallel where they are many, with a progress bar: in their order.

    Args:
        job: What is done with a file.
        files: The files, or what says which of them to read.
        shown: Before the bar.
        place: Of the files among others that it counts too.
    """
    if len(files) <= SMALL:
        rows = map(job, files)
    else:
        from joblib import Parallel, cpu_count, delayed  # not for what is decoded already

        # Joblib's processes, which a job of its launcher may ask for too: one of its workers
        # cannot spawn, and a fork of a process that runs torch's threads can hang.
        rows = Parallel(cpu_count(), return_as="generator")(
            delayed(_deaf)(os.getpid(), job, file) for file in files
        )
    done, total = place or (0, len(files))
    return counted(rows, shown, total, done)


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
