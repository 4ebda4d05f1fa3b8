"""What the official releases of RAVDESS and TESS hold, and what is odd in them.

Measured on the full releases where nothing else is said. Clips are named as `Clip.name` does, so
TESS's emotions are written out: `OAF_food_fearful` is OAF_food_fear.wav.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ser.corpora.clip import EMOTIONS, RAVDESS_MODALITIES, TESS_EMOTIONS, Clip, parse


@dataclass(frozen=True)
class Release:
    """The recordings of one corpus and channel, as published.

    Attributes:
        corpus: As of `Clip`.
        channel: As of `Clip`.
        sample_rate: Hz.
        seconds: Of the shortest and of the longest clip.
        peaks_dbfs: The median peaks of the quietest and of the loudest speaker.
    """

    corpus: str
    channel: str
    sample_rate: int
    seconds: tuple[float, float]
    peaks_dbfs: tuple[float, float]


# The levels are of 20 speakers, for song and TESS of Vorbis copies.
RELEASES = (
    Release("ravdess", "speech", 48000, (2.94, 5.27), (-31.4, -14.3)),
    Release("ravdess", "song", 48000, (3.50, 6.37), (-26.5, -11.7)),
    Release("tess", "speech", 24414, (1.25, 2.99), (-17.5, -11.4)),
)

NO_SONG = "18"
"""The speaker who recorded none."""

STEREO = frozenset(
    (
        "03-01-02-01-01-02-01", "03-01-08-01-02-02-01", "03-01-02-01-02-02-05",
        "03-01-03-01-02-01-20", "03-01-06-01-01-02-20", "03-02-01-01-01-01-24",
    )
)  # fmt: skip
"""Two equal channels."""

ALIKE = frozenset(("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"))
"""Two names, one recording."""

AIFF = frozenset(("YAF_germ_angry", "YAF_neat_fearful"))
"""AIFF under .wav."""

RATES = {"OAF_food_fearful": 96000}
"""Hz, where not the release's."""

CLIPPED = frozenset(("OAF_pad_surprised",))
"""At full scale for 50 samples."""

MISSPELT = {"OAF_bite_neutral": "OA_bite_neutral"}
"""The file's name in the release."""

ZERO_RUNS = {"ravdess": 264, "tess": 0}
"""Clips with over half a second of digital zeros, most of speakers 20, 04, 14, 24, 02 and 16."""

FILES = {
    "OAF_back_angry": (
        75204,
        "516e65737480f4ca3c1de7580c9a43df4ec60abb1c7c443ed43abf18da5ad146",
    ),
    "YAF_beg_sad": (
        104878,
        "2196e415097043b755827f2d51dbe6295546d9fc19a20de7eb156c858e3f7a55",
    ),
}
"""Bytes and sha256 of WAV files in whose place copies in circulation hold other audio."""

_WORDS = """
back bar base bath bean beg bite boat bone book bought burn cab calm came cause chain chair chalk
chat check cheek chief choice cool dab date dead death deep dime dip ditch dodge dog doll door fail
fall far fat fit five food gap gas gaze germ get gin goal good goose gun half hall hash hate have
haze hire hit hole home hurl hush jail jar join judge jug juice keen keep keg kick kill king kite
knock late laud lean learn lease lid life limb live loaf long lore lose lot love luck make match
merge mess met mill mob mode mood moon mop mouse nag name near neat nice note numb pad page pain
pass pearl peg perch phone pick pike pole pool puff rag raid rain raise rat reach read red ring ripe
road room rose rot rough rush said sail search seize sell shack shall shawl sheep shirt should shout
size soap soup sour south sub such sure take talk tape team tell thin third thought thumb time tip
tire ton tool tough turn vine voice void vote wag walk wash week wheat when which whip white wife
wire witch yearn yes young youth
"""
TESS_WORDS = tuple(_WORDS.split())
"""Each is said after 'Say the word'."""


def official(
    corpora: Sequence[str], channels: Sequence[str], modality: Sequence[str]
) -> dict[str, Clip]:
    """Give the clips that the releases hold by name; their paths are the official file names.

    All of RAVDESS's takes were filmed, none of TESS's.
    """
    clips = (parse(path) for path in _paths(modality))
    return {
        clip.name: clip
        for clip in clips
        if clip and clip.corpus in corpora and clip.channel in channels and not _unsung(clip)
    }


def release_of(clip: Clip) -> Release:
    """Find the release that a clip belongs to by its name."""
    of_corpus = (release for release in RELEASES if release.corpus == clip.corpus)
    return next(release for release in of_corpus if release.channel == clip.channel)


def seconds_of(clip: Clip) -> tuple[float, float]:
    """Give the bounds of a clip's length in s; where its file is known they are one."""
    if clip.name not in FILES:
        return release_of(clip).seconds
    size, _ = FILES[clip.name]
    exact = (size - 44) / 2 / release_of(clip).sample_rate  # 16 bit after a plain header
    return exact, exact


def _paths(modality: Sequence[str]) -> Iterator[Path]:
    """Give the names that the codes allow; those of neither corpus are among them."""
    for code, name in RAVDESS_MODALITIES.items():
        if name in modality:
            codes = product((code,), (1, 2), range(1, len(EMOTIONS) + 1), (1, 2), (1, 2), (1, 2))
            for numbers, speaker in product(codes, range(1, 25)):
                stem = "-".join(f"{number:02}" for number in (*numbers, speaker))
                yield Path(f"{stem}.{'wav' if name == 'audio' else 'mp4'}")
    if "audio" in modality:
        for speaker, word, emotion in product(("OAF", "YAF"), TESS_WORDS, TESS_EMOTIONS):
            yield Path(f"{speaker}_{word}_{emotion}.wav")


def _unsung(clip: Clip) -> bool:
    return clip.channel == "song" and clip.speaker == NO_SONG
