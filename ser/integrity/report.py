"""The report of a diagnosis: doctor.json, doctor.html, and what is printed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib import pyplot as plt
from rich import box
from rich.console import Console
from rich.table import Table

from ser.integrity.diagnosis import Diagnosis
from ser.reporting.html import embed_picture, render_page
from ser.reporting.plots import save

SHOWN = 3
"""Findings of a kind that are named; doctor.json has all."""


def write_report(diagnosis: Diagnosis, folder: Path) -> None:
    """Write doctor.json and doctor.html, which stands alone."""
    rows = [
        asdict(found) | {"path": diagnosis.place(found), "advice": found.advice}
        for found in diagnosis.findings
    ]
    content = {
        "root": str(diagnosis.root),
        "verdict": diagnosis.verdict,
        "exit_code": diagnosis.exit_code,
        "clips": diagnosis.counts,
        "findings": rows,
        "levels": diagnosis.levels,
        "unknown_names": [str(path.relative_to(diagnosis.root)) for path in diagnosis.unknown],
    }
    (folder / "doctor.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    picture = folder / "levels.png"
    if diagnosis.levels:
        draw_levels(diagnosis.levels, picture)
    page = render_page(
        "doctor.html.j2",
        groups=diagnosis.groups(),
        place=diagnosis.place,
        against=diagnosis.against,
        picture=embed_picture(picture) if diagnosis.levels else None,
        **content,
    )
    (folder / "doctor.html").write_text(page, encoding="utf-8")


def show_report(diagnosis: Diagnosis, folder: Path) -> None:
    """Print what is there, what was found in it, and what to do."""
    console = Console(markup=False, highlight=False)  # a path may hold brackets
    console.print(str(diagnosis.root), soft_wrap=True)
    if diagnosis.counts:
        table = Table(*diagnosis.counts[0], box=box.SIMPLE_HEAD, collapse_padding=True)
        for row in diagnosis.counts:
            table.add_row(*map(str, row.values()))
        console.print(table)
    for group in diagnosis.groups():
        first = group[0]
        count = f", {len(group)} times" if len(group) > 1 else ""
        console.print(f"{first.severity}: {first.kind}{count} ({first.advice})", soft_wrap=True)
        for found in group[:SHOWN]:
            place = diagnosis.place(found)
            text = f"{place}: {found.what}" if place else found.what
            if found.clips:
                text += f" ({', '.join(found.clips[:SHOWN])}{', ...' * (len(found.clips) > SHOWN)})"
            console.print(f"    {text}; {diagnosis.against}: {found.expected}", soft_wrap=True)
        if len(group) > SHOWN:
            console.print("    ...")
    console.print(diagnosis.verdict, soft_wrap=True)
    console.print(f"doctor.json and doctor.html are in {folder}", soft_wrap=True)


def draw_levels(table: Sequence[Mapping], path: Path) -> None:
    """Draw the median peak of each speaker over the range that the release's speakers have."""
    kinds = sorted({(row["corpus"], row["channel"]) for row in table})
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(2.5 + 4 * len(kinds), 3.5), layout="constrained", squeeze=False
    )
    for axes, kind in zip(panels[0], kinds, strict=True):
        rows = [row for row in table if (row["corpus"], row["channel"]) == kind]
        if bounds := rows[0]["release_peaks_dbfs"]:
            axes.axhspan(*bounds, color="tab:green", alpha=0.2, label="peaks, release")
        for key, mark in (("peak_dbfs", "o"), ("rms_dbfs", "_")):
            axes.plot([row[key] for row in rows], mark, label=key.split("_")[0])
        places = range(0, len(rows), -(-len(rows) // 30))  # more names would overlap
        axes.set_xticks(places, [rows[place]["speaker"] for place in places], fontsize=7)
        axes.tick_params(axis="x", rotation=90 if len(rows) > 24 else 0)
        axes.set(title=" ".join(kind), xlabel="speaker", ylabel="median level (dBFS)")
        axes.legend(fontsize=8)
    save(figure, path)
