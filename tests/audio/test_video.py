"""Videos: mp4 files, made here, whose sound is that of the embedded corpus's audio files."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.signal import correlate

from ser.audio.clips import open_waveforms
from ser.audio.decode import decode, decode_and_peak
from ser.audio.window import Window
from ser.data.datamodule import EmotionDataModule
from ser.splits.protocols import Holdout, Random, SplitProtocol

RATE = 48000
WINDOW = Window(3.0, {"ravdess": 1.0, "tess": 0.0, "other": "onset"})
CLASSES = ["neutral", "happy", "sad"]
NAMES = [
    f"01-{code}-01-01-01-{speaker:02}" for speaker in range(1, 7) for code in ("01", "03", "04")
]


def write_video(path: Path, samples: np.ndarray | None, rate: int = RATE) -> Path:
    """Write three small pictures and, where there are samples (channels, samples), AAC audio."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=30)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        if samples is not None:
            layout = "mono" if len(samples) == 1 else "stereo"
            audio = container.add_stream("aac", rate=rate, layout=layout)
            frame = av.AudioFrame.from_ndarray(
                samples.T.reshape(1, -1).copy(), format="s16", layout=layout
            )
            frame.sample_rate = rate
            container.mux([*audio.encode(frame), *audio.encode(None)])
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for _ in range(3):
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def root(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers' clips of three emotions, as audio and as video."""
    root = tmp_path_factory.mktemp("video")
    for name in NAMES:
        source = demo / f"Actor_{name[-2:]}" / f"03-{name}.wav"
        shutil.copy(source, root)
        samples, _ = soundfile.read(source, dtype="int16", always_2d=True)
        write_video(root / f"01-{name}.mp4", samples.T)
    write_video(root / f"02-{NAMES[0]}.mp4", None)
    return root


@pytest.fixture
def fresh(root: Path, tmp_path: Path) -> Callable[..., EmotionDataModule]:
    def make(modality: list[str], protocol: SplitProtocol | None = None) -> EmotionDataModule:
        protocol, cache = protocol or Holdout(), str(tmp_path / "cache")
        data = EmotionDataModule(
            str(root), WINDOW, protocol, modality=modality, keep=CLASSES, cache=cache
        )
        data.setup("fit")
        return data

    return make


@pytest.fixture
def without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (48000, 2), (44100, 1)])
def test_the_sound_of_a_video_is_that_of_its_audio(
    demo: Path, tmp_path: Path, rate: int, channels: int
):
    source = demo / "Actor_01" / f"03-{NAMES[0]}.wav"
    said = decode(source, RATE)
    written = np.tile(decode(source, rate), (channels, 1))
    heard = decode(write_video(tmp_path / "a.mp4", written, rate), RATE)
    assert heard.dtype == np.int16
    lags = correlate(heard.astype(float), said.astype(float))
    delay = int(lags.argmax()) - (len(said) - 1)
    assert abs(delay) <= 2112  # what encoders of AAC put before the sound, at most
    heard = heard[max(delay, 0) :]
    length = min(len(said), len(heard))
    assert length > 0.95 * len(said)
    assert np.corrcoef(heard[:length], said[:length])[0, 1] > 0.99
    assert heard.std() == pytest.approx(said.std(), rel=0.05)


def test_a_modality_selects_and_moves_no_speaker(fresh):
    audio, video, both = fresh(["audio"]), fresh(["video"]), fresh(["video", "audio"])
    assert set(audio.table.modality) == {"audio"}
    assert set(video.table.modality) == {"video"}
    assert [len(data.table) for data in (audio, video, both)] == [18, 18, 36]
    assert both.table.modality.to_list() == ["audio"] * 18 + ["video"] * 18
    assert audio.audit["speakers"] == video.audit["speakers"] == both.audit["speakers"]
    assert both.audit["passed"]
    assert "1 audio files of unknown name left out (02-" in audio.found.describe()
    assert "18 left out by data.modality=[audio]" in audio.found.describe()
    assert "36 ravdess clips, 18 of them videos" in both.found.describe()
    for row, clip in enumerate(both.found.clips):
        heard = decode(clip.path, RATE)
        assert np.array_equal(both.reader.waveforms[row], heard)


def test_audio_is_decoded_once_for_all_modalities(fresh, monkeypatch: pytest.MonkeyPatch):
    decoded = []

    def count(path: Path, sample_rate: int) -> tuple[np.ndarray, float]:
        decoded.append(path.suffix)
        return decode_and_peak(path, sample_rate)

    monkeypatch.setattr("ser.audio.clips.decode_and_peak", count)
    first = fresh(["audio"])
    assert decoded == [".wav"] * 18
    both = fresh(["audio", "video"])
    assert decoded == [".wav"] * 18 + [".mp4"] * 18
    fresh(["video"])
    assert len(decoded) == 36
    assert [*both.reader.waveforms.blocks()] != [*first.reader.waveforms.blocks()]


def test_a_random_split_shows_how_many_test_clips_have_their_take_in_training(fresh):
    data = fresh(["audio", "video"], Random())
    takes = data.table.path.str[3:-4]
    sides = data.table.split.groupby(takes).nunique()
    tested = (takes.map(sides) == 2) & (data.table.split == "test")
    assert data.audit["takes_shared"] == (sides == 2).sum() > 0
    assert data.audit["test_takes_trained"] == tested.sum() > 0
    assert data.audit["test_repetitions_trained"] == 0
    assert data.audit["samples_shared"] == []
    assert not data.audit["passed"]


def test_a_run_with_videos_scores_the_same_from_its_checkpoint_and_their_files(
    launch: Callable[..., Path], root: Path
):
    run = launch(
        "train",
        f"data.root={root}",
        "data.modality=[audio,video]",
        f"data.keep=[{','.join(CLASSES)}]",
        "model=logistic",
    )
    clips = pd.read_csv(run / "predictions.csv", dtype={"speaker": str})
    assert clips.modality.value_counts().to_dict() == {"audio": 6, "video": 6}
    ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    again = pd.read_csv(
        launch("eval", ckpt, folder="again") / "predictions.csv", dtype={"speaker": str}
    )
    pd.testing.assert_frame_equal(again, clips)

    videos = root.parent / "videos"
    videos.mkdir()
    tested = clips[clips.modality == "video"].set_index("path").filter(like="p_")
    for path in tested.index:
        shutil.copy(root / path, videos)
    scored = launch("eval", ckpt, f"input={videos}", folder="input") / "predictions.csv"
    found = pd.read_csv(scored).assign(path=lambda rows: rows.path.map(lambda p: Path(p).name))
    assert found.error.isna().all()
    found = found.set_index("path").filter(like="p_").loc[tested.index]
    assert np.allclose(found, tested, atol=1e-4)


def test_an_mp4_without_sound_is_one_line(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.m4a").touch()
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=rf"{path.name}: not readable as audio \(.*Invalid"):
            decode(path, RATE)
    silent = write_video(tmp_path / "silent.mp4", None)
    with pytest.raises(ValueError, match=r"silent\.mp4: not readable .*it has no audio stream"):
        decode(silent, RATE)


def test_without_pyav_one_line_names_the_extra(fresh, root: Path, tmp_path: Path, without_av):
    video = root / f"01-{NAMES[0]}.mp4"
    with pytest.raises(ValueError, match=rf"{video.name}: .* --extra video eval\.py"):
        decode(video, RATE)
    with pytest.raises(ValueError, match=r"^reading \.m4a and \.mp4 needs PyAV .* --extra video"):
        open_waveforms([video, video], root, RATE, tmp_path)
    assert len(fresh(["audio"]).table) == 18  # the videos that lie there are not read


def test_what_is_asked_for_is_checked(tmp_path: Path):
    (tmp_path / f"03-{NAMES[0]}.wav").touch()
    data = EmotionDataModule(str(tmp_path), WINDOW, Holdout(), modality=["video"])
    message = r"modality=\[video\] \(0 other audio files, 1 recordings of another modality\)"
    with pytest.raises(ValueError, match=message):
        data.setup("fit")
