import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.data.audio import SMALL, decode, open_waveforms

RATE = 48000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def test_16_bit_samples_come_back_as_they_are(tmp_path: Path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 1000).astype(np.int16)
    for suffix in ("wav", "flac"):
        soundfile.write(tmp_path / f"a.{suffix}", samples, RATE, subtype="PCM_16")
        assert np.array_equal(decode(tmp_path / f"a.{suffix}", RATE), samples)


def test_equal_channels_give_the_first_and_others_their_mean(tmp_path: Path):
    left = np.array([100, -200, 32767], np.int16)
    soundfile.write(tmp_path / "equal.wav", np.stack([left, left], 1), RATE)
    assert np.array_equal(decode(tmp_path / "equal.wav", RATE), left)
    soundfile.write(tmp_path / "other.wav", np.stack([left, np.zeros_like(left)], 1), RATE)
    assert np.array_equal(decode(tmp_path / "other.wav", RATE), np.rint(left / 2).astype(np.int16))


@pytest.mark.parametrize("rate", [8000, 24414, 44100, 96000, 192000])
def test_a_tone_keeps_its_pitch_level_and_length_at_any_rate(tmp_path: Path, rate: int):
    soundfile.write(tmp_path / "a.wav", tone(rate=rate), rate)
    heard = decode(tmp_path / "a.wav", RATE)
    assert abs(len(heard) - RATE / 2) <= 2
    expected = tone() * 32768
    middle = slice(RATE // 8, RATE * 3 // 8)
    assert np.abs(heard[middle] - expected[middle]).max() < 40


def test_aiff_under_a_wav_name_and_peaks_above_full_scale(tmp_path: Path):
    soundfile.write(tmp_path / "a.aiff", tone(), RATE)
    shutil.move(tmp_path / "a.aiff", tmp_path / "a.wav")
    assert len(decode(tmp_path / "a.wav", RATE)) == RATE // 2
    soundfile.write(tmp_path / "loud.wav", 5 * tone(), RATE, subtype="FLOAT")
    assert decode(tmp_path / "loud.wav", RATE).max() == 32767


def test_what_is_no_sound_is_one_line(tmp_path: Path):
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "zero.wav").touch()
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    (tmp_path / "broken.wav").symlink_to(tmp_path / "absent.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=path.name):
            decode(path, RATE)


def test_recordings_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for index, path in enumerate(paths):
        soundfile.write(path, tone(0.1 * (index + 1)), RATE)
    first = open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")
    assert [len(first[row]) for row in range(3)] == [4800, 9600, 14400]
    assert np.array_equal(first[1], decode(paths[1], RATE))

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("ser.data.audio.decode", refuse)
        again = open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")
        assert again.notes == first.notes
        soundfile.write(paths[1], tone(0.3), RATE)  # a changed file is another scan
        with pytest.raises(AssertionError, match="decoded again"):
            open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")


def test_a_pool_of_processes_yields_what_one_does(demo: Path, tmp_path: Path):
    paths = sorted(demo.rglob("*.wav"))[: SMALL + 8]
    many = open_waveforms(paths, demo, RATE, tmp_path)
    for row in (0, len(paths) // 2, len(paths) - 1):
        assert np.array_equal(many[row], decode(paths[row], RATE))


def test_every_unreadable_file_is_named_and_nothing_is_left(tmp_path: Path):
    soundfile.write(tmp_path / "good.wav", tone(), RATE)
    for name in ("bad.wav", "worse.wav"):
        (tmp_path / name).write_text("no audio")
    with pytest.raises(ValueError, match=r"2 of 3 .*bad\.wav.*worse\.wav"):
        open_waveforms(sorted(tmp_path.glob("*.wav")), tmp_path, RATE, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").iterdir() if p.suffix != ".lock"]


@pytest.mark.data
def test_the_odd_files_of_the_releases_are_read(recordings: Path):
    quirks = recordings.parent / "quirks"
    lengths = {path.name: len(decode(path, RATE)) / RATE for path in quirks.glob("*.wav")}
    assert len(lengths) == 12
    assert lengths["OAF_food_fear.wav"] == pytest.approx(1.51, abs=0.01)  # 96 kHz
    assert lengths["YAF_germ_angry.wav"] == pytest.approx(2.21, abs=0.01)  # AIFF inside
    twins = [decode(quirks / f"03-01-03-01-02-{take}-07.wav", RATE) for take in ("01", "02")]
    assert np.array_equal(*twins)
