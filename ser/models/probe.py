"""A probe of a frozen encoder: a learned weighted sum of its layers, then a small head."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ser.config.quantities import Count, Share
from ser.models.layers import DenseHead, Standardizer


class Probe(nn.Module):
    """Classifies the layers of an encoder by their weighted sum; the weights are learned.

    Each layer's features are standardised by the training clips.

    Args:
        classes: Number of logits.
        depth: Number of layers.
        features: Values of a layer.
        widths: Outputs of the head's hidden layers.
        dropout: Probability of dropping a value of the sum, or an output of a hidden layer.
    """

    layout = "layers"

    def __init__(
        self,
        classes: int,
        depth: int,
        features: int,
        widths: Sequence[Count] = (),
        dropout: Share = 0.2,
    ) -> None:
        super().__init__()
        self.standardize = Standardizer(depth, features)
        self.shares = nn.Parameter(torch.zeros(depth))
        self.head = nn.Sequential(
            nn.Dropout(dropout), DenseHead(features, classes, widths, dropout)
        )

    def initialize(self, training_features: Callable[[], np.ndarray]) -> None:
        """Learn from the training clips, (clips, depth, features), what to standardise by."""
        for layer, values in enumerate(training_features().swapaxes(0, 1)):
            fitted = Standardizer(values.shape[1])
            fitted.fit(values)  # layer by layer: all at once would take four times the memory
            self.standardize.mean[layer] = fitted.mean
            self.standardize.deviation[layer] = fitted.deviation

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) of features (batch, depth, features)."""
        return self.head(self.shares.softmax(0) @ self.standardize(features))
