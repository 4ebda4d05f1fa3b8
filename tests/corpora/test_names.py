"""Whatever files are called: a row each, in plain characters, that no spreadsheet computes."""

import logging
import os
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest

from ser.corpora.names import cell, shown
from ser.corpora.scan import scan
from ser.inference.model import Prediction, tabulate
from ser.inference.recordings import find
from ser.launch.start import BareMessage, FullMessage


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a é 語.wav", "a é 語.wav"),
        ("a\rb\n.wav", r"a\rb\n.wav"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202egnp.wav", r"\u202egnp.wav"),  # would be read from right to left
        (os.fsdecode(b"\xff.wav"), r"\xff.wav"),
    ],
)
def test_control_characters_are_spelt_out(name: str, text: str):
    assert shown(name) == text
    record = logging.LogRecord("ser", logging.INFO, __file__, 1, "%s", (name,), None)
    assert BareMessage().format(record) == text
    assert FullMessage("[%(levelname)s] %(message)s").format(record) == f"[INFO] {text}"


@pytest.mark.parametrize("name", ["=1+1.wav", "+1.wav", "-1.wav", "@SUM(A1).wav", "a/=1.wav"])
def test_no_cell_is_a_formula_and_each_is_still_its_file(name: str):
    text = cell(PurePosixPath(name))
    assert text[0] in "./a"
    assert PurePosixPath(text) == PurePosixPath(name)


def test_each_recording_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a\rb.wav", "=1+1.wav", "\x1b[2J.wav"):
        Path(name).write_text("no audio")
    unread = [Prediction(path, error=f"{path}: is no audio") for path in find(".")]
    tabulate(unread, ["sad"]).to_csv("predictions.csv", index=False)
    rows = pd.read_csv("predictions.csv", lineterminator="\n")
    assert rows.path.tolist() == [r"\x1b[2J.wav", "./=1+1.wav", r"a\rb.wav"]
    assert not rows.error.str.startswith("=").any()
    assert Path("predictions.csv").read_bytes().count(b"\r") == 0


def test_linked_folders_are_scored_once(tmp_path: Path):
    there, given = tmp_path / "there", tmp_path / "given"
    there.mkdir()
    given.mkdir()
    (there / "a.wav").touch()
    (given / "link").symlink_to(there)
    (given / "second").symlink_to(there)
    (there / "circle").symlink_to(given)
    assert find(given) == [given / "link" / "a.wav"]


def test_a_corpus_below_a_folder_that_cannot_be_shown_is_refused(tmp_path: Path):
    folder = tmp_path / "a\rb"
    folder.mkdir()
    (folder / "03-01-05-02-01-01-12.wav").touch()
    with pytest.raises(ValueError, match=r"a\\rb/03-01-05-02-01-01-12.wav.*: rename"):
        scan(tmp_path)
