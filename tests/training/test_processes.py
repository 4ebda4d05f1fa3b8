"""Several processes fit one network; one keeps the files and scores."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).parents[2]
TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]


@pytest.mark.slow
def test_two_processes_write_one_run_that_scores_each_clip_once(
    launch: Callable[..., Path], tmp_path: Path, cache: Path
):
    fit = ["data=demo", "trainer.max_epochs=2"]
    alone = launch("train", *fit, folder="alone", logger="wandb")
    both = tmp_path / "both"
    command = [sys.executable, REPOSITORY / "train.py", *fit, *TWO, f"cache.dir={cache}"]
    done = subprocess.run(
        [*command, f"hydra.run.dir={both}"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in both.iterdir()} == {path.name for path in alone.iterdir()}
    assert len(list(both.glob("wandb/offline-run-*"))) == 1
    assert not list(REPOSITORY.glob("lightning_logs"))
    one, two = (pd.read_csv(run / "predictions.csv") for run in (alone, both))
    assert two.path.tolist() == one.path.tolist()
    assert two.path.is_unique
    # Half the steps an epoch, and validation clips that are neither padded nor parted.
    curves = pd.read_csv(both / "metrics.csv")
    steps = pd.read_csv(alone / "metrics.csv").step.max()
    assert curves.step.max() == pytest.approx(steps / 2, abs=1)
    best = json.loads((both / "status.json").read_text())["objective"]
    assert curves["val/uar"].max() == pytest.approx(best)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["fold=all"], "2 processes: expected one device for fold=all"),
        (["select=cnn_learning_rate"], "one device for select="),
        (["model=svm", "trainer.max_epochs=null"], "one device for scoring and classical models"),
    ],
)
def test_several_processes_are_refused_where_one_network_is_not_what_is_fitted(
    launch: Callable[..., Path], tmp_path: Path, overrides: list[str], expected: str
):
    with pytest.raises(SystemExit):
        launch("train", "data=demo", *TWO, *overrides)
    assert expected in json.loads((tmp_path / "run" / "status.json").read_text())["error"]


def test_a_multirun_of_several_processes_is_one_line(
    launch: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as end:
        launch("train", "-m", "data=demo", *TWO, "seed=0,1", f"hydra.sweep.dir={tmp_path / 's'}")
    assert end.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "expected one device for a multirun (-m, sweep=), which each of them" in line
    assert not (tmp_path / "s").exists()
