"""Encoders of the transformers library, from the hub or from a folder."""

import copy
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn

from ser.config.quantities import Hertz
from ser.features.encoders import RATE, Encoder, Layer, Stack, among, reason

log = logging.getLogger(__name__)


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

    library = "transformers"
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
                f"frontend.model={model!r} is no speech encoder ({reason(error)}): expected"
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
        if Path(model).expanduser().is_dir():
            return
        with suppress(ValueError):  # others may have left a part of it there
            if any(cls._folder(model).glob("model*.safetensors")):
                return
        log.info("downloading %s from the hub", model)
        try:
            snapshot_download(model, allow_patterns=list(cls.patterns))
        except Exception as error:  # of the network, the disk, or the name
            raise ValueError(
                f"frontend.model={model!r} is no folder, and the hub does not give it"
                f" ({reason(error)}): expected the name of a repository, such as"
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
                " expected one of these (encoder=<folder> of eval.py); a training downloads what it"
                " names"
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
                f"frontend.model={self.model!r} cannot be loaded ({reason(error)}): expected a"
                " speech encoder in safetensors"
            ) from error
        # What is used in training alone, or not at all, need not be there.
        lacking = sorted(
            key
            for key in {*found["missing_keys"], *found["mismatched_keys"]}
            if not key.startswith("decoder.") and not key.endswith("masked_spec_embed")
        )
        if lacking:
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


def _by_hub(layer: nn.Module, states: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    return layer(states, among(own))


def _transformers() -> object:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"frontend=hub needs transformers ({error}): start with `uv run --extra hub train.py`"
            " or `uv run --extra hub eval.py`"
        ) from error
    return transformers
