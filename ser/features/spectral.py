"""Spectral front ends: waveforms (batch, samples) -> planes (batch, channels, bins, frames).

A clip's features do not depend on its company: nothing here looks across the batch.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchaudio import transforms
from torchaudio.functional import amplitude_to_DB

from ser.config.quantities import Amount, Bands, Hertz, Hop, Positive, Samples
from ser.features.frontend import FrontEnd

CACHE_SIZED = 2
"""Clips whose spectrograms stay in a CPU's cache: twice as fast as 8 at once, nine times as 64."""

BLOCKS = 4
"""Of mel bands: fewer multiply more zeros, more are too small to be fast."""


def in_cache_sized_parts(transform: Callable[[Tensor], Tensor], waveform: Tensor) -> Tensor:
    """Transform (batch, 1, samples) a few clips at a time, on a CPU."""
    # With a channel axis the 80 dB floor is relative to the clip's own peak, not the batch's.
    waveform = waveform.unsqueeze(1)  # (batch, 1, samples)
    # A graph that is exported takes any number of clips, so that they cannot be counted out.
    if waveform.device.type != "cpu" or torch.compiler.is_exporting():
        return transform(waveform)
    return torch.cat([transform(part) for part in waveform.split(CACHE_SIZED)])


class SpectralPlanes(FrontEnd):
    """A front end of one plane: (batch, samples) -> (batch, 1, bins, frames).

    A subclass has `transform`, which takes (batch, 1, samples).
    """

    layout = "planes"
    channels = 1

    def analyse(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to (batch, 1, bins, frames)."""
        return in_cache_sized_parts(self.transform, waveform)


class MFCC(SpectralPlanes):
    """Mel-frequency cepstral coefficients: (batch, samples) -> (batch, 1, bins, frames).

    Args:
        bins: Coefficients that are kept.
        n_fft: In samples.
        hop_length: In samples.
        n_mels: Mel bands.
        f_min: Lower edge of the lowest band, Hz.
        f_max: Upper edge of the highest, Hz; None is half the sample rate.
        floor_db: Below a clip's loudest band and frame, what is raised to that.
        level: Whether spectra keep their level, or lie below 0 dB at the loudest band and frame.
        sample_rate: Hz.

    Raises:
        ValueError: There is no band between `f_min` and `f_max`.
    """

    in_decibels = True
    finishing = ("bins", "floor_db", "level")

    def __init__(
        self,
        bins: Bands = 40,
        n_fft: Samples = 2048,
        hop_length: Hop = 480,
        n_mels: Bands = 128,
        f_min: Amount = 0.0,
        f_max: Positive | None = None,
        floor_db: Positive = 80.0,
        level: Literal["keep", "remove"] = "keep",
        sample_rate: Hertz = 48000,
    ) -> None:
        super().__init__()
        if not f_min < (f_max or sample_rate / 2) <= sample_rate / 2:
            raise ValueError(
                f"frontend.f_min={f_min}, frontend.f_max={f_max}: expected a band between 0 and"
                f" {sample_rate / 2:g} Hz"
            )
        self.bins = bins
        self.floor_db = floor_db
        self.level = level
        sizes = {"n_fft": n_fft, "hop_length": hop_length, "n_mels": n_mels, "power": None}
        self.transform = transforms.MFCC(
            sample_rate, n_mfcc=bins, melkwargs={**sizes, "f_min": f_min, "f_max": f_max}
        )
        self.blocks = _blocks(self.transform.MelSpectrogram.mel_scale.fb)

    def analyse(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to mel spectra in dB, (batch, 1, n_mels, frames)."""
        return _mel_decibels(self.transform.MelSpectrogram, self.blocks, waveform)

    def finish(self, analysed: Tensor) -> Tensor:
        """Transform spectra in dB to coefficients, (batch, 1, bins, frames)."""
        spectra = _floored(analysed, self.floor_db)
        if self.level == "remove":
            spectra = spectra - spectra.amax(dim=(2, 3), keepdim=True)
        return (spectra.mT @ self.transform.dct_mat).mT


class LogMel(SpectralPlanes):
    """Mel spectrogram in dB: (batch, samples) -> (batch, 1, bins, frames).

    It is floored 80 dB below the clip's peak. `n_fft` and `hop_length` are in samples,
    `sample_rate` in Hz.
    """

    in_decibels = True

    def __init__(
        self,
        bins: Bands = 64,
        n_fft: Samples = 2048,
        hop_length: Hop = 480,
        sample_rate: Hertz = 48000,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.transform = nn.Sequential(
            transforms.MelSpectrogram(
                sample_rate, n_fft, hop_length=hop_length, n_mels=bins, power=None
            ),
            transforms.AmplitudeToDB(top_db=80.0),
        )
        self.blocks = _blocks(self.transform[0].mel_scale.fb)

    def analyse(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to mel spectra in dB, (batch, 1, bins, frames)."""
        return _mel_decibels(self.transform[0], self.blocks, waveform)

    def finish(self, analysed: Tensor) -> Tensor:
        """Floor spectra in dB, (batch, 1, bins, frames)."""
        return _floored(analysed, self.transform[1].top_db)


class Chroma(SpectralPlanes):
    """Energy of the twelve semitones over all octaves: (batch, samples) -> (batch, 1, 12, frames).

    Each frame is scaled to a largest value of 1; tuning is that of A = 440 Hz. `n_fft` and
    `hop_length` are in samples, `sample_rate` in Hz. The filters are those of Ellis (2007), Chroma
    feature analysis and synthesis, as librosa has them.
    """

    bins = 12

    def __init__(
        self, n_fft: Samples = 2048, hop_length: Hop = 480, sample_rate: Hertz = 48000
    ) -> None:
        super().__init__()
        self.spectrogram = transforms.Spectrogram(n_fft, hop_length=hop_length, power=1.0)
        self.register_buffer("filters", _chroma_filters(n_fft, sample_rate), persistent=False)

    def transform(self, waveform: Tensor) -> Tensor:
        """Transform (batch, 1, samples) to (batch, 1, 12, frames)."""
        return self.of(self.spectrogram(waveform))

    def of(self, magnitude: Tensor) -> Tensor:
        """Transform spectra (batch, 1, bins, frames) to (batch, 1, 12, frames)."""
        energy = self.filters @ magnitude
        largest = energy.amax(dim=2, keepdim=True)
        return energy / torch.where(largest > torch.finfo(energy.dtype).tiny, largest, 1)


class MFCCChroma(SpectralPlanes):
    """MFCC above chroma, as bins of one plane: (batch, samples) -> (batch, 1, bins + 12, frames).

    The arguments are those of `MFCC`.
    """

    def __init__(
        self,
        bins: Bands = 40,
        n_fft: Samples = 2048,
        hop_length: Hop = 480,
        n_mels: Bands = 128,
        sample_rate: Hertz = 48000,
    ) -> None:
        super().__init__()
        self.mfcc = MFCC(bins, n_fft, hop_length, n_mels, sample_rate=sample_rate)
        self.chroma = Chroma(n_fft, hop_length, sample_rate)
        self.bins = bins + self.chroma.bins

    def transform(self, waveform: Tensor) -> Tensor:
        """Transform (batch, 1, samples) to (batch, 1, bins + 12, frames)."""
        return tracks(("mfcc", "chroma"), self.mfcc, self.chroma, waveform)


class MelImage(FrontEnd):
    """Mel spectrogram as a square picture in three equal colours, for networks made for photos.

    (batch, samples) -> (batch, 3, size, size), from 0 at 80 dB below the clip's peak to 1 at it.

    Args:
        size: Of the picture, in pixels.
        imagenet: Whether colours are scaled as for weights that were trained on ImageNet.
        bins: Mel bands before they are drawn.
        n_fft: In samples.
        hop_length: In samples.
        sample_rate: Hz.
    """

    layout = "planes"
    channels = 3
    cached = False  # 602 KB a clip: drawn in less time than read

    def __init__(
        self,
        size: Bands = 224,
        imagenet: bool = False,
        bins: Bands = 128,
        n_fft: Samples = 2048,
        hop_length: Hop = 480,
        sample_rate: Hertz = 48000,
    ) -> None:
        super().__init__()
        self.bins = size
        self.decibels = LogMel(bins, n_fft, hop_length, sample_rate)
        # Mean and deviation of ImageNet's red, green and blue, as torchvision has them.
        mean, deviation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if imagenet else (0, 1)
        for name, values in (("mean", mean), ("deviation", deviation)):
            scaling = torch.tensor(values, dtype=torch.float).view(-1, 1, 1).expand(3, 1, 1)
            self.register_buffer(name, scaling, persistent=False)

    def analyse(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to (batch, 3, size, size)."""
        decibels = self.decibels(waveform)
        plane = (decibels - decibels.amax(dim=(2, 3), keepdim=True)) / 80 + 1
        plane = interpolate(plane, (self.bins, self.bins), mode="bilinear", antialias=True)
        return (plane - self.mean) / self.deviation


# torchaudio's own way to power, the square of abs(), and to mel bands, a product with filters that
# are mostly zero, takes half of a front end's time on a CPU. Its objects hold window and filters.


def _power(mel: transforms.MelSpectrogram, waveform: Tensor) -> Tensor:
    """Return power spectra (batch, 1, n_fft / 2 + 1, frames) by a transform with power=None."""
    spectra = torch.view_as_real(mel.spectrogram(waveform))
    return spectra[..., 0].square() + spectra[..., 1].square()


def _blocks(filters: Tensor) -> list[tuple[slice, slice]]:
    """Part mel bands into blocks; return the bins in which the filters of each are not zero.

    Args:
        filters: (bins, bands).
    """
    found = []
    for bands in torch.arange(filters.shape[1]).chunk(BLOCKS):
        bands = slice(int(bands[0]), int(bands[-1]) + 1)
        bins = filters[:, bands].any(dim=1).nonzero().flatten().tolist()  # none of a narrow band
        found.append((slice(min(bins, default=0), max(bins, default=-1) + 1), bands))
    return found


def _mel(power: Tensor, filters: Tensor, blocks: Sequence[tuple[slice, slice]]) -> Tensor:
    """Return mel spectra (batch, 1, bands, frames) of power spectra (batch, 1, bins, frames)."""
    parts = [power.mT[..., bins] @ filters[bins, bands] for bins, bands in blocks]
    return torch.cat(parts, dim=-1).mT


def _mel_decibels(
    mel: transforms.MelSpectrogram, blocks: Sequence[tuple[slice, slice]], waveform: Tensor
) -> Tensor:
    """Return mel spectra (batch, 1, bands, frames) in dB, digital silence as -100 dB."""

    def compute(part: Tensor) -> Tensor:
        bands = _mel(_power(mel, part), mel.mel_scale.fb, blocks)
        return amplitude_to_DB(bands, multiplier=10.0, amin=1e-10, db_multiplier=0.0)

    return in_cache_sized_parts(compute, waveform)


def _floored(spectra: Tensor, floor_db: float) -> Tensor:
    """Raise spectra in dB to at least `floor_db` below the loudest of their clip."""
    return torch.maximum(spectra, spectra.amax(dim=(2, 3), keepdim=True) - floor_db)


def tracks(parts: Sequence[str], mfcc: MFCC, chroma: Chroma | None, waveform: Tensor) -> Tensor:
    """Compute `mfcc`, `chroma` and `mel` from one spectrogram: (batch, 1, bins, frames)."""
    recipe = mfcc.transform
    power = _power(recipe.MelSpectrogram, waveform)
    mel = _mel(power, recipe.MelSpectrogram.mel_scale.fb, mfcc.blocks)
    tracks = {"mel": mel}
    if "mfcc" in parts:
        tracks["mfcc"] = (recipe.amplitude_to_DB(mel).mT @ recipe.dct_mat).mT
    if "chroma" in parts:
        tracks["chroma"] = chroma.of(power.sqrt())
    return torch.cat([tracks[part] for part in parts], dim=2)


def _chroma_filters(n_fft: int, sample_rate: int) -> Tensor:
    """Return (12, n_fft / 2 + 1) weights, a Gaussian around each semitone of every octave."""
    hertz = torch.arange(1, n_fft, dtype=torch.float64) * sample_rate / n_fft
    semitones = 12 * torch.log2(hertz / 27.5)  # above the lowest A of a piano
    # The constant component lies an octave and a half below the first bin.
    semitones = torch.cat([semitones[:1] - 18, semitones])
    widths = torch.cat([semitones.diff().clamp(min=1), torch.ones(1)])
    # From each semitone, counted from C, to the nearest one of that name: -6 to 6.
    names = torch.arange(12, dtype=torch.float64) + 3
    distance = (semitones - names[:, None] + 6).remainder(12) - 6
    weights = (-0.5 * (2 * distance / widths) ** 2).exp()
    weights = weights / weights.norm(dim=0)
    # Octaves count less the farther they lie from the fifth.
    weights = weights * (-0.5 * ((semitones / 12 - 5) / 2) ** 2).exp()
    return weights[:, : n_fft // 2 + 1].float()
