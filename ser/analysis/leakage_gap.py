"""Leakage gap: what a score gains when the speakers who test were also trained on."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Column, Table

log = logging.getLogger(__name__)


class LeakageGap(Callback):
    """Ends a sweep over protocols with the gap between the leaky one and each of the others."""

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Compare the jobs; write leakage_gap.csv, .json and .png beside them."""
        from ser.evaluation import jobs

        folder = Path(config.hydra.sweep.dir)
        found = jobs.collect(folder)
        varied = [key for key in jobs.varied(found) if key != "protocol"]
        rows = collect_gaps(folder, found, varied)
        if rows:
            write_gaps(folder, rows, varied)
        show_gaps(folder, rows, varied)


def collect_gaps(
    folder: Path, jobs: Sequence[Mapping[str, object]], varied: Sequence[str]
) -> list[dict[str, object]]:
    """Return a row for each honest job and the leaky job that differs from it in protocol alone.

    A row holds what else varied, `protocol`, the number of clips `n` and of `speakers`, `uar` with
    its bounds, `leaky_uar` on the same clips, and the `gap` leaky_uar - uar with its bounds,
    paired by speaker (see `ser.evaluation.statistics.paired_difference`), `p`, and `p_holm` over
    the jobs that one leaky job is compared with. A job of other classes, or with clips that the
    leaky one did not score, is named in the log and left out: its gap would be of more than the
    leak.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary.
        varied: The keys beside `protocol` that vary in it.
    """
    from ser.analysis.comparison import compare_several
    from ser.evaluation.results import RunResult

    finished = [job for job in jobs if job["status"] == "finished" and job["uar"] is not None]
    rows = []
    for leaky in (job for job in finished if job["leaky"]):
        of_leaky = RunResult.read(folder / str(leaky["job"]))
        classes, heard = set(of_leaky.metrics["classes"]), set(of_leaky.predictions.sha256.items())
        honest, runs = [], []
        for job in finished:
            if job["leaky"] or any(job[key] != leaky[key] for key in varied):
                continue
            run = RunResult.read(folder / str(job["job"]))
            same = set(run.metrics["classes"]) == classes
            if same and heard.issuperset(run.predictions.sha256.items()):
                honest.append(job)
                runs.append(run)
            else:
                log.warning("%s has other clips or classes than the leaky job: no gap", run.folder)
        for job, pair in zip(honest, compare_several(of_leaky, runs), strict=True):
            found = pair["scores"]["uar"]
            low, high = found["interval"] or (None, None)
            row = {key: job[key] for key in varied} | {"protocol": pair["b"]["protocol"]}
            row |= {"n": pair["n"], "speakers": len(pair["speakers"])}
            row |= {"uar": found["b"], "uar_low": job["uar_low"], "uar_high": job["uar_high"]}
            row |= {"leaky_protocol": pair["a"]["protocol"], "leaky_uar": found["a"]}
            row |= {"gap": found["difference"], "gap_low": low, "gap_high": high}
            rows.append(row | {"p": found["p"], "p_holm": found["p_holm"]})
    return rows


def write_gaps(folder: Path, rows: Sequence[Mapping[str, object]], varied: Sequence[str]) -> None:
    """Write leakage_gap.csv, leakage_gap.json and leakage_gap.png."""
    import pandas as pd

    from ser.reporting import plots

    (folder / "leakage_gap.json").write_text(json.dumps(rows, indent=2) + "\n")
    pd.DataFrame(rows).to_csv(folder / "leakage_gap.csv", index=False)
    plots.leakage_gap(rows, varied, folder / "leakage_gap.png")


def show_gaps(folder: Path, rows: Sequence[Mapping[str, object]], varied: Sequence[str]) -> None:
    """Print the gaps, or that there is nothing to compare."""
    console = Console(markup=False)
    if not rows:
        console.print("no leakage gap: expected a finished job of protocol=random and of another")
        return
    interval = Column("95 % by speaker", no_wrap=True)
    table = Table(*varied, "protocol", "clips", "speakers", "UAR", "leaky", "gap", interval, "p")
    for row in rows:
        known = row["gap_low"] is not None
        bounds = f"{row['gap_low']:+.3f} to {row['gap_high']:+.3f}" if known else ""
        cells = [str(row[key]) for key in (*varied, "protocol", "n", "speakers")]
        cells += [f"{row['uar']:.3f}", f"{row['leaky_uar']:.3f}", f"{row['gap']:+.3f}", bounds]
        table.add_row(*cells, f"{row['p_holm']:.4f}")
    console.print(table)
    console.print(f"leakage_gap.csv, .json and .png are in {folder}", soft_wrap=True)
