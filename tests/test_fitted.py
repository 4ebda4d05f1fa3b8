"""Bytes of estimators, altered: each is refused in one line, and before compiled code reads it."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ser.estimator import EstimatorClassifier

CLASSES = ["calm", "happy", "sad"]
FRONTEND = {"_target_": "ser.frontend.Functionals", "bins": 4, "n_mels": 16}
SCALER = {"_target_": "sklearn.preprocessing.StandardScaler"}
LOGISTIC = {
    "_target_": "sklearn.pipeline.make_pipeline",
    "_args_": [SCALER, {"_target_": "sklearn.linear_model.LogisticRegression"}],
}
SVM = {
    "_target_": "sklearn.pipeline.make_pipeline",
    "_args_": [
        SCALER,
        {
            "_target_": "sklearn.calibration.CalibratedClassifierCV",
            "estimator": {"_target_": "sklearn.svm.SVC"},
            "method": "temperature",
            "ensemble": False,
        },
    ],
}
LABELS = np.repeat(range(3), 20)
FEATURES = (np.random.default_rng(0).normal(size=(60, 24)) + LABELS[:, None]).astype(np.float32)


def loaded(content: bytes, recipe: dict = LOGISTIC, compiled: bool = False) -> EstimatorClassifier:
    model = EstimatorClassifier(CLASSES, FRONTEND, recipe)
    model.compiled = compiled
    content = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    model.on_load_checkpoint({"estimator": content})
    return model


def fitted(recipe: dict) -> EstimatorClassifier:
    model = EstimatorClassifier(CLASSES, FRONTEND, recipe)
    model.fit_estimator(FEATURES, LABELS)
    return model


class Stranger:
    """A type that skops does not know."""


class Bomb:
    """What a pickle would set off."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("the pickle was loaded",))


def test_a_planted_type_is_refused():
    with pytest.raises(ValueError, match="Stranger"):
        loaded(skops.io.dumps(Stranger()))
    with pytest.raises(ValueError, match="Stranger"):
        loaded(skops.io.dumps(Stranger()), compiled=True)


def test_a_planted_pickle_is_refused():
    with pytest.raises(ValueError, match="is not what skops writes"):
        loaded(pickle.dumps(Bomb()))


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ({"_target_": "sklearn.ensemble.RandomForestClassifier"}, "sklearn.tree._tree.Tree"),
        ({"_target_": "xgboost.XGBClassifier"}, "xgboost.core.Booster"),
        ({"_target_": "lightgbm.LGBMClassifier", "verbose": -1}, "lightgbm.basic.Booster"),
        ({"_target_": "sklearn.neighbors.KNeighborsClassifier"}, "KNeighborsClassifier"),
    ],
)
def test_what_compiled_code_reads_unchecked_is_loaded_only_when_asked_for(recipe, named):
    recipe = recipe if "Neighbors" in named else recipe | {"n_estimators": 3}
    model = fitted(recipe)
    content = skops.io.dumps(model.estimator)
    with pytest.raises(ValueError, match=rf"{named}.* add compiled=true"):
        loaded(content, recipe)
    again = loaded(content, recipe, compiled=True)
    expected = model.estimator.predict_proba(FEATURES)
    assert np.array_equal(again.estimator.predict_proba(FEATURES), expected)


def test_another_estimator_than_the_recipe_is_refused():
    pipeline = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(FEATURES, LABELS)
    for other, named in (
        ([fitted(LOGISTIC).estimator], "it holds builtins.list"),
        (LogisticRegression().fit(FEATURES, LABELS), "it holds .*LogisticRegression"),
        (pipeline, "it holds .*KNeighborsClassifier"),
    ):
        with pytest.raises(ValueError, match=f"not as its recipe makes it .{named}"):
            loaded(skops.io.dumps(other))


def test_another_number_of_classes_or_features_is_refused():
    two = fitted(LOGISTIC).estimator.fit(FEATURES[:40], LABELS[:40])
    with pytest.raises(ValueError, match="it tells 2 classes apart, not 3"):
        loaded(skops.io.dumps(two))
    narrow = fitted(LOGISTIC).estimator.fit(FEATURES[:, :9], LABELS)
    with pytest.raises(ValueError, match=r"24 features.* expecting 9"):
        loaded(skops.io.dumps(narrow))


def pickled(_: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("altered", [lambda content: content[:-5], lambda _: b"", pickled])
def test_an_altered_array_is_refused(altered):
    whole = zipfile.ZipFile(io.BytesIO(skops.io.dumps(fitted(LOGISTIC).estimator)))
    last = [name for name in whole.namelist() if name.endswith(".npy")][-1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as planted:
        for name in whole.namelist():
            content = whole.read(name)
            planted.writestr(name, altered(content) if name == last else content)
    with pytest.raises(
        ValueError,
        match=r"estimator is not .*untouched file; no code of it was run",
    ):
        loaded(buffer.getvalue())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # scikit-learn itself looks at no more than the sum.
        ("_n_support", lambda old: np.array([-(10**8), 10**8, old.sum()], np.int32)),
        ("_n_support", lambda old: np.append(old, np.zeros(10**4, np.int32))),
        ("_n_support", lambda old: old + 1),
        ("support_", lambda old: np.arange(10**6, dtype=np.int32)),
        ("support_vectors_", lambda old: old[:1]),
        ("_dual_coef_", lambda old: old[:, :1].copy()),
        ("_intercept_", lambda old: old[:1]),
        ("_probA", lambda old: np.zeros(1)),
        ("kernel", lambda old: "precomputed"),
        ("_impl", lambda old: "epsilon_svr"),
        ("_sparse", lambda old: True),
    ],
)
def test_an_svc_whose_arrays_do_not_fit_is_refused_before_libsvm_reads_it(name, value):
    model = fitted(SVM)
    again = loaded(skops.io.dumps(model.estimator), SVM)
    expected = model.estimator.predict_proba(FEATURES)
    assert np.array_equal(again.estimator.predict_proba(FEATURES), expected)
    calibrated = model.estimator[1]
    svc = calibrated.calibrated_classifiers_[0].estimator
    setattr(svc, name, value(getattr(svc, name)))
    hidden = np.empty(1, dtype=object)  # as deep as skops goes
    hidden[0] = calibrated.calibrated_classifiers_[0]
    for place in (calibrated.calibrated_classifiers_, hidden):
        calibrated.calibrated_classifiers_ = place
        with pytest.raises(ValueError, match="the arrays of an SVC do not fit together"):
            loaded(skops.io.dumps(model.estimator), SVM)
