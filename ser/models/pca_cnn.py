"""Convolutions along the principal components of a feature vector."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from ser.config.quantities import Count, Share, Widths
from ser.models.layers import DenseHead, Standardizer


class PCACNN(nn.Module):
    """Classifies the principal components of standardised features.

    Convolutions, of which every second is followed by max-pooling by 2, then dense layers. Mean,
    deviation and components are those of the training clips.

    Args:
        classes: Number of logits.
        features: Length of the vector.
        components: Principal components kept, in the order of their variance.
        widths: Output channels of the convolutions.
        dense: Outputs of the dense layers before the logits.
        dropout: Probability of dropping what the pooling gives.
        dense_dropout: Probability of dropping an output of a dense layer.
    """

    layout = "vector"

    def __init__(
        self,
        classes: int,
        features: int,
        components: Count = 66,
        widths: Widths = (32, 32, 64, 64, 128, 128, 256, 256),
        dense: Widths = (256, 128),
        dropout: Share = 0.1,
        dense_dropout: Share = 0.3,
    ) -> None:
        super().__init__()
        shortest = 2 ** (len(widths) // 2)
        if not shortest <= components <= features:
            raise ValueError(
                f"model.network.components={components}: expected {shortest}, which the"
                f" convolutions need, to {features}, as many features as the front end gives"
            )
        self.standardize = Standardizer(features)
        self.register_buffer("components", torch.eye(components, features))
        layers = []
        for index, (before, width) in enumerate(pairwise([1, *widths])):
            layers += [
                # The normalisation's own shift makes a bias of the convolution idle.
                nn.Conv1d(before, width, 3, padding="same", bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(inplace=True),
            ]
            if index % 2:
                layers += [nn.MaxPool1d(2), nn.Dropout(dropout)]
        self.convolutions = nn.Sequential(*layers)
        length = components // shortest
        self.head = DenseHead(widths[-1] * length, classes, dense, dense_dropout)

    def initialize(self, training_features: Callable[[], np.ndarray]) -> None:
        """Learn mean, deviation and components from the training clips, (clips, features).

        Raises:
            ValueError: There are fewer clips than components.
        """
        features = self.standardize.fit(training_features())
        if len(features) < len(self.components):
            raise ValueError(
                f"model.network.components={len(self.components)}: expected at most"
                f" {len(features)}, the number of training clips"
            )
        # The solver that is chosen by default may draw at random.
        found = PCA(len(self.components), svd_solver="full").fit(features)
        self.components.copy_(torch.from_numpy(found.components_))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) of features (batch, features)."""
        components = self.standardize(features) @ self.components.T
        maps = self.convolutions(components.unsqueeze(1))  # (batch, channels, length)
        return self.head(maps.flatten(1))
