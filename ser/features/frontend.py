"""The front end of a model: built from its recipe, and matched with the network behind it."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import ClassVar

import torch
import torchaudio
from hydra.utils import get_class, instantiate
from torch import Tensor, nn

VERSION = f"3, torchaudio {torchaudio.__version__}"
"""Part of the key of cached features: raise it when a front end gives other values than before."""

OPTIONS = {
    "frames": "that of an encoder, with frontend.frames=true and frontend.layer=<number>",
    "layers": "wavlm, hubert, wav2vec2, xlsr or hub, with frontend.layer=null",
    "planes": "mfcc, logmel, mfcc_chroma or mel_image",
    "vector": "functionals, compare or egemaps, or that of an encoder with frontend.layer=<number>"
    " (or select=encoder_layer)",
}
"""By layout, the choices of frontend=."""

SIZES = {
    "frames": ("features", "upper"),
    "layers": ("depth", "features"),
    "planes": ("bins", "channels"),
    "vector": ("features",),
}
"""By layout, what a network is built with."""


class FrontEnd(nn.Module):
    """Turns waveforms into features in two steps: the first is cached, the second is cheap.

    Features of a clip depend neither on the rest of the batch nor on the zeros that pad it.

    Attributes:
        layout: `planes` of `channels` and `bins`, a `vector` of `features`, `layers`, of which
            there are `depth`, of `features` each, or `frames` of `features` each, where `upper`
            returns blocks of the encoder above them. A network declares the layout that it takes.
        cached: Whether what `analyse` returns is worth a cache.
        in_decibels: Whether `analyse` returns spectra in dB, (batch, 1, bands, frames).
        exact: Whether `analyse` returns the very values that a cache holds, so that scores may be
            of these.
        finishing: Arguments that `finish` alone knows: front ends that differ in them share a
            cache.
        library: Package on whose version the values depend, besides torchaudio; None for none.
        located: Arguments that say where something is read, which `contents` stands for in the
            key of a cache.
        origin: Under which name its pretrained weights are published, empty where that is not
            known; None without any.
    """

    layout: str
    cached: ClassVar[bool] = True
    in_decibels: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    finishing: ClassVar[tuple[str, ...]] = ()
    library: ClassVar[str | None] = None
    located: ClassVar[tuple[str, ...]] = ()
    origin: str | None = None

    @classmethod
    def fetch(cls, recipe: Mapping) -> None:
        """Download what a recipe of the user's own needs and lacks; by default there is nothing."""

    @property
    def contents(self) -> str:
        """What stands in the files that it reads; by default there are none."""
        return ""

    def analyse(self, waveform: Tensor) -> Tensor:
        """Analyse waveforms (batch, samples) in -1..1: one array of one shape a clip."""
        raise NotImplementedError

    def finish(self, analysed: Tensor) -> Tensor:
        """Turn what `analyse` returned into features; by default it is these."""
        return analysed

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform waveforms (batch, samples) into features (batch, ...)."""
        return self.finish(self.analyse(waveform))

    def example(self, samples: int) -> Tensor:
        """Return features (1, ...) of the shape that a clip of so many samples has."""
        return self(torch.zeros(1, samples))

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
    """Return each clip of (batch, samples) without the zeros at its end, of silence one sample."""
    places = torch.arange(1, waveform.shape[1] + 1, device=waveform.device)
    lengths = ((waveform != 0) * places).amax(dim=1).clamp(min=1)
    return [clip[:length] for clip, length in zip(waveform, lengths.tolist(), strict=True)]


def sizes_of(frontend: FrontEnd) -> dict[str, int]:
    """Return what a network must know of the features."""
    return {name: getattr(frontend, name) for name in SIZES[frontend.layout]}


def build_frontend(frontend: Mapping, network: Mapping) -> FrontEnd:
    """Build the front end of a recipe.

    Raises:
        ValueError: Its features are of another layout than the network takes.
    """
    built = instantiate(frontend)
    check_layout(built, get_class(network["_target_"]).layout, network["_target_"])
    return built


def check_layout(frontend: FrontEnd, layout: str, target: str) -> None:
    """Refuse a front end whose features are not of a layout.

    Args:
        frontend: What gives them.
        layout: What is taken.
        target: What takes it, for the message.
    """
    if frontend.layout != layout:
        name = f"{type(frontend).__module__}.{type(frontend).__name__}"
        raise ValueError(
            f"{name} gives features as {frontend.layout}, but {target} takes {layout}: expected"
            f" frontend={OPTIONS[layout]}"
        )


def cache_key(frontend: FrontEnd, recipe: Mapping, finished: bool) -> list:
    """Return what a cache depends on.

    Args:
        frontend: What computes it.
        recipe: From which that was built.
        finished: Whether it holds features; else what `FrontEnd.analyse` returns.
    """
    ignored = (*frontend.located, *(() if finished else frontend.finishing))
    step = "finished" if finished else "analysed"
    facts = [VERSION, step, {key: value for key, value in recipe.items() if key not in ignored}]
    if frontend.library:
        facts.append(f"{frontend.library} {version(frontend.library)}")
    return [*facts, frontend.contents] if frontend.contents else facts
