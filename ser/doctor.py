"""Compare recordings with the official releases: `python -m ser.doctor data.root=<folder>`.

Exit code 0: as released. 1: usable, with remarks. 2: not usable, or not to be examined.
"""

import json
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # it imports what --help has no need of
    from ser.integrity.diagnosis import Diagnosis

SHOWN = 3
"""Findings of a kind that are named; doctor.json has all."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="doctor")
def main(cfg: DictConfig) -> None:
    """Compose the config and examine what lies below data.root."""
    # Imported here, so that --help answers at once.
    from ser.integrity.diagnosis import diagnose
    from ser.launch.run import Run, one_line_errors

    code = 2  # also where nothing could be examined: 1 would say usable
    try:
        with suppress(SystemExit), one_line_errors(), Run(cfg.folder) as run:
            diagnosis = diagnose(**OmegaConf.to_container(cfg.data, resolve=True))
            write(diagnosis, run.folder)
            show(diagnosis, run.folder)
            code = diagnosis.exit_code
    except Exception:  # noqa: BLE001 - a bug: of it too Hydra would make a 1
        traceback.print_exc()
    if code:
        raise SystemExit(code)


def write(diagnosis: "Diagnosis", folder: Path) -> None:
    """Write doctor.json and doctor.html, which stands alone."""
    from ser.integrity import loudness
    from ser.reporting import html as page

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
        loudness.draw(diagnosis.levels, picture)
    html = page.render(
        "doctor.html.j2",
        groups=list(diagnosis.groups()),
        place=diagnosis.place,
        picture=page.embed(picture) if diagnosis.levels else None,
        **content,
    )
    (folder / "doctor.html").write_text(html, encoding="utf-8")


def show(diagnosis: "Diagnosis", folder: Path) -> None:
    """Print what is there, what was found in it, and what to do."""
    console = Console(markup=False, highlight=False)  # a path may hold brackets
    console.print(str(diagnosis.root), soft_wrap=True)
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
            console.print(f"    {text}; the release: {found.expected}", soft_wrap=True)
        if len(group) > SHOWN:
            console.print("    ...")
    console.print(diagnosis.verdict, soft_wrap=True)
    console.print(f"doctor.json and doctor.html are in {folder}", soft_wrap=True)


if __name__ == "__main__":
    main()
