"""Jobs of hydra/launcher=submitit_* that are killed: a failed row each, while the others finish."""

import json
import logging
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)


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

        # A patch, as launchers know no failed jobs (github.com/facebookresearch/hydra/issues/1377):
        # the one for submitit ends with `[j.results()[0] for j in jobs]`.
        Job.results = results_or_none


def _record(folder: Path, overrides: list[str], error: str) -> None:
    """Write what a job that was killed could not: its overrides and how it ended."""
    log.error("%s was %s", folder, error)
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")
    status = {"status": "failed", "error": error, "objective": None, "overrides": list(overrides)}
    (folder / "status.json").write_text(json.dumps(status, indent=2) + "\n")
