import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from joblib import Parallel, cpu_count, delayed

from ser.audio.clips import SMALL, open_waveforms
from ser.audio.decode import decode, decode_and_peak

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


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_of_any_width_are_those_of_16_bit(tmp_path: Path, subtype: str):
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype=subtype)
    step = 256 if subtype == "PCM_U8" else 1
    assert np.abs(decode(tmp_path / "a.wav", RATE) - tone() * 32768).max() <= step


def test_a_tenth_of_a_second_a_name_in_another_script_and_digital_silence(tmp_path: Path):
    path = tmp_path / "声音 и голос=[1].wav"
    soundfile.write(path, tone(0.1, 16000), 16000)
    assert len(decode(path, RATE)) == 4800
    soundfile.write(path, np.zeros(1000), RATE)
    assert np.array_equal(decode(path, RATE), np.zeros(1000, np.int16))


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "FLOAT"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", None)],
)
def test_what_is_read_in_blocks_is_what_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, subtype: str | None
):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(2, 44100), tone(2, 44100, 300)], 1), 44100, subtype)
    with path.open("rb") as file:
        frames, _ = soundfile.read(file, dtype="float32")
    expected = np.rint(soxr.resample(frames.mean(axis=1), 44100, RATE) * 32768)
    monkeypatch.setattr("ser.audio.containers.BLOCK", 1000)
    assert np.array_equal(decode(path, RATE), expected)


@pytest.mark.slow
def test_an_hour_is_read_in_little_more_memory_than_its_samples(tmp_path: Path):
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        for _ in range(360):
            file.write(np.stack([tone(10, 44100)] * 2, 1))
    code = (
        "import resource, sys; from ser.audio.decode import decode; begin = "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        f"count = len(decode({str(path)!r}, {RATE})); "
        "print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    samples, kilobytes = map(int, shown.stdout.split())
    assert samples == 3600 * RATE
    assert kilobytes < 650_000  # the samples are 338 000


def header(path: Path, place: int, value: int, size: int = 4) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + size] = value.to_bytes(size, "little")
    path.write_bytes(content)


def test_what_is_no_sound_is_one_line(tmp_path: Path):
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "zero.wav").touch()
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("huge", 1e30)):
        soundfile.write(tmp_path / f"{name}.wav", np.array([0.0, value]), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "six.wav", np.zeros((100, 6)), RATE)
    for name, rate in (("rate0", 0), ("rate1", 1), ("rate1000000000", 10**9)):
        soundfile.write(tmp_path / f"{name}.wav", tone(), RATE)
        header(tmp_path / f"{name}.wav", 24, rate)
    for name, length in (("long", 2**31), ("endless", 2**32 - 1), ("short", 20001)):
        soundfile.write(tmp_path / f"{name}.wav", tone(), RATE)
        header(tmp_path / f"{name}.wav", 40, length)
    (tmp_path / "broken.wav").symlink_to(tmp_path / "absent.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=rf"{path.name}: \S") as error:
            decode(path, RATE)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="has 6 channels: expected mono or stereo"):
        decode(tmp_path / "six.wav", RATE)
    with pytest.raises(ValueError, match="has a sample rate of 1 Hz: expected 4000 to 384000"):
        decode(tmp_path / "rate1.wav", RATE)
    with pytest.raises(ValueError, match="data promises 2147483648 bytes, 48000 are there"):
        decode(tmp_path / "long.wav", RATE)


def test_what_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root may read what others may not
    with pytest.raises(ValueError, match=r"a\.wav: cannot be opened \(Permission denied\)"):
        decode(tmp_path / "a.wav", RATE)


def test_a_wav_is_whole_whatever_stands_around_its_samples(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE)
    content = path.read_bytes()
    note = b"note" + (5001).to_bytes(4, "little") + bytes(5001)
    some = content[12:36] + note + b"\0" + content[36:] + note + note  # unpadded: many do so
    whole = b"RIFF" + (4 + len(some)).to_bytes(4, "little") + b"WAVE" + some
    path.write_bytes(whole + b"TAG" + bytes(125))
    assert len(decode(path, RATE)) == RATE // 2
    path.write_bytes(whole[:-10100])
    with pytest.raises(ValueError, match=r"cut off: data promises 48000 bytes, 47918 are there"):
        decode(path, RATE)


def test_an_mp3_of_variable_rate_is_read_whole(tmp_path: Path):
    path = tmp_path / "a.mp3"
    loud = np.random.default_rng(0).normal(0, 0.2, 3 * RATE)
    soundfile.write(path, np.append(tone(3), loud), RATE, bitrate_mode="VARIABLE")
    assert len(decode(path, RATE)) == 6 * RATE


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
        patch.setattr("ser.audio.clips.decode_and_peak", refuse)
        again = open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")
        assert again.notes == first.notes
        soundfile.write(paths[1], tone(0.3), RATE)  # a changed file is another scan
        with pytest.raises(AssertionError, match="decoded again"):
            open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")


def test_only_touched_files_are_read_again_and_only_new_content_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root, cache = tmp_path / "data", tmp_path / "cache"
    root.mkdir()
    paths = [root / f"{name}.wav" for name in "abc"]
    for index, path in enumerate(paths):
        soundfile.write(path, tone(hertz=300 + 100 * index), RATE)
        os.utime(path, (1, 1))
    first = open_waveforms(paths, root, RATE, cache)
    hashed = []

    def count(file: io.BufferedReader, name: str, of: Callable = hashlib.file_digest):
        hashed.append(Path(file.name).name)
        return of(file, name)

    monkeypatch.setattr("ser.cache.fingerprints.hashlib.file_digest", count)
    with monkeypatch.context() as patch:
        patch.setattr("ser.audio.clips.decode_and_peak", lambda *_: pytest.fail("decoded again"))
        open_waveforms(paths, root, RATE, cache)
        assert hashed == []
        shutil.copy2(paths[1], root / "copy")
        (root / "copy").replace(paths[1])  # the same content in another file
        open_waveforms(paths, root, RATE, cache)
        assert hashed == ["b.wav"]
        moved = root.rename(tmp_path / "moved")
        store = open_waveforms([moved / path.name for path in paths], moved, RATE, cache)
        assert store.notes == first.notes
        moved.rename(root)
        for memory in cache.glob("files-*.json"):
            memory.write_text('{"a.wav": 3, "b.wav": []')
        open_waveforms(paths, root, RATE, cache)
        assert len(hashed) == 1 + 3 + 3
    paths[0].rename(root / "third")  # two files of one size and time are swapped
    paths[1].rename(paths[0])
    (root / "third").rename(paths[1])
    swapped = open_waveforms(paths, root, RATE, cache)
    assert [swapped.notes[row] for row in (1, 0, 2)] == list(first.notes)
    assert np.array_equal(swapped[0], first[1])


def test_a_file_replaced_while_it_is_read_stands_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root, same, cache = tmp_path / "data", tmp_path / "same", tmp_path / "cache"
    root.mkdir()
    path = root / "a.wav"
    soundfile.write(path, tone(), RATE)
    shutil.copytree(root, same)
    soundfile.write(tmp_path / "b.wav", tone(hertz=300), RATE)

    def replace_and_decode(file: Path, rate: int) -> tuple[np.ndarray, float]:
        shutil.copy(tmp_path / "b.wav", file)
        return decode_and_peak(file, rate)

    with monkeypatch.context() as patch:
        patch.setattr("ser.audio.clips.decode_and_peak", replace_and_decode)
        with pytest.raises(ValueError, match=r"a\.wav changed while it was read: expected"):
            open_waveforms([path], root, RATE, cache)
    for file, folder in ((same / "a.wav", same), (path, root)):
        assert np.array_equal(open_waveforms([file], folder, RATE, cache)[0], decode(file, RATE))


@pytest.mark.usefixtures("pools")
def test_a_pool_of_processes_yields_what_one_does(demo: Path, tmp_path: Path):
    paths = sorted(demo.rglob("*.wav"))[: SMALL + 8]
    many = open_waveforms(paths, demo, RATE, tmp_path)
    for row in (0, len(paths) // 2, len(paths) - 1):
        assert np.array_equal(many[row], decode(paths[row], RATE))


@pytest.mark.usefixtures("pools")
def test_a_pool_within_a_worker_or_of_one_process_leaves_ctrl_c_as_it_was(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    paths = sorted(demo.rglob("*.wav"))[: SMALL + 8]

    def handler_after(number: int) -> tuple[int, object]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        store = open_waveforms(paths, demo, RATE, tmp_path / str(number))
        return len(store), signal.getsignal(signal.SIGINT)

    expected = len(paths), signal.default_int_handler
    # Within a worker of joblib's launcher the pool is one of threads.
    nested = Parallel(2)(delayed(handler_after)(number) for number in range(2))
    assert nested == [expected, expected]
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    assert handler_after(2) == expected


def test_an_unreadable_file_is_an_empty_row_that_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    paths = [tmp_path / name for name in ("bad.wav", "gone.wav", "good.wav", "loud.wav")]
    paths[0].write_text("no audio")
    soundfile.write(paths[2], tone(), RATE)
    soundfile.write(paths[3], 4 * tone(), RATE, subtype="FLOAT")
    first = open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")
    assert "1 recordings have peaks above full scale" in caplog.text
    assert [len(first[row]) for row in range(4)] == [0, 0, RATE // 2, RATE // 2]
    assert first.notes[0] == "error: not readable as audio (Format not recognised.)"
    assert first.notes[1] == "error: is no regular file"
    assert open_waveforms(paths, tmp_path, RATE, tmp_path / "cache").key == first.key

    with pytest.MonkeyPatch.context() as patch:  # as a decoder that was not installed
        patch.setattr(
            "ser.audio.clips.decode_and_peak",
            lambda path, rate: decode_and_peak(paths[2] if path == paths[0] else path, rate),
        )
        mended = open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")
        again = open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")
    assert mended.key == again.key != first.key
    assert np.array_equal(mended[0], decode(paths[2], RATE))
    assert mended.notes[1:] == first.notes[1:]
    assert np.array_equal(mended[2], first[2])


def test_when_nothing_can_be_read_nothing_is_left(tmp_path: Path):
    paths = [tmp_path / "bad.wav", tmp_path / "worse.wav"]
    paths[0].write_text("no audio")
    with pytest.raises(ValueError, match=r"none of 2 .*bad\.wav: not .*worse\.wav: is no regular"):
        open_waveforms(paths, tmp_path, RATE, tmp_path / "cache")
    left = [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]
    assert [name.partition("-")[0] for name in left] == ["files"]


@pytest.mark.data
def test_the_odd_files_of_the_releases_are_read(recordings: Path):
    quirks = recordings.parent / "quirks"
    lengths = {path.name: len(decode(path, RATE)) / RATE for path in quirks.glob("*.wav")}
    assert len(lengths) == 12
    assert lengths["OAF_food_fear.wav"] == pytest.approx(1.51, abs=0.01)  # 96 kHz
    assert lengths["YAF_germ_angry.wav"] == pytest.approx(2.21, abs=0.01)  # AIFF inside
    twins = [decode(quirks / f"03-01-03-01-02-{take}-07.wav", RATE) for take in ("01", "02")]
    assert np.array_equal(*twins)


def children(process: int) -> list[str]:
    """List the processes that one has started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [child for path in lists for child in path.read_text().split()]


def is_deaf(process: str) -> bool:
    """Whether a process ignores Ctrl-C."""
    (ignored,) = re.findall(r"SigIgn:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return bool(int(ignored, 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.usefixtures("pools")
def test_an_interrupted_decoding_says_nothing_of_its_workers(tmp_path: Path):
    """Ctrl-C goes to all processes of the terminal."""
    samples = np.random.default_rng(0).normal(0, 0.1, 20 * 44100)
    soundfile.write(tmp_path / "0.wav", samples, 44100)
    for number in range(1, 2000):
        os.link(tmp_path / "0.wav", tmp_path / f"{number}.wav")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ser.audio.clips import open_waveforms\n"
        "root = Path(sys.argv[1])\n"
        "try:\n"
        "    open_waveforms(sorted(root.glob('*.wav')), root, 48000, root / 'cache')\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (len(found := children(process.pid)) > cpu_count() and all(map(is_deaf, found))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""
