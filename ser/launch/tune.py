"""A study of Optuna: runs whose settings are drawn by what the runs before them scored."""

import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from ser.cache.store import digest
from ser.launch.sweep import quoted
from ser.reporting.wandb import wandb_group
from ser.training import folds, kept, selection
from ser.training.processes import check_devices

log = logging.getLogger(__name__)

NO_EFFECT = ("cache", "folder", "group", "jobs", "logger", "n_trials", "name", "overwrite")
"""Root keys that change no score: the starts of one study may differ in them."""

OWN = ("n_trials", "search", "space")
"""Keys that a trial, which is a run of train.py, does not have."""


class Study:
    """A folder of trials, each a run in a folder of its own, and Optuna's record of them.

    Under other settings scores are not comparable: they make another study.

    Args:
        cfg: As composed for `ser.tune`.

    Attributes:
        folder: Of the study, named by a digest of its settings.

    Raises:
        ValueError: The space is none, a choice in it decides who tests or what is scored, or trials
            have finished on other clips than there are now.
    """

    def __init__(self, cfg: DictConfig) -> None:
        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            raise ValueError("ser.tune runs one study a start: leave out -m and what varies")
        check_devices(cfg, hydra)
        if cfg.select is not None:
            raise ValueError(f"select={cfg.select} under ser.tune: expected one search at a time")
        if cfg.ensemble is not None:
            raise ValueError(
                f"ensemble={cfg.ensemble} under ser.tune: expected one model, as a member"
            )
        if cfg.objective is None:
            raise ValueError(
                "objective=null under ser.tune: expected what it maximises, as val/uar"
            )
        self.cfg = cfg
        self.space = distributions(OmegaConf.to_container(cfg.space) if cfg.space else {})
        own = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
        own = [one.input_line for one in own if one.key_or_group.partition(".")[0] not in OWN]
        self.fixed = [f"name={quoted(cfg.name)}", f"objective={cfg.objective}", *own]
        ends = {key: _ends(key, values) for key, values in self.space.items()}
        self.first = self._compose([texts[0] for texts in ends.values()])
        if self.first.fold == "all":
            raise ValueError(
                "fold=all under ser.tune chooses by validation speakers whom other folds test:"
                " expected one fold, or train.py with select=<a file of conf/sweep>, which chooses"
                " inside each fold"
            )
        self._check_blind(ends)
        settings = OmegaConf.to_container(cfg)
        facts = {key: value for key, value in settings.items() if key not in NO_EFFECT}
        self.folder = Path(cfg.folder) / digest(facts)
        kept.check_sweep(self.folder)
        self.record = self._open()

    def run(self, train: Callable[[DictConfig], float]) -> bool:
        """Run trials that broke off, then others, as many as `n_trials` lacks; say if one failed.

        Args:
            train: Trains a config and returns its objective.
        """
        trials = self.record.get_trials(deepcopy=False)
        finished = sum(trial.state == TrialState.COMPLETE for trial in trials)
        log.info("%d of %d trials have finished before", finished, self.cfg.n_trials)
        # One that was killed while it was drawn has not all values: another is drawn.
        begun = [trial for trial in trials if trial.state == TrialState.RUNNING]
        begun = [trial for trial in begun if {*trial.params} == {*self.space}]
        failed = False
        for place in range(self.cfg.n_trials - finished):
            trial = begun[place] if place < len(begun) else self.record.ask(self.space)
            drawn = _overrides(trial.params)
            try:
                config = self._compose(drawn)
                config.folder = str(self.folder / str(trial.number))
                config.group = config.group or wandb_group(self.folder)
                ended = kept.outcome(config)  # it may just have finished when it was killed
                if ended is None:
                    folds.record(config, [*self.fixed, *drawn])
                value = train(config) if ended is None else ended["objective"]
            except KeyboardInterrupt:
                raise KeyboardInterrupt("the same command goes on") from None
            except Exception as error:
                log.error("trial %d failed: %s", trial.number, error, exc_info=error)
                self.record.tell(trial.number, state=TrialState.FAIL)
                failed = True
            else:
                log.info("trial %d: %s %.3f", trial.number, self.cfg.objective, value)
                self.record.tell(trial.number, value)
        return failed

    def log_best(self) -> None:
        """Log the overrides of the best trial in one line."""
        if not self.record.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
            log.error("no trial has finished: there is no best one")
            return
        best: FrozenTrial = self.record.best_trial
        words = shlex.join(_overrides(best.params))
        log.info("the best, %.3f (trial %d): %s", best.value, best.number, words)

    def _open(self) -> optuna.Study:
        """Open Optuna's record; a sampler that goes on does not draw the first trials again."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)  # greets with its list of plugins
        self.folder.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=f"sqlite:///{(self.folder / 'optuna.db').absolute()}",
            study_name=self.folder.name,
            direction="maximize",  # every objective is a score
            load_if_exists=True,
        )
        seed = self.cfg.seed + len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        return study

    def _compose(self, drawn: Sequence[str]) -> DictConfig:
        source = f"space draws {' '.join(drawn)}"
        return selection.compose_run("train", [*self.fixed, *drawn], source)

    def _check_blind(self, ends: Mapping[str, Sequence[str]]) -> None:
        """Refuse a space whose best is chosen by speakers who test, or by scores of other things.

        By what each choice composes to, as groups set keys of others.
        """
        texts = [values[0] for values in ends.values()]
        for place, values in enumerate(ends.values()):
            for value in values[1:]:
                drawn = self._compose([*texts[:place], value, *texts[place + 1 :]])
                if changed := selection.changes(drawn, self.first):
                    raise ValueError(
                        f"{value} is drawn by ser.tune, but changes {changed[0]}, which decides who"
                        " tests or what is scored and must not be chosen by a score: expected it"
                        " fixed, or train.py -m over it"
                    )


def distributions(space: Mapping[str, object]) -> dict[str, BaseDistribution]:
    """Build the distributions from which trials are drawn.

    Args:
        space: By key, a list of choices, or a mapping of `low` and `high`, both included, and
            `log: true` where magnitudes are drawn evenly. Two integers are a range of integers.

    Raises:
        ValueError: It is something else, or empty.
    """
    if not space:
        raise ValueError(
            "space=null: expected what is drawn, by search=<a file of conf/search>, or ~search"
            " 'space={optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}'"
        )
    return {key: _distribution(key, values) for key, values in space.items()}


def _distribution(key: str, values: object) -> BaseDistribution:
    try:
        if isinstance(values, list):
            return CategoricalDistribution([_text(value) for value in values])
        whole = all(isinstance(values[end], int) for end in ("low", "high"))
        return (IntDistribution if whole else FloatDistribution)(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"space: {key}={values!r} ({error}): expected a list of choices, or low and high, and"
            " log: true to draw magnitudes evenly"
        ) from error


def _text(value: object) -> str:
    """Return a value as an override has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _overrides(params: Mapping[str, object]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in params.items()]


def _ends(key: str, values: BaseDistribution) -> list[str]:
    """List the choices as overrides; two values of a range show what it changes."""
    categorical = isinstance(values, CategoricalDistribution)
    some = values.choices if categorical else (values.low, values.high)
    return [f"{key}={_text(value)}" for value in some]
