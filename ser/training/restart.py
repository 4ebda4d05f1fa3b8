"""The restart of a training that broke off: from which checkpoint, with which curves."""

import csv
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.csv_logs import CSVLogger, ExperimentWriter
from omegaconf import DictConfig

from ser.checkpoints import training_state
from ser.checkpoints.atomic_io import WholeFiles
from ser.checkpoints.format import Checkpoint, load_checkpoint, read_content
from ser.config.differences import differing
from ser.training import folds

CURVES, DAMAGED = "metrics.csv", "metrics.damaged.csv"
"""The file; what could not be read of an earlier start's."""

log = logging.getLogger(__name__)


class CurvesLogger(CSVLogger):
    """Logs to metrics.csv after the rows that it holds."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = _Appending(self.log_dir)
        return self._experiment


class _Appending(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Take the columns of the file over.

        Lightning's own deletes the file (github.com/Lightning-AI/pytorch-lightning/pull/19446).
        """
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])


def find(cfg: DictConfig, recipe: Mapping) -> Checkpoint | None:
    """Return the checkpoint from which a run goes on; None where it starts from nothing.

    It is that of `resume`. A fold, a candidate, a member or a job of a sweep that is started once
    more goes on by itself where an earlier start under the same recipe has left its last.ckpt that
    is not to be overwritten; so does what trains after `select` or for `refit`.

    Args:
        cfg: Of the run.
        recipe: The same as it stands in a checkpoint.
    """
    if cfg.resume is not None:
        return load_checkpoint(cfg.resume, key="resume")
    last = Path(cfg.folder) / "checkpoints" / "last.ckpt"
    chosen = cfg.select is not None or cfg.refit
    by_itself = folds.is_part(cfg) or cfg.resume_sweep is not None or chosen
    if not by_itself or cfg.overwrite or not last.is_file():
        return None
    try:
        loaded = load_checkpoint(last)
    except ValueError as error:
        log.warning("%s: starting from nothing", error)
        return None
    began = _moved(loaded.config, loaded.config["folder"], str(cfg.folder))
    return None if differing(began, recipe) else loaded


def place(loaded: Checkpoint, folder: Path, entry: Mapping) -> None:
    """Bring what a training goes on from into its folder: last.ckpt, best.ckpt beside it.

    Args:
        loaded: Where it stands.
        folder: The checkpoints of the run that goes on.
        entry: What that run writes into its checkpoints, see `ser.checkpoints.format.Recipe`.
    """
    best = loaded.path.with_name("best.ckpt")
    if best.is_file():
        _check_best(best, loaded)
    if best.parent.resolve() != folder.resolve():
        (folder / "best.ckpt").unlink(missing_ok=True)  # of another run
        if best.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(best, folder / "best.ckpt.tmp")
            os.replace(folder / "best.ckpt.tmp", folder / "best.ckpt")
    content = training_state.checked(read_content(loaded.path), loaded.model, folder)
    for key, state in list(content["callbacks"].items()):
        best = state.get("best_model_path")
        if best and state["monitor"] is not None and not _is_of(Path(best), loaded.epoch):
            del content["callbacks"][key]
    content["ser"] = entry  # if no epoch should follow
    WholeFiles().save_checkpoint(content, folder / "last.ckpt")


def keep_curves(loaded: Checkpoint, folder: Path) -> None:
    """Keep the rows of metrics.csv up to the epoch at which a training stands, and no others.

    Args:
        loaded: Where it stands.
        folder: Of the run that goes on.
    """
    source, target = loaded.path.parent.parent / CURVES, folder / CURVES
    here = source.resolve() == target.resolve()
    if not here:
        target.unlink(missing_ok=True)  # of another run
    if not source.is_file():
        return
    try:
        with source.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        if any(None in row for row in rows):
            raise ValueError(f"a row has more than {len(reader.fieldnames)} values")
        rows = [row for row in rows if None not in row.values()]  # as one that a kill has cut short
        rows = [row for row in rows if row["epoch"] and int(row["epoch"]) <= loaded.epoch]
    except (ValueError, KeyError, csv.Error) as error:
        aside = f", set aside as {folder / DAMAGED}" if here else ""
        log.warning("%s is damaged (%s)%s: the curves begin anew", source, error, aside)
        if here:
            os.replace(target, folder / DAMAGED)
        return
    partial = target.with_suffix(".tmp")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, reader.fieldnames or ())
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, target)


def _check_best(best: Path, loaded: Checkpoint) -> None:
    """Refuse a best.ckpt that is not of the run of the last.ckpt beside it."""
    other = load_checkpoint(best)
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
    """Return whether the best so far is there: one of a later epoch was written before a kill."""
    if not best.is_file():
        log.warning("%s is missing: the best of the epochs from here on is kept", best)
        return False
    return read_content(best)["epoch"] <= epoch


def _moved(node: object, old: str, new: str) -> object:
    """Replace a folder in every path of plain containers."""
    if isinstance(node, Mapping):
        return {_moved(key, old, new): _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_moved(value, old, new) for value in node]
    if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
        return new + node[len(old) :]
    return node
