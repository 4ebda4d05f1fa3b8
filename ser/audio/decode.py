"""Recordings of any common container and rate as 16-bit mono samples at one rate."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import BinaryIO

import numpy as np
import soxr

from ser.audio.containers import BLOCK, blocks

VERSION = 2
"""Part of the cache's key: raise it when `decode` yields or refuses other than before."""

LOWEST_RATE, HIGHEST_RATE = 4000, 384000
"""Hz. Of another rate a header is wrong, or what the file holds is no speech."""

LONGEST = 4 * 3600
"""Seconds of a recording: some containers hold days of silence in a few bytes."""

LOUDEST = 2.0**31
"""Floats that are integers of 32 bit are merely loud; higher ones are no sound."""

log = logging.getLogger(__name__)


def decode(path: str | Path, sample_rate: int) -> np.ndarray:
    """Read a recording as (samples,) int16 at `sample_rate` Hz.

    Of two channels it is the mean; the resampler is soxr's. Peaks above full scale are clipped.

    Raises:
        ValueError: The file cannot be read as audio, is cut off or empty, holds NaN or infinite
            samples, or is of a rate, a length or a number of channels that no speech has.
    """
    return decode_and_peak(path, sample_rate)[0]


def decode_and_peak(
    path: str | Path, sample_rate: int, most_bytes: int = 0
) -> tuple[np.ndarray, float]:
    """Decode; return the highest peak before clipping too, where 1 is full scale.

    Args:
        path: The file.
        sample_rate: Hz.
        most_bytes: Of samples that may be in memory: more are in a temporary file, mapped, which
            is gone when they are. 0 is any number.

    Raises:
        ValueError: As of `decode`, or there is no room for that file.
    """
    try:
        return _decode(blocks(Path(path)), sample_rate, most_bytes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def decode_short(
    path: str | Path, sample_rate: int, most_seconds: float
) -> tuple[np.ndarray, float] | None:
    """Decode as `decode_and_peak` does; None of a longer file, which is read no further.

    Args:
        path: The file.
        sample_rate: Hz.
        most_seconds: Of the file.

    Raises:
        ValueError: As of `decode`.
    """
    try:
        return _decode(_short(blocks(Path(path)), most_seconds), sample_rate)
    except _TooLongError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _TooLongError(Exception):
    """A file is not decoded to its end."""


def _short(
    parts: Iterable[tuple[int, np.ndarray]], most_seconds: float
) -> Iterator[tuple[int, np.ndarray]]:
    count = 0
    for rate, frames in parts:
        count += len(frames)
        if count > most_seconds * rate:
            raise _TooLongError
        yield rate, frames


def decode_samples(samples: np.ndarray, rate: int, sample_rate: int) -> tuple[np.ndarray, float]:
    """Bring samples in memory to where `decode_and_peak` brings those of a file.

    Args:
        samples: (samples,) or (samples, channels); floats in -1..1, or int16.
        rate: Theirs, in Hz.
        sample_rate: In Hz, of what is returned.

    Raises:
        ValueError: As of `decode`, or they are of another type.
    """
    frames = np.asarray(samples)
    if frames.dtype == np.int16:
        frames = frames / np.float32(32768)
    if frames.dtype.kind != "f" or frames.ndim not in (1, 2):
        raise ValueError(
            f"the samples are {frames.dtype} {frames.shape}: expected floats in -1..1, or int16,"
            " (samples,) or (samples, channels)"
        )
    frames = np.atleast_2d(frames.T).T.astype(np.float32)
    parts = (frames[place : place + BLOCK] for place in range(0, len(frames), BLOCK))
    return _decode(((rate, part) for part in parts), sample_rate)


def _decode(
    parts: Iterable[tuple[int, np.ndarray]], sample_rate: int, most_bytes: int = 0
) -> tuple[np.ndarray, float]:
    resampler, highest, first_rate = None, 0.0, None
    with SpooledTemporaryFile(most_bytes) as samples:
        for rate, frames in parts:
            if first_rate is None:
                first_rate = rate
                _check_format(rate, frames.shape[1])
                if rate != sample_rate:
                    resampler = soxr.ResampleStream(rate, sample_rate, 1)
            if rate != first_rate:
                raise ValueError(f"changes its rate from {first_rate} to {rate} Hz")
            peak = max(float(frames.max()), -float(frames.min()))
            if not np.isfinite(peak):
                raise ValueError("holds NaN or infinite samples")
            if peak > LOUDEST:
                raise ValueError(f"holds a sample of {peak:.3g}: expected about -1 to 1")
            highest = max(highest, peak)
            mono = frames.mean(axis=1) if frames.shape[1] > 1 else frames[:, 0]
            _write(samples, resampler.resample_chunk(mono) if resampler else mono)
            if samples.tell() > 2 * LONGEST * sample_rate:
                raise ValueError(f"is longer than {LONGEST // 3600} hours: cut it into parts")
        if first_rate is None:
            raise ValueError("holds no samples")
        if resampler:
            _write(samples, resampler.resample_chunk(np.empty(0, np.float32), last=True))
        if not (size := samples.tell()):
            raise ValueError(f"is shorter than one sample at {sample_rate} Hz")
        if 0 < most_bytes < size:
            return np.memmap(samples, np.int16, "r"), highest
        samples.seek(0)
        return np.frombuffer(samples.read(), np.int16), highest


def _write(file: BinaryIO, samples: np.ndarray) -> None:
    try:
        file.write(quantise(samples).data)
    except OSError as error:
        raise ValueError(
            f"no room for its samples in {gettempdir()} ({error.strerror}): expected another"
            " folder in the environment variable TMPDIR"
        ) from error


def _check_format(rate: int, channels: int) -> None:
    if channels > 2:
        raise ValueError(f"has {channels} channels: expected mono or stereo; mix it down first")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"has a sample rate of {rate} Hz: expected {LOWEST_RATE} to {HIGHEST_RATE}"
        )


def quantise(samples: np.ndarray) -> np.ndarray:
    """Return samples in -1..1 as int16; what exceeds them is clipped."""
    scaled = samples * 32768
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16)


def warn_clipped(paths: Sequence[Path]) -> None:
    """Log in one line which recordings have peaks above full scale."""
    if paths:
        log.warning(
            "%d recordings have peaks above full scale, which are clipped, such as %s",
            len(paths),
            paths[0],
        )
