"""The committee: models of one run, each trained by itself, whose probabilities are averaged."""

import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Len
from hydra.utils import get_class, instantiate
from lightning import LightningModule
from omegaconf import DictConfig
from torch import Tensor

from ser.checkpoints import trust
from ser.checkpoints.format import Checkpoint, Recipe, load_checkpoint
from ser.config.quantities import Amount
from ser.config.split_info import joint_stamps
from ser.data.datamodule import EmotionDataModule
from ser.evaluation.status import KEPT
from ser.models.layers import temper
from ser.training import folds, kept, restart, selection
from ser.training.fit import (
    Fit,
    build_loggers,
    build_trainer,
    calibrate,
    portable,
    score,
    validate,
)
from ser.training.processes import at_once

log = logging.getLogger(__name__)

OPEN = ("data.batch_size", "data.shuffle_block", "data.seed")
"""What members may differ in of the data: the whole scores one window."""

ALONE = ("ensemble=null", "ensemble_weights=null")
"""Overrides of a member: it has none, and other weights train none again."""

NAME = "ser.training.committee.Committee"

STEPS = 1000
"""Of the fit of the weights; the likelihood rises in each."""


class Committee(LightningModule):
    """Averages the probabilities of models for waveforms (batch, samples).

    Args:
        classes: Their names, in the order of the probabilities.
        members: Build the models, given `classes`.
        weights: Of the members, in any scale.

    Attributes:
        compiled: As of `EstimatorClassifier`, for all members.
        temperature: Of the average; those of members are not asked.

    Raises:
        ValueError: There is not one weight a member, or all are 0.
    """

    compiled = False
    temperature: float | None = None

    def __init__(
        self,
        classes: Sequence[str],
        members: Sequence[Mapping],
        weights: Annotated[Sequence[Amount], Len(2, trust.MOST)],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        recipe = {"_target_": NAME, **self.hparams}
        del recipe["classes"]
        trust.check(recipe, "model", "model")
        if len(weights) != len(members) or not sum(weights) > 0:
            raise ValueError(
                f"ensemble_weights={weights}: expected a weight for each of {len(members)} members,"
                " one of them above 0"
            )
        self.classes = list(classes)
        self.shares = [weight / sum(weights) for weight in weights]
        self.members = torch.nn.ModuleList(_build(member, classes) for member in members)
        recipes = [member["frontend"] for member in members]
        self.first = [recipes.index(each) for each in recipes]  # with the same front end

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of waveforms (batch, samples)."""
        features = {place: self.members[place].frontend(waveform) for place in {*self.first}}
        return sum(
            share * member.probabilities(features[place])
            for share, member, place in zip(self.shares, self.members, self.first, strict=True)
        )

    def predict_step(self, batch: Mapping[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Return each clip's row and probabilities, tempered."""
        probabilities = temper(self(batch["waveform"]), self.temperature)
        return {"row": batch["row"], "probabilities": probabilities}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Put the fitted estimators into the checkpoint, one a classical member."""
        for number, member in self._classical().items():
            content = {}
            member.on_save_checkpoint(content)
            checkpoint[f"estimator.{number}"] = content["estimator"]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the fitted estimators out of the checkpoint; what was altered is refused."""
        for number, member in self._classical().items():
            member.compiled = self.compiled
            member.on_load_checkpoint({"estimator": checkpoint[f"estimator.{number}"]})

    def _classical(self) -> dict[int, LightningModule]:
        numbered = enumerate(self.members)
        return {place: one for place, one in numbered if "estimator" in one.hparams}


def _build(recipe: Mapping, classes: Sequence[str]) -> LightningModule:
    arguments = {key: value for key, value in recipe.items() if not key.startswith("_")}
    return get_class(recipe["_target_"])(classes, **arguments)


def members(cfg: DictConfig) -> list[tuple[list[str], DictConfig]]:
    """Return overrides and config of each member of a run; none of a run without `ensemble`.

    Raises:
        ValueError: The overrides of one do not compose, or change what is scored.
    """
    given = cfg.get("ensemble")
    if isinstance(given, int):
        given = [f"seed={cfg.seed + number}" for number in range(given)]
    found = []
    for number, text in enumerate(given or ()):
        overrides = [*shlex.split(text), *ALONE]
        member = selection.variant(cfg, overrides, f"ensemble.{number} sets {text}", OPEN)
        found.append((overrides, selection.within(member, f"member_{number}")))
    return found


def fit_members(
    cfg: DictConfig,
    train: Callable[[DictConfig], float | None],
    begin: Callable[..., None],
    timings: dict[str, float],
) -> Fit:
    """Fit each member in a folder of its own, and score their average by the objective.

    Members that an earlier start has finished are kept.

    Args:
        cfg: Of the run.
        train: Trains the config of a member and returns its objective.
        begin: As of `ser.training.fit.fit_and_validate`.
        timings: As there.
    """
    folder, chosen = Path(cfg.folder), members(cfg)
    kept.check([member for _, member in chosen])
    for number, (overrides, _) in enumerate(chosen):
        log.info("member %d (of %d): %s", number, len(chosen), _named(overrides))
    jobs = at_once(cfg, len(chosen))
    objectives = kept.settle([(member, given) for given, member in chosen], train, jobs)
    paths = [Path(member.folder) / "checkpoints" / "best.ckpt" for _, member in chosen]
    loaded = [load_checkpoint(path) for path in paths]
    for each in loaded:
        each.model.temperature = None  # weights too are of plain probabilities
    timings["members"] = time.perf_counter()
    data = instantiate(cfg.data)
    data.setup("fit")
    timings["data"] = time.perf_counter()
    shares = _shares(cfg, [each.model for each in loaded], data)
    notes = {"members": [], "weights": shares}
    for (overrides, _), value, share in zip(chosen, objectives, shares, strict=True):
        name, scored = _named(overrides), "-" if value is None else f"{value:.3f}"
        notes["members"].append({"overrides": name.split(), "objective": value})
        log.info("weight %.3f, %s %s alone: %s", share, cfg.objective, scored, name)
    model = Committee(data.labels.classes, [_recipe_of(each) for each in loaded], shares)
    model.members = torch.nn.ModuleList(each.model for each in loaded)
    config = portable(cfg) | {"model": {"_target_": NAME, **model.hparams}}
    del config["model"]["classes"]
    info = replace(data.split_info(), **joint_stamps(each.split_info for each in loaded))
    recipe = Recipe(config, data.record(), info, folds.started_with(cfg))
    trainer = build_trainer(cfg, recipe)
    begin(*KEPT, restart.CURVES)
    data.table.to_csv(folder / "split.csv", index=False)
    trainer.loggers = build_loggers(cfg, info)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "checkpoints" / "best.ckpt")
    model = load_checkpoint(folder / "checkpoints" / "best.ckpt", compiled=True).model
    timings["fit"] = time.perf_counter()
    value, calibration = validate(model, data, trainer, cfg.objective)
    calibrate(model, calibration, folder)
    timings["val"] = time.perf_counter()
    return Fit(data, info, model, trainer, value, False, calibration, notes)


def _named(overrides: Sequence[str]) -> str:
    return " ".join(text for text in overrides if text not in ALONE)


def mixture_weights(likelihoods: np.ndarray) -> np.ndarray:
    """Return the weights (members,) with which a mixture is most likely, by the EM algorithm.

    Args:
        likelihoods: Of the true class of each clip by each member, (members, clips).
    """
    weights = np.full(len(likelihoods), 1 / len(likelihoods))
    likelihoods = np.maximum(likelihoods, np.finfo(np.float32).tiny)  # as none is impossible
    for _ in range(STEPS):
        joint = weights[:, None] * likelihoods
        weights = (joint / joint.sum(axis=0)).mean(axis=1)
    return weights


def _shares(
    cfg: DictConfig, models: Sequence[LightningModule], data: EmotionDataModule
) -> list[float]:
    """Return the weights of the members, whose sum is 1: fixed, or fitted on validation clips."""
    if cfg.ensemble_weights == "val":
        trainer = build_trainer(cfg)
        tables = [score(model, data, trainer, "val") for model in models]
        truth = tables[0].label.map(data.labels.classes.index).to_numpy()
        columns = [f"p_{name}" for name in data.labels.classes]
        likelihoods = [table[columns].to_numpy()[range(len(truth)), truth] for table in tables]
        return mixture_weights(np.array(likelihoods)).tolist()
    weights = cfg.ensemble_weights or [1.0] * len(models)
    return [float(weight / sum(weights)) for weight in weights]


def _recipe_of(loaded: Checkpoint) -> dict:
    """Return the recipe of a trained model, with what it was trained by."""
    arguments = {key: value for key, value in loaded.model.hparams.items() if key != "classes"}
    return {"_target_": loaded.config["model"]["_target_"], **arguments}
