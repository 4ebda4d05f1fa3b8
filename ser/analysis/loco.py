"""Matrix of corpora: what a model trained on each, or on all others, scores on each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ser.evaluation.results import read_metrics
from ser.reporting import plots

CORPORA = ("protocol.train", "protocol.test")
OTHERS = "all others"
"""The row of models that were trained on every corpus but the one that tests."""


def collect_cells(
    folder: Path, jobs: Sequence[Mapping[str, object]], varied: Sequence[str]
) -> list[dict[str, object]]:
    """Return a cell for each finished job.

    It holds what else varied, the corpora `train` and `test`, the numbers of clips `n` and of
    `speakers` that were scored, and `uar` with its bounds by speaker, None below three speakers.
    Where both are one corpus, other speakers of it test than train.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary.
        varied: The keys beside the corpora that vary in it.
    """
    cells = []
    for job in jobs:
        if job["status"] != "finished":
            continue
        metrics = read_metrics(folder / str(job["job"]))
        low, high = metrics["ci"]["uar"] or (None, None)
        train, test = (str(job[key]).strip("[]'") for key in CORPORA)
        cell = {key: job[key] for key in varied}
        cell |= {"train": OTHERS if job[CORPORA[0]] == "null" else train, "test": test}
        cell |= {"n": metrics["n"], "speakers": len(metrics["speakers"])}
        cells.append(cell | {"uar": metrics["uar"], "uar_low": low, "uar_high": high})
    return cells


def write_cells(folder: Path, cells: Sequence[Mapping[str, object]], varied: Sequence[str]) -> None:
    """Write loco.csv, loco.json and loco.png."""
    (folder / "loco.json").write_text(json.dumps(cells, indent=2) + "\n")
    pd.DataFrame(cells).to_csv(folder / "loco.csv", index=False)
    plots.corpus_matrix(_by_setting(cells, varied), folder / "loco.png")


def show_cells(folder: Path, cells: Sequence[Mapping[str, object]], varied: Sequence[str]) -> None:
    """Print a matrix for each setting, or that no job has finished."""
    console = Console(markup=False)
    if not cells:
        console.print("no matrix of corpora: no job has finished")
        return
    for setting, own in _by_setting(cells, varied).items():
        tested = list(dict.fromkeys(cell["test"] for cell in own))
        table = Table(
            "trained on", *(f"tested on {name}" for name in tested), title=setting or None
        )
        for train in dict.fromkeys(cell["train"] for cell in own):
            row = {cell["test"]: label(cell) for cell in own if cell["train"] == train}
            table.add_row(train, *(row.get(name, "") for name in tested))
        console.print(table)
    console.print("UAR, 95 % by speaker; on its own diagonal a corpus is parted by speaker")
    console.print(f"loco.csv, .json and .png are in {folder}", soft_wrap=True)


def label(cell: Mapping[str, object]) -> str:
    """Return a score and its interval in few characters."""
    if cell["uar_low"] is None:
        return f"{cell['uar']:.3f}"
    return f"{cell['uar']:.3f} [{cell['uar_low']:.3f}, {cell['uar_high']:.3f}]"


def _by_setting(
    cells: Sequence[Mapping[str, object]], varied: Sequence[str]
) -> dict[str, list[Mapping[str, object]]]:
    settings: dict[str, list[Mapping[str, object]]] = {}
    for cell in cells:
        name = ", ".join(f"{key}={cell[key]}" for key in varied)
        settings.setdefault(name, []).append(cell)
    return settings
