"""Bytes of estimators, altered: each is refused in one line, and before compiled code reads it."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ser.training.estimator import EstimatorClassifier

CLASSES = ["calm", "happy", "sad"]
FRONTEND = {"_target_": "ser.features.functionals.Functionals", "bins": 4, "n_mels": 16}
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
    ):
        with pytest.raises(ValueError, match=f"not as its recipe makes it .{named}"):
            loaded(skops.io.dumps(other))
    with pytest.raises(ValueError, match=r"holds .*KNeighborsClassifier, which compiled code"):
        loaded(skops.io.dumps(pipeline))


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
        with pytest.raises(ValueError, match=r"the arrays of an SVC do not|other than numbers"):
            loaded(skops.io.dumps(model.estimator), SVM)


def repacked(content: bytes, change: Callable[[dict[str, bytes]], None], packing: int = 0) -> bytes:
    whole = zipfile.ZipFile(io.BytesIO(content))
    files = {name: whole.read(name) for name in whole.namelist()}
    change(files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, record in files.items():
            archive.writestr(name, record)
    return buffer.getvalue()


def claimed(files: dict[str, bytes]) -> None:
    """Let an array claim 2**32 values."""
    name = next(name for name in files if name.endswith(".npy"))
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (2**32,)}
    np.lib.format.write_array_header_1_0(header, about)
    files[name] = header.getvalue()


def read_again(files: dict[str, bytes]) -> None:
    """Let one record be read a thousand times."""
    schema = json.loads(files["schema.json"])
    large = io.BytesIO()
    np.save(large, np.zeros(2**17))
    files["large.npy"] = large.getvalue()
    node = {"__loader__": "NdArrayNode", "__module__": "numpy", "__class__": "ndarray"}
    node |= {"type": "numpy", "file": "large.npy"}
    schema["content"]["more"] = [node | {"__id__": number} for number in range(1000)]
    files["schema.json"] = json.dumps(schema).encode()


@pytest.mark.parametrize(
    ("change", "packing", "words"),
    [
        (lambda _: None, zipfile.ZIP_DEFLATED, "packed or overlap"),
        (claimed, zipfile.ZIP_STORED, "is in a record of"),
        (read_again, zipfile.ZIP_STORED, "read too often"),
    ],
)
def test_bytes_that_take_more_memory_than_disk_are_refused(change, packing, words):
    content = repacked(skops.io.dumps(fitted(LOGISTIC).estimator), change, packing)
    with pytest.raises(ValueError, match=words):
        loaded(content)


def test_a_matrix_in_place_of_a_vector_is_refused_before_it_is_added():
    model = fitted(LOGISTIC)
    model.estimator[0].mean_ = np.zeros((10**5, 1))  # less (1, 24) it would be of (10**5, 24)
    with pytest.raises(ValueError, match=r"mean_ of .*StandardScaler is no vector"):
        loaded(skops.io.dumps(model.estimator))
