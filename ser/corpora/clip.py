"""A clip, and the corpus that it is of."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Canonical class order; other emotions follow by name."""

GENDERS = ("male", "female")
CHANNELS = ("speech", "song")
MODALITIES = ("audio", "video")
"""A recording of sound alone, or the sound of a video."""

AUDIO_SUFFIXES = frozenset(
    (
        ".aif", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mp3", ".mp4",
        ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".wma",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what its name says of it.

    Attributes:
        clip: Its identity over all corpora, `<corpus>/<name>`: the same for every copy and
            container of it. A video and the audio file of its take have two.
        path: Its file.
        corpus: The name of its corpus.
        speaker: Unique within the corpus.
        gender: One of `GENDERS`; empty where it is not known, as all that follows may be but the
            channel and the emotion.
        channel: One of `CHANNELS`.
        emotion: One of `EMOTIONS`, or another word.
        intensity: `normal`, `strong` or another word.
        statement: What is said.
        repetition: From 1.
        modality: One of `MODALITIES`.
        start: Where it begins in its file, in s.
        end: Where it ends there; None is the file's end.
        given: The split that a manifest gives it, empty for none.
    """

    clip: str
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
    start: float = 0.0
    end: float | None = None
    given: str = ""

    @property
    def voice(self) -> str:
        """Its speaker over all corpora, `<corpus>/<speaker>`."""
        return f"{self.corpus}/{self.speaker}"

    @property
    def name(self) -> str:
        """Its name within the corpus."""
        return self.clip.partition("/")[2]

    @property
    def is_segment(self) -> bool:
        """Whether it is a part of its file."""
        return self.start > 0 or self.end is not None

    @property
    def sentence(self) -> tuple[str, ...]:
        """What its repetitions have in common: who says what in which way."""
        said = self.statement or self.clip  # of which it is not known what is said, each is one
        return self.voice, self.gender, self.channel, self.emotion, self.intensity, said

    @property
    def take(self) -> tuple:
        """What the audio file and the video of one moment have in common."""
        return self.sentence, self.repetition


HEARD_EMOBOX = (
    "emotion2vec/emotion2vec_plus_base",
    "emotion2vec/emotion2vec_plus_large",
    "emotion2vec/emotion2vec_plus_seed",
)
"""Public encoders that were trained on the corpora of EmoBox, or by labels of a model of these.

Source: github.com/ddlBoJack/emotion2vec, issue 46.
"""

COLUMNS = tuple(name for name in Clip.__dataclass_fields__ if name not in ("start", "end", "given"))
"""Of tables, a row a clip; those with segments have `start` and `end` too."""


@dataclass(frozen=True)
class Release:
    """The recordings of one channel, as published.

    Attributes:
        sample_rate: Hz.
        seconds: Of the shortest and of the longest clip.
        peaks_dbfs: The median peaks of the quietest and of the loudest speaker; None where they
            were not measured.
    """

    sample_rate: int
    seconds: tuple[float, float]
    peaks_dbfs: tuple[float, float] | None = None


@dataclass(frozen=True)
class Oddities:
    """What is odd in the releases themselves, by `Clip.name`.

    Attributes:
        stereo: Clips of two channels.
        alike: Clips of which each is the same recording under another name.
        aiff: AIFF under .wav.
        rates: Hz, where not the release's.
        clipped: At full scale for many samples.
        silent: Nothing but zeros.
        misspelt: The file's name in the release.
        zero_runs: How many clips hold more than half a second of digital zeros; None where they
            were not counted.
        files: Bytes and sha256 of WAV files in whose place copies in circulation hold other audio.
    """

    stereo: Collection[str] = ()
    alike: Collection[str] = ()
    aiff: Collection[str] = ()
    rates: Mapping[str, int] = field(default_factory=dict)
    clipped: Collection[str] = ()
    silent: Collection[str] = ()
    misspelt: Mapping[str, str] = field(default_factory=dict)
    zero_runs: int | None = 0
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Listeners:
    """How often people name the intended emotion when they hear the clips of a corpus.

    Attributes:
        channel: Of the clips that they heard.
        named: Share of right answers by emotion; emotions that are accepted for each other have
            one share together.
        overall: The share over all clips.
        caveats: How they were asked.
        source: Where the shares are from.
    """

    channel: str
    named: Mapping[tuple[str, ...], float]
    overall: float
    caveats: str
    source: str


@dataclass(frozen=True)
class Record:
    """The public record that a corpus is downloaded from.

    Attributes:
        server: The kind of server, `zenodo` or `dataverse`.
        path: Of the record in the server's API.
        folder: Where its files go below the root of the data.
        holds: By the name of a file, whether it has clips of a channel and modality.
        example: The name of a file that has them, for messages.
    """

    server: str
    path: str
    folder: str
    holds: Callable[[str, str, str], bool]
    example: Callable[[str, str], str]


def _unnamed(name: object) -> None:
    """Know no clip by its name."""


@dataclass(frozen=True)
class Corpus:
    """All that the program knows of a corpus; of one that a manifest names, who speaks and how.

    Attributes:
        name: In columns, keys and identities.
        title: In text.
        speakers: By name, their gender.
        emotions: That its clips have, in canonical order.
        parse: Reads a clip's facts from its file name; None where the name is not of the corpus.
        from_name: Returns the clip of a `Clip.name`, with a path of no file; None likewise.
        official: The file names of the releases.
        lead_seconds: Silence before the words of a clip, where the window starts; None where that
            differs, so that it starts at the onset.
        releases: By channel.
        record: Where it is downloaded from; None where that takes a person.
        source: The address where people find it.
        licence: Under which.
        licence_id: Of it, as model cards name licences; `other` where they have no name for it.
        limits: What a model that knows this corpus alone has never heard.
        listeners: What people make of it; None where it is not known.
        examples: File names, for messages.
        ages: By speaker, in years, where the corpus says them.
        unrecorded: Speaker and channel of what was never recorded.
        oddities: Of the releases.
        heard_by: Public encoders that were trained on it, by the names that they have where they
            are published.
    """

    name: str
    title: str
    speakers: Mapping[str, str]
    emotions: tuple[str, ...]
    parse: Callable[[Path], Clip | None] = _unnamed
    from_name: Callable[[str], Clip | None] = _unnamed
    official: Callable[[], Iterable[Path]] = tuple
    lead_seconds: float | None = None
    releases: Mapping[str, Release] = field(default_factory=dict)
    record: Record | None = None
    source: str = ""
    licence: str = ""
    licence_id: str = "other"
    limits: str = ""
    listeners: Listeners | None = None
    examples: str = ""
    ages: Mapping[str, int] = field(default_factory=dict)
    unrecorded: Collection[tuple[str, str]] = ()
    oddities: Oddities = Oddities()
    heard_by: Collection[str] = ()

    def seconds_of(self, clip: Clip) -> tuple[float, float]:
        """Return the bounds of a clip's length in s; where its file is known they are one."""
        release = self.releases[clip.channel]
        if clip.name not in self.oddities.files:
            return release.seconds
        size, _ = self.oddities.files[clip.name]
        exact = (size - 44) / 2 / release.sample_rate  # 16 bit after a plain header
        return exact, exact
