from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile
import torch
from torchaudio import transforms
from torchaudio.functional import compute_deltas

from ser.checkpoints import trust
from ser.features.frontend import cache_key
from ser.features.functionals import Functionals, deltas
from ser.features.spectral import MFCC, Chroma, LogMel, MelImage, MFCCChroma

SAMPLES = 144000
ALL = ["mfcc", "chroma", "mel"]
FRONTENDS = [MFCC(), LogMel(), Functionals(), Functionals(ALL), MFCCChroma(), MelImage()]


def noise(clips: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.logspace(-3, -0.5, clips).unsqueeze(1)
    return levels * torch.randn(clips, SAMPLES, generator=generator)


@pytest.mark.parametrize(
    ("frontend", "shape"),
    [
        (MFCC(bins=20), (1, 20, 301)),
        (LogMel(bins=32), (1, 32, 301)),
        (Chroma(), (1, 12, 301)),
        (MFCCChroma(bins=20), (1, 32, 301)),
        (MelImage(size=75), (3, 75, 75)),
        (Functionals(), (240,)),
        (Functionals(ALL, ["mean"]), (180,)),
        (Functionals(["mfcc"], ["mean"]), (40,)),
    ],
)
def test_shapes(frontend: torch.nn.Module, shape: tuple[int, ...]):
    assert frontend(noise(2)).shape == (2, *shape)
    if len(shape) == 1:
        assert frontend.features == shape[0]
    else:
        assert (frontend.channels, frontend.bins) == shape[:2]


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_features_do_not_depend_on_the_company(frontend: torch.nn.Module):
    clips = noise(11)
    together = frontend(clips)
    for row in (0, 7, 10):
        alone = frontend(clips[row : row + 1])[0]
        assert torch.allclose(together[row], alone, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_digital_silence_stays_finite(frontend: torch.nn.Module):
    half_silent = noise(1)
    half_silent[:, SAMPLES // 2 :] = 0
    for waveform in (torch.zeros(1, SAMPLES), half_silent):
        assert frontend(waveform).isfinite().all()


def test_mfcc_is_the_textbooks():
    """Power spectrum, HTK's triangles, dB floored at -80, orthonormal DCT, all by scipy."""
    waveform = noise(1)[0].double().numpy()
    padded = np.pad(waveform, 1024, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::480]
    power = np.abs(scipy.fft.rfft(frames * scipy.signal.windows.hann(2048, sym=False))) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 24000 / 700), 130) / 2595) - 1)
    hertz = np.linspace(0, 24000, 1025)
    mel = np.stack(
        [power @ np.interp(hertz, edges[i : i + 3], [0, 1, 0]) for i in range(128)], axis=1
    )
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 80)
    expected = scipy.fft.dct(decibels, norm="ortho", axis=1)[:, :40].T
    found = MFCC()(torch.from_numpy(waveform).float()[None])[0, 0].numpy()
    assert np.abs(found - expected).max() < 0.01


def test_functionals_are_means_and_deviations():
    waveform = noise(1)
    static = MFCC()(waveform)[0, 0]
    found = Functionals()(waveform)[0]
    assert torch.allclose(found[:40], static.mean(dim=1), atol=1e-4)
    assert torch.allclose(found[120:160], static.std(dim=1), atol=1e-4)
    means = Functionals(["mfcc"], ["mean"])(waveform)[0]
    assert torch.equal(means, found[:40])


def test_deltas_are_torchaudios_bit_for_bit():
    static = 50 * torch.randn(9, 40, 101, generator=torch.Generator().manual_seed(0))
    assert torch.equal(deltas(static), compute_deltas(static))
    assert torch.equal(deltas(static[:, :, :1]), compute_deltas(static[:, :, :1]))


def test_what_functionals_do_not_know_is_one_line():
    recipe = {"_target_": "ser.features.functionals.Functionals"}
    with pytest.raises(ValueError, match=r"frontend.parts=\['mfc'\]: expected 'mfcc', 'delta',"):
        trust.check(recipe | {"parts": ["mfc"]}, "frontend", "frontend")
    with pytest.raises(ValueError, match=r"frontend.statistics='mean': expected a list"):
        trust.check(recipe | {"statistics": "mean"}, "frontend", "frontend")


def test_a_tone_is_one_semitone():
    time = torch.arange(SAMPLES) / 48000
    for semitone, hertz in ((0, 523.25), (4, 659.26), (9, 880.0), (11, 493.88)):  # C, E, A, B
        chroma = Chroma(n_fft=8192)(torch.sin(2 * torch.pi * hertz * time)[None])[0, 0]
        assert chroma.mean(dim=1).argmax() == semitone
        assert chroma[:, 10:-10].amax(dim=0).allclose(torch.ones(()))


@pytest.mark.parametrize("name", ["Actor_01/*1.*", "OAF_*/*"])
@pytest.mark.data
def test_the_180_functionals_are_those_of_librosa(recordings: Path, name: str):
    """Chroma and mel power of real clips; of the MFCC the textbook above is the oracle."""
    (path, *_) = sorted(recordings.rglob(name))
    samples, _ = soundfile.read(path, dtype="float32")
    waveform = np.resize(samples, SAMPLES)
    magnitude = np.abs(librosa.stft(waveform, n_fft=2048, hop_length=480, pad_mode="reflect"))
    chroma = librosa.feature.chroma_stft(S=magnitude, sr=48000, tuning=0.0)
    mel = librosa.feature.melspectrogram(S=magnitude**2, sr=48000, htk=True, norm=None)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=40)
    found = Functionals(ALL, ["mean"])(torch.from_numpy(waveform)[None])[0].numpy()
    for part, oracle in ((found[:40], mfcc), (found[40:52], chroma), (found[52:], mel)):
        np.testing.assert_allclose(part, oracle.mean(axis=1), rtol=2e-3, atol=1e-3)


def test_an_image_is_the_log_mel_spectrogram_from_0_to_1():
    waveform = noise(1)
    image = MelImage(size=64, bins=64)(waveform)
    assert image[:, 0].equal(image[:, 2])
    assert image.min() >= 0
    assert 0.9 < image.max() <= 1
    decibels = LogMel(64)(waveform)[:, 0]
    assert np.corrcoef(decibels.mean(2).flatten(), image[:, 0].mean(2).flatten())[0, 1] > 0.99
    scaled = MelImage(size=64, bins=64, imagenet=True)(waveform)
    torch.testing.assert_close(scaled[:, 1], (image[:, 1] - 0.456) / 0.224)


def test_coefficients_without_level_are_those_of_any_gain():
    torch.manual_seed(0)
    waveform = torch.randn(3, 9600) * torch.rand(3, 1)
    frontend = MFCC(bins=13, n_mels=40, f_min=50.0, f_max=4000.0, floor_db=60.0, level="remove")
    assert torch.allclose(frontend(waveform), frontend(0.1 * waveform), atol=1e-3)
    kept = MFCC(bins=13, n_mels=40, f_min=50.0, f_max=4000.0, floor_db=60.0)
    # 20 dB in each of 40 bands, in the constant of an orthonormal transform.
    moved = kept(waveform) - kept(0.1 * waveform)
    assert torch.allclose(moved[:, :, 0], torch.tensor(20 * 40**0.5), atol=1e-2)
    assert moved[:, :, 1:].abs().max() < 1e-2


def test_what_lies_above_the_band_does_not_reach_the_coefficients():
    time = torch.arange(24000) / 48000
    low, high = torch.sin(2 * torch.pi * 300 * time), torch.sin(2 * torch.pi * 9000 * time)
    frontend = MFCC(bins=13, n_mels=40, f_max=4000.0, level="remove")
    with_high = frontend((low + 0.1 * high)[None])[..., 5:-5]
    assert torch.allclose(frontend(low[None])[..., 5:-5], with_high, atol=0.5)


@pytest.mark.parametrize("n_mels", [3, 64, 128])
@pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values")
def test_what_is_analysed_and_finished_is_torchaudios_own(n_mels: int):
    torch.manual_seed(0)
    waveform = torch.randn(2, 9600)
    sizes = {"n_fft": 256 if n_mels == 64 else 2048, "hop_length": 480, "n_mels": n_mels}
    bins = min(40, n_mels)
    own = transforms.MFCC(48000, n_mfcc=bins, melkwargs=sizes)(waveform[:, None])
    assert torch.allclose(MFCC(bins=bins, **sizes)(waveform), own, atol=1e-4)


def test_bands_lie_below_half_of_the_rate():
    with pytest.raises(ValueError, match=r"frontend.f_max=30000.0: expected a band between 0"):
        MFCC(f_max=30000.0)


def test_a_cache_of_features_is_not_that_of_what_is_analysed():
    keys = {str(cache_key(LogMel(), {}, finished)) for finished in (True, False)}
    assert len(keys) == 2
