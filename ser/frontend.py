"""Features of waveforms: (batch, samples) -> (batch, channels, bins, frames) or (batch, features).

A clip's features do not depend on its company: nothing here looks across the batch.
"""

from collections.abc import Mapping

import torch
import torchaudio
from torch import Tensor, nn
from torchaudio import transforms
from torchaudio.functional import compute_deltas

VERSION = f"1, torchaudio {torchaudio.__version__}"
"""Part of the key of cached features: raise it when a front end gives other values than before."""

CACHE_SIZED = 8
"""Clips whose spectrograms stay in a CPU's cache: 4.6 times faster than 64 at once."""


def cache_key(recipe: Mapping) -> list:
    """Name what cached features depend on, given what the front end is built from."""
    return [VERSION, recipe]


def _in_cache_sized_parts(transform: nn.Module, waveform: Tensor) -> Tensor:
    # With a channel axis the 80 dB floor is relative to the clip's own peak, not the batch's.
    waveform = waveform.unsqueeze(1)  # (batch, 1, samples)
    if waveform.device.type != "cpu":
        return transform(waveform)
    return torch.cat([transform(part) for part in waveform.split(CACHE_SIZED)])


class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients: (batch, samples) -> (batch, 1, bins, frames).

    `n_fft` and `hop_length` are in samples, `sample_rate` in Hz; `bins` coefficients are kept.
    """

    channels = 1

    def __init__(
        self,
        bins: int = 40,
        n_fft: int = 2048,
        hop_length: int = 480,
        n_mels: int = 128,
        sample_rate: int = 48000,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.transform = transforms.MFCC(
            sample_rate,
            n_mfcc=bins,
            melkwargs={"n_fft": n_fft, "hop_length": hop_length, "n_mels": n_mels},
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to (batch, 1, bins, frames)."""
        return _in_cache_sized_parts(self.transform, waveform)


class LogMel(nn.Module):
    """Mel spectrogram in dB: (batch, samples) -> (batch, 1, bins, frames).

    It is floored 80 dB below the clip's peak. `n_fft` and `hop_length` are in samples,
    `sample_rate` in Hz.
    """

    channels = 1

    def __init__(
        self, bins: int = 64, n_fft: int = 2048, hop_length: int = 480, sample_rate: int = 48000
    ) -> None:
        super().__init__()
        self.bins = bins
        self.transform = nn.Sequential(
            transforms.MelSpectrogram(sample_rate, n_fft, hop_length=hop_length, n_mels=bins),
            transforms.AmplitudeToDB(top_db=80.0),
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to (batch, 1, bins, frames)."""
        return _in_cache_sized_parts(self.transform, waveform)


class Functionals(nn.Module):
    """Mean and standard deviation over time of the MFCCs and their first two derivatives.

    (batch, samples) -> (batch, 6 * bins); `n_fft` and `hop_length` are in samples.
    """

    def __init__(
        self,
        bins: int = 40,
        n_fft: int = 2048,
        hop_length: int = 480,
        n_mels: int = 128,
        sample_rate: int = 48000,
    ) -> None:
        super().__init__()
        self.mfcc = MFCC(bins, n_fft, hop_length, n_mels, sample_rate)

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to (batch, 6 * bins)."""
        static = self.mfcc(waveform).squeeze(1)  # (batch, bins, frames)
        delta = compute_deltas(static)
        # (batch, 3 * bins, frames)
        tracks = torch.cat([static, delta, compute_deltas(delta)], dim=1)
        return torch.cat([tracks.mean(dim=2), tracks.std(dim=2)], dim=1)
