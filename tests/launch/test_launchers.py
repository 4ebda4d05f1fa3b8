"""The launchers of the extra `sweep`, and a study that is killed, each as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from omegaconf import OmegaConf

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("pools")]


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


def test_a_killed_study_goes_on_to_its_number_of_trials(tmp_path: Path, cache: Path):
    command = [sys.executable, "-m", "ser.tune", "data=demo", "model=logistic", "logger=none"]
    command += ["n_trials=4", f"cache.dir={cache}", f"hydra.run.dir={tmp_path}"]
    with subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True) as process:
        while not (done := list(tmp_path.glob("*/1/status.json"))):
            assert process.poll() is None, "it has ended before"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    study = done[0].parents[1]
    stamp = (study / "0" / "status.json").stat().st_mtime_ns
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=200)
    assert (study / "0" / "status.json").stat().st_mtime_ns == stamp
    (drawn,) = ({row[key] for row in rows(study)} for key in rows(study)[0] if key.endswith(".C"))
    assert len(drawn) == 4  # the killed one goes on with what it had drawn
    assert [row["status"] for row in rows(study)] == ["finished"] * 4
