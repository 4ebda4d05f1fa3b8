"""Multirun: the table over its jobs at its end, and the completion of one that broke off."""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from ser.evaluation.jobs import altered_clips, collect, varied
from ser.evaluation.status import held_run
from ser.launch import run_folder
from ser.launch.run_folder import ending
from ser.reporting.sweep_table import show_summary, write_summary

OWN = ("hydra.mode=", "hydra.sweep.dir=", "hydra.run.dir=")
"""Prefixes of overrides that are of one start, not of the sweep."""


class Summary(Callback):
    """Ends every multirun with a table, and with exit code 1 where a job did not finish."""

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Complete a multirun that broke off, instead of a run."""
        folder = config.get("resume_sweep")
        if folder is None:
            return
        with ending():
            code = resume(folder, config.hydra.overrides)
        raise SystemExit(code)

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Fix the folder of all jobs: each would resolve a name that varies for itself."""
        with ending():
            _check_folder(config)
        with open_dict(config.hydra):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(config.hydra.sweep.dir)}")

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Write the table over the jobs."""
        with ending():
            folder = Path(config.hydra.sweep.dir)
            rows = summarise(folder)
            run_folder.release(folder)
        # Hydra tells callbacks nothing of jobs, and its own exit code is 0 whatever they did.
        if not rows or any(row["status"] != "finished" for row in rows):
            raise SystemExit(1)


def _check_folder(config: DictConfig) -> None:
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
        from ser.training.processes import check_devices

        check_devices(config, config.hydra)


def resume(folder: str, given: DictConfig) -> int:
    """Start the multirun of a folder once more, where jobs that are finished do not run again.

    Args:
        folder: Of the multirun.
        given: `hydra.overrides` of this start: a sweep goes on with its own, but may get another
            launcher.

    Returns:
        The exit code.

    Raises:
        ValueError: The folder is of no multirun, other overrides are given, or finished jobs know
            other clips than there are now.
    """
    record = Path(folder).expanduser() / "multirun.yaml"
    if not record.is_file():
        raise ValueError(
            f"resume_sweep={folder!r} holds no multirun.yaml: expected the folder of a multirun;"
            " a study of ser.tune goes on when it is started again"
        )
    added = [text for text in given.task if not text.startswith("resume_sweep=")]
    if added:
        raise ValueError(
            f"resume_sweep takes the sweep's own overrides: leave out {' '.join(added)}, or start"
            " another sweep"
        )
    started = OmegaConf.load(record).hydra
    overrides = started.overrides
    if not Path(started.runtime.cwd).is_dir():
        raise ValueError(
            f"resume_sweep={folder!r} was started in {started.runtime.cwd}, which is not there:"
            " expected that folder, as its overrides may name paths relative to it"
        )
    from ser.training import kept  # with torch and pandas, which no start should wait for

    own = record.parent.resolve()
    # Where it was started: its overrides may name paths relative to that.
    with chdir(started.runtime.cwd):
        kept.check_sweep(own)
    hydra = [text for text in (*overrides.hydra, *given.hydra) if not text.startswith(OWN)]
    folders = [f"hydra.sweep.dir={quoted(own)}", f"resume_sweep={quoted(own)}"]
    script = str(Path(sys.argv[0]).resolve())
    task = [text for text in overrides.task if not text.startswith("overwrite=")]
    command = [sys.executable, script, "-m", *task, *hydra, *folders]
    return subprocess.run(command, cwd=started.runtime.cwd, check=False).returncode


def quoted(text: object) -> str:
    """Return a text as the value of an override, whatever its characters."""
    return "'" + str(text).replace("'", "\\'") + "'"


def summarise(folder: Path) -> list[dict[str, object]]:
    """Read the jobs of a multirun, write summary.csv, .json and .html beside them, and print."""
    rows = collect(folder)
    if not rows:
        return rows
    if any("conditions" in OmegaConf.load(job) for job in folder.glob("*/.hydra/config.yaml")):
        from ser.inference import stress  # with torch, which no start should wait for

        stress.write_cards(folder, rows, varied(rows))
        return rows
    write_summary(folder, rows)
    show_summary(folder, rows)
    if altered := altered_clips(folder, rows):
        print(  # noqa: T201
            f"{len(altered)} clips sound different in the jobs, such as {altered[0]}: their scores"
            " are not of the same data"
        )
    keys = varied(rows)
    if "seed" in keys:
        from ser.analysis import seeds  # with pandas, which no start should wait for

        if spreads := seeds.collect_spreads(folder, rows, keys):
            seeds.write_spreads(folder, spreads)
            seeds.show_spreads(spreads, keys)
    return rows
