"""The classical classifier: front end -> a scikit-learn estimator, behind Lightning's door."""

from collections.abc import Mapping, Sequence

import numpy as np
import skops.io
import torch
from hydra.utils import instantiate
from lightning import LightningModule
from torch import Tensor

TRUSTED = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
)
"""Private parts of estimators that skops does not know, and that run no code of their file."""


class EstimatorClassifier(LightningModule):
    """Classifies waveforms (batch, samples) into emotions with a fitted estimator.

    Args:
        classes: Their names, in the order of the probabilities.
        frontend: Builds the front end, (batch, samples) -> (batch, features).
        estimator: Builds the estimator, its scaling included; it needs `predict_proba`.
        seed: Of everything random in fitting.
    """

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
        self.estimator = None

    def fit_estimator(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Fit on the training clips: features (clips, features), labels (clips,) as indices."""
        # scikit-learn draws from numpy's global state where an estimator is given no other.
        np.random.seed(self.hparams.seed)  # noqa: NPY002
        self.estimator = instantiate(self.hparams.estimator, _convert_="all")
        self.estimator.fit(features, labels)

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
        unknown = set(skops.io.get_untrusted_types(data=fitted)).difference(TRUSTED)
        if unknown:
            raise ValueError(
                f"the checkpoint's estimator holds the types {sorted(unknown)}: expected only those"
                " of scikit-learn and NumPy that skops trusts; do not load it unless you made it"
            )
        self.estimator = skops.io.loads(fitted, trusted=list(TRUSTED))

    def _probabilities(self, features: Tensor) -> Tensor:
        return torch.from_numpy(self.estimator.predict_proba(features.cpu().numpy())).float()
