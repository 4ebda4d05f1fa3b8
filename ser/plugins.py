"""What Hydra's plugins lack: a study that goes on to n_trials, a killed job that is survived."""

import logging
import os
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)

FREE = ("hydra", "name", "folder", "group", "logger", "cache")
"""Root keys in which the starts of one study may differ."""


class Study(Callback):
    """Goes on with a stored Optuna study: the sweeper by itself always runs n_trials more."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Take the trials that have finished from n_trials; end here where none is left."""
        sweeper = config.hydra.sweeper
        if "optuna" not in sweeper._target_:
            return
        sweeper.direction = "maximize"  # every objective is a score, and Optuna minimises
        if sweeper.storage is None:
            return
        # Both would greet the user: with the news of version 2, with a list of plugins.
        os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        import optuna
        from sqlalchemy.engine import make_url

        from ser.data.cache import digest

        # Under other settings scores are not comparable: they get a study of their own.
        settings = OmegaConf.to_container(config)
        settings = {key: value for key, value in settings.items() if key not in FREE}
        sweeper.study_name = f"{sweeper.study_name or config.name}-{digest(settings)}"
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


class KilledJobs(Callback):
    """Waits for all jobs when one is killed: submitit would raise at the first, without a table."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Let a job without a result return None, as one that fails does."""
        if "submitit" not in config.hydra.launcher._target_:
            return
        from submitit import Job
        from submitit.core.utils import UncompletedJobError

        results = Job.results

        def results_or_none(job: Job) -> list[JobReturn]:
            try:
                return results(job)
            except UncompletedJobError:
                log.error("a job left no result: its last words are in %s", job.paths.stderr)
                return [JobReturn(status=JobStatus.COMPLETED)]

        Job.results = results_or_none
