"""The run folder: its status, its log, and how a run ends."""

import json
import logging
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException

log = logging.getLogger(__name__)

USER_ERRORS = (ValueError, OSError, MisconfigurationException)
"""Raised with one line that says what to do; anything else is a bug and keeps its traceback."""


class BareMessage(logging.Formatter):
    """Formats a record as its message alone; the log file has the rest."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the message, without level, time or traceback."""
        return record.getMessage()


def quiet_lightning() -> None:
    """Keep from the terminal what Lightning says of every run and nobody can act on."""
    # It greets each Trainer with its hardware, its version of pytrees and an advert.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    # The run folder holds the log and .hydra/ before CSVLogger sees it.
    warnings.filterwarnings("ignore", message="Experiment logs directory")
    # A batch is one read of the memory map: there is nothing for workers to do.
    warnings.filterwarnings("ignore", message=".*does not have many workers")


class Run(AbstractContextManager):
    """A folder that knows how its run ended.

    An error of the user's making is one line on the terminal, its traceback only in the log file.
    It ends a single run with exit code 1; in a multirun the next job goes on, as an exception
    would end them all, and the multirun's own callback sets the exit code.

    Attributes:
        folder: Where the run writes.
        failed: Set by a run that went on to its end although a part of it failed.
    """

    def __init__(self) -> None:
        hydra = HydraConfig.get()
        self.folder = Path(hydra.runtime.output_dir)
        self.multirun = hydra.mode == RunMode.MULTIRUN
        self.failed = False

    def __enter__(self) -> "Run":
        self._write("running")
        quiet_lightning()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            self._write("failed" if self.failed else "finished")
            if self.failed and not self.multirun:
                raise SystemExit(1)
            return False
        # Lightning turns Ctrl-C into SystemExit.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self._write("interrupted")
            return False
        cause = error
        while isinstance(cause, InstantiationException) and cause.__cause__:
            cause = cause.__cause__
        line = " ".join(str(cause).split()) or type(cause).__name__
        self._write("failed", line)
        if not isinstance(cause, USER_ERRORS) and not self.multirun:
            return False
        log.error(line, exc_info=error)
        if not self.multirun:
            raise SystemExit(1) from None
        return True

    def _write(self, status: str, error: str | None = None) -> None:
        text = json.dumps({"status": status, "error": error}, indent=2)
        (self.folder / "status.json").write_text(text + "\n")
