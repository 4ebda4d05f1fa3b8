"""The launchers and the sweeper of the extra `sweep`, each as a user starts it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from omegaconf import OmegaConf

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@contextmanager
def started(sweep: Path, cache: Path, *overrides: str) -> Iterator[subprocess.Popen]:
    arguments = ["-m", "data=demo", "logger=none", f"cache.dir={cache}", f"hydra.sweep.dir={sweep}"]
    command = [sys.executable, "train.py", *arguments, *overrides]
    process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with its jobs, which would outlive it
        process.wait()


def run(*arguments: Path | str) -> int:
    with started(*arguments) as process:
        return process.wait(timeout=200)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while not path.exists():
        assert process.poll() is None, "it has ended before"
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def rows(sweep: Path) -> list[dict]:
    return json.loads((sweep / "summary.json").read_text())


def test_joblib_runs_two_jobs_at_once_that_decode_once(tmp_path: Path, demo: Path):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / demo.name).symlink_to(demo)
    sweep = tmp_path / "sweep"
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert run(sweep, cache, "model=logistic,svm", *launcher) == 0
    assert [row["status"] for row in rows(sweep)] == ["finished", "finished"]
    logs = [path.read_text() for path in sorted(sweep.glob("*/train.log"))]
    assert len(logs) == 2
    assert "".join(logs).count("recordings once") == 1


def test_under_submitit_the_others_finish_when_a_job_is_killed(tmp_path: Path, cache: Path):
    overrides = ["trainer.max_epochs=100000,1,2", "hydra/launcher=submitit_local"]
    with started(tmp_path, cache, *overrides) as process:
        wait_for(tmp_path / "0" / "status.json", process)
        job = OmegaConf.load(tmp_path / "0" / ".hydra" / "hydra.yaml").hydra.job.id
        (tmp_path / "0" / "status.json").unlink()  # as if it had been killed at its first breath
        # The job's id is the process that watches over it.
        worker = Path(f"/proc/{job}/task/{job}/children").read_text()
        os.kill(int(worker), signal.SIGKILL)
        assert process.wait(timeout=200) == 1
    assert [row["status"] for row in rows(tmp_path)] == ["failed", "finished", "finished"]
    assert rows(tmp_path)[0]["error"].startswith("killed: its last words are in ")
    assert [row["uar"] is None for row in rows(tmp_path)] == [True, False, False]


def test_submitit_ends_well_when_all_jobs_do(tmp_path: Path, cache: Path):
    assert run(tmp_path, cache, "model=logistic,svm", "hydra/launcher=submitit_local") == 0
    assert [row["status"] for row in rows(tmp_path)] == ["finished", "finished"]


def test_a_stopped_study_goes_on_to_its_number_of_trials(tmp_path: Path, cache: Path):
    storage = tmp_path / "optuna.db"
    overrides = ["model=logistic", "sweep=tune", f"hydra.sweeper.storage=sqlite:///{storage}"]
    overrides += ["hydra.sweeper.n_trials=6"]

    def finished() -> list[tuple[float, float]]:
        query = (
            "select value, param_value from trials join trial_values using (trial_id)"
            " join trial_params using (trial_id) where state = 'COMPLETE' order by number"
        )
        return sqlite3.connect(storage).execute(query).fetchall()

    with started(tmp_path / "first", cache, *overrides) as process:
        wait_for(tmp_path / "first" / "3" / "status.json", process)  # leaving kills it
    before = len(finished())
    assert 3 <= before < 6
    assert run(tmp_path / "second", cache, *overrides) == 0
    second = rows(tmp_path / "second")
    assert len(second) == 6 - before
    assert [value for value, _ in finished()[before:]] == [row["validation"] for row in second]
    assert len({drawn for _, drawn in finished()}) == 6
    assert run(tmp_path / "third", cache, *overrides) == 0
    assert not (tmp_path / "third").exists()  # nothing was left to do


def test_a_study_in_which_every_trial_fails_ends_with_its_table(tmp_path: Path, cache: Path):
    overrides = ["model=logistic", "sweep=tune", "hydra.sweeper.storage=null", "data.drop=[sat]"]
    overrides += ["hydra.sweeper.n_trials=2"]
    assert run(tmp_path, cache, *overrides) == 1
    assert [row["status"] for row in rows(tmp_path)] == ["failed", "failed"]
