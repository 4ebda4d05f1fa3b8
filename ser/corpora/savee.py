"""SAVEE: four men say 15 sentences in each of six emotions, and 30 neutral ones (Haq & Jackson).

Codes are of the release's Info.txt, lengths of EmoBox (github.com/emo-box/EmoBox). The release has
a folder a speaker, `DC/a01.wav`; copies in circulation have one folder, `DC_a01.wav`.
"""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from ser.corpora.clip import HEARD_EMOBOX, Clip, Corpus, Oddities, Release

SPEAKERS = dict.fromkeys(("DC", "JE", "JK", "KL"), "male")
"""By name, their gender."""

CODES = {
    "n": "neutral",
    "h": "happy",
    "sa": "sad",
    "a": "angry",
    "f": "fearful",
    "d": "disgust",
    "su": "surprised",
}
"""Emotions by the code of a file."""

SENTENCES = 15
"""Of each emotion; twice as many are neutral."""

COMMON = 3
"""The first sentences are the same in all emotions, as their lengths show.

Twelve neutral ones are the fourth or fifth of another emotion; the names do not say which.
"""

_NAME = re.compile(r"(?:([A-Z]{2})_)?(n|h|sa|a|f|d|su)(\d\d)", re.IGNORECASE)


def parse(path: Path) -> Clip | None:
    """Read a clip's facts from the names of file and folder; None where there is no such clip."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, code = (match[1] or path.parent.name).upper(), match[2].lower()
    number = int(match[3])
    if speaker not in SPEAKERS or not 1 <= number <= SENTENCES * (2 if code == "n" else 1):
        return None
    return Clip(
        clip=f"savee/{speaker}_{code}{match[3]}",
        path=path,
        corpus="savee",
        speaker=speaker,
        gender=SPEAKERS[speaker],
        channel="speech",
        emotion=CODES[code],
        intensity="normal",
        statement=match[3] if number <= COMMON else f"{code}{match[3]}",
        repetition=1,
        modality="audio",
    )


def _from_name(name: str) -> Clip | None:
    return parse(Path(*name.split("_")))


def _official() -> Iterator[Path]:
    for speaker, code, number in product(SPEAKERS, CODES, range(1, 2 * SENTENCES + 1)):
        path = Path(speaker, f"{code}{number:02}.wav")
        if parse(path):
            yield path


SAVEE = Corpus(
    name="savee",
    title="SAVEE",
    parse=parse,
    from_name=_from_name,
    official=_official,
    speakers=SPEAKERS,
    emotions=tuple(CODES.values()),
    lead_seconds=None,
    releases={"speech": Release(44100, (1.63, 7.14))},
    record=None,  # it asks for a registration
    source="http://kahlan.eps.surrey.ac.uk/savee",
    licence="SAVEE (Haq & Jackson, University of Surrey) is for research, after a registration",
    limits="four Englishmen act out emotions, and most sentences are said in one emotion alone",
    examples="DC/a01.wav",
    oddities=Oddities(zero_runs=None),
    heard_by=(
        *HEARD_EMOBOX,
        # By their model cards.
        "amiriparian/ExHuBERT",
        "firdhokk/speech-emotion-recognition-with-facebook-wav2vec2-large-xlsr-53",
        "hughlan1214/Speech_Emotion_Recognition_wav2vec2-large-xlsr-53_240304_SER_fine-tuned2.0",
        "r-f/wav2vec-english-speech-emotion-recognition",
    ),
)
