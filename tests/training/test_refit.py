"""No speaker wasted: refit=true and protocol.val_speakers=0."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ser.checkpoints.format import load_checkpoint
from ser.evaluation.metrics import untempered

FOLD = ("protocol=luna5", "fold=4", "data.roles={tess: off}")  # speakers 1, 4 and 9 test
EPOCHS = ("trainer.max_epochs=3", "trainer.limit_train_batches=2")


@pytest.fixture(scope="module")
def refitted(small: list[str], finish: Callable[..., Path]) -> Path:
    return finish(*small, *FOLD, "model=svm", "refit=true", "protocol.val_speakers=2")


def test_a_refit_is_fitted_on_all_but_the_test_speakers(
    refitted: Path, small: list[str], launch: Callable[..., Path]
):
    whole = launch("train", *small, *FOLD, "model=svm", "protocol.val_speakers=0", "objective=null")
    columns = ["clip", "prediction", "p_sad"]
    tables = [pd.read_csv(run / "predictions.csv") for run in (refitted, whole)]
    assert "temperature" not in tables[1]  # nobody could be asked
    chosen = load_checkpoint(refitted / "candidate_0" / "checkpoints" / "best.ckpt").calibration
    assert tables[0].temperature.unique() == [chosen.temperature]
    classes = json.loads((whole / "metrics.json").read_text())["classes"]
    tables[0][[f"p_{name}" for name in classes]] = untempered(tables[0], classes)
    pd.testing.assert_frame_equal(*(table[columns] for table in tables))
    stamps = [json.loads((run / "metrics.json").read_text()) for run in (refitted, whole)]
    assert [(one["refit"], one["unvalidated"]) for one in stamps] == [(True, False), (False, True)]
    assert (refitted / "report.txt").read_text().startswith("REFIT: ")
    assert (whole / "report.txt").read_text().startswith("UNVALIDATED: ")
    assert set(pd.read_csv(whole / "split.csv").split) == {"train", "test"}


def test_what_chose_is_the_objective_of_a_refit(refitted: Path):
    chosen = json.loads((refitted / "candidate_0" / "status.json").read_text())["objective"]
    assert json.loads((refitted / "status.json").read_text())["objective"] == chosen
    assert json.loads((refitted / "selection.json").read_text())["candidates"][0]["score"] == chosen
    # The speakers who chose are still named as such.
    assert set(pd.read_csv(refitted / "split.csv").split) == {"train", "val", "test"}


def test_validation_speakers_of_a_refit_are_not_scored_again(
    refitted: Path, launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    with pytest.raises(SystemExit):
        launch("eval", f"ckpt={refitted}/checkpoints/best.ckpt", "split=val", folder="again")
    assert "split=val: its validation speakers have trained it" in capfd.readouterr().err


def test_a_network_is_refitted_for_the_epochs_that_were_best(
    small: list[str], launch: Callable[..., Path]
):
    run = launch("train", *small, *FOLD, *EPOCHS, "refit=true", "protocol.val_speakers=2")
    best = load_checkpoint(run / "candidate_0" / "checkpoints" / "best.ckpt")
    again = load_checkpoint(run / "checkpoints" / "best.ckpt")
    assert again.epoch == best.epoch
    assert again.split_info.refit
    assert not best.split_info.refit
    curves = pd.read_csv(run / "metrics.csv")
    assert not any(name.startswith("val/") for name in curves)
    assert (run / "learning_curves.png").exists()


def test_without_validation_the_last_epoch_is_kept(small: list[str], launch: Callable[..., Path]):
    run = launch("train", *small, *FOLD, *EPOCHS, "protocol.val_speakers=0", "objective=null")
    assert load_checkpoint(run / "checkpoints" / "best.ckpt").epoch == 2
    assert json.loads((run / "status.json").read_text())["objective"] is None
    evaluated = launch("eval", f"ckpt={run}/checkpoints/best.ckpt", folder="eval")
    texts = [(folder / "predictions.csv").read_text() for folder in (run, evaluated)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            (
                "refit=true",
                "+callbacks.early._target_=lightning.pytorch.callbacks.EarlyStopping",
                "+callbacks.early.monitor=val/uar",
            ),
            "callbacks.early.monitor='val/uar' with objective=null or refit=true: expected no",
        ),
        (("protocol.val_speakers=0",), "objective=val/uar, but there are no validation speakers"),
        (("objective=null", "refit=true"), "objective=null with refit=true: expected what chooses"),
    ],
)
def test_what_cannot_choose_is_one_line(
    small: list[str],
    launch: Callable[..., Path],
    capfd: pytest.CaptureFixture,
    overrides: tuple[str, ...],
    expected: str,
):
    with pytest.raises(SystemExit):
        launch("train", *small, *FOLD, "model=svm", *overrides)
    assert expected in capfd.readouterr().err


@pytest.mark.slow
def test_folds_that_chose_nothing_are_kept(small: list[str], launch: Callable[..., Path]):
    overrides = (*small, "model=svm", "protocol=kfold", "protocol.folds=2", "fold=all")
    overrides += ("protocol.val_speakers=0", "objective=null")
    run = launch("train", *overrides)
    before = (run / "fold_0" / "status.json").stat().st_mtime_ns
    launch("train", *overrides)
    assert (run / "fold_0" / "status.json").stat().st_mtime_ns == before
    assert json.loads((run / "metrics.json").read_text())["unvalidated"]
