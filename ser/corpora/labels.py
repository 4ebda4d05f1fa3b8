"""Labels: the classes of an experiment, by dropping, keeping and merging emotions."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ser.corpora.clip import EMOTIONS, GENDERS, Clip

TARGETS = ("emotion", "emotion_gender")

UNSURE = "unsure"
"""What a model that abstains answers: no class has this name."""


@dataclass(frozen=True)
class Labels:
    """The classes, and which clip is of which.

    Attributes:
        emotions: By emotion, its class before the gender; the classes appear in their order.
        target: `emotion`, or `emotion_gender` for classes such as sad_male and sad_female.
    """

    emotions: Mapping[str, str]
    target: str = "emotion"

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"data.target={self.target!r}: expected one of {', '.join(TARGETS)}")
        if UNSURE in self.classes:
            raise ValueError(
                f"a class is called {UNSURE!r}, as is what a model does not answer: expected"
                " another label, or data.drop or data.merge of it"
            )

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in their order."""
        names = dict.fromkeys(self.emotions.values())
        if self.target == "emotion":
            return list(names)
        return [f"{name}_{gender}" for name in names for gender in GENDERS]

    def of(self, clip: Clip) -> str | None:
        """Return the class of a clip; None where its emotion is of none.

        Raises:
            ValueError: The class has a gender, and that of the clip is not known.
        """
        name = self.emotions.get(clip.emotion)
        if name is None or self.target == "emotion":
            return name
        if not clip.gender:
            raise ValueError(
                f"data.target={self.target}, but the gender of {clip.clip} is not known: expected"
                " a column gender in the manifest, or data.target=emotion"
            )
        return f"{name}_{clip.gender}"

    def held(self, emotions: Iterable[str]) -> set[str]:
        """Return the classes, before the gender, of these emotions."""
        return {self.emotions[emotion] for emotion in emotions if emotion in self.emotions}

    def shared(self, groups: Sequence[Collection[str]]) -> "Labels":
        """Return the labels without the classes that one of some groups of emotions lacks.

        Raises:
            ValueError: Fewer than two classes are left.
        """
        kept = set.intersection(*map(self.held, groups))
        if len(kept) < 2:
            raise ValueError(
                f"the corpora share the classes {sorted(kept)} of {self.classes}: at least two are"
                " needed; choose others with data.corpora, data.roles or data.merge"
            )
        left = {emotion: name for emotion, name in self.emotions.items() if name in kept}
        return replace(self, emotions=left)


def in_order(emotions: Iterable[str]) -> list[str]:
    """Sort emotions: the canonical ones first, then others by name."""
    return [*filter({*emotions}.__contains__, EMOTIONS), *sorted({*emotions} - {*EMOTIONS})]


def label_emotions(
    drop: Sequence[str] | None = (),
    keep: Sequence[str] | None = None,
    merge: Mapping[str, str] | None = None,
    others: Iterable[str] = (),
) -> dict[str, str]:
    """Map each emotion asked for to its class, in the order of the classes.

    Args:
        drop: Emotions to leave out.
        keep: Emotions to keep; None keeps all.
        merge: By emotion, the one whose name and place it takes.
        others: Emotions beside the canonical ones.

    Raises:
        ValueError: A name is unknown, or the keys contradict each other or leave one class.
    """
    for key, names in (("drop", drop), ("keep", keep)):
        if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
            raise ValueError(f"data.{key}={names!r} is no list: expected data.{key}='[{names}]'")
    merge = {} if merge is None else merge
    if not isinstance(merge, Mapping):
        raise ValueError(f"data.merge={merge!r}: expected pairs, data.merge='{{calm: neutral}}'")
    drop = drop or ()
    known = in_order([*EMOTIONS, *others])
    for emotion in (*drop, *(keep or ()), *merge, *merge.values()):
        if emotion not in known:
            nearest = difflib.get_close_matches(str(emotion), known, n=1, cutoff=0)[0]
            raise ValueError(
                f"unknown emotion {emotion!r}: expected one of {', '.join(known)};"
                f" did you mean {nearest!r}?"
            )
    wanted = known if keep is None else keep
    kept = [name for name in known if name in wanted and name not in drop]
    for emotion, target in merge.items():
        if emotion not in kept or target not in kept or target in merge:
            raise ValueError(
                f"data.merge={{{emotion}: {target}}}: expected two emotions that are kept"
                f" ({', '.join(kept)}), and a target that is not merged itself"
            )
    labels = {name: merge.get(name, name) for name in kept}
    if len({*labels.values()}) < 2:
        raise ValueError(
            f"data.drop={list(drop)}, data.keep={keep and list(keep)} and data.merge={dict(merge)}"
            f" leave the classes {in_order(labels.values())}: at least two are needed"
        )
    return dict(sorted(labels.items(), key=lambda pair: known.index(pair[1])))
