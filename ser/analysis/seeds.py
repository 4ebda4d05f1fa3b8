"""Spread of scores over seeds beside that over speakers."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ser.config.split_info import STAMPS
from ser.evaluation.results import RunResult
from ser.evaluation.statistics import seed_spread, speakers_of

log = logging.getLogger(__name__)


def collect_spreads(
    folder: Path, jobs: Sequence[Mapping[str, object]], varied: Sequence[str]
) -> list[dict[str, object]]:
    """Return a row for each setting that was run with several seeds.

    A row holds what else varied, whether it is `leaky`, the number of `seeds`, the `mean` UAR over
    them, its standard deviation over seeds `seed_sd`, and its standard error over speakers
    `speaker_se`. Jobs that scored different clips are named in the log and left out.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary.
        varied: The keys that vary in it, `seed` among them.
    """
    settings = defaultdict(list)
    for job in jobs:
        if job["status"] == "finished" and job["uar"] is not None:
            settings[tuple((key, job[key]) for key in varied if key != "seed")].append(job)
    rows = []
    for setting, of_setting in settings.items():
        if len(of_setting) < 2:
            continue
        runs = [RunResult.read(folder / str(job["job"])) for job in of_setting]
        tables = [run.predictions for run in runs]
        if any(not table.sha256.equals(tables[0].sha256) for table in tables):
            numbers = [job["job"] for job in of_setting]
            log.warning("jobs %s scored different clips: no spread over their seeds", numbers)
            continue
        spread = seed_spread(
            tables[0].label.to_numpy(str),
            [table.prediction.to_numpy(str) for table in tables],
            speakers_of(tables[0]),
            "uar",
        )
        stamps = {stamp: of_setting[0][stamp] for stamp in STAMPS}
        rows.append({**dict(setting), **stamps, "seeds": len(tables), **spread})
    return rows


def write_spreads(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write seeds.csv."""
    table = pd.DataFrame(rows, dtype=object)
    table.to_csv(folder / "seeds.csv", index=False, lineterminator="\r\n")


def show_spreads(rows: Sequence[Mapping[str, object]], varied: Sequence[str]) -> None:
    """Print the spread over seeds beside that over speakers."""
    others = [key for key in varied if key != "seed"]
    table = Table(*others, "seeds", "mean UAR", "sd over seeds", "se over speakers", "")
    for row in rows:
        table.add_row(
            *(str(row[key]) for key in (*others, "seeds")),
            f"{row['mean']:.3f}",
            f"{row['seed_sd']:.3f}",
            "" if row["speaker_se"] is None else f"{row['speaker_se']:.3f}",
            " ".join(stamp.upper() for stamp in STAMPS if row[stamp]),
        )
    Console(markup=False).print(table)  # [sad] is a value, no style
