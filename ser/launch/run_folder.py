"""Locks of run folders, and the refusal of a start that would replace a run."""

import copy
import errno
import logging
import os
import shutil
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ser.config.differences import differences
from ser.config.errors import cause_of, one_line
from ser.corpora.names import shown
from ser.evaluation.status import KEPT, NEXT_RECORD, RECORD, held_run
from ser.training import folds

LOCK, HOLDER = ".lock", ".holder"

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without locks answers."""

log = logging.getLogger(__name__)

_held: dict[Path, FileLock] = {}
# Here, as the launchers of a multirun pickle its callbacks, and a lock that is dropped is let go.


class RunFolder(Callback):
    """Refuses a start in a folder that is in use or holds a run, before anything is written.

    Args:
        exit_code: Of a refused start.
    """

    def __init__(self, exit_code: int = 1) -> None:
        self.exit_code = exit_code

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Lock the folder for this process; Hydra writes its record and log only after this."""
        with ending(self.exit_code):
            if "trainer" in config:
                from ser.training.processes import is_rank_zero

                if not is_rank_zero():
                    with read_write(config.hydra):
                        config.hydra.output_subdir = None  # the record is the first's
                    return
            # Hydra does so only later, and the folder may be named by ${hydra:...}.
            HydraConfig.instance().set_config(copy.deepcopy(config))
            folder = Path(config.hydra.run.dir).absolute()
            if (folder / LOCK).exists():  # who writes there says more than what is there
                hold(folder)
            check(config, folder)
            hold(folder)
            # Of a start that was killed.
            shutil.rmtree(folder / NEXT_RECORD, ignore_errors=True)
            if held_run(folder) is not None and config.hydra.output_subdir == RECORD:
                with read_write(config.hydra):
                    config.hydra.output_subdir = NEXT_RECORD

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Lock the folder of the multirun, of which ser.launch.sweep.Summary lets go."""
        with ending(self.exit_code):
            hold(Path(config.hydra.sweep.dir))


def end(error: object, code: int = 1) -> NoReturn:
    """End a start from within a callback, with one line and an exit code."""
    print(shown(one_line(error)), file=sys.stderr)  # noqa: T201
    for folder in list(_held):
        release(folder)
        if {path.name for path in folder.iterdir()} == {LOCK}:  # nothing began there
            (folder / LOCK).unlink()
            folder.rmdir()
    raise SystemExit(code)  # of any other exception of a callback Hydra makes a warning


@contextmanager
def ending(
    code: int = 1, expected: tuple[type[Exception], ...] = (ValueError, OSError)
) -> Iterator[None]:
    """End a start from within a callback on any exception or Ctrl-C, where Hydra would go on.

    Args:
        code: The exit code.
        expected: Errors of the user's making: one line; of others the traceback is printed too.
    """
    try:
        yield
    except KeyboardInterrupt:
        end("interrupted", 130)
    except Exception as error:  # noqa: BLE001
        if not isinstance(cause_of(error), expected):
            traceback.print_exception(error)
        end(cause_of(error), code)


def hold(folder: Path) -> None:
    """Lock a folder, which is made where there is none, until release or the end of the process.

    Raises:
        ValueError: Another process holds it.
        OSError: It cannot be written.
    """
    if folder.resolve() in _held:  # the run takes once more what its start has taken
        return
    lock = FileLock(folder / LOCK, timeout=0)
    holder = folder / HOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            _warn_unlocked(str(error))
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}")
    except Timeout as error:
        who = holder.read_text() if holder.is_file() else "another process"
        raise ValueError(
            f"{folder} is in use by {who}: wait for its end, or name another folder with"
            " hydra.run.dir=, or hydra.sweep.dir= for a multirun"
        ) from error
    except OSError as error:
        lock.release()
        raise unwritable(folder, error) from error
    _held[folder.resolve()] = lock


def release(folder: Path) -> None:
    """Let a folder go, if this process holds it."""
    lock = _held.pop(folder.resolve(), None)
    if lock is not None:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a folder for a block."""
    hold(folder)
    try:
        yield
    finally:
        release(folder)


@cache
def _warn_unlocked(reason: str) -> None:
    log.warning(
        "this file system has no locks (%s): see to it that one start at a time writes to a folder",
        reason,
    )


def unwritable(folder: Path, error: OSError) -> OSError:
    """Return the error of a run folder that cannot be written."""
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
    fold = OmegaConf.select(config, "fold")
    if fold is not None and folds.recorded_fold(folder) == fold:
        cfg = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        with open_dict(cfg):
            cfg.folder = str(folder)
        if fold == "all":
            folds.begun(cfg)  # under these settings
            return
        # Its candidates and members are kept, as folds are.
        chooses = cfg.select is not None or cfg.refit or cfg.ensemble is not None
        if chooses and not differences(folder, OmegaConf.to_container(cfg)):
            return
    last = folder / KEPT[0]
    way = f", go on with resume={last}" if last.is_file() and "resume" in config else ""
    raise ValueError(
        f"hydra.run.dir={folder} holds {held}: expected another folder{way}, or overwrite=true to"
        " replace it"
    )
