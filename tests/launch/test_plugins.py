"""What is refused before a sweep begins, and what runs at once have of the processors."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ser.launch.plugins import Study, Threads, _check_blind

REPOSITORY = Path(__file__).parents[2]


def search(task: list[str], params: dict | None = None) -> DictConfig:
    """Compose a search as Hydra does for its multirun."""
    fixed = [text for text in task if "," not in text]
    config = compose("train", fixed, return_hydra_config=True)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.overrides.task = task
        config.hydra.job.config_name = "train"
        sweeper = {"_target_": "optuna", "params": params, "storage": None, "direction": ""}
        config.hydra.sweeper = sweeper
    return config


@pytest.fixture
def _composing() -> Iterator[None]:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        yield


@pytest.mark.usefixtures("_composing")
@pytest.mark.parametrize(
    ("task", "params", "line"),
    [
        (["fold=all", "seed=1,2"], {}, "fold=all under hydra/sweeper=optuna chooses by valid"),
        (["fold=0,1"], {}, "fold=1 is searched by hydra/sweeper=optuna, but changes fold"),
        (["protocol=luna5,kfold"], {}, "changes protocol"),
        (["seed=0,1"], {"protocol.seed": "range(0, 9)"}, "protocol.seed=1 is searched by"),
        (["data.tess=train,off"], {}, "data.tess=off is searched by"),
        # These groups set keys of others.
        (["model=mlp,gender_split"], {}, "model=gender_split is searched by"),
        ([], {"experiment": "forest,drop_sad"}, "experiment=drop_sad is searched by"),
    ],
)
def test_nothing_is_optimised_over_who_tests_or_what_is_scored(
    task: list[str], params: dict, line: str, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as stop:
        Study().on_multirun_start(search(task, params))
    assert stop.value.code == 1
    (shown,) = capsys.readouterr().err.splitlines()
    assert line in shown


@pytest.mark.usefixtures("_composing")
def test_other_keys_are_searched_and_fixed_ones_are_not():
    drawn = {"data.window.seconds": "interval(1, 3)", "data.batch_size": "16,32"}
    fixed = {"fold": 3, "data.tess": "off", "model": "gender_split"}
    _check_blind(search(["seed=0,1", "data.drop=[sad]"], drawn | fixed))
    _check_blind(search(["experiment=knn,logistic"]))  # both of sixteen classes


@pytest.mark.parametrize("override", ["data.root=/nowhere", "resume=/nowhere.ckpt"])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(override: str, tmp_path: Path):
    command = [sys.executable, REPOSITORY / "train.py", override, "logger=none"]
    command += [f"hydra.run.dir={tmp_path}"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    for own, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
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
