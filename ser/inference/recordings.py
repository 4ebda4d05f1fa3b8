"""Recordings of any name, length and rate: found, decoded, and placed under windows."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ser.audio.containers import holds_audio
from ser.audio.decode import decode_and_peak, decode_samples, decode_short
from ser.audio.window import Window
from ser.corpora.clip import AUDIO_SUFFIXES, Clip
from ser.corpora.scan import files, lead, parse

log = logging.getLogger(__name__)

SHORT = 40.0
"""Seconds of a recording that is decoded before its turn, and kept in memory."""


@dataclass(frozen=True)
class Recording:
    """A recording as a model hears it.

    Attributes:
        samples: (samples,) int16 at the rate of the window.
        peak: The highest before clipping, where 1 is full scale.
        window: What is cut out.
        spans: Where its windows begin and end, in samples.
        digest: The sha256 of its samples, as split.csv has those of clips.
    """

    samples: np.ndarray
    peak: float
    window: Window
    spans: Sequence[tuple[int, int]]
    digest: str

    @classmethod
    def of_file(cls, path: Path, window: Window) -> "Recording":
        """Decode a file; a clip of a corpus, by its name, is heard as in training.

        The samples of a long one lie in a temporary file.

        Raises:
            ValueError: It cannot be read.
        """
        in_memory = round(2 * SHORT * window.sample_rate)
        decoded = decode_and_peak(path, window.sample_rate, in_memory)
        return cls._under(window, *decoded, parse(path))

    @classmethod
    def of_short_file(cls, path: Path, window: Window) -> "Recording | None":
        """Decode as `of_file` does; None of a file of more than `SHORT`, read no further."""
        decoded = decode_short(path, window.sample_rate, SHORT)
        return decoded and cls._under(window, *decoded, parse(path))

    @classmethod
    def of_samples(cls, samples: np.ndarray, rate: int, window: Window) -> "Recording":
        """Take samples in memory, see `ser.audio.decode.decode_samples`."""
        return cls._under(window, *decode_samples(samples, rate, window.sample_rate), None)

    @classmethod
    def _under(
        cls, window: Window, samples: np.ndarray, peak: float, clip: Clip | None
    ) -> "Recording":
        spans = window.spans(samples, *lead(clip))
        return cls(samples, peak, window, spans, sha256(samples).hexdigest())

    def windows(self) -> Iterator[np.ndarray]:
        """Yield each window, (samples,) int16, padded."""
        return (self.window.cut(self.samples, span) for span in self.spans)

    def seconds(self) -> list[tuple[float, float]]:
        """Return where the windows begin and end, in s."""
        rate = self.window.sample_rate
        return [(begin / rate, end / rate) for begin, end in self.spans]


def find(path: str | Path) -> list[Path]:
    """List what to score: the file itself, or every audio file below a folder, links followed once.

    A file with a suffix of audio is listed even if it turns out unreadable; one without is listed
    when it can be read, else named in the log.

    Raises:
        ValueError: There is no such path, or nothing to score below it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        listed, others = [], []
        for file in sorted(files(path)):
            (listed if _is_audio(file) else others).append(file)
        if others:
            log.info(
                "%d files that are no audio are not scored: %s",
                len(others),
                [file.name for file in others[:5]],
            )
        if listed:
            return listed
    elif path.exists():
        return [path]
    raise ValueError(
        f"input={str(path)!r}: expected an audio file, or a folder with audio files below it"
        " (a path with commas, brackets, = or letters outside ASCII needs quotes inside quotes:"
        " 'input=\"/données\"')"
    )


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES or holds_audio(path)
