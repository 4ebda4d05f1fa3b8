import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch

from ser.frontend import MFCC, Functionals, LogMel

SAMPLES = 144000
FRONTENDS = [MFCC(), LogMel(), Functionals()]


def noise(clips: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.logspace(-3, -0.5, clips).unsqueeze(1)
    return levels * torch.randn(clips, SAMPLES, generator=generator)


@pytest.mark.parametrize(
    ("frontend", "shape"),
    [(MFCC(bins=20), (1, 20, 301)), (LogMel(bins=32), (1, 32, 301)), (Functionals(), (240,))],
)
def test_shapes(frontend: torch.nn.Module, shape: tuple[int, ...]):
    assert frontend(noise(2)).shape == (2, *shape)


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
