"""The clips below a folder, found by the names that the corpora give their files."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ser.corpora.clip import AUDIO_SUFFIXES, CHANNELS, MODALITIES, Clip, Corpus
from ser.corpora.cremad import CREMAD
from ser.corpora.emodb import EMODB
from ser.corpora.names import shown
from ser.corpora.ravdess import RAVDESS
from ser.corpora.savee import SAVEE
from ser.corpora.tess import TESS

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus for corpus in (RAVDESS, TESS, CREMAD, EMODB, SAVEE)
}
"""All corpora, by name: another is a file beside theirs, and its object here."""

DEFAULT = (RAVDESS.name, TESS.name)
"""Corpora of a run that names none."""


def _alternatives(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


TITLES = _alternatives(corpus.title for corpus in CORPORA.values())


@dataclass(frozen=True)
class Scan:
    """What lies below a root.

    Attributes:
        root: The folder.
        modality: The modalities asked for.
        clips: By modality, then by path.
        foreign: Audio and video files of other names.
        copies: Second files of a clip.
        unasked: Recordings of other modalities.
        corpora: What is known of each corpus, by name.
    """

    root: Path
    modality: tuple[str, ...]
    clips: tuple[Clip, ...]
    foreign: tuple[Path, ...]
    copies: tuple[Path, ...]
    unasked: tuple[Path, ...]
    corpora: Mapping[str, Corpus] = field(default_factory=lambda: CORPORA)

    def describe(self) -> str:
        """Describe in one line what was found, taken and left."""
        tally = Counter(clip.corpus for clip in self.clips)
        counts = ", ".join(f"{tally[name]} {name}" for name in self.corpora if tally[name])
        line = f"{self.root}: {counts} clips"
        if "video" in self.modality:
            line += f", {sum(clip.modality == 'video' for clip in self.clips)} of them videos"
        if self.unasked:
            line += (
                f"; {len(self.unasked)} left out by data.modality=[{','.join(self.modality)}]"
                f" (first: {self.unasked[0]})"
            )
        if self.copies:
            line += f"; {len(self.copies)} second copies left out (first: {self.copies[0]})"
        if self.foreign:
            names = ", ".join(path.name for path in self.foreign[:3])
            more = ", ..." if len(self.foreign) > 3 else ""
            line += f"; {len(self.foreign)} audio files of unknown name left out ({names}{more})"
        return line


def parse(path: Path) -> Clip | None:
    """Read a clip's facts from its file name; None where the name is of no corpus."""
    found = (corpus.parse(path) for corpus in CORPORA.values())
    return next((clip for clip in found if clip), None)


def from_name(name: str) -> Clip | None:
    """Return the clip of a `Clip.name`, with a path of no file; None where there is none."""
    found = (corpus.from_name(name) for corpus in CORPORA.values())
    return next((clip for clip in found if clip and clip.name == name), None)


def lead(clip: Clip | None) -> tuple[str | None, float | None]:
    """Return what `ser.audio.window.Window.spans` is told of a recording besides its samples.

    Args:
        clip: What is known of it; None of a recording of no corpus.

    Returns:
        The corpus, and the silence before the words in s; None where the onset is looked for.
    """
    if clip is None:
        return None, 0.0
    known = clip.corpus in CORPORA and not clip.is_segment
    return clip.corpus, CORPORA[clip.corpus].lead_seconds if known else None


def official(
    corpora: Sequence[str], channels: Sequence[str], modality: Sequence[str]
) -> dict[str, Clip]:
    """Return the clips of the releases by identity; their paths are the official file names."""
    clips = (parse(path) for name in corpora for path in CORPORA[name].official())
    return {
        clip.clip: clip for clip in clips if clip.channel in channels and clip.modality in modality
    }


def check_selection(corpora: object, channels: object, modality: object) -> None:
    """Refuse what is no list of some corpora, channels or modalities.

    Raises:
        ValueError: With the key and what it may hold.
    """
    for key, values, known in (
        ("corpora", corpora, CORPORA),
        ("channels", channels, CHANNELS),
        ("modality", modality, MODALITIES),
    ):
        if not isinstance(values, list) or not values or not set(values) <= set(known):
            raise ValueError(f"data.{key}={values}: expected some of [{','.join(known)}]")


def scan(root: str | Path, modality: Sequence[str] = ("audio",)) -> Scan:
    """Find the clips anywhere below `root`, by name alone: no audio is read.

    Of several files that are one recording the first in sorted order is taken.

    Args:
        root: The folder.
        modality: `audio`, `video` or both.

    Raises:
        ValueError: `root` is no folder, or holds no clip of a modality.
    """
    root = Path(str(root)).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"data.root={str(root)!r} is not a folder: expected one that holds {TITLES}"
            " somewhere below it; set data.root (quotes inside quotes for a path with commas,"
            " brackets, = or letters outside ASCII) or SER_DATA, or try data=demo"
        )
    clips: dict[str, Clip] = {}
    foreign, copies, unasked = [], [], []
    for path in sorted(audio_files(root)):
        clip = parse(path)
        if clip is None:
            foreign.append(path)
        elif clip.modality not in modality:
            unasked.append(path)
        elif clip.clip in clips:
            copies.append(path)
        elif (told := shown(path)) != str(path):
            raise ValueError(
                f"data.root={str(root)!r} holds {told}, whose path has characters that no table can"
                " hold: rename its folder"
            )
        else:
            clips[clip.clip] = clip
    by_modality = sorted(clips.values(), key=lambda clip: clip.modality)
    found = {clip.modality for clip in by_modality}
    if absent := [asked for asked in modality if asked not in found]:
        examples = _alternatives(corpus.examples for corpus in CORPORA.values())
        raise ValueError(
            f"data.root={str(root)!r} holds no {TITLES} recording of data.modality="
            f"[{','.join(absent)}] ({len(foreign)} other audio files, {len(unasked) + len(clips)}"
            f" recordings of another modality): expected names such as {examples}"
        )
    known = _synthetic(CORPORA) if is_demo(root) else CORPORA
    return Scan(root, *map(tuple, (modality, by_modality, foreign, copies, unasked)), known)


def _synthetic(corpora: Mapping[str, Corpus]) -> dict[str, Corpus]:
    """Return corpora with what is said of recordings replaced by what holds for the demo corpus."""
    return {
        name: replace(
            corpus,
            title=f"synthetic {corpus.title}",
            source="",
            licence="The clips of the demo corpus are synthetic: nobody spoke them, nor owns them",
            licence_id="mit",
            limits="every clip is computed by a formant synthesiser: a score on it says nothing"
            " about real speech",
            listeners=None,
        )
        for name, corpus in corpora.items()
    }


def is_demo(root: Path) -> bool:
    """Return whether a folder is one that `ser.corpora.demo.build` has made, by its name."""
    return re.fullmatch(r"demo-v\d+-seed\d+", root.name) is not None


def audio_files(root: Path) -> Iterator[Path]:
    """Yield every file below `root` with a suffix of audio or video, links followed once."""
    return (path for path in files(root) if path.suffix.lower() in AUDIO_SUFFIXES)


def files(root: Path) -> Iterator[Path]:
    """Yield every file below `root`, links to folders followed once."""
    seen = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        subfolders.sort()  # of two links to one folder the first in order is followed
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def _raise(error: OSError) -> None:
    raise error
