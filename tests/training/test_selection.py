"""Selection inside a fold."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from omegaconf import DictConfig

from ser import experiment

FOLD = ("model=svm", "protocol=luna5", "fold=1")


def test_the_winner_is_the_best_on_validation_and_then_a_plain_run(
    launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    run = launch("train", "data=demo", *FOLD, "select=svm_regularisation", folder="selected")
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
    plain = launch("train", "data=demo", *FOLD, *selection["winner"], folder="plain")
    assert (run / "predictions.csv").read_text() == (plain / "predictions.csv").read_text()


def test_every_fold_selects_for_itself(launch: Callable[..., Path], capfd: pytest.CaptureFixture):
    whole = launch(
        "train", "data=demo", "model=svm", "protocol=kfold", "protocol.folds=2", "fold=all",
        "select=svm_regularisation",
    )  # fmt: skip
    winners = [
        json.loads((whole / f"fold_{fold}" / "selection.json").read_text())["winner"]
        for fold in range(2)
    ]
    assert json.loads((whole / "metrics.json").read_text())["selected"] == winners
    assert f"fold 1 selected {winners[1][0]}" in capfd.readouterr().out


def test_what_a_test_speaker_says_changes_nothing_that_is_selected(
    launch: Callable[..., Path], demo: Path, tmp_path: Path
):
    changed = tmp_path / "changed"
    shutil.copytree(demo, changed)
    for path in sorted((changed / "Actor_07").iterdir()):  # tests in fold 1
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples[::-1] / 2, rate)
    one, other = (
        launch("train", f"data.root={root}", *FOLD, "select=svm_regularisation", folder=root.name)
        for root in (demo, changed)
    )
    assert (one / "selection.json").read_text() == (other / "selection.json").read_text()
    assert (one / "predictions.csv").read_text() != (other / "predictions.csv").read_text()


def test_a_finished_candidate_is_kept_and_a_failed_one_is_out(
    launch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    run = launch("train", "data=demo", *FOLD, "select=svm_regularisation")
    selection = (run / "selection.json").read_text()
    stamp = (run / "candidate_1" / "split.csv").stat().st_mtime_ns
    launch("train", "data=demo", *FOLD, "select=svm_regularisation")
    assert (run / "candidate_1" / "split.csv").stat().st_mtime_ns == stamp
    assert (run / "selection.json").read_text() == selection

    def refuse(cfg: DictConfig, *given: object, fit: Callable = experiment.fit_and_validate):
        if cfg.model.estimator._args_[1].estimator.C == 10:
            raise ValueError("not this one")
        return fit(cfg, *given)

    monkeypatch.setattr(experiment, "fit_and_validate", refuse)
    run = launch("train", "data=demo", *FOLD, "select=svm_regularisation", folder="again")
    selection = json.loads((run / "selection.json").read_text())
    assert selection["candidates"][1]["score"] is None
    assert selection["winner"][0].endswith("C=100")
    assert "C=10 failed: not this one" in capfd.readouterr().err
