"""Synthetic, speech-like voices: pulses and noise through moving formants.

An emotion moves pitch, level, pace and voice quality, with so much spread that emotions overlap.
Nobody ever spoke any of it.
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

WIDE_BAND = 48000  # Hz
# Phones in SAMPA; "_" is a closure.
VOWELS = "iIeE{aAOoU3V"
# phone, F1, F2, F3 (Hz, of a man), voicing, hiss (linear), centre of the hiss (Hz), length (ms)
PHONE_TABLE = """
i 280 2250 2950 1 0 3000 110     I 400 1950 2550 1 0 3000 80      e 460 2000 2600 1 0 3000 90
E 550 1800 2500 1 0 3000 110     { 680 1700 2400 1 0 3000 140     a 720 1250 2500 1 0 3000 100
A 730 1100 2450 1 0 3000 120     O 580 860 2400 1 0 3000 130      o 460 900 2400 1 0 3000 100
U 400 1000 2250 1 0 3000 80      3 480 1350 1700 1 0 3000 120     V 600 1200 2400 .9 0 3000 60
r 420 1200 1650 .8 0 3000 70     w 320 750 2200 .6 0 3000 60      n 280 1500 2500 .4 0 3000 70
N 280 1900 2600 .4 0 3000 80     D 320 1400 2600 .3 .1 6000 45    z 300 1600 2600 .2 .3 6500 80
s 320 1600 2600 0 .5 6500 100    T 320 1400 2600 0 .15 7000 100   b 300 900 2300 .4 .2 1000 20
d 300 1700 2600 .4 .3 4500 20    g 300 2000 2300 .4 .3 2000 25    k 350 1900 2300 0 .4 2000 50
t 350 1700 2600 0 .4 4500 45     _ 350 1400 2500 0 0 3000 45
"""
PHONES = {row[0]: [float(x) for x in row[1:]] for row in np.reshape(PHONE_TABLE.split(), (-1, 8))}


class Style(NamedTuple):
    """How a clip departs from a plain one."""

    pitch: float  # semitones
    span: float  # log2 of the factor on the pitch accents
    slope: float  # semitones from the first word to the last
    rise: float  # semitones, at the very end
    level: float  # dB
    fade: float  # dB from the first word to the last
    pace: float  # log2 of the factor on the speed
    tilt: float  # dB an octave
    breath: float  # dB
    rough: float  # jitter, thousandths of a period
    tremor: float  # semitones
    mouth: float  # per cent on the formants


EMOTIONS = {
    "neutral": Style(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "calm": Style(-1.5, -0.4, 0.5, 0, -7, 0, -0.2, -2, 6, -2, 0, 3),
    "happy": Style(5.5, 0.9, 1, 1, 6, 0, 0.1, 2, 0, 0, 0, 7),
    "sad": Style(-1, -0.9, -1, -1, -11, -6, -0.3, -4, 9, 3, 0.3, -3),
    "angry": Style(5, 0.7, -2, -1, 15, 2, 0.15, 5, -6, 14, 0, 1),
    "fearful": Style(9, -0.2, 1, 1, 3, 3, 0.35, 1, 10, 10, 0.9, 1),
    "disgust": Style(-3, 0.3, -5, -1, 2, -5, -0.3, 2, 3, 22, 0, -7),
    "surprised": Style(7, 1.2, 5, 8, 5, 5, -0.1, 0.5, 5, 0, 0, 3),
    "boredom": Style(-2, -1, -2, -2, -8, -3, -0.4, -2, 3, 0, 0, -2),
}
# Standard deviations: of a clip, and of a speaker's own manner of an emotion. Calibrated so that
# models trained on four speakers reach a UAR of 0.6 to 0.9 on four others, never 1.
CLIP_SPREAD = Style(0.8, 0.2, 0.8, 0.8, 1.2, 0.8, 0.05, 0.5, 1.2, 1.6, 0.06, 0.8)
MANNER_SPREAD = Style(0.4, 0.1, 0.4, 0.4, 0.6, 0.4, 0.025, 0.25, 0.6, 0.8, 0.03, 0.4)


class Take(NamedTuple):
    """What the name of a clip says."""

    speaker: str
    emotion: str
    phones: str
    strength: float = 1.0
    song: bool = False


class Voice(NamedTuple):
    """What a speaker brings along whatever the emotion."""

    pitch: float  # Hz
    tract: float  # factor on a man's formants
    level: float  # dBFS, root mean square of the words
    room: float  # dBFS, root mean square of the noise around them
    pace: float  # factor on the speed


def make_generator(seed: int, key: str) -> np.random.Generator:
    """Make the generator that belongs to a seed and a name, the same on every machine."""
    return np.random.default_rng([seed, zlib.crc32(key.encode())])


def draw_voice(speaker: str, gender: str, seed: int) -> Voice:
    """Draw a speaker's voice."""
    rng = make_generator(seed, speaker)
    man = gender == "male"
    return Voice(
        pitch=rng.uniform(95, 135) if man else rng.uniform(175, 225),
        tract=rng.uniform(0.97, 1.03) if man else rng.uniform(1.12, 1.19),
        level=rng.normal(-36, 1),
        room=rng.uniform(-76, -73),
        pace=rng.uniform(0.92, 1.08),
    )


def draw_style(take: Take, seed: int, rng: np.random.Generator) -> Style:
    """Draw a clip's style: the emotion's, the speaker's manner of it, and chance."""
    own = make_generator(seed, f"{take.speaker} {take.emotion}")
    style = take.strength * np.array(EMOTIONS[take.emotion])
    return Style(*(style + own.normal(0, MANNER_SPREAD) + rng.normal(0, CLIP_SPREAD)))


def articulate(take: Take, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lay the phones out in time: F1 to centre of the hiss, (6, frames); accents 0-1, (frames,)."""
    table = np.array([PHONES[phone] for phone in take.phones])
    vowel = np.array([phone in VOWELS for phone in take.phones])
    length = table[:, 6] * rng.uniform(0.85, 1.15, len(table)) * np.where(vowel & take.song, 2, 1)
    length[vowel.nonzero()[0][-1]] *= 1.4  # the last syllable of a phrase is long
    ends = np.cumsum(length) / length.sum() * frames
    starts, time = np.append(0, ends[:-1]), np.arange(frames)
    # Each phone holds over its middle half and glides to the next.
    knots = np.stack([0.75 * starts + 0.25 * ends, 0.25 * starts + 0.75 * ends], 1).ravel()
    tracks = np.stack([np.interp(time, knots, np.repeat(row, 2)) for row in table.T[:6]])
    height = np.where(vowel, rng.uniform(0, 1, len(table)), 0.2)
    if take.song:  # a note lasts from one vowel to the next
        return tracks, height[vowel][np.searchsorted(starts[vowel][1:], time, side="right")]
    return tracks, np.interp(time, (starts + ends) / 2, height)


def intone(song: bool, style: Style, accents: np.ndarray, hop: float) -> np.ndarray:
    """Compute the pitch, (frames,), in semitones above the speaker's own; `hop` is in s."""
    time, along = hop * np.arange(len(accents)), np.linspace(-0.5, 0.5, len(accents))
    melody = 4 * 2**style.span * (accents - 0.4)
    if song:
        melody = np.round(melody) + 0.4 * np.sin(2 * np.pi * 5.5 * time)  # vibrato
    tremor = max(0, style.tremor) * np.sin(2 * np.pi * 7 * time)
    ending = style.rise * np.maximum(0, 4 * along - 1) ** 1.5
    return style.pitch + (style.slope - 1.5) * along + melody + tremor + ending


def pulse(
    pitch: np.ndarray, hop: int, rate: int, rough: float, rng: np.random.Generator
) -> np.ndarray:
    """Make a glottal pulse train of unit power, (samples,), from the pitch (frames,) in Hz."""
    size, edges = (len(pitch) + 1) * hop, hop * np.arange(1, len(pitch) + 1)
    phase = np.cumsum(pitch) * hop / rate
    at = np.interp(np.arange(1, int(phase[-1])), phase, edges)
    period = np.interp(at, edges, rate / pitch)
    at += period * rough * rng.normal(size=len(at))
    gain = np.sqrt(period) * (1 + 4 * rough * rng.normal(size=len(at)))
    late, whole = np.modf(at)  # a pulse between two samples is shared by them
    whole = whole.astype(int)
    return np.bincount(whole, gain * (1 - late), size) + np.bincount(whole + 1, gain * late, size)


def resonate(
    tracks: np.ndarray, frequencies: np.ndarray, voice: Voice, style: Style
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the gains of pulses and of noise, (frames, bins), at frequencies (bins,) in kHz."""
    tract = voice.tract * (1 + style.mouth / 100)
    swell = 10 ** (style.fade / 20 * np.linspace(-0.5, 0.5, tracks.shape[1]))
    voicing, hiss = (tracks[3:5] * swell)[:, :, None].astype(np.float32)
    *formants, centre = (tracks[[0, 1, 2, 5]] / 1000)[:, :, None].astype(np.float32)
    height = np.zeros((tracks.shape[1], len(frequencies)), np.float32)
    for formant in [*formants, np.float32(3.5), np.float32(4.5)]:
        width = 0.08 + 0.05 * formant * tract
        height += 1 / (1 + ((frequencies - formant * tract) / width) ** 2)
    octave = np.log2(np.maximum(frequencies, 0.25) / 0.5)
    gain = voicing * np.exp(2.5 * height)  # peaks of 22 dB
    breath = 10 ** ((style.breath - 26 + (style.tilt / 2 - 4) * octave) / 20)
    noise = gain * breath + hiss / (1 + (frequencies - centre) ** 2 / 2)
    return gain * 10 ** ((style.tilt - 9) / 20 * octave), noise


def speak(
    take: Take, voice: Voice, style: Style, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Synthesise the words alone, (samples,), at the level of the voice and the style."""
    size = 1024 if rate >= WIDE_BAND else 512  # samples of a window, 21 ms
    hop = size // 2
    seconds = (2.1 if take.song else 1.8) / (voice.pace * 2**style.pace)
    frames = int(np.clip(seconds, 1.3 if rate >= WIDE_BAND else 1.5, 2.5) * rate / hop)
    tracks, accents = articulate(take, frames, rng)
    semitones = intone(take.song, style, accents, hop / rate)
    pitch = np.clip(voice.pitch * 2 ** (semitones / 12), 55, 700)
    pulses = pulse(pitch, hop, rate, max(1, 2 + style.rough) / 1000, rng)
    noise = rng.standard_normal(len(pulses), np.float32)
    window = np.sqrt(np.hanning(size + 1)[:-1]).astype(np.float32)
    frequencies = fft.rfftfreq(size, 1000 / rate).astype(np.float32)
    spectrum = 0
    for source, gain in zip(
        (pulses, noise), resonate(tracks, frequencies, voice, style), strict=True
    ):
        blocks = sliding_window_view(source.astype(np.float32), size)[::hop]
        spectrum = spectrum + fft.rfft(blocks * window) * gain
    blocks = fft.irfft(spectrum, size) * window
    words = np.append(blocks[:, :hop], np.zeros(hop, np.float32))
    words[hop:] += blocks[:, hop:].ravel()
    return words * 10 ** ((voice.level + style.level) / 20) / np.sqrt(np.mean(words**2))
