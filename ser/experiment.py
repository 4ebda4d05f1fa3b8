"""What a run does, from the composed config to the files in its folder."""

import logging
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from ser import checkpoint, folds, recorded, report, selection, tracking
from ser.data import recordings
from ser.data.audit import check_objective, check_statistics
from ser.data.datamodule import EmotionDataModule
from ser.estimator import EstimatorClassifier
from ser.frontend import cache_key
from ser.metrics import scores
from ser.run import Run, one_line_errors

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Train, test and report one experiment, or each fold of it.

    Returns:
        What a sweep maximises: the objective on validation actors, over folds their mean.
    """
    with one_line_errors():
        check_objective("objective", cfg.objective)
        objective = _cross_validate(cfg) if cfg.fold == "all" else _train_fold(cfg)
        report.show(Path(cfg.folder))
        return objective


def evaluate(cfg: DictConfig) -> None:
    """Score a checkpoint on its own split again, or on recordings of any kind."""
    with one_line_errors(), Run(cfg.folder) as run, tracking.finished():
        marks = {"start": time.perf_counter()}
        if cfg.split not in ("val", "test"):
            raise ValueError(f"split={cfg.split!r} is unknown: expected val or test")
        loaded = checkpoint.load(cfg.ckpt)
        trainer = _trainer(cfg, loaded.stamps)
        if cfg.input is not None:
            _score_recordings(loaded, trainer, cfg.input, run.folder)
            return
        data = recorded.data(loaded, cfg.data.root, cfg.cache.dir, cfg.split)
        data.table.to_csv(run.folder / "split.csv", index=False)
        marks["data"] = time.perf_counter()
        predictions = _score(loaded.model, data, trainer, cfg.split)
        marks[cfg.split] = time.perf_counter()
        facts = loaded.stamps | {"split": cfg.split, "audit": data.audit}
        _report(predictions, data.classes, facts, trainer, run.folder, marks)
        report.show(run.folder)


def _cross_validate(cfg: DictConfig) -> float:
    """Run every fold in a folder of its own, then pool them; finished folds are kept."""
    with Run(cfg.folder) as run:
        count = instantiate(cfg.data).count_folds()
        objectives = []
        for number in range(count):
            fold = folds.of(cfg, number)
            kept = folds.finished(fold)
            state = "trains" if kept is None else "is there already"
            log.info("fold %d (of %d) %s", number, count, state)
            objectives.append(_train_fold(fold) if kept is None else kept)
        folds.pool(run.folder)
        run.objective = float(np.mean(objectives))
        return run.objective


def _train_fold(cfg: DictConfig) -> float:
    """Train on one split of the clips; choose on val, then score test once."""
    with Run(cfg.folder) as run, tracking.finished():
        marks = {"start": time.perf_counter()}
        if cfg.select is not None:
            cfg = selection.choose(cfg, _validate)
            marks["select"] = time.perf_counter()
        data, model, trainer, predictions = _fit_and_validate(cfg, marks)
        run.objective = _objective(predictions, cfg.objective)
        data.release_test()
        predictions = _score(model, data, trainer, "test")
        marks["test"] = time.perf_counter()
        facts = data.stamps() | {"split": "test", "audit": data.audit}
        _report(predictions, data.classes, facts, trainer, run.folder, marks)
        return run.objective


def _validate(cfg: DictConfig) -> float:
    """Train a candidate and give its objective; the test clips stay withheld."""
    with Run(cfg.folder) as run:
        *_, predictions = _fit_and_validate(cfg, {})
        run.objective = _objective(predictions, cfg.objective)
        return run.objective


def _fit_and_validate(
    cfg: DictConfig, marks: dict[str, float]
) -> tuple[EmotionDataModule, LightningModule, Trainer, pd.DataFrame]:
    """Give the data, the model as best.ckpt holds it, and its predictions for val."""
    folder = Path(cfg.folder)
    lightning.seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.data)
    model = instantiate(cfg.model, classes=data.classes)
    data.setup("fit")
    data.table.to_csv(folder / "split.csv", index=False)
    recipe = checkpoint.Recipe(_portable(cfg), data.record(), data.stamps())
    trainer = _trainer(cfg, data.stamps(), recipe)
    marks["data"] = time.perf_counter()
    best = _fit(model, data, trainer, folder / "checkpoints")
    marks["fit"] = time.perf_counter()
    predictions = _score(best, data, trainer, "val")
    marks["val"] = time.perf_counter()
    return data, best, trainer, predictions


def _objective(predictions: pd.DataFrame, metric: str) -> float:
    values = scores(predictions.label.to_numpy(str), predictions.prediction.to_numpy(str))
    known = {f"val/{name}": value for name, value in values.items()}
    if metric not in known:
        raise ValueError(f"objective={metric!r}: expected one of {', '.join(known)}")
    return known[metric]


def _trainer(cfg: DictConfig, stamps: Mapping, *callbacks: lightning.Callback) -> Trainer:
    # Whatever a leaky run logs says so by its name.
    options = {"prefix": tracking.LEAKY} if stamps["leaky"] else {}
    loggers = [instantiate(logger, **options) for logger in cfg.logger.values()]
    for logger in loggers:
        logger.log_hyperparams(checkpoint.plain(cfg) | {"stamps": dict(stamps)})
    callbacks = [*instantiate(cfg.callbacks).values(), *callbacks]
    for callback in callbacks:
        check_objective("monitor", getattr(callback, "monitor", None))
    return instantiate(cfg.trainer, logger=loggers, callbacks=callbacks)


def _fit(
    model: LightningModule, data: EmotionDataModule, trainer: Trainer, folder: Path
) -> LightningModule:
    """Train the model and give it back as best.ckpt holds it."""
    classical = isinstance(model, EstimatorClassifier)
    if classical and trainer.max_epochs is not None:
        raise ValueError(
            f"trainer.max_epochs={trainer.max_epochs}: a classical model is fitted once and has no"
            " epochs; leave trainer=one_pass as the model sets it"
        )
    device = trainer.strategy.root_device
    if classical or data.normalize or device.type == "cpu":
        data.cache_features(model.frontend, cache_key(model.hparams.frontend))
    else:
        data.hold_waveforms(device)
    if classical:
        features, labels = data.training_features()
        model.fit_estimator(features, labels)
        check_statistics(model.estimator, features, labels)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(folder / "best.ckpt")
    else:
        trainer.fit(model, data)
        if not (folder / "best.ckpt").exists():
            raise ValueError(
                f"no epoch was validated, so there is no best.ckpt (trainer.max_epochs="
                f"{trainer.max_epochs}): expected at least one whole epoch"
            )
    return checkpoint.load(folder / "best.ckpt").model


def _score(
    model: LightningModule, data: EmotionDataModule, trainer: Trainer, split: str
) -> pd.DataFrame:
    """Score the clips of a split; gives the rows of predictions.csv."""
    outputs = trainer.predict(model, data.scoring_loader(split))
    probabilities = np.concatenate([output["probabilities"].cpu() for output in outputs])
    clips = data.table.loc[np.concatenate([output["row"].cpu() for output in outputs])]
    return report.tabulate(clips, data.classes, probabilities)


def _report(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    facts: Mapping,
    trainer: Trainer,
    folder: Path,
    marks: Mapping[str, float],
) -> None:
    """Compute every file from the predictions."""
    metrics = report.measure(predictions, classes, {**facts, "seconds": _durations(marks)})
    report.write(folder, predictions, metrics, [folder / "metrics.csv"])
    tracking.log_report(trainer.loggers, predictions, metrics, folder)


def _durations(marks: Mapping[str, float]) -> dict[str, float]:
    spans = pairwise(marks.items())
    return {name: round(end - begin, 3) for (_, begin), (name, end) in spans}


def _score_recordings(
    loaded: checkpoint.Checkpoint, trainer: Trainer, path: str, folder: Path
) -> None:
    """Write predictions.csv for recordings of any kind."""
    if loaded.stamps["transductive"]:
        raise ValueError(
            f"ckpt={str(loaded.path)!r} was trained with normalize=speaker, but input= does not"
            " say who speaks: expected a checkpoint trained without"
        )
    window = instantiate(loaded.config["data"]["window"], _convert_="all")
    found = recordings.Recordings(recordings.find(path), window)
    trainer.progress_bar_callback.disable()  # it cannot know how many windows there are
    outputs = trainer.predict(loaded.model, DataLoader(found, batch_size=None))
    table = found.average(outputs, loaded.model.classes)
    table.to_csv(folder / "predictions.csv", index=False)
    report.show_recordings(folder, table)
    if found.errors:
        raise ValueError(
            f"{len(found.errors)} of {len(table)} recordings could not be read: the column error"
            f" of {folder / 'predictions.csv'} says why"
        )


def _portable(cfg: DictConfig) -> dict:
    """Resolve the config for a checkpoint, which is read from other working folders too."""
    config = checkpoint.plain(cfg)
    if isinstance(config["data"]["root"], str):
        config["data"]["root"] = str(Path(config["data"]["root"]).expanduser().resolve())
    return config
