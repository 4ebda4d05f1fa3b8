"""A two-stage estimator: the gender first, then the emotion by an estimator of that gender."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone


class GenderSplit(ClassifierMixin, BaseEstimator):
    """Tells the gender first, then the emotion with the estimator of that gender.

    Labels are 2 * emotion + gender, as `data.target=emotion_gender` orders the classes. The
    probability of a class is that of the gender times that of the emotion given the gender.

    Args:
        gender: Estimator of the gender.
        emotion: Estimator of the emotion, fitted once for each gender.
    """

    def __init__(self, gender: BaseEstimator, emotion: BaseEstimator) -> None:
        self.gender = gender
        self.emotion = emotion

    @staticmethod
    def check_classes(classes: Sequence[str]) -> None:
        """Refuse classes that are not pairs of an emotion's male and female voices."""
        emotions = [name.removesuffix("_male") for name in classes[::2]]
        pairs = [f"{emotion}_{gender}" for emotion in emotions for gender in ("male", "female")]
        if list(classes) != pairs:
            raise ValueError(
                f"the classes {', '.join(classes)} are not pairs such as sad_male, sad_female,"
                " which GenderSplit tells apart: expected data.target=emotion_gender"
            )

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Fit the three estimators: features (clips, features), labels (clips,)."""
        emotions, genders = np.divmod(labels, 2)
        self.classes_ = np.unique(labels)
        self.gender_ = clone(self.gender).fit(features, genders)
        self.emotions_ = [
            clone(self.emotion).fit(features[genders == gender], emotions[genders == gender])
            for gender in self.gender_.classes_
        ]
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities (clips, classes)."""
        genders = self.gender_.predict_proba(features)
        probabilities = np.zeros((len(features), self.classes_.max() + 1))
        for column, gender in enumerate(self.gender_.classes_):
            emotions = self.emotions_[column]
            classes = 2 * emotions.classes_ + gender
            given = emotions.predict_proba(features)
            probabilities[:, classes] = genders[:, [column]] * given
        return probabilities[:, self.classes_]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the most probable label of each clip, (clips,)."""
        return self.classes_[self.predict_proba(features).argmax(axis=1)]
