"""What Hydra's plugins lack: threads, a study that goes on to n_trials, survived killed jobs."""

import json
import logging
import os
from itertools import islice
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ser.launch.run_folder import ending

log = logging.getLogger(__name__)

FREE = ("hydra", "name", "folder", "group", "logger", "cache", "overwrite")
"""Root keys in which the starts of one study may differ."""


class Threads(Callback):
    """Sets what OpenMP reads once, as torch is imported; a user's own variables stay.

    Hydra's own `hydra.job.env_set` comes too late for a run that resume= reads a checkpoint for.
    """

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Set them for a single run."""
        self.on_job_start(config)

    def on_job_start(self, config: DictConfig, **_: object) -> None:
        """Let waiting threads sleep, and a job of submitit have one for each of its processors.

        Joblib gives its jobs their share of the threads by itself.
        """
        # Spinning threads of two runs take the processors from each other.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if processors := config.hydra.launcher.get("cpus_per_task"):
            os.environ.setdefault("OMP_NUM_THREADS", str(processors))


class Study(Callback):
    """Goes on with a stored Optuna study: the sweeper by itself always runs n_trials more."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Take the trials that have finished from n_trials; end here where none is left."""
        sweeper = config.hydra.sweeper
        if "optuna" not in sweeper._target_:
            return
        given = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        swept = [one for one in given if one.is_sweep_override()]
        with ending():
            _check_blind(config)
        sweeper.direction = "maximize"  # every objective is a score, and Optuna minimises
        self._end_without_a_best()
        if sweeper.storage is None:
            return
        # Both would greet the user: with the news of version 2, with a list of plugins.
        os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        import optuna
        from sqlalchemy.engine import make_url

        from ser.cache.store import digest

        # Under other settings scores are not comparable: they get a study of their own.
        settings = OmegaConf.to_container(config)
        settings = {key: value for key, value in settings.items() if key not in FREE}
        searched = sorted(one.input_line for one in swept)
        searched.append(OmegaConf.to_container(sweeper.params or OmegaConf.create()))
        sweeper.study_name = f"{sweeper.study_name or config.name}-{digest(settings, searched)}"
        Path(make_url(sweeper.storage).database).parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            sweeper.storage,
            study_name=sweeper.study_name,
            direction=sweeper.direction,
            load_if_exists=True,
        )
        trials = study.get_trials(deepcopy=False)
        finished = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
        log.info("%d of %d trials have finished before", finished, sweeper.n_trials)
        if finished >= sweeper.n_trials:
            log.info("the best, %.3f: %s", study.best_value, study.best_params)
            raise SystemExit(0)
        sweeper.n_trials -= finished
        # The same seed would draw the first, random trials once more.
        if OmegaConf.select(sweeper, "sampler.seed") is not None:
            sweeper.sampler.seed += len(trials)

    @staticmethod
    def _end_without_a_best() -> None:
        """Let a study in which every trial failed end with its table: the sweeper would raise."""
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

        sweep = OptunaSweeperImpl.sweep

        def sweep_to_the_end(self: OptunaSweeperImpl, arguments: list[str]) -> None:
            try:
                sweep(self, arguments)
            except ValueError as error:
                # Optuna's words for a best trial that is asked for and not there.
                if str(error) not in ("No trials are completed yet.", "Record does not exist."):
                    raise
                log.error("no trial has finished: there is no best one")

        OptunaSweeperImpl.sweep = sweep_to_the_end


def _check_blind(config: DictConfig) -> None:
    """Refuse a search whose best is chosen by speakers who test, or by scores of other things.

    Args:
        config: Of the multirun.
    """
    from ser.training import selection  # with torch and pandas, which no start should wait for

    params = config.hydra.sweeper.params or {}
    texts = [*config.hydra.overrides.task, *(f"{key}={value}" for key, value in params.items())]
    given = OverridesParser.create().parse_overrides(texts)
    fixed = [one.input_line for one in given if not one.is_sweep_override()]
    searched = [_some(one) for one in given if one.is_sweep_override()]
    first = [values[0] for values in searched]
    begun = None
    for place, values in enumerate(searched):
        for value in values:
            drawn = [*first[:place], value, *first[place + 1 :]]
            try:
                composed = selection.compose_again(config.hydra, [*fixed, *drawn])
            except HydraException:  # its trial will say so
                continue
            begun = composed if begun is None else begun
            if changed := selection.changes(composed, begun):
                raise ValueError(
                    f"{value} is searched by hydra/sweeper=optuna, but changes {changed[0]}, which"
                    " decides who tests or what is scored and must not be chosen by a score:"
                    " expected it fixed, or a sweep without hydra/sweeper"
                )
    if "all" in (config.fold, begun is not None and begun.fold):
        raise ValueError(
            "fold=all under hydra/sweeper=optuna chooses by validation speakers whom other folds"
            " test: expected one fold, or without the sweeper select=<a file of conf/sweep>, which"
            " chooses inside each fold"
        )


def _some(override: Override) -> list[str]:
    """List the choices of a sweep as overrides; two values of a range show what it changes."""
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}", f"{key}={value.end}"]
    count = 2 if override.is_range_sweep() else None
    return [f"{key}={text}" for text in islice(override.sweep_string_iterator(), count)]


class KilledJobs(Callback):
    """Waits for all jobs when one is killed: submitit would raise at the first, without a table."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Let a job without a result be a failed one."""
        if "submitit" not in config.hydra.launcher._target_:
            return
        from submitit import Job
        from submitit.core.utils import UncompletedJobError

        results = Job.results

        def results_or_none(job: Job) -> list[JobReturn]:
            try:
                return results(job)
            except UncompletedJobError:
                overrides, _, number, *_ = job.submission().args
                folder = Path(config.hydra.sweep.dir, str(number))
                _record(folder, overrides, f"killed: its last words are in {job.paths.stderr}")
                return [JobReturn(status=JobStatus.COMPLETED)]

        Job.results = results_or_none


def _record(folder: Path, overrides: list[str], error: str) -> None:
    """Write what a job that was killed could not: its overrides and how it ended."""
    log.error("%s was %s", folder, error)
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")
    status = {"status": "failed", "error": error, "objective": None, "overrides": list(overrides)}
    (folder / "status.json").write_text(json.dumps(status, indent=2) + "\n")
