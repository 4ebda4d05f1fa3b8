"""The table over the jobs of a multirun."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.table import Column, Table

SCORES = ("accuracy", "uar", "macro_f1")


class Summary(Callback):
    """Ends every multirun with a table, and with exit code 1 where a job did not finish."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Settle on one folder: each job would resolve a name that varies for itself."""
        folder = str(config.hydra.sweep.dir).replace("'", "\\'")
        with open_dict(config.hydra):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{folder}'")

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Read the jobs' folders; write summary.csv and summary.json beside them."""
        folder = Path(config.hydra.sweep.dir)
        rows = collect(folder)
        write(folder, rows)
        show(folder, rows)
        # Hydra tells callbacks nothing of jobs, and its own exit code is 0 whatever they did.
        if not rows or any(row["status"] != "finished" for row in rows):
            raise SystemExit(1)


def collect(folder: Path) -> list[dict[str, object]]:
    """Give one row a job: its number, what varied, status, error and scores."""
    jobs = sorted(folder.glob("*/.hydra/overrides.yaml"), key=lambda path: _number(path))
    overrides = [
        dict(text.split("=", 1) for text in OmegaConf.load(path) if "=" in text) for path in jobs
    ]
    varied = sorted(
        key
        for key in {key for job in overrides for key in job}
        if len({job.get(key) for job in overrides}) > 1
    )
    return [
        {"job": _number(path)}
        | {key: job.get(key, "") for key in varied}
        | _outcome(path.parents[1])
        for path, job in zip(jobs, overrides, strict=True)
    ]


def _number(path: Path) -> int:
    name = path.parents[1].name
    return int(name) if name.isdigit() else -1


def _outcome(job: Path) -> dict[str, object]:
    status = {"status": "missing", "error": None}
    if (job / "status.json").exists():
        status = json.loads((job / "status.json").read_text())
    scores = dict.fromkeys(SCORES)
    bounds = dict.fromkeys(f"{score}_{end}" for score in SCORES for end in ("low", "high"))
    if (job / "metrics.json").exists():
        metrics = json.loads((job / "metrics.json").read_text())
        scores = {score: metrics[score] for score in SCORES}
        for score in SCORES:
            low, high = metrics["ci"][score] or (None, None)
            bounds |= {f"{score}_low": low, f"{score}_high": high}
    return status | scores | bounds


def write(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write summary.csv and summary.json."""
    (folder / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["job"])
        writer.writeheader()
        writer.writerows(rows)


def show(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Print a row a job: what varied, the scores with the bounds of UAR, or the error."""
    varied = [key for key in rows[0] if key not in ("job", "error", "status")] if rows else []
    varied = [key for key in varied if not key.startswith(SCORES)]
    interval = Column("95 % of UAR", no_wrap=True)
    table = Table("job", *varied, *SCORES, interval, "status")
    for row in rows:
        scores = ["" if row[key] is None else f"{row[key]:.3f}" for key in SCORES]
        known = row["uar_low"] is not None
        bounds = f"{row['uar_low']:.3f} - {row['uar_high']:.3f}" if known else ""
        table.add_row(
            str(row["job"]),
            *(str(row[key]) for key in varied),
            *scores,
            bounds,
            row["error"] or row["status"],
        )
    console = Console(markup=False)  # [sad] is a value, no style
    console.print(table)
    console.print(f"summary.csv and summary.json are in {folder}", soft_wrap=True)
