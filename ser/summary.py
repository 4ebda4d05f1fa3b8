"""The table over the jobs of a multirun; also by `python -m ser.summary sweep=<folder>`."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from rich import box
from rich.console import Console
from rich.table import Column, Table

from ser.evaluation.status import held_run, read_status, recorded_data
from ser.launch import run_folder
from ser.launch.run_folder import ending

SCORES = ("accuracy", "uar", "macro_f1")
STAMPS = ("leaky", "transductive")
OUTCOME = (
    "status", "error", "validation", *STAMPS,
    *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")),
    "classes", "emotion_uar",
)  # fmt: skip
"""Keys of a row beside what varied; `emotion_uar` is by emotion alone, whatever the classes."""
CHOICE = "a row chosen by its test score is no longer tested: choose by validation (summary.csv)"


@hydra.main(version_base="1.3", config_path="../conf/hydra/command", config_name="summary")
def main(cfg: DictConfig) -> None:
    """Write the table of a multirun, or pool its folds into one result."""
    # Imported here, so that --help answers at once.
    from ser.evaluation.pool import pool
    from ser.launch.run import one_line_errors
    from ser.reporting import run_report as report

    with one_line_errors():
        if (cfg.sweep is None) == (cfg.pool is None):
            raise ValueError(
                f"sweep={cfg.sweep} pool={cfg.pool}: expected one of them, the folder of a multirun"
            )
        folder = Path(str(cfg.sweep if cfg.pool is None else cfg.pool)).expanduser()
        if cfg.pool is None:
            if not tabulate(folder):
                raise ValueError(
                    f"sweep={str(folder)!r} holds no jobs: expected a multirun's folder"
                )
            return
        with run_folder.holding(folder) if folder.is_dir() else nullcontext():
            pool(folder)
        report.show_report(folder)


class Summary(Callback):
    """Ends every multirun with a table, and with exit code 1 where a job did not finish."""

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Take up a multirun that broke off, instead of a run."""
        folder = config.get("resume_sweep")
        if folder is None:
            return
        from ser.launch.sweep import resume

        with ending():
            code = resume(folder, config.hydra.overrides)
        raise SystemExit(code)

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Settle on one folder: each job would resolve a name that varies for itself."""
        with ending():
            _check(config)
        folder = str(config.hydra.sweep.dir).replace("'", "\\'")
        with open_dict(config.hydra):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{folder}'")

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Write the table over the jobs."""
        with ending():
            folder = Path(config.hydra.sweep.dir)
            rows = tabulate(folder)
            run_folder.release(folder)
        # Hydra tells callbacks nothing of jobs, and its own exit code is 0 whatever they did.
        if not rows or any(row["status"] != "finished" for row in rows):
            raise SystemExit(1)


def _check(config: DictConfig) -> None:
    """Refuse a multirun that would end in another's folder, or start itself in each process."""
    folder = Path(config.hydra.sweep.dir).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise ValueError(
            f"hydra.sweep.dir={folder} cannot be written, as {there} is read-only or a file:"
            " expected another folder"
        )
    resumed = config.get("resume_sweep")
    if resumed is not None and Path(resumed).expanduser().resolve() != folder.resolve():
        raise ValueError(
            f"resume_sweep={resumed} takes the sweep's own overrides: expected it without -m"
        )
    if resumed is None and (folder / "multirun.yaml").exists():
        raise ValueError(
            f"hydra.sweep.dir={folder} holds a sweep already: expected another folder, or"
            f" resume_sweep={folder} alone to complete it"
        )
    if resumed is None and (held := held_run(folder)) is not None:
        raise ValueError(f"hydra.sweep.dir={folder} holds {held}: expected another folder")
    if "trainer" in config and config.trainer.get("devices", 1) != 1:
        from ser.training import trainer as processes

        processes.check(config, config.hydra)


def tabulate(folder: Path) -> list[dict[str, object]]:
    """Read the jobs of a multirun, write summary.csv, .json and .html beside them, and print."""
    rows = collect(folder)
    if not rows:
        return rows
    write(folder, rows)
    show(folder, rows)
    if altered := _altered(folder, rows):
        print(  # noqa: T201
            f"{len(altered)} clips sound different in the jobs, such as {altered[0]}: their scores"
            " are not of the same data"
        )
    keys = varied(rows)
    if "seed" in keys:
        from ser.analysis import seeds  # with pandas, which no start should wait for

        if spreads := seeds.collect(folder, rows, keys):
            seeds.write(folder, spreads)
            seeds.show(spreads, keys)
    return rows


def _altered(folder: Path, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """List the clips whose samples differ between finished jobs: the data changed under way.

    Only jobs of one root and sample rate are compared, as paths and digests are of these.
    """
    heard = {}
    for row in rows:
        path = folder / str(row["job"]) / "split.csv"
        if row["status"] == "finished" and path.is_file():  # recordings of `input=` have no split
            data = recorded_data(path.parent)
            source = str([data.get(key) for key in ("root", "sample_rate")])
            with path.open(newline="") as file:
                for clip in csv.DictReader(file):
                    heard.setdefault((clip["path"], source), set()).add(clip["sha256"])
    return sorted({path for (path, _), digests in heard.items() if len(digests) > 1})


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


def _keys(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """List what varied; the number of classes too, if a UAR is over more of them than another."""
    counts = {row["classes"] for row in rows} - {None}
    return [*varied(rows), *(["classes"] if len(counts) > 1 else [])]


def _number(path: Path) -> int:
    name = path.parents[1].name
    return int(name) if name.isdigit() else -1


def _outcome(job: Path) -> dict[str, object]:
    outcome = dict.fromkeys(OUTCOME) | {"status": "missing"}
    if status := read_status(job):
        outcome |= {key: status[key] for key in ("status", "error")}
        outcome["validation"] = status["objective"]
    # Of a job that did not finish, metrics.json would be an earlier start's.
    if outcome["status"] == "finished" and (job / "metrics.json").is_file():
        metrics = json.loads((job / "metrics.json").read_text())
        outcome |= {key: metrics[key] for key in STAMPS}
        for score in SCORES:
            low, high = metrics["ci"][score] or (None, None)
            outcome |= {score: metrics[score], f"{score}_low": low, f"{score}_high": high}
        outcome["classes"] = len(metrics["classes"])
        outcome["emotion_uar"] = metrics.get("emotion", metrics)["uar"]
    return outcome


def write(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write summary.csv, summary.json and summary.html."""
    (folder / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["job"])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "summary.html").write_text(_html(folder, rows))


def _html(folder: Path, rows: Sequence[Mapping[str, object]]) -> str:
    from ser.reporting import html as page
    from ser.reporting import plots

    picture = None
    if any(row["uar"] is not None for row in rows):
        plots.jobs(rows, varied(rows), folder / "summary.png")
        picture = page.embed(folder / "summary.png")
    return page.render(
        "summary.html.j2",
        folder=folder.name,
        rows=[{**row, "state": row["error"] or _state(row)} for row in rows],
        keys=_keys(rows),
        scores=SCORES,
        picture=picture,
        choice=CHOICE if _tempting(rows) else None,
    )


def show(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Print a row a job, with what varied and the scores; below it the errors."""
    keys = _keys(rows)
    console = Console(markup=False)  # [sad] is a value, no style
    shown = SCORES if console.width >= 100 else ("uar",)
    figures = [Column(name, no_wrap=True) for name in (*shown, "95 % of UAR", "status")]
    names = [Column(key, overflow="fold") for key in keys]
    table = Table("job", *names, *figures, box=box.SIMPLE_HEAD)
    for row in rows:
        scores = ["" if row[key] is None else f"{row[key]:.3f}" for key in shown]
        known = row["uar_low"] is not None
        bounds = f"{row['uar_low']:.3f} - {row['uar_high']:.3f}" if known else ""
        table.add_row(
            str(row["job"]),
            *("" if row[key] is None else str(row[key]) for key in keys),
            *scores,
            bounds,
            _state(row),
        )
    console.print(table)
    if _tempting(rows):
        console.print(CHOICE, soft_wrap=True)
    for row in rows:
        if row["error"]:
            console.print(f"job {row['job']}: {row['error']}", soft_wrap=True)
    console.print(f"summary.csv, .json and .html are in {folder}", soft_wrap=True)


def _tempting(rows: Sequence[Mapping[str, object]]) -> bool:
    """Say whether one of several scored rows could be chosen."""
    return sum(row["uar"] is not None for row in rows) > 1


def _state(row: Mapping[str, object]) -> str:
    stamps = [stamp.upper() for stamp in STAMPS if row[stamp]]
    return " ".join(stamps) or str(row["status"])


if __name__ == "__main__":
    main()
