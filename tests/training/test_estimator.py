import sys

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator

from ser.checkpoints import trust
from ser.training.estimator import EstimatorClassifier

CLASSES = ["calm", "happy", "sad"]
FRONTEND = {"_target_": "ser.features.functionals.Functionals", "bins": 4, "n_mels": 16}
LOGISTIC = {
    "_target_": "sklearn.pipeline.make_pipeline",
    "_args_": [
        {"_target_": "sklearn.preprocessing.StandardScaler"},
        {"_target_": "sklearn.linear_model.LogisticRegression"},
    ],
}


def fitted() -> EstimatorClassifier:
    model = EstimatorClassifier(CLASSES, FRONTEND, LOGISTIC)
    generator = np.random.default_rng(0)
    labels = np.repeat(range(3), 20)
    model.fit_estimator(generator.normal(size=(60, 24)) + labels[:, None], labels)
    return model


def test_a_fitted_estimator_comes_back_from_a_checkpoint():
    model = fitted()
    checkpoint = {}
    model.on_save_checkpoint(checkpoint)
    assert checkpoint["estimator"].dtype == torch.uint8
    again = EstimatorClassifier(CLASSES, FRONTEND, LOGISTIC)
    again.on_load_checkpoint(checkpoint)
    waveform = torch.randn(2, 9600, generator=torch.Generator().manual_seed(0))
    probabilities = model(waveform)
    assert torch.equal(again(waveform), probabilities)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(2))


def test_the_scaler_is_fitted_on_the_training_clips_alone():
    model = fitted()
    scaler = model.estimator[0]
    generator = np.random.default_rng(0)
    labels = np.repeat(range(3), 20)
    training = generator.normal(size=(60, 24)) + labels[:, None]
    assert np.allclose(scaler.mean_, training.mean(axis=0))


class Memory(BaseEstimator):
    """Answers with the groups it was fitted on, which stand in the only feature."""

    def fit(self, features, labels):
        self.classes_ = np.unique(labels)
        self.seen = set(features[:, 0])
        return self

    def predict(self, features):
        return np.array([int(group in self.seen) for group in features[:, 0]])


def test_cross_validation_hears_no_speaker_whom_it_scores(monkeypatch: pytest.MonkeyPatch):
    model = EstimatorClassifier(CLASSES, FRONTEND, LOGISTIC)
    monkeypatch.setattr(model, "_build", Memory)
    speakers = np.repeat(range(10), 6)
    found = model.cross_validate(speakers[:, None], np.tile(range(2), 30), speakers)
    assert found.shape == (60,)
    assert not found.any()
    assert not model.cross_validate(speakers[:18, None], np.tile(range(2), 9), speakers[:18]).any()
    with pytest.raises(ValueError, match=r"all of speaker 0.*expected at least two speakers"):
        model.cross_validate(speakers[:6, None], np.tile(range(2), 3), speakers[:6])


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch):
    recipe = {"_target_": "xgboost.XGBClassifier"}
    monkeypatch.setitem(sys.modules, "xgboost", None)
    trust._parameters.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="uv run --extra boost"):
        EstimatorClassifier(CLASSES, FRONTEND, recipe)


def test_a_front_end_of_planes_is_refused():
    frontend = {"_target_": "ser.features.spectral.MFCC"}
    with pytest.raises(ValueError, match=r"MFCC gives .* expected frontend=functionals"):
        EstimatorClassifier(CLASSES, frontend, LOGISTIC)


def test_two_stages_want_classes_in_pairs():
    recipe = {
        "_target_": "ser.models.gender_split.GenderSplit",
        "gender": LOGISTIC,
        "emotion": LOGISTIC,
    }
    with pytest.raises(ValueError, match=r"calm, happy, sad .* data\.target=emotion_gender"):
        EstimatorClassifier(CLASSES, FRONTEND, recipe)
    EstimatorClassifier(["calm_male", "calm_female"], FRONTEND, recipe)
