"""Selection inside a fold."""

import json
import shutil
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from omegaconf import DictConfig, OmegaConf

from ser import experiment
from ser.training import selection

FOLD = ("model=svm", "protocol=luna5", "fold=1")
SELECT = "select=svm_regularisation"


@pytest.fixture(scope="module")
def run(small: list[str], finish: Callable[..., Path]) -> Path:
    """A finished run with a selection, which stays as it is."""
    return finish(*small, *FOLD, SELECT)


def test_the_winner_is_the_best_on_validation_and_then_a_plain_run(
    run: Path, small: list[str], launch: Callable[..., Path]
):
    selection = json.loads((run / "selection.json").read_text())
    scores = [candidate["score"] for candidate in selection["candidates"]]
    assert [candidate["overrides"] for candidate in selection["candidates"]] == [
        [f"model.estimator._args_.1.estimator.C={value}"] for value in (1, 10, 100)
    ]
    best = selection["candidates"][scores.index(max(scores))]
    assert selection["winner"] == best["overrides"]
    for number, score in enumerate(scores):
        status = json.loads((run / f"candidate_{number}" / "status.json").read_text())
        assert status["objective"] == score
        assert not (run / f"candidate_{number}" / "predictions.csv").exists()
        given = (run / f"candidate_{number}" / ".hydra" / "overrides.yaml").read_text()
        assert selection["candidates"][number]["overrides"][0] in given
    plain = launch("train", *small, *FOLD, *selection["winner"])
    assert (run / "predictions.csv").read_text() == (plain / "predictions.csv").read_text()


@pytest.mark.slow
def test_every_fold_selects_for_itself(
    small: list[str], launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    two = ("protocol=kfold", "protocol.folds=2", "fold=all")
    whole = launch("train", *small, "model=svm", *two, SELECT)
    winners = [
        json.loads((whole / f"fold_{fold}" / "selection.json").read_text())["winner"]
        for fold in range(2)
    ]
    assert json.loads((whole / "metrics.json").read_text())["selected"] == winners
    assert f"fold 1 selected {winners[1][0]}" in capfd.readouterr().out


def test_what_a_test_speaker_says_changes_nothing_that_is_selected(
    run: Path, few: Path, small: list[str], launch: Callable[..., Path], tmp_path: Path
):
    changed = tmp_path / "changed"
    shutil.copytree(few, changed)
    for path in sorted((changed / "Actor_07").iterdir()):  # tests in fold 1
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples[::-1] / 2, rate)
    other = launch("train", *small, *FOLD, SELECT, f"data.root={changed}")
    assert (run / "selection.json").read_text() == (other / "selection.json").read_text()
    assert (run / "predictions.csv").read_text() != (other / "predictions.csv").read_text()


@pytest.mark.slow
def test_a_finished_candidate_is_kept_and_a_failed_one_is_out(
    run: Path,
    small: list[str],
    launch: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
):
    given = (*small, *FOLD, SELECT)
    again = Path(shutil.copytree(run, tmp_path / "again"))
    stamp = (again / "candidate_1" / "split.csv").stat().st_mtime_ns
    launch("train", *given, folder="again")
    assert (again / "candidate_1" / "split.csv").stat().st_mtime_ns == stamp
    assert (again / "selection.json").read_text() == (run / "selection.json").read_text()

    def refuse(cfg: DictConfig, *given: object, fit: Callable = experiment.fit_and_validate):
        if cfg.model.estimator._args_[1].estimator.C == 10:
            raise ValueError("not this one")
        return fit(cfg, *given)

    monkeypatch.setattr(experiment, "fit_and_validate", refuse)
    failed = launch("train", *given, folder="failed")
    selection = json.loads((failed / "selection.json").read_text())
    one, out, other = selection["candidates"]
    assert out["score"] is None
    assert selection["winner"] == max(one, other, key=itemgetter("score"))["overrides"]
    assert "C=10 failed: not this one" in capfd.readouterr().err


def test_a_refit_alone_is_of_the_run_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A trial of a study has drawn what no override of its start says."""
    protocol = {"_target_": "ser.splits.protocols.Holdout"}
    drawn = {"trainer": {}, "data": {}, "logger": {}, "protocol": protocol, "C": 72.6}
    cfg = OmegaConf.create(
        {"folder": str(tmp_path), "select": None, "refit": True, "objective": "cv/uar", **drawn}
    )
    trained = []
    monkeypatch.setattr(selection.kept, "check", lambda runs: None)
    monkeypatch.setattr(
        selection.kept,
        "settle",
        lambda runs, _: [trained.append((run.C, run.refit)) or 0.5 for run, _ in runs],
    )
    best = SimpleNamespace(epoch=3, calibration="of the choice")
    monkeypatch.setattr(selection, "load_checkpoint", lambda path: best)
    chosen, score, calibration = selection.choose(cfg, lambda run: 0.5)
    assert trained == [(72.6, False)]
    assert (chosen.C, chosen.objective, score) == (72.6, None, 0.5)
    assert calibration == "of the choice"
