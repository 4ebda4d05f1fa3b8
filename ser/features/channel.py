"""The channel of a recording, drawn at random for training: filter, band limit and noise."""

import math
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn

from ser.config.quantities import Amount, Natural, Share

Decibels = Annotated[float, Interval(ge=-200, le=200)]

SILENCE_DB = -99.9
"""Digital silence is -100 dB."""

TILT_DB = 12.0
"""From the lowest band to the highest, at most: white noise rises by 8 dB from 50 Hz to 4 kHz."""

FLUCTUATION_DB = 2.0
"""Standard deviation of noise in a mel band of a frame, about that of white noise."""


class RandomChannel(nn.Module):
    """Plays spectra in dB through random channels in training; the identity in eval mode.

    (batch, 1, bands, frames) -> (batch, 1, bands, frames), a channel a clip: a smooth filter, then
    stationary noise of a random tilt.

    Args:
        filter_db: Standard deviation of the first of the cosines over the bands whose sum the
            filter is; that of the k-th is 1 / sqrt(k) of it.
        filter_order: Number of those cosines.
        noise: Share of the clips with noise.
        snr_db: Least and largest distance of the noise below the clip's mean power.
    """

    def __init__(
        self,
        filter_db: Amount = 3.0,
        filter_order: Natural = 6,
        noise: Share = 0.5,
        snr_db: tuple[Decibels, Decibels] = (5.0, 45.0),
    ) -> None:
        super().__init__()
        self.filter_db = filter_db
        self.filter_order = filter_order
        self.noise = noise
        self.snr_db = tuple(snr_db)

    def forward(self, spectra: Tensor) -> Tensor:
        """Return altered spectra (batch, 1, bands, frames); the input is not changed."""
        if not self.training:
            return spectra
        altered = spectra + self._filters(spectra)
        # Windows are padded with zeros after the recording has come through its channel.
        silent = spectra <= SILENCE_DB
        noisy = torch.rand(len(spectra), device=spectra.device) < self.noise
        altered[noisy] = self._with_noise(altered[noisy])
        return torch.where(silent, spectra, altered)

    def _filters(self, spectra: Tensor) -> Tensor:
        """Return the response of a filter for each clip in dB, (batch, 1, bands, 1)."""
        clips, _, bands, _ = spectra.shape
        orders = torch.arange(1, self.filter_order + 1, device=spectra.device)
        places = (torch.arange(bands, device=spectra.device) + 0.5) / bands
        waves = (math.pi * orders[:, None] * places).cos()  # (orders, bands)
        heights = torch.randn(clips, self.filter_order, device=spectra.device) / orders.sqrt()
        return self.filter_db * (heights @ waves)[:, None, :, None]

    def _with_noise(self, spectra: Tensor) -> Tensor:
        clips, _, bands, _ = spectra.shape
        low, high = self.snr_db
        snr = low + (high - low) * torch.rand(clips, 1, 1, 1, device=spectra.device)
        slope = TILT_DB * (torch.rand(clips, 1, 1, 1, device=spectra.device) - 0.5)
        tilt = slope * torch.linspace(-1, 1, bands, device=spectra.device)[:, None]
        level = _mean_power(spectra) - snr + tilt - _mean_power(tilt)
        noise = torch.randn_like(spectra).mul_(FLUCTUATION_DB).add_(level)
        return torch.logaddexp(spectra * _NEPER, noise.mul_(_NEPER)).div_(_NEPER)


_NEPER = math.log(10) / 10


def _mean_power(spectra: Tensor) -> Tensor:
    """Return the mean power of each clip in dB, (batch, 1, 1, 1)."""
    return (spectra * _NEPER).exp().mean(dim=(1, 2, 3), keepdim=True).log() / _NEPER
