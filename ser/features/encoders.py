"""Pretrained speech encoders as front ends: what each of their layers says of a clip.

They are frozen: neither trained nor part of a checkpoint, which holds a checksum of their files.
A checkpoint of others may name any files, so nothing that these say is executed, and nothing is
downloaded but by `fetch`, which a training of the user's own alone calls.
"""

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import torchaudio
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad
from torchaudio.functional import resample

from ser.config.quantities import Hertz
from ser.features.blocks import Blocks, Step, among
from ser.features.frontend import FrontEnd, unpadded

RATE = 16000
"""Hz that encoders hear."""

FEWEST = 1600
"""Samples at that rate that give every encoder a frame."""

FRAME = 320
"""Samples at that rate from one frame to the next; of no encoder are they fewer."""

BATCH = 8
"""Clips of one length that a GPU encodes at once; on a CPU one at a time is as fast."""


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

DOCUMENTED = frozenset(
    (
        *BUNDLES,
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

log = logging.getLogger(__name__)


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
        """Return so many blocks above `layer`, without the weights of which they know."""
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
        found = torch.zeros_like(self._silence(waveform.shape[1]).expand(len(waveform), -1, -1))
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


class HubEncoder(Encoder):
    """An encoder of the transformers library, such as Whisper's: (batch, samples) -> features.

    Its weights are safetensors, and no code of a repository is run.

    Args:
        model: The name of a repository on the hub, or a folder with the files of one.
        layer: As of `Encoder`.
        frames: As of `Encoder`.
        context_seconds: What Whisper hears, a clip and then silence, in s: it was trained with 30,
            and less is as much faster. Others hear the clip alone.
        sample_rate: Of the waveforms, in Hz.

    Raises:
        ValueError: There are no such files, or not those of a speech encoder.
        ModuleNotFoundError: Without transformers.
    """

    located = ("model",)
    patterns = (
        "config.json", "preprocessor_config.json", "processor_config.json", "model.safetensors",
        "model.safetensors.index.json", "model-*-of-*.safetensors",
    )  # fmt: skip

    def __init__(
        self,
        model: str,
        layer: Layer = None,
        frames: bool = False,
        context_seconds: Annotated[int, Interval(ge=1, le=30)] = 30,
        sample_rate: Hertz = 48000,
    ) -> None:
        transformers = _transformers()
        self.model = model
        self.origin = "" if Path(model).expanduser().is_dir() else model
        self.folder = self._folder(model)
        files = sorted({path for each in self.patterns for path in self.folder.glob(each)})
        if not any(path.suffix == ".safetensors" for path in files):
            raise ValueError(
                f"frontend.model={model!r} has no model.safetensors: expected weights in this"
                " format, which is the one that is read"
            )
        if (self.folder / "adapter_config.json").exists():
            raise ValueError(
                f"frontend.model={model!r} is an adapter of another model: expected a whole one"
            )
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.config = transformers.AutoConfig.from_pretrained(self.folder, **options)
            self.extractor = transformers.AutoFeatureExtractor.from_pretrained(
                self.folder, **options
            )
            blocks, width = self.config.num_hidden_layers, self.config.hidden_size
            blocks = getattr(self.config, "encoder_num_hidden_layers", blocks)  # Moonshine's name
            rate = self.extractor.sampling_rate
        except Exception as error:  # a foreign file can make transformers raise anything
            raise ValueError(
                f"frontend.model={model!r} is no speech encoder ({_reason(error)}): expected"
                " config.json and preprocessor_config.json of one that transformers knows"
            ) from error
        if rate != RATE:
            raise ValueError(f"frontend.model={model!r} hears {rate} Hz: expected {RATE}")
        super().__init__(blocks + 1, width, layer, frames, sample_rate, files)
        self.context_seconds = context_seconds
        self.whisper = self.config.model_type == "whisper"

    @classmethod
    def fetch(cls, recipe: Mapping) -> None:
        """Download the files of a repository on the hub, where they are not in its cache."""
        _transformers()
        from huggingface_hub import snapshot_download

        model = recipe["model"]
        try:
            cls._folder(model)
        except ValueError:
            log.info("downloading %s from the hub", model)
            try:
                snapshot_download(model, allow_patterns=list(cls.patterns))
            except Exception as error:  # of the network, the disk, or the name
                raise ValueError(
                    f"frontend.model={model!r} is no folder, and the hub does not give it"
                    f" ({_reason(error)}): expected the name of a repository, such as"
                    " openai/whisper-base.en (290 MB), or for machines without a network a folder"
                    " with its config.json, preprocessor_config.json and model.safetensors"
                ) from error

    @staticmethod
    def _folder(model: str) -> Path:
        """Return the folder of a model: its own, or that of the hub's cache."""
        from huggingface_hub import snapshot_download

        folder = Path(model).expanduser()
        if folder.is_dir():
            return folder
        try:
            return Path(snapshot_download(model, local_files_only=True))
        except Exception as error:  # also of a name that is none
            raise ValueError(
                f"frontend.model={model!r} is neither a folder nor in the cache of the hub:"
                " expected one of these; a training downloads what it names"
            ) from error

    def load(self) -> nn.Module:
        """Return the network with its weights."""
        transformers = _transformers()
        transformers.utils.logging.disable_progress_bar()
        try:
            model, found = transformers.AutoModel.from_pretrained(
                self.folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                # Said here, as config.json may name another, which would be fetched.
                attn_implementation="sdpa",
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # a foreign file can make transformers raise anything
            raise ValueError(
                f"frontend.model={self.model!r} cannot be loaded ({_reason(error)}): expected a"
                " speech encoder in safetensors"
            ) from error
        if lacking := sorted({*found["missing_keys"]} | {*found["mismatched_keys"]}):
            raise ValueError(
                f"frontend.model={self.model!r} lacks {len(lacking)} weights of its encoder, such"
                f" as {lacking[0]}: expected a whole one"
            )
        if self.config.is_encoder_decoder:
            model = model.get_encoder()
        if self.whisper:
            frames = 50 * self.context_seconds
            places = model.embed_positions.weight[:frames].detach()
            model.embed_positions = nn.Embedding.from_pretrained(places)
            model.config.max_source_positions = frames
        return model

    def build(self) -> nn.Module:
        """Return the network without its weights."""
        config = copy.deepcopy(self.config)
        model = _transformers().AutoModel.from_config(config, attn_implementation="sdpa")
        return model.get_encoder() if config.is_encoder_decoder else model

    def stack(self, network: nn.Module) -> Stack:
        """Return the blocks of a network that `build` or `load` returns."""
        kind = self.config.model_type
        if kind not in ("hubert", "wav2vec2", "whisper"):
            raise ValueError(
                f"model.network.blocks of frontend.model={self.model!r}, a {kind}: expected hubert,"
                " wav2vec2 or whisper (WavLM is that of frontend=wavlm)"
            )
        encoder = network if self.whisper else network.encoder
        ends = self.whisper or self.config.do_stable_layer_norm
        return Stack(encoder.layers, encoder.layer_norm if ends else nn.Identity(), _by_hub)

    def states(self, clips: Tensor) -> Sequence[Tensor]:
        """Encode clips (clips, samples) at 16 kHz: each layer's (clips, frames, width)."""
        options, frames = {}, None
        if self.whisper:
            self._check_length(clips.shape[1] / RATE)
            options = {"padding": "max_length", "max_length": RATE * self.context_seconds}
            frames = -(-clips.shape[1] // (RATE // 50))  # those of the clip, not of the silence
        heard = self.extractor(
            list(clips.numpy(force=True)), sampling_rate=RATE, return_tensors="pt", **options
        )[self.extractor.model_input_names[0]]
        encoder = self.encoder.to(clips.device)
        layers = encoder(heard.to(clips.device), output_hidden_states=True).hidden_states
        return [layer[:, :frames] for layer in layers]

    def example(self, samples: int) -> Tensor:
        """Return zeros of the shape of features, for a clip that is not too long."""
        if self.whisper:
            self._check_length(samples / self.sample_rate)
        return super().example(samples)

    def _check_length(self, seconds: float) -> None:
        if seconds > self.context_seconds:
            raise ValueError(
                f"frontend.context_seconds={self.context_seconds}: expected at least"
                f" {seconds:g}, the seconds of a window"
            )


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
        self.origin = bundle if self.path.name == self.bundle.file else ""
        if not self.path.is_file():
            raise ValueError(
                f"the weights of frontend.bundle={bundle} are not at {str(self.path)!r}: expected"
                f" the {self.bundle.megabytes} MB that a training with a network downloads from"
                f" download.pytorch.org/torchaudio/models/{self.bundle.file}, or"
                " frontend.weights=<file>"
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
                log.warning("%s", _reason(error))

    @staticmethod
    def _path(bundle: str, weights: str | None) -> Path:
        if weights is not None:
            return Path(weights).expanduser()
        return Path(torch.hub.get_dir()) / "checkpoints" / BUNDLES[bundle].file

    def _read(self) -> Mapping[str, Tensor]:
        """Map the file into memory, of which nothing is taken before it is used."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
            return {key: value for key, value in state.items() if isinstance(value, Tensor)}
        except Exception as error:  # a foreign file can make torch raise anything
            raise ValueError(
                f"frontend.weights: {str(self.path)!r} is no file of weights ({_reason(error)}):"
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


def _by_hub(layer: nn.Module, states: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    return layer(states, among(own))


def _by_torchaudio(layer: nn.Module, states: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    return layer(states, among(own))[0]


def _by_wavlm(layer: nn.Module, states: Tensor, own: Tensor, bias: Tensor | None) -> Tensor:
    padding = torch.zeros_like(own, dtype=bias.dtype).masked_fill(~own, float("-inf"))
    return layer(states, None, bias, padding)[0]


def _moments(states: Tensor) -> Tensor:
    """Return mean and deviation (clips, 2 * width) over time of states (clips, frames, width)."""
    return torch.cat([states.mean(1), states.std(1, correction=0)], 1)  # 0 of a single frame


def _transformers() -> object:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"frontend=hub needs transformers ({error}): start with `uv run --extra hub train.py`"
            " or `uv run --extra hub eval.py`"
        ) from error
    return transformers


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
