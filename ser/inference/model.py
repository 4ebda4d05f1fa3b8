"""Model, a checkpoint that answers for recordings: files, folders and samples in memory."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate

from ser.checkpoints.format import Checkpoint
from ser.corpora.labels import UNSURE
from ser.corpora.names import cell, shown
from ser.evaluation.calibration import temper
from ser.inference.lookahead import look_ahead
from ser.inference.recordings import Recording, find

BATCH = 32
"""Windows that are scored at once, where they fit."""


@dataclass(frozen=True)
class WindowPrediction:
    """What a model says of one window.

    Attributes:
        start: Of the window, in s.
        end: Of what it holds of the recording, in s.
        label: The likeliest class, or `unsure`.
        probabilities: By class.
    """

    start: float
    end: float
    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a recording: the mean over its windows.

    Attributes:
        path: Its file; None of samples in memory.
        label: The likeliest class, or `unsure`; None where the file could not be read.
        probabilities: By class.
        windows: In their order.
        peak: The highest of the samples before clipping, where 1 is full scale.
        trained: Whether the model has been trained, or chosen, on these very samples.
        error: Why the file could not be read.
    """

    path: Path | None
    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    windows: Sequence[WindowPrediction] = ()
    peak: float = 0.0
    trained: bool = False
    error: str | None = None

    @property
    def start(self) -> float | None:
        """Where the first window begins, in s."""
        return self.windows[0].start if self.windows else None

    @property
    def end(self) -> float | None:
        """Where the last window ends, in s."""
        return self.windows[-1].end if self.windows else None


@dataclass
class _Pending:
    """A recording whose windows are being scored, (windows, classes) so far."""

    path: Path | None
    recording: Recording | None = None
    error: str | None = None
    scored: list[np.ndarray] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.recording is None or len(self.scored) == len(self.recording.spans)


class Model:
    """Answers for recordings with the probabilities of `eval.py input=`.

    Args:
        checkpoint: What was trained.
        abstain: Share of wrong answers to accept: less sure ones are `unsure`, by a threshold of
            the validation speakers. None answers always.
        device: Where it computes.

    Attributes:
        classes: Their names.
        sample_rate: Hz, to which recordings are brought.
        threshold: The least probability with which it answers.

    Raises:
        ValueError: It needs to know who speaks, or there is nothing to choose a threshold by.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        abstain: float | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        source = f"ckpt={str(checkpoint.path)!r}"
        if checkpoint.split_info.transductive:
            raise ValueError(
                f"{source} was trained with normalize=speaker, but a recording does not say who"
                " speaks: expected a checkpoint trained without"
            )
        checkpoint.check_abstain(abstain)
        self.checkpoint = checkpoint
        self.threshold = 0.0 if abstain is None else checkpoint.calibration.threshold(abstain)
        self.classes: list[str] = checkpoint.model.classes
        self.window = instantiate(checkpoint.config["data"]["window"], _convert_="all")
        self.sample_rate: int = self.window.sample_rate
        self._network = checkpoint.model.to(device)
        self._temperature = checkpoint.calibration and checkpoint.calibration.temperature
        self._batch = min(BATCH, checkpoint.clips_at_once)
        trained = checkpoint.split.split != "test"
        self._trained = frozenset(checkpoint.split.sha256[trained])

    @overload
    def predict(self, recording: str | Path) -> Prediction | list[Prediction]: ...

    @overload
    def predict(self, recording: np.ndarray, rate: int) -> Prediction: ...

    @overload
    def predict(
        self, recording: Sequence[str | Path | np.ndarray], rate: int | None = None
    ) -> list[Prediction]: ...

    def predict(
        self,
        recording: str | Path | np.ndarray | Sequence[str | Path | np.ndarray],
        rate: int | None = None,
    ) -> Prediction | list[Prediction]:
        """Return the prediction of a file or an array, or a list of those of a folder or a list.

        Args:
            recording: A file, a folder, or an array as of `ser.audio.decode.decode_samples`; or a
                list of files and arrays.
            rate: Of arrays, in Hz.

        Raises:
            ValueError: One file or array cannot be read; of several its prediction has the error.
        """
        if isinstance(recording, str | Path) and os.path.isdir(Path(recording).expanduser()):
            return list(self.stream(find(recording)))
        if isinstance(recording, list | tuple):
            return list(self.stream(recording, rate))
        (found,) = self.stream([recording], rate)
        if found.error is not None:
            raise ValueError(found.error)
        return found

    def stream(
        self, recordings: Iterable[str | Path | np.ndarray], rate: int | None = None
    ) -> Iterator[Prediction]:
        """Yield the prediction of each file or array in order, as soon as its windows are scored.

        These are scored 32 at a time. Of a list of more than 64 files other processes decode those
        that follow. What cannot be read has an `error`.

        Args:
            recordings: As of `predict`; they may be more than fit into memory.
            rate: Of arrays, in Hz.
        """
        if isinstance(recordings, str | Path | np.ndarray):
            raise ValueError("one recording: expected several, or model.predict")
        waiting: deque[_Pending] = deque()
        batch: list[tuple[_Pending, np.ndarray]] = []
        for pending in self._opened(recordings, rate):
            waiting.append(pending)
            for window in pending.recording.windows() if pending.recording else ():
                batch.append((pending, window))
                if len(batch) == self._batch:
                    self._score(batch)
                    batch = []
            while waiting and waiting[0].done:
                yield self._close(waiting.popleft())
        if batch:
            self._score(batch)
        for pending in waiting:
            yield self._close(pending)

    def _opened(
        self, recordings: Iterable[str | Path | np.ndarray], rate: int | None
    ) -> Iterator[_Pending]:
        """Yield each recording, decoded."""
        if rate is not None:  # of arrays, which are in memory
            yield from (self._open(each, rate) for each in recordings)
            return
        for each, opened in look_ahead(recordings, self.window):
            if opened is None:
                yield self._open(each, rate)
            elif isinstance(opened, str):
                yield _Pending(Path(each).expanduser(), error=opened)
            else:
                yield _Pending(Path(each).expanduser(), opened)

    def _open(self, recording: str | Path | np.ndarray, rate: int | None) -> _Pending:
        if not isinstance(recording, str | Path | np.ndarray):
            raise ValueError(
                f"a {type(recording).__name__}: expected a path, or an array of samples"
            )
        path = None if isinstance(recording, np.ndarray) else Path(recording).expanduser()
        try:
            if path is not None:
                return _Pending(path, Recording.of_file(path, self.window))
            if not isinstance(rate, int):
                raise ValueError(f"samples with rate={rate!r}: expected rate=, whole Hz")
            return _Pending(None, Recording.of_samples(recording, rate, self.window))
        except ValueError as error:
            return _Pending(path, error=str(error))

    @torch.inference_mode()
    def _score(self, batch: Sequence[tuple[_Pending, np.ndarray]]) -> None:
        windows = np.stack([window for _, window in batch])
        waveform = torch.from_numpy(windows).to(self._network.device).float().div_(32768)
        scored = self._network(waveform).numpy(force=True)
        for (pending, _), probabilities in zip(batch, scored, strict=True):
            pending.scored.append(probabilities)

    def _close(self, pending: _Pending) -> Prediction:
        if pending.recording is None:
            return Prediction(pending.path, error=pending.error)
        label, probabilities = self._answer(np.mean(pending.scored, axis=0, dtype=float))
        spans = zip(pending.recording.seconds(), pending.scored, strict=True)
        windows = [WindowPrediction(*span, *self._answer(scored)) for span, scored in spans]
        trained = pending.recording.digest in self._trained
        return Prediction(
            pending.path, label, probabilities, windows, pending.recording.peak, trained
        )

    def _answer(self, probabilities: np.ndarray) -> tuple[str, dict[str, float]]:
        """Return label and probabilities, from the plain ones (classes,) of what is answered."""
        if self._temperature is not None:
            (probabilities,) = temper(probabilities[None], self._temperature)
        label = self.classes[probabilities.argmax()]
        answered = probabilities.max() >= self.threshold
        by_class = dict(zip(self.classes, probabilities.tolist(), strict=True))
        return label if answered else UNSURE, by_class


def tabulate(predictions: Sequence[Prediction], classes: Sequence[str]) -> pd.DataFrame:
    """Return the rows of predictions.csv: one a file, unread ones included."""
    columns = [f"p_{name}" for name in classes]
    rows = [
        {
            "path": cell(each.path),
            "start": each.start,
            "end": each.end,
            "prediction": each.label,
            **dict(zip(columns, each.probabilities.values(), strict=False)),
            # Of its own path a message says what the column says.
            "error": each.error and shown(each.error).replace(shown(each.path), cell(each.path), 1),
        }
        for each in predictions
    ]
    return pd.DataFrame(rows, columns=["path", "start", "end", "prediction", *columns, "error"])
