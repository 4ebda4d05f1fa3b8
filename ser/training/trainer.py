"""The processes of one run: all fit the network, the first alone keeps files and scores."""

import torch
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from ser.training import folds


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
