"""A checkpoint as a folder for a model hub: config.json, model.safetensors, README.md."""

import json
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning import LightningModule
from safetensors.torch import save

from ser.checkpoints import ownership
from ser.checkpoints.format import (
    IN_RECIPE,
    LONGEST,
    RECIPE,
    WEIGHTS,
    Checkpoint,
    build_checkpoint,
    files_of,
    read_content,
)
from ser.inference.facts import SCORED, licences, metrics_of

CARD = "model_card.md"
"""Of a run, which becomes the README.md of the folder."""

RISKS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Shares of wrong answers to accept, whose thresholds are told."""

PARTS = ("frontend", "network", "estimator", "members", "weights")
"""Arguments of a model that say what it is made of."""

log = logging.getLogger(__name__)


def check(path: Path, int8: bool = False) -> None:
    """Refuse what `to` and `int8` say, before anything is read.

    Raises:
        ValueError: The folder is not empty, there is none around it, or `int8` is asked for.
    """
    if int8:
        raise ValueError(f"int8=true to={str(path)!r}: expected a file, as to=model.onnx")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(
            f"to={str(path)!r} is there and not empty: expected a new folder, or an empty one"
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(f"to={str(path)!r}: expected a folder within one that is there")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Refuse a path in whose folder nothing can be written.

    Raises:
        ValueError: It is so.
    """
    try:
        tempfile.TemporaryFile(dir=path.absolute().parent).close()
    except OSError as error:
        raise ValueError(
            f"to={str(path)!r}: nothing can be written there ({error.strerror}): expected another"
            " folder"
        ) from error


def write(loaded: Checkpoint, path: Path, encoder: str | None = None) -> None:
    """Write a checkpoint as a folder, which is read again before it is kept.

    Args:
        loaded: The checkpoint.
        path: The folder, new or empty.
        encoder: As of `load_checkpoint`.

    Raises:
        ValueError: The folder holds something, or its recipe is too long.
    """
    check(path)
    content = read_content(loaded.path)
    fitted = {name: content[name] for name in content if name.startswith("estimator")}
    tensors = {
        # In the order of their axes, and in a storage of their own.
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in (content["state_dict"] | fitted).items()
    }
    recipe = describe(loaded) | {"checkpoint": {name: content[name] for name in IN_RECIPE}}
    text = json.dumps(recipe, indent=1)
    if len(text) > LONGEST:
        raise ValueError(
            f"to={str(path)!r}: the recipe and split of ckpt={str(loaded.path)!r} take {len(text)}"
            f" bytes as JSON; expected at most {LONGEST}"
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.mkdir()
    try:
        (partial / RECIPE).write_text(text + "\n")
        (partial / WEIGHTS).write_bytes(save(tensors, {"format": "pt"}))
        (partial / "README.md").write_text(_card(loaded))
        again = build_checkpoint(
            read_content(partial), partial, f"to={str(path)!r}", compiled=True, encoder=encoder
        )
        _check_same(loaded, again.model, path)
        if all(map(ownership.is_own, files_of(loaded.path))):
            for file in files_of(partial):
                ownership.remember(file, file.read_bytes())
        os.replace(partial, path)  # an empty one gives way
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    size = sum(file.stat().st_size for file in path.iterdir())
    log.info("%s: %.2f MB in %d files", path, size / 1e6, len(list(path.iterdir())))


def _card(loaded: Checkpoint) -> str:
    """Return the model card of the run that a checkpoint lies in, or one line that says so."""
    path = loaded.path.absolute().parent.parent / CARD
    with suppress(ValueError, OSError):  # of another run, or of none
        if loaded.path.name == SCORED and metrics_of(loaded):
            return path.read_text().replace(f"checkpoints/{SCORED}", ".")
    log.info("the run of this checkpoint has no %s, and README.md says so", CARD)
    return "The run of this checkpoint has no model card.\n"


def describe(loaded: Checkpoint) -> dict:
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
        "temperature": loaded.model.temperature,
        "thresholds": _thresholds(loaded),
        "protocol": loaded.split_info.protocol,
        "split": asdict(loaded.split_info),
        "licences": licences(loaded),
    }
    with suppress(ValueError, OSError):  # where there is none, or one that is not finished
        metrics = metrics_of(loaded)
        if loaded.path.name == SCORED:
            described["uar"] = {
                "value": metrics["uar"],
                "interval_95": metrics["ci"]["uar"],
                "split": metrics["split"],
                "clips": metrics["n"],
            }
    return described


def _thresholds(loaded: Checkpoint) -> dict[str, float] | None:
    """Return the least probability to answer with by the share of wrong answers to accept.

    Of no probability that is high enough it is above 1; None where there is no calibration.
    """
    if (calibration := loaded.calibration) is None:
        return None
    return {str(risk): min(calibration.threshold(risk), 2.0) for risk in RISKS}


@torch.inference_mode()
def _check_same(loaded: Checkpoint, model: LightningModule, path: Path) -> None:
    """Refuse a folder whose model gives other probabilities.

    Raises:
        ValueError: They differ, if only in one bit.
    """
    generator = torch.Generator().manual_seed(0)
    window = instantiate(loaded.config["data"]["window"], _convert_="all")
    noise = 0.1 * torch.randn(2, window.samples, generator=generator)
    if not torch.equal(loaded.model(noise), model(noise)):
        raise ValueError(
            f"to={str(path)!r} is not written: read again, it gives other probabilities than"
            f" ckpt={str(loaded.path)!r}"
        )
