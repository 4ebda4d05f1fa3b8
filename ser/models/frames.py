"""Attentive statistics of the frames of an encoder, whose upper blocks may be trained too."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ser.config.quantities import Count, Natural, Positive, Share
from ser.models.layers import DenseHead


class FrameClassifier(nn.Module):
    """Classifies the frames of a clip by their weighted mean and deviation over time.

    The weights are learned (Okabe et al. 2018, attentive statistics pooling). Frames of zeros are
    padding, and are not heard.

    Args:
        classes: Number of logits.
        features: Values of a frame.
        upper: Returns so many blocks of the encoder, above the layer that the frames are of.
        blocks: How many the frames go through first; these are trained from their weights on.
        blocks_lr: Their learning rate; the schedule is the same.
        checkpointing: Whether training steps save memory, and take longer, in the blocks.
        width: Of the hidden layer that weighs a frame.
        widths: Outputs of the head's hidden layers.
        dropout: Probability of dropping a value of the statistics, or an output of a hidden layer.
    """

    layout = "frames"

    def __init__(
        self,
        classes: int,
        features: int,
        upper: Callable[[int], nn.Module],
        blocks: Natural = 0,
        blocks_lr: Positive = 2e-5,
        checkpointing: bool = False,
        width: Count = 128,
        widths: Sequence[Count] = (),
        dropout: Share = 0.2,
    ) -> None:
        super().__init__()
        self.blocks = upper(blocks) if blocks else None
        self.blocks_lr = blocks_lr
        self.checkpointing = checkpointing
        self.norm = nn.LayerNorm(features)
        self.weigh = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, 1))
        self.head = nn.Sequential(
            nn.Dropout(dropout), DenseHead(2 * features, classes, widths, dropout)
        )
        self.train()  # Lightning starts with the modes that it finds

    def initialize(self, training_features: Callable[[], np.ndarray]) -> None:
        """Take the encoder's weights of the blocks; no features are needed."""
        if self.blocks is not None:
            self.blocks.initialize()

    def groups(self) -> list[Mapping]:
        """Return the parameters for an optimiser, those of the blocks with their own rate."""
        trained = [(name, each) for name, each in self.named_parameters() if each.requires_grad]
        inner = [each for name, each in trained if name.startswith("blocks.")]
        outer = [each for name, each in trained if not name.startswith("blocks.")]
        return [{"params": outer}, *([{"params": inner, "lr": self.blocks_lr}] if inner else [])]

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) of features (batch, features, frames)."""
        own = (features != 0).any(1)  # (batch, frames)
        states = features.transpose(1, 2)
        if self.blocks is not None:
            states = self.blocks(states, own, self.checkpointing)
        states = self.norm(states)
        scores = self.weigh(states).masked_fill(~own.unsqueeze(2), float("-inf"))
        weights = scores.softmax(1)  # (batch, frames, 1)
        mean = (weights * states).sum(1)
        spread = (weights * (states - mean.unsqueeze(1)).square()).sum(1)
        deviation = spread.clamp(min=1e-7).sqrt()  # whose slope is infinite at 0
        return self.head(torch.cat([mean, deviation], 1))
