"""Encoders against the libraries that they are from, with small random weights."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor
from torchaudio.functional import resample
from transformers import (
    HubertConfig,
    HubertModel,
    MoonshineConfig,
    MoonshineModel,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from ser.features.bundles import BUNDLES, TorchaudioEncoder
from ser.features.encoders import DOCUMENTED, FEWEST, RATE
from ser.features.hub import HubEncoder

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
WHISPER = WhisperConfig(
    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
    decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=99, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, decoder_start_token_id=1,
)  # fmt: skip
MOONSHINE = MoonshineConfig(
    vocab_size=99, hidden_size=16, intermediate_size=32, encoder_num_hidden_layers=2,
    decoder_num_hidden_layers=1, encoder_num_attention_heads=2, decoder_num_attention_heads=2,
)  # fmt: skip
HUBERT = {"intermediate_size": 32, "conv_dim": (8,) * 7} | SIZES
MODELS = {
    "hubert": lambda: HubertModel(HubertConfig(**HUBERT)),
    "hubert_stable": lambda: HubertModel(
        HubertConfig(**HUBERT, do_stable_layer_norm=True, feat_extract_norm="layer")
    ),
    "moonshine": lambda: MoonshineModel(MOONSHINE),
    "whisper": lambda: WhisperModel(WHISPER),
}
NAMES = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, object]]:
    """Save a model as the hub has it; gives the folder and the model."""
    kept = {}

    def save(name: str) -> tuple[Path, PreTrainedModel]:
        if name not in kept:
            torch.manual_seed(0)
            model = MODELS[name]().eval()
            extractor = WhisperFeatureExtractor if name == "whisper" else Wav2Vec2FeatureExtractor
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder)
            extractor().save_pretrained(folder)
            kept[name] = folder, model
        return kept[name]

    return save


def clips(*seconds: float, total: float = 1.5) -> Tensor:
    """Draw noise that ends after so many seconds at 48 kHz, with zeros up to the total."""
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(len(seconds), round(48000 * total), generator=generator)
    for clip, end in zip(waveform, seconds, strict=True):
        clip[round(48000 * end) :] = 0
    return waveform


def moments(layers: Sequence[Tensor], frames: int | None = None) -> Tensor:
    """Return mean and deviation (layers, 2 * width) of the layers of one clip, by NumPy."""
    values = [layer[0, :frames].numpy().astype(np.float64) for layer in layers]
    joined = [np.concatenate([layer.mean(0), layer.std(0)]) for layer in values]
    return torch.from_numpy(np.stack(joined)).float()


@torch.no_grad()
def by_transformers(folder: Path, model: PreTrainedModel, clip: Tensor) -> Tensor:
    """Compute the statistics of a clip (samples,) at 16 kHz by the library alone."""
    if isinstance(model, WhisperModel):
        heard = WhisperFeatureExtractor.from_pretrained(folder)(
            clip.numpy(), sampling_rate=RATE, return_tensors="pt"
        )
        output = model.get_encoder()(heard.input_features, output_hidden_states=True)
        return moments(output.hidden_states, frames=-(-len(clip) // 320))
    heard = Wav2Vec2FeatureExtractor.from_pretrained(folder)(
        clip.numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    return moments(encoder(heard.input_values, output_hidden_states=True).hidden_states)


@NAMES
def test_statistics_are_those_of_the_library(saved, name: str):
    folder, model = saved(name)
    encoder = HubEncoder(str(folder))
    found = encoder.statistics(clips(1.5, 0.7))
    assert found.shape == (2, 3, 32)
    for row, seconds in enumerate((1.5, 0.7)):
        heard = resample(clips(1.5, 0.7)[row, : round(48000 * seconds)], 48000, RATE)
        expected = by_transformers(folder, model, heard)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


def whisper_of(model: WhisperModel, frames: int) -> WhisperModel:
    """Return a Whisper with fewer positions, and else the same weights."""
    small = WhisperModel(WhisperConfig(**WHISPER.to_diff_dict() | {"max_source_positions": frames}))
    state, places = model.state_dict(), "encoder.embed_positions.weight"
    small.load_state_dict(state | {places: state[places][:frames]})
    return small.eval()


def test_a_shorter_context_is_that_of_a_whisper_with_fewer_positions(saved):
    folder, model = saved("whisper")
    found = HubEncoder(str(folder), context_seconds=2).statistics(clips(1.5))
    heard = resample(clips(1.5)[0], 48000, RATE).numpy()
    extractor = WhisperFeatureExtractor(chunk_length=2)
    mel = extractor(heard, sampling_rate=RATE, return_tensors="pt").input_features
    with torch.no_grad():
        encoder = whisper_of(model, 100).get_encoder()
        layers = encoder(mel, output_hidden_states=True).hidden_states
    torch.testing.assert_close(found[0], moments(layers, frames=75), atol=1e-5, rtol=1e-5)
    whole = HubEncoder(str(folder)).statistics(clips(1.5))
    assert (found - whole).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"context_seconds=1: expected at least 1\.5"):
        HubEncoder(str(folder), context_seconds=1).example(72000)


@NAMES
def test_neither_padding_nor_company_changes_a_clip(saved, name: str):
    encoder = HubEncoder(str(saved(name)[0]))
    together = encoder(clips(0.7, 1.5, 0.7, 0.0))
    alone = torch.cat([encoder(clip[None]) for clip in clips(0.7, 1.5, 0.7, 0.0)])
    assert torch.equal(together, alone)
    longer = torch.nn.functional.pad(clips(0.7, 1.5, 0.7, 0.0), (0, 999))
    assert torch.equal(encoder(longer), together)
    assert together.isfinite().all()
    assert encoder(torch.zeros(1, FEWEST // 2)).isfinite().all()


def test_layers_are_chosen_after_the_cache(tiny_encoder: Path):
    whole = HubEncoder(str(tiny_encoder))
    waveform = clips(1.5, 0.7)
    analysed, layers = whole.analyse(waveform), whole(waveform)
    assert (analysed.dtype, layers.dtype) == (torch.float16, torch.float32)
    assert (whole.layout, whole.depth, whole.features) == ("layers", 3, 32)
    assert torch.equal(layers, whole.statistics(waveform).half().float())
    assert whole.example(1).shape == layers[:1].shape
    for layer, expected in ((0, layers[:, 0]), (2, layers[:, 2]), ("mean", layers.mean(1))):
        one = HubEncoder(str(tiny_encoder), layer)
        assert one.layout == "vector"
        assert torch.equal(one.finish(analysed), expected)
        assert one.example(1).shape == expected[:1].shape
    with pytest.raises(ValueError, match=r"frontend\.layer=3: expected 0 to 2, mean, or null"):
        HubEncoder(str(tiny_encoder), 3)


def test_the_weights_stay_outside_of_the_checkpoint_and_their_sum_is_compared(
    tiny_encoder: Path, tmp_path: Path
):
    encoder = HubEncoder(str(tiny_encoder))
    encoder(clips(1.0))
    assert not list(encoder.parameters())
    (name,) = state = encoder.state_dict()
    assert name == "sha256"
    assert bytes(state[name].tolist()).hex() == encoder.contents
    HubEncoder(str(tiny_encoder)).load_state_dict(state)
    other = tmp_path / "other"
    shutil.copytree(tiny_encoder, other)
    path = other / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(ValueError, match="the checkpoint was trained with other weights"):
        HubEncoder(str(other)).load_state_dict(state)


def altered(folder: Path, target: Path, change: str) -> Path:
    shutil.copytree(folder, target)
    if change == "no weights":
        (target / "model.safetensors").rename(target / "pytorch_model.bin")
    elif change == "adapter":
        (target / "adapter_config.json").write_text("{}")
    elif change == "no extractor":
        (target / "preprocessor_config.json").unlink()
    else:
        path = target / "config.json"
        before, after = {
            "code": ('"wav2vec2"', '"own", "auto_map": {"AutoConfig": "own.Config"}'),
            "text": ('"wav2vec2"', '"bert"'),
            "json": ("{", ""),
        }[change]
        (target / "own.py").write_text("raise SystemExit('ran')")
        path.write_text(path.read_text().replace(before, after, 1))
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no weights", "has no model.safetensors"),
        ("adapter", "is an adapter of another model"),
        ("no extractor", "is no speech encoder"),
        ("code", "is no speech encoder"),
        ("json", "is no speech encoder"),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused_in_one_line(
    tiny_encoder: Path, tmp_path: Path, change: str, message: str
):
    folder = altered(tiny_encoder, tmp_path / "model", change)
    with pytest.raises(ValueError, match=message) as refused:
        HubEncoder(str(folder))
    assert "\n" not in str(refused.value)


def test_weights_that_are_missing_are_not_drawn_at_random(tiny_encoder: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder, folder)
    state = load_file(folder / "model.safetensors")
    state.pop("masked_spec_embed")  # of pretraining alone
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(
        HubEncoder(str(folder))(clips(1.0)), HubEncoder(str(tiny_encoder))(clips(1.0))
    )
    state.pop("encoder.layers.1.attention.q_proj.weight")
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights .*encoder\.layers\.1"):
        HubEncoder(str(folder))(clips(1.0))


def test_building_asks_no_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a server was asked"))
    with pytest.raises(ValueError, match="neither a folder nor in the cache of the hub"):
        HubEncoder("nobody/nothing")


@pytest.mark.parametrize("name", ["nobody/nothing", "/no/such/folder"])
def test_what_cannot_be_downloaded_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="is no folder, and the hub does not give it") as refused:
        HubEncoder.fetch({"model": name})
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def torchaudio_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of torch.hub with the weights of WAVLM_BASE and WAV2VEC2_BASE, at random."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    for name in ("WAVLM_BASE", "WAV2VEC2_BASE"):
        network = getattr(torchaudio.models, BUNDLES[name].architecture)()
        torch.save(network.state_dict(), folder / BUNDLES[name].file)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", ["WAVLM_BASE", "WAV2VEC2_BASE"])
def test_statistics_are_those_of_torchaudio(
    monkeypatch: pytest.MonkeyPatch, torchaudio_weights: Path, name: str, normalized: bool
):
    monkeypatch.setenv("TORCH_HOME", str(torchaudio_weights))
    encoder = TorchaudioEncoder(name)
    assert (encoder.depth, encoder.features, encoder.origin) == (13, 1536, name)
    encoder.bundle = encoder.bundle._replace(normalized=normalized)
    waveform = clips(0.5, 0.3, total=0.6)
    found = encoder.statistics(waveform)
    model = getattr(torchaudio.pipelines, name).get_model()  # from the same file
    for row, seconds in enumerate((0.5, 0.3)):
        heard = resample(waveform[row : row + 1, : round(48000 * seconds)], 48000, RATE)
        heard = torch.nn.functional.layer_norm(heard, heard.shape) if normalized else heard
        with torch.no_grad():
            layers, _ = model.extract_features(heard)
            first = model.encoder.feature_projection(model.feature_extractor(heard, None)[0])
            first = model.encoder.transformer._preprocess(first)
        expected = moments([first, *layers])
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


def test_bundles_are_as_torchaudio_has_them():
    assert BUNDLES.keys() <= DOCUMENTED
    for name, bundle in BUNDLES.items():
        published = getattr(torchaudio.pipelines, name)
        assert (published._path, published._normalize_waveform) == (bundle.file, bundle.normalized)
        factory = {
            "Wav2Vec2": torchaudio.models.wav2vec2_model,
            "WavLM": torchaudio.models.wavlm_model,
        }
        with torch.device("meta"):
            expected = factory[published._model_type](**published._params)
            network = getattr(torchaudio.models, bundle.architecture)()
        shapes = [
            {key: each.shape for key, each in one.state_dict().items()}
            for one in (expected, network)
        ]
        assert shapes[0] == shapes[1]
        assert len({one.encoder.transformer.layer_norm_first for one in (expected, network)}) == 1
        size = 4e-6 * sum(each.numel() for each in network.parameters())
        assert bundle.megabytes == pytest.approx(size, rel=2e-3)


def test_weights_that_are_missing_or_others_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a server was asked"))
    line = r"the 1262 MB .*download\.pytorch\.org/.*wavlm_large\.pth, or frontend\.weights=<file>"
    with pytest.raises(ValueError, match=line):
        TorchaudioEncoder("WAVLM_LARGE")
    path = tmp_path / "mine.pth"
    torch.save({"encoder": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="other weights than those of HUBERT_BASE"):
        TorchaudioEncoder("HUBERT_BASE", weights=str(path))
    torch.save({"encoder": WHISPER}, path)
    with pytest.raises(ValueError, match="is no file of weights"):
        TorchaudioEncoder("HUBERT_BASE", weights=str(path))


@torch.no_grad()
def last_state(folder: Path, model: PreTrainedModel, clip: Tensor) -> Tensor:
    """Return what a model ends with, (frames, width), of a clip (samples,) at 16 kHz."""
    options = {"sampling_rate": RATE, "return_tensors": "pt"}
    if isinstance(model, WhisperModel):
        mel = WhisperFeatureExtractor(chunk_length=1)(clip.numpy(), **options).input_features
        return whisper_of(model, 50).get_encoder()(mel).last_hidden_state[0]
    heard = Wav2Vec2FeatureExtractor.from_pretrained(folder)(clip.numpy(), **options)
    return model(heard.input_values).last_hidden_state[0]


UPPER = [("hubert", 0), ("hubert", 1), ("hubert_stable", 1), ("whisper", 1)]


@pytest.mark.parametrize(("name", "layer"), UPPER)
def test_blocks_above_the_frames_of_a_layer_end_where_the_library_does(
    saved, name: str, layer: int
):
    folder, model = saved(name)
    # Whisper hears its whole context, of which a clip is a part: here it is all of it.
    options = {"context_seconds": 1} if name == "whisper" else {}
    seconds = (1.0, 1.0) if name == "whisper" else (1.0, 0.6)
    encoder = HubEncoder(str(folder), layer, frames=True, **options)
    assert (encoder.layout, encoder.features) == ("frames", 16)
    waveform = clips(*seconds, total=1.0)
    states = encoder.sequence(waveform)
    assert states.shape == (2, 16, 50)
    assert states[:1].shape == encoder.example(48000).shape
    assert torch.equal(encoder(waveform), states.half().float())
    own = (states != 0).any(1)
    blocks = encoder.upper(2 - layer).eval()
    blocks.initialize()
    found = blocks(states.transpose(1, 2), own)
    for row, length in enumerate(seconds):
        heard = resample(waveform[row, : round(48000 * length)], 48000, RATE)
        expected = last_state(folder, model, heard)
        assert int(own[row].sum()) == len(expected)
        torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"blocks=3: expected at most \d, those above"):
        encoder.upper(3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["WAVLM_BASE", "WAV2VEC2_BASE"])
def test_blocks_of_torchaudio_end_where_it_does(
    monkeypatch: pytest.MonkeyPatch, torchaudio_weights: Path, name: str
):
    monkeypatch.setenv("TORCH_HOME", str(torchaudio_weights))
    encoder = TorchaudioEncoder(name, 9, frames=True)
    waveform = clips(0.5, 0.3, total=0.6)
    states = encoder.sequence(waveform)
    blocks = encoder.upper(3).eval()
    blocks.initialize()
    own = (states != 0).any(1)
    found = blocks(states.transpose(1, 2), own)
    model = getattr(torchaudio.pipelines, name).get_model()
    for row, seconds in enumerate((0.5, 0.3)):
        heard = resample(waveform[row : row + 1, : round(48000 * seconds)], 48000, RATE)
        with torch.no_grad():
            expected = model(heard)[0][0]
        assert int(own[row].sum()) == len(expected)
        torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)


def test_frames_are_of_one_layer(tiny_encoder: Path):
    for layer in (None, "mean"):
        with pytest.raises(ValueError, match="expected the layer, 0 to 2"):
            HubEncoder(str(tiny_encoder), layer, frames=True)
