"""Recordings of any common container and rate as 16-bit mono samples at one rate."""

import hashlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soxr
from joblib import Parallel, cpu_count, delayed
from rich.progress import track

from ser.audio.containers import MP4_SUFFIXES, blocks, import_av
from ser.cache.fingerprints import fingerprints, state
from ser.cache.store import Store, digest, load_or_build

VERSION = 2
"""Part of the cache's key: raise it when `decode` yields or refuses other than before."""

SMALL = 64
"""Files up to which starting a process pool takes longer than decoding."""

LOWEST_RATE, HIGHEST_RATE = 4000, 384000
"""Hz. Of another rate a header is wrong, or what the file holds is no speech."""

LONGEST = 4 * 3600
"""Seconds of a recording: some containers hold days of silence in a few bytes."""

LOUDEST = 2.0**31
"""Floats that are integers of 32 bit are merely loud; higher ones are no sound."""

ERROR = "error: "
"""Begins the note of a file that cannot be read."""

log = logging.getLogger(__name__)


def decode(path: str | Path, sample_rate: int) -> np.ndarray:
    """Read a recording as (samples,) int16 at `sample_rate` Hz.

    Of two channels it is the mean; the resampler is soxr's. Peaks above full scale are clipped.

    Raises:
        ValueError: The file cannot be read as audio, is cut off or empty, holds NaN or infinite
            samples, or is of a rate, a length or a number of channels that no speech has.
    """
    return decode_and_peak(path, sample_rate)[0]


def decode_and_peak(path: str | Path, sample_rate: int) -> tuple[np.ndarray, float]:
    """Decode, and give the highest peak before clipping, where 1 is full scale, too."""
    try:
        return _decode(Path(path), sample_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _decode(path: Path, sample_rate: int) -> tuple[np.ndarray, float]:
    resampler, samples, highest, first_rate = None, bytearray(), 0.0, None
    for rate, frames in blocks(path):
        if first_rate is None:
            first_rate = rate
            _check_format(rate, frames.shape[1])
            if rate != sample_rate:
                resampler = soxr.ResampleStream(rate, sample_rate, 1)
        if rate != first_rate:
            raise ValueError(f"changes its rate from {first_rate} to {rate} Hz")
        peak = float(np.abs(frames).max())
        if not np.isfinite(peak):
            raise ValueError("holds NaN or infinite samples")
        if peak > LOUDEST:
            raise ValueError(f"holds a sample of {peak:.3g}: expected about -1 to 1")
        highest = max(highest, peak)
        mono = frames.mean(axis=1)
        samples += _quantise(resampler.resample_chunk(mono) if resampler else mono)
        if len(samples) > 2 * LONGEST * sample_rate:
            raise ValueError(f"is longer than {LONGEST // 3600} hours: cut it into parts")
    if first_rate is None:
        raise ValueError("holds no samples")
    if resampler:
        samples += _quantise(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    if not samples:
        raise ValueError(f"is shorter than one sample at {sample_rate} Hz")
    return np.frombuffer(samples, np.int16), highest


def _check_format(rate: int, channels: int) -> None:
    if channels > 2:
        raise ValueError(f"has {channels} channels: expected mono or stereo; mix it down first")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"has a sample rate of {rate} Hz: expected {LOWEST_RATE} to {HIGHEST_RATE}"
        )


def _quantise(mono: np.ndarray) -> bytes:
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16).tobytes()


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
    still = [row for row, (_, note, _) in again.items() if note.startswith(ERROR)]
    if still == failed:
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
    job = partial(_decode_or_explain, sample_rate=sample_rate)
    if len(paths) <= SMALL:
        rows = map(job, paths)
    else:
        # Joblib's processes, which a job of its launcher may ask for too: one of its workers
        # cannot spawn, and a fork of a process that runs torch's threads can hang.
        rows = Parallel(cpu_count(), return_as="generator")(
            delayed(_deaf)(os.getpid(), job, path) for path in paths
        )
    loud, errors = [], []
    for path, (samples, note, peak) in zip(paths, track(rows, "decoding", len(paths)), strict=True):
        if note.startswith(ERROR):
            errors.append(f"{path}: {note.removeprefix(ERROR)}")
        if peak > 1:
            loud.append(path)
        yield samples, note
    tell_clipped(loud)
    if len(errors) == len(paths):
        raise ValueError(f"none of {len(paths)} recordings can be read: {'; '.join(errors[:5])}")


def _deaf(parent: int, job: Callable[[Path], tuple], path: Path) -> tuple:
    """Work in a process that Ctrl-C does not reach: the parent, which it reaches too, ends it."""
    # Joblib stays in the parent where it has one process, and takes threads in a worker of its own.
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return job(path)


def _decode_or_explain(path: Path, sample_rate: int) -> tuple[np.ndarray, str, float]:
    """Give samples, digest and peak, or no samples and the error."""
    try:
        samples, peak = decode_and_peak(path, sample_rate)
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")  # it may lie elsewhere another time
        return np.empty(0, np.int16), ERROR + reason, 0.0
    return samples, hashlib.sha256(samples.tobytes()).hexdigest(), peak


def tell_clipped(paths: Sequence[Path]) -> None:
    """Say in one line of the log which recordings have peaks above full scale."""
    if paths:
        log.warning(
            "%d recordings have peaks above full scale, which are clipped, such as %s",
            len(paths),
            paths[0],
        )
