"""The run folder: one start at a time writes to it, and none removes a run without being asked."""

import copy
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ser import folds
from ser.status import KEPT, held_run

LOCK, HOLDER = ".lock", ".holder"


class RunFolder(Callback):
    """Refuses a start in a folder that is in use or holds a run, before anything is written.

    Args:
        exit_code: Of a refused start.
    """

    def __init__(self, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        self.lock: FileLock | None = None

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Lock the folder for this process; Hydra writes its record and log only after this."""
        if "trainer" in config:
            from ser import processes

            if not processes.is_first():
                with read_write(config.hydra):
                    config.hydra.output_subdir = None  # the record is the first's
                return
        with ending(self.exit_code):
            try:
                # Hydra does so only later, and the folder may be named by ${hydra:...}.
                HydraConfig.instance().set_config(copy.deepcopy(config))
                folder = Path(config.hydra.run.dir).absolute()
                if (folder / LOCK).exists():  # who writes there says more than what is there
                    self.lock = _lock(folder)
                check(config, folder)
                self.lock = hold(folder)
            except Exception:
                if self.lock is not None:
                    self.lock.release(force=True)
                raise


def end(error: object, code: int = 1) -> NoReturn:
    """End a start from within a callback, with one line and an exit code."""
    print(error, file=sys.stderr)  # noqa: T201
    raise SystemExit(code)  # of any other exception of a callback Hydra makes a warning


@contextmanager
def ending(
    code: int = 1, expected: tuple[type[Exception], ...] = (ValueError, OSError)
) -> Iterator[None]:
    """End a start from within a callback on any exception, where Hydra would go on.

    Args:
        code: The exit code.
        expected: Errors of the user's making: one line; of others the traceback is printed too.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001
        cause = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if not isinstance(cause, expected):
            traceback.print_exception(error)
        end(" ".join(str(cause).split()) or type(cause).__name__, code)


def hold(folder: Path) -> FileLock:
    """Lock a folder, which is made where there is none, until release or the end of the process.

    Raises:
        ValueError: Another process holds it.
        OSError: It cannot be written.
    """
    lock = _lock(folder)
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    try:
        holder = f"process {os.getpid()} on {socket.gethostname()} since {now}"
        (folder / HOLDER).write_text(holder)
    except OSError as error:
        raise unwritable(folder, error) from error
    return lock


def release(folder: Path, lock: FileLock) -> None:
    """Let a folder go."""
    (folder / HOLDER).unlink(missing_ok=True)
    lock.release(force=True)


def _lock(folder: Path) -> FileLock:
    # One instance a path: the run takes once more what its start has taken.
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        holder = folder / HOLDER
        who = holder.read_text() if holder.is_file() else "another process"
        raise ValueError(
            f"{folder} is in use by {who}: wait for its end, or name another folder with"
            " hydra.run.dir="
        ) from error
    except OSError as error:
        raise unwritable(folder, error) from error
    return lock


def unwritable(folder: Path, error: OSError) -> OSError:
    """Give the error of a run folder that cannot be written."""
    return OSError(
        f"{folder} cannot be written ({error.strerror}): make room, or name another place with"
        " hydra.run.dir="
    )


def check(config: DictConfig, folder: Path) -> None:
    """Refuse to start in a folder that holds a run, unless it goes on or is to be overwritten.

    Args:
        config: Of the start, with Hydra's own part.
        folder: Where it would write.
    """
    if not isinstance(config.overwrite, bool):
        raise ValueError(f"overwrite={config.overwrite!r}: expected true or false")
    held = held_run(folder)
    if held is None or config.overwrite:
        return
    resume = OmegaConf.select(config, "resume")
    if resume is not None and Path(resume).parent == folder / "checkpoints":
        return
    if OmegaConf.select(config, "fold") == "all" and folds.is_cross_validation(folder):
        cfg = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        with open_dict(cfg):
            cfg.folder = str(folder)
        folds.check_settings(cfg)
        return
    last = folder / KEPT[0]
    way = f", go on with resume={last}" if last.is_file() and "resume" in config else ""
    raise ValueError(
        f"hydra.run.dir={folder} holds {held}: expected another folder{way}, or overwrite=true to"
        " replace it"
    )
