"""Which emotions an experiment tells apart."""

import difflib
from collections.abc import Sequence

from ser.data.corpora import EMOTIONS


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
