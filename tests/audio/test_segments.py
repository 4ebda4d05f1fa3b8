"""Segments: parts of a file, all cut from one decoding of it."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.audio.clips import BEYOND, ERROR, locate, open_clips, open_waveforms
from ser.audio.decode import decode, decode_and_peak

RATE = 16000


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """Ten seconds of noise at another rate than it is read at."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 10 * 22050), 22050)
    return path


def test_segments_are_the_samples_of_the_decoded_whole_which_is_decoded_once(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded = []

    def count(path: Path, rate: int) -> tuple[np.ndarray, float]:
        decoded.append(path)
        return decode_and_peak(path, rate)

    monkeypatch.setattr("ser.audio.clips.decode_and_peak", count)
    spans = [(0.0, 1.5), (1.5, 4.25), (2.0, 3.0), (9.0, None)]
    store = open_waveforms([long] * 4, tmp_path, RATE, tmp_path / "cache", spans)
    assert decoded == [long]
    whole = decode(long, RATE)
    parts = [whole[:24000], whole[24000:68000], whole[32000:48000], whole[144000:]]
    for row, part in enumerate(parts):
        assert np.array_equal(store[row], part)
        assert store.notes[row] == sha256(part.tobytes()).hexdigest()
    again = open_waveforms([long] * 4, tmp_path, RATE, tmp_path / "cache", spans)
    other = open_waveforms([long] * 4, tmp_path, RATE, tmp_path / "cache", [(0.0, 1.0), *spans[1:]])
    assert again.key == store.key != other.key
    assert len(other[0]) == RATE


def test_whole_files_have_the_key_that_they_had_without_segments(long: Path, tmp_path: Path):
    plain = open_waveforms([long], tmp_path, RATE, tmp_path / "cache")
    assert (
        open_waveforms([long], tmp_path, RATE, tmp_path / "cache", [(0.0, None)]).key == plain.key
    )


def test_a_segment_beyond_its_file_is_told_and_costs_no_other(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "text.wav").write_text("no audio")
    pieces = [(long, (0.0, 10.04)), (long, (9.5, 11.0)), (long, (12.0, None))]
    pieces += [(tmp_path / "text.wav", (0.0, 1.0)), (tmp_path / "text.wav", (1.0, 2.0))]
    found = open_clips([pieces], tmp_path, RATE, tmp_path / "cache", "skip")
    assert (len(found.waveforms), found.readable) == (1, (0,))
    assert len(found.waveforms[0]) == 10 * RATE  # an end that was rounded up
    assert dict(found.unreadable) == {
        "long.wav#9.5-11": "its segment 9.5 to 11 s is not in the file, of 10.00 s",
        "long.wav#12-": "its segment from 12 s is not in the file, of 10.00 s",
        "text.wav": "not readable as audio (Format not recognised.)",
    }
    with pytest.raises(ValueError, match=r"4 of 5 .* long\.wav#9\.5-11: its segment"):
        open_clips([pieces], tmp_path, RATE, tmp_path / "cache", "raise")
    tried = []
    monkeypatch.setattr(
        "ser.audio.clips.decode_and_peak",
        lambda path, rate: tried.append(path.name) or decode_and_peak(path, rate),
    )
    open_clips([pieces], tmp_path, RATE, tmp_path / "cache", "skip")
    assert tried == ["text.wav"]  # once for its two segments; the other file can be read


def test_where_a_segment_lies():
    assert locate((0.0, None), 100, 10) == ((0, 100), None)
    assert locate((2.5, 5.0), 100, 10) == ((25, 50), None)
    for span in ((10.0, None), (10.0, 11.0), (1.0, 1.01)):
        place, reason = locate(span, 100, 10)
        assert place == (0, 0)
        assert f"{ERROR}{reason}".startswith(BEYOND)


@pytest.mark.slow
def test_a_long_file_is_not_held_once_for_each_of_its_segments(tmp_path: Path):
    path = tmp_path / "half_an_hour.wav"
    soundfile.write(path, np.zeros(30 * 60 * RATE, np.int16), RATE)  # 58 MB
    code = (
        "import resource\nfrom pathlib import Path\n"
        "from ser.audio.clips import open_waveforms\n"
        f"path, root = Path({str(path)!r}), Path({str(tmp_path)!r})\n"
        "begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "spans = [(float(i), i + 1.0) for i in range(1000)]\n"
        f"store = open_waveforms([path] * 1000, root, {RATE}, root / 'cache', spans)\n"
        "print(len(store), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin) / 1e3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, grown = done.stdout.split()[-2:]
    assert int(count) == 1000
    assert float(grown) < 3 * 58  # MB
