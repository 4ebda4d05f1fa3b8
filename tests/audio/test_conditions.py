"""Recording conditions, by what can be measured of them."""

import numpy as np
import pytest
from scipy.signal import correlate, welch

from ser.audio import conditions
from ser.audio.conditions import CONDITIONS, alter, change_tempo, choose, room_response

RATE = 48000


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """Bursts of harmonics between pauses, as syllables are: 1.5 s."""
    time = np.arange(round(1.5 * RATE)) / RATE
    pitch = 2 * np.pi * (120 * time + 10 * np.sin(2 * np.pi * 3 * time))
    voice = sum(np.sin(k * pitch) / k for k in range(1, 25))
    return 0.1 * voice * np.maximum(0, np.sin(2 * np.pi * 2 * time)) ** 2


@pytest.fixture(scope="module")
def others() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    lengths = range(20000, 90000, 10000)
    return [(1000 * rng.standard_normal(count)).astype(np.int16) for count in lengths]


def tones(*hertz: float, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.05 * sum(np.sin(2 * np.pi * each * time) for each in hertz)


def level_db(samples: np.ndarray, hertz: float) -> float:
    """Return the level of a tone relative to that of `tones`, without the edges."""
    middle = samples[RATE // 5 : -RATE // 5]
    middle = middle[: len(middle) // 480 * 480]  # whole periods of multiples of 100 Hz
    time = np.arange(len(middle)) / RATE
    found = 2 * np.abs(np.mean(middle * np.exp(-2j * np.pi * hertz * time)))
    return 20 * np.log10(max(found, 1e-12) / 0.05)


@pytest.mark.parametrize(
    "name", [name for name in CONDITIONS if CONDITIONS[name].level[:3] == "SNR"]
)
def test_noise_has_exactly_its_snr(name: str, spoken: np.ndarray, others: list[np.ndarray]):
    noise = alter(name, spoken, RATE, others=others) - spoken
    snr = 10 * np.log10(np.mean(spoken**2) / np.mean(noise**2))
    assert snr == pytest.approx(float(name.partition("_")[2]), abs=1e-6)


def test_what_noise_makes_too_loud_is_turned_down_not_clipped(spoken: np.ndarray):
    loud = spoken / np.abs(spoken).max()
    heard = alter("white_0", loud, RATE)
    assert np.abs(heard).max() == pytest.approx(1 - 2**-15)
    scale = heard @ loud / (loud @ loud)
    assert 10 * np.log10(np.mean(loud**2) / np.mean((heard / scale - loud) ** 2)) == pytest.approx(
        0, abs=0.1
    )


def test_noise_is_white_or_pink():
    rng, octaves = np.random.default_rng(0), ((100, 200), (800, 1600), (6400, 12800))
    for noise, growth in ((conditions.white, 8), (conditions.pink, 1)):
        hertz, density = welch(noise(20 * RATE, RATE, rng, ()), RATE, nperseg=8192)
        powers = [density[(hertz >= low) & (hertz < high)].sum() for low, high in octaves]
        assert np.divide(powers[1:], powers[:-1]) == pytest.approx([growth, growth], rel=0.1)
    assert density[hertz < 15].max() < density[(hertz > 20) & (hertz < 40)].max() / 5


def test_babble_is_of_the_others_alone_and_equally_loud(spoken: np.ndarray):
    voices = [scale * tones(hertz) for scale, hertz in zip((1, 900), (500, 1100), strict=True)]
    heard = alter("babble_0", spoken, RATE, others=voices * 3) - spoken
    levels = [level_db(heard, hertz) for hertz in (500, 1100)]
    # Of three at 500 Hz and three at 1100 Hz the phases alone are chance.
    assert max(levels) - min(levels) < 20
    power = np.abs(np.fft.rfft(heard)) ** 2
    places = np.fft.rfftfreq(len(heard), 1 / RATE)
    near = (np.abs(places - 500) < 40) | (np.abs(places - 1100) < 40)
    assert power[near].sum() > 0.98 * power.sum()
    with pytest.raises(ValueError, match="other recordings, of which there are none"):
        alter("babble_0", spoken, RATE)


@pytest.mark.parametrize("rt60", [0.3, 0.6, 1.2])
def test_a_room_decays_as_stated_and_has_the_energy_of_the_direct_sound(rt60: float):
    response = room_response(rt60, RATE, np.random.default_rng(0))
    assert response[0] == 1
    assert np.sum(response[1:] ** 2) == pytest.approx(1)
    # Schroeder (1965): backward integration; the decay from -5 to -25 dB, as ISO 3382 fits it.
    decay = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])[1:]
    decay -= decay[0]
    part = (decay < -5) & (decay > -25)
    slope = np.polyfit(np.flatnonzero(part) / RATE, decay[part], 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.05)


def test_a_room_leaves_the_direct_sound_in_place_and_the_power(spoken: np.ndarray):
    click = np.zeros(RATE)
    click[10_000] = 0.5
    heard = alter("reverb_0.6", click, RATE)
    assert np.abs(heard).argmax() == 10_000
    assert not heard[:10_000].round(9).any()
    heard = alter("reverb_1.2", spoken, RATE)
    assert np.mean(heard**2) == pytest.approx(np.mean(spoken**2))


@pytest.mark.parametrize(
    ("name", "kept", "lost"),
    [
        ("telephone", [600, 1000, 3000], [100, 5000]),
        ("lowpass_8000", [100, 7000], [12000]),
        ("lowpass_4000", [100, 3500], [6000]),
        ("resample_16000", [100, 7000], [9000]),
        ("resample_8000", [100, 3500], [5000]),
    ],
)
def test_band_limits(name: str, kept: list[int], lost: list[int]):
    heard = alter(name, tones(*kept, *lost), RATE)
    assert [level_db(heard, hertz) for hertz in kept] == pytest.approx([0] * len(kept), abs=0.7)
    assert all(level_db(heard, hertz) < -40 for hertz in lost)


def test_a_band_is_6_db_down_at_its_edges_and_at_half_the_rate_there_is_none():
    heard = alter("telephone", tones(300, 3400), RATE)
    assert [level_db(heard, hertz) for hertz in (300, 3400)] == pytest.approx([-6, -6], abs=0.1)
    samples = tones(500)[::6]
    assert alter("lowpass_4000", samples, 8000) == pytest.approx(samples)


def test_mu_law_has_the_values_of_g711():
    samples = 0.9 * np.sin(np.linspace(0, 40, 8000))
    coded = conditions.mu_law(samples, 8000)
    # Decoder of ITU-T G.711: eight segments of sixteen steps, each twice as wide as the last.
    steps = [(2 * m + 33 << e) - 33 for e in range(8) for m in range(16)]
    values = np.unique([sign * step * 4 / 32768 for step in steps for sign in (1, -1)])
    assert np.isin(coded, values).all()
    nearest = values[np.abs(samples[:, None] - values).argmin(axis=1)]
    assert np.abs(coded - samples).max() <= 2 * np.abs(nearest - samples).max()
    assert np.mean(coded == nearest) > 0.97  # at a decision value either is right


def test_gain_clips_as_16_bit_do_and_clipping_at_a_third_of_the_peak(spoken: np.ndarray):
    assert alter("gain_-20", spoken, RATE) == pytest.approx(spoken / 10)
    assert alter("gain_-12", spoken, RATE) == pytest.approx(spoken * 10**-0.6)
    loud = alter("gain_+12", 3 * spoken, RATE)
    unclipped = 3 * spoken * 10**0.6
    assert unclipped.max() > 1
    assert loud == pytest.approx(np.clip(unclipped, -1, 32767 / 32768))
    peak = np.abs(spoken).max()
    cut = alter("clip_0.33", spoken, RATE)
    assert np.abs(cut).max() == pytest.approx(peak / 3)
    quiet = np.abs(spoken) < peak / 3
    assert cut[quiet] == pytest.approx(spoken[quiet])


def test_silence_is_put_around(spoken: np.ndarray):
    heard = alter("silence_1", spoken, RATE)
    assert len(heard) == len(spoken) + 2 * RATE
    assert np.array_equal(heard[RATE:-RATE], spoken)
    assert not heard[:RATE].any()
    assert not heard[-RATE:].any()


@pytest.mark.parametrize("tempo", [0.8, 1.25])
def test_tempo_keeps_pitch_and_level_and_moves_moments_as_it_says(tempo: float):
    tone = tones(440, seconds=2)
    heard = change_tempo(tone, RATE, tempo)
    assert len(heard) == round(len(tone) / tempo)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert spectrum.argmax() * RATE / len(heard) == pytest.approx(440, abs=1)
    assert heard.std() == pytest.approx(tone.std(), rel=0.02)
    burst = np.zeros(2 * RATE)
    burst[RATE : RATE + 4800] = tones(1000)[:4800]
    heard = change_tempo(burst, RATE, tempo)
    assert np.flatnonzero(np.abs(heard) > 0.02)[0] / RATE == pytest.approx(1 / tempo, abs=0.03)


MOVING = ("silence_1", "tempo_0.8", "tempo_1.25")


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name not in MOVING])
@pytest.mark.parametrize("rate", [48000, 16000])
def test_the_length_and_every_moment_stay(
    name: str, rate: int, spoken: np.ndarray, others: list[np.ndarray]
):
    samples = spoken[:: RATE // rate][: rate + 7]
    heard = alter(name, samples, rate, others=others)
    assert heard.shape == samples.shape
    lags = correlate(heard, samples)
    # Opus moves a wave by less than 0.1 ms, as filters of a codec do.
    assert abs(lags.argmax() - (len(samples) - 1)) <= rate / 10_000 + 1
    assert np.abs(heard).max() <= 1


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_same_samples_and_seed_give_the_same(
    name: str, spoken: np.ndarray, others: list[np.ndarray]
):
    samples = spoken[:30_000].astype(np.float32)
    before = samples.copy()
    first = alter(name, samples, RATE, 3, others)
    assert first.dtype == np.float32
    assert np.array_equal(first, alter(name, samples, RATE, 3, others))
    assert np.array_equal(samples, before)
    drawn = name.split("_")[0] in ("white", "pink", "babble", "reverb")
    assert np.array_equal(first, alter(name, samples, RATE, 4, others)) != drawn


def test_digital_silence_stays_silent_or_at_least_finite(others: list[np.ndarray]):
    for name in CONDITIONS:
        heard = alter(name, np.zeros(9000), RATE, others=others)
        assert np.abs(heard).max() < 1e-3, name


def test_conditions_are_chosen_by_name_or_kind_in_their_order():
    assert choose(None) == list(CONDITIONS)
    assert choose(["mulaw", "white_0", "opus"]) == ["white_0", "mulaw", "opus_16", "opus_6"]
    with pytest.raises(ValueError, match=r"no 'white_3': expected one of white, pink, .*white_20"):
        choose(["white_3"])
    with pytest.raises(ValueError, match=r"conditions=\[\]: expected"):
        choose([])
