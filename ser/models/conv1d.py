"""Convolutions along a feature vector, taken for a sequence."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from torch import Tensor, nn

from ser.config.quantities import Count, Share, Widths
from ser.models.layers import Standardizer


class Conv1D(nn.Module):
    """Classifies feature vectors: convolutions with max-pooling between them, then one dense layer.

    The sources feed raw features; here they are standardised by the training clips.

    Args:
        classes: Number of logits.
        features: Length of the vector.
        widths: Output channels of the convolutions.
        kernel: Features each convolution spans, an odd number; the length stays.
        dropout: Probability of dropping an output of a convolution.
        pool: Neighbours of which the largest goes on to the next convolution.
    """

    layout = "vector"

    def __init__(
        self,
        classes: int,
        features: int,
        widths: Widths = (64,),
        kernel: Count = 5,
        dropout: Share = 0.2,
        pool: Count = 4,
    ) -> None:
        super().__init__()
        length = features // pool ** (len(widths) - 1)
        if length < 1:
            raise ValueError(
                f"{len(widths)} convolutions with pooling by {pool} between them leave nothing of"
                f" {features} features: expected at least {pool ** (len(widths) - 1)}, more parts"
                " in frontend.parts, or fewer model.network.widths"
            )
        self.standardize = Standardizer(features)
        layers = []
        for before, width in pairwise([1, *widths]):
            if layers:
                layers.append(nn.MaxPool1d(pool))
            layers += [
                nn.Conv1d(before, width, kernel, padding="same"),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * length, classes)

    def initialize(self, training_features: Callable[[], np.ndarray]) -> None:
        """Learn from the training clips, (clips, features), what to standardise by."""
        self.standardize.fit(training_features())

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) of features (batch, features)."""
        sequence = self.standardize(features).unsqueeze(1)  # (batch, 1, features)
        return self.head(self.convolutions(sequence).flatten(1))
