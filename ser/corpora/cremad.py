"""CREMA-D: 91 actors say 12 sentences in six emotions (Cao et al. 2014).

Names, actors and what is missing are of github.com/CheyneyComputerScience/CREMA-D, lengths of
audeering.github.io/datasets. One sentence, `IEO`, is said at three levels; of the others, and of
neutral, the level is not specified.
"""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from ser.corpora.clip import HEARD_EMOBOX, Clip, Corpus, Oddities, Release

_ACTORS = """
51M 21F 21F 42F 29M 58F 38F 46F 24F 27F 32M 23F 22F 24M 32M 61M 42M 25F 29M 61F 30F 22M 22M 59F 48F
33M 44M 57F 33F 42F 31M 30M 31M 74M 48M 49M 45F 21M 51M 42M 42M 37M 25F 40M 22M 22F 22F 38M 25F 62M
56M 33F 35F 36F 57F 52F 25M 36F 21M 28F 51F 56M 33F 53M 38M 25M 66M 34M 27M 25M 41M 33F 24F 31F 40F
25F 20M 21F 21F 21M 30M 20F 45M 46F 34M 33M 62M 23M 24F 50M 29F
"""
# By number from 1001 on: age and sex.
_FACTS = {str(1001 + row): fact for row, fact in enumerate(_ACTORS.split())}

SPEAKERS = {speaker: "male" if fact[2] == "M" else "female" for speaker, fact in _FACTS.items()}
"""By name, their gender."""

SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
"""By the initials of their words: `IEO` is 'It's eleven o'clock'."""

CODES = {
    "NEU": "neutral",
    "HAP": "happy",
    "SAD": "sad",
    "ANG": "angry",
    "FEA": "fearful",
    "DIS": "disgust",
}
"""Emotions by the code of a file."""

LEVELS = {"LO": "low", "MD": "medium", "HI": "strong", "XX": "unspecified"}
"""Intensities by the code of a file; the highest has RAVDESS's word."""

# One file of the release ended `_X` instead of `_XX` until 2022.
_NAME = re.compile(r"(10\d\d)_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)", re.IGNORECASE)
_LACKING = ("1002_TIE_NEU", "1008_WSI", "1009_MTI", "1019_ITH", "1076_ITS_NEU")


def parse(path: Path) -> Clip | None:
    """Read a clip's facts from its file name; None where there is no such clip."""
    match = _NAME.fullmatch(path.stem)
    if match is None or path.parent.name == "AudioMP3":  # as raters heard them: some are broken
        return None
    speaker, sentence, code, level = match[0].upper().split("_")
    level = "XX" if level == "X" else level
    if speaker not in SPEAKERS or sentence not in SENTENCES or code not in CODES:
        return None
    if (level == "XX") == (sentence == "IEO" and code != "NEU"):
        return None
    return Clip(
        clip=f"cremad/{speaker}_{sentence}_{code}_{level}",
        path=path,
        corpus="cremad",
        speaker=speaker,
        gender=SPEAKERS[speaker],
        channel="speech",
        emotion=CODES[code],
        intensity=LEVELS[level],
        statement=sentence,
        repetition=1,
        modality="audio",
    )


def _official() -> Iterator[Path]:
    for parts in product(SPEAKERS, SENTENCES, CODES, LEVELS):
        clip = parse(Path(f"{'_'.join(parts)}.wav"))
        if clip and not clip.name.startswith(_LACKING):
            yield clip.path


CREMAD = Corpus(
    name="cremad",
    title="CREMA-D",
    parse=parse,
    from_name=lambda name: parse(Path(name)),
    official=_official,
    speakers=SPEAKERS,
    emotions=tuple(CODES.values()),
    lead_seconds=None,
    releases={"speech": Release(16000, (1.3, 5.0))},
    record=None,  # its files lie in git LFS, a request each
    source="https://github.com/CheyneyComputerScience/CREMA-D",
    licence="CREMA-D (Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244) is under the Open Database"
    " License 1.0: with attribution; what is made of it is shared alike",
    licence_id="odbl",
    limits="91 actors act out emotions in twelve English sentences",
    examples="1001_DFA_ANG_XX.wav",
    ages={speaker: int(fact[:2]) for speaker, fact in _FACTS.items()},
    oddities=Oddities(
        misspelt={"1040_ITH_SAD_XX": "1040_ITH_SAD_X"},
        silent=("1076_MTI_SAD_XX",),
        zero_runs=None,
    ),
    heard_by=(
        *HEARD_EMOBOX,
        # By their model cards.
        "amiriparian/ExHuBERT",
        "hughlan1214/Speech_Emotion_Recognition_wav2vec2-large-xlsr-53_240304_SER_fine-tuned2.0",
        # By their names.
        "Hamzaaa/wav2vec2-base-finetuned-crema",
        "RamiEbeid/hubert-base-crema",
        "Supreeta03/wav2vec2-base-sentiment-analysis-CREMA",
    ),
)
