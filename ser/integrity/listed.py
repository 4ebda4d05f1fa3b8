"""The diagnosis of a manifest: what is wrong with its lines, and with the clips that it lists."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, groupby

from ser.audio.clips import map_files
from ser.corpora.clip import Clip
from ser.corpora.manifest import Manifest
from ser.corpora.manifest import examine as read_all
from ser.integrity import rules
from ser.integrity.diagnosis import Diagnosis, rank
from ser.integrity.measure import Examination, examine_parts
from ser.integrity.rules import CLIPPING, Finding, same_samples


def diagnose_manifest(path: str) -> Diagnosis:
    """Read a manifest and every clip that it lists, and write nothing.

    Args:
        path: The file.
    """
    listed = read_all(path)
    parts = [
        (file, [(clip.start, clip.end) for clip in clips])
        for file, clips in groupby(listed.clips, lambda clip: clip.path)
    ]
    seen = chain.from_iterable(map_files(examine_parts, parts, "examining"))
    pairs = list(zip(listed.clips, seen, strict=True))
    levels = rules.levels(pairs)
    found = [
        *_problems(listed),
        *(finding for clip, one in pairs for finding in _judge(clip, one)),
        *_twice(pairs),
        *_one_speaker(listed.clips),
        *rules.outliers(levels),
    ]
    return Diagnosis(
        listed.root, _count(listed.clips), sorted(found, key=rank), levels, [], "expected"
    )


def _problems(listed: Manifest) -> Iterator[Finding]:
    for _, line, what, expected in listed.problems:
        place = f"line {line}" if line else listed.path.name
        yield Finding("manifest", "fatal", f"{place}: {what}", expected)
    if listed.unread:
        yield Finding("columns", "note", ", ".join(listed.unread), "only those of a manifest")


def _judge(clip: Clip, seen: Examination) -> Iterator[Finding]:
    """Name what would keep a clip from being learnt."""
    clips = (clip.name,) if clip.is_segment else ()
    if seen.error is not None:
        reason = seen.error.removeprefix(f"{seen.path}: ")
        yield Finding("unreadable", "fatal", reason, "a recording", seen.path, clips)
    elif seen.rms == 0:
        yield Finding("soundless", "fatal", "nothing but zeros", "a voice", seen.path, clips)
    elif seen.longest_clipping >= CLIPPING:
        what = f"{seen.longest_clipping} samples in a row at full scale"
        yield Finding("overdriven", "remark", what, f"fewer than {CLIPPING}", seen.path, clips)


def _twice(pairs: Sequence[tuple[Clip, Examination]]) -> Iterator[Finding]:
    """Find clips of the same samples: worse where they are said to be of two voices or labels."""
    for clips in same_samples(pairs):
        if len(clips) > 1:
            told = {(clip.voice, clip.emotion) for clip in clips}
            what = f"{len(clips)} clips of the same samples"
            what += ", of different speakers or labels" if len(told) > 1 else ""
            names = tuple(sorted(clip.clip for clip in clips))
            severity = "fatal" if len(told) > 1 else "remark"
            yield Finding("twice", severity, what, "different recordings", clips=names)


def _one_speaker(clips: Sequence[Clip]) -> Iterator[Finding]:
    voices = defaultdict(set)
    for clip in clips:
        voices[clip.emotion].add(clip.voice)
    for label, speakers in voices.items():
        if len(speakers) == 1:
            what = f"{label} is spoken by {min(speakers)} alone"
            yield Finding("one speaker", "remark", what, "two speakers or more, to train and test")


def _count(clips: Sequence[Clip]) -> list[dict[str, object]]:
    tally, voices = Counter(), defaultdict(set)
    for clip in clips:
        tally[clip.corpus, clip.channel, clip.modality, clip.emotion] += 1
        voices[clip.corpus, clip.channel, clip.modality, clip.emotion].add(clip.speaker)
    names = ("corpus", "channel", "modality", "label")
    return [
        dict(zip(names, key, strict=True)) | {"clips": count, "speakers": len(voices[key])}
        for key, count in sorted(tally.items())
    ]
