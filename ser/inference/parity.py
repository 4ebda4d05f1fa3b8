"""Recordings on which a graph is compared with the checkpoint that it was made of."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import soxr
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from ser.audio.window import Window
from ser.checkpoints.format import Checkpoint
from ser.checkpoints.source import open_data
from ser.corpora import demo

SECONDS = (0.5, 1.0, 3.0, 10.0)
"""Lengths of the recordings that are compared."""

BATCH = 8
"""Recordings of each length, as one batch; the first of them is also one by itself."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clips:
    """What a graph is tried on.

    Attributes:
        origin: Where the recordings are from, for messages.
        test: Recordings, (samples,) int16 each.
        validation: Likewise, of validation speakers; empty where none are at hand.
        labels: Of these.
    """

    origin: str
    test: Sequence[np.ndarray]
    validation: Sequence[np.ndarray] = ()
    labels: Sequence[str] = ()


def find_clips(loaded: Checkpoint, data: DictConfig, cache: DictConfig, validation: bool) -> Clips:
    """Find the test clips of a checkpoint; where they are not at hand, synthetic speech.

    Args:
        loaded: The checkpoint.
        data: `root` and `manifest`: where its clips lie now; None where they lay.
        cache: `dir` and `max_gb`, as of `open_data`.
        validation: Whether validation clips are wanted too.

    Raises:
        ValueError: They are not where `data` says, or there are no validation clips.
    """

    def read(split: str, most: int | None = None) -> tuple[list[np.ndarray], list[str]]:
        found = open_data(loaded, data.root, cache.dir, split, None, cache.max_gb, data.manifest)
        rows = found.table.index[found.table.split == split]
        if most is not None:  # spread over speakers and emotions
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]
        recordings = [found.reader.waveforms[row] for row in rows]
        return recordings, found.table.label[rows].to_list()

    try:
        test, _ = read("test", len(SECONDS) * BATCH)
    except (ValueError, OSError) as error:
        if data.root is not None or data.manifest is not None:
            raise
        if validation:
            raise ValueError(
                f"int8=true is chosen on the validation clips of the checkpoint ({error}): expected"
                " data.root= where they lie, or int8=false"
            ) from error
        log.info("its test clips are not at hand, so that synthetic speech is compared: %s", error)
        return Clips("synthetic speech", _synthetic(loaded.config["data"]["sample_rate"]))
    origin = f"{len(test)} of its test clips"
    return Clips(origin, test, *(read("val") if validation else ()))


def _synthetic(rate: int) -> list[np.ndarray]:
    """Return clips of the embedded corpus, (samples,) int16 each."""
    takes = list(demo.list_takes().items())
    found = []
    for path, take in takes[:: len(takes) // BATCH]:
        samples, own = demo.synthesise(path, take, 0)
        found.append(soxr.resample(samples, own, rate))
    return found


class Trial:
    """A checkpoint's answers for recordings of several lengths, scored window by window.

    Args:
        loaded: The checkpoint.
        recordings: (samples,) int16 each; one that is shorter than a length goes on with the next.
    """

    def __init__(self, loaded: Checkpoint, recordings: Sequence[np.ndarray]) -> None:
        self.classes = loaded.model.classes
        self.window: Window = instantiate(loaded.config["data"]["window"], _convert_="all")
        tape = np.concatenate(recordings)
        starts = np.cumsum([0, *map(len, recordings[:-1])])
        self.batches, self.answers = [], []
        for number, seconds in enumerate(SECONDS):
            length = round(seconds * self.window.sample_rate)
            begins = np.resize(np.roll(starts, -BATCH * number), BATCH)
            pieces = [
                tape.take(range(begin, begin + length), mode="wrap") for begin in begins.tolist()
            ]
            self.batches.append(pieces)
            self.answers.append(np.stack([self.score(loaded, piece) for piece in pieces]))

    def compare(self, session: onnxruntime.InferenceSession) -> dict[str, float]:
        """Return how far the answers of a graph are from the checkpoint's.

        Returns:
            `largest_difference` of a probability, and of `clips` the `other_labels`.
        """
        largest, others = 0.0, 0
        for pieces, answers in zip(self.batches, self.answers, strict=True):
            (together,) = session.run(None, {"waveform": as_batch(pieces)})
            (alone,) = session.run(None, {"waveform": as_batch(pieces[:1])})
            differences = np.abs(np.concatenate([together - answers, alone - answers[:1]]))
            largest = max(largest, float(np.nan_to_num(differences, nan=np.inf).max()))
            others += int((together.argmax(1) != answers.argmax(1)).sum())
        clips = sum(map(len, self.batches))
        return {"largest_difference": largest, "other_labels": others, "clips": clips}

    @torch.inference_mode()
    def score(self, loaded: Checkpoint, recording: np.ndarray) -> np.ndarray:
        """Return the probabilities (classes,) of a recording (samples,) int16 of no corpus."""
        spans = self.window.spans(recording)
        windows = as_batch([self.window.cut(recording, span) for span in spans])
        parts = torch.from_numpy(windows).split(loaded.clips_at_once)
        return torch.cat([loaded.model(part) for part in parts]).double().mean(0).numpy()


def as_batch(recordings: Sequence[np.ndarray]) -> np.ndarray:
    """Join recordings of one length, (samples,) int16 each, to (batch, samples) in -1..1."""
    return np.stack(recordings).astype(np.float32) / 32768
