"""A training that broke off: where it stands, and what goes on from there."""

import csv
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig

from ser.checkpoints import atomic_io as checkpoint_io
from ser.checkpoints import format as checkpoint
from ser.checkpoints import training_state
from ser.checkpoints.format import Checkpoint, read_content
from ser.config.differences import differing
from ser.training import folds

WAITING = "metrics.kept.csv"
"""Rows of finished epochs, until they are in the metrics.csv of the run that goes on."""
DAMAGED = "metrics.damaged.csv"
"""What could not be read of an earlier start's metrics.csv."""

log = logging.getLogger(__name__)


def find(cfg: DictConfig, recipe: Mapping) -> Checkpoint | None:
    """Give the checkpoint from which a run goes on; None where it starts from nothing.

    It is that of `resume`. A fold, a candidate or a job of a sweep that is started once more goes
    on by itself where an earlier start under the same recipe has left its last.ckpt that is not
    to be overwritten; so does the winner of `select`.

    Args:
        cfg: Of the run.
        recipe: The same as it stands in a checkpoint.
    """
    if cfg.resume is not None:
        return checkpoint.load(cfg.resume, key="resume")
    last = Path(cfg.folder) / "checkpoints" / "last.ckpt"
    by_itself = folds.is_part(cfg) or cfg.resume_sweep is not None or cfg.select is not None
    if not by_itself or cfg.overwrite or not last.is_file():
        return None
    try:
        loaded = checkpoint.load(last)
    except ValueError as error:
        log.warning("%s: starting from nothing", error)
        return None
    return None if differing(moved(loaded, Path(cfg.folder)), recipe) else loaded


def moved(loaded: Checkpoint, folder: Path) -> dict:
    """Give the recipe of a checkpoint with its run folder replaced by another."""
    return _moved(loaded.config, loaded.config["folder"], str(folder))


def place(loaded: Checkpoint, folder: Path, recipe: Mapping) -> None:
    """Bring what a training goes on from into its folder: last.ckpt, best.ckpt beside it.

    Args:
        loaded: Where it stands.
        folder: The checkpoints of the run that goes on.
        recipe: Of that run: the numbers of its optimiser win over those of the checkpoint.
    """
    source = loaded.path.parent
    if source.resolve() != folder.resolve():
        (folder / "best.ckpt").unlink(missing_ok=True)  # of another run
        if (source / "best.ckpt").is_file():
            _check_best(source / "best.ckpt", loaded)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / "best.ckpt", folder / "best.ckpt.tmp")
            os.replace(folder / "best.ckpt.tmp", folder / "best.ckpt")
    elif (folder / "best.ckpt").is_file():
        _check_best(folder / "best.ckpt", loaded)
    content = training_state.checked(read_content(loaded.path), loaded.model, folder)
    for key, state in list(content["callbacks"].items()):
        best = state.get("best_model_path")
        if best and state["monitor"] is not None and not _is_of(Path(best), loaded.epoch):
            del content["callbacks"][key]
    before, after = (config["model"]["optimizer"] for config in (loaded.config, recipe))
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    if changed:
        _change_optimizer(content, before, changed)
        # Once: the file is of the new recipe from here on, if no epoch should follow.
        content["ser"]["config"] = recipe
    checkpoint_io.write(content, folder / "last.ckpt")


def _check_best(best: Path, loaded: Checkpoint) -> None:
    """Refuse a best.ckpt that is not of the run of the last.ckpt beside it."""
    other = checkpoint.load(best)
    parts = ("_target_", "frontend", "network")  # what may change between starts says nothing
    models = [
        [each.model.classes, *(each.config["model"].get(part) for part in parts)]
        for each in (other, loaded)
    ]
    if models[0] != models[1]:
        raise ValueError(
            f"{best} holds another model than {loaded.path}: expected those of one run; remove the"
            " former, then the best of the epochs from here on is kept"
        )


def _is_of(best: Path, epoch: int) -> bool:
    """Say whether the best so far is there: one of a later epoch was written just before a kill."""
    if not best.is_file():
        log.warning("%s is missing: the best of the epochs from here on is kept", best)
        return False
    return read_content(best)["epoch"] <= epoch


def _change_optimizer(content: Mapping, before: Mapping, changed: Mapping) -> None:
    """Put other numbers into the state of the optimiser; the schedule keeps its phase."""
    groups = [group for state in content["optimizer_states"] for group in state["param_groups"]]
    for group in groups:
        group.update({key: value for key, value in changed.items() if key != "lr"})
    if "lr" not in changed:
        return
    scale = changed["lr"] / before["lr"]
    for group in groups:
        group["lr"] *= scale
        group["initial_lr"] = changed["lr"]
    for schedule in content["lr_schedulers"]:
        schedule["base_lrs"] = [changed["lr"]] * len(schedule["base_lrs"])
        schedule["_last_lr"] = [rate * scale for rate in schedule["_last_lr"]]


def finished_rows(loaded: Checkpoint, folder: Path) -> list[dict[str, str]]:
    """Give the rows of metrics.csv up to the epoch at which a training stands.

    Args:
        loaded: Where it stands.
        folder: Of the run that goes on, where the file waits under another name for `keep`:
            Lightning deletes the one that it finds.
    """
    path = loaded.path.parent.parent / "metrics.csv"
    waiting = folder / WAITING
    if path.parent.resolve() == folder.resolve() and path.is_file() and not waiting.is_file():
        os.replace(path, waiting)
    if waiting.is_file():
        path = waiting
    if not path.is_file():
        return []
    try:
        return [row for row in _rows(path) if row["epoch"] and int(row["epoch"]) <= loaded.epoch]
    except (ValueError, KeyError, csv.Error) as error:
        aside = ""
        if path == waiting:
            os.replace(path, folder / DAMAGED)
            aside = f", set aside as {folder / DAMAGED}"
        log.warning("%s is damaged (%s)%s: the curves begin anew", path, error, aside)
        return []


def _rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of metrics.csv, without one that a kill has cut short."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if any(None in row for row in rows):
        raise ValueError(f"a row has more than {len(reader.fieldnames)} values")
    return [row for row in rows if None not in row.values()]


def keep(rows: list[dict[str, str]], folder: Path, loggers: Iterable[Logger]) -> None:
    """Put rows of earlier epochs into the new metrics.csv."""
    waiting = folder / WAITING
    writers = [logger.experiment for logger in loggers if isinstance(logger, CSVLogger)]
    for writer in writers:
        if rows:
            writer.metrics_keys = sorted(rows[0])
            with Path(writer.metrics_file_path).open("w", newline="") as file:
                table = csv.DictWriter(file, writer.metrics_keys)
                table.writeheader()
                table.writerows(rows)
    if writers:
        waiting.unlink(missing_ok=True)
    elif waiting.exists():
        os.replace(waiting, folder / "metrics.csv")


def _moved(node: object, old: str, new: str) -> object:
    """Replace a folder in every path of plain containers."""
    if isinstance(node, Mapping):
        return {_moved(key, old, new): _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_moved(value, old, new) for value in node]
    if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
        return new + node[len(old) :]
    return node
