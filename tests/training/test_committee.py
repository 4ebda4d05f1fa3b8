"""Committees: several models trained in one run, averaged, in one checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ser.checkpoints.format import load_checkpoint
from ser.evaluation import metrics
from ser.evaluation.results import RunResult
from ser.features.spectral import LogMel
from ser.training.committee import Committee, mixture_weights

MIXED = ("ensemble=['model=cnn seed=1 trainer.max_epochs=1','model=svm']", "model=forest")
"""A network and a classical model; the run's own is neither."""


def probabilities(run: Path) -> np.ndarray:
    return pd.read_csv(run / "predictions.csv").filter(like="p_").to_numpy()


def untempered(run: Path) -> np.ndarray:
    result = RunResult.read(run)
    return metrics.untempered(result.predictions, result.metrics["classes"])


@pytest.fixture(scope="module")
def mixed(small: list[str], finish: Callable[..., Path]) -> Path:
    """A finished committee, which stays as it is."""
    return finish(*small, *MIXED)


@pytest.fixture
def again(mixed: Path, launch: Callable[..., Path]) -> Path:
    """The same scored by its one checkpoint."""
    return launch("eval", f"ckpt={mixed}/checkpoints/best.ckpt", folder="again")


def test_a_committee_is_the_mean_of_its_members(
    mixed: Path, again: Path, launch: Callable[..., Path]
):
    members = [
        launch("eval", f"ckpt={mixed}/member_{number}/checkpoints/best.ckpt", folder=str(number))
        for number in range(2)
    ]
    alone = [probabilities(member) for member in members]
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    # Of what they say untempered: only the whole is calibrated.
    plain = [untempered(run) for run in (*members, mixed)]
    np.testing.assert_allclose(plain[2], np.mean(plain[:2], axis=0), atol=1e-6)
    assert (again / "predictions.csv").read_text() == (mixed / "predictions.csv").read_text()


def test_members_and_weights_are_named(mixed: Path):
    written = json.loads((mixed / "metrics.json").read_text())
    objectives = [
        json.loads((mixed / f"member_{number}" / "status.json").read_text())["objective"]
        for number in range(2)
    ]
    given = [["model=cnn", "seed=1", "trainer.max_epochs=1"], ["model=svm"]]
    assert written["weights"] == [0.5, 0.5]
    assert written["members"] == [
        {"overrides": overrides, "objective": objective}
        for overrides, objective in zip(given, objectives, strict=True)
    ]
    assert not (mixed / "member_0" / "predictions.csv").exists()
    model = load_checkpoint(mixed / "checkpoints" / "best.ckpt").model
    assert [type(member).__name__ for member in model.members] == [
        "EmotionClassifier",
        "EstimatorClassifier",
    ]


def test_a_committee_hears_recordings(mixed: Path, few: Path, launch: Callable[..., Path]):
    folder = next(few.iterdir())
    run = launch("eval", f"ckpt={mixed}/checkpoints/best.ckpt", f"input={folder}")
    np.testing.assert_allclose(probabilities(run).sum(axis=1), 1, atol=1e-5)


def test_what_members_have_finished_is_kept_and_what_was_killed_goes_on(
    mixed: Path,
    small: list[str],
    launch: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
):
    killed = Path(shutil.copytree(mixed, tmp_path / "killed"))
    for name in ("member_0", "."):
        status = killed / name / "status.json"
        status.write_text(status.read_text().replace("finished", "running"))
    (killed / "checkpoints" / "best.ckpt").unlink()
    stamp = (killed / "member_1" / "split.csv").stat().st_mtime_ns
    launch("train", *small, *MIXED, folder="killed")
    assert "going on after epoch 0" in capfd.readouterr().err
    assert (killed / "member_1" / "split.csv").stat().st_mtime_ns == stamp
    assert (killed / "predictions.csv").read_text() == (mixed / "predictions.csv").read_text()


def test_another_committee_takes_another_folder(
    mixed: Path, small: list[str], launch: Callable[..., Path], tmp_path: Path
):
    shutil.copytree(mixed, tmp_path / "other")
    with pytest.raises(SystemExit):
        launch("train", *small, *MIXED, "ensemble_weights=[1,2]", folder="other")
    assert (tmp_path / "other" / "metrics.json").read_text() == (mixed / "metrics.json").read_text()


@pytest.mark.slow
def test_weights_are_fitted_on_the_validation_clips_alone(
    mixed: Path, small: list[str], launch: Callable[..., Path]
):
    run = launch("train", *small, *MIXED, "ensemble_weights=val")
    val = [
        launch(
            "eval", f"ckpt={run}/member_{place}/checkpoints/best.ckpt", "split=val", folder=place
        )
        for place in ("0", "1")
    ]
    result = RunResult.read(val[0])
    truth = result.predictions.label.map(result.metrics["classes"].index).to_numpy()
    weights = mixture_weights(np.stack([untempered(run)[range(len(truth)), truth] for run in val]))
    written = json.loads((run / "metrics.json").read_text())["weights"]
    assert written == pytest.approx(weights, abs=1e-3)  # val is scored from cached features there
    tables = [probabilities(folder) for folder in (run, mixed)]
    assert np.abs(tables[0] - tables[1]).max() > 1e-3


def test_a_perfect_member_gets_all_the_weight():
    useless = np.full(50, 1 / 8)
    assert mixture_weights(np.stack([useless, np.ones(50)])) == pytest.approx([0, 1], abs=1e-6)


def test_fitted_weights_are_the_most_likely():
    likelihoods = np.random.default_rng(0).uniform(size=(2, 40))
    share = np.linspace(0, 1, 10001)[:, None]
    of_all = np.log(share * likelihoods[0] + (1 - share) * likelihoods[1]).sum(axis=1)
    best = share[of_all.argmax(), 0]
    assert mixture_weights(likelihoods) == pytest.approx([best, 1 - best], abs=1e-3)


@pytest.mark.slow
def test_each_fold_holds_a_committee_of_seeds(small: list[str], launch: Callable[..., Path]):
    short = ("model=forest", "model.estimator.n_estimators=3", "seed=5", "ensemble=2")
    run = launch("train", *small, *short, "protocol=kfold", "protocol.folds=2", "fold=all")
    for fold in range(2):
        members = json.loads((run / f"fold_{fold}" / "metrics.json").read_text())["members"]
        assert [member["overrides"] for member in members] == [["seed=5"], ["seed=6"]]
        loaded = load_checkpoint(run / f"fold_{fold}" / "checkpoints" / "best.ckpt")  # one's own
        assert [member.hparams.seed for member in loaded.model.members] == [5, 6]
    content = torch.load(run / "fold_0" / "checkpoints" / "best.ckpt", weights_only=True)
    torch.save(content | {"epoch": 1}, stranger := run / "stranger.ckpt")
    with pytest.raises(ValueError, match="if the file is your own, add compiled=true"):
        load_checkpoint(stranger)
    content["estimator.0"], content["estimator.1"] = [content["estimator.1"]] * 2
    torch.save(content, stranger)
    with pytest.raises(ValueError, match="tensors of its state share their values"):
        load_checkpoint(stranger)


def test_members_of_one_front_end_compute_it_once(monkeypatch: pytest.MonkeyPatch):
    calls = []
    analyse = LogMel.analyse
    monkeypatch.setattr(LogMel, "analyse", lambda *given: calls.append(1) or analyse(*given))
    recipe = {
        "_target_": "ser.training.classifier.EmotionClassifier",
        "frontend": {"_target_": "ser.features.spectral.LogMel", "bins": 8, "n_fft": 512},
        "network": {"_target_": "ser.models.cnn.CNN", "widths": [4]},
        "optimizer": {"_target_": "torch.optim.Adam"},
    }
    other = recipe | {"frontend": recipe["frontend"] | {"bins": 16}}
    whole = Committee(["calm", "sad"], [recipe, recipe | {"seed": 1}, other], [1, 2, 5]).eval()
    waveform = torch.randn(3, 48000)
    first, second, third = (member(waveform) for member in whole.members)
    calls.clear()
    mean = 0.125 * first + 0.25 * second + 0.625 * third
    torch.testing.assert_close(whole(waveform), mean)
    assert len(calls) == 2
    assert (first - second).abs().max() > 1e-3
    with pytest.raises(ValueError, match="expected a weight for each of 2 members"):
        Committee(["calm", "sad"], [recipe, other], [1, 2, 5])
