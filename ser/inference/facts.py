"""What an exported model says of itself, in an ONNX file's metadata or in config.json."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ser.checkpoints.format import Checkpoint
from ser.corpora.scan import CORPORA
from ser.evaluation.results import read_metrics

PARTS = ("frontend", "network", "estimator", "members", "weights")
"""Arguments of a model that say what it is made of."""


def facts(loaded: Checkpoint) -> dict:
    """Return by name, as plain containers, what a checkpoint is, and what it was measured to do."""
    data, arguments = loaded.config["data"], loaded.model.hparams
    described = {
        "library_name": "ser",
        "ser_version": version("ser"),
        "classes": loaded.model.classes,
        "sample_rate": data["sample_rate"],
        "window_seconds": data["window"]["seconds"],
        "window": data["window"],
        "model": {
            "_target_": loaded.config["model"]["_target_"],
            **{name: arguments[name] for name in PARTS if name in arguments},
        },
        "temperature": getattr(loaded.model, "temperature", None),
        "protocol": loaded.split_info.protocol,
        "split": asdict(loaded.split_info),
        "licence": licence(loaded),
    }
    if (folder := run_of(loaded)) is not None:
        with suppress(ValueError, OSError):  # of a run that is not finished
            metrics = read_metrics(folder)
            described["uar"] = {
                "value": metrics["uar"],
                "interval_95": metrics["ci"]["uar"],
                "split": metrics["split"],
                "clips": metrics["n"],
            }
    return described


def licence(loaded: Checkpoint) -> str:
    """Return under which licences the recordings are that a checkpoint was trained on."""
    if isinstance(loaded.config["data"].get("root"), Mapping):
        return "trained on the synthetic clips of data=demo, which nobody spoke"
    trained = loaded.split.index[loaded.split.split != "test"]
    names = sorted({clip.partition("/")[0] for clip in trained})
    known = [CORPORA[name].licence for name in names if name in CORPORA]
    others = [name for name in names if name not in CORPORA]
    if others:
        known.append(f"{', '.join(others)}: ask who listed the clips for their licence")
    return "; ".join(["trained on recordings that have licences of their own", *known])


def run_of(loaded: Checkpoint) -> Path | None:
    """Return the folder of the run that a checkpoint lies in; None where it lies elsewhere."""
    return loaded.path.parent.parent if loaded.path.parent.name == "checkpoints" else None
