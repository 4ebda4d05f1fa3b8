"""The checkpoint: what it carries besides the weights, and how it is read and built."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from hydra.utils import get_object, instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf

from ser.checkpoints import contents, ownership, renames, sizes, trust
from ser.config.split_info import SplitInfo
from ser.features.frontend import build_frontend

FORMAT = 3
"""Raised when a checkpoint's `ser` entry changes its keys; 2 names clips without their corpus."""


class Recipe(Callback):
    """Writes the whole recipe into every checkpoint: config, split, protocol, versions.

    Args:
        config: The composed config, resolved, as plain containers.
        split: The clips' identity, split and sha256, as columns.
        split_info: Under which protocol and fold, and whether it leaks.
        overrides: What the run was started with.

    Raises:
        ValueError: The config names what no checkpoint may build: better said before training.
    """

    def __init__(
        self,
        config: Mapping,
        split: Mapping[str, list[str]],
        split_info: SplitInfo,
        overrides: Sequence[str] = (),
    ) -> None:
        for slot in ("data", "model"):
            trust.check(config[slot], slot, slot)
        self.entry = {
            "format": FORMAT,
            "config": config,
            "split": split,
            "stamps": asdict(split_info),
            "overrides": list(overrides),
            "versions": {name: version(name) for name in ("ser", "torch", "torchaudio", "soxr")},
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict
    ) -> None:
        """Add the entry `ser`."""
        checkpoint["ser"] = self.entry


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read and found safe to build from.

    Attributes:
        path: The file.
        config: The recipe of its run, as plain containers.
        split: The clips' `split` and `sha256` by identity.
        split_info: Under which protocol and fold, and whether it leaks.
        overrides: What the run was started with; None where no training can go on from the file.
        epoch: The last that was finished, from 0.
        model: In eval mode on the CPU.
        clips_at_once: That can be scored in one batch.
    """

    path: Path
    config: Mapping
    split: pd.DataFrame
    split_info: SplitInfo
    overrides: Sequence[str] | None
    epoch: int
    model: LightningModule
    clips_at_once: int


def load(path: str | Path | None, compiled: bool = False, key: str = "ckpt") -> Checkpoint:
    """Read a checkpoint and build its model, in eval mode on the CPU.

    Args:
        path: The file.
        compiled: Whether what compiled code reads unchecked may be in it: trees, boosters, nearest
            neighbours.
        key: What names the file, for the message.

    Raises:
        ValueError: It is missing, no checkpoint of this program, or names code that may not run.
    """
    usual = "last.ckpt" if key == "resume" else "best.ckpt"
    if path is None or not (path := Path(path).expanduser()).is_file():
        raise ValueError(
            f"{key}={path and str(path)!r} is not a file: expected"
            f" {key}=outputs/.../checkpoints/{usual}, with quotes inside quotes for a path with"
            " commas, brackets, = or letters outside ASCII"
        )
    source = f"{key}={str(path)!r}"
    try:
        content = contents.read(path)
    except Exception as error:  # a foreign file can make torch raise anything, also without words
        raise ValueError(f"{source} is no checkpoint of ser ({_reason(error)})") from error
    return build(content, path, source, compiled)


def build(content: Mapping, path: Path, source: str, compiled: bool = False) -> Checkpoint:
    """Check the content of a checkpoint and build its model, in eval mode on the CPU.

    Args:
        content: As `contents.read` gives it.
        path: The file that it is from.
        source: How messages name the file.
        compiled: As of `load`.

    Raises:
        ValueError: It is no checkpoint of this program, or names code that may not run.
    """
    try:
        entry, arguments = content["ser"], content["hyper_parameters"]
        number, writer = int(entry["format"]), entry["versions"]["ser"]
        if not re.fullmatch(r"[\w.+-]{1,50}", writer):
            raise ValueError("it was written by no version of ser")
    except Exception as error:
        raise ValueError(f"{source} is no checkpoint of ser ({_reason(error)})") from error
    if number not in (2, FORMAT):
        raise ValueError(
            f"{source} has format {number}: this version reads {FORMAT}; it was written by ser"
            f" {writer}: evaluate it with that version, or train again"
        )
    try:
        config, split = entry["config"], contents.read_split(entry["split"])
        contents.check_size([config, arguments, entry.get("overrides")])
        config, arguments = renames.rename(config), renames.rename(arguments)
        split_info = contents.read_split_info(entry["stamps"])
        contents.check_parts(arguments["classes"], content["epoch"])
        target, data, state = config["model"]["_target_"], config["data"], content["state_dict"]
        own = {key: value for key, value in arguments.items() if key != "classes"}
        built = {"_target_": target, **own}
    except Exception as error:
        raise ValueError(f"{source} is no checkpoint of ser ({_reason(error)})") from error
    for slot, recipe in (("data", data), ("model", config["model"]), ("model", built)):
        trust.check(recipe, slot, slot, source)
    try:
        window = instantiate(data["window"], _convert_="all")
        sizes.check_window(own["frontend"], window.samples)
        contents.check_stored(state, source)
        network = None
        if "network" in own:
            frontend = build_frontend(own["frontend"], own["network"])
            network = sizes.build_network(own["network"], arguments["classes"], frontend)
            contents.check_weights(network, state, source)
        model = get_object(target)(**arguments)
        clips = sizes.clips_at_once(window.samples, model.frontend, network)
        if "estimator" in content:
            contents.check_stored({"estimator": content["estimator"]}, source)
            model.compiled = compiled or ownership.is_own(path)
        model.on_load_checkpoint(content)
        model.load_state_dict(state)
    except Exception as error:  # so can what does not fit together
        if isinstance(error, ValueError) and source in str(error):
            raise
        raise ValueError(
            f"{source}: the model of its own recipe cannot be built or filled; it was written by"
            f" ser {writer} ({_reason(error)})"
        ) from error
    return Checkpoint(
        path,
        config,
        split,
        split_info,
        entry.get("overrides"),
        content["epoch"],
        model.eval(),
        clips,
    )


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return f"it lacks {reason}" if isinstance(error, KeyError) else reason


def plain(config: object) -> dict:
    """Resolve a config into dicts, lists, strings and numbers, which `weights_only` admits."""
    return OmegaConf.to_container(config, resolve=True)
