"""What a start needs before Lightning is imported: messages, settings and checks."""

import copy
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import cpu_count, forkserver, parent_process

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from ser.corpora.names import shown
from ser.launch.run_folder import ending


class BareMessage(logging.Formatter):
    """Formats a record as its message alone; the log file has the rest."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message on one line, without level, time or traceback."""
        return shown(record.getMessage())


class FullMessage(logging.Formatter):
    """Formats a record's message on one line; a traceback has the lines below."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message with what the format puts around it."""
        return shown(super().formatMessage(record))


@contextmanager
def uncollected() -> Iterator[None]:
    """Import torch and Lightning without a search for garbage, now and at the end of the process.

    They make 400,000 objects that stay: looking through them is a third of a short command.
    """
    if "torch" in sys.modules:  # what is there may be another's
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Check(Callback):
    """Ends a single run with one line where a value of its config is wrong.

    The jobs of a multirun are checked one by one, when they begin.
    """

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Check the config as `ser.launch.settings.check` does."""
        with ending(), uncollected():  # whoever has no patience while these are imported
            from ser.launch.run import USER_ERRORS
            from ser.launch.settings import check
            from ser.training.processes import quiet_lightning

        quiet_lightning()
        with ending(expected=USER_ERRORS):
            config = copy.deepcopy(config)
            with read_write(config), read_write(config.hydra), open_dict(config):
                config.hydra.runtime.output_dir = config.hydra.run.dir
                HydraConfig.instance().set_config(copy.deepcopy(config))  # the config refers to it
                del config["hydra"]
            check(config)


class Threads(Callback):
    """Sets what OpenMP reads once, as torch is imported; a user's own variables stay.

    Hydra's own `hydra.job.env_set` comes too late for a run that resume= reads a checkpoint for.
    """

    def on_job_start(self, config: DictConfig, **_: object) -> None:
        """Let waiting threads sleep, and a job of submitit have one for each of its processors.

        Joblib gives its jobs their share of the threads by itself.
        """
        # Spinning threads of two runs take the processors from each other.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if processors := config.hydra.launcher.get("cpus_per_task"):
            os.environ.setdefault("OMP_NUM_THREADS", str(processors))

    on_run_start = on_job_start  # of a single run, before its checkpoint is read


class Workers(Callback):
    """Starts what processes of a cross-validation or a committee are forked from.

    It imports what they need while this process does.
    """

    def on_job_start(self, config: DictConfig, **_: object) -> None:
        """Start it where there will be any, as `ser.training.processes.at_once` finds."""
        if parent_process() is not None:
            return
        several = config.get("fold") == "all" or config.get("ensemble") is not None
        threads = os.environ.get("OMP_NUM_THREADS", str(cpu_count()))
        if several and (config.jobs or threads) not in (1, "1"):
            forkserver.set_forkserver_preload(["ser.experiment"])
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C, for it
            forkserver.ensure_running()
            signal.signal(signal.SIGINT, before)

    on_run_start = on_job_start  # of a single run, before its checks
