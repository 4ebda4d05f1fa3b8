"""What a run does, from the composed config to the files in its folder."""

import logging
import os
import time
from itertools import pairwise
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from ser import checkpoint, frontend, report, tracking
from ser.data import recordings
from ser.data.datamodule import EmotionDataModule
from ser.data.protocols import Recorded
from ser.estimator import EstimatorClassifier
from ser.metrics import scores
from ser.run import Run

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Train, test and report one experiment; gives the validation UAR, which a sweep maximises."""
    with Run() as run, tracking.finished():
        marks = {"start": time.perf_counter()}
        lightning.seed_everything(cfg.seed, verbose=False)
        data = instantiate(cfg.data)
        model = instantiate(cfg.model, classes=data.classes)
        data.setup("fit")
        recipe = checkpoint.Recipe(_portable(cfg), data.record())
        data.table.to_csv(run.folder / "split.csv", index=False)
        trainer = _trainer(cfg, recipe)
        marks["data"] = time.perf_counter()
        best = _fit(model, data, trainer, run.folder / "checkpoints")
        marks["fit"] = time.perf_counter()
        validation = _score(best, data, trainer, "val")
        marks["val"] = time.perf_counter()
        _report(best, data, trainer, "test", run.folder, marks)
        return scores(validation.label, validation.prediction)["uar"]


def evaluate(cfg: DictConfig) -> None:
    """Score a checkpoint on its own split again, or on recordings of any kind."""
    with Run() as run, tracking.finished():
        marks = {"start": time.perf_counter()}
        if cfg.split not in ("val", "test"):
            raise ValueError(f"split={cfg.split!r} is unknown: expected val or test")
        loaded = checkpoint.load(cfg.ckpt)
        trainer = _trainer(cfg)
        if cfg.input is not None:
            run.failed = _score_recordings(loaded, trainer, cfg.input, run.folder)
            return
        data = _recorded_data(loaded, cfg)
        data.table.to_csv(run.folder / "split.csv", index=False)
        marks["data"] = time.perf_counter()
        _report(loaded.model, data, trainer, cfg.split, run.folder, marks)


def _trainer(cfg: DictConfig, *callbacks: lightning.Callback) -> Trainer:
    loggers = list(instantiate(cfg.logger).values())
    for logger in loggers:
        logger.log_hyperparams(checkpoint.plain(cfg))
    callbacks = [*instantiate(cfg.callbacks).values(), *callbacks]
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
    if classical or device.type == "cpu":
        data.cache_features(model.frontend, [frontend.VERSION, model.hparams.frontend])
    else:
        data.hold_waveforms(device)
    if classical:
        model.fit_estimator(*data.training_features())
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
    """Score the clips of a split from their waveforms; gives the rows of predictions.csv."""
    outputs = trainer.predict(model, data.waveform_loader(split))
    probabilities = np.concatenate([output["probabilities"].cpu() for output in outputs])
    clips = data.table.loc[np.concatenate([output["row"].cpu() for output in outputs])]
    return report.tabulate(clips, data.classes, probabilities)


def _report(
    model: LightningModule,
    data: EmotionDataModule,
    trainer: Trainer,
    split: str,
    folder: Path,
    marks: dict[str, float],
) -> None:
    """Score a split once, and compute every file from the predictions."""
    predictions = _score(model, data, trainer, split)
    marks[split] = time.perf_counter()
    facts = {
        "protocol": data.protocol_name,
        "fold": None,
        "split": split,
        "leaky": data.protocol.leaky,
        "transductive": False,
        "audit": data.audit,
        "seconds": _durations(marks),
    }
    metrics = report.measure(predictions, data.classes, facts)
    report.write(folder, predictions, metrics)
    tracking.log_report(trainer.loggers, predictions, metrics, folder)
    report.show(folder, metrics)


def _durations(marks: dict[str, float]) -> dict[str, float]:
    spans = pairwise(marks.items())
    return {name: round(end - begin, 3) for (_, begin), (name, end) in spans}


def _recorded_data(loaded: checkpoint.Checkpoint, cfg: DictConfig) -> EmotionDataModule:
    """Build the data of a checkpoint, wherever it lies now, with the split it was trained on."""
    config = loaded.config["data"] | {"cache": cfg.cache.dir}
    if cfg.data.root is not None:
        config["root"] = cfg.data.root
    elif isinstance(config["root"], dict):  # the embedded corpus is built where the cache is now
        config["root"] |= {"directory": cfg.cache.dir}
    elif not Path(config["root"]).is_dir():
        config["root"] = os.environ.get("SER_DATA", config["root"])
    data = instantiate(config)
    data.protocol = Recorded(
        data.protocol.name, data.protocol.leaky, loaded.split["split"].to_dict()
    )
    data.setup("test")
    _compare(loaded.split, data, cfg.split)
    return data


def _compare(trained: pd.DataFrame, data: EmotionDataModule, split: str) -> None:
    """Warn where the data are not those of the checkpoint; without any to score, stop."""
    found = pd.DataFrame(data.record()).set_index("name")
    expected = trained[trained["split"] == split]
    there = expected.index.intersection(found.index)
    if there.empty:
        raise ValueError(
            f"data.root={data.root!r} holds none of the {len(expected)} clips that split={split}"
            f" names in the checkpoint (splits: {', '.join(sorted(set(trained['split'])))})"
        )
    missing = expected.index.difference(there)
    if len(missing):
        log.warning("%d %s clips are missing, such as %s", len(missing), split, missing[0])
    changed = there[expected.loc[there, "sha256"] != found.loc[there, "sha256"]]
    if len(changed):
        log.warning("%d %s clips sound different now, such as %s", len(changed), split, changed[0])


def _score_recordings(
    loaded: checkpoint.Checkpoint, trainer: Trainer, path: str, folder: Path
) -> bool:
    """Write predictions.csv for recordings of any kind; tells whether any could not be read."""
    window = instantiate(loaded.config["data"]["window"], _convert_="all")
    found = recordings.Recordings(recordings.find(path), window)
    trainer.progress_bar_callback.disable()  # it cannot know how many windows there are
    outputs = trainer.predict(loaded.model, DataLoader(found, batch_size=None))
    table = found.average(outputs, loaded.model.classes)
    table.to_csv(folder / "predictions.csv", index=False)
    report.show_recordings(folder, table)
    return bool(found.errors)


def _portable(cfg: DictConfig) -> dict:
    """Resolve the config for a checkpoint, which is read from other working folders too."""
    config = checkpoint.plain(cfg)
    if isinstance(config["data"]["root"], str):
        config["data"]["root"] = str(Path(config["data"]["root"]).expanduser().resolve())
    return config
