"""The fit of a model to the training clips, chosen on the validation clips, blind to the test."""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import lightning
import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from ser.checkpoints.format import Checkpoint, Recipe, load_checkpoint, write_calibration
from ser.config.split_info import SplitInfo
from ser.data.datamodule import EmotionDataModule
from ser.evaluation.calibration import Calibration
from ser.evaluation.metrics import key_prefix, probabilities_of, scores, tabulate
from ser.evaluation.statistics import speakers_of
from ser.evaluation.status import KEPT
from ser.splits.leakage import check_statistics
from ser.training import folds, kept, restart
from ser.training.processes import on_one_device

log = logging.getLogger(__name__)


class Fit(NamedTuple):
    """A model that has been fitted.

    Attributes:
        data: Its clips, those of test still withheld.
        split_info: Under which protocol and fold, and what the model has heard.
        model: As best.ckpt holds it.
        trainer: To score with.
        objective: Its score on the validation clips, or cross-validated on the training speakers;
            None where nothing is chosen.
        interrupted: Whether Ctrl-C ended the training before its last epoch.
        calibration: Of its probabilities, by the validation clips; None without any.
        notes: What metrics.json has of it besides its scores.
    """

    data: EmotionDataModule
    split_info: SplitInfo
    model: LightningModule
    trainer: Trainer
    objective: float | None
    interrupted: bool
    calibration: Calibration | None = None
    notes: Mapping = MappingProxyType({})


def fit_and_validate(
    cfg: DictConfig,
    begin: Callable[..., None],
    timings: dict[str, float],
    chosen: Calibration | None = None,
) -> Fit:
    """Fit a model, and score the best of its epochs by the objective, or take the last.

    Args:
        cfg: Of the run.
        begin: Takes the run folder over, and removes files of it, once data, model and trainer
            stand.
        timings: Where the times at which its steps end are noted.
        chosen: The calibration of what chose, for a model that validation clips have trained.
    """
    folder = Path(cfg.folder)
    config = portable(cfg)
    resume_from = restart.find(cfg, config)
    data, model = _build(cfg)
    if resume_from:
        kept.check_clips(f"resume={str(resume_from.path)!r}", resume_from.split, data.record())
    info = data.split_info(model.frontend.origin)
    recipe = Recipe(config, data.record(), info, folds.started_with(cfg))
    trainer = build_trainer(cfg, recipe, **_limits(data))
    _check(data, trainer, cfg.objective, resume_from)
    begin(*(() if resume_from else (*KEPT, restart.CURVES)))
    if resume_from:
        restart.keep_curves(resume_from, folder)
    data.table.to_csv(folder / "split.csv", index=False)
    trainer.loggers = build_loggers(cfg, info)
    timings["data"] = time.perf_counter()
    best, stopped = _fit(model, data, trainer, recipe, folder / "checkpoints", resume_from)
    trainer = on_one_device(trainer, cfg)
    timings["fit"] = time.perf_counter()
    value, calibration = validate(best, data, trainer, cfg.objective)
    calibration = calibration or chosen
    calibrate(best, calibration, folder)
    timings["val"] = time.perf_counter()
    return Fit(data, info, best, trainer, value, stopped, calibration)


def fit_worker_rank(cfg: DictConfig) -> None:
    """Fit as one of several processes, of which the first alone keeps files and scores."""
    logging.disable(logging.WARNING)  # the first says it
    resume_from = restart.find(cfg, portable(cfg))
    data, model = _build(cfg)
    trainer = build_trainer(cfg, **_limits(data))
    trainer.loggers = build_loggers(cfg, data.split_info(model.frontend.origin))
    feed(model, data, trainer)
    last = Path(cfg.folder) / "checkpoints" / "last.ckpt"
    trainer.fit(model, data, ckpt_path=last if resume_from else None, weights_only=True)


def score(
    model: LightningModule,
    data: EmotionDataModule,
    trainer: Trainer,
    split: str,
    calibration: Calibration | None = None,
    abstain: float | None = None,
) -> pd.DataFrame:
    """Score the clips of a split; return the rows of predictions.csv.

    Args:
        model: In eval mode.
        data: Its clips.
        trainer: Which scores.
        split: `val` or `test`.
        calibration: Of the model.
        abstain: As of `ser.evaluation.metrics.tabulate`.
    """
    outputs = trainer.predict(model, data.scoring_loader(split))
    probabilities = np.concatenate([output["probabilities"].cpu() for output in outputs])
    clips = data.table.loc[np.concatenate([output["row"].cpu() for output in outputs])]
    return tabulate(clips, data.labels.classes, probabilities, calibration, abstain)


def build_trainer(cfg: DictConfig, *callbacks: lightning.Callback, **options: object) -> Trainer:
    """Build the trainer, still without loggers, and its callbacks."""
    callbacks = [*instantiate(cfg.callbacks).values(), *callbacks]
    return instantiate(cfg.trainer, logger=False, callbacks=callbacks, **options)


def build_loggers(cfg: DictConfig, split_info: SplitInfo) -> list[Logger]:
    """Build the loggers of a run; log its config and how its clips were split."""
    # Whatever a leaky or exposed run logs says so by its name.
    options = key_prefix(asdict(split_info))
    loggers = [instantiate(logger, **options) for logger in cfg.logger.values()]
    config = OmegaConf.to_container(cfg, resolve=True) | {"stamps": asdict(split_info)}
    for logger in loggers:
        logger.log_hyperparams(config)
    return loggers


def _build(cfg: DictConfig) -> tuple[EmotionDataModule, LightningModule]:
    """Build the data, parted and decoded, and the model."""
    lightning.seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.data)
    model = instantiate(cfg.model, classes=data.labels.classes)
    data.setup("fit")
    return data, model


def _limits(data: EmotionDataModule) -> dict[str, int]:
    """Return what keeps a trainer from validating on clips that are not there, or that train."""
    return {} if data.validates() else {"limit_val_batches": 0}


def prepare(cfg: DictConfig, shard: tuple[int, int] = (0, 1)) -> int:
    """Fill the cache with what a run reads, without training; return how many clips it is of.

    Args:
        cfg: Of the run.
        shard: Which of how many shares.
    """
    data = instantiate(cfg.data)
    model = instantiate(cfg.model, classes=data.labels.classes)
    device = build_trainer(cfg).strategy.root_device
    frontend = model.frontend if _caches(model, data, device) else None
    exact = frontend is not None and frontend.exact
    return data.prepare(frontend, model.hparams.frontend, device if exact else "cpu", shard)


def _caches(model: LightningModule, data: EmotionDataModule, device: torch.device) -> bool:
    """Return whether training reads features that were computed before."""
    frontend = model.frontend
    if not frontend.cached:
        return False
    on_cpu = device.type == "cpu"
    return on_cpu or frontend.exact or frontend.layout == "vector" or bool(data.normalize)


def feed(model: LightningModule, data: EmotionDataModule, trainer: Trainer) -> None:
    """Bring what training reads to where it is read fastest."""
    device = trainer.strategy.root_device
    if data.normalize and not model.frontend.cached:
        raise ValueError(
            f"normalize={data.normalize} needs features that are cached: expected another"
            " front end than mel_image"
        )
    if _caches(model, data, device):
        exact = model.frontend.exact
        noisy = not exact and getattr(model, "noisy", False)  # a classical model is not
        where = device if exact else "cpu"
        data.cache_features(model.frontend, model.hparams.frontend, where, noisy)
    elif device.type != "cpu":
        data.hold_waveforms(device)
    data.trim()


def _fit(
    model: LightningModule,
    data: EmotionDataModule,
    trainer: Trainer,
    recipe: Recipe,
    folder: Path,
    resume_from: Checkpoint | None,
) -> tuple[LightningModule, bool]:
    """Train the model; return it as best.ckpt holds it, and whether Ctrl-C came."""
    if resume_from:
        restart.place(resume_from, folder, recipe.entry)
        log.info("going on after epoch %d of %s", resume_from.epoch, resume_from.path)
    feed(model, data, trainer)
    stopped, classical = False, "estimator" in model.hparams
    if classical:
        features, labels = data.training_features(model.frontend)
        model.fit_estimator(features, labels)
        check_statistics(model.estimator, features, labels)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(folder / "best.ckpt")
    else:
        stopped = _train(model, data, trainer, folder / "last.ckpt" if resume_from else None)
        if not (folder / "best.ckpt").exists():
            if stopped:
                raise KeyboardInterrupt("no epoch has been finished")
            raise ValueError(
                f"no epoch was finished, so there is no best.ckpt (trainer.max_epochs="
                f"{trainer.max_epochs}): expected at least one whole epoch"
            )
    return load_checkpoint(folder / "best.ckpt", compiled=classical).model, stopped


def _check(
    data: EmotionDataModule,
    trainer: Trainer,
    objective: str | None,
    resume_from: Checkpoint | None,
) -> None:
    """Refuse an objective that nobody can be asked for, or epochs that are done."""
    place, _, _ = (objective or "").partition("/")
    if place == "val" and not data.validates():
        raise ValueError(
            f"objective={objective}, but there are no validation speakers: expected objective=null,"
            " which takes the last epoch, or clips to validate, as by protocol.val_speakers=4 where"
            " the protocol has it"
        )
    if resume_from and -1 < (trainer.max_epochs or -1) <= resume_from.epoch:
        raise ValueError(
            f"trainer.max_epochs={trainer.max_epochs}, but {resume_from.epoch + 1} epochs are done:"
            " expected as many or more"
        )


def _train(
    model: LightningModule, data: EmotionDataModule, trainer: Trainer, last: Path | None
) -> bool:
    """Train epoch by epoch; return whether Ctrl-C came."""
    try:
        trainer.fit(model, data, ckpt_path=last, weights_only=True)
    except SIGTERMException:
        raise
    except SystemExit:  # what Lightning makes of Ctrl-C, after which it is deaf to another
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log.warning("interrupted: what the best of the finished epochs scores")
        return True
    return False


def validate(
    model: LightningModule, data: EmotionDataModule, trainer: Trainer, objective: str | None
) -> tuple[float | None, Calibration | None]:
    """Score the model by the objective and fit its calibration; neither knows a test clip."""
    predictions = calibration = None
    model.temperature = None  # best.ckpt of a run that goes on may have one already
    if data.validates():
        predictions = score(model, data, trainer, "val")
        calibration = Calibration.fit(*probabilities_of(predictions, data.labels.classes))
    place, _, metric = (objective or "").partition("/")
    if place == "cv":
        features, labels = data.training_features(model.frontend)
        speakers = speakers_of(data.trained())
        found = scores(labels, model.cross_validate(features, labels, speakers))
    elif objective is not None:
        found = scores(predictions.label.to_numpy(str), predictions.prediction.to_numpy(str))
    return (None if objective is None else found[metric]), calibration


def calibrate(model: LightningModule, calibration: Calibration | None, folder: Path) -> None:
    """Give the model of a run folder, and its checkpoint, a calibration, if there is one."""
    if calibration is not None:
        model.temperature = calibration.temperature
        write_calibration(folder / "checkpoints" / "best.ckpt", calibration)


def portable(cfg: DictConfig) -> dict:
    """Resolve the config for a checkpoint, which is read from other working folders too."""
    config = OmegaConf.to_container(cfg, resolve=True)  # plain: `weights_only` admits it
    for key in ("root", "manifest"):
        if isinstance(config["data"].get(key), str):
            config["data"][key] = str(Path(config["data"][key]).expanduser().resolve())
    return config
