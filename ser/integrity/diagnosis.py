"""The diagnosis of a folder: its recordings compared with the official releases."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ser.audio.clips import map_files
from ser.corpora.clip import Clip
from ser.corpora.names import shown
from ser.corpora.scan import check_selection, official, parse, scan
from ser.integrity import rules
from ser.integrity.measure import Examination, examine
from ser.integrity.rules import SEVERITIES, Finding

VERDICTS = ("sound", "usable with remarks", "not usable")
"""By exit code."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found below a root.

    Attributes:
        root: The folder.
        counts: A row a release asked for, with the numbers of clips.
        findings: The worst first.
        levels: A row a speaker and channel, as of `rules.levels`.
        unknown: Audio files whose names are of no corpus.
        against: What `Finding.expected` is.
    """

    root: Path
    counts: list[dict[str, object]]
    findings: list[Finding]
    levels: list[dict[str, object]]
    unknown: list[Path]
    against: str = "the release"

    @property
    def exit_code(self) -> int:
        """0 sound, 1 usable with remarks, 2 not usable."""
        return max((SEVERITIES.index(finding.severity) for finding in self.findings), default=0)

    @property
    def verdict(self) -> str:
        """The exit code in words, and what it is due to."""
        tally = Counter(finding.severity for finding in self.findings)
        parts = [f"{name} {tally[name]}" for name in reversed(SEVERITIES) if tally[name]]
        return f"{VERDICTS[self.exit_code]} ({', '.join(parts) or 'nothing to note'})"

    def place(self, finding: Finding) -> str | None:
        """Return the path of a finding below the root."""
        return finding.path and shown(finding.path.relative_to(self.root).as_posix())

    def groups(self) -> list[list[Finding]]:
        """Return the findings of one kind and severity together."""
        return [list(group) for _, group in groupby(self.findings, key=rank)]


def diagnose(
    root: str, corpora: Sequence[str], channels: Sequence[str], modality: Sequence[str]
) -> Diagnosis:
    """Read every recording asked for below `root`, second copies included, and write nothing.

    Args:
        root: The folder.
        corpora: What should be there.
        channels: Likewise.
        modality: Likewise.

    Raises:
        ValueError: A key is misspelt, or there is no such recording.
    """
    check_selection(corpora, channels, modality)
    found = scan(root, modality)
    asked = [clip for clip in found.clips if clip.corpus in corpora and clip.channel in channels]
    if not asked:
        raise ValueError(
            f"data.root={root!r}: none of its {len(found.clips)} recordings is of"
            f" data.corpora=[{','.join(corpora)}] and data.channels=[{','.join(channels)}]"
        )
    clips = {clip.clip: clip for clip in asked}
    copies = [clip for clip in map(parse, found.copies) if clip.clip in clips]
    paths = [clip.path for clip in (*asked, *copies)]
    seen = dict(zip(paths, map_files(examine, paths, "examining"), strict=True))
    pairs = [(clip, seen[clip.path]) for clip in asked]
    expected = official(corpora, channels, modality)
    levels = rules.levels(pairs)
    others = [clip.path for clip in found.clips if clip.clip not in clips]
    listed = [
        *rules.lacking(expected, clips),
        *(finding for clip, one in pairs for finding in rules.judge(clip, one)),
        *rules.alike(pairs),
        *rules.zeros(pairs),
        *rules.outliers(levels),
        *_besides(expected, clips, copies, seen),
        *_left_out("unknown name", found.foreign),
        *_left_out("not asked for", [*found.unasked, *others]),
    ]
    return Diagnosis(
        found.root,
        _count(expected, clips, copies),
        sorted(listed, key=rank),
        levels,
        list(found.foreign),
    )


def rank(finding: Finding) -> tuple[int, str]:
    """Return what findings are sorted by: the worst first, those of a kind together."""
    return -SEVERITIES.index(finding.severity), finding.kind


def _besides(
    expected: Mapping[str, Clip],
    clips: Mapping[str, Clip],
    copies: Sequence[Clip],
    seen: Mapping[Path, Examination],
) -> Iterator[Finding]:
    """Name the clips that no release has, and the second files of a clip."""
    for clip in clips.values():
        if clip.clip not in expected:
            yield Finding("extra", "remark", "a name like the release's", "no such clip", clip.path)
    for copy in copies:
        taken = clips[copy.clip].path
        one, digest = seen[copy.path], seen[taken].samples_sha256
        same = one.error is None and one.samples_sha256 == digest
        what = f"{'' if same else 'not '}the samples of {taken.name}, which is taken"
        yield Finding("copy", "remark", what, "one file a clip", copy.path)


def _left_out(kind: str, paths: Sequence[Path]) -> Iterator[Finding]:
    if paths:
        names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        yield Finding(kind, "note", f"{len(paths)} files: {names}", "only what is asked for")


def _count(
    expected: Mapping[str, Clip], clips: Mapping[str, Clip], copies: Sequence[Clip]
) -> list[dict[str, object]]:
    """Count the clips of each release that should be there and that are."""

    def key(clip: Clip) -> tuple[str, str, str]:
        return clip.corpus, clip.channel, clip.modality

    tallies = {
        "of the release": Counter(map(key, expected.values())),
        "here": Counter(map(key, clips.values())),
        "missing": Counter(key(clip) for name, clip in expected.items() if name not in clips),
        "extra": Counter(key(clip) for name, clip in clips.items() if name not in expected),
        "copies": Counter(map(key, copies)),
    }
    return [
        dict(zip(("corpus", "channel", "modality"), kind, strict=True))
        | {name: tally[kind] for name, tally in tallies.items()}
        for kind in tallies["of the release"]
    ]
