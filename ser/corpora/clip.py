"""RAVDESS and TESS: what their file names say, and where the files lie on disk."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ser.corpora.names import shown

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Canonical class order; the RAVDESS file code is the index + 1."""

CORPORA = ("ravdess", "tess")
CHANNELS = ("speech", "song")
MODALITIES = ("audio", "video")
"""A recording of sound alone, or the sound of a video. TESS has no videos."""

RAVDESS_MODALITIES = {1: "video", 3: "audio"}
"""RAVDESS's file codes; 02 are the videos once more, without sound."""

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
    speaker: str
    gender: str
    channel: str
    emotion: str
    intensity: str
    statement: str
    repetition: int
    modality: str

    @property
    def name(self) -> str:
        """The recording's name in one spelling, the same for every copy and container of it.

        A video and the audio file of its take have two.
        """
        if self.corpus == "ravdess":
            return self.path.stem
        return f"{self.speaker}_{self.statement}_{self.emotion}"


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
    """

    root: Path
    modality: tuple[str, ...]
    clips: tuple[Clip, ...]
    foreign: tuple[Path, ...]
    copies: tuple[Path, ...]
    unasked: tuple[Path, ...]

    def describe(self) -> str:
        """Say in one line what was found, taken and left."""
        counts = ", ".join(
            f"{sum(clip.corpus == corpus for clip in self.clips)} {corpus}" for corpus in CORPORA
        )
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
    """Read a clip's facts from its file name, or None where the name is of neither corpus."""
    if match := _RAVDESS_NAME.fullmatch(path.stem):
        return _parse_ravdess(path, *map(int, match.groups()))
    if match := _TESS_NAME.fullmatch(path.stem):
        return _parse_tess(path, *match.groups())
    return None


def from_name(name: str) -> Clip | None:
    """Give the clip of a `Clip.name`, with a path of no file; None where there is no such name."""
    words = name.split("_")
    codes = {emotion: code for code, emotion in TESS_EMOTIONS.items()}
    clip = parse(Path("_".join([*words[:-1], codes.get(words[-1], words[-1])])))
    return clip if clip and clip.name == name else None


def _parse_ravdess(
    path: Path,
    modality: int,
    channel: int,
    emotion: int,
    intensity: int,
    statement: int,
    repetition: int,
    speaker: int,
) -> Clip | None:
    known = (
        modality in RAVDESS_MODALITIES
        and 1 <= channel <= 2
        and 1 <= emotion <= (8 if channel == 1 else 6)
        and 1 <= intensity <= (1 if emotion == 1 else 2)
        and 1 <= statement <= 2
        and 1 <= repetition <= 2
        and 1 <= speaker <= 24
    )
    if not known:
        return None
    return Clip(
        path=path,
        corpus="ravdess",
        speaker=f"{speaker:02}",
        gender="male" if speaker % 2 else "female",
        channel=CHANNELS[channel - 1],
        emotion=EMOTIONS[emotion - 1],
        intensity="normal" if intensity == 1 else "strong",
        statement=RAVDESS_STATEMENTS[statement - 1],
        repetition=repetition,
        modality=RAVDESS_MODALITIES[modality],
    )


def _parse_tess(path: Path, speaker: str, word: str, emotion: str) -> Clip | None:
    if emotion.lower() not in TESS_EMOTIONS:
        return None
    return Clip(
        path=path,
        corpus="tess",
        speaker="YAF" if speaker.upper() == "YAF" else "OAF",
        gender="female",
        channel="speech",
        emotion=TESS_EMOTIONS[emotion.lower()],
        intensity="normal",
        statement=word.lower(),
        repetition=1,
        modality="audio",
    )


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
            f"data.root={str(root)!r} is not a folder: expected one that holds RAVDESS or TESS"
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
        elif clip.name in clips:
            copies.append(path)
        elif (told := shown(path)) != str(path):
            raise ValueError(
                f"data.root={str(root)!r} holds {told}, whose path has characters that no table can"
                " hold: rename its folder"
            )
        else:
            clips[clip.name] = clip
    by_modality = sorted(clips.values(), key=lambda clip: clip.modality)
    found = {clip.modality for clip in by_modality}
    if absent := [asked for asked in modality if asked not in found]:
        raise ValueError(
            f"data.root={str(root)!r} holds no RAVDESS or TESS recording of data.modality="
            f"[{','.join(absent)}] ({len(foreign)} other audio files, {len(unasked) + len(clips)}"
            " recordings of another modality): expected names such as 03-01-05-02-01-01-12.wav or"
            " OAF_back_angry.wav, or for a video 01-01-05-02-01-01-12.mp4"
        )
    return Scan(
        root,
        tuple(modality),
        tuple(by_modality),
        tuple(foreign),
        tuple(copies),
        tuple(unasked),
    )


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
