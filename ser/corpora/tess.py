"""TESS: two women say 200 words in seven emotions (Pichora-Fuller & Dupuis 2020).

Facts of the release were measured on the full one; levels on Vorbis copies. Clips are named with
their emotion written out: `OAF_food_fearful` is OAF_food_fear.wav.
"""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from ser.corpora.clip import AUDIO_SUFFIXES, HEARD_EMOBOX, Clip, Corpus, Oddities, Record, Release

NAME = "tess"

SPEAKERS = ("OAF", "YAF")
"""The older and the younger one."""

CODES = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgust",
    "ps": "surprised",
}
"""Emotions by the code of a file; `ps` is pleasant surprise, and there is no calm."""

# One file of the release begins `OA_` instead of `OAF_`.
_NAME = re.compile(r"(OAF?|YAF)_([a-z]+)_([a-z]+)", re.IGNORECASE)

FORMER_ROLES = {
    "train": {},
    "mixed": {"roles": {"tess": "split"}, "classes": "all"},
    "off": {"roles": {"tess": "off"}},
    "test": {"roles": {"ravdess": "train", "tess": "test"}},
    "oaf_to_yaf": {"roles": {"ravdess": "val", "tess": "split"}},
    "yaf_to_oaf": {"roles": {"ravdess": "val", "tess": "split"}},
}
"""What the data are given in place of `tess`, by its value; a checkpoint knows its own split."""

INSTEAD = {
    "train": "data.roles='{tess: train}'",
    "mixed": "protocol.roles='{tess: split}' data.classes=all, with protocol=random",
    "off": "data.roles='{tess: off}'",
    "test": "protocol=cross_corpus, or data.roles='{ravdess: train, tess: test}'",
    "oaf_to_yaf": "experiment=tess_speakers fold=1",
    "yaf_to_oaf": "experiment=tess_speakers fold=0",
}
"""What a user writes in place of `data.tess`, by its value."""

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
WORDS = tuple(_WORDS.split())
"""Each is said after 'Say the word'."""


def parse(path: Path) -> Clip | None:
    """Read a clip's facts from its file name; None where there is no such clip."""
    match = _NAME.fullmatch(path.stem)
    if match is None or match[3].lower() not in CODES:
        return None
    speaker = "YAF" if match[1].upper() == "YAF" else "OAF"
    word, emotion = match[2].lower(), CODES[match[3].lower()]
    return Clip(
        clip=f"tess/{speaker}_{word}_{emotion}",
        path=path,
        corpus="tess",
        speaker=speaker,
        gender="female",
        channel="speech",
        emotion=emotion,
        intensity="normal",
        statement=word,
        repetition=1,
        modality="audio",
    )


def _from_name(name: str) -> Clip | None:
    speaker, _, emotion = name.rpartition("_")
    codes = {emotion: code for code, emotion in CODES.items()}
    return parse(Path(f"{speaker}_{codes.get(emotion, emotion)}"))


def _official() -> Iterator[Path]:
    for speaker, word, code in product(SPEAKERS, WORDS, CODES):
        yield Path(f"{speaker}_{word}_{code}.wav")


def _holds(name: str, channel: str, modality: str) -> bool:
    return Path(name).suffix.lower() in {".zip", *AUDIO_SUFFIXES}


TESS = Corpus(
    name=NAME,
    title="TESS",
    parse=parse,
    from_name=_from_name,
    official=_official,
    speakers=dict.fromkeys(SPEAKERS, "female"),
    emotions=tuple(CODES.values()),
    lead_seconds=0.0,
    releases={"speech": Release(24414, (1.25, 2.99), (-17.5, -11.4))},
    record=Record(
        server="dataverse",
        path="api/datasets/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
        folder="TESS",
        holds=_holds,
        example=lambda channel, modality: "OAF_back_angry.wav",
    ),
    source="https://doi.org/10.5683/SP2/E8H2MF",
    licence="TESS (Pichora-Fuller & Dupuis 2020, doi:10.5683/SP2/E8H2MF) is CC BY-NC-ND 4.0:"
    " non-commercial use, with attribution; nothing made of it is passed on",
    licence_id="cc-by-nc-nd-4.0",
    limits="two actresses, of 26 and 64 years, act out emotions in a booth, in one carrier sentence"
    " ('Say the word ...')",
    examples="OAF_back_angry.wav",
    oddities=Oddities(
        aiff=("YAF_germ_angry", "YAF_neat_fearful"),
        rates={"OAF_food_fearful": 96000},
        clipped=("OAF_pad_surprised",),  # for 50 samples
        misspelt={"OAF_bite_neutral": "OA_bite_neutral"},
        files={
            "OAF_back_angry": (
                75204,
                "516e65737480f4ca3c1de7580c9a43df4ec60abb1c7c443ed43abf18da5ad146",
            ),
            "YAF_beg_sad": (
                104878,
                "2196e415097043b755827f2d51dbe6295546d9fc19a20de7eb156c858e3f7a55",
            ),
        },
    ),
    heard_by=(
        *HEARD_EMOBOX,
        # By their model cards.
        "amiriparian/ExHuBERT",
        "firdhokk/speech-emotion-recognition-with-facebook-wav2vec2-large-xlsr-53",
        "hughlan1214/Speech_Emotion_Recognition_wav2vec2-large-xlsr-53_240304_SER_fine-tuned2.0",
        "r-f/wav2vec-english-speech-emotion-recognition",
    ),
)
