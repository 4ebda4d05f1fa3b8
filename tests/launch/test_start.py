"""What a start sets before torch is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ser.launch.start import Threads

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("override", "own", "policy"),
    [
        ("resume=/nowhere.ckpt", {}, "PASSIVE"),  # the callback of resume= imports torch
        ("data.root=/nowhere", {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
    ],
)
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(
    override: str, own: dict[str, str], policy: str, tmp_path: Path
):
    command = [sys.executable, REPOSITORY / "train.py", override, "logger=none"]
    command += [f"hydra.run.dir={tmp_path}"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    # OpenMP itself tells what it has read, once, as torch is imported.
    env = variables | own | {"OMP_DISPLAY_ENV": "TRUE"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr


def test_a_job_has_as_many_threads_as_submitit_gives_it_processors(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    Threads().on_job_start(OmegaConf.create({"hydra": {"launcher": {"cpus_per_task": None}}}))
    assert "OMP_NUM_THREADS" not in os.environ
    Threads().on_job_start(OmegaConf.create({"hydra": {"launcher": {"cpus_per_task": 3}}}))
    Threads().on_job_start(OmegaConf.create({"hydra": {"launcher": {"cpus_per_task": 4}}}))
    assert os.environ["OMP_NUM_THREADS"] == "3"  # the user's own stays
