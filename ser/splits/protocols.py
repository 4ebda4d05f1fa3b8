"""Protocols: which clip is for training, validation or test, fold by fold.

A protocol sees every clip of the corpora whose role is `split` (see `ser.splits.roles`), before any
selection: dropping a class or a channel moves no speaker. No fold's test speakers are drawn, or
move, by what is validated.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
from annotated_types import Interval, MinLen

from ser.config.quantities import Seed
from ser.corpora.clip import Clip
from ser.corpora.ravdess import RAVDESS, SPEAKERS, STATEMENTS
from ser.splits.speakers import (
    corpora_of,
    draw_validators,
    enrolled,
    genders_of,
    missing,
    part_by_speaker,
    spread_speakers,
)

FEWEST = 4
"""Speakers of a corpus from which on they are spread over train, val and test."""

Folds = Annotated[int, Interval(ge=2, le=1000)]
Speakers = Annotated[int, Interval(ge=0, le=1000)]
Number = Annotated[int, Interval(ge=1, le=len(SPEAKERS))]
OpenShare = Annotated[float, Interval(gt=0, lt=1)]

VERSION = 1
"""Raised when a protocol with the same settings parts the same clips otherwise."""

SPLITS = ("train", "val", "test")

ROLES = ("split", *SPLITS, "off")
"""What a corpus is for. `split`: the protocol parts its clips; the others: where all of them go."""


class SplitProtocol(Protocol):
    """A named way to part clips into train, val and test, once a fold."""

    name: str
    leaky: ClassVar[bool] = False
    places: ClassVar[bool] = False
    """Whether it says what each corpus is for, so that no role does."""
    roles: ClassVar[Mapping[str, str] | None] = None
    """Roles that go before those of the data."""

    def parts(self, corpus: str) -> bool:
        """Return whether it parts the speakers of a corpus; by default of any."""
        return True

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

    StratifiedGroupKFold on corpus x emotion x gender, with one fold per four speakers of the
    smallest corpus but at most ten: the first fold tests, the second validates. Of more than forty
    speakers a tenth tests.
    """

    name: str = "holdout"
    seed: Seed = 0

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List the speakers who are not there, where test or val is not half of men for it."""
        genders = genders_of(clips)
        splits = self.assign(clips, fold)
        for split in ("test", "val"):
            speakers = {clip.voice for clip in clips if splits[clip.clip] == split}
            men = sum(genders[speaker] == "male" for speaker in speakers)
            if len(speakers) < FEWEST or 2 * men != len(speakers):
                return missing(clips)
        return []

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by speaker."""
        genders = genders_of(clips)
        if len(genders) < 3:
            raise ValueError(
                f"protocol={self.name} needs at least 3 speakers, got {sorted(genders)}:"
                " one each to train, validate and test; see data.roles and where the clips are from"
            )
        counts = Counter(voice.partition("/")[0] for voice in genders)
        folds = min(10, max(3, round(min(counts.values()) / 4)))
        test, val, *_ = spread_speakers(clips, folds, self.seed)
        return part_by_speaker(clips, test, val)


@dataclass(frozen=True)
class KFold(SplitProtocol):
    """Each fold of StratifiedGroupKFold on corpus x emotion x gender tests once.

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
        return missing(clips)

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by speaker."""
        genders = genders_of(clips)
        if not 2 <= self.folds <= len(genders):
            raise ValueError(
                f"protocol.folds={self.folds}: expected 2 to {len(genders)}, as there are"
                f" {len(genders)} speakers"
            )
        test = spread_speakers(clips, self.folds, self.seed)[fold]
        order = enrolled(clips)
        val = draw_validators(genders, order, test, self.val_speakers, self.seed, fold)
        return part_by_speaker(clips, test, val)


@dataclass(frozen=True)
class NamedFolds(SplitProtocol):
    """The speakers named for a fold test; of the others `val_speakers` validate, the rest train.

    Corpora none of whose speakers is named only train.

    Attributes:
        folds: A list a fold, of numbers of RAVDESS's actors or of names such as `tess/OAF`; None
            gives each speaker at hand a fold.
        val_speakers: How many validate, as many men as women; 0 for none.
        seed: Of the draw of those.
    """

    name: str
    folds: Sequence[Annotated[Sequence[Number | str], MinLen(1)]] | None = None
    val_speakers: Speakers = 4
    seed: Seed = 0

    def __post_init__(self) -> None:
        named = [speaker for speakers in self.folds or () for speaker in speakers]
        voices = [*map(_voice, named)]
        if len({*voices}) < len(voices) or not all("/" in voice for voice in voices):
            raise ValueError(
                f"protocol.folds={self.folds}: expected each speaker in one list at most, such as"
                " [[1,2],[3,4]], or [[tess/OAF],[tess/YAF]]"
            )

    def parts(self, corpus: str) -> bool:
        """Return whether it names a speaker of a corpus, or none at all."""
        named = [_voice(speaker) for speakers in self.folds or () for speaker in speakers]
        return self.folds is None or any(voice.startswith(f"{corpus}/") for voice in named)

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return len(self._tested(clips))

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List the speakers whom the fold would test and who are not there."""
        genders = genders_of(clips)
        if self.folds is None:  # an absent speaker has no fold
            return missing(clips)
        return [speaker for speaker in self._tested(clips)[fold] if speaker not in genders]

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by speaker."""
        genders = genders_of(clips)
        named = self._tested(clips)[fold]
        test = [speaker for speaker in named if speaker in genders]
        if not test:
            raise ValueError(
                f"fold {fold} of protocol={self.name} is empty: it tests the speakers"
                f" {', '.join(named)}, but the corpora of role split have {len(genders)} speakers:"
                f" {', '.join(genders)}"
            )
        corpora = {voice.partition("/")[0] for voices in self._tested(clips) for voice in voices}
        order = enrolled([clip for clip in clips if clip.corpus in corpora])
        val = draw_validators(genders, order, test, self.val_speakers, self.seed, fold)
        return part_by_speaker(clips, test, val)

    def _tested(self, clips: Sequence[Clip]) -> list[list[str]]:
        if self.folds is None:
            return [[speaker] for speaker in genders_of(clips)]
        return [[_voice(speaker) for speaker in speakers] for speakers in self.folds]


def _voice(speaker: int | str) -> str:
    return f"{RAVDESS.name}/{speaker:02}" if isinstance(speaker, int) else speaker


@dataclass(frozen=True)
class Random(SplitProtocol):
    """Clips are parted at random, so the same speakers are on both sides: for comparison only.

    Stratified on corpus x emotion x channel. Each of the `folds` tests once, or with `test_size`
    that share of the clips in one fold; `val_size` is the share of the other clips that validate.
    `roles` of corpora under it go before those of the data: speakers do not matter here, so that it
    can part a corpus of few.
    """

    name: str = "random"
    folds: Folds = 5
    val_size: OpenShare = 0.2
    test_size: OpenShare | None = None
    roles: Mapping[str, Literal[ROLES]] | None = None
    seed: Seed = 0
    leaky: ClassVar[bool] = True

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return self.folds if self.test_size is None else 1

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, blind to its speaker."""
        from sklearn.model_selection import (
            StratifiedKFold,
            StratifiedShuffleSplit,
            train_test_split,
        )

        strata = np.array([f"{clip.corpus}/{clip.emotion}/{clip.channel}" for clip in clips])
        names, places, counts = np.unique(strata, return_inverse=True, return_counts=True)
        # Too few to be in every part: these are spread together.
        names[counts < (max(4, self.folds) if self.test_size is None else 4)] = ""
        strata = names[places]
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
    """Each corpus is tested once by a model of the others, the last one first.

    With `train` and `test` there is one fold, of these corpora; where both are one corpus, it is
    parted by `Holdout`, or, of fewer than four speakers, the last one tests. The classes are those
    that all corpora hold.

    Attributes:
        name: Of the protocol.
        train: Corpora that train; None is all that do not test.
        test: Corpora that test; None is all that do not train, or with both None each in turn.
        val_speakers: How many validate, of the training corpora that have four speakers or more, as
            many men as women. Where none has so many, the first speaker trains and the others
            validate. 0 for none.
        seed: Of the draw of those.
    """

    name: str = "cross_corpus"
    train: Annotated[Sequence[str], MinLen(1)] | None = None
    test: Annotated[Sequence[str], MinLen(1)] | None = None
    val_speakers: Speakers = 4
    seed: Seed = 0
    places: ClassVar[bool] = True

    def __post_init__(self) -> None:
        both = {*(self.train or ())} & {*(self.test or ())}
        if both and [*self.train] != [*self.test]:
            raise ValueError(
                f"protocol.train={self.train} and protocol.test={self.test} both have"
                f" {', '.join(sorted(both))}: expected different corpora, or the same one"
            )

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return len(self._folds(clips))

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split, by corpus and speaker."""
        train, test = self._folds(clips)[fold]
        trained = [clip for clip in clips if clip.corpus in train]
        if train == test:
            return self._within(trained)
        tested = {clip.clip: "test" for clip in clips if clip.corpus in test}
        large = {name for name in train if _is_large(name, trained)}
        many = [clip for clip in trained if clip.corpus in large]
        if many:
            # Not by fold: a corpus is validated by the same speakers whichever is tested.
            order = enrolled(many)
            val = draw_validators(genders_of(many), order, (), self.val_speakers, self.seed, 0)
        else:
            _, *val = genders_of(trained) if self.val_speakers else ("",)
        return part_by_speaker(trained, (), val) | tested

    def _within(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Part one corpus by its speakers."""
        if _is_large(clips[0].corpus, clips):
            splits = Holdout(seed=self.seed).assign(clips, 0)
            if self.val_speakers:
                return splits
            return {name: "test" if split == "test" else "train" for name, split in splits.items()}
        *_, last = genders_of(clips)
        return part_by_speaker(clips, [last], ())

    def _folds(self, clips: Sequence[Clip]) -> list[tuple[list[str], list[str]]]:
        """List the corpora that train and that test, a pair a fold."""
        corpora = corpora_of(clips)
        named = [*(self.train or ()), *(self.test or ())]
        if len(corpora) < (1 if self.train and self.test else 2) or not {*named} <= {*corpora}:
            tally = Counter(clip.corpus for clip in clips)
            found = ", ".join(f"{tally[name]} of {name}" for name in corpora)
            raise ValueError(
                f"protocol={self.name} needs clips of {' and '.join(named) or 'two corpora'}: there"
                f" are {found or 'none'}; see data.root, data.corpora and data.roles"
            )
        if not named:
            return [([one for one in corpora if one != name], [name]) for name in corpora[::-1]]
        others = [name for name in corpora if name not in named]
        train, test = list(self.train or others), list(self.test or others)
        if not train or not test:
            raise ValueError(
                f"protocol.train={self.train} and protocol.test={self.test} leave no corpus of"
                f" {', '.join(corpora)} to {'test' if train else 'train'}: expected one"
            )
        return [(train, test)]


@dataclass(frozen=True)
class Given(SplitProtocol):
    """Each clip has the split that the manifest gives it; clips without one are left out.

    Attributes:
        name: Of the protocol.
        allow_leak: Whether speakers and samples may be shared: all results are then stamped leaky.
    """

    name: str = "given"
    allow_leak: bool = False
    places: ClassVar[bool] = True

    @property
    def leaky(self) -> bool:
        """Whether anything may be shared."""
        return self.allow_leak

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's identity to its split."""
        given = {clip.clip: clip.given for clip in clips if clip.given}
        if not given:
            raise ValueError(
                f"protocol={self.name} takes the column split of a manifest, and no clip has one:"
                " expected data=manifest and a file with train, val and test in it"
            )
        return given


def _is_large(corpus: str, clips: Sequence[Clip]) -> bool:
    """Return whether a corpus has speakers enough to be spread."""
    return len(enrolled([clip for clip in clips if clip.corpus == corpus])) >= FEWEST
