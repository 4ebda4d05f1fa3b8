"""Published systems beside what they score here, on a random split and with speakers disjoint."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

METRICS = ("accuracy", "uar", "macro_f1", "weighted_f1")
COLUMNS = (
    "preset", "metric", "published", "random", "random_low", "random_high", "protocol", "disjoint",
    "disjoint_low", "disjoint_high", "note",
)  # fmt: skip


class Sources(Callback):
    """Ends a sweep over presets and protocols with a row a preset and metric.

    Args:
        votes: Presets that are no run but a vote of others: by name, the weights of its `members`
            and what was `published`.
    """

    def __init__(self, votes: Mapping[str, Mapping[str, Mapping]]) -> None:
        self.votes = votes

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Add the votes; write sources.csv, and sources.md with the same table for people."""
        from ser.evaluation.jobs import collect

        folder = Path(config.hydra.sweep.dir)
        runs = [_of_job(folder / str(job["job"]), job) for job in collect(folder)]
        runs += [vote for name, vote in self.votes.items() for vote in _vote(name, vote, runs)]
        rows = collect_scores(runs)
        write_scores(folder, rows)
        table = Table(*_header(rows), box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*_cells(row))
        console = Console(markup=False)
        console.print(table)
        console.print(f"sources.csv and sources.md are in {folder}", soft_wrap=True)


@dataclass(frozen=True)
class Scored:
    """A preset under one protocol.

    Attributes:
        preset: Its name, and what else varied.
        published: By metric, what its source reports; `note` may stand beside.
        folder: Where it wrote.
        metrics: The content of metrics.json; None where it did not finish.
        error: Why it did not.
    """

    preset: str
    published: Mapping[str, object]
    folder: Path
    metrics: Mapping | None
    error: str | None = None


def _of_job(folder: Path, job: Mapping[str, object]) -> Scored:
    from ser.evaluation.jobs import varied
    from ser.evaluation.results import read_metrics

    others = [job[key] for key in varied([job]) if key not in ("protocol", "experiment")]
    config = OmegaConf.load(folder / ".hydra" / "config.yaml")
    published = OmegaConf.to_container(config).get("published") or {}
    preset = " ".join(map(str, [job.get("experiment") or config.name, *others]))
    if job["status"] != "finished":
        return Scored(preset, published, folder, None, str(job["error"] or job["status"]))
    return Scored(preset, published, folder, read_metrics(folder))


def _vote(name: str, preset: Mapping[str, Mapping], runs: Sequence[Scored]) -> list[Scored]:
    """Average the members under each protocol that all of them finished."""
    from ser.evaluation.results import RunResult, vote
    from ser.reporting.run_report import write_result

    by_protocol = defaultdict(dict)
    for run in runs:
        if run.metrics and run.preset in preset["members"]:
            by_protocol[run.metrics["protocol"]][run.preset] = run.folder
    asked = any(run.preset in preset["members"] for run in runs)
    scored = []
    for protocol, folders in by_protocol.items():
        if len(folders) == len(preset["members"]):
            folder = next(iter(folders.values())).parent / f"{name}_{protocol}"
            folder.mkdir(exist_ok=True)
            weights = [preset["members"][member] for member in folders]
            voted = vote([RunResult.read(run) for run in folders.values()], weights, folder)
            write_result(voted)
            scored.append(Scored(name, preset["published"], folder, voted.metrics))
    if asked and not scored:
        error = f"{' and '.join(preset['members'])} did not both finish"
        return [Scored(name, preset["published"], Path(name), None, error)]
    return scored


def collect_scores(runs: Sequence[Scored]) -> list[dict[str, object]]:
    """Return a row a preset, metric and protocol of disjoint speakers.

    The metrics are those that `published` names, over the preset's own classes, else UAR. `random`
    is that of the leaky run, `disjoint` that of the run under `protocol`, each with its interval by
    speaker. `note` is that of the preset, or why a run has no score.
    """
    rows = []
    for preset in dict.fromkeys(run.preset for run in runs):
        own = [run for run in runs if run.preset == preset]
        published = own[0].published
        metrics = {key: value for key, value in published.items() if key in METRICS}
        failed = [f"not measured: {run.error}" for run in own if run.error]
        note = "; ".join(filter(None, [published.get("note"), *dict.fromkeys(failed)]))
        leaky = [run for run in own if run.metrics and run.metrics["leaky"]]
        honest = [run for run in own if run.metrics and not run.metrics["leaky"]]
        for metric, value in (metrics or {"uar": None}).items():
            row = dict.fromkeys(COLUMNS) | {"preset": preset, "metric": metric, "note": note}
            row["published"] = value
            for run in leaky:
                row |= _scores(run, "random", metric)
            rows += [
                row | _scores(run, "disjoint", metric) | {"protocol": run.metrics["protocol"]}
                for run in honest
            ] or [row]
    return rows


def _scores(run: Scored, column: str, metric: str) -> dict[str, float | None]:
    low, high = run.metrics["ci"][metric] or (None, None)
    return {column: run.metrics[metric], f"{column}_low": low, f"{column}_high": high}


def write_scores(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write sources.csv and sources.md."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    table.to_csv(folder / "sources.csv", index=False, lineterminator="\r\n")
    lines = [_header(rows), ["---"] * len(_header(rows)), *map(_cells, rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (folder / "sources.md").write_text(text)


def _header(rows: Sequence[Mapping[str, object]]) -> list[str]:
    protocols = sorted({row["protocol"] for row in rows if row["protocol"]})
    disjoint = ", ".join(protocols) or "speakers disjoint"
    return ["preset", "metric", "published", "random split (LEAKY)", disjoint, "note"]


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
