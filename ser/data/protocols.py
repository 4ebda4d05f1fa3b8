"""Which clip is for training, validation or test, fold by fold.

A protocol sees every RAVDESS clip of the scan, before any selection: dropping a class or a channel
moves no actor. No fold's test actors are drawn, or move, by what is validated.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import ClassVar, Protocol

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from ser.data.corpora import Clip

VERSION = 1
"""Raised when a protocol with the same settings parts the same clips otherwise."""

SPLITS = ("train", "val", "test")
ACTORS = tuple(f"{number:02}" for number in range(1, 25))

log = logging.getLogger(__name__)


class SplitProtocol(Protocol):
    """A named way to part clips into train, val and test, once a fold."""

    name: str
    leaky: bool

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's name to its split."""


@dataclass(frozen=True)
class Holdout:
    """Four unseen actors test, four others validate, the rest train; 2 men and 2 women each.

    StratifiedGroupKFold on emotion x gender with one fold per four actors: the first fold tests,
    the second validates.
    """

    name: str = "holdout"
    seed: int = 0
    leaky: ClassVar[bool] = False

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds: it has one."""
        return 1

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, by actor."""
        genders = genders_of(clips)
        if len(genders) < 3:
            raise ValueError(
                f"protocol={self.name} needs at least 3 RAVDESS actors, got {sorted(genders)}:"
                " one each to train, validate and test; check data.root"
            )
        test, val, *_ = _spread(clips, max(3, round(len(genders) / 4)), self.seed)
        for split, actors in (("val", val), ("test", test)):
            men = sum(genders[actor] == "male" for actor in actors)
            if (men, len(actors)) != (2, 4):
                log.warning(
                    "%s holds %d men and %d women instead of 2 and 2: actors %s are missing",
                    split, men, len(actors) - men, ", ".join(missing(genders)),
                )  # fmt: skip
        return part_by_actor(clips, test, val)


@dataclass(frozen=True)
class KFold:
    """Each fold of StratifiedGroupKFold on emotion x gender tests once.

    Of the other actors, `val_actors` validate, as many men as women, and the rest train.
    """

    name: str = "kfold"
    folds: int = 6
    val_actors: int = 4
    seed: int = 0
    leaky: ClassVar[bool] = False

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return self.folds

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, by actor."""
        genders = genders_of(clips)
        if not 2 <= self.folds <= len(genders):
            raise ValueError(
                f"protocol.folds={self.folds}: expected 2 to {len(genders)}, as there are"
                f" {len(genders)} RAVDESS actors"
            )
        if absent := missing(genders):
            log.warning(
                "%s: the folds are drawn without the actors %s, which are missing",
                self.name, ", ".join(absent),
            )  # fmt: skip
        test = _spread(clips, self.folds, self.seed)[fold]
        return part_by_actor(clips, test, draw_validators(self, genders, test, fold))


@dataclass(frozen=True)
class NamedFolds:
    """The actors named for a fold test; of the others `val_actors` validate, the rest train.

    Attributes:
        folds: RAVDESS actors, a list a fold; None gives each actor at hand a fold.
        val_actors: How many validate, as many men as women.
        seed: Of the draw of those.
    """

    name: str
    folds: Sequence[Sequence[int]] | None = None
    val_actors: int = 4
    seed: int = 0
    leaky: ClassVar[bool] = False

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return len(self._tested(clips))

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, by actor."""
        genders = genders_of(clips)
        named = self._tested(clips)[fold]
        test = [actor for actor in named if actor in genders]
        if not test:
            raise ValueError(
                f"fold {fold} of protocol={self.name} is empty: it tests the actors"
                f" {', '.join(named)}, but data.root holds {len(genders)} RAVDESS actors:"
                f" {', '.join(genders)}"
            )
        # Without a list of its own an absent actor has no fold, which concerns all folds.
        absent = [actor for actor in named if actor not in genders]
        if self.folds is None:
            absent = missing(genders)
        if absent:
            log.warning("%s: actors %s are missing and go untested", self.name, ", ".join(absent))
        return part_by_actor(clips, test, draw_validators(self, genders, test, fold))

    def _tested(self, clips: Sequence[Clip]) -> list[list[str]]:
        if self.folds is None:
            return [[actor] for actor in genders_of(clips)]
        named = [f"{actor:02}" for actors in self.folds for actor in actors]
        if len(set(named)) < len(named) or not set(named) <= set(ACTORS):
            raise ValueError(
                f"protocol.folds={self.folds}: expected lists of actors from 1 to 24, each in one"
                " of them at most"
            )
        return [[f"{actor:02}" for actor in actors] for actors in self.folds]


@dataclass(frozen=True)
class Random:
    """Clips are parted at random, so the same actors are on both sides: for comparison only.

    Stratified on emotion x channel. Each of the `folds` tests once; `val_size` is the share of the
    other clips that validate.
    """

    name: str = "random"
    folds: int = 5
    val_size: float = 0.2
    seed: int = 0
    leaky: ClassVar[bool] = True

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return self.folds

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, blind to its actor."""
        strata = np.array([clip.emotion + clip.channel for clip in clips])
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        rest, test = list(folds.split(strata, strata))[fold]
        _, val = train_test_split(
            rest, test_size=self.val_size, random_state=self.seed, stratify=strata[rest]
        )
        splits = np.full(len(clips), "train", "<U5")
        splits[val], splits[test] = "val", "test"
        return {clip.name: str(split) for clip, split in zip(clips, splits, strict=True)}


def genders_of(clips: Sequence[Clip]) -> dict[str, str]:
    """Map each actor to a gender, in order."""
    return dict(sorted((clip.actor, clip.gender) for clip in clips))


def missing(actors: Collection[str]) -> list[str]:
    """List RAVDESS's actors who are not among these."""
    return [actor for actor in ACTORS if actor not in actors]


def draw_validators(
    protocol: SplitProtocol, genders: Mapping[str, str], test: Collection[str], fold: int
) -> list[str]:
    """Draw the actors who validate out of those who do not test, as many men as women.

    The order of the draw is by official number: a missing actor moves no other.
    """
    order = np.random.default_rng([protocol.seed, fold]).permutation(len(ACTORS))
    others = [
        actor for number, actor in sorted(zip(order, ACTORS, strict=True)) if actor in genders
    ]
    others = [actor for actor in others if actor not in test]
    if not 1 <= protocol.val_actors < len(others):
        raise ValueError(
            f"protocol.val_actors={protocol.val_actors}: expected 1 to {len(others) - 1}, as fold"
            f" {fold} of protocol={protocol.name} tests {len(test)} of {len(genders)} RAVDESS"
            " actors and at least one must train"
        )
    men, women = ([a for a in others if genders[a] == sex] for sex in ("male", "female"))
    drawn = [actor for pair in zip_longest(men, women) for actor in pair if actor]
    return drawn[: protocol.val_actors]


def part_by_actor(
    clips: Sequence[Clip], test: Collection[str], val: Collection[str]
) -> dict[str, str]:
    """Map a clip's name to the split of its actor."""
    held_out = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return {clip.name: held_out.get(clip.actor, "train") for clip in clips}


def _spread(clips: Sequence[Clip], folds: int, seed: int) -> list[list[str]]:
    """Spread the actors over folds that resemble each other in emotion and gender."""
    actors = [clip.actor for clip in clips]
    strata = [clip.emotion + clip.gender for clip in clips]
    spread = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [
        sorted({actors[row] for row in rows}) for _, rows in spread.split(strata, strata, actors)
    ]
