import numpy as np
import pytest
import skops.io
import torch

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
