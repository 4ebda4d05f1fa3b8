"""Which clip is for training, validation or test, and which classes are asked for.

A protocol assigns RAVDESS clips; TESS has two speakers, so it is placed, never stratified. Both
see every clip of the scan, before any selection: dropping a class or a channel moves no actor.
"""

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from ser.data.corpora import EMOTIONS, Clip

SPLITS = ("train", "val", "test")
TESS_PLACEMENTS = ("train", "test", "oaf_to_yaf", "yaf_to_oaf", "off")

log = logging.getLogger(__name__)


class SplitProtocol(Protocol):
    """A named way to part clips into train, val and test."""

    name: str
    leaky: bool

    def assign(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Map a clip's name to its split."""


@dataclass(frozen=True)
class Holdout:
    """Four unseen actors test, four others validate, the rest train; 2 men and 2 women each.

    StratifiedGroupKFold on emotion x gender with one fold per four actors: the first fold tests,
    the second validates.
    """

    name: str = "holdout"
    seed: int = 0
    leaky: bool = False

    def assign(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, by actor."""
        actors = [clip.actor for clip in clips]
        if len(set(actors)) < 3:
            raise ValueError(
                f"protocol={self.name} needs at least 3 RAVDESS actors, got {sorted(set(actors))}:"
                " one each to train, validate and test; check data.root"
            )
        strata = [clip.emotion + clip.gender for clip in clips]
        folds = StratifiedGroupKFold(
            max(3, round(len(set(actors)) / 4)), shuffle=True, random_state=self.seed
        )
        (_, test), (_, val), *_ = folds.split(strata, strata, actors)
        held_out = {actors[i]: "test" for i in test} | {actors[i]: "val" for i in val}
        self._report_imbalance(clips, held_out)
        return {clip.name: held_out.get(clip.actor, "train") for clip in clips}

    def _report_imbalance(self, clips: Sequence[Clip], held_out: Mapping[str, str]) -> None:
        genders = {clip.actor: clip.gender for clip in clips}
        for split in ("val", "test"):
            members = [genders[actor] for actor, where in held_out.items() if where == split]
            men, women = members.count("male"), members.count("female")
            if (men, women) != (2, 2):
                absent = sorted({f"{number:02}" for number in range(1, 25)} - set(genders))
                log.warning(
                    "%s holds %d men and %d women instead of 2 and 2: actors %s are missing",
                    split, men, women, ", ".join(absent),
                )  # fmt: skip


@dataclass(frozen=True)
class Random:
    """Clips are parted at random, so the same actors are on both sides: for comparison only.

    Stratified on emotion x channel. `test_size` is the share of the RAVDESS clips that test,
    `val_size` the share of the others that validate.
    """

    name: str = "random"
    seed: int = 0
    test_size: float = 0.2
    val_size: float = 0.2
    leaky: bool = True

    def assign(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, blind to its actor."""
        names = [clip.name for clip in clips]
        strata = {clip.name: clip.emotion + clip.channel for clip in clips}
        rest, test = self._part(names, strata, self.test_size)
        train, val = self._part(rest, strata, self.val_size)
        return (
            dict.fromkeys(train, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
        )

    def _part(
        self, names: list[str], strata: Mapping[str, str], size: float
    ) -> tuple[list[str], list[str]]:
        return train_test_split(
            names,
            test_size=size,
            random_state=self.seed,
            stratify=[strata[name] for name in names],
        )


@dataclass(frozen=True)
class Recorded:
    """The split that a checkpoint carries, clip by clip."""

    name: str
    leaky: bool
    splits: Mapping[str, str]

    def assign(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Map a clip's name to the split it had when the checkpoint was trained."""
        return {clip.name: self.splits[clip.name] for clip in clips if clip.name in self.splits}


def assign(clips: Sequence[Clip], protocol: SplitProtocol, tess: str) -> dict[str, str]:
    """Map each clip's name to train, val or test; clips that are not used are left out.

    `tess` places TESS: `train` adds its two speakers to the training clips; `test` trains on
    RAVDESS and tests on TESS; `oaf_to_yaf` and `yaf_to_oaf` train on one speaker, test on the
    other and validate on RAVDESS; `off` leaves TESS out.
    """
    if tess not in TESS_PLACEMENTS:
        raise ValueError(f"data.tess={tess!r} is unknown: expected one of {TESS_PLACEMENTS}")
    if isinstance(protocol, Recorded):
        return protocol.assign(clips)
    ravdess = [clip for clip in clips if clip.corpus == "ravdess"]
    if tess in ("oaf_to_yaf", "yaf_to_oaf"):
        if protocol.leaky:
            raise ValueError(
                f"data.tess={tess} parts the speakers itself: expected protocol=holdout, got"
                f" {protocol.name}"
            )
        trained = tess[:3].upper()
        return {clip.name: "val" for clip in ravdess} | {
            clip.name: "train" if clip.actor == trained else "test"
            for clip in clips
            if clip.corpus == "tess"
        }
    splits = protocol.assign(ravdess) if ravdess else {}
    if tess == "test":
        splits = {name: "val" if split == "val" else "train" for name, split in splits.items()}
    if tess != "off":
        splits |= {clip.name: tess for clip in clips if clip.corpus == "tess"}
    return splits


def select_classes(drop: Sequence[str] | None = (), keep: Sequence[str] | None = None) -> list[str]:
    """Name the classes asked for, in canonical order."""
    for key, names in (("drop", drop), ("keep", keep)):
        if isinstance(names, str):
            raise ValueError(f"data.{key}={names!r} is no list: expected data.{key}='[{names}]'")
    drop = drop or ()
    for emotion in (*drop, *(keep or ())):
        if emotion not in EMOTIONS:
            nearest = difflib.get_close_matches(str(emotion), EMOTIONS, n=1, cutoff=0)[0]
            raise ValueError(
                f"unknown emotion {emotion!r}: expected one of {', '.join(EMOTIONS)};"
                f" did you mean {nearest!r}?"
            )
    wanted = EMOTIONS if keep is None else keep
    classes = [name for name in EMOTIONS if name in wanted and name not in drop]
    if len(classes) < 2:
        raise ValueError(
            f"data.drop={list(drop)} and data.keep={keep and list(keep)} leave the classes"
            f" {classes}: at least two are needed"
        )
    return classes
