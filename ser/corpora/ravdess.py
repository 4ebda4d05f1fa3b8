"""RAVDESS: 24 actors speak and sing two sentences in eight emotions (Livingstone & Russo 2018).

Facts of the release were measured on the full one; levels on 20 actors, of song on Vorbis copies.
"""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from ser.corpora.clip import (
    CHANNELS,
    EMOTIONS,
    HEARD_EMOBOX,
    Clip,
    Corpus,
    Listeners,
    Oddities,
    Record,
    Release,
)

STATEMENTS = ("kids", "dogs")
"""'Kids are talking by the door' and 'Dogs are sitting by the door'."""

SPEAKERS = {f"{number:02}": "male" if number % 2 else "female" for number in range(1, 25)}
"""By name, their gender."""

SUNG = EMOTIONS[:6]

_MODALITIES = {1: "video", 3: "audio"}  # 02 are the videos once more, without sound
_NAME = re.compile(r"0([13])-0([12])-0([1-8])-0([12])-0([12])-0([12])-([0-2][0-9])")
# A video archive is one actor's.
_ARCHIVE = re.compile(r"(Audio|Video)_(Speech|Song)_Actors?_\d\d(-\d\d)?\.zip")


def parse(path: Path) -> Clip | None:
    """Read a clip's facts from its file name; None where there is no such clip."""
    match = _NAME.fullmatch(path.stem)
    if match is None or match[7] not in SPEAKERS:
        return None
    modality, channel, emotion, intensity, statement, repetition = map(int, match.groups()[:6])
    if (channel == 2 and emotion > len(SUNG)) or (emotion == 1 and intensity == 2):
        return None
    return Clip(
        clip=f"ravdess/{path.stem}",
        path=path,
        corpus="ravdess",
        speaker=match[7],
        gender=SPEAKERS[match[7]],
        channel=CHANNELS[channel - 1],
        emotion=EMOTIONS[emotion - 1],
        intensity="normal" if intensity == 1 else "strong",
        statement=STATEMENTS[statement - 1],
        repetition=repetition,
        modality=_MODALITIES[modality],
    )


def _official() -> Iterator[Path]:
    """Yield the file names of the releases: all takes were filmed."""
    for code, modality in _MODALITIES.items():
        twice = [(1, 2)] * 3
        for numbers in product((code,), (1, 2), range(1, 9), *twice, range(1, 25)):
            stem = "-".join(f"{number:02}" for number in numbers)
            clip = parse(Path(f"{stem}.{'wav' if modality == 'audio' else 'mp4'}"))
            if clip and (clip.speaker, clip.channel) not in _UNRECORDED:
                yield clip.path


def _holds(name: str, channel: str, modality: str) -> bool:
    match = _ARCHIVE.fullmatch(name)
    return match is not None and match.group(1, 2) == (modality.title(), channel.title())


_UNRECORDED = frozenset([("18", "song")])

RAVDESS = Corpus(
    name="ravdess",
    title="RAVDESS",
    parse=parse,
    from_name=lambda name: parse(Path(name)),
    official=_official,
    speakers=SPEAKERS,
    emotions=EMOTIONS,
    lead_seconds=1.0,
    releases={
        "speech": Release(48000, (2.94, 5.27), (-31.4, -14.3)),
        "song": Release(48000, (3.50, 6.37), (-26.5, -11.7)),
    },
    record=Record(
        server="zenodo",
        path="api/records/1188976",
        folder="RAVDESS",
        holds=_holds,
        example=lambda channel, modality: f"{modality.title()}_{channel.title()}_Actors_01-24.zip",
    ),
    source="https://zenodo.org/records/1188976",
    licence="RAVDESS (Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391) is CC BY-NC-SA"
    " 4.0: non-commercial use, with attribution; what is made of it is shared alike",
    licence_id="cc-by-nc-sa-4.0",
    limits="24 professional actors of North American English act out emotions in a studio, in two"
    " sentences",
    listeners=Listeners(
        channel="speech",
        named={
            ("neutral", "calm"): 0.817,
            ("happy",): 0.366,
            ("sad",): 0.479,
            ("angry",): 0.746,
            ("fearful",): 0.662,
            ("disgust",): 0.519,
            ("surprised",): 0.679,
        },
        overall=0.624,
        caveats="247 listeners, ten ratings a recording. They could answer 'none of these', which"
        " counts as wrong; neutral and calm were accepted for each other; they heard each clip"
        " alone and were not trained on these speakers; the rates are of all 24",
        source="Livingstone & Russo 2018 (PLoS ONE 13(5): e0196391): 0.58 at normal and 0.67 at"
        " strong intensity; by emotion recomputed from its tables S1 to S4 (CC BY 4.0)",
    ),
    examples="03-01-05-02-01-01-12.wav (a video: 01-01-05-02-01-01-12.mp4)",
    unrecorded=_UNRECORDED,
    oddities=Oddities(
        stereo=(
            "03-01-02-01-01-02-01", "03-01-08-01-02-02-01", "03-01-02-01-02-02-05",
            "03-01-03-01-02-01-20", "03-01-06-01-01-02-20", "03-02-01-01-01-01-24",
        ),
        alike=("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),
        zero_runs=264,  # most of actors 20, 04, 14, 24, 02 and 16
    ),
    heard_by=(
        *HEARD_EMOBOX,
        # By their model cards.
        "amiriparian/ExHuBERT",
        "AreejB/wav2vec2-xlsr-english-speech-emotion-recognition",
        "ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition",
        "firdhokk/speech-emotion-recognition-with-facebook-wav2vec2-large-xlsr-53",
        "hughlan1214/Speech_Emotion_Recognition_wav2vec2-large-xlsr-53_240304_SER_fine-tuned2.0",
        "r-f/wav2vec-english-speech-emotion-recognition",
        # By their names.
        "Wiam/wav2vec2-lg-xlsr-en-speech-emotion-recognition-finetuned-ravdess-v8",
        "Yassmen/Wav2Vec2_Fine_tuned_on_RAVDESS_2_Speech_Emotion_Recognition",
    ),
)  # fmt: skip
