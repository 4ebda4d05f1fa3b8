"""Augmentation of features in training; the identity in eval mode."""

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from ser.config.quantities import Amount, Natural, Part, Share


class SpecAugment(nn.Module):
    """Changes tempo, onset and timbre of each clip, then masks stretches of time and of bins.

    A masked element takes the mean of its bin over the clip: zero would be an outlier to
    a network that standardises its input, as features in decibels lie far from zero.

    Args:
        time_masks: Number of masks over time.
        time_width: Longest time mask, as a fraction of the frames.
        bin_masks: Number of masks over bins.
        bin_width: Longest bin mask, as a fraction of the bins.
        speed: Largest change of tempo, up or down, as a fraction.
        shift: Largest shift in time, either way, as a fraction of the frames.
        offset: Standard deviation of the shift of a whole bin, in units of the bin's own over
            the clip; of MFCC, this is a random filter, microphone or vocal tract.
    """

    layout = "planes"

    def __init__(
        self,
        time_masks: Natural = 2,
        time_width: Share = 0.15,
        bin_masks: Natural = 0,
        bin_width: Share = 0.1,
        speed: Part = 0.0,
        shift: Share = 0.0,
        offset: Amount = 0.0,
    ) -> None:
        super().__init__()
        self.time_masks = time_masks
        self.time_width = time_width
        self.bin_masks = bin_masks
        self.bin_width = bin_width
        self.speed = speed
        self.shift = shift
        self.offset = offset

    def forward(self, features: Tensor) -> Tensor:
        """Return altered features (batch, channels, bins, frames); the input is not changed."""
        if not self.training:
            return features
        clips, _, bins, frames = features.shape
        if self.speed or self.shift:
            features = self._resample(features)
        mean = features.mean(3, keepdim=True)  # fills the masks, and moves with its bin
        if self.offset:
            spread = (features - mean).square().mean(3, keepdim=True).sqrt()
            moved = self.offset * spread * torch.randn_like(spread)
            features, mean = features + moved, mean + moved
        times = _masks(clips, frames, self.time_masks, self.time_width, features.device)
        rows = _masks(clips, bins, self.bin_masks, self.bin_width, features.device)
        masked = times[:, None, None, :] | rows[:, None, :, None]
        return torch.where(masked, mean, features)

    def _resample(self, features: Tensor) -> Tensor:
        """Return features read at other times, between frames linearly, the ends held."""
        clips, _, _, frames = features.shape
        tempo = 1 + self.speed * _uniform(clips, features.device)
        start = self.shift * frames * _uniform(clips, features.device)
        times = start + tempo * torch.arange(frames, device=features.device)
        # Bins as channels of a picture of height 1: places are worked out once for all of them.
        places = torch.stack([2 * times / (frames - 1) - 1, torch.zeros_like(times)], dim=2)
        lines = features.flatten(1, 2).unsqueeze(2)  # (batch, channels * bins, 1, frames)
        lines = grid_sample(lines, places.unsqueeze(1), padding_mode="border", align_corners=True)
        return lines.reshape(features.shape)


def _uniform(clips: int, device: torch.device) -> Tensor:
    """Return (clips, 1) numbers between -1 and 1."""
    return 2 * torch.rand(clips, 1, device=device) - 1


def _masks(clips: int, size: int, count: int, width: float, device: torch.device) -> Tensor:
    """Return (clips, size), true where one of count masks of up to width * size lies."""
    shape = (clips, count, 1)
    widths = (torch.rand(shape, device=device) * (int(width * size) + 1)).floor()
    starts = (torch.rand(shape, device=device) * (size - widths + 1)).floor()
    places = torch.arange(size, device=device)
    return ((places >= starts) & (places < starts + widths)).any(1)
