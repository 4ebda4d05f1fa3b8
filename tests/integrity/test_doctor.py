import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.corpora.clip import CHANNELS
from ser.corpora.scan import CORPORA, official, parse, scan
from ser.integrity import rules
from ser.integrity.measure import Examination, examine, longest_run
from ser.integrity.rules import levels, outliers

RATE = 48000
SPEECH = "03-01-05-01-02-01-{speaker:02}"
RAVDESS = {"data.corpora": "[ravdess]", "data.channels": "[speech]"}


def voice(seconds: float = 3.5, rate: int = RATE, seed: int = 0, peak: float = 0.1) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(-peak, peak, round(seconds * rate))
    return np.rint(32768 * noise).astype(np.int16)  # the same in any lossless container


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, dict]]:
    """Run the command on a folder; gives its exit code and doctor.json."""

    def run(root: Path, *overrides: str) -> tuple[int, dict]:
        target = tmp_path / "seen"
        arguments = [f"data.root='{root}'", *overrides, f"hydra.run.dir={target}"]
        monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
        # Run as a program it must not be there already as a module.
        monkeypatch.delitem(sys.modules, "ser.doctor", raising=False)
        code = 0
        before = state(root)
        try:
            runpy.run_module("ser.doctor", run_name="__main__")
        except SystemExit as end:
            code = end.code
        assert state(root) == before
        path = target / "doctor.json"
        return code, json.loads(path.read_text()) if path.exists() else {}

    return run


def state(root: Path) -> list[tuple]:
    """List what lies below a folder, with sizes and times of change."""
    found = [root, *root.rglob("*")] if root.is_dir() else []
    return sorted((str(path), (s := path.lstat()).st_size, s.st_mtime_ns) for path in found)


def kinds(content: dict) -> dict[tuple[str, str], int]:
    """Give the severity of findings by path and kind, but for those of missing clips."""
    found = content["findings"]
    return {(f["path"], f["kind"]): f["severity"] for f in found if f["kind"] != "missing"}


def sound(name: str, **facts: object) -> Examination:
    """Examine, as it were, a clip as the release has it."""
    clip = parse(Path(name))
    corpus = CORPORA[clip.corpus]
    odd = corpus.oddities
    usual = {
        "container": "WAV",
        "subtype": "PCM_16",
        "sample_rate": odd.rates.get(clip.name, corpus.releases[clip.channel].sample_rate),
        "channels": 2 if clip.name in odd.stereo else 1,
        "seconds": sum(corpus.seconds_of(clip)) / 2,
        "peak": 0.1,
        "rms": 0.01,
        "samples_sha256": "the pair" if clip.name in odd.alike else name,
        "file_sha256": odd.files.get(clip.name, (0, ""))[1],
    }
    if clip.name in odd.aiff:
        usual["container"] = "AIFF"
    if clip.name in odd.silent:
        usual |= {"peak": 0.0, "rms": 0.0}
    return Examination(Path(name), **(usual | facts))


def test_the_releases_hold_the_official_names(request: pytest.FixtureRequest):
    held = official(CORPORA, CHANNELS, ("audio",))
    files = scan(request.getfixturevalue("official")).clips
    ravdess = {clip.clip for clip in files if clip.corpus == "ravdess"}
    assert {name for name, clip in held.items() if clip.corpus == "ravdess"} == ravdess
    assert len(held) == 2452 + 2800 + 7442 + 535 + 480
    both = official(CORPORA, CHANNELS, ("audio", "video"))
    assert len(both) == len(held) + 2452
    assert len(official(["ravdess"], ["song"], ["video"])) == 1012
    for corpus in CORPORA.values():
        for names in vars(corpus.oddities).values():
            known = () if names is None or isinstance(names, int) else names
            assert {f"{corpus.name}/{name}" for name in known} <= held.keys()


def test_a_full_release_has_nothing_but_notes():
    held = official(CORPORA, CHANNELS, ("audio",))
    names = {str(clip.path): clip for clip in held.values()}
    names["OA_bite_neutral.wav"] = names.pop("OAF_bite_neutral.wav")
    pairs = [(clip, sound(name)) for name, clip in names.items()]
    found = [
        *rules.lacking(held, held),
        *(finding for clip, seen in pairs for finding in rules.judge(clip, seen)),
        *rules.alike(pairs),
        *rules.zeros(pairs),
    ]
    assert {finding.severity for finding in found} == {"note"}
    assert {finding.advice for finding in found} == {"nothing to do"}
    counted = {kind: sum(f.kind == kind for f in found) for kind in {f.kind for f in found}}
    assert counted == {
        **{"channels": 6, "duplicate": 1, "container": 2, "rate": 1, "name": 1, "silent": 1},
    }


@pytest.mark.parametrize(
    ("name", "facts", "expected"),
    [
        ("03-01-05-01-02-01-12.wav", {"seconds": 2.94}, {}),
        ("03-01-05-01-02-01-12.wav", {"seconds": 1.5}, {"foreign": "fatal"}),
        ("03-01-05-01-02-01-12.wav", {"seconds": 6.37}, {"foreign": "fatal"}),
        ("03-02-05-01-02-01-12.wav", {"seconds": 6.37}, {}),
        ("01-01-05-01-02-01-12.mp4", {"container": "MP4", "subtype": ""}, {}),
        ("03-01-05-01-02-01-12.flac", {"container": "FLAC"}, {}),
        ("OAF_back_angry.ogg", {"container": "OGG", "subtype": "VORBIS", "file_sha256": "x"}, {}),
        ("OAF_back_angry.wav", {"file_sha256": "x"}, {"bytes": "remark"}),
        ("OAF_back_angry.wav", {"seconds": 2.5}, {"foreign": "fatal"}),
        ("OAF_date_angry.wav", {"subtype": "FLOAT", "peak": 2.2}, {"foreign": "fatal"}),
        ("OAF_date_angry.wav", {"subtype": "FLOAT", "peak": 1.2}, {"above full scale": "remark"}),
        ("OAF_date_angry.wav", {"longest_clipping": 3}, {"clipping": "remark"}),
        ("OAF_date_angry.wav", {"longest_clipping": 2}, {}),
        ("OAF_date_angry.wav", {"container": "AIFF"}, {"container": "remark"}),
        ("OAF_date_angry.wav", {"sample_rate": 96000}, {"rate": "remark"}),
        ("OAF_food_fear.wav", {"sample_rate": 24414}, {}),
        ("OAF_food_fear.wav", {"sample_rate": 16000}, {"rate": "remark"}),
        ("OA_date_angry.wav", {"channels": 2}, {"name": "remark", "channels": "remark"}),
        ("OAF_date_angry.wav", {"rms": 0}, {"silent": "fatal"}),
        ("OAF_date_angry.wav", {"error": "cannot be read"}, {"unread": "fatal"}),
        ("1001_DFA_ANG_XX.wav", {"sample_rate": 48000}, {"rate": "remark"}),
        ("1040_ITH_SAD_XX.wav", {}, {}),
        ("1040_ITH_SAD_X.wav", {}, {"name": "note"}),
        ("1041_ITH_SAD_X.wav", {}, {"name": "remark"}),
        ("1076_MTI_SAD_XX.wav", {}, {"silent": "note"}),
        ("1076_MTI_SAD_XX.wav", {"rms": 0.01}, {}),
        ("1077_MTI_SAD_XX.wav", {"rms": 0}, {"silent": "fatal"}),
        ("1064_IEO_DIS_MD.wav", {"seconds": 60}, {"foreign": "fatal"}),
        ("08b03Tc.wav", {"seconds": 8.97825}, {}),
        ("03A01fa.wav", {}, {}),
        ("DC/a01.wav", {}, {}),
        ("DC_A01.flac", {"container": "FLAC"}, {}),
        ("KL/KL_a01.wav", {"channels": 2}, {"channels": "remark"}),
    ],
)
def test_a_file_is_judged_by_its_name(name: str, facts: dict, expected: dict):
    found = rules.judge(parse(Path(name)), sound(name, **facts))
    if name == "OAF_food_fear.wav" and facts["sample_rate"] == 24414:
        found = [f for f in found if f.kind != "rate"]
    assert {f.kind: f.severity for f in found} == expected


def test_runs_peaks_and_levels_by_hand(tmp_path: Path):
    assert longest_run(np.array([0, 1, 1, 0, 1, 1, 1], bool)) == 3
    assert longest_run(np.zeros(5, bool)) == longest_run(np.zeros(0, bool)) == 0
    square = np.r_[np.zeros(RATE), np.full(RATE, 0.5), [1, 1, 1, -1], np.full(RATE - 4, -0.5)]
    soundfile.write(tmp_path / "a.wav", square, RATE)
    seen = examine(tmp_path / "a.wav")
    assert (seen.seconds, seen.longest_zeros_s, seen.longest_clipping) == (3, 1, 4)
    assert (seen.peak, seen.rms) == pytest.approx((1, np.sqrt(1 / 6)), abs=1e-4)
    soundfile.write(tmp_path / "b.wav", 4 * square, RATE, subtype="FLOAT")
    assert examine(tmp_path / "b.wav").peak == 4
    clip = parse(Path("03-01-05-01-02-01-12.wav"))
    for peak, named in ((0.9, 1), (0.1, 0), (0.01, 1)):
        pairs = [(clip, sound(clip.path.name, peak=peak, rms=0.1))] * 20
        (row,) = levels(pairs)
        assert (row["peak_dbfs"], row["rms_dbfs"]) == (round(20 * np.log10(peak), 2), -20)
        assert len(list(outliers(levels(pairs)))) == named
        assert not list(outliers(levels(pairs[:19])))
    assert levels([(clip, sound(clip.path.name, peak=1e-6, rms=0.0))]) == []  # no level to speak of


def test_zeros_are_counted_by_speaker_and_those_of_no_release_are_a_remark():
    def held(name: str) -> tuple:
        return parse(Path(name)), sound(name, longest_zeros_s=0.6)

    ravdess = [held("03-01-05-01-02-01-20.wav"), held("03-02-05-01-02-01-20.wav")]
    (of_speaker,) = rules.zeros(ravdess)
    assert (of_speaker.severity, of_speaker.what[:2], len(of_speaker.clips)) == ("note", "2 ", 2)
    (of_tess,) = rules.zeros([held("OAF_date_angry.wav")])
    assert of_tess.severity == "remark"
    (of_emodb,) = rules.zeros([held("03a01Fa.wav")])
    assert (of_emodb.severity, of_emodb.expected) == ("note", "not counted")


@pytest.mark.usefixtures("pools")
def test_each_fault_is_found_and_nothing_is_changed(doctor, tmp_path: Path, capsys):
    root = tmp_path / "corpora [1]"
    (root / "copy").mkdir(parents=True)
    paths = [root / f"{SPEECH.format(speaker=speaker)}.wav" for speaker in range(1, 11)]
    for seed, path in enumerate(paths):
        soundfile.write(path, voice(seed=seed), RATE)
    paths[1].write_text("this is no audio")
    soundfile.write(paths[2], np.zeros(3 * RATE), RATE)
    os.truncate(paths[3], 200_000)
    soundfile.write(paths[4], voice(seed=0), RATE)  # speaker 01's
    soundfile.write(paths[5], voice(rate=16000), 16000)
    soundfile.write(paths[6], np.stack([voice(seed=6)] * 2, 1), RATE)
    paths[7].unlink()
    os.mkfifo(paths[7])
    paths[8].unlink()
    paths[8].symlink_to(root / "absent.wav")
    soundfile.write(root / "copy" / paths[9].name, voice(seed=99), RATE)
    soundfile.write(root / "copy" / paths[0].with_suffix(".flac").name, voice(seed=0), RATE)
    soundfile.write(root / "03-02-05-01-02-01-18.wav", voice(4), RATE)
    soundfile.write(root / "interview.wav", voice(1), RATE)
    soundfile.write(root / "01-01-05-01-02-01-01.wav", voice(), RATE)
    code, content = doctor(root)
    assert (code, content["exit_code"]) == (2, 2)
    n = {speaker: path.name for speaker, path in enumerate(paths, 1)}
    assert kinds(content) == {
        (n[2], "unread"): "fatal",
        (n[3], "silent"): "fatal",
        (n[4], "unread"): "fatal",
        (None, "duplicate"): "fatal",
        (n[6], "rate"): "remark",
        (n[7], "channels"): "remark",
        (n[8], "unread"): "fatal",
        (n[9], "unread"): "fatal",
        (flac := f"copy/{paths[0].stem}.flac", "copy"): "remark",
        (f"copy/{n[10]}", "copy"): "remark",
        ("03-02-05-01-02-01-18.wav", "extra"): "remark",
        (None, "unknown name"): "note",
        (None, "not asked for"): "note",
    }
    assert content["unknown_names"] == ["interview.wav"]
    said = {f["path"]: f["what"] for f in content["findings"] if f["kind"] == "copy"}
    assert said[flac] == f"the samples of {n[1]}, which is taken"
    assert said[f"copy/{n[10]}"] == f"not the samples of {n[10]}, which is taken"
    speech = content["clips"][0]
    assert (speech["here"], speech["missing"], speech["copies"]) == (10, 1430, 2)
    missing = [f for f in content["findings"] if f["kind"] == "missing"]
    assert missing[0]["what"].endswith("of speakers " + ", ".join(f"{a:02}" for a in range(11, 25)))
    assert len(missing[1]["clips"]) == 59
    html = (tmp_path / "seen" / "doctor.html").read_text()
    assert "corpora [1]" in html
    assert "data:image/png;base64," in html
    assert "http" not in html.replace("data:image", "")
    printed = capsys.readouterr().out
    assert "fatal: duplicate" in printed
    assert "not usable (fatal 6, remark 18, note 2)" in printed


def test_what_is_whole_and_as_released_is_sound(doctor, tmp_path: Path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    held = dict(list(official(["ravdess"], ["speech"], ["audio"]).items())[:3])
    monkeypatch.setattr("ser.integrity.diagnosis.official", lambda *_: held)
    for seed, clip in enumerate(held.values()):
        soundfile.write(root / clip.path.with_suffix(".flac"), voice(seed=seed), RATE)
    (root / "README.txt").write_text("whose recordings they are")
    code, content = doctor(root, *(f"{key}={value}" for key, value in RAVDESS.items()))
    assert (code, content["findings"]) == (0, [])
    assert content["verdict"] == "sound (nothing to note)"
    (root / next(iter(held.values())).path.with_suffix(".flac")).unlink()
    code, content = doctor(root, *(f"{key}={value}" for key, value in RAVDESS.items()))
    assert (code, [f["kind"] for f in content["findings"]]) == (1, ["missing"])


def test_part_of_the_corpora_without_levels_lacks_the_rest_alone(
    doctor, synthetic: Path, pictures: None
):
    code, content = doctor(synthetic, "data.corpora=[cremad,emodb,savee]")
    rows = [(row["corpus"], row["here"], row["missing"], row["extra"]) for row in content["clips"]]
    assert rows == [
        ("cremad", 72, 7370, 0), ("emodb", 135, 400, 0), ("savee", 56, 424, 0)
    ]  # fmt: skip
    assert (code, kinds(content)) == (1, {})
    assert {row["release_peaks_dbfs"] for row in content["levels"]} == {None}
    savee = [f for f in content["findings"] if "savee" in f["what"]]
    assert [(f["what"], len(f["clips"])) for f in savee] == [
        (f"106 of savee speech of speaker {speaker}", 106) for speaker in ("DC", "JE", "JK", "KL")
    ]


@pytest.mark.parametrize(
    ("root", "override", "line"),
    [
        ("absent", "data.channels=[speech]", "is not a folder"),
        ("empty", "data.channels=[speech]", "holds no RAVDESS, TESS, CREMA-D, EMO-DB or SAVEE rec"),
        ("some", "data.corpora=[tess]", "none of its 1 recordings is of data.corpora=[tess]"),
        ("some", "data.corpora=[ravdes]", "data.corpora=['ravdes']: expected some of [ravdess,"),
        ("some", "data.channels=speech", "data.channels=speech: expected some of [speech,song]"),
    ],
)
def test_what_cannot_be_examined_is_one_line_and_no_sound_corpus(
    doctor, tmp_path: Path, root: str, override: str, line: str
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "03-01-05-01-02-01-12.wav").touch()
    assert doctor(tmp_path / root, override) == (2, {})
    status = json.loads((tmp_path / "seen" / "status.json").read_text())
    assert status["status"] == "failed"
    assert line in status["error"]


def test_a_full_disk_is_one_line(doctor, tmp_path: Path, monkeypatch):
    (tmp_path / "root").mkdir()
    soundfile.write(tmp_path / "root" / "03-01-05-01-02-01-12.wav", voice(), RATE)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ser.integrity.report.render_page", full)
    code, _ = doctor(tmp_path / "root")
    assert code == 2
    status = json.loads((tmp_path / "seen" / "status.json").read_text())
    assert status["error"] == "[Errno 28] No space left on device"


@pytest.mark.data
def test_the_quirks_are_read_or_named(doctor, recordings: Path):
    root = recordings.parent / "quirks"
    code, content = doctor(root)
    assert code == 2
    assert kinds(content) == {
        ("OAF_back_angry.wav", "foreign"): "fatal",
        ("YAF_beg_sad.wav", "foreign"): "fatal",
        ("03-01-02-01-01-02-01.wav", "channels"): "note",
        ("03-02-01-01-01-01-24.wav", "channels"): "note",
        ("OAF_food_fear.wav", "rate"): "note",
        ("OAF_pad_ps.wav", "clipping"): "note",
        ("YAF_germ_angry.wav", "container"): "note",
        ("YAF_neat_fear.wav", "container"): "note",
        (None, "duplicate"): "note",
        (None, "zeros"): "note",
    }
    found = {f["kind"]: f for f in content["findings"]}
    assert "5.00 s at 44100 Hz, WAV FLOAT, peak 2." in found["foreign"]["what"]
    assert found["duplicate"]["clips"] == ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]
    assert found["zeros"]["clips"] == ["03-01-01-01-01-01-20.wav"]
    assert [row["here"] for row in content["clips"]] == [5, 1, 6]


@pytest.mark.data
@pytest.mark.slow
def test_the_development_copy_lacks_four_speakers(doctor, recordings: Path):
    code, content = doctor(recordings)
    assert code == 1
    assert [row["here"] for row in content["clips"]] == [1200, 836, 2798]
    remarks = [f for f in content["findings"] if f["severity"] == "remark"]
    assert [(f["kind"], f["what"], f["clips"]) for f in remarks] == [
        ("missing", "all ravdess speech of speakers 06, 11, 17, 22", []),
        ("missing", "all ravdess song of speakers 06, 11, 17, 22", []),
        ("missing", "1 of tess speech of speaker OAF", ["OAF_back_angry.wav"]),
        ("missing", "1 of tess speech of speaker YAF", ["YAF_beg_sad.wav"]),
    ]
