"""A small convolutional network for emotion recognition."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ser.config.quantities import Share, Widths


class CNN(nn.Module):
    """Classifies time-frequency features: strided stem, pooled blocks, pooling over time.

    Args:
        classes: Number of logits.
        bins: Number of coefficients or mel bands per frame.
        channels: Number of feature planes, such as 3 for features with their deltas.
        widths: Output channels of the pooled blocks; the stem has as many as the first.
        dropout: Probability of dropping an element of the pooled embedding.
    """

    layout = "planes"

    def __init__(
        self,
        classes: int,
        bins: int,
        channels: int = 1,
        widths: Widths = (16, 32, 64, 128),
        dropout: Share = 0.3,
    ) -> None:
        super().__init__()
        # Running statistics come from training clips only, and travel in the checkpoint.
        # Without parameters: for theirs the stem would work out the gradient of its input.
        self.standardize = nn.BatchNorm1d(channels * bins, affine=False)
        # Every later layer works on an eighth of the elements: most of the speed is here.
        self.stem = _block(channels, widths[0], kernel=5, stride=(2, 4))
        blocks = []
        for before, width in pairwise([widths[0], *widths]):
            # Ceiling mode keeps at least one bin and one frame, however short the input. The
            # maximum of rectified values is the rectified maximum, of a quarter of the elements.
            *normalised, rectifier = _block(before, width, kernel=3)
            blocks += [*normalised, nn.MaxPool2d(2, ceil_mode=True), rectifier]
        self.blocks = nn.Sequential(*blocks)
        self.pool = AttentionMaxPool(widths[-1])
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], classes))
        self.to(memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) of features (batch, channels, bins, frames)."""
        planes = self.standardize(features.flatten(1, 2)).reshape(features.shape)
        planes = planes.contiguous(memory_format=torch.channels_last)
        maps = self.blocks(self.stem(planes))
        return self.head(self.pool(maps.mean(2)))


class AttentionMaxPool(nn.Module):
    """Joins a learned weighted mean over time with the maximum over time.

    Args:
        width: Number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Conv1d(width, 1, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return (batch, 2 * width) of a sequence (batch, width, frames)."""
        weights = self.score(sequence).softmax(2)
        return torch.cat([(sequence * weights).sum(2), sequence.amax(2)], 1)


def _block(
    inputs: int, outputs: int, kernel: int, stride: int | tuple[int, int] = 1
) -> nn.Sequential:
    """Return convolution, normalisation and rectifier; the output has size / stride, rounded up."""
    return nn.Sequential(
        # The normalisation's own shift makes a bias of the convolution idle.
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
