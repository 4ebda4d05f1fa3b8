"""The classical classifier: front end -> a scikit-learn estimator, behind Lightning's door."""

from collections.abc import Mapping, Sequence

import numpy as np
import skops.io
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import LightningModule
from sklearn.base import BaseEstimator
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from torch import Tensor

TRUSTED = (
    "ser.gender.GenderSplit",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
)
"""Parts of estimators that skops does not know, and that run no code of their file."""

COMPILED = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "sklearn.tree._tree.Tree",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)
"""Trees and boosters, which compiled code reads as they are: from files of one's own alone."""


class EstimatorClassifier(LightningModule):
    """Classifies waveforms (batch, samples) into emotions with a fitted estimator.

    Args:
        classes: Their names, in the order of the probabilities.
        frontend: Builds the front end, (batch, samples) -> (batch, features).
        estimator: Builds the estimator, its scaling included; it needs `predict_proba`.
        seed: Of everything random in fitting.

    Attributes:
        compiled: Whether `COMPILED` types may be loaded too.
    """

    compiled = False

    def __init__(
        self, classes: Sequence[str], frontend: Mapping, estimator: Mapping, seed: int = 0
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.classes = list(classes)
        self.frontend = instantiate(frontend)
        if hasattr(self.frontend, "bins"):
            raise ValueError(
                f"{frontend['_target_']} gives channels, bins and frames a clip, but an estimator"
                " needs one vector: expected frontend=functionals, or model=cnn"
            )
        self.estimator = self._build()

    def fit_estimator(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Fit on the training clips: features (clips, features), labels (clips,) as indices."""
        self.estimator = self._build()
        self.estimator.fit(features, labels)

    def cross_validate(
        self, features: np.ndarray, labels: np.ndarray, groups: np.ndarray
    ) -> np.ndarray:
        """Give the label (clips,) of each clip by an estimator fitted without its group.

        Args:
            features: Of the training clips, (clips, features).
            labels: As indices, (clips,).
            groups: Actors, (clips,); five folds keep each on one side.
        """
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=self.hparams.seed)
        return cross_val_predict(self._build(), features, labels, groups=groups, cv=folds)

    def forward(self, waveform: Tensor) -> Tensor:
        """Give the probabilities (batch, classes) of waveforms (batch, samples)."""
        return self._probabilities(self.frontend(waveform))

    def predict_step(self, batch: Mapping[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Give each clip's row and probabilities."""
        known = "features" in batch
        features = batch["features"] if known else self.frontend(batch["waveform"])
        return {"row": batch["row"], "probabilities": self._probabilities(features)}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Put the fitted estimator into the checkpoint, as skops bytes in a uint8 tensor."""
        fitted = np.frombuffer(skops.io.dumps(self.estimator), np.uint8)
        checkpoint["estimator"] = torch.from_numpy(fitted.copy())

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the fitted estimator out of the checkpoint; unknown types are refused."""
        fitted = checkpoint["estimator"].numpy().tobytes()
        try:
            types = set(skops.io.get_untrusted_types(data=fitted))
        except Exception as error:  # planted bytes can make skops raise anything
            raise ValueError(
                f"the checkpoint's estimator is not what skops writes ({type(error).__name__}):"
                " expected an untouched file; no code of it was run"
            ) from error
        trusted = {*TRUSTED, *COMPILED} if self.compiled else set(TRUSTED)
        unknown = sorted(types - trusted)
        if unknown and types <= {*TRUSTED, *COMPILED}:
            raise ValueError(
                f"the checkpoint's estimator holds {', '.join(unknown)}, which compiled code reads"
                " unchecked: if the file is your own, add compiled=true"
            )
        if unknown:
            raise ValueError(
                f"the checkpoint's estimator holds the types {unknown}: expected only those"
                " of scikit-learn and NumPy that skops trusts; do not load it unless you made it"
            )
        self.estimator = skops.io.loads(fitted, trusted=sorted(types))

    def _build(self) -> BaseEstimator:
        # scikit-learn draws from numpy's global state where an estimator is given no other.
        np.random.seed(self.hparams.seed)  # noqa: NPY002
        try:
            return instantiate(self.hparams.estimator, _convert_="all")
        except InstantiationException as error:
            cause = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if isinstance(cause, ModuleNotFoundError):
                raise ModuleNotFoundError(
                    f"{cause}: xgboost and lightgbm come with an extra, uv run --extra boost"
                ) from error
            raise

    def _probabilities(self, features: Tensor) -> Tensor:
        return torch.from_numpy(self.estimator.predict_proba(features.cpu().numpy())).float()
