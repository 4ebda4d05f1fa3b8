"""A multirun that broke off, taken up again."""

import subprocess
import sys
from contextlib import chdir
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

OWN = ("hydra.mode=", "hydra.sweep.dir=", "hydra.run.dir=")
"""What a start says of itself, not of the sweep."""


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
            " one with hydra/sweeper=optuna goes on when it is started again"
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
    quoted = "'" + str(own).replace("'", "\\'") + "'"
    folders = [f"hydra.sweep.dir={quoted}", f"resume_sweep={quoted}"]
    script = str(Path(sys.argv[0]).resolve())
    task = [text for text in overrides.task if not text.startswith("overwrite=")]
    command = [sys.executable, script, "-m", *task, *hydra, *folders]
    return subprocess.run(command, cwd=started.runtime.cwd, check=False).returncode
