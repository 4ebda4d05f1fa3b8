"""Processes: several that fit one network, and runs side by side, each in a process of its own."""

import logging
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from logging.config import dictConfig
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from threadpoolctl import threadpool_limits

from ser.config.errors import cause_of, one_line
from ser.training import folds

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


def is_rank_zero() -> bool:
    """Return whether this process keeps the files of its run."""
    return rank_zero_only.rank == 0


def check_devices(cfg: DictConfig, hydra: DictConfig) -> None:
    """Refuse several processes where there is more, or less, than one network to fit.

    Args:
        cfg: The composed config.
        hydra: Hydra's own part of it.
    """
    if cfg.trainer.devices == 1 and cfg.trainer.get("num_nodes", 1) == 1:
        if not is_rank_zero():
            raise ValueError(
                f"this is process {rank_zero_only.rank} of several, but the trainer has one"
                " device: expected trainer=ddp, or one task"
            )
        return
    # Lightning counts what auto is. There is no run folder before a job.
    trainer = instantiate(cfg.trainer, logger=False, default_root_dir=None)
    count = trainer.num_devices * trainer.num_nodes
    if count == 1:
        return
    # Lightning starts the others by this process's own command line: the sweep, in each.
    if hydra.mode == RunMode.MULTIRUN and "slurm" not in hydra.launcher._target_.lower():
        other = "a multirun (-m, sweep=), which each of them would repeat"
    elif cfg.get("fold") == "all":
        other = "fold=all: start a run for each fold"
    elif cfg.get("ensemble") is not None:
        other = "ensemble="
    elif cfg.get("refit"):
        other = "refit=true"
    elif cfg.get("select") is not None or folds.is_part(cfg):
        other = "select="
    elif "n_trials" in cfg:
        other = "ser.tune"
    elif trainer.max_epochs is None:
        other = "scoring and classical models"
    else:
        return
    raise ValueError(
        f"trainer.devices={cfg.trainer.devices} on {trainer.num_nodes} nodes makes {count}"
        f" processes: expected one device for {other}"
    )


def on_one_device(trainer: Trainer, cfg: DictConfig) -> Trainer:
    """Return a trainer of one device with the same loggers: several would pad what they score."""
    if not torch.distributed.is_initialized():
        return trainer
    torch.distributed.destroy_process_group()  # metrics would wait for those who have gone
    index = trainer.strategy.root_device.index
    return instantiate(
        cfg.trainer,
        devices=1 if index is None else [index],
        num_nodes=1,
        strategy="auto",
        logger=trainer.loggers,
        callbacks=[instantiate(cfg.callbacks.progress)] if "progress" in cfg.callbacks else None,
        enable_checkpointing=False,
    )


def at_once(cfg: DictConfig, runs: int) -> int:
    """Return how many of the runs within a run train at once, by its `jobs`.

    Without, one after the other on a GPU, whose memory they would share; else as many as end
    soonest, of up to half as many again as there are threads: three of five on two, as the system
    gives each process its turn, and no processor is idle while the last of them train.

    Args:
        cfg: Of the run.
        runs: Their number.
    """
    if parent_process() is not None:  # it is one of several, and has its share already
        return 1
    jobs, threads = cfg.jobs, torch.get_num_threads()
    if jobs is None:
        trainer = instantiate(cfg.trainer, logger=False, default_root_dir=None)
        if trainer.strategy.root_device.type != "cpu":
            return 1
        jobs = min(
            range(1, max(1, threads * 3 // 2) + 1), key=lambda jobs: _time(runs, jobs, threads)
        )
    return min(jobs, runs)


def _time(runs: int, jobs: int, threads: int) -> int:
    """Return how long runs take in turns, each of which keeps one thread busy."""
    turns, rest = divmod(runs, jobs)
    return turns * max(jobs, threads) + (max(rest, threads) if rest else 0)


@dataclass
class _Part:
    """A run in a process of its own."""

    number: int
    process: BaseProcess
    begun: bool = False


def train_apart(
    train: Callable[..., _Result], runs: Mapping[int, tuple], jobs: int
) -> Iterator[tuple[int, _Result]]:
    """Train runs in processes of their own; yield the number and the result of each as it ends.

    The threads are divided among them. Each writes its own log; what they say from warnings on is
    said here too. Where one fails, those that have begun end before its error is raised. Ctrl-C
    and SIGTERM, of which only this process is told, are passed on.

    Args:
        train: A function of a module, called with what a run holds.
        runs: By number, the arguments of the call.
        jobs: At once.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    log.info("%d runs, %d at once, %d threads each", len(runs), jobs, threads)
    logs = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    logs.get("handlers", {}).get("console", {})["level"] = "WARNING"
    begin = (HydraConfig.instance().cfg, logs, threads, dict(os.environ))
    context = get_context("forkserver")  # of which ser.launch.start has imported everything
    waiting, failed = list(runs.items()), None
    running: dict[Connection, _Part] = {}
    with _terminable():
        try:
            while running or (waiting and failed is None):
                while waiting and failed is None and len(running) < jobs:
                    number, run = waiting.pop(0)
                    pipe, end = context.Pipe(duplex=False)
                    process = context.Process(target=_run, args=(end, *begin, train, run))
                    process.start()
                    end.close()
                    running[pipe] = _Part(number, process)
                for pipe in connection.wait(list(running)):
                    part = running[pipe]
                    answer = _answer(pipe, jobs)
                    if answer is None:
                        part.begun = True
                        continue
                    running.pop(pipe).process.join()
                    result, error = answer
                    if error is None:
                        yield part.number, result
                    elif failed is None:
                        failed = error
                        if running:
                            log.warning("a run failed (%s): those that have begun go on", error)
            if failed is not None:
                raise failed
        except BaseException as stop:
            number = signal.SIGTERM if isinstance(stop, SIGTERMException) else signal.SIGINT
            for part in running.values():
                # One that has not begun leaves nothing, and may be deaf to Ctrl-C.
                with suppress(ProcessLookupError):
                    os.kill(part.process.pid, number if part.begun else signal.SIGTERM)
            for pipe, part in running.items():
                with suppress(EOFError):  # its end; the forkserver that knows it may have been told
                    while True:
                        pipe.recv()
                part.process.join()
            raise


def _answer(pipe: Connection, jobs: int) -> tuple[object, BaseException | None] | None:
    """Return the result of a process, or its error; None where it has but begun."""
    try:
        return pipe.recv()
    except EOFError:
        return None, OSError(
            "a process that trained was killed, perhaps for want of memory: expected room for"
            f" {jobs} at once; jobs=1 trains one after the other"
        )


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM what Lightning makes of it while it trains."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SIGTERMException


def _run(
    pipe: Connection,
    config: DictConfig,
    logs: dict,
    threads: int,
    environment: Mapping[str, str],
    train: Callable[..., _Result],
    run: tuple,
) -> None:
    """Train one run in this process, and send its result and its error."""
    os.setpgrp()  # the terminal's Ctrl-C would come twice
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 progress bars would overwrite each other
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    setup_globals()
    HydraConfig.instance().set_config(config)
    dictConfig(logs)
    quiet_lightning()
    pipe.send(None)
    try:
        result, error = train(*run), None
    except BaseException as raised:  # noqa: BLE001 the first process raises it
        result, error = None, _portable(cause_of(raised))
        error.add_note(traceback.format_exc())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(BrokenPipeError):  # the first process may not have waited
        pipe.send((result, error))


def _portable(error: BaseException) -> BaseException:
    """Return an error that another process can read: itself, or what it says."""
    with suppress(Exception):
        return pickle.loads(pickle.dumps(error))
    kind = OSError if isinstance(error, OSError) else RuntimeError
    return kind(one_line(error))


def _end_with_parent() -> None:
    """End without a trace as soon as the first process is gone, killed perhaps."""
    parent_process().join()
    os._exit(1)


def quiet_lightning() -> None:
    """Keep from the terminal what Lightning says of every run and nobody can act on."""
    # It greets each Trainer with its hardware, its version of pytrees and an advert.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    # A run that goes on has its checkpoints there.
    warnings.filterwarnings("ignore", message="Checkpoint directory")
    # A frozen backbone stays in eval mode: that is what freezing means.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")
    # A batch is one read of the memory map: there is nothing for workers to do.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
