"""The table over the jobs of a multirun; `python -m ser.summary pool=<folder>` pools its folds."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.table import Column, Table

SCORES = ("accuracy", "uar", "macro_f1")
OUTCOME = (
    "status", "error", "objective", "leaky", "transductive",
    *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")),
)  # fmt: skip


@hydra.main(version_base="1.3", config_path="../conf", config_name="summary")
def main(cfg: DictConfig) -> None:
    """Pool the folds of a multirun into one result."""
    # Imported here, so that --help answers at once.
    from ser import report
    from ser.pool import pool
    from ser.run import one_line_errors

    with one_line_errors():
        if cfg.pool is None:
            raise ValueError("pool=null: expected the folder of a multirun over fold=0,1,...")
        folder = Path(str(cfg.pool)).expanduser()
        pool(folder)
        report.show(folder)


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
        keys = varied(rows)
        if "seed" in keys:
            from ser import seeds  # with pandas, which no start should wait for

            if spreads := seeds.collect(folder, rows, keys):
                seeds.write(folder, spreads)
                seeds.show(spreads, keys)
        # Hydra tells callbacks nothing of jobs, and its own exit code is 0 whatever they did.
        if not rows or any(row["status"] != "finished" for row in rows):
            raise SystemExit(1)


def collect(folder: Path) -> list[dict[str, object]]:
    """Give one row a job: its number, what varied, status, error and scores."""
    jobs = sorted(folder.glob("*/.hydra/overrides.yaml"), key=lambda path: _number(path))
    overrides = [
        dict(text.split("=", 1) for text in OmegaConf.load(path) if "=" in text) for path in jobs
    ]
    keys = sorted(
        key
        for key in {key for job in overrides for key in job}
        if len({job.get(key) for job in overrides}) > 1
    )
    return [
        {"job": _number(path)} | {key: job.get(key, "") for key in keys} | _outcome(path.parents[1])
        for path, job in zip(jobs, overrides, strict=True)
    ]


def varied(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """List the keys that the jobs differ in."""
    return [key for key in rows[0] if key not in ("job", *OUTCOME)] if rows else []


def _number(path: Path) -> int:
    name = path.parents[1].name
    return int(name) if name.isdigit() else -1


def _outcome(job: Path) -> dict[str, object]:
    status = {"status": "missing", "error": None, "objective": None}
    if (job / "status.json").exists():
        status = json.loads((job / "status.json").read_text())
    outcome = dict.fromkeys(OUTCOME) | status
    if (job / "metrics.json").exists():
        metrics = json.loads((job / "metrics.json").read_text())
        outcome |= {key: metrics[key] for key in ("leaky", "transductive")}
        for score in SCORES:
            low, high = metrics["ci"][score] or (None, None)
            outcome |= {score: metrics[score], f"{score}_low": low, f"{score}_high": high}
    return outcome


def write(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write summary.csv and summary.json."""
    (folder / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["job"])
        writer.writeheader()
        writer.writerows(rows)


def show(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Print a row a job: what varied, the scores with the bounds of UAR, or the error."""
    keys = varied(rows)
    interval = Column("95 % of UAR", no_wrap=True)
    table = Table("job", *keys, *SCORES, interval, "status")
    for row in rows:
        scores = ["" if row[key] is None else f"{row[key]:.3f}" for key in SCORES]
        known = row["uar_low"] is not None
        bounds = f"{row['uar_low']:.3f} - {row['uar_high']:.3f}" if known else ""
        table.add_row(
            str(row["job"]),
            *(str(row[key]) for key in keys),
            *scores,
            bounds,
            row["error"] or _state(row),
        )
    console = Console(markup=False)  # [sad] is a value, no style
    console.print(table)
    console.print(f"summary.csv and summary.json are in {folder}", soft_wrap=True)


def _state(row: Mapping[str, object]) -> str:
    stamps = [stamp.upper() for stamp in ("leaky", "transductive") if row[stamp]]
    return " ".join(stamps) or str(row["status"])


if __name__ == "__main__":
    main()
