"""The two stages, against their parts fitted by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from ser.models.gender_split import GenderSplit


def voices() -> tuple[np.ndarray, np.ndarray]:
    """Features (120, 4) and labels 2 * emotion + gender, of three emotions."""
    labels = np.repeat(range(6), 20)
    noise = np.random.default_rng(0).normal(size=(120, 4))
    return noise + np.stack([labels // 2, labels % 2, labels, labels * 0], axis=1), labels


def test_the_probability_is_of_the_gender_times_of_the_emotion_given_it():
    features, labels = voices()
    model = GenderSplit(LogisticRegression(), GaussianNB()).fit(features, labels)
    gender = LogisticRegression().fit(features, labels % 2).predict_proba(features)
    found = model.predict_proba(features)
    for one in (0, 1):
        own = labels % 2 == one
        emotion = GaussianNB().fit(features[own], labels[own] // 2).predict_proba(features)
        np.testing.assert_allclose(found[:, one::2], gender[:, [one]] * emotion)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.array_equal(model.predict(features), found.argmax(axis=1))


def test_a_class_that_nobody_spoke_has_no_column():
    features, labels = voices()
    there = labels != 3
    model = GenderSplit(LogisticRegression(), GaussianNB()).fit(features[there], labels[there])
    assert model.classes_.tolist() == [0, 1, 2, 4, 5]
    assert model.predict_proba(features).shape == (120, 5)


def test_classes_that_are_no_pairs_are_refused():
    GenderSplit.check_classes(["sad_male", "sad_female", "calm_male", "calm_female"])
    for classes in (
        ["sad", "calm"],
        ["sad_female", "sad_male"],
        ["sad_male", "calm_female"],
        ["sad_male", "sad_female", "calm_male"],
    ):
        with pytest.raises(ValueError, match=r"expected data\.target=emotion_gender"):
            GenderSplit.check_classes(classes)
