"""Systems that others have published, beside what they score here: on a random split and not."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = (
    "preset", "metric", "published", "random", "random_low", "random_high", "protocol", "disjoint",
    "disjoint_low", "disjoint_high", "note",
)  # fmt: skip


class Sources(Callback):
    """Ends a sweep over presets and protocols with a row a preset."""

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Write sources.csv, and sources.md with the same table for people."""
        from ser import summary

        folder = Path(config.hydra.sweep.dir)
        rows = collect(folder, summary.collect(folder))
        write(folder, rows)
        table = Table(*_header(rows), box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*_cells(row))
        console = Console(markup=False)
        console.print(table)
        console.print(f"sources.csv and sources.md are in {folder}", soft_wrap=True)


def collect(folder: Path, jobs: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Give a row a preset: what its source reports, and the same metric of its jobs.

    The metric is the one that `published` of the preset names, over the preset's own classes, else
    UAR. `random` is the leaky job's, `disjoint` that of the job under another `protocol`, each with
    its interval by actor. `note` is that of the preset, or why a job has no score.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary; `experiment` is among what varied.
    """
    rows: dict[str, dict[str, object]] = {}
    for job in jobs:
        run = folder / str(job["job"])
        config = OmegaConf.load(run / ".hydra" / "config.yaml")
        published = dict(config.get("published") or {})
        note = published.pop("note", None)
        metric, value = next(iter(published.items()), ("uar", None))
        row = rows.setdefault(config.name, dict.fromkeys(COLUMNS))
        row |= {"preset": config.name, "metric": metric, "published": value}
        row["note"] = row["note"] or note
        if job["status"] != "finished":
            row["note"] = f"not measured: {job['error'] or job['status']}"
            continue
        metrics = json.loads((run / "metrics.json").read_text())
        column = "random" if metrics["leaky"] else "disjoint"
        low, high = metrics["ci"][metric] or (None, None)
        row |= {column: metrics[metric], f"{column}_low": low, f"{column}_high": high}
        if column == "disjoint":
            row["protocol"] = metrics["protocol"]
    return list(rows.values())


def write(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write sources.csv and sources.md."""
    with (folder / "sources.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    lines = [_header(rows), ["---"] * len(_header(rows)), *map(_cells, rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (folder / "sources.md").write_text(text)


def _header(rows: Sequence[Mapping[str, object]]) -> list[str]:
    protocols = sorted({row["protocol"] for row in rows if row["protocol"]})
    disjoint = ", ".join(protocols) or "actors disjoint"
    return ["preset", "metric", "published", "random split", disjoint, "note"]


def _cells(row: Mapping[str, object]) -> list[str]:
    known = "-" if row["published"] is None else f"{row['published']:.2f}"
    scores = [_score(row, column) for column in ("random", "disjoint")]
    return [str(row["preset"]), str(row["metric"]), known, *scores, str(row["note"] or "")]


def _score(row: Mapping[str, object], column: str) -> str:
    if row[column] is None:
        return "-"
    if row[f"{column}_low"] is None:
        return f"{row[column]:.3f}"
    return f"{row[column]:.3f} [{row[f'{column}_low']:.3f}, {row[f'{column}_high']:.3f}]"
