"""What a checkpoint carries besides the weights, and what may be built from one.

A checkpoint names code to build, so plain containers alone do not make a stranger's file safe:
every `_target_` in it, at any depth, must be one of the classes and functions listed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf

MODELS = ("ser.classifier.EmotionClassifier", "ser.estimator.EstimatorClassifier")
"""What a checkpoint may hold."""

FORMAT = 2
"""Raised when a checkpoint's `ser` entry changes its keys."""

PACKAGES = ("ser.", "torch.nn.", "torch.optim.", "torchaudio.transforms.")
"""Their classes may be built from a checkpoint."""

NAMED = (
    "ser.data.demo.build",
    "lightgbm.LGBMClassifier",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.decomposition.PCA",
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.ensemble.VotingClassifier",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.neighbors.KNeighborsClassifier",
    "sklearn.neural_network.MLPClassifier",
    "sklearn.pipeline.make_pipeline",
    "sklearn.preprocessing.StandardScaler",
    "sklearn.svm.SVC",
    "sklearn.tree.DecisionTreeClassifier",
    "xgboost.XGBClassifier",
)
"""What else may be."""


class Recipe(Callback):
    """Writes the whole recipe into every checkpoint: config, split, protocol, versions.

    Args:
        config: The composed config, resolved, as plain containers.
        split: The clips' name, split and sha256, as columns.
        stamps: Under which protocol and fold, and whether it leaks.

    Raises:
        ValueError: The config names what no checkpoint may build: better said before training.
    """

    def __init__(
        self, config: Mapping, split: Mapping[str, list[str]], stamps: Mapping[str, object]
    ) -> None:
        _check_may_be_built([config["data"], config["model"]], "the config")
        self.entry = {
            "format": FORMAT,
            "config": config,
            "split": split,
            "stamps": stamps,
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
    stamps: Mapping[str, object]
    model: LightningModule


def load(path: str | Path | None, compiled: bool = False) -> Checkpoint:
    """Read a checkpoint and build its model, in eval mode on the CPU.

    Args:
        path: The file.
        compiled: Whether what compiled code reads unchecked may be in it: trees, boosters, nearest
            neighbours.

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
        built = [entry["config"]["data"], arguments]
        target = entry["config"]["model"]["_target_"]
        split = pd.DataFrame(entry["split"]).set_index("name")
    except Exception as error:  # a foreign file can make torch raise anything, also without words
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"ckpt={str(path)!r} is no checkpoint of ser ({reason})") from error
    if entry["format"] != FORMAT:
        raise ValueError(
            f"ckpt={str(path)!r} has format {entry['format']}: this version reads {FORMAT};"
            f" it was written by ser {entry['versions']['ser']}"
        )
    if target not in MODELS:
        raise ValueError(f"ckpt={str(path)!r} holds a {target!r}: expected one of {MODELS}")
    _check_may_be_built(built, f"ckpt={str(path)!r}")
    try:
        model = get_object(target)(**arguments)
        model.compiled = compiled
        model.on_load_checkpoint(content)
        model.load_state_dict(content["state_dict"])
    except (AttributeError, InstantiationException, KeyError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"ckpt={str(path)!r}: the model of its own recipe cannot be built or filled; it was"
            f" written by ser {entry['versions']['ser']} ({reason})"
        ) from error
    return Checkpoint(path, entry["config"], split, entry["stamps"], model.eval())


def plain(config: object) -> dict:
    """Resolve a config into dicts, lists, strings and numbers, which `weights_only` admits."""
    return OmegaConf.to_container(config, resolve=True)


def _check_may_be_built(node: object, source: str) -> None:
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_target(node["_target_"], source)
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            _check_may_be_built(child, source)
    # What is written is resolved; a resolver may create a node after this look, or read a file.
    if isinstance(node, str) and "${" in node:
        raise ValueError(
            f"{source} asks to resolve {node!r}: expected plain values; no code of it was run"
        )


def _check_target(target: str, source: str) -> None:
    if target in NAMED:
        return
    if isinstance(target, str) and target.startswith(PACKAGES):
        found = get_object(target)
        # A path may lead through a module's own imports to any class there is.
        if isinstance(found, type) and f"{found.__module__}.".startswith(PACKAGES):
            return
    raise ValueError(
        f"{source} asks to build {target!r}: expected a class of {', '.join(PACKAGES)} or one of"
        f" {', '.join(NAMED)}; no code of it was run"
    )
