"""The front end of a model: built from its recipe, and matched with the network behind it."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import ClassVar

import torch
import torchaudio
from hydra.utils import get_class, instantiate
from torch import Tensor, nn

VERSION = f"1, torchaudio {torchaudio.__version__}"
"""Part of the key of cached features: raise it when a front end gives other values than before."""

OPTIONS = {
    "planes": "mfcc, logmel, mfcc_chroma or mel_image",
    "vector": "functionals, compare or egemaps",
}
"""By layout, the choices of frontend=."""


class FrontEnd(nn.Module):
    """Turns waveforms into features in two steps: the first is cached, the second is cheap.

    Features of a clip depend neither on the rest of the batch nor on the zeros that pad it.

    Attributes:
        layout: `planes` of `channels` and `bins`, or a `vector` of `features`. A network declares
            the layout that it takes.
        cached: Whether what `analyse` returns is worth a cache.
        in_decibels: Whether `analyse` returns spectra in dB, (batch, 1, bands, frames).
        finishing: Arguments that `finish` alone knows: front ends that differ in them share a
            cache.
        library: Package on whose version the values depend, besides torchaudio; None for none.
    """

    layout: ClassVar[str]
    cached: ClassVar[bool] = True
    in_decibels: ClassVar[bool] = False
    finishing: ClassVar[tuple[str, ...]] = ()
    library: ClassVar[str | None] = None

    def analyse(self, waveform: Tensor) -> Tensor:
        """Analyse waveforms (batch, samples) in -1..1: one array of one shape a clip."""
        raise NotImplementedError

    def finish(self, analysed: Tensor) -> Tensor:
        """Turn what `analyse` returned into features; by default it is these."""
        return analysed

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform waveforms (batch, samples) into features (batch, ...)."""
        return self.finish(self.analyse(waveform))

    def of(
        self, batch: Mapping[str, Tensor], alter: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the features (batch, ...) of a batch, whichever step it holds.

        Args:
            batch: With `features`, `analysed` or `waveform`.
            alter: Changes what `analyse` returns, in training.
        """
        if "features" in batch:
            return batch["features"]
        analysed = batch["analysed"] if "analysed" in batch else self.analyse(batch["waveform"])
        return self.finish(alter(analysed) if alter else analysed)


def unpadded(waveform: Tensor) -> list[Tensor]:
    """Return each clip of (batch, samples) without the zeros at its end; digital silence stays."""
    # Of equals argmax gives the first: 0 where all samples are zero.
    zeros = (waveform != 0).flip(1).to(torch.uint8).argmax(dim=1)
    lengths = waveform.shape[1] - zeros
    return [clip[:length] for clip, length in zip(waveform, lengths.tolist(), strict=True)]


def sizes_of(frontend: FrontEnd) -> dict[str, int]:
    """Return what a network must know of the features."""
    names = ("bins", "channels") if frontend.layout == "planes" else ("features",)
    return {name: getattr(frontend, name) for name in names}


def build_frontend(frontend: Mapping, network: Mapping) -> FrontEnd:
    """Build the front end of a recipe.

    Raises:
        ValueError: Its features are of another layout than the network takes.
    """
    check_layout(frontend, get_class(network["_target_"]).layout, network["_target_"])
    return instantiate(frontend)


def check_layout(frontend: Mapping, layout: str, target: str) -> None:
    """Refuse the recipe of a front end whose features are not of a layout.

    Args:
        frontend: The recipe.
        layout: What is taken.
        target: What takes it, for the message.
    """
    given = get_class(frontend["_target_"]).layout
    if given != layout:
        raise ValueError(
            f"{frontend['_target_']} gives features as {given}, but {target} takes {layout}:"
            f" expected frontend={OPTIONS[layout]}"
        )


def cache_key(frontend: FrontEnd, recipe: Mapping, finished: bool) -> list:
    """Return what a cache depends on.

    Args:
        frontend: What computes it.
        recipe: From which that was built.
        finished: Whether it holds features; else what `FrontEnd.analyse` returns.
    """
    ignored = () if finished else frontend.finishing
    versions = [VERSION]
    if frontend.library:
        versions.append(f"{frontend.library} {version(frontend.library)}")
    return [*versions, {key: value for key, value in recipe.items() if key not in ignored}]
