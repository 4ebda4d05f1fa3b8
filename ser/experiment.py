"""A run, from the composed config to the files in its folder: train(cfg), evaluate(cfg)."""

import copy
import logging
import shutil
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig

from ser.audio.decode import warn_clipped
from ser.cache.progress import counted
from ser.checkpoints.format import load_checkpoint
from ser.checkpoints.source import open_data
from ser.evaluation.metrics import measure
from ser.evaluation.results import pool, read_metrics
from ser.evaluation.status import KEPT, RESULTS, held_parts
from ser.inference import recordings
from ser.inference.model import Model, tabulate
from ser.launch import settings
from ser.launch.run import Run, finished_before, one_line_errors
from ser.reporting.model_card import write_card
from ser.reporting.run_report import show_recordings, show_report, write_report, write_result
from ser.reporting.wandb import check_loggers, finish_wandb, log_report
from ser.training import committee, folds, kept, selection
from ser.training.fit import (
    Fit,
    build_loggers,
    build_trainer,
    fit_and_validate,
    fit_worker_rank,
    prepare,
    score,
)
from ser.training.processes import at_once, check_devices, is_rank_zero

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Train, test and report one experiment, or each fold of it.

    Returns:
        What a sweep maximises: the objective on validation speakers, over folds their mean.
    """
    with one_line_errors():
        if cfg.resume_sweep is not None:
            cfg.overwrite = False  # its first start has done that
        if not is_rank_zero():
            check_devices(cfg, HydraConfig.get())
            fit_worker_rank(cfg)
            return None
        if cfg.resume_sweep is not None and (known := finished_before(cfg.folder)) is not None:
            log.info("%s is finished already", cfg.folder)
            return known["objective"]
        value = _cross_validate(cfg) if cfg.fold == "all" else train_fold(cfg)
        show_report(Path(cfg.folder), read_metrics(Path(cfg.folder)))
        return value


def evaluate(cfg: DictConfig) -> None:
    """Score a checkpoint on its own split again, or on recordings of any kind."""
    with one_line_errors(), Run(cfg.folder) as run, finish_wandb():
        timings = {"start": time.perf_counter()}
        _check(cfg)
        loaded = load_checkpoint(cfg.ckpt, cfg.compiled, encoder=cfg.encoder)
        loaded.check_abstain(cfg.abstain)
        trainer = build_trainer(cfg)
        if cfg.input is not None:
            model = Model(loaded, cfg.abstain, trainer.strategy.root_device)
            _score_recordings(model, trainer, cfg, run)
            return
        data = open_data(
            loaded,
            cfg.data.root,
            cfg.cache.dir,
            cfg.split,
            cfg.data.on_error,
            cfg.cache.max_gb,
            cfg.data.manifest,
        )
        run.begin(*RESULTS)
        trainer.loggers = build_loggers(cfg, loaded.split_info)
        data.table.to_csv(run.folder / "split.csv", index=False)
        timings["data"] = time.perf_counter()
        fit = Fit(data, loaded.split_info, loaded.model, trainer, None, False, loaded.calibration)
        abstain = loaded.config.get("abstain") if cfg.abstain is None else cfg.abstain
        metrics = _report(fit, cfg, cfg.split, abstain, timings)
        show_report(run.folder, metrics)


def _check(cfg: DictConfig) -> None:
    """Refuse a config that cannot be run; within its `Run`, as a table of jobs reads that."""
    hydra = HydraConfig.get()
    # A single run was checked by ser.launch.start.Check.
    if hydra.mode == RunMode.MULTIRUN or folds.is_part(cfg):
        settings.check(cfg)
    check_devices(cfg, hydra)
    check_loggers(cfg.logger)


def _cross_validate(cfg: DictConfig) -> float | None:
    """Run every fold in a folder of its own, then pool them; finished folds are kept."""
    with Run(cfg.folder) as run:
        _check(cfg)
        if not cfg.overwrite:
            # Before anything is written over what an earlier start has left.
            kept.check(folds.begun(cfg))
        # Of a copy: it resolves what the folds' configs are recorded and compared with.
        data = instantiate(copy.deepcopy(cfg).data)
        splits = data.splits
        splits.check()
        run.begin(*KEPT if cfg.overwrite else ())
        for part in held_parts(run.folder) if cfg.overwrite else ():
            if not part.name.isdigit():  # a job of a sweep is no part of this run
                shutil.rmtree(part)
        parts = [folds.of(cfg, number) for number in range(splits.count())]
        jobs = at_once(cfg, len(parts))
        left = [part for part in parts if kept.outcome(part) is None]
        if jobs > 1 and left and cfg.ensemble is None and cfg.select is None:
            prepare(copy.deepcopy(left[0]))  # with all processors
        objectives = kept.settle([(part, ()) for part in parts], train_fold, jobs)
        pooled = pool(run.folder, "fold_*")
        write_result(pooled, splits.found.corpora, data.hear if cfg.players else None)
        write_card(run.folder, pooled.metrics, pooled.splits, splits.found.corpora, cfg)
        with finish_wandb():
            loggers = build_loggers(cfg, pooled.split_info)
            root = splits.found.root if cfg.players else None
            run.objective = None if None in objectives else float(np.mean(objectives))
            log_report(loggers, pooled.metrics, run.folder, root, run.objective)
        return run.objective


def train_fold(cfg: DictConfig) -> float | None:
    """Train on one split of the clips; choose on val, then score test once."""
    with Run(cfg.folder) as run, finish_wandb():
        timings = {"start": time.perf_counter()}
        _check(cfg)
        chosen = calibration = None
        if cfg.select is not None or cfg.refit:
            cfg, chosen, calibration = selection.choose(cfg, _validate)
            timings["select"] = time.perf_counter()
        if cfg.ensemble is None:
            fit = fit_and_validate(cfg, run.begin, timings, calibration)
        else:
            fit = committee.fit_members(cfg, _validate, run.begin, timings)
        run.objective = chosen if cfg.refit else fit.objective
        fit.data.release_test()
        metrics = _report(fit, cfg, "test", cfg.abstain, timings, run.objective)
        write_card(run.folder, metrics, fit.data.table, fit.data.found.corpora, cfg)
        if fit.interrupted:
            show_report(run.folder, metrics)
            raise KeyboardInterrupt
        return run.objective


def _validate(cfg: DictConfig) -> float:
    """Train a candidate or a member; return its objective. The test clips stay withheld."""
    with Run(cfg.folder) as run:
        _check(cfg)
        fit = fit_and_validate(cfg, run.begin, {})
        if fit.interrupted:
            raise KeyboardInterrupt
        run.objective = fit.objective
        return run.objective


def _report(
    fit: Fit,
    cfg: DictConfig,
    split: str,
    abstain: float | None,
    timings: dict[str, float],
    objective: float | None = None,
) -> dict:
    """Score a split, write and log its report; return the content of metrics.json."""
    data = fit.data
    predictions = score(fit.model, data, fit.trainer, split, fit.calibration, abstain)
    timings[split] = time.perf_counter()
    spans = pairwise(timings.items())
    seconds = {name: round(end - begin, 3) for (_, begin), (name, end) in spans}
    metrics = measure(
        predictions, data.labels.classes, fit.split_info, split, data.audit, seconds, abstain
    )
    metrics |= fit.notes
    folder, hear = Path(cfg.folder), data.hear if cfg.players else None
    write_report(folder, predictions, metrics, [folder / "metrics.csv"], data.found.corpora, hear)
    root = data.found.root if cfg.players else None
    log_report(fit.trainer.loggers, metrics, folder, root, objective)
    return metrics


def _score_recordings(model: Model, trainer: Trainer, cfg: DictConfig, run: Run) -> None:
    """Write predictions.csv for recordings of any kind; unread ones are an error unless skipped."""
    paths = recordings.find(cfg.input)
    run.begin(*RESULTS)
    trainer.loggers = build_loggers(cfg, model.checkpoint.split_info)
    found = list(counted(model.stream(paths), "scoring", len(paths)))
    for logger in trainer.loggers:
        logger.finalize("success")
    warn_clipped([each.path for each in found if each.peak > 1])
    if trained := [each.path for each in found if each.trained]:
        log.warning(
            "%d of %d recordings are training or validation clips of the checkpoint, such as %s",
            len(trained),
            len(paths),
            trained[0],
        )
    table = tabulate(found, model.classes)
    table.to_csv(run.folder / "predictions.csv", index=False)
    show_recordings(run.folder, table)
    if not (failed := sum(each.error is not None for each in found)):
        return
    line = (
        f"{failed} of {len(table)} recordings could not be read: the column error"
        f" of {run.folder / 'predictions.csv'} says why"
    )
    if cfg.data.on_error != "skip":
        raise ValueError(f"{line} (data.on_error=skip takes that for a success)")
    log.warning(line)
