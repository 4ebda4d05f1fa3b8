"""RAVDESS's speakers: who is there, spread over folds, drawn to validate."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ser.corpora.clip import Clip

SPEAKERS = tuple(f"{number:02}" for number in range(1, 25))


def genders_of(clips: Sequence[Clip]) -> dict[str, str]:
    """Map each speaker to a gender, in order."""
    return dict(sorted((clip.speaker, clip.gender) for clip in clips))


def missing(speakers: Collection[str]) -> list[str]:
    """List RAVDESS's speakers who are not among these."""
    return [speaker for speaker in SPEAKERS if speaker not in speakers]


def spread(clips: Sequence[Clip], folds: int, seed: int) -> list[list[str]]:
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

    The order of the draw is by official number: a missing speaker moves no other.
    """
    order = np.random.default_rng([seed, fold]).permutation(len(SPEAKERS))
    drawn = (SPEAKERS[place] for place in order)
    others = [speaker for speaker in drawn if speaker in genders and speaker not in test]
    if count >= len(others):
        raise ValueError(
            f"protocol.val_speakers={count}: expected at most {len(others) - 1}, as fold {fold}"
            f" tests {len(test)} of {len(genders)} RAVDESS speakers and at least one must train"
        )
    men, women = ([a for a in others if genders[a] == sex] for sex in ("male", "female"))
    return [speaker for pair in zip_longest(men, women) for speaker in pair if speaker][:count]


def part_by_speaker(
    clips: Sequence[Clip], test: Collection[str], val: Collection[str]
) -> dict[str, str]:
    """Map a clip's name to the split of its speaker."""
    held_out = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return {clip.name: held_out.get(clip.speaker, "train") for clip in clips}
