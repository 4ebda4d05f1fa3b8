from collections import Counter
from pathlib import Path

import pytest

from ser.corpora.clip import EMOTIONS
from ser.corpora.scan import from_name, parse, scan


def test_official_names_give_the_official_counts(official: Path):
    found = scan(official)
    assert Counter(clip.corpus for clip in found.clips) == {"ravdess": 2452, "tess": 2800}
    speech = [c for c in found.clips if c.corpus == "ravdess" and c.channel == "speech"]
    assert len(speech) == 1440
    assert Counter(clip.emotion for clip in speech) == {
        name: 96 if name == "neutral" else 192 for name in EMOTIONS
    }
    song = Counter(c.emotion for c in found.clips if c.channel == "song")
    assert song == {"neutral": 92} | dict.fromkeys(
        ("calm", "happy", "sad", "angry", "fearful"), 184
    )
    assert Counter(c.emotion for c in found.clips if c.corpus == "tess")["surprised"] == 400
    assert not found.foreign
    assert not found.copies


def test_a_clip_is_found_by_its_name(official: Path):
    for clip in scan(official).clips:
        assert vars(from_name(clip.name)) | {"path": clip.path} == vars(clip)
    for name in ("", "a", "OAF_back_fear", "../03-01-01-01-01-01-01", "03-01-09-01-01-01-12"):
        assert from_name(name) is None


def test_a_ravdess_name():
    clip = parse(Path("Actor_12/03-01-06-02-01-02-12.flac"))
    assert (clip.emotion, clip.intensity, clip.statement) == ("fearful", "strong", "kids")
    assert (clip.speaker, clip.gender, clip.channel, clip.repetition) == (
        "12",
        "female",
        "speech",
        2,
    )


def test_a_video_differs_from_the_audio_of_its_take_in_modality_and_name_alone():
    audio, video = (parse(Path(f"{code}-02-06-02-01-02-12.mp4")) for code in ("03", "01"))
    facts = vars(audio) | {"clip": video.clip, "path": video.path, "modality": "video"}
    assert audio.modality == "audio"
    assert vars(video) == facts
    assert audio.take == video.take
    assert (audio.name, video.name) == ("03-02-06-02-01-02-12", "01-02-06-02-01-02-12")


@pytest.mark.parametrize(
    ("name", "speaker", "emotion"),
    [
        ("OAF_back_angry.wav", "OAF", "angry"),
        ("OA_bite_neutral.wav", "OAF", "neutral"),
        ("YAF_germ_ps.ogg", "YAF", "surprised"),
        ("yaf_Neat_Fear.WAV", "YAF", "fearful"),
    ],
)
def test_tess_names(name: str, speaker: str, emotion: str):
    clip = parse(Path("OAF_Pleasant_surprise") / name)
    assert (clip.corpus, clip.speaker, clip.emotion) == ("tess", speaker, emotion)


@pytest.mark.parametrize(
    "name",
    [
        "02-01-06-02-01-02-12.mp4",  # a video without sound
        "03-01-09-01-01-01-12.wav",  # no ninth emotion
        "03-01-01-02-01-01-12.wav",  # neutral is never strong
        "03-02-07-01-01-01-12.wav",  # disgust is never sung
        "03-01-06-02-01-02-25.wav",  # no such speaker
        "._03-01-06-02-01-02-12.wav",
        "OAF_back_bored.wav",
        "interview.wav",
    ],
)
def test_other_names_are_foreign(name: str):
    assert parse(Path(name)) is None


def test_scan_takes_a_recording_once_and_counts_the_rest(tmp_path: Path):
    for name in (
        "Actor_12/03-01-06-02-01-02-12.wav",
        "audio_speech/Actor_12/03-01-06-02-01-02-12.flac",
        "oaf/OAF_bite_neutral.wav",
        "oaf/OA_bite_neutral.wav",
        "README.md",
        "interview.wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = scan(tmp_path)
    taken = [clip.path.relative_to(tmp_path).as_posix() for clip in found.clips]
    assert taken == ["Actor_12/03-01-06-02-01-02-12.wav", "oaf/OAF_bite_neutral.wav"]
    assert len(found.copies) == 2
    assert [path.name for path in found.foreign] == ["interview.wav"]
    assert "2 second copies" in found.describe()
    assert "1 audio files of unknown name" in found.describe()


def test_scan_takes_the_modalities_asked_for_in_their_order(tmp_path: Path):
    audio, video, silent = (f"{code}-01-06-02-01-02-12" for code in ("03", "01", "02"))
    for name in (f"{audio}.wav", f"{video}.mp4", f"{video}.wav", f"{silent}.mp4"):
        (tmp_path / name).touch()
    found = {asked: scan(tmp_path, asked) for asked in (("audio",), ("video",), ("video", "audio"))}
    names = [[clip.name for clip in one.clips] for one in found.values()]
    assert names == [[audio], [video], [audio, video]]
    assert [len(one.unasked) for one in found.values()] == [2, 1, 0]
    assert [len(one.copies) for one in found.values()] == [0, 1, 1]
    assert all([path.stem for path in one.foreign] == [silent] for one in found.values())
    assert scan(tmp_path) == found["audio",]


def test_a_modality_of_which_nothing_is_there_is_refused(tmp_path: Path):
    (tmp_path / "03-01-06-02-01-02-12.wav").touch()
    (tmp_path / "OAF_back_sad.wav").touch()
    for asked in (["audio", "video"], ["video"]):
        with pytest.raises(
            ValueError, match=r"data\.modality=\[video\] \(0 other .*, 2 recordings"
        ):
            scan(tmp_path, asked)


def test_links_are_followed_once(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "OAF_back_sad.wav").touch()
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(scan(tmp_path / "link").clips) == 1


def test_a_root_without_clips_says_what_was_expected(tmp_path: Path):
    with pytest.raises(ValueError, match=r"not a folder.*data=demo"):
        scan(tmp_path / "absent")
    (tmp_path / "interview.wav").touch()
    with pytest.raises(ValueError, match=r"no RAVDESS or TESS.*1 other"):
        scan(tmp_path)
