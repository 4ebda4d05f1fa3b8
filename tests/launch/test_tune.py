"""A study: what may be searched, and how it goes on."""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna.distributions import IntDistribution

from ser.launch.tune import Study, distributions

REPOSITORY = Path(__file__).parents[2]
C = "model.estimator._args_.1.C"


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Callable[..., DictConfig]]:
    """Compose the config of a study, as Hydra does for its start."""

    def build(*overrides: str) -> DictConfig:
        config = compose("tune", list(overrides), return_hydra_config=True)
        with read_write(config.hydra), open_dict(config):
            config.hydra.runtime.output_dir = str(tmp_path)
            config.hydra.job.config_name = "tune"
            HydraConfig.instance().set_config(config)
            del config["hydra"]
        return config

    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        yield build


@pytest.mark.parametrize(
    ("overrides", "space", "line"),
    [
        (["fold=all"], "seed: [1, 2]", "fold=all under ser.tune chooses by valid"),
        ([], "fold: [all]", "fold=all under ser.tune chooses by valid"),
        ([], "fold: [0, 1]", "fold=1 is drawn by ser.tune, but changes fold"),
        ([], "protocol: [luna5, kfold]", "changes protocol"),
        ([], "seed: [0, 1], protocol.seed: {low: 0, high: 9}", "protocol.seed=9 is drawn by"),
        ([], "data.tess: [train, off]", "data.tess=off is drawn by"),
        # These groups set keys of others.
        ([], "model: [mlp, gender_split]", "model=gender_split is drawn by"),
        ([], "experiment: [forest, drop_sad]", "experiment=drop_sad is drawn by"),
        ([], "optimizer.lx: [1, 2]", "space draws optimizer.lx=1, which does not fit this run"),
        (["select=svm_regularisation"], "seed: [1, 2]", "expected one search at a time"),
        (["ensemble=2"], "seed: [1, 2]", "ensemble=2 under ser.tune: expected one model"),
        (["trainer=ddp", "trainer.devices=2"], "seed: [1]", "one device for ser.tune"),
    ],
)
def test_nothing_is_optimised_over_who_tests_or_what_is_scored(
    overrides: list[str], space: str, line: str, composed: Callable[..., DictConfig], tmp_path: Path
):
    with pytest.raises(ValueError, match=line):
        Study(composed("~search", f"space={{{space}}}", "trainer.accelerator=cpu", *overrides))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "space"),
    [
        (
            ["model=gender_split", "fold=3", "data.tess=off", "data.drop=[sad]"],
            "window.seconds: {low: 1.0, high: 3.0}, data.batch_size: [16, 32], seed: [0, 1]",
        ),
        ([], "experiment: [knn, logistic]"),  # both of sixteen classes
    ],
)
def test_other_keys_are_searched(
    overrides: list[str], space: str, composed: Callable[..., DictConfig]
):
    Study(composed("~search", f"space={{{space}}}", *overrides))


def test_a_space_is_of_choices_or_ranges():
    whole, wide, choice = distributions(
        {
            "a": {"low": 1, "high": 9},
            "b": {"low": 1e-3, "high": 10, "log": True},
            "c": [[100], [300, 100]],
        }
    ).values()
    assert isinstance(whole, IntDistribution)
    assert (whole.low, whole.high) == (1, 9)
    assert (wide.low, wide.high, wide.log) == (1e-3, 10, True)
    assert choice.choices == ("[100]", "[300, 100]")
    for wrong in ({"low": 1}, {"low": 2, "high": 1}, {"low": 0, "high": 1, "scale": 2}, 3, []):
        with pytest.raises(ValueError, match="expected a list of choices, or low and high"):
            distributions({"lr": wrong})
    with pytest.raises(ValueError, match="expected what is drawn, by search="):
        distributions({})


def tune(*overrides: str) -> None:
    before = sys.argv
    sys.argv = ["tune", "data=demo", "model=logistic", "logger=none", *overrides]
    try:
        runpy.run_path(str(REPOSITORY / "ser" / "tune.py"), run_name="__main__")
    finally:
        sys.argv = before


def rows(study: Path) -> list[dict]:
    return json.loads((study / "summary.json").read_text())


@pytest.mark.slow
def test_a_study_goes_on_with_other_draws_on_the_same_clips(
    tmp_path: Path, small: list[str], cache: Path, capfd: pytest.CaptureFixture
):
    where = [*small, f"cache.dir={cache}", f"hydra.run.dir={tmp_path}"]
    tune(*where, "n_trials=1")
    (study,) = (path.parent for path in tmp_path.glob("*/optuna.db"))
    stamp = (study / "0" / "status.json").stat().st_mtime_ns
    # As a kill leaves it: a trial has been drawn.
    record = optuna.load_study(study_name=None, storage=f"sqlite:///{study}/optuna.db")
    record.ask(distributions({C: {"low": 2e-3, "high": 2e-3, "log": True}}))
    tune(*where, "n_trials=3")
    assert (study / "0" / "status.json").stat().st_mtime_ns == stamp
    drawn = [row[C] for row in rows(study)]
    assert len({*drawn}) == 3
    assert float(drawn[1]) == 2e-3
    scores = [row["validation"] for row in rows(study)]
    assert [trial.value for trial in record.get_trials()] == scores
    best = scores.index(max(scores))
    assert f"(trial {best}): {C}={drawn[best]}" in (shown := capfd.readouterr().err)
    assert "1 of 3 trials have finished before" in shown
    # A trial is a run of train.py by its own overrides.
    given = OmegaConf.load(study / "1" / ".hydra" / "overrides.yaml")
    assert [text for text in given if text.startswith(("objective", "n_trials", C))] == [
        "objective=cv/uar", f"{C}=0.002",
    ]  # fmt: skip
    assert (study / "1" / "train.log").is_file()
    tune(*where, "n_trials=3")  # nothing is left to do
    assert len(rows(study)) == 3
    # Under other settings it is another study.
    with pytest.raises(SystemExit):
        tune(*where, "n_trials=2", "~search", f"space={{{C}: [-1, -2]}}")
    (other,) = (path.parent for path in tmp_path.glob("*/optuna.db") if path.parent != study)
    assert [row["status"] for row in rows(other)] == ["failed", "failed"]
    assert "C" in rows(other)[0]["error"]
    assert "no trial has finished: there is no best one" in capfd.readouterr().err
    # On other clips it does not go on.
    clips = pd.read_csv(study / "0" / "split.csv")
    clips.loc[0, "sha256"] = "0" * 64
    clips.to_csv(study / "0" / "split.csv", index=False)
    with pytest.raises(SystemExit):
        tune(*where, "n_trials=4")
    assert "was trained on other clips: 1 are missing" in capfd.readouterr().err
    assert not (study / "3").exists()
