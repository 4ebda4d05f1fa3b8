"""What a start sets before torch is imported."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ser.launch.start import Threads, uncollected

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_threads_that_wait_sleep_also_where_a_checkpoint_is_read_first(tmp_path: Path):
    # The callback of resume= imports torch.
    command = [sys.executable, REPOSITORY / "train.py", "resume=/nowhere.ckpt", "logger=none"]
    command += [f"hydra.run.dir={tmp_path}"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    # OpenMP itself tells what it has read, once, as torch is imported.
    env = variables | {"OMP_DISPLAY_ENV": "TRUE"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


def test_a_users_own_word_on_threads_that_wait_stays(monkeypatch: pytest.MonkeyPatch):
    config = OmegaConf.create({"hydra": {"launcher": {}}})
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    Threads().on_run_start(config)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    Threads().on_run_start(config)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_job_has_as_many_threads_as_submitit_gives_it_processors(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    Threads().on_job_start(OmegaConf.create({"hydra": {"launcher": {"cpus_per_task": None}}}))
    assert "OMP_NUM_THREADS" not in os.environ
    Threads().on_job_start(OmegaConf.create({"hydra": {"launcher": {"cpus_per_task": 3}}}))
    Threads().on_job_start(OmegaConf.create({"hydra": {"launcher": {"cpus_per_task": 4}}}))
    assert os.environ["OMP_NUM_THREADS"] == "3"  # the user's own stays


def test_garbage_is_searched_for_again_after_the_first_imports(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with uncollected():
        assert gc.isenabled()  # what is there may be another's
    monkeypatch.delitem(sys.modules, "torch")
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()


AT_ONCE = """
import contextlib, os, signal, time
from omegaconf import OmegaConf
from ser.launch.start import Workers
Workers().on_run_start(OmegaConf.create({"fold": "all", "jobs": 2}))
time.sleep(1)
with contextlib.suppress(KeyboardInterrupt):
    os.killpg(0, signal.SIGINT)
    time.sleep(60)
"""


@pytest.mark.slow
def test_what_folds_are_forked_from_says_nothing_of_ctrl_c():
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE],
        cwd=REPOSITORY,
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
