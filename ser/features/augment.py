"""Augmentation of features and of waveforms in training; the identity in eval mode."""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Interval
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn.functional import grid_sample

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
        places = chosen.nonzero()[:, 0]
        heard = waveform[places]
        inside = (heard != 0).flip(1).cummax(dim=1).values.flip(1)  # up to the padding
        heard = self._some(self.reverb, heard, self._reverberate)
        heard = self._add_noise(heard, inside, waveform, places)
        heard = self._some(self.band, heard, self._limit_band)
        gain = _between(self.gain_db, len(heard), heard.device)
        heard = (heard * 10 ** (gain / 20)).clamp(-1, 1)
        return self._some(self.clipping, heard, self._clip) * inside

    def _some(self, share: float, heard: Tensor, alter: Callable[[Tensor], Tensor]) -> Tensor:
        """Alter a share of the clips (clips, samples)."""
        own = torch.rand(len(heard), device=heard.device) < share
        return heard.index_put((own,), alter(heard[own])) if own.any() else heard

    def _reverberate(self, heard: Tensor) -> Tensor:
        """Play clips in rooms at the same mean power; the direct sound stays where it is."""
        clips, samples = heard.shape
        seconds = _between(self.rt60, clips, heard.device)
        length = int(seconds.max() * self.sample_rate) + 1
        time = torch.arange(length, device=heard.device) / self.sample_rate
        tail = torch.randn(clips, length, device=heard.device) * 10 ** (-3 * time / seconds)
        tail[:, time < FIRST_ECHO] = 0
        direct = _between(DIRECT_DB, clips, heard.device)
        response = tail / tail.norm(dim=1, keepdim=True) * 10 ** (-direct / 20)
        response[:, 0] = 1
        size = next_fast_len(samples + length, real=True)
        spectra = torch.fft.rfft(heard, size) * torch.fft.rfft(response, size)
        played = torch.fft.irfft(spectra, size)[:, :samples]
        norms = heard.norm(dim=1, keepdim=True), played.norm(dim=1, keepdim=True)
        return played * (norms[0] / norms[1].clamp(min=TINY))

    def _add_noise(self, heard: Tensor, inside: Tensor, waveform: Tensor, places: Tensor) -> Tensor:
        """Add noise to a share of the clips, within their recordings.

        Args:
            heard: The clips, (chosen, samples).
            inside: Where they are no padding, (chosen, samples).
            waveform: The batch, (batch, samples).
            places: Of the clips in it, (chosen,).
        """
        kinds = torch.rand(len(heard), device=heard.device)  # in equal parts: white, pink, babble
        own = (kinds < self.noise).nonzero()[:, 0]
        if not len(own):
            return heard
        kinds = (kinds[own] / self.noise * 3).int()
        noise = torch.randn(len(own), heard.shape[1], device=heard.device)
        if (pink := kinds == 1).any():
            noise[pink] = self._pink(noise[pink])
        if (babble := kinds == 2).any() and len(waveform) > 1:
            noise[babble] = _babble(waveform, places[own[babble]])
        noise = noise * inside[own]
        snr = _between(self.snr_db, len(own), heard.device)
        norms = heard[own].norm(dim=1, keepdim=True), noise.norm(dim=1, keepdim=True)
        level = norms[0] / norms[1].clamp(min=TINY) * 10 ** (-snr / 20)
        return heard.index_put((own,), heard[own] + level * noise)

    def _pink(self, white: Tensor) -> Tensor:
        hertz = torch.fft.rfftfreq(white.shape[1], 1 / self.sample_rate).to(white.device)
        shape = (hertz >= LOWEST) / hertz.clamp(min=LOWEST).sqrt()
        return torch.fft.irfft(torch.fft.rfft(white) * shape, white.shape[1])

    def _limit_band(self, heard: Tensor) -> Tensor:
        """Take away what lies outside of two frequencies, without delay."""
        low, high = (
            _between(bounds, len(heard), heard.device) for bounds in (self.low_hz, self.high_hz)
        )
        hertz = torch.fft.rfftfreq(heard.shape[1], 1 / self.sample_rate).to(heard.device)
        kept = _rise(hertz, low) * (1 - _rise(hertz, high))
        return torch.fft.irfft(torch.fft.rfft(heard) * kept, heard.shape[1])

    def _clip(self, heard: Tensor) -> Tensor:
        peak = heard.abs().amax(dim=1, keepdim=True)
        peak = peak * _between(CLIPPED, len(heard), heard.device)
        return heard.clamp(-peak, peak)


def _rise(hertz: Tensor, edges: Tensor) -> Tensor:
    """Return (clips, bins) from 0 below an edge to 1 above it."""
    return ((hertz / edges.clamp(min=1) - 1) / (2 * EDGE) + 0.5).clamp(0, 1)


def _babble(waveform: Tensor, places: Tensor) -> Tensor:
    """Return other clips of the batch at once, equally loud, each from anywhere on.

    Args:
        waveform: The batch, (batch, samples).
        places: Of the clips that hear it, (clips,).
    """
    clips, samples = waveform.shape
    total = torch.zeros(len(places), samples, device=waveform.device)
    for distance in (torch.randperm(clips - 1)[:TALKERS] + 1).tolist():
        talkers = waveform[(places + distance) % clips]
        talkers = talkers.roll(int(torch.randint(samples, ())), dims=1)
        total += talkers / talkers.norm(dim=1, keepdim=True).clamp(min=TINY)
    return total


def _between(bounds: tuple[float, float], clips: int, device: torch.device) -> Tensor:
    """Return (clips, 1) numbers between two."""
    low, high = bounds
    return low + (high - low) * torch.rand(clips, 1, device=device)


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
