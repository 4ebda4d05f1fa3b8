"""EMO-DB: ten speakers say ten German texts in seven emotions (Burkhardt et al. 2005).

Speakers and codes are of emodb.bilderbar.info, the 535 names and their lengths of EmoBox
(github.com/emo-box/EmoBox). Version 2.0 adds recordings that listeners agreed less on, under names
like these; they are read too.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ser.corpora.clip import HEARD_EMOBOX, Clip, Corpus, Oddities, Release

_ACTORS = "03M31 08F34 09F21 10M32 11M26 12M30 13F32 14F35 15M25 16F31"
# By name: sex and age.
_FACTS = {actor[:2]: actor[2:] for actor in _ACTORS.split()}

SPEAKERS = {speaker: "male" if fact[0] == "M" else "female" for speaker, fact in _FACTS.items()}
"""By name, their gender."""

TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
"""Five short ones and five longer ones."""

CODES = {
    "N": "neutral",
    "F": "happy",
    "T": "sad",
    "W": "angry",
    "A": "fearful",
    "E": "disgust",
    "L": "boredom",
}
"""Emotions by the initial of their German word."""

_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])", re.IGNORECASE)

# By speaker and text, emotions with their versions: listeners recognised 535 of about 800.
_TAKES = """
03 a01FaNcWa a02FcNcTaWbWc a04AdFdLcNcTaWc a05AaFcNdTcWaWb a07FaFbLaNcWc b01FaLbNbTdWaWc
b02AaLaNaTbWb b03NbTcWc b09LaNcTcWa b10AbEcNaNcWbWc
08 a01AbFdLcNaWaWc a02AbAcFeLaNaTbWc a04FfLaNcTbWc a05FeLcNbTaWa a07FdLaNaTaTbWc b01AaFdFeLbNaWa
b02FfLaNbTcWd b03FeLcNbTcWd b09AbFdLcNbTbWaWc b10AaFdLaNcTcWa
09 a01EaFaNbWb a02EaEbLaWb a04FdLaNbWa a05EdLcNbTbWbWc a07EbNaTaWbWd b01EaNaWb b02NaTbWcWd
b03EdFaFdLbNbTaWb b09EaNdWa b10AaNdWa
10 a01AcNbWa a02AbFaLbNaWa a04FdNbWaWb a05AaLdTbWb a07AaAdLaTaWb b01AaEaFaLb b02AaLaNaWb b03LaTbWb
b09AdLbWb b10FcLcWa
11 a01AaAbLdNdWc a02EcFbLdNcTcWc a04AcFdNdWc a05AdFbFcLcNaTdWd a07AcLdTaWc b01AbEbFcLbNcWd
b02AbFdNaTdWb b03FcLcNbTdWaWb b09AdFdLdNaTdWa b10AdAeLdNcTdWa
12 a01FbLbNbWc a02AcEcNbWaWc a04Wc a05AbLbNdTaWb a07AcLaWa b01TaWa b02AdEaFbNaWaWbWd b03LaTa
b09AcTdWc b10AcLdWa
13 a01AcEaEcFdLbNbWb a02AdEcFaLcNcTaWa a04AcFcLbTaWc a05AaEaLcNbTcWaWc a07FdLbNaTcWb b01AbEcFcLdNcWa
b02FbLcNbWa b03AcEdFdLbNaTdWc b09AbEcFbFcLaNaWa b10EcFaLaNcWaWc
14 a01AaAcEaNaWaWc a02AbEaFdLaNcTbWaWc a04AaEdLbTbTcWbWc a05AaAcFaFbLbNaTaTcWaWb
a07AaEbFdLcLdNaTcWc b01AcEbFaFcNaWc b02AaFbNaTcWbWd b03AdEdLbTaWb b09AcEaFcLbTdWaWc b10AdEbLbNbTcWc
15 a01EaFbLaNbWa a02AcEaLaNaTaWbWd a04AbAcFdNcWaWb a05EbFbLbNaWa a07AcEbFaFbLdNc b01EcLbNaWc
b02AaLbNdTcWaWc b03AaLcNbTcWaWb b09AcFaLaNbTaWb b10AcLcNbNcWa
16 a01EcFcLbNcTbWb a02EaEcLbNbTcWb a04AbEaFaLaLcNcTcWbWc a05AbEaFcLaTbWbWc a07EaFaFbLaLbNbTdWa
b01AaEbFaLaLcTbWaWb b02AaEbFdLbWb b03AdEaFaFdLaNbTaWb b09AbEbFbLaLbWb b10AaEbFbLbTbTdWaWb
"""


def parse(path: Path) -> Clip | None:
    """Read a clip's facts from its file name; None where there is no such clip."""
    match = _NAME.fullmatch(path.stem)
    if match is None or path.parent.name == "laryngo":  # not the voice, in version 2.0
        return None
    speaker, text, code, version = match[1], match[2].lower(), match[3].upper(), match[4].lower()
    if speaker not in SPEAKERS or text not in TEXTS or code not in CODES:
        return None
    return Clip(
        clip=f"emodb/{speaker}{text}{code}{version}",
        path=path,
        corpus="emodb",
        speaker=speaker,
        gender=SPEAKERS[speaker],
        channel="speech",
        emotion=CODES[code],
        intensity="normal",
        statement=text,
        repetition=ord(version) - ord("a") + 1,
        modality="audio",
    )


def _official() -> Iterator[Path]:
    speaker = ""
    for entry in _TAKES.split():
        if entry in SPEAKERS:
            speaker = entry
        for take in re.findall("[A-Z][a-z]", entry):
            yield Path(f"{speaker}{entry[:3]}{take}.wav")


EMODB = Corpus(
    name="emodb",
    title="EMO-DB",
    parse=parse,
    from_name=lambda name: parse(Path(name)),
    official=_official,
    speakers=SPEAKERS,
    emotions=tuple(CODES.values()),
    lead_seconds=None,
    releases={"speech": Release(16000, (1.23, 8.98))},
    record=None,
    source="http://emodb.bilderbar.info",
    licence="EMO-DB (Burkhardt et al. 2005, doi:10.21437/Interspeech.2005-446) asks to be cited;"
    " audEERING passes it on under CC0 1.0",
    limits="ten German actors act out emotions in ten German texts",
    examples="03a01Fa.wav",
    ages={speaker: int(fact[1:]) for speaker, fact in _FACTS.items()},
    oddities=Oddities(zero_runs=None),
    heard_by=(
        *HEARD_EMOBOX,
        # By their model cards.
        "amiriparian/ExHuBERT",
        "padmalcom/wav2vec2-large-emotion-detection-german",
    ),
)
