"""The random channel, by its laws."""

import math

import pytest
import torch

from ser.features.channel import RandomChannel


@pytest.fixture
def spectra() -> torch.Tensor:
    torch.manual_seed(0)
    return 10 * torch.randn(64, 1, 20, 50) - 40


def test_it_is_the_identity_in_eval_mode_and_of_no_strength(spectra: torch.Tensor):
    assert torch.equal(RandomChannel().eval()(spectra), spectra)
    assert torch.equal(RandomChannel(filter_db=0.0, noise=0.0)(spectra), spectra)


def test_a_filter_is_one_response_a_clip_with_the_deviation_asked_for(spectra: torch.Tensor):
    moved = RandomChannel(filter_db=3.0, filter_order=4, noise=0.0)(spectra) - spectra
    assert moved.std(dim=3).max() < 1e-4  # the same in all frames
    # The first cosine has a variance of 9, the k-th of 9 / k, and a mean square of 1/2 over bands.
    expected = 9 * sum(1 / order for order in (1, 2, 3, 4)) / 2
    assert moved.square().mean() == pytest.approx(expected, rel=0.2)


def test_noise_lies_as_far_below_the_clip_as_asked_for(spectra: torch.Tensor):
    noisy = RandomChannel(filter_db=0.0, noise=1.0, snr_db=(10.0, 10.0))(spectra)
    clean, both = (10 ** (each.double() / 10) for each in (spectra, noisy))
    assert (noisy >= spectra).all()
    ratio = 10 * (clean.mean(dim=(1, 2, 3)) / (both - clean).mean(dim=(1, 2, 3))).log10()
    # A deviation of 2 dB raises the mean power by half its square, in nepers.
    raised = (2 * math.log(10) / 10) ** 2 / 2 * 10 / math.log(10)
    assert ratio.mean() == pytest.approx(10 - raised, abs=0.1)


def test_digital_silence_stays_silent_and_a_share_of_the_clips_stays_clean(spectra: torch.Tensor):
    spectra[..., 40:] = -100
    noisy = RandomChannel(filter_db=0.0, noise=0.5)(spectra)
    assert torch.equal(noisy[..., 40:], spectra[..., 40:])
    altered = (noisy != spectra).flatten(1).any(dim=1)
    assert 0.3 < altered.float().mean() < 0.7
