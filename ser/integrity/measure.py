"""Measurements of one recording on disk: its container, its header and its samples."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ser.audio.clips import WHOLE, Span, locate
from ser.audio.decode import decode_and_peak

MP4_RATE = 48000
"""Hz. The header of a video is not read: its sound is examined at the rate of RAVDESS's."""


@dataclass(frozen=True)
class Examination:
    """What was found in one file or a part of it; samples are mono, of 16 bit, at the file's rate.

    Attributes:
        path: The file.
        error: Why it cannot be read; the rest is then unknown.
        container: libsndfile's name, or MP4.
        subtype: libsndfile's name of the samples' type.
        sample_rate: Hz.
        channels: How many.
        seconds: Length.
        peak: 1 is full scale, which floats and lossy containers may exceed.
        rms: Likewise.
        longest_zeros_s: The longest run of digital zeros, in s.
        longest_clipping: The longest run of samples at full scale.
        samples_sha256: Of the samples: the same in every lossless copy.
        file_sha256: Of the file.
    """

    path: Path
    error: str | None = None
    container: str = ""
    subtype: str = ""
    sample_rate: int = 0
    channels: int = 0
    seconds: float = 0.0
    peak: float = 0.0
    rms: float = 0.0
    longest_zeros_s: float = 0.0
    longest_clipping: int = 0
    samples_sha256: str = ""
    file_sha256: str = ""

    def describe(self) -> str:
        """Describe in a few words what was read."""
        kind = f"{self.container} {self.subtype}".strip()
        return f"{self.seconds:.2f} s at {self.sample_rate} Hz, {kind}, peak {self.peak:.2f}"


def examine(path: Path) -> Examination:
    """Read one file as training would and measure it."""
    return examine_parts((path, (WHOLE,)))[0]


def examine_parts(parts: tuple[Path, Sequence[Span]]) -> list[Examination]:
    """Read one file once and measure parts of it, each from its start to its end in s."""
    path, spans = parts
    header = _header(path)
    rate = header["sample_rate"]
    try:
        samples, peak = decode_and_peak(path, rate)
        with path.open("rb") as file:
            file_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (ValueError, OSError) as error:
        return [Examination(path, str(error))] * len(spans)
    found = []
    for span in spans:
        place, error = locate(span, len(samples), rate)
        if error is not None:
            found.append(Examination(path, error))
            continue
        part = samples[slice(*place)]
        scaled = part / 32768
        seen = Examination(
            path=path,
            **header,
            seconds=len(part) / rate,
            peak=peak if span == WHOLE else float(np.abs(scaled).max()),
            rms=float(np.sqrt(np.mean(scaled**2))),
            longest_zeros_s=longest_run(part == 0) / rate,
            longest_clipping=longest_run((part >= 32767) | (part <= -32767)),
            samples_sha256=hashlib.sha256(part).hexdigest(),
            file_sha256=file_sha256,
        )
        found.append(seen)
    return found


def longest_run(mask: np.ndarray) -> int:
    """Count the samples of the longest stretch that is true; `mask` is (samples,)."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _header(path: Path) -> dict[str, str | int]:
    """Read container, type of the samples, rate in Hz and channels.

    What libsndfile cannot read is a video, or for the decoder to refuse.
    """
    read = {"container": "MP4", "sample_rate": MP4_RATE, "channels": 1}
    if path.is_file():  # opening a pipe would wait for its writer
        with (
            suppress(soundfile.LibsndfileError, OSError, TypeError, ValueError),
            path.open("rb") as file,
        ):
            header = soundfile.info(file)
            read = {"container": header.format, "subtype": header.subtype}
            read |= {"sample_rate": header.samplerate, "channels": header.channels}
    return read
