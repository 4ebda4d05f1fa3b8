"""Encoders that torchaudio publishes."""

import copy
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ser.config.quantities import Hertz
from ser.config.tensor_files import check_names
from ser.features.encoders import Encoder, Layer, Stack, among, reason

PICKLE = 2**24
"""Bytes of the pickle of a file, which holds the names of weights alone."""

log = logging.getLogger(__name__)


class Bundle(NamedTuple):
    """What torchaudio publishes of an encoder.

    Attributes:
        architecture: The function of `torchaudio.models` that builds it.
        file: Of its weights.
        megabytes: That the file takes.
        normalized: Whether a clip is brought to mean 0 and deviation 1 before it is heard.
    """

    architecture: str
    file: str
    megabytes: int
    normalized: bool


BUNDLES = {
    "WAVLM_BASE": Bundle("wavlm_base", "wavlm_base.pth", 378, False),
    "WAVLM_BASE_PLUS": Bundle("wavlm_base", "wavlm_base_plus.pth", 378, False),
    "WAVLM_LARGE": Bundle("wavlm_large", "wavlm_large.pth", 1262, True),
    "HUBERT_BASE": Bundle("hubert_base", "hubert_fairseq_base_ls960.pth", 378, False),
    "HUBERT_LARGE": Bundle("hubert_large", "hubert_fairseq_large_ll60k.pth", 1262, True),
    "WAV2VEC2_BASE": Bundle("wav2vec2_base", "wav2vec2_fairseq_base_ls960.pth", 378, False),
    "WAV2VEC2_LARGE": Bundle("wav2vec2_large", "wav2vec2_fairseq_large_ls960.pth", 1262, False),
    "WAV2VEC2_LARGE_LV60K": Bundle(
        "wav2vec2_large_lv60k", "wav2vec2_fairseq_large_lv60k.pth", 1262, True
    ),
    "WAV2VEC2_XLSR53": Bundle(
        "wav2vec2_large_lv60k", "wav2vec2_fairseq_large_xlsr53.pth", 1262, True
    ),
    "WAV2VEC2_XLSR_300M": Bundle("wav2vec2_xlsr_300m", "wav2vec2_xlsr_300m.pth", 1262, True),
}
"""Encoders by their names in `torchaudio.pipelines`."""


class TorchaudioEncoder(Encoder):
    """An encoder of `torchaudio.pipelines`: (batch, samples) -> features.

    Args:
        bundle: Its name there.
        layer: As of `Encoder`.
        frames: As of `Encoder`.
        weights: The file that torchaudio publishes, for machines without a network; None is where
            torchaudio keeps it.
        sample_rate: Of the waveforms, in Hz.

    Raises:
        ValueError: There is no such file, or it holds other weights.
    """

    located = ("weights",)

    def __init__(
        self,
        bundle: Literal[*BUNDLES],
        layer: Layer = None,
        frames: bool = False,
        weights: str | None = None,
        sample_rate: Hertz = 48000,
    ) -> None:
        self.bundle = BUNDLES[bundle]
        self.path = self._path(bundle, weights)
        # Another file may hold what somebody has trained on.
        self.origin = bundle if weights is None else ""
        if not self.path.is_file():
            raise ValueError(
                f"the weights of frontend.bundle={bundle} are not at {str(self.path)!r}: expected"
                f" the {self.bundle.megabytes} MB that a training with a network downloads from"
                f" download.pytorch.org/torchaudio/models/{self.bundle.file}, or"
                " frontend.weights=<file> (encoder=<file> of eval.py)"
            )
        with torch.device("meta"):
            network = self.build()
        expected = {key: value.shape for key, value in network.state_dict().items()}
        found = {key: value.shape for key, value in self._read().items()}
        if expected != found:
            raise ValueError(
                f"{str(self.path)!r} holds other weights than those of {bundle}: expected"
                f" {self.bundle.file} as torchaudio publishes it"
            )
        depth = len(network.encoder.transformer.layers) + 1
        width = network.encoder.feature_projection.projection.out_features
        super().__init__(depth, width, layer, frames, sample_rate, [self.path])

    @classmethod
    def fetch(cls, recipe: Mapping) -> None:
        """Let torchaudio download the weights, where they are not in its folder."""
        path = cls._path(recipe["bundle"], recipe.get("weights"))
        if recipe.get("weights") is None and not path.is_file():
            log.info("downloading %s to %s", recipe["bundle"], path)
            try:
                getattr(torchaudio.pipelines, recipe["bundle"]).get_model(
                    dl_kwargs={"weights_only": True}
                )
            except OSError as error:  # what was not downloaded is said where it is missed
                log.warning("%s", reason(error))

    @staticmethod
    def _path(bundle: str, weights: str | None) -> Path:
        if weights is not None:
            return Path(weights).expanduser()
        return Path(torch.hub.get_dir()) / "checkpoints" / BUNDLES[bundle].file

    def _read(self) -> Mapping[str, Tensor]:
        """Map the file into memory, of which nothing is taken before it is used."""
        try:
            with zipfile.ZipFile(
                self.path
            ) as archive:  # what torch asks `weights_only` for is more
                named = next(each for each in archive.namelist() if each.endswith("/data.pkl"))
                check_names(archive.read(named))
            state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
            return {key: value for key, value in state.items() if isinstance(value, Tensor)}
        except Exception as error:  # a foreign file can make torch raise anything
            raise ValueError(
                f"frontend.weights: {str(self.path)!r} is no file of weights ({reason(error)}):"
                f" expected {self.bundle.file} as torchaudio publishes it"
            ) from error

    def load(self) -> nn.Module:
        """Return the network with its weights."""
        network = self.build()
        network.load_state_dict(self._read())
        return network

    def build(self) -> nn.Module:
        """Return the network without its weights."""
        return getattr(torchaudio.models, self.bundle.architecture)()

    def stack(self, network: nn.Module) -> Stack:
        """Return the blocks of a network that `build` or `load` returns."""
        inner = network.encoder.transformer
        # Its name for a norm that has already been, before the first block.
        norm = nn.Identity() if inner.layer_norm_first else inner.layer_norm
        if not self.bundle.architecture.startswith("wavlm"):
            return Stack(inner.layers, norm, _by_torchaudio)
        positions = copy.deepcopy(inner.layers[0].attention)
        positions.attention = nn.Identity()  # the bias alone is asked for
        inner.layers[0].attention.rel_attn_embed.requires_grad_(False)  # its own is not
        return Stack(inner.layers, norm, _by_wavlm, positions.requires_grad_(False))

    def states(self, clips: Tensor) -> Sequence[Tensor]:
        """Encode clips (clips, samples) at 16 kHz: each layer's (clips, frames, width)."""
        if self.bundle.normalized:
            clips = layer_norm(clips, clips.shape[1:])
        first: list[Tensor] = []
        encoder = self.encoder.to(clips.device)
        # Its own list of layers begins behind the first block.
        hook = encoder.encoder.transformer.layers[0].register_forward_pre_hook(
            lambda _, inputs: first.append(inputs[0])
        )
        try:
            layers, _ = encoder.extract_features(clips)
        finally:
            hook.remove()
        return [*first, *layers]


def _by_torchaudio(layer: nn.Module, states: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    return layer(states, among(own))[0]


def _by_wavlm(layer: nn.Module, states: Tensor, own: Tensor, bias: Tensor | None) -> Tensor:
    padding = torch.zeros_like(own, dtype=bias.dtype).masked_fill(~own, float("-inf"))
    return layer(states, None, bias, padding)[0]
