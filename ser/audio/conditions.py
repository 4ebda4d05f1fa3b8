"""Recording conditions: what becomes of samples in noise, in a room, on a line, in a codec.

Each takes (samples,) in -1..1 at a rate in Hz, gives the same for the same samples and seed, and
leaves every moment where it was; silence around and another tempo alone move the words. Levels of
noise and of rooms are relative to the mean power of the whole recording, its pauses included.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.signal
import soundfile
import soxr

TALKERS = 6
"""Recordings whose sum is babble."""

LOWEST = 20
"""Hz from which on noise is pink: below, most of its power would be inaudible."""

FIRST_ECHO = 0.0025
"""Seconds between the direct sound and what a room adds to it."""

FRAME = 0.04
"""Seconds of a frame whose repetition or omission changes the tempo."""

FULL = 1 - 2**-15
"""The largest value that 16 bit hold."""

Alter = Callable[[np.ndarray, int, np.random.Generator, Sequence[np.ndarray]], np.ndarray]
"""Of samples, their rate in Hz, the random state and other recordings, for babble."""

Noise = Callable[[int, int, np.random.Generator, Sequence[np.ndarray]], np.ndarray]
"""Of a number of samples, their rate in Hz, the random state and other recordings."""


class Condition(NamedTuple):
    """What happens to a recording.

    Attributes:
        level: How much of it, as a table has it.
        alter: Does it.
        from_window: Whether what precedes the window stays as it is, so that the window begins
            with the same sound.
        by_onset: Whether the words are where no corpus has them, so that the window begins at the
            onset, as in anyone's recording.
    """

    level: str
    alter: Alter
    from_window: bool = False
    by_onset: bool = False


def choose(names: Sequence[str] | None) -> list[str]:
    """List the conditions of these names, or of these kinds, in the order of `CONDITIONS`.

    Args:
        names: Such as `white_20`, or `white` for all of its levels; None is all.

    Raises:
        ValueError: There is no such condition, or none is named.
    """
    kinds = dict.fromkeys(kind_of(name) for name in CONDITIONS)
    for name in names if names is not None else ():
        if name not in CONDITIONS and name not in kinds:
            raise ValueError(
                f"conditions: there is no {name!r}: expected one of {', '.join(kinds)}, or one"
                f" level of them, of {', '.join(CONDITIONS)}"
            )
    if names is not None and not names:
        raise ValueError("conditions=[]: expected one or more, or null for all")
    return [name for name in CONDITIONS if names is None or name in names or kind_of(name) in names]


def kind_of(name: str) -> str:
    """Return the kind of a condition: `white` of `white_20`."""
    return name.partition("_")[0]


def alter(
    name: str,
    samples: np.ndarray,
    rate: int,
    seed: int = 0,
    others: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Return a recording under a condition.

    Args:
        name: Of the condition, a key of `CONDITIONS`.
        samples: (samples,) in -1..1.
        rate: Hz.
        seed: Of what is random; other samples draw other numbers.
        others: Recordings of other speakers at that rate and of any scale, which babble is made of.

    Returns:
        As many samples of the same type, but under `silence` and `tempo`.

    Raises:
        ValueError: It is babble, and there are no others.
    """
    rng = np.random.default_rng([seed, zlib.crc32(samples.tobytes())])
    altered = CONDITIONS[name].alter(samples.astype(float), rate, rng, others)
    return altered.astype(samples.dtype)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise (samples,) so many dB below the recording; what exceeds 16 bit is turned down."""
    power = np.mean(noise**2)
    if power > 0:
        samples = samples + noise * np.sqrt(np.mean(samples**2) / power) * 10 ** (-snr_db / 20)
    return _within(samples)


def white(
    count: int, rate: int, rng: np.random.Generator, others: Sequence[np.ndarray]
) -> np.ndarray:
    """Return noise of equal power at all frequencies, (samples,)."""
    return rng.standard_normal(count)


def pink(
    count: int, rate: int, rng: np.random.Generator, others: Sequence[np.ndarray]
) -> np.ndarray:
    """Return noise of equal power in all octaves from `LOWEST` on, (samples,)."""
    spectrum = scipy.fft.rfft(rng.standard_normal(count))
    hertz = scipy.fft.rfftfreq(count, 1 / rate)
    return scipy.fft.irfft(spectrum * (hertz >= LOWEST) / np.sqrt(np.maximum(hertz, LOWEST)), count)


def babble(
    count: int, rate: int, rng: np.random.Generator, others: Sequence[np.ndarray]
) -> np.ndarray:
    """Return `TALKERS` of the other recordings at once, equally loud, each from anywhere on."""
    if not len(others):
        raise ValueError("babble is made of other recordings, of which there are none")
    chosen = rng.choice(len(others), TALKERS, replace=len(others) < TALKERS)
    total = np.zeros(count)
    for place in chosen:
        talker = others[place].astype(float)
        talker = np.resize(np.roll(talker, rng.integers(len(talker))), count)
        total += talker / max(np.sqrt(np.mean(talker**2)), np.finfo(float).tiny)
    return total


def room_response(rt60: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return the impulse response of a room, from the direct sound on: (samples,).

    Noise that decays exponentially (Moorer 1979, Computer Music Journal 3:2; Polack 1988) has the
    energy of the direct sound, as at the critical distance of a room.

    Args:
        rt60: Seconds in which the reverberation falls by 60 dB.
        rate: Hz.
        rng: Random state.
    """
    time = np.arange(round(rt60 * rate)) / rate
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    response[time < FIRST_ECHO] = 0
    response /= np.sqrt(np.sum(response**2))
    response[0] = 1
    return response


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Play a recording in a room, at the same mean power; what rings on after its end is cut."""
    heard = scipy.signal.fftconvolve(samples, response)[: len(samples)]
    power = np.mean(heard**2)
    return _within(heard * np.sqrt(np.mean(samples**2) / power)) if power > 0 else heard


def band_limit(samples: np.ndarray, rate: int, low: float = 0.0, high: float = 0.0) -> np.ndarray:
    """Take away what lies outside of two frequencies: 120 dB an octave, 6 dB at them, no delay.

    Args:
        samples: (samples,).
        rate: Hz.
        low: Hz; 0 is none.
        high: Hz; 0, or half the rate and above, is none.
    """
    for hertz, side in ((low, "highpass"), (high, "lowpass")):
        if 0 < hertz < rate / 2:
            filters = scipy.signal.butter(10, hertz, side, output="sos", fs=rate)
            samples = scipy.signal.sosfiltfilt(filters, samples, padlen=0)
    return samples


def resample(samples: np.ndarray, rate: int, hertz: int) -> np.ndarray:
    """Go to another rate and back."""
    return _fitted(_at_rate(samples, rate, hertz, lambda there: there), len(samples))


def mu_law(samples: np.ndarray, rate: int) -> np.ndarray:
    """Go through a telephone line's coding: 8 bit a sample at 8 kHz (ITU-T G.711)."""
    code = partial(_recoded, rate=8000, format="WAV", subtype="ULAW")
    return _fitted(_at_rate(samples, rate, 8000, code), len(samples))


def mp3(samples: np.ndarray, rate: int, hertz: int, level: float) -> np.ndarray:
    """Go through MP3 at a rate in Hz and a compression level of libsndfile."""
    # An average bit rate leaves room for the tag by which a decoder takes the delay away.
    tagged = {"compression_level": level, "bitrate_mode": "AVERAGE"}
    code = partial(_recoded, rate=hertz, format="MP3", subtype="MPEG_LAYER_III", **tagged)
    return _fitted(_at_rate(samples, rate, hertz, code), len(samples))


def opus(samples: np.ndarray, rate: int, level: float) -> np.ndarray:
    """Go through Opus at a compression level of libsndfile: 0 is 256 kbit/s, 1 is 6 kbit/s."""
    code = partial(_recoded, rate=48000, format="OGG", subtype="OPUS", compression_level=level)
    return _fitted(_at_rate(samples, rate, 48000, code), len(samples))


def amplify(samples: np.ndarray, gain_db: float) -> np.ndarray:
    """Turn a recording up or down; 16 bit clip what is too loud."""
    return np.clip(samples * 10 ** (gain_db / 20), -1, FULL)


def clip(samples: np.ndarray, share: float) -> np.ndarray:
    """Cut off what exceeds a share of the peak."""
    peak = share * np.abs(samples).max(initial=0)
    return np.clip(samples, -peak, peak)


def surround(samples: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """Put digital silence before and after."""
    return np.pad(samples, round(seconds * rate))


def change_tempo(samples: np.ndarray, rate: int, tempo: float) -> np.ndarray:
    """Speak so many times as fast at the same pitch: (samples / tempo,).

    Frames of the recording are added where they continue each other best (WSOLA, Verhelst &
    Roelands 1993, ICASSP 2:554); torchaudio's phase vocoder takes half of the level of a tone.
    """
    hop = round(FRAME * rate / 2)
    reach = hop // 2
    window = scipy.signal.windows.hann(2 * hop, sym=False)
    count = round(len(samples) / tempo)
    steps = count // hop + 2
    padded = np.pad(samples, (reach + hop, round(steps * hop * tempo) + 4 * hop - len(samples)))
    heard, begin = np.zeros((steps + 1) * hop), reach
    for step in range(steps):
        region = padded[(near := round(step * hop * tempo)) :][: 2 * (hop + reach)]
        if step:
            follows = padded[begin + hop :][: 2 * hop]
            alike = scipy.signal.correlate(region, follows, "valid", method="fft")
            begin = near + int(alike.argmax())
        heard[step * hop :][: 2 * hop] += window * padded[begin:][: 2 * hop]
    return heard[hop:][:count]


def _at_rate(
    samples: np.ndarray, rate: int, hertz: int, code: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    return soxr.resample(code(soxr.resample(samples, rate, hertz)), hertz, rate)


def _recoded(samples: np.ndarray, rate: int, **coding: object) -> np.ndarray:
    """Encode and decode in memory."""
    soundfile.write(file := BytesIO(), samples, rate, **coding)
    return soundfile.read(BytesIO(file.getvalue()))[0]


def _fitted(samples: np.ndarray, count: int) -> np.ndarray:
    """Return so many samples: what resampling has rounded is cut, or is silent."""
    return np.pad(samples[:count], (0, max(0, count - len(samples))))


def _within(samples: np.ndarray) -> np.ndarray:
    """Turn a recording down that 16 bit would clip: its recorder would have been."""
    peak = np.abs(samples).max(initial=0)
    return samples * (FULL / peak) if peak > FULL else samples


def _noisy(noise: Noise, snr_db: float) -> Alter:
    return lambda samples, rate, rng, others: add_noise(
        samples, noise(len(samples), rate, rng, others), snr_db
    )


def _reverberant(rt60: float) -> Alter:
    return lambda samples, rate, rng, others: reverberate(samples, room_response(rt60, rate, rng))


def _on_rate(function: Callable[..., np.ndarray], *values: float) -> Alter:
    return lambda samples, rate, rng, others: function(samples, rate, *values)


def _by(function: Callable[..., np.ndarray], *values: float) -> Alter:
    return lambda samples, rate, rng, others: function(samples, *values)


CONDITIONS: Mapping[str, Condition] = {
    f"{noise.__name__}_{snr}": Condition(f"SNR {snr} dB", _noisy(noise, snr))
    for noise in (white, pink, babble)
    for snr in (20, 10, 5, 0)
} | {
    "reverb_0.3": Condition("RT60 0.3 s", _reverberant(0.3)),
    "reverb_0.6": Condition("RT60 0.6 s", _reverberant(0.6)),
    "reverb_1.2": Condition("RT60 1.2 s", _reverberant(1.2)),
    "telephone": Condition("300 to 3400 Hz", _on_rate(band_limit, 300, 3400)),
    "lowpass_8000": Condition("to 8 kHz", _on_rate(band_limit, 0, 8000)),
    "lowpass_4000": Condition("to 4 kHz", _on_rate(band_limit, 0, 4000)),
    "resample_16000": Condition("16 kHz", _on_rate(resample, 16000)),
    "resample_8000": Condition("8 kHz", _on_rate(resample, 8000)),
    "mulaw": Condition("8 bit at 8 kHz", _on_rate(mu_law)),
    # libsndfile interpolates between the least and the greatest bit rate of a rate of samples; its
    # last level it refuses.
    "mp3_32": Condition("32 kbit/s", _on_rate(mp3, 48000, 0.999)),
    "mp3_18": Condition("about 18 kbit/s", _on_rate(mp3, 24000, 0.9)),
    "opus_16": Condition("16 kbit/s", _on_rate(opus, 0.96)),
    "opus_6": Condition("6 kbit/s", _on_rate(opus, 1.0)),
    "gain_+12": Condition("+12 dB", _by(amplify, 12)),
    "gain_-12": Condition("-12 dB", _by(amplify, -12)),
    "gain_-20": Condition("-20 dB", _by(amplify, -20)),
    "clip_0.33": Condition("at 1/3 of the peak", _by(clip, 1 / 3)),
    "silence_1": Condition("1 s before and after", _on_rate(surround, 1.0), by_onset=True),
    "tempo_0.8": Condition("0.8 times as fast", _on_rate(change_tempo, 0.8), from_window=True),
    "tempo_1.25": Condition("1.25 times as fast", _on_rate(change_tempo, 1.25), from_window=True),
}
"""By name."""
