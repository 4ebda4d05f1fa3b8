"""RAVDESS's actors: who is there, spread over folds, drawn to validate."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ser.corpora.clip import Clip

ACTORS = tuple(f"{number:02}" for number in range(1, 25))


def genders_of(clips: Sequence[Clip]) -> dict[str, str]:
    """Map each actor to a gender, in order."""
    return dict(sorted((clip.actor, clip.gender) for clip in clips))


def missing(actors: Collection[str]) -> list[str]:
    """List RAVDESS's actors who are not among these."""
    return [actor for actor in ACTORS if actor not in actors]


def spread(clips: Sequence[Clip], folds: int, seed: int) -> list[list[str]]:
    """Spread the actors over folds that resemble each other in emotion and gender."""
    actors = [clip.actor for clip in clips]
    strata = [clip.emotion + clip.gender for clip in clips]
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [
        sorted({actors[row] for row in rows}) for _, rows in parts.split(strata, strata, actors)
    ]


def draw_validators(
    genders: Mapping[str, str], test: Collection[str], count: int, seed: int, fold: int
) -> list[str]:
    """Draw the actors who validate out of those who do not test, as many men as women.

    The order of the draw is by official number: a missing actor moves no other.
    """
    order = np.random.default_rng([seed, fold]).permutation(len(ACTORS))
    drawn = (ACTORS[place] for place in order)
    others = [actor for actor in drawn if actor in genders and actor not in test]
    if count >= len(others):
        raise ValueError(
            f"protocol.val_actors={count}: expected at most {len(others) - 1}, as fold {fold} tests"
            f" {len(test)} of {len(genders)} RAVDESS actors and at least one must train"
        )
    men, women = ([a for a in others if genders[a] == sex] for sex in ("male", "female"))
    return [actor for pair in zip_longest(men, women) for actor in pair if actor][:count]


def part_by_actor(
    clips: Sequence[Clip], test: Collection[str], val: Collection[str]
) -> dict[str, str]:
    """Map a clip's name to the split of its actor."""
    held_out = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return {clip.name: held_out.get(clip.actor, "train") for clip in clips}
