"""Export to one ONNX file, kept where its answers are those of the checkpoint."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soxr
from omegaconf import DictConfig
from onnx.helper import set_model_props
from onnxruntime.quantization import QuantType, quantize_dynamic

from ser.checkpoints.format import Checkpoint
from ser.checkpoints.source import open_data
from ser.corpora import demo
from ser.evaluation.metrics import scores
from ser.inference import graph, hub_folder
from ser.inference.model import Model

LARGEST = 1e-4
"""Difference of a probability from the checkpoint's."""

COST = 0.01
"""Share of labels that int8 may change, and of the UAR that it may take, on validation clips."""

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
        validation: Recordings of validation speakers; empty where none are at hand.
        labels: Classes of the validation recordings.
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
    """A checkpoint's answers, as `ser.load` gives them, for recordings of several lengths.

    Args:
        loaded: The checkpoint.
        recordings: (samples,) int16 each; one that is shorter than a length goes on with the next.
    """

    def __init__(self, loaded: Checkpoint, recordings: Sequence[np.ndarray]) -> None:
        self.model = Model(loaded)
        tape = np.concatenate(recordings)
        starts = np.cumsum([0, *map(len, recordings[:-1])])
        self.batches, self.answers = [], []
        for number, seconds in enumerate(SECONDS):
            length = round(seconds * self.model.sample_rate)
            begins = np.resize(np.roll(starts, -BATCH * number), BATCH)
            pieces = [tape.take(begin + np.arange(length), mode="wrap") for begin in begins]
            self.batches.append(pieces)
            self.answers.append(self.score(pieces))

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

    def score(self, recordings: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities (recordings, classes) of recordings (samples,) int16."""
        found = self.model.predict(list(recordings), rate=self.model.sample_rate)
        return np.array([list(each.probabilities.values()) for each in found])


def as_batch(recordings: Sequence[np.ndarray]) -> np.ndarray:
    """Join recordings of one length, (samples,) int16 each, to (batch, samples) in -1..1."""
    return np.stack(recordings).astype(np.float32) / 32768


def check(path: Path) -> None:
    """Refuse a path that is no file of ONNX, before anything is read.

    Raises:
        ValueError: It ends otherwise, or there is no folder for it.
    """
    if path.suffix != ".onnx":
        raise ValueError(
            f"to={str(path) if path.name else None!r}: expected a file as model.onnx, or a folder"
            " for a model hub, as hub/"
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(f"to={str(path)!r}: expected a file in a folder that is there")
    hub_folder.check_writable(path)


def check_model(loaded: Checkpoint) -> None:
    """Refuse a checkpoint that no graph can hold, before its clips are looked for.

    Raises:
        ValueError: It names the part, or the checkpoint asks who speaks.
    """
    if loaded.split_info.transductive:
        raise ValueError(
            f"ckpt={str(loaded.path)!r} was trained with normalize=speaker, but a waveform does not"
            " say who speaks: expected a checkpoint trained without"
        )
    graph.check(loaded.model)


def write(loaded: Checkpoint, path: Path, clips: Clips, int8: bool = False) -> dict:
    """Write a checkpoint as one ONNX file; what its answers cost is measured before it is kept.

    Args:
        loaded: The checkpoint.
        path: The file, which is replaced.
        clips: On which it is compared with the checkpoint, and int8 with float32.
        int8: Whether the weights of networks are stored in eight bits.

    Returns:
        The measured differences, as they stand in the file too.

    Raises:
        ValueError: A part of the model has no graph, its answers are others, or int8 costs more
            than `COST`.
    """
    trial = Trial(loaded, clips.test)
    model = graph.build(loaded.model, trial.model.window)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        whole = Path(folder, "float32.onnx")
        onnx.save(model, whole)
        found = trial.compare(open_session(whole))
        if not found["largest_difference"] <= LARGEST:
            raise ValueError(
                f"to={str(path)!r} is not written: its probabilities differ from those of"
                f" ckpt={str(loaded.path)!r} by up to {found['largest_difference']:.2g} on"
                f" {clips.origin}; expected at most {LARGEST}, so that this model cannot be"
                " exported"
            )
        notes = {"clips": clips.origin, "float32": found}
        log.info("%s: largest difference from the checkpoint %s", clips.origin, _shown(found))
        kept = whole
        if int8:
            kept = Path(folder, "int8.onnx")
            notes["int8"] = _quantise(whole, kept, clips, trial)
        final = onnx.load(kept)
        told = hub_folder.describe(loaded) | {"measured": notes}
        set_model_props(final, {name: _text(value) for name, value in told.items()})
        final.producer_name, final.producer_version = "ser", version("ser")
        onnx.save(final, kept)
        open_session(kept)
        os.replace(kept, path)
    log.info("%s: %.2f MB", path, path.stat().st_size / 1e6)
    return notes


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a file for the CPU."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _quantise(whole: Path, path: Path, clips: Clips, trial: Trial) -> dict:
    """Store the weights of networks in eight bits, and measure what that costs.

    Raises:
        ValueError: There is no network, or it costs too much.
    """
    model = onnx.load(whole)
    weights = {each.name for each in model.graph.initializer if ".network." in each.name}
    nodes = [node.name for node in model.graph.node if weights & {*node.input}]
    logging.disable(logging.WARNING)  # it tells the root logger of each tensor
    try:
        quantize_dynamic(whole, path, nodes_to_quantize=nodes, weight_type=QuantType.QUInt8)
    finally:
        logging.disable(logging.NOTSET)
    megabytes = [each.stat().st_size / 1e6 for each in (whole, path)]
    if not nodes or megabytes[1] > 0.9 * megabytes[0]:
        raise ValueError(
            f"int8=true leaves {megabytes[1]:.2f} of {megabytes[0]:.2f} MB, as onnxruntime has next"
            " to no weights of this model in eight bits: expected int8=false"
        )
    before, after = open_session(whole), open_session(path)
    truth = np.array(clips.labels)
    answers = [
        np.array([_answer(session, each, trial.model.classes) for each in clips.validation])
        for session in (before, after)
    ]
    uar = [scores(truth, answer)["uar"] for answer in answers]
    changed = int((answers[0] != answers[1]).sum())
    found = {
        "megabytes": megabytes,
        "validation_clips": len(truth),
        "changed_labels": changed,
        "validation_uar": uar,
        **trial.compare(after),
    }
    words = (
        f"the label of {changed} of {len(truth)} validation clips, whose UAR goes from"
        f" {uar[0]:.3f} to {uar[1]:.3f}"
    )
    if changed > COST * len(truth) or uar[0] - uar[1] > COST:
        raise ValueError(
            f"int8=true changes {words}: expected at most {COST:.0%} of the labels and"
            f" {100 * COST:g} point; leave int8 out"
        )
    log.info("int8 changes %s", words)
    log.info("int8 on %s: largest difference from the checkpoint %s", clips.origin, _shown(found))
    log.info("int8: %.2f MB in place of %.2f", *reversed(megabytes))
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _answer(
    session: onnxruntime.InferenceSession, recording: np.ndarray, classes: Sequence[str]
) -> str:
    (probabilities,) = session.run(None, {"waveform": as_batch([recording])})
    return classes[int(probabilities[0].argmax())]


def _shown(found: Mapping) -> str:
    return (
        f"{found['largest_difference']:.1e}, other labels for {found['other_labels']} of"
        f" {found['clips']}"
    )
