"""Layers that several networks share."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class DenseHead(nn.Sequential):
    """Dense layers with rectifier and dropout, then logits: (batch, inputs) -> (batch, classes).

    There is no batch normalisation: the last batch of an epoch may be a single clip.

    Args:
        inputs: Values a clip.
        classes: Number of logits.
        widths: Outputs of the hidden layers.
        dropout: Probability of dropping an output of a hidden layer.
    """

    def __init__(self, inputs: int, classes: int, widths: Sequence[int], dropout: float) -> None:
        layers = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, classes))


class Standardizer(nn.Module):
    """Brings each feature to mean 0 and deviation 1 over the training clips.

    Unlike a batch normalisation it does with a batch of one clip. Before `fit` it does nothing.

    Args:
        shape: Of the features of a clip.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def fit(self, features: np.ndarray) -> np.ndarray:
        """Learn from the training clips, (clips, features), and give them standardised."""
        from sklearn.preprocessing import StandardScaler

        features = features.astype(np.float64)
        scaler = StandardScaler().fit(features)
        self.mean.copy_(torch.from_numpy(scaler.mean_))
        self.deviation.copy_(torch.from_numpy(scaler.scale_))
        return scaler.transform(features)

    def forward(self, features: Tensor) -> Tensor:
        """Standardise (batch, features)."""
        return (features - self.mean) / self.deviation


SMALLEST = 1e-15
"""Probability below which a logarithm is taken of this one."""


def temper(probabilities: Tensor, temperature: float | None) -> Tensor:
    """Divide the logarithms of probabilities (batch, classes) by a temperature, in float64.

    None leaves them as they are.
    """
    if temperature is None:
        return probabilities
    # Not every device computes in float64.
    return (probabilities.cpu().double().clamp(min=SMALLEST).log() / temperature).softmax(dim=1)
