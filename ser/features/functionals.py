"""Functionals: statistics of spectral features over time, one vector a clip."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Len
from torch import Tensor
from torch.nn.functional import pad

from ser.config.quantities import Bands, Hertz, Hop, Samples
from ser.features.frontend import FrontEnd
from ser.features.spectral import MFCC, Chroma, in_cache_sized_parts, tracks

Parts = Annotated[Sequence[Literal["mfcc", "delta", "delta2", "chroma", "mel"]], Len(1, 5)]
Statistics = Annotated[Sequence[Literal["mean", "std"]], Len(1, 2)]


class Functionals(FrontEnd):
    """Statistics over time, one vector a clip: (batch, samples) -> (batch, features).

    Args:
        parts: What is followed over time: `mfcc`, its derivatives `delta` and `delta2`, `chroma`,
            and `mel`, the power in mel bands.
        statistics: `mean`, `std` or both, each over all parts.
        bins: Coefficients of the MFCC.
        n_fft: In samples.
        hop_length: In samples.
        n_mels: Mel bands.
        sample_rate: Hz.
    """

    layout = "vector"

    def __init__(
        self,
        parts: Parts = ("mfcc", "delta", "delta2"),
        statistics: Statistics = ("mean", "std"),
        bins: Bands = 40,
        n_fft: Samples = 2048,
        hop_length: Hop = 480,
        n_mels: Bands = 128,
        sample_rate: Hertz = 48000,
    ) -> None:
        super().__init__()
        sizes = {"mfcc": bins, "delta": bins, "delta2": bins, "chroma": Chroma.bins, "mel": n_mels}
        self.parts = list(parts)
        self.statistics = list(statistics)
        self.features = len(statistics) * sum(sizes[part] for part in parts)
        needed = {part.replace("delta2", "mfcc").replace("delta", "mfcc") for part in parts}
        self.sizes = {part: sizes[part] for part in ("mfcc", "chroma", "mel") if part in needed}
        self.mfcc = MFCC(bins, n_fft, hop_length, n_mels, sample_rate=sample_rate)
        self.chroma = Chroma(n_fft, hop_length, sample_rate) if "chroma" in parts else None

    def analyse(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to (batch, features)."""
        compute = partial(tracks, list(self.sizes), self.mfcc, self.chroma)
        static = in_cache_sized_parts(compute, waveform).squeeze(1)
        by_name = dict(zip(self.sizes, static.split(list(self.sizes.values()), dim=1), strict=True))
        if not {"delta", "delta2"}.isdisjoint(self.parts):
            by_name["delta"] = deltas(by_name["mfcc"])
            by_name["delta2"] = deltas(by_name["delta"])
        joined = torch.cat([by_name[part] for part in self.parts], dim=1)
        return torch.cat([getattr(joined, name)(dim=2) for name in self.statistics], dim=1)


def deltas(tracks: Tensor) -> Tensor:
    """Return the slopes over five frames of tracks (batch, bins, frames).

    They are those of `torchaudio.functional.compute_deltas`, bit for bit, whose convolution has a
    group a track: there is no graph of that for any number of clips.
    """
    padded, frames = pad(tracks, (2, 2), mode="replicate"), tracks.shape[2]
    before2, before1, _, after1, after2 = (padded[..., at : at + frames] for at in range(5))
    return (-2 * before2 - before1 + after1 + 2 * after2) / 10
