"""Protocols: which clip is for training, validation or test, fold by fold.

A protocol sees every clip of the scan whose corpus has speakers enough to be spread, before any
selection: dropping a class or a channel moves no speaker. No fold's test speakers are drawn, or
move, by what is validated.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
from annotated_types import Interval, MinLen
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, train_test_split

from ser.config.quantities import Seed
from ser.corpora.clip import Clip
from ser.corpora.ravdess import SPEAKERS, STATEMENTS
from ser.corpora.scan import CORPORA
from ser.splits.speakers import (
    draw_validators,
    genders_of,
    is_spread,
    missing,
    part_by_speaker,
    spread_speakers,
)

Folds = Annotated[int, Interval(ge=2, le=1000)]
Speakers = Annotated[int, Interval(ge=0, le=1000)]
Number = Annotated[int, Interval(ge=1, le=len(SPEAKERS))]
OpenShare = Annotated[float, Interval(gt=0, lt=1)]

VERSION = 1
"""Raised when a protocol with the same settings parts the same clips otherwise."""

SPLITS = ("train", "val", "test")


class SplitProtocol(Protocol):
    """A named way to part clips into train, val and test, once a fold."""

    name: str
    leaky: ClassVar[bool] = False

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds; by default there is one."""
        return 1

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List the speakers whom the fold, or its making, goes without; by default no one."""
        return []

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split."""


@dataclass(frozen=True)
class Holdout(SplitProtocol):
    """Four unseen speakers test, four others validate, the rest train; 2 men and 2 women each.

    StratifiedGroupKFold on emotion x gender with one fold per four speakers: the first fold tests,
    the second validates.
    """

    name: str = "holdout"
    seed: Seed = 0

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List the speakers who are not there, where test or val is not 2 and 2 for it."""
        genders = genders_of(clips)
        splits = self.assign(clips, fold)
        for split in ("test", "val"):
            speakers = {clip.speaker for clip in clips if splits[clip.clip] == split}
            men = sum(genders[speaker] == "male" for speaker in speakers)
            if (men, len(speakers)) != (2, 4):
                return missing(genders)
        return []

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by speaker."""
        genders = genders_of(clips)
        if len(genders) < 3:
            raise ValueError(
                f"protocol={self.name} needs at least 3 speakers, got {sorted(genders)}:"
                " one each to train, validate and test; check data.root"
            )
        test, val, *_ = spread_speakers(clips, max(3, round(len(genders) / 4)), self.seed)
        return part_by_speaker(clips, test, val)


@dataclass(frozen=True)
class KFold(SplitProtocol):
    """Each fold of StratifiedGroupKFold on emotion x gender tests once.

    Of the other speakers, `val_speakers` validate, as many men as women, and the rest train; with 0
    all others train.
    """

    name: str = "kfold"
    folds: Folds = 6
    val_speakers: Speakers = 4
    seed: Seed = 0

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return self.folds

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List the speakers who are not there when the folds are drawn."""
        return missing(genders_of(clips))

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by speaker."""
        genders = genders_of(clips)
        if not 2 <= self.folds <= len(genders):
            raise ValueError(
                f"protocol.folds={self.folds}: expected 2 to {len(genders)}, as there are"
                f" {len(genders)} speakers"
            )
        test = spread_speakers(clips, self.folds, self.seed)[fold]
        val = draw_validators(genders, test, self.val_speakers, self.seed, fold)
        return part_by_speaker(clips, test, val)


@dataclass(frozen=True)
class NamedFolds(SplitProtocol):
    """The speakers named for a fold test; of the others `val_speakers` validate, the rest train.

    Attributes:
        folds: Numbers of RAVDESS's actors, a list a fold; None gives each speaker at hand a fold.
        val_speakers: How many validate, as many men as women; 0 for none.
        seed: Of the draw of those.
    """

    name: str
    folds: Sequence[Annotated[Sequence[Number], MinLen(1)]] | None = None
    val_speakers: Speakers = 4
    seed: Seed = 0

    def __post_init__(self) -> None:
        named = [speaker for speakers in self.folds or () for speaker in speakers]
        if len({*named}) < len(named):
            raise ValueError(
                f"protocol.folds={self.folds}: expected each speaker in one list at most, such as"
                " [[1,2],[3,4]]"
            )

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return len(self._tested(clips))

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List the speakers whom the fold would test and who are not there."""
        genders = genders_of(clips)
        if self.folds is None:  # an absent speaker has no fold
            return missing(genders)
        return [speaker for speaker in self._tested(clips)[fold] if speaker not in genders]

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by speaker."""
        genders = genders_of(clips)
        named = self._tested(clips)[fold]
        test = [speaker for speaker in named if speaker in genders]
        if not test:
            raise ValueError(
                f"fold {fold} of protocol={self.name} is empty: it tests the speakers"
                f" {', '.join(named)}, but data.root holds {len(genders)} speakers:"
                f" {', '.join(genders)}"
            )
        val = draw_validators(genders, test, self.val_speakers, self.seed, fold)
        return part_by_speaker(clips, test, val)

    def _tested(self, clips: Sequence[Clip]) -> list[list[str]]:
        if self.folds is None:
            return [[speaker] for speaker in genders_of(clips)]
        return [[f"{speaker:02}" for speaker in speakers] for speakers in self.folds]


@dataclass(frozen=True)
class Random(SplitProtocol):
    """Clips are parted at random, so the same speakers are on both sides: for comparison only.

    Stratified on corpus x emotion x channel. Each of the `folds` tests once, or with `test_size`
    that share of the clips in one fold; `val_size` is the share of the other clips that validate.
    """

    name: str = "random"
    folds: Folds = 5
    val_size: OpenShare = 0.2
    test_size: OpenShare | None = None
    seed: Seed = 0
    leaky: ClassVar[bool] = True

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return self.folds if self.test_size is None else 1

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, blind to its speaker."""
        strata = np.array([clip.corpus + clip.emotion + clip.channel for clip in clips])
        if self.test_size is None:
            folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        else:
            folds = StratifiedShuffleSplit(1, test_size=self.test_size, random_state=self.seed)
        rest, test = list(folds.split(strata, strata))[fold]
        _, val = train_test_split(
            rest, test_size=self.val_size, random_state=self.seed, stratify=strata[rest]
        )
        splits = np.full(len(clips), "train", "<U5")
        splits[val], splits[test] = "val", "test"
        return {clip.clip: str(split) for clip, split in zip(clips, splits, strict=True)}


@dataclass(frozen=True)
class Statement(KFold):
    """Neither the speakers nor the sentence that test were heard in training or validation.

    The speakers are parted as by `KFold`; those who test speak one sentence, the others the other.
    """

    name: str = "statement"
    tested: Literal[STATEMENTS] = "dogs"

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by speaker and sentence."""
        speakers = super().assign(clips, fold)
        return {
            clip.clip: speakers[clip.clip]
            for clip in clips
            if (clip.statement == self.tested) == (speakers[clip.clip] == "test")
        }


@dataclass(frozen=True)
class CrossCorpus(SplitProtocol):
    """Fold 0 trains on the corpus of many speakers and tests on that of two; fold 1 goes back.

    `val_speakers` of the former validate in fold 0. In fold 1 one of the two speakers trains, and
    the other validates; with `val_speakers` 0 both train. The classes are those that both corpora
    hold.
    """

    name: str = "cross_corpus"
    val_speakers: Speakers = 4
    seed: Seed = 0

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return 2

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by corpus and speaker."""
        many = [clip for clip in clips if is_spread(clip)]
        two = [clip for clip in clips if not is_spread(clip)]
        if not many or not two:
            counts = Counter(clip.corpus for clip in clips)
            found = " and ".join(
                f"{counts[corpus.name]} clips of {corpus.title}" for corpus in CORPORA.values()
            )
            raise ValueError(f"protocol={self.name} needs both corpora: data.root holds {found}")
        if fold == 0:
            genders = genders_of(many)
            val = draw_validators(genders, (), self.val_speakers, self.seed, fold)
            return part_by_speaker(many, (), val) | {clip.clip: "test" for clip in two}
        _, *val = genders_of(two) if self.val_speakers else ("",)
        return part_by_speaker(two, (), val) | {clip.clip: "test" for clip in many}


def shared_labels(
    labels: Mapping[tuple[str, str], str], protocol: SplitProtocol, corpora: Sequence[str]
) -> dict[tuple[str, str], str]:
    """Return the labels that a protocol can tell apart: across corpora, those that all hold.

    Args:
        labels: By (emotion, gender), the class.
        protocol: What parts the clips.
        corpora: Their names.
    """
    if not isinstance(protocol, CrossCorpus):
        return dict(labels)
    held = [
        {label for (emotion, _), label in labels.items() if emotion in CORPORA[name].emotions}
        for name in corpora
    ]
    shared = set.intersection(*held)
    return {key: label for key, label in labels.items() if label in shared}
