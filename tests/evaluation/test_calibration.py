"""Calibration: temperature, measures and thresholds against hand-computed numbers and oracles."""

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from ser.evaluation import calibration
from ser.evaluation.calibration import BINS, Calibration, temper, untemper
from ser.models import layers


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (2000, 4) that are the true chances, and classes drawn with them."""
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(4, 0.5), 2000)
    truth = np.array([random.choice(4, p=row) for row in probabilities])
    return probabilities, truth


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
def test_the_temperature_of_sharpened_chances_is_found_again(drawn, sharpness: float):
    probabilities, truth = drawn
    sharpened = temper(probabilities, 1 / sharpness)
    found = Calibration.fit(sharpened, truth)
    assert found.temperature == pytest.approx(sharpness, rel=0.06)
    again = temper(sharpened, found.temperature)
    assert found.confidences == pytest.approx(again.max(axis=1))
    assert found.correct == tuple(probabilities.argmax(axis=1) == truth)


@pytest.mark.parametrize("temperature", [*calibration.RANGE, 0.3, 1.7])
def test_tempering_is_undone_and_moves_no_answer(drawn, temperature: float):
    probabilities, _ = drawn
    probabilities = np.maximum(probabilities, 1e-14)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    scaled = temper(probabilities, temperature)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    given = np.full(len(probabilities), temperature)
    np.testing.assert_allclose(untemper(scaled, given), probabilities, rtol=1e-9)
    of_model = layers.temper(torch.from_numpy(probabilities), temperature)
    np.testing.assert_allclose(of_model, scaled, rtol=1e-12)
    assert layers.temper(of_model, None) is of_model


def test_measures_are_those_of_their_libraries(drawn):
    probabilities, truth = drawn
    of = (torch.from_numpy(probabilities), torch.from_numpy(truth), 4)
    expected = multiclass_calibration_error(*of, n_bins=BINS).item()
    assert calibration.ece(probabilities, truth) == pytest.approx(expected, abs=1e-6)
    assert calibration.log_loss(probabilities, truth) == pytest.approx(
        log_loss(truth, probabilities)
    )
    expected = brier_score_loss(truth, probabilities, scale_by_half=False)
    assert calibration.brier(probabilities, truth) == pytest.approx(expected)


def test_what_is_certain_and_wrong_costs_no_infinity():
    wrong = np.array([[1.0, 0.0]])
    assert calibration.log_loss(wrong, np.array([1])) == pytest.approx(-np.log(1e-15))
    assert calibration.ece(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])) == 0.5


def test_risk_rises_with_coverage():
    # Answers by confidence: right, wrong, right, wrong.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    truth = np.array([0, 1, 0, 1])
    coverages, risks = calibration.risk_coverage(*calibration.answers(probabilities, truth))
    np.testing.assert_allclose(coverages, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risks, [0, 1 / 2, 1 / 3, 1 / 2])
    assert calibration.aurc(probabilities, truth) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_answers_of_one_confidence_are_given_in_no_order():
    tied = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    for truth in (np.array([0, 1, 0]), np.array([1, 0, 0])):
        assert calibration.aurc(tied, truth) == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)


def test_bins_of_the_diagram_hold_all_clips(drawn):
    confidences, correct = calibration.answers(*drawn)
    places, shares, clips = calibration.reliability(confidences, correct)
    assert clips.sum() == len(confidences)
    assert (places * clips).sum() == pytest.approx(confidences.sum())
    assert (shares * clips).sum() == pytest.approx(correct.sum())


@pytest.mark.parametrize(
    ("risk", "threshold"), [(0.0, np.inf), (0.33, np.inf), (0.34, 0.9), (0.4, 0.7), (0.43, 0.0)]
)
def test_as_much_is_answered_as_the_accepted_risk_lets(risk: float, threshold: float):
    # Estimated 1/3, 2/4, 2/5, 2/6, 3/7: answers of one confidence are given all or not at all.
    found = Calibration(1.0, (0.9, 0.8, 0.7, 0.5, 0.5), (True, False, True, True, False))
    assert found.threshold(risk) == threshold


def test_nothing_is_answered_where_the_surest_are_wrong():
    assert Calibration(1.0, (0.9, 0.8), (False, False)).threshold(0.5) == np.inf


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": float("nan")},
        {"temperature": 0.0},
        {"temperature": "1"},
        {"confidences": [0.5]},
        {"confidences": [0.5, 2.0]},
        {"confidences": [0.5, None]},
        {"correct": []},
    ],
)
def test_a_calibration_of_other_content_is_refused(change: dict):
    content = Calibration(1.5, (0.9, 0.8), (True, False)).content()
    assert Calibration.read(content, 2) == Calibration(1.5, (0.9, 0.8), (True, False))
    with pytest.raises(ValueError, match=r"its (temperature|calibration)"):
        Calibration.read(content | change, 2)
    with pytest.raises(ValueError, match="of other clips"):
        Calibration.read(content, 1)
