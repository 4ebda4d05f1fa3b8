"""Manifests: tables that say of recordings of anyone's what a corpus says by its file names."""

import csv
import difflib
import json
import logging
import math
import os
import re
import shlex
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TextIO

from ser.corpora.clip import CHANNELS, GENDERS, Clip, Corpus
from ser.corpora.labels import in_order
from ser.corpora.names import FORMULA, is_word, shown
from ser.corpora.scan import CORPORA, DEFAULT, Scan

REQUIRED = ("path", "label", "speaker")
OPTIONAL = (
    "corpus", "gender", "channel", "intensity", "statement", "repetition", "split", "start", "end",
)  # fmt: skip
SUFFIXES = (".csv", ".tsv", ".jsonl")
NAME = "manifest"
"""Of the corpus, where no column names one."""

CHOICES = {"gender": GENDERS, "channel": CHANNELS, "split": ("train", "val", "test")}
"""By column, what it may hold besides nothing."""

LARGEST = 2**30
"""Bytes of a manifest."""
LONGEST = 100_000
"""Characters of a line."""
MOST = 5_000_000
"""Rows."""
CLASSES = 1000
"""Labels."""
WORDS = 1000
"""Characters of what is said."""
LATEST = 1e9
"""Seconds, beyond which no recording lasts."""

log = logging.getLogger(__name__)


class Problem(NamedTuple):
    """What is wrong with a manifest.

    Attributes:
        kind: One word for all problems of its kind.
        line: Of the file; None of the whole.
        what: What is there.
        expected: What should be, or what to do.
    """

    kind: str
    line: int | None
    what: str
    expected: str


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest.

    Attributes:
        path: The file.
        root: The folder below which all its recordings lie.
        clips: Of its rows without a problem, by modality, then by file and start.
        corpora: What is known of each, by name.
        problems: Of the file, then of its rows.
        unread: Columns that mean nothing here.
    """

    path: Path
    root: Path
    clips: tuple[Clip, ...] = ()
    corpora: Mapping[str, Corpus] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    unread: tuple[str, ...] = ()


class _Row(NamedTuple):
    """A row that has been read, in the order by which clips are sorted."""

    modality: str
    file: str
    start: float
    end: float | None
    line: int
    cells: tuple[str, ...]

    def by_column(self) -> dict[str, str]:
        """Return what it says; dicts of all rows would be most of a scan's memory."""
        return dict(zip((*REQUIRED, *OPTIONAL), self.cells, strict=True))


class _ManifestError(ValueError):
    """Ends the reading of a file: kind, line, what and expected are its arguments."""


def read(path: str | Path, modality: Sequence[str] = ("audio",)) -> Scan:
    """Read a manifest as what a scan of its recordings would find; no audio is read.

    Args:
        path: A file of `SUFFIXES`, with the columns `REQUIRED` and any of `OPTIONAL`. Paths in it
            are relative to its folder.
        modality: `audio`, `video` or both.

    Raises:
        ValueError: It has a problem; the first is told, with the number of others.
    """
    found = _without_problems(path)
    clips = tuple(clip for clip in found.clips if clip.modality in modality)
    if not clips:
        raise ValueError(
            f"data.manifest={str(path)!r}: none of its {len(found.clips)} clips is of"
            f" data.modality=[{','.join(modality)}]"
        )
    if found.unread:
        log.info("%s: columns that mean nothing here: %s", path, ", ".join(found.unread))
    unasked = tuple(clip.path for clip in found.clips if clip.modality not in modality)
    return Scan(found.root, tuple(modality), clips, (), (), unasked, found.corpora)


def choose(names: Sequence[str] | None, path: str | None = None) -> dict[str, Corpus]:
    """Return what is known of the corpora asked for, by name.

    Args:
        names: Of corpora; None takes all of the manifest, or those that a run has by default.
        path: Of a manifest that has them; None takes those that are known by name.

    Raises:
        ValueError: One is not there, or the manifest has a problem.
    """
    known = CORPORA if path is None else _without_problems(path).corpora
    if names is None:
        names = DEFAULT if path is None else [*known]
    for name in names:
        if name not in known:
            place = "" if path is None else f" of data.manifest={str(path)!r}"
            raise ValueError(
                f"data.corpora={[*names]}: {name} is none{place}: expected some of"
                f" {', '.join(known)}"
            )
    return {name: known[name] for name in names}


def _without_problems(path: str | Path) -> Manifest:
    found = examine(path)
    if not found.problems:
        return found
    _, line, what, expected = found.problems[0]
    place = f", line {line}" if line else ""
    more = len(found.problems) - 1
    others = f"; {more} more such problems" if more else ""
    command = shlex.quote(f"data.manifest={path}")
    raise ValueError(
        f"data.manifest={str(path)!r}{place}: {what}: expected {expected}{others}: python -m"
        f" ser.doctor {command} lists all"
    )


def examine(path: str | Path) -> Manifest:
    """Read a manifest with all its problems; it is read again only when it has changed."""
    path = Path(path).expanduser()
    state = None
    with suppress(OSError):
        status = path.stat()
        state = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return _examine(path.absolute(), state)


@lru_cache(maxsize=2)
def _examine(path: Path, state: tuple[int, ...] | None) -> Manifest:
    reading = _Reading(path)
    try:
        for number, (line, row) in enumerate(_rows(path, state), 1):
            if number > MOST:
                raise _ManifestError("rows", line, f"more than {MOST} rows", "several manifests")
            reading.take(line, row)
        reading.finish()
    except _ManifestError as error:
        reading.problems.insert(0, Problem(*error.args))
    except OSError as error:
        reason = error.strerror or str(error)
        reading.problems.append(Problem("file", None, f"cannot be read ({reason})", "a file"))
    return reading.manifest()


def _rows(path: Path, state: tuple[int, ...] | None) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield the line and the cells of each row, by column; a cell may lack.

    Raises:
        _ManifestError: It cannot be read, or lacks columns.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise _ManifestError(
            "file", None, f"its suffix is {path.suffix!r}", f"one of {_listed(SUFFIXES)}"
        )
    if state is None or not path.is_file():
        raise _ManifestError("file", None, "there is no such file", "a table with a row a clip")
    if state[0] > LARGEST:
        raise _ManifestError("file", None, f"it takes {state[0]} bytes", f"at most {LARGEST}")
    count = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            parse = _objects if path.suffix.lower() == ".jsonl" else _cells
            for count, numbered in enumerate(parse(_Lines(file), path.suffix.lower()), 1):  # noqa: B007
                yield numbered
        except UnicodeDecodeError as error:
            raise _ManifestError(
                "file", None, f"it is no UTF-8 ({error.reason})", "UTF-8"
            ) from error
    if not count:
        raise _ManifestError("rows", None, "it has no rows", "a row a clip below its header")


class _Lines:
    """The lines of a file, none of which is too long to be held, and the number of the last."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while line := self.file.readline(LONGEST):
            self.number += 1
            if len(line) == LONGEST:
                what = f"it is longer than {LONGEST} characters"
                raise _ManifestError("file", self.number, what, "a row a clip")
            yield line


def _cells(lines: _Lines, suffix: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table of cells, whose first line names the columns."""
    rows = csv.reader(lines, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        _check_columns(header)
        for row in rows:
            if len(row) > len(header):
                what = f"{len(row)} cells"
                expected = f"{len(header)}, as there are columns; quote what holds the separator"
                raise _ManifestError("file", lines.number, what, expected)
            if any(row):
                yield lines.number, dict(zip(header, row, strict=False))
    except csv.Error as error:
        what = f"it cannot be read as a table ({error})"
        raise _ManifestError(
            "file", lines.number, what, "cells that are quoted as CSV has it"
        ) from error


def _objects(lines: _Lines, suffix: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a file with a JSON object a line; the first has the required keys."""
    first = True
    for line in lines:
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ValueError("no object")
            if nested := [
                key for key in (*REQUIRED, *OPTIONAL) if isinstance(content.get(key), list | dict)
            ]:
                raise ValueError(f"{nested[0]} is neither text nor a number")
        except (ValueError, RecursionError) as error:
            what = f"it is no JSON object of texts and numbers ({shown(error)[:100]})"
            raise _ManifestError(
                "file", lines.number, what, '{"path": ..., "label": ...}'
            ) from error
        if first:
            _check_columns(list(content))
            first = False
        yield (
            lines.number,
            {_text(key): "" if value is None else _text(value) for key, value in content.items()},
        )


def _check_columns(header: Sequence[str]) -> None:
    """Refuse columns that lack, or of which there are two.

    Raises:
        _ManifestError: With the nearest of those that are there.
    """
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise _ManifestError("columns", 1, f"two columns {_short(twice[0])}", "one of each name")
    if lacking := [name for name in REQUIRED if name not in header]:
        others = [name for name in header if name not in (*REQUIRED, *OPTIONAL)]
        near = difflib.get_close_matches(lacking[0], others, 1, 0) if others else []
        there = f"; is it {_short(near[0])}?" if near else ""
        raise _ManifestError(
            "columns", 1, f"no column {_listed(lacking)}", f"{_listed(REQUIRED)}{there}"
        )


class _Reading:
    """The rows of a manifest as they are read, and what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.rows: list[_Row] = []
        self.unread: dict[str, None] = {}
        self.corpora: dict[str, Corpus] = {}
        self._folders: dict[str, str] = {}
        self._there: dict[str, str | None] = {}
        self._lines: dict[object, int] = {}
        self._texts: dict[str, str] = {}

    def take(self, line: int, cells: Mapping[str, str]) -> None:
        """Take a row, or note what is wrong with it."""
        known = len(self.problems)
        self.unread |= dict.fromkeys(name for name in cells if name not in (*REQUIRED, *OPTIONAL))
        values = {"path": cells.get("path") or ""}
        for column in (*REQUIRED[1:], *OPTIONAL):
            # Composed, as a folder's name may be written in other bytes than a table's.
            text = unicodedata.normalize("NFC", (cells.get(column) or "").strip())
            values[column] = self._texts.setdefault(text, text)  # of equal ones one is kept
        values["corpus"] = values["corpus"] or NAME

        def note(column: str, expected: str, kind: str = "value", fact: str = "") -> None:
            what = f"{column}={_short(values[column])}{fact}"
            self.problems.append(Problem(kind, line, what, expected))

        for column in REQUIRED:
            if not values[column]:
                note(column, "a value", "empty")
        for column in ("label", "speaker", "corpus"):
            if values[column] and not is_word(values[column]):
                note(column, "letters, digits, spaces, or . _ + - after the first, at most 80")
        for column, choices in CHOICES.items():
            if values[column] and values[column] not in choices:
                note(column, f"{_listed(choices, 'or')}, or nothing")
        for column in ("intensity", "statement"):
            text = values[column]
            if not text.isprintable() or len(text) > WORDS or text.startswith(FORMULA):
                note(column, f"at most {WORDS} printable characters, the first none of = + - @")
        if values["repetition"] and not _ORDINAL.fullmatch(values["repetition"]):
            note("repetition", "1, 2, ..., or nothing")
        start, end = (_number(values[column]) for column in ("start", "end"))
        for column, seconds in (("start", start), ("end", end)):
            if values[column] and (seconds is None or seconds < 0):
                note(column, "seconds from the start of the file, or nothing")
        if end is not None and (start or 0) >= end >= 0:
            note("end", f"more than start={_short(values['start'] or '0')}")
        file = self._locate(values["path"]) if values["path"] else None
        if file is None and values["path"]:
            folder = shown(self.path.parent)
            expected = f"one that is absolute or relative to {folder}"
            note("path", expected, "unknown file", ": there is no such file")
        if len(self.problems) > known:
            return
        for key in ((file, start or 0.0, end), _identity(values, start or 0.0, end)):
            if key in self._lines:
                same = f" is the clip of line {self._lines[key]} again"
                note("path", "each clip once", "twice", same)
                return
            self._lines[key] = line
        modality = "video" if file.lower().endswith(".mp4") else "audio"
        self.rows.append(_Row(modality, file, start or 0.0, end, line, (*values.values(),)))

    def _locate(self, written: str) -> str | None:
        """Return the file of a path, links followed; None where there is none."""
        if not written.isprintable():
            return None
        head, tail = os.path.split(written)
        if head not in self._folders:
            self._folders[head] = os.path.realpath(self.path.parent / head)
        file = f"{self._folders[head]}/{tail}"
        if file not in self._there:
            found = os.path.realpath(file) if os.path.islink(file) else file
            self._there[file] = found if os.path.isfile(found) else None
        return self._there[file]

    def finish(self) -> None:
        """Compare the rows with each other, and with what is known of their corpora."""
        self._lines.clear()
        labels = {row.cells[REQUIRED.index("label")] for row in self.rows}
        if len(labels) == 1 and not self.problems:
            what = f"all clips have the label {_short(*labels)}"
            self.problems.append(Problem("labels", None, what, "two labels or more"))
        if len(labels) > CLASSES:
            what = f"{len(labels)} labels, such as {_short(min(labels))}"
            self.problems.append(Problem("labels", None, what, f"at most {CLASSES}"))
        genders, emotions = defaultdict(dict), defaultdict(set)
        for row in self.rows:
            values = row.by_column()
            corpus, speaker, gender = (values[key] for key in ("corpus", "speaker", "gender"))
            emotions[corpus].add(values["label"])
            known = genders[corpus].setdefault(speaker, gender) or gender
            genders[corpus][speaker] = known
            if gender not in ("", known):
                what = f"speaker={_short(speaker)} is {gender}, and {known} before"
                self.problems.append(Problem("genders", row.line, what, "one gender a speaker"))
        for name in [*filter(genders.__contains__, CORPORA), *sorted({*genders} - {*CORPORA})]:
            if name in CORPORA:
                self._check_known(CORPORA[name])
                self.corpora[name] = CORPORA[name]
                continue
            speakers = dict(sorted(genders[name].items()))
            self.corpora[name] = Corpus(name, name, speakers, tuple(in_order(emotions[name])))

    def _check_known(self, corpus: Corpus) -> None:
        """Note the first row that is not of the corpus whose name it has."""
        facts = {"speaker": corpus.speakers, "label": corpus.emotions, "channel": corpus.releases}
        for row in self.rows:
            values = row.by_column()
            if values["corpus"] != corpus.name:
                continue
            given = values | {"channel": values["channel"] or CHANNELS[0]}
            wrong = [key for key, known in facts.items() if given[key] not in known]
            if not wrong and given["gender"] not in ("", corpus.speakers[given["speaker"]]):
                wrong = ["gender"]
            if wrong:
                what = f"corpus={corpus.name} with {wrong[0]}={_short(given[wrong[0]])}"
                expected = f"what {corpus.title} has, or another name of the corpus"
                self.problems.append(Problem("corpus", row.line, what, expected))
                return

    def manifest(self) -> Manifest:
        """Make the clips of what has been read."""
        rows = sorted(
            self.rows, key=lambda row: (*row[:3], math.inf if row.end is None else row.end)
        )
        folders = {os.path.dirname(row.file) for row in rows} or {str(self.path.parent)}
        clips, heard = [], Counter()
        for row in rows:
            values = row.by_column()
            known = self.corpora.get(values["corpus"])
            facts = {
                "clip": _identity(values, row.start, row.end),
                "path": Path(row.file),
                "corpus": values["corpus"],
                "speaker": values["speaker"],
                "gender": known.speakers.get(values["speaker"], "") if known else values["gender"],
                "channel": values["channel"] or CHANNELS[0],
                "emotion": values["label"],
                "intensity": values["intensity"],
                "statement": values["statement"],
                "modality": row.modality,
                "start": row.start,
                "end": row.end,
                "given": values["split"],
            }
            # Of a hundred thousand clips each says the same few words: one string of each is kept.
            facts |= {key: sys.intern(facts[key]) for key in _REPEATED}
            alike = tuple(facts[key] for key in _ALIKE) if values["statement"] else ()
            heard[alike] += bool(alike)
            number = values["repetition"] or heard[alike] or 1
            clips.append(Clip(**facts, repetition=int(number)))
        return Manifest(
            self.path,
            Path(os.path.commonpath(folders)),
            tuple(clips),
            self.corpora,
            tuple(self.problems),
            tuple(map(shown, self.unread)),
        )


_ORDINAL = re.compile(r"[1-9][0-9]{0,5}")

_ALIKE = (
    "corpus", "speaker", "channel", "emotion", "intensity", "statement", "modality",
)  # fmt: skip
"""What repetitions have in common."""

_REPEATED = (*_ALIKE, "gender", "given")


def _identity(values: Mapping[str, str], start: float, end: float | None) -> str:
    name = f"{values['corpus']}/{values['path']}"
    if not start and end is None:
        return name
    return f"{name}#{start:.10g}-{'' if end is None else f'{end:.10g}'}"


def _text(value: object) -> str:
    """Spell out a value of JSON, which may hold half a character."""
    return str(value).encode(errors="replace").decode()


def _number(text: str) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if abs(number) < LATEST and "_" not in text else None


def _listed(names: Sequence[str], word: str = "and") -> str:
    return ", ".join(names[:-1]) + (f" {word} " if len(names) > 1 else "") + names[-1]


def _short(text: str) -> str:
    return repr(shown(text)[:80])
