"""Recordings decoded once and shared by all runs, as rows of memory-mapped samples."""

import hashlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import soxr
from joblib import Parallel, cpu_count, delayed
from rich.progress import track

from ser.audio.containers import MP4_SUFFIXES, import_av
from ser.audio.decode import VERSION, decode_and_peak, warn_clipped
from ser.cache.fingerprints import fingerprints, state
from ser.cache.store import Store, digest, load_or_build

ON_ERROR = ("raise", "skip")
"""What to do about files that cannot be read."""

SMALL = 64
"""Files up to which starting a process pool takes longer than decoding."""

ERROR = "error: "
"""Begins the note of a file that cannot be read."""

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """Some or all rows of one store or of several, read as one.

    Attributes:
        key: Digest of what the rows were computed from.
        places: By row, its store and its row there.
    """

    key: str
    places: Sequence[tuple[Store, int]]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """One string a row."""
        return tuple(store.notes[place] for store, place in self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> np.ndarray:
        store, place = self.places[row]
        return store[place]


@dataclass(frozen=True)
class DecodedClips:
    """Recordings and their samples.

    Attributes:
        waveforms: A row a recording that can be read; its note is the sha256 of its samples.
        readable: The places, among those asked for, of the rows.
        unreadable: By path below the root, why it was left out.
    """

    waveforms: Rows
    readable: Sequence[int]
    unreadable: Mapping[str, str]


def open_clips(
    groups: Sequence[Sequence[Path]], root: Path, sample_rate: int, cache: Path, on_error: str
) -> DecodedClips:
    """Decode every recording, or open them where that was done before.

    Args:
        groups: Files below `root`, a store each: that of one is not decoded again for another.
        root: The folder.
        sample_rate: Hz.
        cache: The cache folder.
        on_error: `raise`, or `skip` to leave out what cannot be read.

    Raises:
        ValueError: Files cannot be read, and are to be raised; the log has a line for each.
    """
    stores = [open_waveforms(paths, root, sample_rate, cache) for paths in groups]
    key = digest(*(store.key for store in stores)) if len(stores) > 1 else stores[0].key
    waveforms = Rows(key, [(store, row) for store in stores for row in range(len(store))])
    notes = waveforms.notes
    readable = tuple(row for row, note in enumerate(notes) if not note.startswith(ERROR))
    if len(readable) == len(notes):
        return DecodedClips(waveforms, readable, {})
    unreadable = {
        path.relative_to(root).as_posix(): note.removeprefix(ERROR)
        for path, note in zip(chain(*groups), notes, strict=True)
        if note.startswith(ERROR)
    }
    for name, reason in unreadable.items():
        log.warning("not read: %s: %s", name, reason)
    counted = f"{len(unreadable)} of {len(notes)} recordings below {root} cannot be read"
    if on_error == "raise":
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
        raise ValueError(
            f"{counted}: {listed}{'; ...' if len(unreadable) > 5 else ''}: mend or remove them, or"
            " leave them out with data.on_error=skip"
        )
    log.warning("%s and are left out", counted)
    kept = Rows(digest(key, readable), [waveforms.places[row] for row in readable])
    return DecodedClips(kept, readable, unreadable)


def open_waveforms(paths: Sequence[Path], root: Path, sample_rate: int, directory: Path) -> Store:
    """Open the decoded recordings, decoding them first where their content is new.

    The notes of the store are sha256 digests of the decoded samples. A file that cannot be read is
    an empty row whose note is `error: ` and the reason. It is tried again each time, as a file may
    become readable without being changed.

    Args:
        paths: Recordings below `root`, in the order of the store's rows.
        root: The folder.
        sample_rate: Hz.
        directory: The cache folder.

    Raises:
        ValueError: None of the files can be read, or one changed meanwhile.
    """
    before = [state(path) for path in paths]
    facts = (
        VERSION,
        soxr.__version__,
        sample_rate,
        [path.suffix.lower() for path in paths],
        fingerprints(paths, root, directory),
    )

    def produce() -> Iterator[tuple[np.ndarray, str]]:
        yield from _decode_all(paths, sample_rate)
        # The key is of what was read before: a store of other samples would serve every root.
        for path, old in zip(paths, before, strict=True):
            if state(path) != old:
                raise ValueError(
                    f"{path} changed while it was read: expected files that stay; start again"
                )

    store = load_or_build(directory, "audio", digest(*facts), produce)
    failed = [row for row, note in enumerate(store.notes) if note.startswith(ERROR)]
    again = {row: _decode_or_explain(paths[row], sample_rate) for row in failed}
    if all(note.startswith(ERROR) for _, note, _ in again.values()):
        return store

    def mend() -> Iterator[tuple[np.ndarray, str]]:
        for row, note in enumerate(store.notes):
            yield again[row][:2] if row in again else (store[row], note)

    mended = [again[row][1] for row in failed]
    return load_or_build(directory, "audio", digest(*facts, mended), mend)


def _decode_all(paths: Sequence[Path], sample_rate: int) -> Iterator[tuple[np.ndarray, str]]:
    if any(path.suffix.lower() in MP4_SUFFIXES for path in paths):
        import_av()  # its absence is told once, not for each file
    log.info("decoding %d recordings once", len(paths))
    rows = map_files(partial(_decode_or_explain, sample_rate=sample_rate), paths, "decoding")
    loud, errors = [], []
    for path, (samples, note, peak) in zip(paths, rows, strict=True):
        if note.startswith(ERROR):
            errors.append(f"{path}: {note.removeprefix(ERROR)}")
        if peak > 1:
            loud.append(path)
        yield samples, note
    warn_clipped(loud)
    if len(errors) == len(paths):
        raise ValueError(f"none of {len(paths)} recordings can be read: {'; '.join(errors[:5])}")


def map_files(
    job: Callable[[Path], _Result], paths: Sequence[Path], shown: str
) -> Iterable[_Result]:
    """Apply a job to files, in parallel where they are many, with a progress bar: in their order.

    Args:
        job: What is done with a file.
        paths: The files.
        shown: Before the bar.
    """
    if len(paths) <= SMALL:
        rows = map(job, paths)
    else:
        # Joblib's processes, which a job of its launcher may ask for too: one of its workers
        # cannot spawn, and a fork of a process that runs torch's threads can hang.
        rows = Parallel(cpu_count(), return_as="generator")(
            delayed(_deaf)(os.getpid(), job, path) for path in paths
        )
    return track(rows, shown, len(paths))


def _deaf(parent: int, job: Callable[[Path], _Result], path: Path) -> _Result:
    """Work in a process that Ctrl-C does not reach: the parent, which it reaches too, ends it."""
    # Joblib stays in the parent where it has one process, and takes threads in a worker of its own.
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return job(path)


def _decode_or_explain(path: Path, sample_rate: int) -> tuple[np.ndarray, str, float]:
    """Return samples, digest and peak, or no samples and the error."""
    try:
        samples, peak = decode_and_peak(path, sample_rate)
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")  # it may lie elsewhere another time
        return np.empty(0, np.int16), ERROR + reason, 0.0
    return samples, hashlib.sha256(samples.tobytes()).hexdigest(), peak
