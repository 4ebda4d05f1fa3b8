"""The table over the jobs of a multirun: summary.csv, .json and .html, and what is printed."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table

from ser.config.split_info import STAMPS
from ser.evaluation.jobs import SCORES, varied

CHOICE = "a row chosen by its test score is no longer tested: choose by validation (summary.csv)"


def _keys(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """List what varied; the number of classes too, if a UAR is over more of them than another."""
    counts = {row["classes"] for row in rows} - {None}
    return [*varied(rows), *(["classes"] if len(counts) > 1 else [])]


def write_summary(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write summary.csv, summary.json and summary.html."""
    (folder / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["job"])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "summary.html").write_text(_html(folder, rows))


def _html(folder: Path, rows: Sequence[Mapping[str, object]]) -> str:
    from ser.reporting import plots
    from ser.reporting.html import embed_picture, render_page

    picture = None
    if any(row["uar"] is not None for row in rows):
        plots.jobs(rows, varied(rows), folder / "summary.png")
        picture = embed_picture(folder / "summary.png")
    return render_page(
        "summary.html.j2",
        folder=folder.name,
        rows=[{**row, "state": row["error"] or _state(row)} for row in rows],
        keys=_keys(rows),
        scores=SCORES,
        picture=picture,
        choice=CHOICE if _tempting(rows) else None,
    )


def show_summary(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Print a row a job, with what varied and the scores; below it the errors."""
    keys = _keys(rows)
    console = Console(markup=False)  # [sad] is a value, no style
    shown = SCORES if console.width >= 100 else ("uar",)
    figures = [Column(name, no_wrap=True) for name in (*shown, "95 % of UAR", "status")]
    names = [Column(key, overflow="fold") for key in keys]
    table = Table("job", *names, *figures, box=box.SIMPLE_HEAD)
    for row in rows:
        cells = [str(row["job"]), *("" if row[key] is None else str(row[key]) for key in keys)]
        cells += ["" if row[key] is None else f"{row[key]:.3f}" for key in shown]
        known = row["uar_low"] is not None
        bounds = f"{row['uar_low']:.3f} - {row['uar_high']:.3f}" if known else ""
        table.add_row(*cells, bounds, _state(row))
    console.print(table)
    if _tempting(rows):
        console.print(CHOICE, soft_wrap=True)
    for row in rows:
        if row["error"]:
            console.print(f"job {row['job']}: {row['error']}", soft_wrap=True)
    console.print(f"summary.csv, .json and .html are in {folder}", soft_wrap=True)


def _tempting(rows: Sequence[Mapping[str, object]]) -> bool:
    """Return whether there are several scored rows, one of which could be chosen."""
    return sum(row["uar"] is not None for row in rows) > 1


def _state(row: Mapping[str, object]) -> str:
    stamps = [stamp.upper() for stamp in STAMPS if row[stamp]]
    return " ".join(stamps) or str(row["status"])
