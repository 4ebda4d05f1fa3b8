"""`resume=last.ckpt`: a training that broke off, started again with its overrides and those of now.

What makes the model, its classes or its split is that of the checkpoint.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ser.config.differences import below, leaves
from ser.launch.run_folder import end, ending

if TYPE_CHECKING:
    from ser.checkpoints.format import Checkpoint

log = logging.getLogger(__name__)

FIXED = (
    "data", "ensemble", "ensemble_weights", "fold", "frontend", "model", "normalize", "objective",
    "protocol", "refit", "scheduler", "seed", "select", "window",
)  # fmt: skip
"""Root keys that make the model, its classes or its split, or choose the epoch."""

CHANGEABLE = (
    "data.root", "data.manifest", "data.batch_size", "data.shuffle_block", "data.cache",
    "data.cache_max_gb", "data.on_error", "data.download", "data.servers", "model.augment",
    "model.autocast", "model.channel", "model.label_smoothing", "model.class_weights",
    "model.optimizer",
)  # fmt: skip
"""What may change below them."""

HELD = (
    *FIXED, "augment", "channel", "optimizer", "published", "random_roles", "random_test_size",
)  # fmt: skip
"""Root keys that are those of the checkpoint, unless an override of now changes what may change."""

OF_THE_TRAINING = (
    "accumulate_grad_batches", "gradient_clip_algorithm", "gradient_clip_val",
    "limit_train_batches", "max_epochs", "precision",
)  # fmt: skip
"""So are these keys of the trainer."""

OF_THE_START = ("cache", "cache_max_gb", "download", "servers")
"""Keys of the data that are not: they say what is written, deleted and sent."""

MAPPINGS = ("cache", "callbacks", "logger")
"""Keys that a recipe holds besides `ser.launch.settings.RECIPES`."""


class Resume(Callback):
    """Makes a start with `resume=` the run that broke off, in its own folder."""

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Replace the composed config by that of the run that broke off."""
        # A further process of trainer=ddp may start from the recipe that the first has recorded.
        if config.get("resume") is None or not _asked(config):
            return
        if "n_trials" in config:
            end(
                "resume= goes on with one run of train.py: a study goes on when its own command is"
                " given again"
            )
        with ending():
            take_up(config)

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Refuse it for several jobs."""
        if _asked(config):
            end(
                "resume= goes on with one run: leave -m and what varies out; a sweep that broke off"
                " goes on with resume_sweep=<its folder>"
            )


def take_up(config: DictConfig) -> None:
    """Replace a composed config by the recipe of its `resume`.

    Args:
        config: As composed by Hydra, with its own part; changed in place.

    Raises:
        ValueError: There is nothing to go on with, or the overrides change what must stay.
    """
    from ser.checkpoints import ownership
    from ser.checkpoints.format import load_checkpoint
    from ser.training.classifier import EmotionClassifier

    loaded = load_checkpoint(config.resume, key="resume")
    if not isinstance(loaded.model, EmotionClassifier):
        raise ValueError(
            f"resume={str(loaded.path)!r} holds a classical model, which is fitted once, or a"
            " committee: there is nothing to go on with; start a new run, or that of a committee"
            " once more with its own overrides and hydra.run.dir="
        )
    if loaded.overrides is None:
        raise ValueError(
            f"resume={str(loaded.path)!r} was written by a ser without resume= and does not say how"
            " its run was started: start a new run"
        )
    check_recipe(loaded)
    overwrite, mine = config.overwrite, ownership.is_own(loaded.path)
    if not mine:
        log.warning(
            "resume=%s was not written here:"
            " trainer, callbacks and loggers are those of this start",
            loaded.path,
        )
    before = list(loaded.overrides) if mine else []
    given = [text for text in config.hydra.overrides.task if not _is_resume(text)]
    own = loaded.path.resolve().parent
    named = any(text.startswith("hydra.run.dir=") for text in config.hydra.overrides.hydra)
    here = not named or Path(config.hydra.run.dir).resolve() == own.parent
    own_folder = own.name == "checkpoints" and here
    if own_folder:
        _check_folder(loaded.path.resolve())
    with read_write(config.hydra), open_dict(config), open_dict(config.hydra):
        if mine:
            config.name = loaded.config["name"]  # names the folder
        folder = own.parent if own_folder else Path(config.hydra.run.dir).absolute()
        config.hydra.run.dir = str(folder)
        config.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(copy.deepcopy(config))  # it makes read-only what it gets
        recipe = _recipe(loaded, config.hydra.job.config_name, before, given)
        _continue_wandb(recipe, own.parent)
        for key in [key for key in config if key != "hydra"]:
            del config[key]
        # The candidates have been compared: the recipe is that of the winner, or of its refit. What
        # this start may overwrite is no matter of the checkpoint.
        own_keys = {"resume": str(loaded.path.resolve()), "overwrite": overwrite}
        config.update({**recipe, **own_keys, "select": None, "refit": False})
        config.hydra.overrides.task = [*before, *given]


def check_recipe(loaded: "Checkpoint") -> None:
    """Refuse to train by a recipe that is none, or names other code.

    Raises:
        ValueError: With what it asks for; nothing of it has been built.
    """
    from ser.launch import settings

    source, config = f"resume={str(loaded.path)!r}", loaded.config
    if lacking := sorted({"folder", "name", *settings.RECIPES, *MAPPINGS} - {*config}):
        raise ValueError(f"{source} lacks {', '.join(lacking)}: expected the recipe of a run")
    if wrong := [key for key in MAPPINGS if not isinstance(config[key], Mapping)]:
        raise ValueError(f"{source} holds no mapping as {wrong[0]}: expected the recipe of a run")
    if not all(isinstance(text, str) for text in loaded.overrides or ()):
        raise ValueError(f"{source} names overrides that are no text")
    settings.check_types(config, source)


def _recipe(
    loaded: "Checkpoint", name: str, before: Sequence[str], given: Sequence[str]
) -> DictConfig:
    """Compose the config by which a training goes on, with what the checkpoint holds of it.

    Args:
        loaded: The checkpoint.
        name: Of the primary config.
        before: The overrides with which it was started; none of somebody else's file.
        given: Those of now.

    Raises:
        ValueError: They do not compose, or change what must stay.
    """
    from ser.training.selection import compose_run

    source = f"resume={str(loaded.path)!r} cannot go on with"
    began, composed = (
        OmegaConf.to_container(
            compose_run(name, overrides, f"{source} {' '.join(given)}"), resolve=True
        )
        for overrides in (before, [*before, *given])
    )
    there, old, new = (dict(leaves(config)) for config in (loaded.config, began, composed))
    # What is said holds, also where it is what the config has by itself.
    said = [override.key_or_group for override in OverridesParser.create().parse_overrides(given)]
    said = [f"{place}{key}" for key in said for place in ("", "data.", "model.")]
    removed = [path for path in old if path not in new]
    changed = [
        path
        for path, value in new.items()
        if path not in old or old[path] != value or below(path, said)
    ]
    other = [path for path in changed if path not in there or there[path] != new[path]]
    for path in (*removed, *other):
        free = below(path, CHANGEABLE) and not path.endswith("optimizer._target_")
        if below(path, (*FIXED, "callbacks.best")) and not free:
            raise ValueError(
                f"{source} another {path}: the model, its classes, its split and what chooses the"
                " epoch stay as they began; start a new run"
            )
    recipe = OmegaConf.create(composed)
    recipe.update({key: loaded.config[key] for key in HELD if key in loaded.config})
    trainer = loaded.config["trainer"]
    recipe.trainer.update({key: trainer[key] for key in OF_THE_TRAINING if key in trainer})
    for path in removed:
        parent, _, key = path.rpartition(".")
        if OmegaConf.is_dict(node := OmegaConf.select(recipe, parent)):
            node.pop(key, None)
    for path in changed:
        OmegaConf.update(recipe, path, new[path], merge=False, force_add=True)
    recipe.data.update({key: composed["data"].get(key) for key in OF_THE_START})
    if OmegaConf.is_dict(recipe.data.root):  # the embedded corpus, built where it is asked
        recipe.data.root.directory = recipe.data.cache
    return recipe


def _asked(config: DictConfig) -> bool:
    return any(map(_is_resume, config.hydra.overrides.task))


def _is_resume(override: str) -> bool:
    return override.lstrip("+").startswith("resume=")


def _check_folder(path: Path) -> None:
    """Refuse to go on in a folder where that would spoil something."""
    last, run = path.with_name("last.ckpt"), path.parent.parent
    if path.name != last.name and last.is_file():
        raise ValueError(
            f"resume={str(path)!r} would go back behind {last.name} beside it: expected that one,"
            " or hydra.run.dir= for another folder"
        )
    hydra = run / ".hydra"
    if (hydra / "config.yaml").is_file() and not (hydra / "hydra.yaml").is_file():
        raise ValueError(
            f"resume={str(path)!r} is part of the run in {run.parent}: start that once more with"
            " its own overrides and hydra.run.dir=, it goes on by itself"
        )


def _continue_wandb(recipe: Mapping, folder: Path) -> None:
    """Log into the same run of W&B, if it was online: an offline one cannot be continued."""
    runs = sorted(folder.glob("wandb/run-*"))
    for logger in recipe["logger"].values():
        if runs and logger.get("_target_") == "ser.reporting.wandb.wandb_logger":
            logger.update({"id": runs[-1].name.rpartition("-")[2], "resume": "allow"})
