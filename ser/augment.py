"""Augmentation of features while training; every module is the identity in eval mode."""

import torch
from torch import Tensor, nn


class SpecAugment(nn.Module):
    """Masks random stretches of time and of bins, and moves the level, clip by clip.

    A masked element takes the mean of its bin over the clip: zero would be an outlier to
    a network that standardises its input, as features in decibels lie far from zero.

    Args:
        time_masks: Number of masks over time.
        time_width: Longest time mask, as a fraction of the frames.
        bin_masks: Number of masks over bins.
        bin_width: Longest bin mask, as a fraction of the bins.
        level: Standard deviation of the shift of bin 0, in that bin's unit.
    """

    def __init__(
        self,
        time_masks: int = 2,
        time_width: float = 0.15,
        bin_masks: int = 0,
        bin_width: float = 0.1,
        level: float = 0.0,
    ) -> None:
        super().__init__()
        self.time_masks = time_masks
        self.time_width = time_width
        self.bin_masks = bin_masks
        self.bin_width = bin_width
        self.level = level

    def forward(self, features: Tensor) -> Tensor:
        """Give masked features (batch, channels, bins, frames); the input is not changed."""
        if not self.training:
            return features
        clips, _, bins, frames = features.shape
        times = _masks(clips, frames, self.time_masks, self.time_width, features.device)
        rows = _masks(clips, bins, self.bin_masks, self.bin_width, features.device)
        masked = times[:, None, None, :] | rows[:, None, :, None]
        features = torch.where(masked, features.mean(3, keepdim=True), features)
        if self.level:
            features[:, :, 0] += self.level * torch.randn(clips, 1, 1, device=features.device)
        return features


class Mixup(nn.Module):
    """Mixes every clip and its target with those of another clip of the batch.

    Args:
        alpha: Both parameters of the Beta distribution of the share; 0 mixes nothing.
    """

    def __init__(self, alpha: float = 0.3) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Give mixed features (batch, ...) and targets (batch, classes)."""
        if not self.training or not self.alpha:
            return features, targets
        # Two gamma draws make a beta draw; torch's own Beta takes no generator but the global.
        shares = torch._sample_dirichlet(features.new_full((len(features), 2), self.alpha))[:, 0]
        partner = torch.randperm(len(features), device=features.device)
        return _blend(features, shares, partner), _blend(targets, shares, partner)


def _blend(values: Tensor, shares: Tensor, partner: Tensor) -> Tensor:
    """Give shares (batch,) of values (batch, ...) and the rest of their partners."""
    return torch.lerp(values[partner], values, shares.view(-1, *[1] * (values.dim() - 1)))


def _masks(clips: int, size: int, count: int, width: float, device: torch.device) -> Tensor:
    """Give (clips, size), true where one of count masks of up to width * size lies."""
    shape = (clips, count, 1)
    widths = torch.rand(shape, device=device) * (width * size + 1)
    widths = widths.floor()
    starts = (torch.rand(shape, device=device) * (size - widths + 1)).floor()
    places = torch.arange(size, device=device)
    return ((places >= starts) & (places < starts + widths)).any(1)
