"""Augmentation of features and of waveforms in training; the identity in eval mode."""

from collections.abc import Callable
from typing import Annotated

import scipy.fft
import torch
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn.functional import grid_sample, pad

from ser.config.quantities import Amount, Hertz, Natural, Part, Positive, Share

Decibels = Annotated[float, Interval(ge=-200, le=200)]
Reverberation = Annotated[float, Interval(ge=0.01, le=5)]

TALKERS = 4
"""Other clips of the batch whose sum is babble."""

LOWEST = 20.0
"""Hz from which on noise is pink."""

FIRST_ECHO = 0.0025
"""Seconds between the direct sound and what a room adds to it."""

DIRECT_DB = (-3.0, 9.0)
"""Least and greatest energy of the direct sound, relative to that of the reverberation."""

EDGE = 0.1
"""Half of the width of the edges of a band, relative to their frequency."""

TINY = 1e-12

CLIPPED = (0.2, 0.8)
"""Share of the peak at which clips are clipped, least and greatest."""


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


class Noise(nn.Module):
    """Plays some training clips in noise and in rooms before they are analysed.

    What is chosen is heard in a room, then in noise, through a band, louder or softer and clipped,
    each for a share of what is chosen and drawn for each clip. The zeros that pad a window stay, as
    padding comes after recording. Noise is white, pink or babble of other clips of the batch, as
    often; a room is noise that decays exponentially (Moorer 1979, Computer Music Journal 3:2).

    Args:
        features: Alters the features of all training clips then; None for nothing.
        share: Of the clips of a batch that are chosen.
        noise: Share of these with noise.
        snr_db: Least and greatest distance of the noise below the mean power of the clip.
        reverb: Share in a room.
        rt60: Least and greatest time in which the reverberation falls by 60 dB, in s.
        band: Share that is limited in band.
        low_hz: Least and greatest lower edge, in Hz.
        high_hz: Least and greatest upper edge, in Hz.
        gain_db: Least and greatest gain; beyond -1..1 it is clipped.
        clipping: Share that is clipped.
        sample_rate: Hz.
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        share: Share = 0.5,
        noise: Share = 0.8,
        snr_db: tuple[Decibels, Decibels] = (0.0, 30.0),
        reverb: Share = 0.3,
        rt60: tuple[Reverberation, Reverberation] = (0.2, 1.0),
        band: Share = 0.2,
        low_hz: tuple[Amount, Amount] = (20.0, 400.0),
        high_hz: tuple[Positive, Positive] = (2500.0, 8000.0),
        gain_db: tuple[Decibels, Decibels] = (-15.0, 12.0),
        clipping: Share = 0.1,
        sample_rate: Hertz = 48000,
    ) -> None:
        super().__init__()
        self.features = features or nn.Identity()
        self.share = share
        self.noise, self.snr_db = noise, tuple(snr_db)
        self.reverb, self.rt60 = reverb, tuple(rt60)
        self.band, self.low_hz, self.high_hz = band, tuple(low_hz), tuple(high_hz)
        self.gain_db, self.clipping = tuple(gain_db), clipping
        self.sample_rate = sample_rate

    def forward(self, features: Tensor) -> Tensor:
        """Return altered features (batch, ...); the input is not changed."""
        return self.features(features)

    def choose(self, waveform: Tensor) -> Tensor:
        """Return which clips of (batch, samples) are to be altered: (batch,), in eval mode none."""
        chosen = torch.rand(len(waveform), device=waveform.device) < self.share
        return chosen & self.training

    def record(self, waveform: Tensor, chosen: Tensor) -> Tensor:
        """Return the chosen clips of (batch, samples), altered: (chosen, samples)."""
        # One by one: what stays in a processor's cache takes a third of the time.
        return torch.stack([self._record(waveform, place) for place in chosen.nonzero()[:, 0]])

    def _record(self, waveform: Tensor, place: Tensor) -> Tensor:
        """Return one clip of (batch, samples), altered: (samples,)."""
        samples = waveform.shape[1]
        padding = int((waveform[place] != 0).flip(0).to(torch.uint8).argmax())
        heard = waveform[place, : samples - padding]
        if _happens(self.reverb):
            heard = self._reverberate(heard)
        if _happens(self.noise):
            heard = self._add_noise(heard, waveform, int(place))
        if _happens(self.band):
            heard = self._limit_band(heard)
        heard = (heard * 10 ** (_between(self.gain_db) / 20)).clamp(-1, 1)
        if _happens(self.clipping):
            peak = heard.abs().amax() * _between(CLIPPED)
            heard = heard.clamp(-peak, peak)
        return pad(heard, (0, padding))

    def _reverberate(self, heard: Tensor) -> Tensor:
        """Play (samples,) in a room at the same mean power; the direct sound stays in place."""
        seconds = _between(self.rt60)
        length = int(seconds * self.sample_rate)
        time = torch.arange(length, device=heard.device) / self.sample_rate
        response = torch.randn(length, device=heard.device) * 10 ** (-3 * time / seconds)
        response[time < FIRST_ECHO] = 0
        response *= 10 ** (-_between(DIRECT_DB) / 20) / response.norm()
        response[0] = 1
        size = scipy.fft.next_fast_len(len(heard) + length, real=True)
        played = _irfft(_rfft(heard, size) * _rfft(response, size), size)[: len(heard)]
        return played * (heard.norm() / played.norm().clamp(min=TINY))

    def _add_noise(self, heard: Tensor, waveform: Tensor, place: int) -> Tensor:
        """Add noise to (samples,), which is the clip at a place of (batch, samples)."""
        kind = torch.randint(3 if len(waveform) > 1 else 2, ()).item()
        if kind == 2:
            noise = _babble(waveform, place)[: len(heard)]
        else:
            noise = torch.randn(len(heard), device=heard.device)
        if kind == 1:
            noise = self._filter(noise, lambda hertz: (hertz >= LOWEST) / hertz.sqrt().clamp(min=1))
        level = heard.norm() / noise.norm().clamp(min=TINY)
        return heard + noise * (level * 10 ** (-_between(self.snr_db) / 20))

    def _limit_band(self, heard: Tensor) -> Tensor:
        low, high = _between(self.low_hz), _between(self.high_hz)
        return self._filter(heard, lambda hertz: _rise(hertz, low) * (1 - _rise(hertz, high)))

    def _filter(self, heard: Tensor, response: Callable[[Tensor], Tensor]) -> Tensor:
        """Filter (samples,) without delay by a response over frequencies in Hz."""
        size = scipy.fft.next_fast_len(len(heard), real=True)
        hertz = torch.fft.rfftfreq(size, 1 / self.sample_rate, device=heard.device)
        return _irfft(_rfft(heard, size) * response(hertz), size)[: len(heard)]


def _rfft(heard: Tensor, size: int) -> Tensor:
    """Return the spectrum (bins,) of (samples,), padded to a size."""
    # On a CPU torch plans each single transform anew, which takes longer than pocketfft's all.
    if heard.device.type == "cpu":
        return torch.from_numpy(scipy.fft.rfft(heard.numpy(), size))
    return torch.fft.rfft(heard, size)


def _irfft(spectrum: Tensor, size: int) -> Tensor:
    """Return (samples,) of a spectrum (bins,)."""
    if spectrum.device.type == "cpu":
        return torch.from_numpy(scipy.fft.irfft(spectrum.numpy(), size))
    return torch.fft.irfft(spectrum, size)


def _happens(share: float) -> bool:
    return torch.rand(()).item() < share


def _between(bounds: tuple[float, float]) -> float:
    """Return a number between two."""
    low, high = bounds
    return low + (high - low) * torch.rand(()).item()


def _rise(hertz: Tensor, edge: float) -> Tensor:
    """Return (bins,) from 0 below an edge to 1 above it."""
    return ((hertz / max(edge, 1.0) - 1) / (2 * EDGE) + 0.5).clamp(0, 1)


def _babble(waveform: Tensor, place: int) -> Tensor:
    """Return other clips of (batch, samples) at once, equally loud, each from anywhere on."""
    clips, samples = waveform.shape
    total = torch.zeros(samples, device=waveform.device)
    for distance in (torch.randperm(clips - 1)[:TALKERS] + 1).tolist():
        talker = waveform[(place + distance) % clips]
        talker = talker.roll(int(torch.randint(samples, ())))
        total += talker / talker.norm().clamp(min=TINY)
    return total


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
