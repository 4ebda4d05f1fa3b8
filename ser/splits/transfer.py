"""Protocols under which more than the speaker is new: the sentence, or the whole corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ser.config.quantities import Seed
from ser.corpora.clip import RAVDESS_STATEMENTS, Clip
from ser.splits.protocols import Folds, KFold, Speakers, check_number
from ser.splits.speakers import draw_validators, genders_of, part_by_speaker


@dataclass(frozen=True)
class Statement:
    """Neither the speakers nor the sentence that test were heard in training or validation.

    The speakers are parted as by `KFold`; those who test speak one sentence, the others the other.
    """

    name: str = "statement"
    tested: Literal[RAVDESS_STATEMENTS] = "dogs"
    folds: Folds = 6
    val_speakers: Speakers = 4
    seed: Seed = 0
    leaky: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.tested not in RAVDESS_STATEMENTS:
            raise ValueError(
                f"protocol.tested={self.tested!r}: expected one of {RAVDESS_STATEMENTS}"
            )
        self._by_speaker()

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return self.folds

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List the RAVDESS speakers who are not there when the folds are drawn."""
        return self._by_speaker().missing(clips, fold)

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a RAVDESS clip's name to its split, by speaker and sentence."""
        speakers = self._by_speaker().assign(clips, fold)
        return {
            clip.name: speakers[clip.name]
            for clip in clips
            if (clip.statement == self.tested) == (speakers[clip.name] == "test")
        }

    def _by_speaker(self) -> KFold:
        return KFold(self.name, self.folds, self.val_speakers, self.seed)


@dataclass(frozen=True)
class CrossCorpus:
    """Fold 0 trains on RAVDESS and tests on TESS; fold 1 goes back.

    `val_speakers` of RAVDESS validate in fold 0. In fold 1 OAF trains and YAF validates, as TESS
    has only these two.
    """

    name: str = "cross_corpus"
    val_speakers: Speakers = 4
    seed: Seed = 0
    leaky: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("protocol.val_speakers", self.val_speakers, 1)
        check_number("protocol.seed", self.seed, 0)

    def count(self, clips: Sequence[Clip]) -> int:
        """Count the folds."""
        return 2

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        """List no one: whoever is there tests, or is trained on."""
        return []

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        """Map a clip's name to its split, by corpus and speaker."""
        ravdess = [clip for clip in clips if clip.corpus == "ravdess"]
        tess = [clip for clip in clips if clip.corpus == "tess"]
        if not ravdess or not tess:
            raise ValueError(
                f"protocol={self.name} needs both corpora: data.root holds {len(ravdess)} clips of"
                f" RAVDESS and {len(tess)} of TESS"
            )
        if fold == 0:
            genders = genders_of(ravdess)
            val = draw_validators(genders, (), self.val_speakers, self.seed, fold)
            return part_by_speaker(ravdess, (), val) | {clip.name: "test" for clip in tess}
        return part_by_speaker(tess, (), ("YAF",)) | {clip.name: "test" for clip in ravdess}
