"""What the seed changes, beside what the choice of actors changes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ser.statistics import seed_spread


def collect(
    folder: Path, jobs: Sequence[Mapping[str, object]], varied: Sequence[str]
) -> list[dict[str, object]]:
    """Give a row for each setting that was run with several seeds.

    A row holds what else varied, the number of `seeds`, the `mean` UAR over them, its standard
    deviation over seeds `seed_sd`, and its standard error over actors `actor_se`.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary.
        varied: The keys that vary in it, `seed` among them.
    """
    settings = defaultdict(list)
    for job in jobs:
        if job["status"] == "finished":
            settings[tuple((key, job[key]) for key in varied if key != "seed")].append(job["job"])
    rows = []
    for setting, numbers in settings.items():
        tables = [pd.read_csv(folder / str(job) / "predictions.csv", dtype=str) for job in numbers]
        same = all(table.path.equals(tables[0].path) for table in tables)
        if len(tables) < 2 or not same:
            continue
        spread = seed_spread(
            tables[0].label.to_numpy(str),
            [table.prediction.to_numpy(str) for table in tables],
            tables[0].actor.to_numpy(str),
            "uar",
        )
        rows.append({**dict(setting), "seeds": len(tables), **spread})
    return rows
