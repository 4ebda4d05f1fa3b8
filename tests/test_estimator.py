import pickle

import numpy as np
import pytest
import skops.io
import torch
from sklearn.base import BaseEstimator

from ser.estimator import EstimatorClassifier

CLASSES = ["calm", "happy", "sad"]
FRONTEND = {"_target_": "ser.frontend.Functionals", "bins": 4, "n_mels": 16}
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


class Stranger:
    """A type that skops does not know."""


def test_a_planted_type_is_refused():
    model = EstimatorClassifier(CLASSES, FRONTEND, LOGISTIC)
    planted = np.frombuffer(skops.io.dumps(Stranger()), np.uint8).copy()
    with pytest.raises(ValueError, match="Stranger"):
        model.on_load_checkpoint({"estimator": torch.from_numpy(planted)})


def planted(content: bytes) -> dict[str, torch.Tensor]:
    return {"estimator": torch.frombuffer(bytearray(content), dtype=torch.uint8)}


class Bomb:
    """What a pickle would set off."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("the pickle was loaded",))


def test_a_planted_pickle_is_refused():
    model = EstimatorClassifier(CLASSES, FRONTEND, LOGISTIC)
    with pytest.raises(ValueError, match="is not what skops writes"):
        model.on_load_checkpoint(planted(pickle.dumps(Bomb())))


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("sklearn.ensemble.RandomForestClassifier", "sklearn.tree._tree.Tree"),
        ("xgboost.XGBClassifier", "xgboost.core.Booster"),
        ("lightgbm.LGBMClassifier", "lightgbm.basic.Booster"),
    ],
)
def test_trees_and_boosters_are_loaded_only_when_asked_for(target: str, named: str):
    recipe = {"_target_": target, "n_estimators": 3} | ({"verbose": -1} if "LGBM" in target else {})
    model = EstimatorClassifier(CLASSES, FRONTEND, recipe)
    features = np.random.default_rng(0).normal(size=(60, 24)).astype(np.float32)
    model.fit_estimator(features, np.repeat(range(3), 20))
    checkpoint = {}
    model.on_save_checkpoint(checkpoint)
    again = EstimatorClassifier(CLASSES, FRONTEND, recipe)
    with pytest.raises(ValueError, match=rf"{named}.* add compiled=true"):
        again.on_load_checkpoint(checkpoint)
    again.compiled = True
    again.on_load_checkpoint(checkpoint)
    expected = model.estimator.predict_proba(features)
    assert np.array_equal(again.estimator.predict_proba(features), expected)
    with pytest.raises(ValueError, match="Stranger"):
        again.on_load_checkpoint(planted(skops.io.dumps(Stranger())))


class Memory(BaseEstimator):
    """Answers with the groups it was fitted on, which stand in the only feature."""

    def fit(self, features, labels):
        self.classes_ = np.unique(labels)
        self.seen = set(features[:, 0])
        return self

    def predict(self, features):
        return np.array([int(group in self.seen) for group in features[:, 0]])


def test_cross_validation_hears_no_actor_whom_it_scores(monkeypatch: pytest.MonkeyPatch):
    model = EstimatorClassifier(CLASSES, FRONTEND, LOGISTIC)
    monkeypatch.setattr(model, "_build", Memory)
    actors = np.repeat(range(10), 6)
    found = model.cross_validate(actors[:, None], np.tile(range(2), 30), actors)
    assert found.shape == (60,)
    assert not found.any()


def test_a_missing_library_names_its_extra():
    recipe = {"_target_": "xgboost_that_is_not_there.Classifier"}
    with pytest.raises(ModuleNotFoundError, match="uv run --extra boost"):
        EstimatorClassifier(CLASSES, FRONTEND, recipe)
