"""The calibration in a checkpoint: of the validation clips, for networks and classical models."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ser.checkpoints.format import load_checkpoint
from ser.evaluation.calibration import Calibration
from ser.evaluation.metrics import probabilities_of, untempered
from ser.evaluation.results import RunResult


@pytest.fixture(scope="module", params=["cnn_run", "svm_run"])
def run(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_it_is_fitted_on_the_validation_clips_and_goes_with_the_checkpoint(
    run: Path, launch: Callable[..., Path]
):
    ckpt = run / "checkpoints" / "best.ckpt"
    val = RunResult.read(launch("eval", f"ckpt={ckpt}", "split=val"))
    classes = val.metrics["classes"]
    after, truth = probabilities_of(val.predictions, classes)
    found = load_checkpoint(ckpt).calibration
    expected = Calibration.fit(untempered(val.predictions, classes), truth)
    # Validation scores are of cached features, those of eval.py of waveforms.
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-3)
    np.testing.assert_allclose(found.confidences, after.max(axis=1), atol=1e-5)
    scores = val.metrics["calibration"]
    assert scores["temperature"] == [found.temperature]
    assert scores["after"]["log_loss"] <= scores["before"]["log_loss"]
    selective = val.metrics["selective"]
    assert selective["accepted"] == 0.2
    assert selective["error"] is None or selective["error"] <= 0.2


def test_test_clips_are_scored_by_it_and_answers_stay(cnn_run: Path):
    rows = RunResult.read(cnn_run)
    classes = rows.metrics["classes"]
    calibration = load_checkpoint(cnn_run / "checkpoints" / "best.ckpt").calibration
    assert rows.predictions.temperature.unique() == [calibration.temperature]
    plain = untempered(rows.predictions, classes)
    assert (np.array(classes)[plain.argmax(axis=1)] == rows.predictions.prediction).all()
    unsure = rows.probabilities(rows.predictions.index, classes).max(axis=1)
    assert (rows.predictions.unsure == (unsure < calibration.threshold(0.2))).all()


def test_it_is_read_from_no_other_file(cnn_run: Path, tmp_path: Path):
    content = torch.load(cnn_run / "checkpoints" / "best.ckpt", weights_only=True)
    for change, line in (
        ({"temperature": 1e9}, "its temperature is none"),
        ({"confidences": [0.5] * 10_000, "correct": [True] * 10_000}, "of other clips"),
        ({"correct": None}, "is no checkpoint of ser"),
    ):
        altered = content | {"ser": content["ser"] | {}}
        altered["ser"]["calibration"] = content["ser"]["calibration"] | change
        torch.save(altered, tmp_path / "altered.ckpt")
        with pytest.raises(ValueError, match=line):
            load_checkpoint(tmp_path / "altered.ckpt")


def test_a_checkpoint_of_before_has_none(cnn_run: Path, tmp_path: Path):
    content = torch.load(cnn_run / "checkpoints" / "best.ckpt", weights_only=True)
    del content["ser"]["calibration"]
    content["ser"]["format"] = 4
    torch.save(content, tmp_path / "before.ckpt")
    loaded = load_checkpoint(tmp_path / "before.ckpt")
    assert loaded.calibration is None
    assert loaded.model.temperature is None


def test_pooled_folds_keep_their_own(small: list[str], launch: Callable[..., Path]):
    run = launch(
        "train", *small, "model=logistic", "protocol=kfold", "protocol.folds=3", "fold=all"
    )
    pooled = RunResult.read(run)
    folds = [RunResult.read(path) for path in sorted(run.glob("fold_*"))]
    alone = [fold.metrics["calibration"]["temperature"] for fold in folds]
    assert [[each] for each in pooled.metrics["calibration"]["temperature"]] == alone
    unsure = pd.concat([fold.predictions.unsure for fold in folds])
    assert pooled.metrics["selective"]["coverage"] == pytest.approx(1 - unsure.mean())
