"""Weights & Biases: offline where there is no account, one run a job, finished with its status."""

import logging
import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from ser import report

log = logging.getLogger(__name__)

LEAKY = "leaky"
"""Prefix of every key that a leaky run logs, so `leaky-test/uar`."""

KEEPS_DATA = "WANDB_DATA_DIR" not in os.environ
"""Whether what W&B stages for a table lies in the run folder: `wandb sync` needs it."""

AUDIBLE = 20
"""Wrong clips that W&B keeps with their audio."""

SCORES = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece")


def wandb_logger(
    save_dir: str, prefix: str = "", group: str | None = None, **options: object
) -> WandbLogger:
    """Open a W&B run; with neither an API key nor WANDB_MODE it is offline.

    Args:
        save_dir: The run folder.
        prefix: Of every key that is logged, and a tag of the run.
        group: Of runs that belong together; None is the sweep, where there is one.
        options: Those of `wandb.init`.
    """
    if rank_zero_only.rank > 0:
        return WandbLogger(save_dir=save_dir, offline=True)  # opens nothing in other processes
    # Said to each run, as W&B reads the variable only once in a process.
    mode = os.environ.get("WANDB_MODE")
    if mode is None and not _has_api_key():
        mode = "offline"
        log.info("W&B has no API key, so it is offline: wandb sync %s/wandb/offline-*", save_dir)
    os.environ.setdefault("WANDB_SILENT", "true")
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if group is None and hydra and hydra.mode == RunMode.MULTIRUN:
        group = "/".join(Path(hydra.sweep.dir).parts[-2:])
    settings = wandb.Settings(console="off")
    if KEEPS_DATA:
        os.environ["WANDB_DATA_DIR"] = str(Path(save_dir, "wandb").resolve())
    # Opened here: Lightning would pass W&B a setting that it warns of.
    tags = [*(options.pop("tags", None) or ()), *filter(None, [prefix])]
    run = wandb.init(dir=save_dir, mode=mode, settings=settings, tags=tags, group=group, **options)
    return WandbLogger(save_dir=save_dir, experiment=run, prefix=prefix)


@contextmanager
def finished() -> Iterator[None]:
    """End this process's W&B run with its status: the next job must not log into it."""
    try:
        yield
    except BaseException:
        if wandb.run is not None:
            wandb.finish(exit_code=1)
        raise
    if wandb.run is not None:
        wandb.finish()


def log_report(
    loggers: Sequence[Logger],
    predictions: pd.DataFrame,
    metrics: Mapping,
    folder: Path,
    root: Path,
) -> None:
    """Log a run's scores as `<split>/uar`, `<split>/f1/<class>`, ...

    W&B gets the pictures too, and a table of the wrong clips, the first `AUDIBLE` to be heard.

    Args:
        loggers: Those of the trainer.
        predictions: As `ser.report.tabulate` gives them.
        metrics: As `ser.report.measure` gives them.
        folder: The run folder, which holds the pictures.
        root: What the clips' paths are relative to.
    """
    split = metrics["split"]
    scores = {f"{split}/{key}": metrics[key] for key in SCORES}
    scores |= {f"{split}/f1/{name}": row["f1"] for name, row in metrics["per_class"].items()}
    for logger in loggers:
        logger.log_metrics(scores)
        if isinstance(logger, WandbLogger):
            for picture in sorted(folder.glob("*.png")):
                logger.log_image(f"{split}/{picture.stem}", [str(picture)])
            wrong = report.wrong(predictions, metrics["classes"])
            heard = [wandb.Audio(str(root / path)) for path in wrong.path.head(AUDIBLE)]
            wrong["audio"] = heard + [None] * (len(wrong) - len(heard))
            data = wrong.astype(object).to_numpy().tolist()
            logger.log_table(f"{split}/wrong", columns=list(wrong), data=data)
        logger.save()


def _has_api_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
