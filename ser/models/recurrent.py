"""A recurrent network over a feature vector, taken for a sequence."""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval
from torch import Tensor, nn

from ser.config.quantities import Count, Share
from ser.models.layers import Standardizer

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """Classifies feature vectors by the last state of a network that reads feature after feature.

    The features are standardised by the training clips.

    Args:
        classes: Number of logits.
        features: Length of the vector.
        cell: `lstm` or `gru`.
        width: Of the state.
        layers: One on top of the other.
        dropout: Probability of dropping an element of the last state.
    """

    layout = "vector"

    def __init__(
        self,
        classes: int,
        features: int,
        cell: Literal["lstm", "gru"] = "lstm",
        width: Count = 128,
        layers: Annotated[int, Interval(ge=1, le=16)] = 1,
        dropout: Share = 0.2,
    ) -> None:
        super().__init__()
        self.standardize = Standardizer(features)
        self.recurrence = CELLS[cell](1, width, layers, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def initialize(self, training_features: Callable[[], np.ndarray]) -> None:
        """Learn from the training clips, (clips, features), what to standardise by."""
        self.standardize.fit(training_features())

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) of features (batch, features)."""
        sequence = self.standardize(features).unsqueeze(2)  # (batch, features, 1)
        states, _ = self.recurrence(sequence)  # (batch, features, width)
        return self.head(states[:, -1])
