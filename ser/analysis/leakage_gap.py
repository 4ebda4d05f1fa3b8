"""The leak premium: what a score gains when the speakers who test were also trained on."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Column, Table

log = logging.getLogger(__name__)


class LeakPremium(Callback):
    """Ends a sweep over protocols with the gap between the leaky one and each of the others."""

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Compare the jobs; write leak_premium.csv, .json and .png beside them."""
        from ser import summary

        folder = Path(config.hydra.sweep.dir)
        jobs = summary.collect(folder)
        varied = [key for key in summary.varied(jobs) if key != "protocol"]
        rows = collect(folder, jobs, varied)
        if rows:
            write(folder, rows, varied)
        show(folder, rows, varied)


def collect(
    folder: Path, jobs: Sequence[Mapping[str, object]], varied: Sequence[str]
) -> list[dict[str, object]]:
    """Give a row for each honest job and the leaky job that differs from it in protocol alone.

    A row holds what else varied, `protocol`, the number of clips `n` and of `speakers`, `uar` with
    its bounds, `leaky_uar` on the same clips, and the `premium` leaky_uar - uar with its bounds,
    paired by speaker (see `ser.evaluation.statistics.paired_difference`), `p`, and `p_holm` over
    the jobs that one leaky job is compared with. A job of other classes, or with clips that the
    leaky one did not score, is named in the log and left out: its gap would be of more than the
    leak.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary.
        varied: The keys beside `protocol` that vary in it.
    """
    from ser.compare import compare_several

    finished = [job for job in jobs if job["status"] == "finished"]
    rows = []
    for leaky in (job for job in finished if job["leaky"]):
        honest = [
            job
            for job in finished
            if not job["leaky"] and all(job[key] == leaky[key] for key in varied)
        ]
        folders = [folder / str(job["job"]) for job in honest if _comparable(folder, leaky, job)]
        honest = {str(folder / str(job["job"])): job for job in honest}
        for pair in compare_several(folder / str(leaky["job"]), folders):
            job, found = honest[pair["b"]["folder"]], pair["scores"]["uar"]
            low, high = found["interval"] or (None, None)
            rows.append(
                {key: job[key] for key in varied}
                | {
                    "protocol": pair["b"]["protocol"],
                    "n": pair["n"],
                    "speakers": len(pair["speakers"]),
                    "uar": found["b"],
                    "uar_low": job["uar_low"],
                    "uar_high": job["uar_high"],
                    "leaky_protocol": pair["a"]["protocol"],
                    "leaky_uar": found["a"],
                    "premium": found["difference"],
                    "premium_low": low,
                    "premium_high": high,
                    "p": found["p"],
                    "p_holm": found["p_holm"],
                }
            )
    return rows


def _comparable(folder: Path, leaky: Mapping, honest: Mapping) -> bool:
    import pandas as pd

    runs = [folder / str(job["job"]) for job in (leaky, honest)]
    of_leaky, of_honest = (pd.read_csv(run / "predictions.csv", dtype=str) for run in runs)
    same = set(of_honest.filter(like="p_")) == set(of_leaky.filter(like="p_"))
    honest_clips, leaky_clips = (
        set(zip(table.path, table.sha256, strict=True)) for table in (of_honest, of_leaky)
    )
    if same and honest_clips <= leaky_clips:
        return True
    log.warning("job %s has other clips or classes than the leaky job: no premium", honest["job"])
    return False


def write(folder: Path, rows: Sequence[Mapping[str, object]], varied: Sequence[str]) -> None:
    """Write leak_premium.csv, leak_premium.json and leak_premium.png."""
    import pandas as pd

    from ser.reporting import plots

    (folder / "leak_premium.json").write_text(json.dumps(rows, indent=2) + "\n")
    pd.DataFrame(rows).to_csv(folder / "leak_premium.csv", index=False)
    plots.leak_premium(rows, varied, folder / "leak_premium.png")


def show(folder: Path, rows: Sequence[Mapping[str, object]], varied: Sequence[str]) -> None:
    """Print the gaps, or that there is nothing to compare."""
    console = Console(markup=False)
    if not rows:
        console.print("no leak premium: expected a finished job of protocol=random and of another")
        return
    interval = Column("95 % by speaker", no_wrap=True)
    table = Table(
        *varied, "protocol", "clips", "speakers", "UAR", "leaky", "premium", interval, "p"
    )
    for row in rows:
        known = row["premium_low"] is not None
        table.add_row(
            *(str(row[key]) for key in (*varied, "protocol", "n", "speakers")),
            f"{row['uar']:.3f}",
            f"{row['leaky_uar']:.3f}",
            f"{row['premium']:+.3f}",
            f"{row['premium_low']:+.3f} to {row['premium_high']:+.3f}" if known else "",
            f"{row['p_holm']:.4f}",
        )
    console.print(table)
    console.print(f"leak_premium.csv, .json and .png are in {folder}", soft_wrap=True)
