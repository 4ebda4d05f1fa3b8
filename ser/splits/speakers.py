"""Speakers who are spread over folds, and drawn to validate; each is named with its corpus."""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, zip_longest

import numpy as np

from ser.corpora.clip import GENDERS, Clip
from ser.corpora.scan import CORPORA


def corpora_of(clips: Iterable[Clip]) -> list[str]:
    """List the corpora of clips: those known by name in their order, then others by name."""
    names = {clip.corpus for clip in clips}
    return [*filter(names.__contains__, CORPORA), *sorted(names - {*CORPORA})]


def genders_of(clips: Iterable[Clip]) -> dict[str, str]:
    """Map each speaker to a gender, in order."""
    return dict(sorted({(clip.voice, clip.gender) for clip in clips}))


def enrolled(clips: Sequence[Clip]) -> list[str]:
    """List all speakers of the corpora of these clips, in their official order.

    Those of a corpus known by name are there even without a clip.
    """
    present = list(genders_of(clips))
    speakers = []
    for name in corpora_of(clips):
        if name in CORPORA:
            speakers += [f"{name}/{speaker}" for speaker in CORPORA[name].speakers]
        else:
            speakers += [voice for voice in present if voice.startswith(f"{name}/")]
    return speakers


def missing(clips: Sequence[Clip]) -> list[str]:
    """List the speakers of the corpora of these clips who have none."""
    present = genders_of(clips)
    return [speaker for speaker in enrolled(clips) if speaker not in present]


def spread_speakers(clips: Sequence[Clip], folds: int, seed: int) -> list[list[str]]:
    """Spread the speakers over folds that resemble each other in corpus, emotion and gender."""
    from sklearn.model_selection import StratifiedGroupKFold

    speakers = np.array([clip.voice for clip in clips])
    strata = [f"{clip.corpus}/{clip.emotion}/{clip.gender}" for clip in clips]
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A stratum of fewer clips than folds cannot be in each of them.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return [
            np.unique(speakers[rows]).tolist() for _, rows in parts.split(strata, strata, speakers)
        ]


def draw_validators(
    genders: Mapping[str, str],
    order: Sequence[str],
    test: Collection[str],
    count: int,
    seed: int,
    fold: int,
) -> list[str]:
    """Draw the speakers who validate out of those who do not test, as many men as women.

    Args:
        genders: By speaker at hand.
        order: Speakers to draw from, and others: one who is missing moves no other.
        test: Speakers who test.
        count: How many to draw.
        seed: Of the draw, together with the fold.
        fold: Its number.
    """
    drawn = [order[place] for place in np.random.default_rng([seed, fold]).permutation(len(order))]
    others = [speaker for speaker in drawn if speaker in genders and speaker not in test]
    if count >= len(others):
        raise ValueError(
            f"protocol.val_speakers={count}: expected at most {len(others) - 1}, as fold {fold}"
            f" tests {len(test)} of {len(genders)} speakers and at least one must train"
        )
    groups = [[one for one in others if genders[one] == gender] for gender in (*GENDERS, "")]
    return [*filter(None, chain.from_iterable(zip_longest(*groups)))][:count]


def part_by_speaker(
    clips: Sequence[Clip], test: Collection[str], val: Collection[str]
) -> dict[str, str]:
    """Map a clip's identity to the split of its speaker."""
    held_out = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return {clip.clip: held_out.get(clip.voice, "train") for clip in clips}
