"""Laws of the augmentation of features."""

import pytest
import torch

from ser.features.augment import SpecAugment


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def features(clips=4, channels=1, bins=40, frames=301):
    return 20 * torch.randn(clips, channels, bins, frames) - 100


def test_spec_augment_is_the_identity_in_eval_mode():
    given = features()
    assert SpecAugment(speed=0.2, shift=0.1, offset=1.0).eval()(given) is given


def test_spec_augment_of_nothing_is_the_identity():
    given = features()
    nothing = SpecAugment(time_width=0.0, bin_masks=2, bin_width=0.0)
    assert nothing(given).equal(given)


def test_spec_augment_leaves_its_input_alone():
    given = features()
    before = given.clone()
    SpecAugment(bin_masks=1, speed=0.2, shift=0.1, offset=1.0)(given)
    assert given.equal(before)


def test_masks_hold_the_mean_of_the_bin_and_nothing_else_changes():
    given = features(channels=2)
    altered = SpecAugment(bin_masks=1, bin_width=0.2)(given)
    changed = altered != given
    mean = given.mean(3, keepdim=True).expand_as(given)
    assert altered[changed].equal(mean[changed])


def test_masked_fraction_is_half_of_the_longest_mask():
    given = features(clips=4000, bins=2, frames=100)
    changed = SpecAugment(time_masks=1, time_width=0.2)(given) != given
    # Widths are uniform over 0..20 of 100 frames.
    assert changed.float().mean().item() == pytest.approx(0.1, abs=0.005)
    assert changed.float().mean((1, 2, 3)).max().item() == pytest.approx(0.2)
    assert changed[:, 0, 0].equal(changed[:, 0, 1])


def test_bin_masks_cover_all_frames():
    given = features(clips=2000, bins=40, frames=7)
    changed = SpecAugment(time_masks=0, bin_masks=1, bin_width=0.25)(given) != given
    assert changed.all(3).equal(changed.any(3))
    assert changed.float().mean().item() == pytest.approx(0.125, abs=0.01)


def test_clips_get_masks_of_their_own():
    given = features(clips=1).expand(8, -1, -1, -1)
    changed = SpecAugment()(given) != given
    assert len(changed[:, 0, 0].unique(dim=0)) > 4


def test_speed_and_shift_of_a_ramp():
    ramp = torch.arange(101.0).expand(500, 1, 3, 101)
    altered = SpecAugment(time_masks=0, speed=0.1, shift=0.05)(ramp)
    middle = altered[:, 0, 0]
    steps = middle.diff(dim=1)[:, 20:80]
    assert steps.min().item() == pytest.approx(0.9, abs=0.01)
    assert steps.max().item() == pytest.approx(1.1, abs=0.01)
    # The ends are held, never read from outside the clip.
    assert middle.min() >= 0
    assert middle.max() <= 100
    start = middle[:, 50] - 50 * steps[:, 30]
    assert start.abs().max().item() == pytest.approx(5, abs=0.1)


def test_offset_moves_whole_bins_by_their_own_spread():
    given = torch.randn(500, 1, 2, 50) * torch.tensor([1.0, 10.0]).view(1, 1, 2, 1)
    moved = SpecAugment(time_masks=0, offset=0.3)(given) - given
    torch.testing.assert_close(moved, moved[..., :1].expand_as(moved), rtol=0, atol=1e-5)
    spread = moved[:, 0, :, 0].std(0)
    torch.testing.assert_close(spread, torch.tensor([0.3, 3.0]), rtol=0.1, atol=0)


@pytest.mark.parametrize("shape", [(1, 1, 40, 301), (3, 3, 128, 1), (2, 1, 40, 2)])
def test_shapes_and_numbers_survive(shape):
    altered = SpecAugment(bin_masks=2, speed=0.3, shift=0.3, offset=1.0)(torch.randn(shape))
    assert altered.shape == shape
    assert altered.isfinite().all()


def test_draws_come_from_the_global_generator():
    given = features()
    augment = SpecAugment(bin_masks=1, speed=0.2, shift=0.1, offset=1.0)
    torch.manual_seed(7)
    first = augment(given)
    torch.manual_seed(7)
    assert augment(given).equal(first)
