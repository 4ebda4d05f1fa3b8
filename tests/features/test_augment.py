"""Laws of the augmentation of features and of waveforms."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from ser.data.loading import ClipReader
from ser.features.augment import Noise, SpecAugment
from ser.training.classifier import EmotionClassifier


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


NOTHING = {"noise": 0.0, "reverb": 0.0, "band": 0.0, "gain_db": (0.0, 0.0), "clipping": 0.0}
RATE = 16000


def waveforms(clips=6, samples=RATE, padding=1000):
    given = 0.01 * torch.randn(clips, samples)
    given[:, samples - padding :] = 0
    return given


def every(given):
    return torch.ones(len(given), dtype=torch.bool)


def recorded(given, **options):
    return Noise(sample_rate=RATE, **NOTHING | options).record(given, every(given))


def test_noise_chooses_a_share_of_the_clips_and_in_eval_mode_none():
    given = waveforms(clips=4000, samples=1, padding=0)
    assert Noise(share=0.3).choose(given).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not Noise(share=1.0).eval().choose(given).any()
    # Its features are those of what it holds.
    planes = features()
    assert Noise(SpecAugment(offset=1.0)).eval()(planes) is planes
    assert Noise()(planes) is planes
    assert not Noise(SpecAugment(offset=1.0))(planes).equal(planes)


def test_noise_of_nothing_and_an_empty_choice_are_the_identity():
    given = waveforms()
    before = given.clone()
    assert recorded(given).equal(given)
    chosen = torch.tensor([False, True, False, True, False, False])
    noise = Noise(sample_rate=RATE, **NOTHING | {"noise": 1.0})
    assert noise.record(given, chosen).shape == (2, RATE)
    assert given.equal(before)
    silent = torch.zeros(3, RATE)
    assert Noise(sample_rate=RATE).record(silent, every(silent)).equal(silent)


def test_noise_lies_as_far_below_the_clip_as_asked_for_and_leaves_the_padding():
    given = waveforms(clips=30)
    added = recorded(given, noise=1.0, snr_db=(10.0, 10.0)) - given
    assert not added[:, -1000:].any()
    ratio = 10 * (given.square().sum(1) / added.square().sum(1)).log10()
    torch.testing.assert_close(ratio, torch.full((30,), 10.0), rtol=0, atol=1e-2)
    # White noise has its centre at a quarter of the rate, pink far below; babble is of the others.
    power = torch.fft.rfft(added).abs().square()
    centre = (power @ torch.linspace(0, 0.5, power.shape[1])) / power.sum(1)
    assert (centre < 0.15).any()
    assert (centre > 0.2).any()


def test_babble_is_the_other_clips_of_the_batch():
    time = torch.arange(RATE) / RATE
    given = 0.1 * torch.stack([(6.2832 * hertz * time).sin() for hertz in (500, 1000, 2000)])
    heard = recorded(given.repeat(10, 1), noise=1.0, snr_db=(0.0, 0.0))
    spectra = torch.fft.rfft(heard).abs().square()
    own = torch.tensor([500, 1000, 2000]).repeat(10)
    tones = spectra[:, [500, 1000, 2000]].sum(1) / spectra.sum(1)
    babble = tones > 0.999
    assert 3 <= babble.sum() <= 20  # a third
    assert spectra[babble].gather(1, own[babble, None]).min() > 0
    alone = recorded(given[:1], noise=1.0, snr_db=(0.0, 0.0))  # has no others
    assert alone.isfinite().all()
    assert not alone.equal(given[:1])


def test_a_room_keeps_power_and_direct_sound():
    clicks = torch.zeros(20, RATE)
    clicks[:, 3000], clicks[:, -1] = 0.5, 1e-6
    heard = recorded(clicks, reverb=1.0, rt60=(0.5, 0.5))
    assert heard.abs().argmax(1).eq(3000).all()
    assert heard[:, :2990].abs().max() < 1e-6
    torch.testing.assert_close(heard.norm(dim=1), clicks.norm(dim=1))
    tail = heard[:, 3040:].square().mean(0)
    # 60 dB in half a second: 24 dB in 0.2 s.
    early, late = tail[:800].mean(), tail[3200:4000].mean()
    assert 10 * (early / late).log10().item() == pytest.approx(24, abs=1)


def test_a_band_gain_and_clipping():
    time = torch.arange(RATE) / RATE
    given = sum((6.2832 * hertz * time).sin() for hertz in (100, 1000, 6000))[None] / 10
    limits = {"low_hz": (300.0, 300.0), "high_hz": (3000.0, 3000.0)}
    heard = recorded(given, band=1.0, **limits)
    levels = torch.fft.rfft(heard)[0, [100, 1000, 6000]].abs() / (RATE / 20)
    assert levels.tolist() == pytest.approx([0, 1, 0], abs=1e-2)
    assert recorded(given, gain_db=(6.0, 6.0)).equal(given * 10**0.3)
    assert recorded(given, gain_db=(40.0, 40.0)).abs().max() == 1
    cut = recorded(given, clipping=1.0)
    peak = cut.abs().max()
    assert 0.2 * given.abs().max() <= peak <= 0.8 * given.abs().max()
    assert cut.equal(given.clamp(-peak, peak))


def test_noise_draws_from_the_global_generator():
    given, noise = waveforms(), Noise(reverb=1.0, band=1.0, sample_rate=RATE)
    torch.manual_seed(7)
    first = noise.record(given, noise.choose(given))
    torch.manual_seed(7)
    assert noise.record(given, noise.choose(given)).equal(first)
    assert first.isfinite().all()


def test_what_is_not_chosen_is_not_analysed_again():
    model = EmotionClassifier(
        ["happy", "sad"],
        {"_target_": "ser.features.spectral.LogMel", "bins": 16, "n_fft": 512},
        {"_target_": "ser.models.cnn.CNN", "widths": [4, 8], "dropout": 0.0},
        {"_target_": "torch.optim.Adam", "lr": 1e-2},
        augment={"_target_": "ser.features.augment.Noise", "share": 0.5, "features": None},
    )
    given = waveforms(clips=16)
    plain = {"waveform": given, "analysed": model.frontend.analyse(given)}
    torch.manual_seed(1)
    beside = model._recorded(plain)["analysed"]
    torch.manual_seed(1)
    chosen = model.augment.choose(given)
    torch.manual_seed(1)
    alone = model.frontend.analyse(model._recorded({"waveform": given})["waveform"])
    torch.testing.assert_close(beside, alone)
    assert beside[~chosen].equal(plain["analysed"][~chosen])
    assert not beside[chosen].equal(plain["analysed"][chosen])
    model.eval()
    assert model._recorded(plain) is plain


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def start(*overrides):
        script = Path(__file__).parents[2] / "train.py"
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, overrides)])
        runpy.run_path(str(script), run_name="__main__")

    return start


@pytest.mark.slow
def test_training_in_noise_validates_on_clean_clips_and_goes_on_where_it_broke_off(
    small: list[str],
    cache: Path,
    tmp_path: Path,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
):
    usual = [*small, "augment=noise", f"cache.dir={cache}", "logger=csv"]
    read, beside = [], ClipReader.read_beside

    def count(reader, rows):
        read.append(len(rows))
        return beside(reader, rows)

    monkeypatch.setattr(ClipReader, "read_beside", count)
    run(*usual, f"hydra.run.dir={tmp_path / 'whole'}", "trainer.max_epochs=3")
    splits = pd.read_csv(tmp_path / "whole" / "split.csv").split
    assert sum(read) == 3 * (splits == "train").sum()
    run(*usual, f"hydra.run.dir={tmp_path / 'part'}", "trainer.max_epochs=2")
    run(f"resume={tmp_path / 'part'}/checkpoints/last.ckpt", "trainer.max_epochs=3")
    for name in ("predictions.csv", "metrics.csv"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # By default other clips are heard.
    run(
        *usual,
        f"hydra.run.dir={tmp_path / 'default'}",
        "trainer.max_epochs=1",
        "augment=specaugment",
    )
    default, noisy = (
        pd.read_csv(tmp_path / name / "metrics.csv")["train/loss"].dropna()
        for name in ("default", "whole")
    )
    assert default.iloc[0] != noisy.iloc[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=svm"], "a classical model has none: expected it with a network"),
        (["normalize=speaker", "channel=none"], "normalize=speaker standardises features"),
        (["model=conv1d", "frontend=compare"], "OpenSmile analyses each clip once for all epochs"),
        (["model=conv1d", "frontend=functionals"], "expected augment.features=null"),
        (
            ["augment.features._target_=ser.features.augment.Noise"],
            "as augment.features: expected one of",
        ),
        (["augment.share=2"], "augment.share=2: expected at most 1"),
        (["augment.snr_db=[0]"], "augment.snr_db=[0]"),
    ],
)
def test_noise_that_cannot_be_is_one_line(
    small: list[str],
    run: Callable[..., None],
    tmp_path: Path,
    overrides: list[str],
    words: str,
    capfd: pytest.CaptureFixture,
):
    with pytest.raises(SystemExit, match="1"):
        run(*small, "augment=noise", *overrides, f"hydra.run.dir={tmp_path / 'run'}")
    shown = capfd.readouterr().err
    assert words in shown.splitlines()[-1]
    assert "Traceback" not in shown
