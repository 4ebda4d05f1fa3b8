"""Protocols under which more than the speaker is new: the sentence, or the whole corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ser.data.corpora import Clip
from ser.data.protocols import KFold, draw_validators, genders_of, part_by_actor


@dataclass(frozen=True)
class Statement:
    """Neither the actors nor the sentence that test were heard in training or validation.

    The actors are parted as by `KFold`; those who test speak one sentence, the others the other.
    """

    name: str = "statement"
    tested: str = "dogs"
    folds: int = 6
    val_actors: int = 4
    seed: int = 0
    leaky: ClassVar[bool] = False

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return self.folds

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, by actor and sentence."""
        statements = sorted({clip.statement for clip in clips})
        if self.tested not in statements:
            raise ValueError(f"protocol.tested={self.tested!r}: expected one of {statements}")
        actors = KFold(self.name, self.folds, self.val_actors, self.seed).assign(clips, fold)
        return {
            clip.name: actors[clip.name]
            for clip in clips
            if (clip.statement == self.tested) == (actors[clip.name] == "test")
        }


@dataclass(frozen=True)
class CrossCorpus:
    """Fold 0 trains on RAVDESS and tests on TESS; fold 1 goes back.

    `val_actors` of RAVDESS validate in fold 0. In fold 1 OAF trains and YAF validates, as TESS has
    only these two.
    """

    name: str = "cross_corpus"
    val_actors: int = 4
    seed: int = 0
    leaky: ClassVar[bool] = False

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return 2

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's name to its split, by corpus and actor."""
        ravdess = [clip for clip in clips if clip.corpus == "ravdess"]
        tess = [clip for clip in clips if clip.corpus == "tess"]
        if not ravdess or not tess:
            raise ValueError(
                f"protocol={self.name} needs both corpora: data.root holds {len(ravdess)} clips of"
                f" RAVDESS and {len(tess)} of TESS"
            )
        if fold == 0:
            genders = genders_of(ravdess)
            val = draw_validators(self, genders, (), fold)
            return part_by_actor(ravdess, (), val) | {clip.name: "test" for clip in tess}
        return part_by_actor(tess, (), ("YAF",)) | {clip.name: "test" for clip in ravdess}
