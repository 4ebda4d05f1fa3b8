"""Manifests: what is read of them, what is refused in one line, and what is written as one."""

import json
import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ser.corpora.clip import Corpus
from ser.corpora.listing import write_manifest
from ser.corpora.manifest import choose, examine, read
from ser.corpora.scan import CORPORA, scan

HEADER = "path,label,speaker,gender,corpus,start,end"
GOOD = ["a.wav,joy,anna,female,,,", "b.wav,grief,bert,male,,,"]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a manifest of some lines beside a.wav, b.wav and sub/c.wav."""
    (tmp_path / "sub").mkdir()
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        (tmp_path / name).touch()

    def write(*lines: str, header: str = HEADER, name: str = "clips.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return write


def test_a_row_is_a_clip_and_what_it_does_not_say_is_not_known(write, tmp_path: Path):
    path = write("sub/c.wav, joy ,anna,,,,", *GOOD)
    found = read(path)
    clip = found.clips[-1]
    assert (clip.clip, clip.path) == ("manifest/sub/c.wav", tmp_path / "sub" / "c.wav")
    assert (clip.emotion, clip.voice, clip.channel) == ("joy", "manifest/anna", "speech")
    assert clip.gender == "female"  # as another row says of her
    assert (clip.intensity, clip.statement, clip.given) == ("", "", "")
    assert (clip.repetition, clip.start, clip.end, clip.modality) == (1, 0.0, None, "audio")
    assert found.root == tmp_path
    assert [str(each.path.relative_to(found.root)) for each in found.clips] == [
        "a.wav", "b.wav", "sub/c.wav",
    ]  # fmt: skip
    corpus = found.corpora["manifest"]
    assert corpus == Corpus(
        "manifest",
        "manifest",
        {"anna": "female", "bert": "male"},
        ("grief", "joy"),
    )
    assert corpus.lead_seconds is None  # the window begins at the onset


def test_labels_are_in_canonical_order_then_by_name(write):
    rows = [
        f"{name}.wav,{label},anna,,x,," for name, label in zip("ab", ("zeal", "sad"), strict=True)
    ]
    corpus = read(write(*rows, "sub/c.wav,happy,anna,,x,,")).corpora["x"]
    assert corpus.emotions == ("happy", "sad", "zeal")


def test_csv_tsv_and_json_lines_hold_the_same(write):
    rows = [row.split(",") for row in GOOD]
    csv = read(write(*GOOD))
    tsv = read(write(*map("\t".join, rows), header=HEADER.replace(",", "\t"), name="clips.tsv"))
    lines = [
        json.dumps({k: v for k, v in zip(HEADER.split(","), row, strict=True) if v}) for row in rows
    ]
    jsonl = read(write(*lines, header="", name="clips.jsonl"))
    assert csv.clips == tsv.clips == jsonl.clips
    numbered = write(
        '{"path": "a.wav", "label": 1, "speaker": 7, "end": 2.5}',
        '{"path": "b.wav", "label": 2, "speaker": 7, "start": null}',
        header="",
        name="n.jsonl",
    )
    first, second = read(numbered).clips
    assert (first.clip, first.emotion, first.speaker, first.end) == (
        "manifest/a.wav#0-2.5",
        "1",
        "7",
        2.5,
    )
    assert (second.clip, second.end) == ("manifest/b.wav", None)


def test_segments_are_named_by_their_seconds_and_sorted(write):
    rows = ["a.wav,joy,anna,,,1.5,3", "a.wav,grief,anna,,,0,1.50", "b.wav,joy,bert,,,2,"]
    clips = read(write(*rows)).clips
    assert [clip.name for clip in clips] == ["a.wav#0-1.5", "a.wav#1.5-3", "b.wav#2-"]
    assert [clip.is_segment for clip in clips] == [True] * 3
    assert (clips[2].start, clips[2].end) == (2.0, None)


def test_equal_sentences_are_numbered_and_unknown_ones_are_not(write):
    header = "path,label,speaker,statement,repetition"
    rows = ["a.wav,joy,anna,hello,", "b.wav,joy,anna,hello,", "sub/c.wav,grief,anna,,"]
    clips = read(write(*rows, header=header)).clips
    assert [clip.repetition for clip in clips] == [1, 2, 1]
    assert clips[0].sentence == clips[1].sentence
    given = [row + "4" for row in rows]
    assert [clip.repetition for clip in read(write(*given, header=header)).clips] == [4] * 3


def test_a_corpus_of_a_known_name_has_its_facts(write):
    rows = ["a.wav,happy,OAF,,tess,,", "b.wav,sad,YAF,female,tess,,", "sub/c.wav,joy,x,,mine,,"]
    found = read(write(*rows))
    assert list(found.corpora) == ["tess", "mine"]
    assert found.corpora["tess"] is CORPORA["tess"]
    assert {clip.gender for clip in found.clips if clip.corpus == "tess"} == {"female"}
    assert list(choose(["mine"], str(write(*rows)))) == ["mine"]
    assert list(choose(None)) == ["ravdess", "tess"]
    with pytest.raises(
        ValueError, match=r"data.corpora=\['mine'\]: mine is none: expected some of ra"
    ):
        choose(["mine"])
    with pytest.raises(ValueError, match=r"yours is none of data.manifest=.* of tess, mine"):
        choose(["yours"], str(write(*rows)))


BAD = [
    (["no.wav,joy,anna,,,,"], "line 2: path='no.wav': there is no such file: expected one"),
    (["a.wav,,anna,,,,"], "line 2: label='': expected a value"),
    (["a.wav,joy,anna,,,,", "./a.wav,joy,anna,,,,"],
     "line 3: path='./a.wav' is the clip of line 2 again: expected"),
    (["a.wav,joy,anna,female,,,", "b.wav,grief,anna,male,,,"],
     "line 3: speaker='anna' is male, and female before"),
    (["a.wav,joy,anna,f,,,"], "line 2: gender='f': expected male or female, or nothing"),
    (["a.wav,a/b,anna,,,,"], "line 2: label='a/b': expected letters, digits"),
    (["a.wav,=1+1,anna,,,,"], "line 2: label='=1+1': expected letters"),
    (["a.wav,joy,anna,,../x,,"], "line 2: corpus='../x': expected letters"),
    (["a.wav,joy,an\x1b[31mna,,,,"], r"line 2: speaker='an\\x1b[31mna': expected letters"),
    (["a.wav,joy,anna,,,x,"], "line 2: start='x': expected seconds from the start of the file"),
    (["a.wav,joy,anna,,,,-1"], "line 2: end='-1': expected seconds"),
    (["a.wav,joy,anna,,,nan,"], "line 2: start='nan': expected seconds"),
    (["a.wav,joy,anna,,,1e308,"], "line 2: start='1e308': expected seconds"),
    (["a.wav,joy,anna,,,1_0,"], "line 2: start='1_0': expected seconds"),
    (["a.wav,joy,anna,,,3,3.0"], "line 2: end='3.0': expected more than start='3'"),
    (["a.wav,joy,anna,,ravdess,,", GOOD[1]],
     "line 2: corpus=ravdess with speaker='anna': expected what RAVDESS has"),
    (["a.wav,happy,OAF,male,tess,,", GOOD[1]],
     "line 2: corpus=tess with gender='male': expected what TESS has"),
    (["a.wav,joy,anna,,,,", "b.wav,joy,bert,,,,"],
     ": all clips have the label 'joy': expected two labels or more"),
    (["a.wav,joy,anna,,,,,more"], "line 2: 8 cells: expected 7, as there are columns"),
    (['"a.wav,joy,anna,,,,'], "it cannot be read as a table (unexpected end of data)"),
    ([], ": it has no rows: expected a row a clip below its header"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), BAD, ids=range(len(BAD)))
def test_a_bad_row_is_one_line(write, rows: list[str], expected: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared below, as text
        read(write(*rows))
    line = str(error.value)
    assert expected in line
    assert line.startswith("data.manifest=")
    assert line.isprintable()
    assert line.endswith("/clips.csv lists all")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("clips.csv", None, "there is no such file: expected a table with a row a clip"),
        ("clips.txt", b"", "its suffix is '.txt': expected one of .csv, .tsv and .jsonl"),
        ("clips.csv", b"", "no column path, label and speaker"),
        ("clips.csv", b"path,emotion,speaker\n", "no column label: expected path, label and"),
        ("clips.csv", b"path,labels,speaker\n", "no column label: expected .*; is it 'labels'?"),
        ("clips.csv", b"path,label,speaker,label\n", "two columns 'label': expected one of each"),
        ("clips.csv", "path,label,speaker\nä.wav,a,b".encode("latin-1"), "it is no UTF-8"),
        ("clips.csv", b"path,label,speaker\n" + b"a" * 200_000, "line 2: it is longer than 100000"),
        ("clips.jsonl", b"{\n", "line 1: it is no JSON object of texts and numbers"),
        ("clips.jsonl", b"[1]\n", "line 1: it is no JSON object"),
        ("clips.jsonl", b'{"path": ["a"], "label": 1, "speaker": 1}', "path is neither text nor"),
        ("clips.jsonl", b"[" * 50_000, "line 1: it is no JSON object"),
        ("clips.jsonl", b'{"path": "\\ud800", "label": 1, "speaker": 1}', "line 1: path='.'"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, content: bytes | None, expected: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=expected) as error:
        read(tmp_path / name)
    assert str(error.value).isprintable()


def test_what_no_table_may_be_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "pipe.csv")  # opening it would wait for a writer
    with pytest.raises(ValueError, match="there is no such file"):
        read(tmp_path / "pipe.csv")
    (tmp_path / "large.csv").write_text("path,label,speaker\n")
    monkeypatch.setattr("ser.corpora.manifest.LARGEST", 10)
    with pytest.raises(ValueError, match="it takes 19 bytes: expected at most 10"):
        read(tmp_path / "large.csv")
    monkeypatch.undo()
    monkeypatch.setattr("ser.corpora.manifest.MOST", 1)
    (tmp_path / "a.wav").touch()
    (tmp_path / "long.csv").write_text("path,label,speaker\na.wav,joy,anna\nb.wav,joy,anna\n")
    with pytest.raises(ValueError, match="line 3: more than 1 rows: expected several manifests"):
        read(tmp_path / "long.csv")


def test_all_problems_are_listed_and_the_first_is_told_with_their_number(write):
    path = write("a.wav,joy,anna,f,,,", "no.wav,,anna,,,,", GOOD[1])
    listed = [(one.line, one.kind) for one in examine(path).problems]
    assert listed == [(2, "value"), (3, "empty"), (3, "unknown file")]
    with pytest.raises(ValueError, match=r"line 2: gender='f'.*; 2 more such problems: python"):
        read(path)
    assert [clip.name for clip in examine(path).clips] == ["b.wav"]


def test_a_manifest_that_was_changed_is_read_again(write):
    assert len(read(write(*GOOD)).clips) == 2
    assert len(read(write(*GOOD, "sub/c.wav,joy,anna,,,,")).clips) == 3


def test_words_of_any_script_are_labels(write):
    # Hindi and Thai write marks with their letters, and a folder may decompose an accent.
    found = read(write("a.wav,खुशी,e\N{COMBINING ACUTE ACCENT}va,,,,", "b.wav,สุข,bert,,,,"))
    assert [(clip.emotion, clip.speaker) for clip in found.clips] == [
        ("खुशी", "\N{LATIN SMALL LETTER E WITH ACUTE}va"),
        ("สุข", "bert"),
    ]


def test_links_and_absolute_paths_lead_to_one_root(write, tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    found = read(write(f"{tmp_path}/a.wav,joy,anna,,,,", "link/c.wav,grief,bert,,,,"))
    assert [clip.path.relative_to(found.root).as_posix() for clip in found.clips] == [
        "a.wav",
        "sub/c.wav",
    ]
    with pytest.raises(ValueError, match=r"line 3: path='link/c\.wav' is the clip of line 2"):
        read(write("sub/c.wav,joy,anna,,,,", "link/c.wav,grief,bert,,,,"))
    (tmp_path / "same.wav").symlink_to(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=r"line 3: path='same\.wav' is the clip of line 2"):
        read(write("a.wav,joy,anna,,,,", "same.wav,grief,bert,,,,"))


@pytest.mark.parametrize("name", ["clips.csv", "clips.tsv", "below/clips.jsonl"])
def test_what_is_written_of_known_names_reads_back_to_the_same_clips(
    demo: Path, tmp_path: Path, name: str
):
    (tmp_path / "below").mkdir()
    written = write_manifest(str(demo), str(tmp_path / name))
    found = read(written)
    there = {clip.path: clip for clip in found.clips}
    for clip in scan(demo.resolve()).clips:
        assert replace(there.pop(clip.path), clip=clip.clip) == clip
    assert not there
    assert found.corpora == choose(None)
    assert {path.name for path in written.parent.iterdir()} - {"below"} == {written.name}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Files of invented names in folders of labels."""
    root = tmp_path / "corpus"
    for name in ("cross/03a_W_1.wav", "cross/03a_W_2.wav", "glad/11b_F_1.wav", "glad/notes.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_pattern_says_what_names_mean(foreign: Path, tmp_path: Path, caplog):
    caplog.set_level("INFO")
    pattern = r"(?P<speaker>\d\d)(?P<statement>.)_(?P<label>.)_(?P<repetition>\d)"
    written = write_manifest(
        str(foreign), str(tmp_path / "clips.csv"), pattern=pattern, labels={"W": "angry"}
    )
    clips = read(written).clips
    assert [(c.name, c.speaker, c.emotion, c.statement, c.repetition) for c in clips] == [
        ("corpus/cross/03a_W_1.wav", "03", "angry", "a", 1),
        ("corpus/cross/03a_W_2.wav", "03", "angry", "a", 2),
        ("corpus/glad/11b_F_1.wav", "11", "F", "b", 1),
    ]
    assert "1 files that the pattern does not match are left out" in caplog.text
    assert "lists 3 clips: 2 speakers; 1 F, 2 angry" in caplog.text


@pytest.mark.parametrize("labels_from", [None, "folder"])
def test_a_folder_is_the_label_of_its_files(foreign: Path, tmp_path: Path, labels_from):
    out = str(tmp_path / "clips.csv")
    write_manifest(str(foreign), out, pattern=r"(?P<speaker>\d+).*", labels_from=labels_from)
    assert [clip.emotion for clip in read(out).clips] == ["cross", "cross", "glad"]
    whole = r"(?P<label>[a-z]+)/(?P<speaker>\d+).*"  # with a slash: the path below the root
    write_manifest(str(foreign), out, pattern=whole, overwrite=True)
    assert [clip.emotion for clip in read(out).clips] == ["cross", "cross", "glad"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "neither names of known corpora nor a pattern say who speaks there"),
        ({"pattern": "(?P<speaker>"}, "is no regular expression"),
        ({"pattern": r"(?P<label>\d+).*"}, r"does not say who speaks: expected a group"),
        ({"pattern": r"(?P<speakers>\d+).*"}, "has a group speakers: .* is it speaker?"),
        ({"pattern": "(?P<speaker>zzz)"}, "matches none of 4 recordings below"),
        ({"pattern": r"(?P<speaker>\d+).*", "labels": {"x": "y"}}, r"labels has \['x'\], which no"),
        ({"pattern": r"(?P<speaker>\d+).*", "labels_from": "name"}, "labels_from='name': expected"),
        ({"pattern": r"(?P<speaker>\d+)._(?P<gender>.).*"}, "line 2 would be refused: gender='w'"),
        ({"pattern": r"(?P<speaker>\d+).*?(?P<label>x?)"}, "line 2 would be refused: label=''"),
        ({"out": None}, "out=None: expected a file to write, of the suffix .csv"),
        ({"out": "clips.xlsx"}, "out='clips.xlsx': expected a file to write, of the suffix .csv"),
        ({"modality": ["sound"]}, r"data.modality=\['sound'\]: expected some of \[audio,video\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_is_one_line_and_writes_nothing(
    foreign: Path, tmp_path: Path, options: dict, expected: str
):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=expected):
        write_manifest(**{"root": str(foreign), "out": str(tmp_path / "clips.csv")} | options)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_writes_and_replaces_nothing_unasked(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    def command(*overrides: str) -> int:
        arguments = [f"data.root={few}", f"out={tmp_path / 'clips.csv'}", *overrides]
        monkeypatch.setattr(sys, "argv", ["ser.manifest", *arguments])
        monkeypatch.delitem(sys.modules, "ser.manifest", raising=False)
        try:
            runpy.run_module("ser.manifest", run_name="__main__")
        except SystemExit as end:
            return end.code
        return 0

    assert command() == 0
    assert "next: python -m ser.doctor data.manifest=" in capfd.readouterr().err
    written = (tmp_path / "clips.csv").read_text()
    assert command() == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("is there already: expected another name, or overwrite=true to replace it")
    assert command("overwrite=true") == 0
    assert (tmp_path / "clips.csv").read_text() == written
    pattern = 'pattern="(?P<speaker>[A-Z0-9]+)_.*"'
    assert (
        command("overwrite=true", pattern, "labels_from=folder", "labels={OAF_fear: fearful}") == 0
    )
    assert len(read(tmp_path / "clips.csv").clips) == 28
