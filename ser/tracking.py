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
        group: Of runs that belong together; None is the sweep or the cross-validation, in which
            the names of the runs end with their folders, such as 0/fold_1.
        options: Those of `wandb.init`.
    """
    if rank_zero_only.rank > 0:
        return WandbLogger(save_dir=save_dir, offline=True)  # opens nothing in other processes
    # Said to each run, as W&B reads the variable only once in a process.
    mode = os.environ.get("WANDB_MODE")
    if mode is None and not _has_api_key():
        mode = "offline"
    if mode == "offline":
        log.info("W&B is offline: wandb sync %s/wandb/offline-*", save_dir)
    os.environ.setdefault("WANDB_SILENT", "true")
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        whole = hydra.sweep.dir if hydra.mode == RunMode.MULTIRUN else hydra.runtime.output_dir
        group = group or group_of(Path(whole))
        part = Path(save_dir).resolve().relative_to(Path(whole).resolve())
        options["name"] = "/".join([*filter(None, [options.get("name")]), *part.parts])
    settings = wandb.Settings(console="off")
    if KEEPS_DATA:
        os.environ["WANDB_DATA_DIR"] = str(Path(save_dir, "wandb").resolve())
    # Opened here: Lightning would pass W&B a setting that it warns of.
    tags = [*(options.pop("tags", None) or ()), *filter(None, [prefix])]
    run = wandb.init(dir=save_dir, mode=mode, settings=settings, tags=tags, group=group, **options)
    return WandbLogger(save_dir=save_dir, experiment=run, prefix=prefix)


def group_of(folder: Path) -> str:
    """Name the W&B group of the runs below a folder: `<name>/<time>`."""
    return "/".join(folder.parts[-2:])


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
    metrics: Mapping,
    folder: Path,
    root: Path,
) -> None:
    """Log a run's scores as `<split>/uar`, `<split>/f1/<class>`, ...

    W&B gets the pictures too, and a table of the wrong clips, the first `AUDIBLE` to be heard.

    Args:
        loggers: Those of the trainer.
        metrics: As `ser.report.measure` gives them.
        folder: The run folder, which holds predictions.csv and the pictures.
        root: What the clips' paths are relative to.
    """
    split = metrics["split"]
    scores = {f"{split}/{key}": metrics[key] for key in SCORES}
    scores |= {f"{split}/f1/{name}": row["f1"] for name, row in metrics["per_class"].items()}
    if "emotion" in metrics:  # of classes that are emotion and gender
        scores |= {f"{split}/emotion/{key}": metrics["emotion"][key] for key in SCORES}
    for logger in loggers:
        logger.log_metrics(scores)
        if isinstance(logger, WandbLogger):
            for picture in sorted(folder.glob("*.png")):
                logger.log_image(f"{split}/{picture.stem}", [str(picture)])
            predictions = pd.read_csv(folder / "predictions.csv", dtype={"actor": str})
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
