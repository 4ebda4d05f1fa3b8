"""A multirun that broke off, taken up again."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

OWN = ("hydra.mode=", "hydra.sweep.dir=")
"""What a start says of itself, not of the sweep."""


def resume(folder: str, given: Sequence[str]) -> int:
    """Start the multirun of a folder once more, where jobs that are finished do not run again.

    Args:
        folder: Of the multirun.
        given: The overrides of this start; a sweep goes on with its own.

    Returns:
        The exit code.

    Raises:
        ValueError: The folder is of no multirun, or other overrides are given.
    """
    record = Path(folder).expanduser() / "multirun.yaml"
    if not record.is_file():
        raise ValueError(
            f"resume_sweep={folder!r} holds no multirun.yaml: expected the folder of a multirun;"
            " one with hydra/sweeper=optuna goes on when it is started again"
        )
    added = [text for text in given if not text.startswith("resume_sweep=")]
    if added:
        raise ValueError(
            f"resume_sweep takes the sweep's own overrides: leave out {' '.join(added)}, or start"
            " another sweep"
        )
    overrides = OmegaConf.load(record).hydra.overrides
    hydra = [text for text in overrides.hydra if not text.startswith(OWN)]
    quoted = "'" + str(record.parent.resolve()).replace("'", "\\'") + "'"
    own = [f"hydra.sweep.dir={quoted}", f"resume_sweep={quoted}"]
    command = [sys.executable, sys.argv[0], "-m", *overrides.task, *hydra, *own]
    return subprocess.run(command, check=False).returncode
