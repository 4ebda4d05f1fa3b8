"""The window: which seconds of a recording the model hears."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from ser.config.quantities import Amount, Hertz, Seconds

VERSION = 1
"""Part of the key of cached features: raise it when `Window` cuts other samples than before."""


Place = Literal["corpus", "onset"]


@dataclass(frozen=True)
class Window:
    """A stretch of fixed length, padded with zeros.

    Attributes:
        seconds: Length.
        start: Where it begins: `corpus`, after the silence that clips of a corpus begin with;
            `onset`, at the first sample within `threshold_db` of the peak; or by corpus one of
            these or seconds from the start of the file, `other` for recordings of no corpus, which
            begin at their onset unless said otherwise.
        hop_seconds: Distance of the windows that follow in a longer recording of no corpus.
        threshold_db: What counts as sound, relative to the recording's peak.
        trim_end: Whether the silence at the end is taken for padding too.
        sample_rate: Hz.
    """

    seconds: Seconds
    start: Place | Mapping[str, Amount | Place] = "corpus"
    hop_seconds: Seconds = 1.5
    threshold_db: Annotated[float, Interval(ge=-200, le=0)] = -40.0
    trim_end: bool = False
    sample_rate: Hertz = 48000

    def __post_init__(self) -> None:
        if not round(self.hop_seconds * self.sample_rate):
            raise ValueError(
                f"window.hop_seconds={self.hop_seconds}: expected at least one sample, which is"
                f" {1 / self.sample_rate:.2g} s"
            )

    @property
    def samples(self) -> int:
        """Length in samples."""
        return round(self.seconds * self.sample_rate)

    def spans(
        self, recording: np.ndarray, corpus: str | None = None, lead_seconds: float | None = 0.0
    ) -> list[tuple[int, int]]:
        """Return where the windows of a recording begin and end, in samples.

        A clip of a corpus has one window; any other recording has as many as cover it from its
        onset on.

        Args:
            recording: (samples,) int16.
            corpus: Whose clip it is; None of anyone's recording.
            lead_seconds: Of silence before the words in clips of that corpus; None where that
                differs, so that the onset is looked for.
        """
        start = "corpus" if corpus else "onset"
        if isinstance(self.start, Mapping):
            start = self.start.get(corpus or "other", start)
        elif corpus:
            start = self.start
        if start == "corpus" and lead_seconds is None:
            start = "onset"
        onset, offset = 0, len(recording)
        if self.trim_end or start == "onset":
            onset, offset = self._sound(recording)
        seconds = lead_seconds if start == "corpus" else start
        begin = onset if start == "onset" else round(seconds * self.sample_rate)
        end = offset if self.trim_end else len(recording)
        if begin >= end:  # shorter than the corpus's leading silence
            begin = 0
        if corpus is not None:
            return [(begin, min(begin + self.samples, end))]
        hop = round(self.hop_seconds * self.sample_rate)
        beyond = max(0, end - begin - self.samples)
        begins = range(begin, min(begin + -(-beyond // hop) * hop + 1, end), hop)
        return [(start, min(start + self.samples, end)) for start in begins]

    def cut(self, recording: np.ndarray, span: tuple[int, int]) -> np.ndarray:
        """Cut one span out of a recording and pad it with zeros to (samples,)."""
        padded = np.zeros(self.samples, recording.dtype)
        begin, end = span
        padded[: end - begin] = recording[begin:end]
        return padded

    def _sound(self, recording: np.ndarray) -> tuple[int, int]:
        peak = max(int(recording.max(initial=0)), -int(recording.min(initial=0)))
        level = max(1, math.ceil(peak * 10 ** (self.threshold_db / 20)))
        onset = self._first(recording, level)
        if onset is None:  # digital silence throughout
            return 0, len(recording)
        return onset, len(recording) - self._first(recording[::-1], level)

    def _first(self, recording: np.ndarray, level: int) -> int | None:
        """Return the first sample of at least a level; None where there is none."""
        # An hour is 173 million samples: of most of them nothing is made.
        for place in range(0, len(recording), self.samples):
            part = recording[place : place + self.samples]
            loud = (part >= level) | (part <= -level)
            if loud.any():
                return place + int(loud.argmax())
        return None
