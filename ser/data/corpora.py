"""RAVDESS and TESS: what their file names say, and where the files lie on disk."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Canonical class order; the RAVDESS file code is the index + 1."""

CORPORA = ("ravdess", "tess")
CHANNELS = ("speech", "song")
RAVDESS_STATEMENTS = ("kids", "dogs")
"""'Kids are talking by the door' and 'Dogs are sitting by the door'."""

TESS_EMOTIONS = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgust",
    "ps": "surprised",
}
"""TESS's file codes; `ps` is pleasant surprise, and there is no calm."""

AUDIO_SUFFIXES = frozenset(
    (
        ".aif", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mp3", ".mp4",
        ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".wma",
    )
)  # fmt: skip

_RAVDESS_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
# One file of the release begins `OA_` instead of `OAF_`.
_TESS_NAME = re.compile(r"(OAF?|YAF)_([a-z]+)_([a-z]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Clip:
    """One recording and what its name says of it."""

    path: Path
    corpus: str
    actor: str
    gender: str
    channel: str
    emotion: str
    intensity: str
    statement: str
    repetition: int

    @property
    def name(self) -> str:
        """The recording's name in one spelling, the same for every copy and container of it."""
        if self.corpus == "ravdess":
            return self.path.stem
        return f"{self.actor}_{self.statement}_{self.emotion}"


@dataclass(frozen=True)
class Scan:
    """What lies below a root: clips by name, audio of other names, and second copies."""

    root: Path
    clips: tuple[Clip, ...]
    foreign: tuple[Path, ...]
    copies: tuple[Path, ...]

    def describe(self) -> str:
        """Say in one line what was found, taken and left."""
        counts = ", ".join(
            f"{sum(clip.corpus == corpus for clip in self.clips)} {corpus}" for corpus in CORPORA
        )
        line = f"{self.root}: {counts} clips"
        if self.copies:
            line += f"; {len(self.copies)} second copies left out (first: {self.copies[0]})"
        if self.foreign:
            names = ", ".join(path.name for path in self.foreign[:3])
            more = ", ..." if len(self.foreign) > 3 else ""
            line += f"; {len(self.foreign)} audio files of unknown name left out ({names}{more})"
        return line


def parse(path: Path) -> Clip | None:
    """Read a clip's facts from its file name, or None where the name is of neither corpus."""
    if match := _RAVDESS_NAME.fullmatch(path.stem):
        return _parse_ravdess(path, *map(int, match.groups()))
    if match := _TESS_NAME.fullmatch(path.stem):
        return _parse_tess(path, *match.groups())
    return None


def _parse_ravdess(
    path: Path,
    modality: int,
    channel: int,
    emotion: int,
    intensity: int,
    statement: int,
    repetition: int,
    actor: int,
) -> Clip | None:
    # Modalities 01 and 02 are videos; the audio of 01 is the audio-only clip again.
    known = (
        modality == 3
        and 1 <= channel <= 2
        and 1 <= emotion <= (8 if channel == 1 else 6)
        and 1 <= intensity <= (1 if emotion == 1 else 2)
        and 1 <= statement <= 2
        and 1 <= repetition <= 2
        and 1 <= actor <= 24
    )
    if not known:
        return None
    return Clip(
        path=path,
        corpus="ravdess",
        actor=f"{actor:02}",
        gender="male" if actor % 2 else "female",
        channel=CHANNELS[channel - 1],
        emotion=EMOTIONS[emotion - 1],
        intensity="normal" if intensity == 1 else "strong",
        statement=RAVDESS_STATEMENTS[statement - 1],
        repetition=repetition,
    )


def _parse_tess(path: Path, speaker: str, word: str, emotion: str) -> Clip | None:
    if emotion.lower() not in TESS_EMOTIONS:
        return None
    return Clip(
        path=path,
        corpus="tess",
        actor="YAF" if speaker.upper() == "YAF" else "OAF",
        gender="female",
        channel="speech",
        emotion=TESS_EMOTIONS[emotion.lower()],
        intensity="normal",
        statement=word.lower(),
        repetition=1,
    )


def scan(root: str | Path) -> Scan:
    """Find the clips anywhere below `root`, by name alone: no audio is read.

    Of several files that are one recording the first in sorted order is taken.

    Raises:
        ValueError: `root` is no folder, or holds no clip of either corpus.
    """
    root = Path(str(root)).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"data.root={str(root)!r} is not a folder: expected one that holds RAVDESS or TESS"
            " somewhere below it; set data.root (quotes inside quotes for a path with commas,"
            " brackets, = or letters outside ASCII) or SER_DATA, or try data=demo"
        )
    clips: dict[str, Clip] = {}
    foreign, copies = [], []
    for path in sorted(audio_files(root)):
        clip = parse(path)
        if clip is None:
            foreign.append(path)
        elif clip.name in clips:
            copies.append(path)
        else:
            clips[clip.name] = clip
    if not clips:
        raise ValueError(
            f"data.root={str(root)!r} holds no RAVDESS or TESS recording ({len(foreign)} other"
            " audio files): expected names such as 03-01-05-02-01-01-12.wav or OAF_back_angry.wav"
        )
    return Scan(root, tuple(clips.values()), tuple(foreign), tuple(copies))


def audio_files(root: Path) -> Iterator[Path]:
    """Yield every file below `root` with an audio suffix, links followed once."""
    seen = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        subfolders.sort()  # of two links to one folder the first in order is followed
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        for name in names:
            if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                yield Path(folder, name)


def _raise(error: OSError) -> None:
    raise error
