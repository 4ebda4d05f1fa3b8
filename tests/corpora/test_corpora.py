from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from ser.corpora.clip import CHANNELS, EMOTIONS, MODALITIES
from ser.corpora.scan import CORPORA, from_name, official, parse, scan


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


@pytest.mark.parametrize(
    ("corpus", "clips", "emotions"),
    [
        # As their papers and sites count them.
        ("cremad", 7442, [1087, *[1271] * 5]),
        ("emodb", 535, [79, 71, 62, 127, 69, 46, 81]),
        ("savee", 480, [120, *[60] * 6]),
    ],
)
def test_the_releases_hold_what_is_published(corpus: str, clips: int, emotions: list[int]):
    held = official([corpus], CHANNELS, MODALITIES).values()
    assert len(held) == clips
    counts = Counter(clip.emotion for clip in held)
    assert [counts[emotion] for emotion in CORPORA[corpus].emotions] == emotions
    assert {clip.speaker for clip in held} == {*CORPORA[corpus].speakers}


def test_speakers_are_as_published():
    genders = {name: Counter(corpus.speakers.values()) for name, corpus in CORPORA.items()}
    assert genders["cremad"] == {"male": 48, "female": 43}
    assert genders["emodb"] == {"male": 5, "female": 5}
    assert genders["savee"] == {"male": 4}
    ages = CORPORA["cremad"].ages
    assert (min(ages.values()), max(ages.values()), ages["1034"]) == (20, 74, 74)
    assert (CORPORA["emodb"].ages["09"], CORPORA["emodb"].speakers["09"]) == (21, "female")
    counts = Counter(clip.speaker for clip in official(["emodb"], CHANNELS, MODALITIES).values())
    assert [counts[name] for name in CORPORA["emodb"].speakers] == [
        *(49, 58, 43, 38, 55, 35, 61, 69, 56, 71),
    ]


def test_each_official_name_is_one_clip_of_one_corpus():
    names = [path for corpus in CORPORA.values() for path in corpus.official()]
    clips = {}
    for path in names:
        (clip,) = filter(None, (corpus.parse(path) for corpus in CORPORA.values()))
        corpus = CORPORA[clip.corpus]
        assert clip.emotion in corpus.emotions
        assert clip.gender == corpus.speakers[clip.speaker]
        assert asdict(from_name(clip.name)) | {"path": path} == asdict(clip)
        clips[clip.clip] = clip
    assert len(clips) == len(names)
    assert len({clip.take for clip in clips.values() if clip.modality == "audio"}) == len(
        official(CORPORA, CHANNELS, ["audio"])
    )


def test_a_clip_is_found_by_its_name(official: Path):
    for clip in scan(official).clips:
        assert asdict(from_name(clip.name)) | {"path": clip.path} == asdict(clip)
    for name in ("", "a", "OAF_back_fear", "../03-01-01-01-01-01-01", "03-01-09-01-01-01-12"):
        assert from_name(name) is None
    for name in ("a01", "DC/a01", "DC_a1", "1040_ITH_SAD_X", "03A01FA", "DC_a01_"):
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
    facts = asdict(audio) | {"clip": video.clip, "path": video.path, "modality": "video"}
    assert audio.modality == "audio"
    assert asdict(video) == facts
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
    ("name", "facts"),
    [
        # Clip, speaker, gender, emotion, intensity, statement and repetition.
        (
            "AudioWAV/1001_DFA_ANG_XX.wav",
            "cremad/1001_DFA_ANG_XX 1001 male angry unspecified DFA 1",
        ),
        ("1002_ieo_fea_hi.flac", "cremad/1002_IEO_FEA_HI 1002 female fearful strong IEO 1"),
        ("1040_ITH_SAD_X.wav", "cremad/1040_ITH_SAD_XX 1040 male sad unspecified ITH 1"),
        ("1091_IEO_HAP_LO.wav", "cremad/1091_IEO_HAP_LO 1091 female happy low IEO 1"),
        ("wav/03a01Fa.wav", "emodb/03a01Fa 03 male happy normal a01 1"),
        ("16B10TD.ogg", "emodb/16b10Td 16 female sad normal b10 4"),
        ("08b02Ff.wav", "emodb/08b02Ff 08 female happy normal b02 6"),
        ("14a07Ld.wav", "emodb/14a07Ld 14 female boredom normal a07 4"),
        ("AudioData/DC/a01.wav", "savee/DC_a01 DC male angry normal 01 1"),
        ("ALL/DC_a01.wav", "savee/DC_a01 DC male angry normal 01 1"),
        ("JE/KL_su15.wav", "savee/KL_su15 KL male surprised normal su15 1"),
        ("jk/SA04.WAV", "savee/JK_sa04 JK male sad normal sa04 1"),
        ("JK/n30.wav", "savee/JK_n30 JK male neutral normal n30 1"),
    ],
)
def test_names_of_the_other_corpora(name: str, facts: str):
    clip = parse(Path(name))
    said = (clip.speaker, clip.gender, clip.emotion, clip.intensity, clip.statement)
    assert " ".join((clip.clip, *said, str(clip.repetition))) == facts
    assert (clip.path, clip.channel, clip.modality) == (Path(name), "speech", "audio")


@pytest.mark.parametrize(
    "name",
    [
        "02-01-06-02-01-02-12.mp4",  # a video without sound
        "1092_DFA_ANG_XX.wav",  # no such speaker
        "1001_DFA_ANG_HI.wav",  # of one sentence alone there are levels
        "1001_IEO_ANG_XX.wav",
        "1001_IEO_NEU_LO.wav",  # and none of neutral
        "1001_DFA_SUR_XX.wav",
        "AudioMP3/1064_IEO_DIS_MD.mp3",  # what raters heard
        "04a01Fa.wav",  # no such speaker
        "03a03Fa.wav",  # text
        "03a01Ga.wav",  # or emotion
        "03a01F.wav",
        "laryngo/03a01Fa.wav",  # no voice
        "a01.wav",  # nobody's
        "AB/a01.wav",
        "AB_a01.wav",
        "DC/a16.wav",  # fifteen of each emotion
        "DC/a00.wav",
        "DC/n31.wav",  # thirty neutral ones
        "DC/s01.wav",
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


def test_what_lies_beside_the_recordings_of_a_release_is_not_taken_for_them(tmp_path: Path):
    names = {
        "CREMA-D/AudioMP3/1001_DFA_ANG_XX.mp3": False,
        "CREMA-D/AudioWAV/1001_DFA_ANG_XX.wav": True,
        "emodb/laryngo/03a01Fa.wav": False,
        "emodb/wav/03a01Fa.wav": True,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = scan(tmp_path)
    taken = [clip.path.relative_to(tmp_path).as_posix() for clip in found.clips]
    assert taken == [name for name, of_it in names.items() if of_it]
    assert (len(found.foreign), found.copies) == (2, ())


def test_both_layouts_of_savee_are_one_recording(tmp_path: Path):
    for name in ("AudioData/JK/a01.wav", "AudioData/KL/a01.wav", "ALL/KL_a01.wav", "a01.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = scan(tmp_path)
    assert [clip.clip for clip in found.clips] == ["savee/KL_a01", "savee/JK_a01"]
    assert [path.parent.name for path in found.copies] == ["KL"]
    assert [path.name for path in found.foreign] == ["a01.wav"]


def test_synthetic_corpora_are_found_by_their_official_names(synthetic: Path):
    found = scan(synthetic)
    assert Counter(clip.corpus for clip in found.clips) == {"cremad": 72, "emodb": 135, "savee": 56}
    assert (found.foreign, found.copies) == ((), ())
    for name in ("cremad", "emodb", "savee"):
        clips = [clip for clip in found.clips if clip.corpus == name]
        assert {clip.emotion for clip in clips} == {*CORPORA[name].emotions}
        assert {clip.path.parts[len(synthetic.parts)] for clip in clips} == {name}
    assert found.describe() == f"{synthetic}: 72 cremad, 135 emodb, 56 savee clips"


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
    with pytest.raises(ValueError, match=r"no RAVDESS, TESS, .* or SAVEE recording .*\(1 other"):
        scan(tmp_path)
