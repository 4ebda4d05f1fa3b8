"""The doctor on a manifest: all that is wrong with its lines, and with the clips that it lists."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16000


def noise(seconds: float, seed: int, peak: float = 0.1) -> np.ndarray:
    wave = np.random.default_rng(seed).uniform(-peak, peak, round(seconds * RATE))
    return np.rint(32767 * np.clip(wave, -1, 1)).astype(np.int16)  # equal in lossless containers


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, dict]]:
    """Run the command on the lines of a manifest; gives its exit code and doctor.json."""

    def run(*lines: str) -> tuple[int, dict]:
        (tmp_path / "clips.csv").write_text("\n".join(lines))
        target = tmp_path / "seen"
        arguments = [f"data.manifest={tmp_path / 'clips.csv'}", f"hydra.run.dir={target}"]
        monkeypatch.setattr(sys, "argv", ["doctor", *arguments, "overwrite=true"])
        monkeypatch.delitem(sys.modules, "ser.doctor", raising=False)
        code = 0
        try:
            runpy.run_module("ser.doctor", run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, json.loads((target / "doctor.json").read_text())

    return run


def kinds(content: dict) -> list[tuple[str, str, str | None]]:
    return [(found["kind"], found["severity"], found["path"]) for found in content["findings"]]


def test_a_sound_manifest_has_nothing_to_note(doctor, tmp_path: Path):
    rows = ["path,label,speaker,corpus"]
    for index in range(4):
        soundfile.write(tmp_path / f"{index}.wav", noise(0.5, index), RATE)
        rows.append(f"{index}.wav,{['joy', 'grief'][index // 2]},{'ab'[index % 2]},mine")
    code, content = doctor(*rows)
    assert (code, content["findings"]) == (0, [])
    assert content["clips"][0] == {
        "corpus": "mine", "channel": "speech", "modality": "audio", "label": "grief", "clips": 2,
        "speakers": 2,
    }  # fmt: skip
    code, content = doctor(rows[0] + ",age", *rows[1:3], rows[3])
    assert code == 1  # one speaker of grief
    assert kinds(content) == [("one speaker", "remark", None)]


def test_all_that_is_wrong_is_listed(doctor, tmp_path: Path, capfd: pytest.CaptureFixture):
    soundfile.write(tmp_path / "a.wav", noise(3, 0), RATE)
    soundfile.write(tmp_path / "copy.flac", noise(3, 0), RATE)
    soundfile.write(tmp_path / "loud.wav", noise(1, 1, 3.0), RATE)
    long = np.concatenate([noise(2, 2), np.zeros(RATE, np.int16), noise(2, 2)])
    soundfile.write(tmp_path / "long.wav", long, RATE)
    (tmp_path / "text.wav").write_text("no audio")
    code, content = doctor(
        "path,label,speaker,start,end,notes",
        "a.wav,joy,a,,,loud",
        "copy.flac,grief,a",
        "loud.wav,joy,b",
        "text.wav,joy,b",
        "long.wav,grief,b,0,2",
        "long.wav,grief,b,2,3",
        "long.wav,grief,b,3,5",
        "long.wav,joy,b,4,9",
        "gone.wav,joy,b",
        "a.wav,rage,z,x",
    )
    assert code == 2
    assert kinds(content) == [
        ("manifest", "fatal", None),
        ("manifest", "fatal", None),
        ("soundless", "fatal", "long.wav"),
        ("twice", "fatal", None),
        ("unreadable", "fatal", "long.wav"),
        ("unreadable", "fatal", "text.wav"),
        ("overdriven", "remark", "loud.wav"),
        ("twice", "remark", None),
        ("columns", "note", None),
    ]
    found = content["findings"]
    assert found[0]["what"] == "line 10: path='gone.wav': there is no such file"
    assert found[2]["clips"] == ["long.wav#2-3"]
    assert found[3]["clips"] == ["manifest/a.wav", "manifest/copy.flac"]
    assert found[3]["what"].endswith("of different speakers or labels")
    assert found[4]["what"] == "its segment 4 to 9 s is not in the file, of 5.00 s"
    assert found[7]["clips"] == ["manifest/long.wav#0-2", "manifest/long.wav#3-5"]
    printed = capfd.readouterr().out
    assert "line 10: path='gone.wav': there is no such file; expected: one" in printed
    assert "fatal: manifest, 2 times (mend it" in printed
    page = (tmp_path / "seen" / "doctor.html").read_text()
    assert "official releases" not in page


def test_a_file_that_is_no_manifest_is_told_too(doctor):
    code, content = doctor("file,emotion,who", "a.wav,joy,a")
    assert code == 2
    (found,) = content["findings"]
    assert found["what"] == "line 1: no column path, label and speaker"
    assert content["clips"] == []
