"""Weights & Biases logger: offline without an API key, one W&B run a job, ended with its status."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from pydantic import ValidationError

from ser.reporting.errors import wrong_clips

log = logging.getLogger(__name__)

KEEPS_DATA = "WANDB_DATA_DIR" not in os.environ
"""Whether what W&B stages for a table lies in the run folder: `wandb sync` needs it."""

AUDIBLE = 20
"""Wrong clips that W&B keeps with their audio."""

LISTED = ["path", "speaker", "channel", "label", "prediction", "confidence"]
"""Columns of the table of wrong clips."""

PATIENCE = 30
"""Seconds for a server to open a run. Its first answer came within ten: see `wandb.login`."""

WAY_ON = "log in with `wandb login`, or set WANDB_MODE=offline or logger=csv"

SCORES = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece")


def check_loggers(loggers: Mapping[str, Mapping]) -> None:
    """Refuse settings with which no W&B run can be opened, before any data are read.

    Args:
        loggers: Their configs.

    Raises:
        ValueError: See `_mode`.
    """
    if any(logger["_target_"] == f"{__name__}.wandb_logger" for logger in loggers.values()):
        _mode()


def wandb_logger(
    save_dir: str,
    prefix: str = "",
    group: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    project: str | None = None,
    entity: str | None = None,
    job_type: str | None = None,
    notes: str | None = None,
    id: str | None = None,  # noqa: A002 - the name that `wandb.init` has for it
    resume: str | None = None,
) -> WandbLogger:
    """Open a W&B run; where W&B knows no API key and the user no mode, it is offline.

    Args:
        save_dir: The run folder.
        prefix: Of every key that is logged, and a tag of the run.
        group: Of runs that belong together; None is the sweep or the cross-validation, in which
            the names of the runs end with their folders, such as 0/fold_1.
        name: Of the run, before that of its folder.
        tags: Of the run.
        project: As of `wandb.init`, as are those that follow.
        entity: Whose project it is.
        job_type: What the run does.
        notes: On the run.
        id: Of a run that goes on.
        resume: Whether one may.
    """
    if rank_zero_only.rank > 0:
        return WandbLogger(save_dir=save_dir, offline=True)  # opens nothing in other processes
    mode = _mode()
    if mode in ("offline", "dryrun"):
        # W&B reports on itself over the network, offline too.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        log.info("W&B is offline: wandb sync %s/wandb/offline-*", save_dir)
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        whole = hydra.sweep.dir if hydra.mode == RunMode.MULTIRUN else hydra.runtime.output_dir
        group = group or wandb_group(Path(whole))
        part = Path(save_dir).resolve().relative_to(Path(whole).resolve())
        name = "/".join([*filter(None, [name]), *part.parts])
    import wandb

    settings = wandb.Settings(console="off", init_timeout=PATIENCE)
    if KEEPS_DATA:
        os.environ["WANDB_DATA_DIR"] = str(Path(save_dir, "wandb").resolve())
    # Opened here: Lightning would pass W&B a setting that it warns of.
    options = {"name": name, "group": group, "project": project, "entity": entity, "id": id}
    options |= {"job_type": job_type, "notes": notes, "resume": resume}
    options["tags"] = [*tags, *filter(None, [prefix])]
    with _one_line():
        run = wandb.init(dir=save_dir, mode=mode, settings=settings, **options)
    return WandbLogger(save_dir=save_dir, experiment=run, prefix=prefix)


def wandb_group(folder: Path) -> str:
    """Name the W&B group of the runs below a folder: `<name>/<time>`."""
    return "/".join(folder.parts[-2:])


@contextmanager
def finish_wandb() -> Iterator[None]:
    """End this process's W&B run with its status: the next job must not log into it."""
    code = 1
    try:
        yield
        code = 0
    finally:
        wandb = sys.modules.get("wandb")  # imported where a run was opened
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=code)


def log_report(
    loggers: Sequence[Logger],
    metrics: Mapping,
    folder: Path,
    root: Path | None,
    objective: float | None = None,
) -> None:
    """Log a run's scores as `<split>/uar`, `<split>/f1/<class>`, ...

    W&B gets the pictures too, and a table of the wrong clips, the first `AUDIBLE` to be heard.

    Args:
        loggers: Those of the trainer.
        metrics: The content of metrics.json.
        folder: The run folder, which holds predictions.csv and the pictures.
        root: What the clips' paths are relative to; None logs no recording.
        objective: What the run returns to a sweep, logged under that name; None of what has none.
    """
    split = metrics["split"]
    scores = {f"{split}/{key}": metrics[key] for key in SCORES}
    scores |= {f"{split}/f1/{name}": row["f1"] for name, row in metrics["per_class"].items()}
    if "emotion" in metrics:  # of classes that are emotion and gender
        scores |= {f"{split}/emotion/{key}": metrics["emotion"][key] for key in SCORES}
    if objective is not None:
        scores["objective"] = objective
    for logger in loggers:
        logger.log_metrics(scores)
        if isinstance(logger, WandbLogger):
            import wandb

            for picture in sorted(folder.glob("*.png")):
                logger.log_image(f"{split}/{picture.stem}", [str(picture)])
            predictions = pd.read_csv(
                folder / "predictions.csv",
                dtype=dict.fromkeys(("speaker", "label", "prediction"), str),
                keep_default_na=False,
            )
            wrong = wrong_clips(predictions, metrics["classes"])[LISTED]
            # Of a segment there is the whole recording, which may be hours.
            silent = root is None or "start" in predictions
            files = [] if silent else wrong.path.head(AUDIBLE)
            heard = [wandb.Audio(str(root / path)) for path in files]
            wrong["audio"] = heard + [None] * (len(wrong) - len(heard))
            data = wrong.astype(object).to_numpy().tolist()
            logger.log_table(f"{split}/wrong", columns=list(wrong), data=data)
        logger.save()


def _mode() -> str:
    """Mode of a W&B run: the user's, or offline where W&B knows no key. Asks nobody for one.

    Raises:
        ValueError: A setting is not one of W&B's, the key is no key, or the server does not take it
            or does not answer.
    """
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    with _one_line():
        mode = wandb.setup().settings.mode
        if mode in ("online", "shared", "run") and not wandb.login(prompt=False):
            if "WANDB_MODE" in os.environ:
                raise wandb.Error(f"WANDB_MODE={mode}, but W&B knows no API key")
            return "offline"
        return mode


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn what W&B refuses into one line that says what to do."""
    import wandb

    try:
        yield
    except ValidationError as error:  # of a variable or a settings file
        reason = "; ".join(
            f"{one['loc'][0]}={one['input']!r}: {one['msg']}" for one in error.errors()
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
    else:
        return
    raise ValueError(f"W&B cannot be used ({reason}): {WAY_ON}")
