"""The errors of a run as people look at them: the most confident first, to be heard and filtered.

Sound is MP3, which all browsers play; Opus in Ogg is smaller, but Safari before 18.4 is silent.
"""

import io
import logging
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import soundfile
import soxr

from ser.corpora.clip import Corpus
from ser.evaluation.statistics import speakers_of

SHOWN = 200
"""Errors in the page."""

HEARD = 24
"""The first of them, with a player."""

LARGEST = 3_000_000
"""Characters of all sound in the page."""

RATE = 24000
"""Hz of it: up to 12 kHz are heard."""

UNKNOWN = "licence unknown: ask whoever gave you the recordings"

Hear = Callable[[str], tuple[np.ndarray, int]]
"""Returns what a model heard of a clip, (samples,) int16, and its rate in Hz."""

log = logging.getLogger(__name__)


def describe_errors(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    corpora: Mapping[str, Corpus],
    hear: Hear | None,
) -> dict[str, object]:
    """Return what the page shows of the errors.

    Args:
        predictions: Rows of predictions.csv.
        classes: Class names in their order.
        corpora: What is known of each, by name.
        hear: Reads a clip; None shows no players.

    Returns:
        `total`, `rows` of the first `SHOWN`, the choices of the filter by its name, the `sources`
        of what is heard, and `silent`, why other rows have no player.
    """
    columns = [f"p_{name}" for name in classes]
    wrong = wrong_clips(predictions, classes)
    missed = wrong[:SHOWN]
    players, silent = _players(missed["clip"][:HEARD], hear) if hear else ([], "")
    rows = [
        {
            "path": row.path,
            "label": row.label,
            "prediction": row.prediction,
            "speaker": speaker,
            "confidence": row.confidence,
            "player": player,
            "shares": list(zip(classes, shares, strict=True)),
        }
        for row, speaker, player, shares in zip(
            missed[["path", "label", "prediction", "confidence"]].itertuples(),
            speakers_of(missed),
            players + [None] * (len(missed) - len(players)),
            missed[columns].to_numpy(float),
            strict=True,
        )
    ]
    choices = {
        "label": [name for name in classes if (missed.label == name).any()],
        "prediction": [name for name in classes if (missed.prediction == name).any()],
        "speaker": np.unique(speakers_of(missed)).tolist(),
    }
    return {
        "total": len(wrong),
        "rows": rows,
        "choices": choices,
        "sources": sources_of(missed.corpus[: len(players)], corpora),
        "silent": silent,
    }


def wrong_clips(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the rows of wrong predictions with their `confidence`, the most confident first."""
    missed = predictions[predictions.label != predictions.prediction]
    confidence = missed[[f"p_{name}" for name in classes]].max(axis=1)
    return missed.assign(confidence=confidence).sort_values("confidence", ascending=False)


def sources_of(names: Iterable[str], corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Return licences of corpora, and by each where they are from; a manifest says neither."""
    found = {}
    for name in dict.fromkeys(names):
        known = name in corpora and corpora[name].licence
        licence = corpora[name].licence if known else f"{name}: {UNKNOWN}"
        found[licence] = corpora[name].source if known else ""
    return found


def _players(clips: Sequence[str], hear: Hear) -> tuple[list[str], str]:
    """Return the sound of the first clips as text in the page, and why others have none."""
    players, left = [], LARGEST
    try:
        for clip in clips:
            player = b64encode(encode(*hear(clip))).decode()
            left -= len(player)
            if left < 0:
                return players, f"More sound than that of {len(players)} clips is too large."
            players.append(player)
    except (OSError, ValueError, soundfile.SoundFileError) as error:
        log.warning("report.html has no players: %s", error)
        return [], "No players: the recordings cannot be read now."
    return players, ""


def encode(samples: np.ndarray, rate: int) -> bytes:
    """Encode (samples,) int16 as MP3 of about 40 kbit/s, for people to hear."""
    file = io.BytesIO()
    resampled = soxr.resample(samples, rate, RATE)
    soundfile.write(
        file, resampled, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    )
    return file.getvalue()
