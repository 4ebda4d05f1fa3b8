"""What a checkpoint carries besides the weights, and what may be built from one.

A checkpoint names code to build, so plain containers alone do not make a stranger's file safe:
every `_target_` in it, at any depth, must be one of the classes and functions listed here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from hydra.utils import get_object
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf

FORMAT = 1
"""Raised when a checkpoint's `ser` entry changes its keys."""

PACKAGES = ("ser.", "torch.nn.", "torch.optim.", "torchaudio.transforms.")
"""Their classes may be built from a checkpoint."""

NAMED = (
    "ser.data.demo.build",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.pipeline.make_pipeline",
    "sklearn.preprocessing.StandardScaler",
    "sklearn.svm.SVC",
)
"""What else may be."""


class Recipe(Callback):
    """Writes the whole recipe into every checkpoint: config, split, versions.

    Args:
        config: The composed config, resolved, as plain containers.
        split: The clips' name, split and sha256, as columns.
    """

    def __init__(self, config: Mapping, split: Mapping[str, list[str]]) -> None:
        self.entry = {
            "format": FORMAT,
            "config": config,
            "split": split,
            "versions": {name: version(name) for name in ("ser", "torch", "torchaudio", "soxr")},
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict
    ) -> None:
        """Add the entry `ser`."""
        checkpoint["ser"] = self.entry


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read and found safe to build from."""

    path: Path
    config: Mapping
    split: pd.DataFrame
    model: LightningModule


def load(path: str | Path | None) -> Checkpoint:
    """Read a checkpoint and build its model, in eval mode on the CPU.

    Raises:
        ValueError: It is missing, no checkpoint of this program, or names code that may not run.
    """
    if path is None or not (path := Path(path).expanduser()).is_file():
        raise ValueError(
            f"ckpt={path and str(path)!r} is not a file: expected"
            " ckpt=outputs/.../checkpoints/best.ckpt, with quotes inside quotes for a path with"
            " commas, brackets, = or letters outside ASCII"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        entry, arguments = content["ser"], content["hyper_parameters"]
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"ckpt={str(path)!r} is no checkpoint of ser ({reason})") from error
    if entry["format"] != FORMAT:
        raise ValueError(
            f"ckpt={str(path)!r} has format {entry['format']}: this version reads {FORMAT};"
            f" it was written by ser {entry['versions']['ser']}"
        )
    for target in _targets([entry["config"]["data"], entry["config"]["model"], arguments]):
        _check_may_be_built(target, path)
    model = get_object(entry["config"]["model"]["_target_"])(**arguments)
    model.on_load_checkpoint(content)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        mismatch = str(error).splitlines()[1].strip()
        raise ValueError(
            f"ckpt={str(path)!r}: the weights do not fit the model of its own recipe ({mismatch});"
            f" it was written by ser {entry['versions']['ser']}"
        ) from error
    split = pd.DataFrame(entry["split"]).set_index("name")
    return Checkpoint(path, entry["config"], split, model.eval())


def plain(config: object) -> dict:
    """Resolve a config into dicts, lists, strings and numbers, which `weights_only` admits."""
    return OmegaConf.to_container(config, resolve=True)


def _targets(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _targets(child)


def _check_may_be_built(target: str, path: Path) -> None:
    if target in NAMED:
        return
    if target.startswith(PACKAGES):
        found = get_object(target)
        # A path may lead through a module's own imports to any class there is.
        if isinstance(found, type) and f"{found.__module__}.".startswith(PACKAGES):
            return
    raise ValueError(
        f"ckpt={str(path)!r} asks to build {target!r}: expected a class of"
        f" {', '.join(PACKAGES)[:-1]} or one of {', '.join(NAMED)}; no code of it was run"
    )
