"""The dense layers that turn what a network has made of a clip into logits."""

from collections.abc import Sequence

from torch import nn


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
