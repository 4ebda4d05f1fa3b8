"""Labels: the classes of an experiment, by dropping, keeping and merging emotions."""

import difflib
from collections.abc import Mapping, Sequence

from ser.corpora.clip import EMOTIONS

GENDERS = ("male", "female")
TARGETS = ("emotion", "emotion_gender")


def label_emotions(
    drop: Sequence[str] | None = (),
    keep: Sequence[str] | None = None,
    merge: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Map each emotion asked for to its class, in the canonical order of the classes.

    Args:
        drop: Emotions to leave out.
        keep: Emotions to keep; None keeps all.
        merge: By emotion, the one whose name and place it takes.

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
    for emotion in (*drop, *(keep or ()), *merge, *merge.values()):
        if emotion not in EMOTIONS:
            nearest = difflib.get_close_matches(str(emotion), EMOTIONS, n=1, cutoff=0)[0]
            raise ValueError(
                f"unknown emotion {emotion!r}: expected one of {', '.join(EMOTIONS)};"
                f" did you mean {nearest!r}?"
            )
    wanted = EMOTIONS if keep is None else keep
    kept = [name for name in EMOTIONS if name in wanted and name not in drop]
    for emotion, target in merge.items():
        if emotion not in kept or target not in kept or target in merge:
            raise ValueError(
                f"data.merge={{{emotion}: {target}}}: expected two emotions that are kept"
                f" ({', '.join(kept)}), and a target that is not merged itself"
            )
    labels = {name: merge.get(name, name) for name in kept}
    classes = sorted(set(labels.values()), key=EMOTIONS.index)
    if len(classes) < 2:
        raise ValueError(
            f"data.drop={list(drop)}, data.keep={keep and list(keep)} and data.merge={dict(merge)}"
            f" leave the classes {classes}: at least two are needed"
        )
    return dict(sorted(labels.items(), key=lambda pair: EMOTIONS.index(pair[1])))


def label_clips(labels: Mapping[str, str], target: str) -> dict[tuple[str, str], str]:
    """Map each (emotion, gender) of a clip to its class; the classes appear in their order.

    Args:
        labels: As `label_emotions` gives them.
        target: `emotion`, or `emotion_gender` for classes such as sad_male and sad_female.
    """
    if target not in TARGETS:
        raise ValueError(f"data.target={target!r}: expected one of {', '.join(TARGETS)}")
    return {
        (name, gender): label if target == "emotion" else f"{label}_{gender}"
        for name, label in labels.items()
        for gender in GENDERS
    }
