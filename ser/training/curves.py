"""The curves of a training: metrics.csv, whose rows follow those of the start before."""

import csv
import logging
import os
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.csv_logs import CSVLogger, ExperimentWriter

from ser.checkpoints.format import Checkpoint

NAME, DAMAGED = "metrics.csv", "metrics.damaged.csv"
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


def keep(loaded: Checkpoint, folder: Path) -> None:
    """Keep the rows of metrics.csv up to the epoch at which a training stands, and no others.

    Args:
        loaded: Where it stands.
        folder: Of the run that goes on.
    """
    source, target = loaded.path.parent.parent / NAME, folder / NAME
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
