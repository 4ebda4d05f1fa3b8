"""Pretrained speech encoders as front ends: what each of their layers says of a clip.

They are frozen: neither trained nor part of a checkpoint, which holds a checksum of their files.
A checkpoint of others may name any files, so nothing that these say is executed, and nothing is
downloaded but by `fetch`, which a training of the user's own alone calls.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from torchaudio.functional import resample

from ser.features.frontend import FrontEnd, unpadded

RATE = 16000
"""Hz that encoders hear."""

FEWEST = 1600
"""Samples at that rate that give every encoder a frame."""

FRAME = 320
"""Shortest hop of any encoder, in samples at that rate."""

BATCH = 8
"""Clips of one length that a GPU encodes at once; on a CPU one at a time is as fast."""

DOCUMENTED = frozenset(
    (
        "HUBERT_BASE", "HUBERT_LARGE", "WAV2VEC2_BASE", "WAV2VEC2_LARGE", "WAV2VEC2_LARGE_LV60K",
        "WAV2VEC2_XLSR53", "WAV2VEC2_XLSR_300M", "WAVLM_BASE", "WAVLM_BASE_PLUS", "WAVLM_LARGE",
        "facebook/hubert-base-ls960", "facebook/hubert-large-ll60k",
        "facebook/hubert-large-ls960-ft", "facebook/hubert-xlarge-ll60k",
        "facebook/wav2vec2-base", "facebook/wav2vec2-base-960h", "facebook/wav2vec2-large",
        "facebook/wav2vec2-large-960h", "facebook/wav2vec2-large-960h-lv60-self",
        "facebook/wav2vec2-large-lv60", "facebook/wav2vec2-large-robust",
        "facebook/wav2vec2-large-xlsr-53", "facebook/wav2vec2-xls-r-300m",
        "facebook/wav2vec2-xls-r-1b", "facebook/wav2vec2-xls-r-2b", "microsoft/wavlm-base",
        "microsoft/wavlm-base-plus", "microsoft/wavlm-large",
    )
)  # fmt: skip
"""Published encoders that have heard no corpus of emotions: LibriSpeech, Libri-Light, GigaSpeech,
VoxPopuli, Common Voice, MLS, BABEL, VoxLingua107, Switchboard or Fisher. Whisper's 680,000 hours
are not disclosed."""

Layer = Annotated[int, Interval(ge=0, le=200)] | Literal["mean"] | None

Step = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]
"""Applies a block to states (batch, frames, width), given which frames are a clip's own (batch,
frames) and the bias of their positions."""

log = logging.getLogger(__name__)


class Blocks(nn.Module):
    """Blocks of an encoder: states (batch, frames, width) -> states of a higher layer.

    A frame hears the frames of its own clip alone.

    Args:
        layers: The blocks.
        norm: What follows on them.
        step: How one is applied.
        positions: WavLM's attention of the first block, which has the bias of positions for all;
            None of other encoders.
        pretrained: Returns the state that training starts from.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        norm: nn.Module,
        step: Step,
        positions: nn.Module | None,
        pretrained: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.step = step
        self.positions = positions
        self.pretrained = pretrained

    def initialize(self) -> None:
        """Take the weights of the encoder."""
        self.load_state_dict(self.pretrained())

    def forward(self, states: Tensor, own: Tensor, checkpointing: bool = False) -> Tensor:
        """Return the states (batch, frames, width) above.

        Args:
            states: Of the layer below, (batch, frames, width).
            own: Which frames are a clip's and not padding, (batch, frames).
            checkpointing: Whether a training step keeps the states between blocks alone, and
                computes what is in them once more: slower, with less memory.
        """
        bias, (clips, frames) = None, own.shape
        if self.positions is not None:
            bias = self.positions.compute_bias(frames, frames).expand(clips, -1, -1, -1)
        for layer in self.layers:
            if checkpointing and self.training:
                states = checkpoint(self.step, layer, states, own, bias, use_reentrant=False)
            else:
                states = self.step(layer, states, own, bias)
        return self.norm(states)


def among(own: Tensor) -> Tensor:
    """Return which frame hears which, (batch, 1, frames, frames): all own (batch, frames)."""
    return own[:, None, None, :].expand(-1, 1, own.shape[1], -1)


class Stack(NamedTuple):
    """The blocks within an encoder.

    Attributes:
        layers: All of them.
        norm: What follows on the last.
        step: How one is applied.
        positions: As of `Blocks`.
    """

    layers: Sequence[nn.Module]
    norm: nn.Module
    step: Step
    positions: nn.Module | None = None


class Encoder(FrontEnd):
    """What an encoder's layers say of clips: (batch, samples) -> features.

    They are mean and deviation over time of the layers, or the frames of one.

    Layer 0 is what enters its first block, and each block adds one. A clip is heard without the
    zeros that pad its end, together with clips of the same length alone: the normalisation over
    time that most encoders begin with knows no mask.

    A child has `build`, `stack`, `load` and `states`.

    Args:
        depth: Number of layers.
        width: Of their states.
        layer: Which one, for features (batch, 2 * width); `mean` is that of all layers, and None
            keeps all, (batch, depth, 2 * width).
        frames: Whether features are the states of that layer, (batch, width, frames), with zeros
            after those of a clip.
        sample_rate: Of the waveforms, in Hz.
        files: That hold the weights and their settings.

    Raises:
        ValueError: There is no such layer.
    """

    exact = True

    def __init__(
        self,
        depth: int,
        width: int,
        layer: Layer,
        frames: bool,
        sample_rate: int,
        files: Sequence[Path],
    ) -> None:
        super().__init__()
        if isinstance(layer, int) and layer >= depth:
            raise ValueError(
                f"frontend.layer={layer}: expected 0 to {depth - 1}, mean, or null for all of them"
            )
        if frames and not isinstance(layer, int):
            raise ValueError(
                f"frontend.frames=true with frontend.layer={layer}: expected the layer, 0 to"
                f" {depth - 1}"
            )
        self.depth = depth
        self.features = width if frames else 2 * width
        self.layer = layer
        self.frames = frames
        self.layout = "frames" if frames else "layers" if layer is None else "vector"
        self.finishing = () if frames else ("layer",)
        self.sample_rate = sample_rate
        self.files = files
        self.register_buffer("sha256", torch.zeros(32, dtype=torch.uint8))
        self.register_load_state_dict_post_hook(Encoder._check_files)

    def build(self) -> nn.Module:
        """Return the network without its weights."""
        raise NotImplementedError

    def stack(self, network: nn.Module) -> Stack:
        """Return the blocks of a network that `build` or `load` returns."""
        raise NotImplementedError

    def load(self) -> nn.Module:
        """Return the network with its weights."""
        raise NotImplementedError

    def states(self, clips: Tensor) -> Sequence[Tensor]:
        """Encode clips (clips, samples) at 16 kHz: each layer's (clips, frames, width)."""
        raise NotImplementedError

    @cached_property
    def encoder(self) -> nn.Module:
        """The network, in eval mode; outside the modules of this one, so in no checkpoint."""
        log.info("loading an encoder, sha256 %s", self.contents)
        return self.load().eval().requires_grad_(False)

    @cached_property
    def contents(self) -> str:
        """The checksum of the files, one after the other; the checkpoint has it from here."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                while part := file.read(2**20):
                    digest.update(part)
        self.sha256.copy_(torch.tensor(list(digest.digest())))
        return digest.hexdigest()

    def upper(self, count: int) -> Blocks:
        """Return so many blocks above `layer`, uninitialised: `initialize` loads the weights."""
        place = torch.get_default_device()
        with torch.device("meta"):
            network = self.build()
        blocks = self._take(network, count, partial(self._pretrained, count))
        return blocks if place.type == "meta" else blocks.to_empty(device=place)

    def _pretrained(self, count: int) -> Mapping[str, Tensor]:
        return self._take(self.encoder, count, dict).state_dict()

    def _take(
        self, network: nn.Module, count: int, pretrained: Callable[[], Mapping[str, Tensor]]
    ) -> Blocks:
        layers, norm, step, positions = self.stack(network)
        end = self.layer + count
        if end > len(layers):
            raise ValueError(
                f"model.network.blocks={count}: expected at most {len(layers) - self.layer}, those"
                f" above frontend.layer={self.layer}"
            )
        last = norm if end == len(layers) else nn.Identity()
        return Blocks(layers[self.layer : end], last, step, positions, pretrained)

    def statistics(self, waveform: Tensor) -> Tensor:
        """Return mean and deviation (batch, depth, 2 * width) of waveforms (batch, samples)."""
        found = waveform.new_empty(len(waveform), self.depth, self.features)
        for rows, states in self._encoded(waveform):
            found[rows] = torch.stack([_moments(layer) for layer in states], 1)
        return found

    def sequence(self, waveform: Tensor) -> Tensor:
        """Return the states (batch, width, frames) of `layer` of waveforms (batch, samples)."""
        shape = self._silence(waveform.shape[1]).shape[1:]
        found = waveform.new_zeros(len(waveform), *shape)
        for rows, states in self._encoded(waveform):
            clips = states[self.layer].transpose(1, 2)  # (clips, width, frames)
            found[rows, :, : clips.shape[2]] = clips
        return found

    @torch.no_grad()
    def _encoded(self, waveform: Tensor) -> Iterator[tuple[list[int], Sequence[Tensor]]]:
        """Yield rows of one length, and the states (clips, frames, width) of each layer."""
        clips = [resample(clip, self.sample_rate, RATE) for clip in unpadded(waveform)]
        clips = [pad(clip, (0, max(0, FEWEST - len(clip)))) for clip in clips]
        by_length = sorted(range(len(clips)), key=lambda row: len(clips[row]))
        size = 1 if waveform.device.type == "cpu" else BATCH
        for _, group in groupby(by_length, lambda row: len(clips[row])):
            rows = list(group)
            for part in (rows[at : at + size] for at in range(0, len(rows), size)):
                yield part, self.states(torch.stack([clips[row] for row in part]))

    def analyse(self, waveform: Tensor) -> Tensor:
        """Return `statistics`, or the `sequence`, in half precision, as they are cached."""
        computed = self.sequence(waveform) if self.frames else self.statistics(waveform)
        return computed.clamp(-65504, 65504).half()

    def finish(self, analysed: Tensor) -> Tensor:
        """Take a layer, their mean or all of (batch, depth, features); frames are as they are."""
        if self.frames or self.layer is None:
            return analysed.float()
        if self.layer == "mean":
            return analysed.float().mean(1)
        return analysed[:, self.layer].float()

    def example(self, samples: int) -> Tensor:
        """Return zeros of the shape of features: nothing is loaded."""
        if self.frames:
            return self._silence(samples)
        return self.finish(torch.zeros(1, self.depth, self.features))

    def _silence(self, samples: int) -> Tensor:
        """Return zeros (1, width, frames), with a frame for all that a clip may have."""
        heard = max(FEWEST, -(-samples * RATE // self.sample_rate))
        return torch.zeros(1, self.features, -(-heard // FRAME))

    def _check_files(self, _: object) -> None:
        """Refuse files that are not those with which a checkpoint was trained."""
        trained = bytes(self.sha256.tolist()).hex()
        if trained != self.contents:
            names = " + ".join(path.name for path in self.files)
            raise ValueError(
                f"the checkpoint was trained with other weights: expected sha256 {trained} of"
                f" {names}, found {self.contents} in {self.files[0].parent}"
            )


def _moments(states: Tensor) -> Tensor:
    """Return mean and deviation (clips, 2 * width) over time of states (clips, frames, width)."""
    return torch.cat([states.mean(1), states.std(1, correction=0)], 1)  # 0 of a single frame


def reason(error: Exception) -> str:
    """Return what an error says, in one short line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
