"""Speakers who are spread over folds, and drawn to validate."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ser.corpora.clip import Clip
from ser.corpora.scan import CORPORA

SPREAD = tuple(
    speaker for corpus in CORPORA.values() if not corpus.placed for speaker in corpus.speakers
)
"""The speakers of the corpora that have enough of them, in their official order."""


def is_spread(clip: Clip) -> bool:
    """Return whether a clip is of a corpus whose speakers are spread."""
    return not CORPORA[clip.corpus].placed


def genders_of(clips: Sequence[Clip]) -> dict[str, str]:
    """Map each speaker to a gender, in order."""
    return dict(sorted((clip.speaker, clip.gender) for clip in clips))


def missing(speakers: Collection[str]) -> list[str]:
    """List the speakers to spread who are not among these."""
    return [speaker for speaker in SPREAD if speaker not in speakers]


def spread_speakers(clips: Sequence[Clip], folds: int, seed: int) -> list[list[str]]:
    """Spread the speakers over folds that resemble each other in emotion and gender."""
    speakers = [clip.speaker for clip in clips]
    strata = [clip.emotion + clip.gender for clip in clips]
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [
        sorted({speakers[row] for row in rows}) for _, rows in parts.split(strata, strata, speakers)
    ]


def draw_validators(
    genders: Mapping[str, str], test: Collection[str], count: int, seed: int, fold: int
) -> list[str]:
    """Draw the speakers who validate out of those who do not test, as many men as women.

    The order of the draw is the official one: a missing speaker moves no other.
    """
    order = np.random.default_rng([seed, fold]).permutation(len(SPREAD))
    drawn = (SPREAD[place] for place in order)
    others = [speaker for speaker in drawn if speaker in genders and speaker not in test]
    if count >= len(others):
        raise ValueError(
            f"protocol.val_speakers={count}: expected at most {len(others) - 1}, as fold {fold}"
            f" tests {len(test)} of {len(genders)} speakers and at least one must train"
        )
    men, women = ([a for a in others if genders[a] == sex] for sex in ("male", "female"))
    return [speaker for pair in zip_longest(men, women) for speaker in pair if speaker][:count]


def part_by_speaker(
    clips: Sequence[Clip], test: Collection[str], val: Collection[str]
) -> dict[str, str]:
    """Map a clip's identity to the split of its speaker."""
    held_out = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return {clip.clip: held_out.get(clip.speaker, "train") for clip in clips}
