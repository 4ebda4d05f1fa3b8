"""The leak premium: what a score gains when the actors who test were also trained on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table


class LeakPremium(Callback):
    """Ends a sweep over protocols with the gap between the leaky one and each of the others."""

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Compare the jobs; write leak_premium.csv, .json and .png beside them."""
        folder = Path(config.hydra.sweep.dir)
        rows = collect(folder)
        if rows:
            write(folder, rows)
        show(folder, rows)


def collect(folder: Path) -> list[dict[str, object]]:
    """Give a row for each honest job and the leaky job that differs from it in protocol alone.

    A row holds what else varied, `protocol`, the number of clips `n` and of `actors`, `uar` with
    its bounds, `leaky_uar`, and the `premium` leaky_uar - uar with its bounds and `p`, paired by
    actor on the same clips (see `ser.statistics.paired_difference`).
    """
    from ser import summary
    from ser.compare import compare

    jobs = [job for job in summary.collect(folder) if job["status"] == "finished"]
    varied = [key for key in summary.varied(jobs) if key != "protocol"]
    rows = []
    for leaky in (job for job in jobs if job["leaky"]):
        for honest in (job for job in jobs if not job["leaky"]):
            if any(leaky[key] != honest[key] for key in varied):
                continue
            pair = compare(folder / str(leaky["job"]), folder / str(honest["job"]))
            found = pair["scores"]["uar"]
            low, high = found["interval"] or (None, None)
            rows.append(
                {key: honest[key] for key in varied}
                | {
                    "protocol": pair["b"]["protocol"],
                    "n": pair["n"],
                    "actors": len(pair["actors"]),
                    "uar": found["b"],
                    "uar_low": honest["uar_low"],
                    "uar_high": honest["uar_high"],
                    "leaky_protocol": pair["a"]["protocol"],
                    "leaky_uar": found["a"],
                    "premium": found["difference"],
                    "premium_low": low,
                    "premium_high": high,
                    "p": found["p"],
                }
            )
    return rows


def write(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write leak_premium.csv, leak_premium.json and leak_premium.png."""
    import pandas as pd

    from ser import plots

    (folder / "leak_premium.json").write_text(json.dumps(rows, indent=2) + "\n")
    pd.DataFrame(rows).to_csv(folder / "leak_premium.csv", index=False)
    plots.leak_premium(rows, folder / "leak_premium.png")


def show(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Print the gaps, or that there is nothing to compare."""
    console = Console(markup=False)
    if not rows:
        console.print("no leak premium: expected a finished job of protocol=random and of another")
        return
    measured = list(rows[0])[list(rows[0]).index("protocol") :]
    others = [key for key in rows[0] if key not in measured]
    table = Table(*others, "protocol", "UAR", "leaky UAR", "premium", "95 % by actor", "p")
    for row in rows:
        known = row["premium_low"] is not None
        table.add_row(
            *(str(row[key]) for key in others),
            str(row["protocol"]),
            f"{row['uar']:.3f}",
            f"{row['leaky_uar']:.3f}",
            f"{row['premium']:+.3f}",
            f"{row['premium_low']:+.3f} to {row['premium_high']:+.3f}" if known else "",
            f"{row['p']:.4f}",
        )
    console.print(table)
    console.print(f"leak_premium.csv, .json and .png are in {folder}", soft_wrap=True)
