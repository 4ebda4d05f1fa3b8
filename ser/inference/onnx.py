"""Export to one ONNX file, kept where its answers are those of the checkpoint."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.helper import set_model_props
from onnxruntime.quantization import QuantType, quantize_dynamic

from ser.checkpoints.format import Checkpoint
from ser.evaluation.metrics import scores
from ser.inference import graph
from ser.inference.facts import facts
from ser.inference.parity import Clips, Trial, as_batch

LARGEST = 1e-4
"""Difference of a probability from the checkpoint's."""

COST = 0.01
"""Share of labels that int8 may change, and of the UAR that it may take, on validation clips."""

log = logging.getLogger(__name__)


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
    model = graph.build(loaded.model, trial.window)
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
        told = facts(loaded) | {"measured": notes}
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
        np.array([_answer(session, each, trial.classes) for each in clips.validation])
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
