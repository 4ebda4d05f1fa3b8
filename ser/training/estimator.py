"""The classical classifier: front end -> a scikit-learn estimator, as a LightningModule."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from hydra.utils import instantiate
from lightning import LightningModule
from sklearn.base import BaseEstimator
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from torch import Tensor

from ser.checkpoints import estimator_io, trust
from ser.config.quantities import Seed
from ser.features.frontend import check_layout
from ser.models.gender_split import GenderSplit
from ser.models.layers import temper


class EstimatorClassifier(LightningModule):
    """Classifies waveforms (batch, samples) into emotions with a fitted estimator.

    Args:
        classes: Their names, in the order of the probabilities.
        frontend: Builds the front end, (batch, samples) -> (batch, features).
        estimator: Builds the estimator, its scaling included; it needs `predict_proba`.
        seed: Of everything random in fitting.

    Attributes:
        compiled: Whether types of `estimator_io.COMPILED` may be loaded too.
        temperature: As of `ser.training.classifier.EmotionClassifier`.

    Raises:
        ValueError: The front end gives no vectors, or the estimator tells other classes apart.
    """

    compiled = False
    temperature: float | None = None

    def __init__(
        self, classes: Sequence[str], frontend: Mapping, estimator: Mapping, seed: Seed = 0
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        recipe = {"_target_": "ser.training.estimator.EstimatorClassifier", **self.hparams}
        del recipe["classes"]
        trust.check(recipe, "model", "model")
        self.classes = list(classes)
        self.frontend = instantiate(frontend)
        check_layout(self.frontend, "vector", "an estimator")
        self.estimator = self._build()
        if isinstance(self.estimator, GenderSplit):
            self.estimator.check_classes(self.classes)

    def fit_estimator(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Fit on the training clips: features (clips, features), labels (clips,) as indices."""
        self.estimator = self._build()
        self.estimator.fit(features, labels)

    def cross_validate(
        self, features: np.ndarray, labels: np.ndarray, groups: np.ndarray
    ) -> np.ndarray:
        """Return the label (clips,) of each clip by an estimator fitted without its group.

        Args:
            features: Of the training clips, (clips, features).
            labels: As indices, (clips,).
            groups: Speakers, (clips,); folds, five at most, keep each on one side.

        Raises:
            ValueError: All clips are of one speaker.
        """
        count = min(5, len(np.unique(groups)))
        if count < 2:
            raise ValueError(
                f"the training clips are all of speaker {groups[0]}, but cv/ scores each by an"
                " estimator that was fitted without its speaker: expected at least two speakers"
            )
        folds = StratifiedGroupKFold(count, shuffle=True, random_state=self.hparams.seed)
        return cross_val_predict(self._build(), features, labels, groups=groups, cv=folds)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of waveforms (batch, samples)."""
        return self.probabilities(self.frontend(waveform))

    def probabilities(self, features: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of features (batch, features)."""
        found = self.estimator.predict_proba(features.cpu().numpy())
        return torch.from_numpy(found).float().to(features.device)

    def predict_step(self, batch: Mapping[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Return each clip's row and probabilities, tempered."""
        probabilities = self.probabilities(self.frontend.of(batch))
        return {"row": batch["row"], "probabilities": temper(probabilities, self.temperature)}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Put the fitted estimator into the checkpoint, as skops bytes in a uint8 tensor."""
        content = np.frombuffer(estimator_io.dump(self.estimator), np.uint8)
        checkpoint["estimator"] = torch.from_numpy(content.copy())

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the fitted estimator out of the checkpoint; what was altered is refused."""
        self.estimator = estimator_io.load(
            checkpoint["estimator"].numpy().tobytes(),
            recipe=self.estimator,
            features=self.frontend.features,
            classes=len(self.classes),
            compiled=self.compiled,
        )

    def _build(self) -> BaseEstimator:
        # scikit-learn draws from numpy's global state where an estimator is given no other.
        np.random.seed(self.hparams.seed)  # noqa: NPY002
        return instantiate(self.hparams.estimator, _convert_="all")
