"""The listing of a folder: what its recordings say by their paths, written as a manifest."""

import csv
import difflib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ser.corpora import manifest
from ser.corpora.clip import MODALITIES
from ser.corpora.scan import audio_files, parse, scan

GROUPS = tuple(
    name
    for name in (*manifest.REQUIRED, *manifest.OPTIONAL)
    if name not in ("path", "start", "end")
)
"""What a pattern may take out of a path."""

GENDERS = {"m": "male", "f": "female"}
"""By letter, where a path has one."""

log = logging.getLogger(__name__)


def write_manifest(
    root: str,
    out: str | None,
    modality: Sequence[str] = ("audio",),
    pattern: str | None = None,
    labels: Mapping[str, str] | None = None,
    labels_from: str | None = None,
    overwrite: bool = False,
) -> Path:
    """List the recordings below a folder in a manifest, which is written whole or not at all.

    Without a pattern they are the clips that known corpora name. With one, its groups say of each
    file what columns of their names hold; files that it does not match are left out.

    Args:
        root: The folder.
        out: The file to write, of one of `ser.corpora.manifest.SUFFIXES`.
        modality: `audio`, `video` or both.
        pattern: A regular expression with named groups, matched with the whole file name without
            its suffix; one that has a slash, with the whole path below the root.
        labels: By what the group or the folder says, the label.
        labels_from: `folder`: the label is the name of the folder that holds the file, as it is
            where the pattern has no group `label`.
        overwrite: Whether `out` may be there already.

    Raises:
        ValueError: A value is wrong, nothing is found, or it would be no good manifest.
    """
    root, out = Path(str(root)).expanduser(), _check_out(out, overwrite)
    if not isinstance(modality, list | tuple) or not modality or {*modality} - {*MODALITIES}:
        raise ValueError(f"data.modality={modality}: expected some of [{','.join(MODALITIES)}]")
    if labels_from not in (None, "folder"):
        raise ValueError(f"labels_from={labels_from!r}: expected folder or null")
    if labels is not None and not isinstance(labels, Mapping):
        raise ValueError(f"labels={labels!r}: expected pairs, labels='{{W: angry}}'")
    if pattern is None and labels_from is None and _has_known_names(root):
        if labels:
            raise ValueError(
                "labels= renames what a pattern or labels_from=folder finds: expected"
                " one of these, as names of known corpora have their labels"
            )
        rows = _by_name(root, modality)
    else:
        rows = list(_by_path(root, modality, _compile(root, pattern), labels or {}, labels_from))
    _write(rows, out)
    log.info("%s lists %d clips: %s", out, len(rows), _count(rows))
    return out


def _check_out(out: str | None, overwrite: bool) -> Path:
    path = Path(out).expanduser() if isinstance(out, str) else Path()
    if path.suffix.lower() not in manifest.SUFFIXES:
        raise ValueError(
            f"out={out!r}: expected a file to write, of the suffix {', '.join(manifest.SUFFIXES)},"
            " such as clips.csv"
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"out={out!r}: {str(path.parent)!r} is no folder; make it, or name another"
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise ValueError(
            f"out={out!r} is there already: expected another name, or overwrite=true to replace it"
        )
    return path


def _has_known_names(root: Path) -> bool:
    if not root.is_dir():
        raise ValueError(f"data.root={str(root)!r} is not a folder: expected one of recordings")
    return any(map(parse, audio_files(root)))


def _by_name(root: Path, modality: Sequence[str]) -> list[dict[str, object]]:
    found = scan(root, modality)
    log.info(found.describe())
    columns = (name for name in GROUPS if name not in ("label", "split"))
    kept = {name: name for name in columns} | {"label": "emotion", "path": "path"}
    return [{key: getattr(clip, name) for key, name in kept.items()} for clip in found.clips]


def _compile(root: Path, pattern: str | None) -> re.Pattern:
    """Compile a pattern.

    Raises:
        ValueError: There is none, it is none, or its groups are no columns.
    """
    if pattern is None:
        raise ValueError(
            f"data.root={str(root)!r}: neither names of known corpora nor a pattern say who speaks"
            " there: expected pattern= with a group speaker, such as"
            " 'pattern=\"(?P<speaker>[^_]+)_.*\"'"
        )
    try:
        compiled = re.compile(str(pattern))
    except re.error as error:
        raise ValueError(f"pattern={pattern!r} is no regular expression: {error}") from error
    for name in compiled.groupindex:
        if name not in GROUPS:
            near = difflib.get_close_matches(name, GROUPS, 1, 0)[0]
            raise ValueError(
                f"pattern={pattern!r} has a group {name}: expected some of {', '.join(GROUPS)};"
                f" is it {near}?"
            )
    if "speaker" not in compiled.groupindex:
        raise ValueError(
            f"pattern={pattern!r} does not say who speaks: expected a group (?P<speaker>...)"
        )
    return compiled


def _by_path(
    root: Path,
    modality: Sequence[str],
    pattern: re.Pattern,
    labels: Mapping[str, str],
    labels_from: str | None,
) -> Iterator[dict[str, object]]:
    """Yield a row for each recording whose path the pattern matches."""
    if not root.is_dir():
        raise ValueError(f"data.root={str(root)!r} is not a folder: expected one of recordings")
    others, count, unlabelled = [], 0, set(labels)
    for path in sorted(audio_files(root)):
        if ("video" if path.suffix.lower() == ".mp4" else "audio") not in modality:
            continue
        below = path.relative_to(root).with_suffix("").as_posix()
        match = pattern.fullmatch(below if "/" in pattern.pattern else path.stem)
        if match is None:
            others.append(path)
            continue
        count += 1
        row = {key: value for key, value in match.groupdict().items() if value is not None}
        said = row.get("label")
        if labels_from == "folder" or "label" not in pattern.groupindex:
            said = path.parent.name if path.parent != root else None
        if said is None:
            raise ValueError(
                f"pattern={pattern.pattern!r} gives {path} no label, and no folder below data.root"
                " holds it: expected a group (?P<label>...), or a folder a label"
            )
        unlabelled.discard(said)
        gender = row.get("gender", "").lower()
        row["gender"] = GENDERS.get(gender, gender)
        yield row | {"path": path, "label": labels.get(said, said)}
    if not count:
        example = f", such as {others[0]}" if others else ""
        raise ValueError(
            f"pattern={pattern.pattern!r} matches none of {len(others)} recordings below"
            f" data.root={str(root)!r}{example}: expected one for the whole file name without its"
            " suffix, or with a slash for the whole path below data.root"
        )
    if unlabelled:
        raise ValueError(
            f"labels has {sorted(map(str, unlabelled))}, which no recording says: expected what"
            " the group label, or the folder, of some recording is"
        )
    if others:
        log.info(
            "%d files that the pattern does not match are left out: %s", len(others), others[0]
        )


def _write(rows: Sequence[Mapping[str, object]], out: Path) -> None:
    """Write rows under a temporary name, read them as a start would, and rename the file.

    Raises:
        ValueError: What was written would be refused.
    """
    folder = os.path.realpath(out.parent)
    optional = [name for name in manifest.OPTIONAL if any(row.get(name) for row in rows)]
    held = [*manifest.REQUIRED, *optional]
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            cells = (
                {key: row.get(key, "") for key in held}
                | {"path": Path(os.path.relpath(row["path"], folder)).as_posix()}
                for row in rows
            )
            if out.suffix.lower() == ".jsonl":
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in cells)
            else:
                tabs = out.suffix.lower() == ".tsv"
                writer = csv.DictWriter(file, held, delimiter="\t" if tabs else ",")
                writer.writeheader()
                writer.writerows(cells)
        problems = manifest.examine(partial).problems
        if problems:
            _, line, what, expected = problems[0]
            place = f"its line {line}" if line else "it"
            more = f"; {len(problems) - 1} more such problems" if len(problems) > 1 else ""
            raise ValueError(
                f"out={str(out)!r} is not written, as {place} would be refused: {what}: expected"
                f" {expected}{more}"
            )
        os.replace(partial, out)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"out={str(out)!r} is not written: the name {ascii(error.object)[:200]} is no text that"
            " a table can hold; rename it"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _count(rows: Sequence[Mapping[str, object]]) -> str:
    labels = Counter(str(row["label"]) for row in rows)
    speakers = {(row.get("corpus"), row["speaker"]) for row in rows}
    told = ", ".join(f"{count} {label}" for label, count in sorted(labels.items())[:20])
    return f"{len(speakers)} speakers; {told}{', ...' if len(labels) > 20 else ''}"
