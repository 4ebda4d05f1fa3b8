"""The run: its status and log, and errors of the user in one line."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ser.config.errors import cause_of, one_line
from ser.evaluation.status import NEXT_RECORD, RECORD, held_run, read_status
from ser.launch import run_folder
from ser.training.processes import quiet_lightning

log = logging.getLogger(__name__)

USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, MisconfigurationException)
"""Raised with one line that says what to do; anything else is a bug and keeps its traceback."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error of the user's making into one line; its traceback is only in the log file.

    It ends a single run with exit code 1; in a multirun the next job goes on, as an exception
    would end them all, and the multirun's own callback sets the exit code.
    """
    quiet_lightning()
    logging.raiseExceptions = False  # a full disk must not print a traceback for each line of log
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:  # of Ctrl-C too Lightning makes the latter
        terminated = isinstance(stop, SIGTERMException)
        words = ["terminated" if terminated else "interrupted", _way_on(stop)]
        log.error(": ".join(filter(None, words)))
        raise SystemExit(143 if terminated else 130) from None  # as a shell counts signals
    except Exception as error:
        cause = cause_of(error)
        if not isinstance(cause, USER_ERRORS) and not multirun:
            raise
        log.error(one_line(cause), exc_info=error)
        if not multirun:
            raise SystemExit(1) from None


def _way_on(stop: BaseException) -> str:
    """Return how to go on with what is not finished."""
    hydra = HydraConfig.get()
    if isinstance(stop, KeyboardInterrupt) and str(stop):
        return str(stop)
    if hydra.mode == RunMode.MULTIRUN:
        return f"resume_sweep={hydra.sweep.dir} runs what is missing"
    last = Path(hydra.runtime.output_dir, "checkpoints", "last.ckpt")
    return f"resume={last} goes on" if last.is_file() else ""


def finished_before(folder: str) -> dict | None:
    """Return the status of the job that an earlier start of the sweep has finished here."""
    content = read_status(Path(folder))
    if content is None or content["status"] != "finished":
        return None
    return content if _own(content["overrides"] or ()) == _own(_overrides()) else None


class Run(AbstractContextManager):
    """A folder that knows how its run ended (status.json), has its log, and is locked.

    The status of a run that the folder holds already stays until `begin`: a start that fails
    before has changed nothing of that run.

    Args:
        folder: Where the run writes.

    Attributes:
        objective: The score of the validation speakers that a sweep maximises, once it is known.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.objective: float | None = None
        self.log: logging.FileHandler | None = None
        self.begun = False

    def __enter__(self) -> "Run":
        run_folder.hold(self.folder)
        if held_run(self.folder) is None or not (self.folder / "status.json").exists():
            self.begin()
        # Hydra opened the log of its own folder; a fold below it gets another.
        opened = [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
        names = [Path(handler.baseFilename) for handler in opened]
        if names and names[0].parent != self.folder.resolve():
            self.log = logging.FileHandler(self.folder / names[0].name)
            self.log.setFormatter(opened[0].formatter)
            logging.getLogger().addHandler(self.log)
        return self

    def begin(self, *replaced: str) -> None:
        """Take the folder over from an earlier start, and remove files that it has left."""
        self._write("running")
        self.begun = True
        for name in replaced:
            (self.folder / name).unlink(missing_ok=True)
        self._take_record()

    def _take_record(self) -> None:
        """Let .hydra/ be of this start, now that the folder is."""
        for path in self.folder.glob(f"{NEXT_RECORD}/*"):
            (self.folder / RECORD).mkdir(exist_ok=True)
            os.replace(path, self.folder / RECORD / path.name)
        shutil.rmtree(self.folder / NEXT_RECORD, ignore_errors=True)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self.log is not None:
            logging.getLogger().removeHandler(self.log)
            self.log.close()
        try:
            if error is None:
                self._take_record()
                self._write("finished")
            # Lightning turns Ctrl-C into SystemExit.
            elif self.begun and isinstance(error, KeyboardInterrupt | SystemExit):
                self._write("interrupted")
            elif self.begun:
                self._write("failed", one_line(cause_of(error)))
        finally:
            shutil.rmtree(self.folder / NEXT_RECORD, ignore_errors=True)
            run_folder.release(self.folder)

    def _write(self, status: str, error: str | None = None) -> None:
        content = {
            "status": status,
            "error": error,
            "objective": self.objective,
            "overrides": _overrides(),
        }
        partial = self.folder / "status.tmp"  # never half a status, whenever it is read
        try:
            partial.write_text(json.dumps(content, indent=2) + "\n")
            os.replace(partial, self.folder / "status.json")
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise run_folder.unwritable(self.folder, error) from error


def _overrides() -> list[str]:
    given = HydraConfig.get().overrides.task
    return [text for text in given if not text.startswith("resume_sweep=")]


def _own(overrides: Sequence[str]) -> list[str]:
    """List what makes the run, without what its start may replace."""
    return [text for text in overrides if not text.startswith("overwrite=")]
