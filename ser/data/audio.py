"""Recordings of any container, rate and channel count as 16-bit mono samples at one rate."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from joblib import Parallel, cpu_count, delayed
from rich.progress import track

from ser.data.cache import Store, digest, load_or_build

VERSION = 1
"""Part of the cache's key: raise it when `decode` yields other samples than before."""

SMALL = 64
"""Files up to which starting a process pool takes longer than decoding."""

MP4_SUFFIXES = frozenset((".m4a", ".mp4"))
"""What PyAV reads; libsndfile reads the others."""

log = logging.getLogger(__name__)


def decode(path: str | Path, sample_rate: int) -> np.ndarray:
    """Read a recording as (samples,) int16 at `sample_rate` Hz.

    Equal channels give the first, others their mean; the resampler is soxr's. Peaks above full
    scale are clipped. Of a video the first audio stream is read, with PyAV.

    Raises:
        ValueError: The file cannot be read as audio, is empty, or holds NaN or infinite samples.
    """
    if not Path(path).is_file():  # opening a pipe would wait for its writer
        raise ValueError(f"{path}: is no regular file")
    try:
        # Through an open file: libsndfile takes the container from the name when given one.
        with open(path, "rb") as file:
            if Path(path).suffix.lower() in MP4_SUFFIXES:
                frames, rate = _read_mp4(file)
            else:
                frames, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not readable as audio ({error})") from error
    if len(frames) == 0:
        raise ValueError(f"{path}: holds no samples")
    if not np.isfinite(frames).all():
        raise ValueError(f"{path}: holds NaN or infinite samples")
    mono = frames[:, 0]
    if (frames != mono[:, None]).any():
        mono = frames.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
        if len(mono) == 0:
            raise ValueError(f"{path}: is shorter than one sample at {sample_rate} Hz")
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)


def _read_mp4(file: BinaryIO) -> tuple[np.ndarray, int]:
    """Read the first audio stream as (frames, channels) float32, and its rate in Hz."""
    av = _import_av()
    try:
        # Of the named format alone: FFmpeg's guess may be one that opens other files.
        with av.open(file, format="mp4") as container:
            if not container.streams.audio:
                raise ValueError("it has no audio stream")
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp")  # only the type of the samples changes
            parts = [
                part.to_ndarray()
                for frame in container.decode(stream)
                for part in planar.resample(frame)
            ]
            return np.concatenate(parts or [np.empty((1, 0), np.float32)], axis=1).T, stream.rate
    except av.FFmpegError as error:
        raise ValueError(error.strerror) from error


def _import_av() -> ModuleType:
    try:
        import av
    except ModuleNotFoundError as error:
        raise ValueError(
            f"reading {' and '.join(sorted(MP4_SUFFIXES))} needs PyAV ({error}): start with"
            " `uv run --extra video train.py` or `uv run --extra video eval.py`"
        ) from error
    return av


def open_waveforms(paths: Sequence[Path], root: Path, sample_rate: int, directory: Path) -> Store:
    """Open the decoded recordings, decoding them first where they or the files are new.

    The notes of the store are sha256 digests of the decoded samples.

    Args:
        paths: Recordings below `root`, in the order of the store's rows.
        root: Folder that the paths are keyed by.
        sample_rate: Hz.
        directory: The cache folder.

    Raises:
        ValueError: Files that cannot be decoded, counted and the first five named.
    """
    stats = [path.stat() for path in paths]
    key = digest(
        VERSION,
        soxr.__version__,
        sample_rate,
        str(root.resolve()),
        [
            (path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns)
            for path, stat in zip(paths, stats, strict=True)
        ],
    )
    return load_or_build(directory, "audio", key, partial(_decode_all, paths, sample_rate))


@dataclass(frozen=True)
class Joined:
    """Two stores read as one: the rows of the second follow those of the first."""

    first: Store
    second: Store

    @property
    def key(self) -> str:
        """What the rows were computed from, as a digest."""
        return digest(self.first.key, self.second.key)

    @property
    def notes(self) -> tuple[str, ...]:
        """One string a row."""
        return self.first.notes + self.second.notes

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, row: int) -> np.ndarray:
        count = len(self.first)
        return self.first[row] if row < count else self.second[row - count]


def _decode_all(paths: Sequence[Path], sample_rate: int) -> Iterator[tuple[np.ndarray, str]]:
    if any(path.suffix.lower() in MP4_SUFFIXES for path in paths):
        _import_av()  # its absence is told once, not for each file
    log.info("decoding %d recordings once", len(paths))
    job = partial(_decode_or_explain, sample_rate=sample_rate)
    if len(paths) <= SMALL:
        yield from _sound_rows(map(job, paths), len(paths))
        return
    # Joblib's processes, which a job of its launcher may ask for too: one of its workers cannot
    # spawn, and a fork of a process that runs torch's threads can hang.
    pool = Parallel(cpu_count(), return_as="generator")
    yield from _sound_rows(pool(delayed(job)(path) for path in paths), len(paths))


def _decode_or_explain(path: Path, sample_rate: int) -> tuple[np.ndarray | None, str]:
    try:
        samples = decode(path, sample_rate)
    except ValueError as error:
        return None, str(error)
    return samples, hashlib.sha256(samples.tobytes()).hexdigest()


def _sound_rows(
    rows: Iterator[tuple[np.ndarray | None, str]], total: int
) -> Iterator[tuple[np.ndarray, str]]:
    errors = []
    for samples, note in track(rows, "decoding", total):
        if samples is None:
            errors.append(note)
        else:
            yield samples, note
    if errors:
        listed = "; ".join(errors[:5]) + ("; ..." if len(errors) > 5 else "")
        raise ValueError(f"{len(errors)} of {total} recordings cannot be read: {listed}")
