"""The split table: the selected clips, their facts, label and split."""

import logging
from collections.abc import Mapping, Sequence

import pandas as pd

from ser.data.corpora import Clip, Scan
from ser.data.protocols import SPLITS

log = logging.getLogger(__name__)


def tabulate(
    found: Scan,
    splits: Mapping[str, str],
    corpora: Sequence[str],
    channels: Sequence[str],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Give the selected clips, indexed by their place in the scan: the content of split.csv.

    Args:
        found: The scan.
        splits: By a clip's name, its split; clips without one are left out.
        corpora: Those asked for.
        channels: Those asked for.
        classes: Those asked for.
    """
    rows = {
        row: vars(clip)
        | {
            "path": clip.path.relative_to(found.root).as_posix(),
            "label": clip.emotion,
            "split": splits[clip.name],
        }
        for row, clip in enumerate(found.clips)
        if clip.corpus in corpora
        and clip.channel in channels
        and clip.emotion in classes
        and clip.name in splits
    }
    columns = [*Clip.__dataclass_fields__, "label", "split"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def check_classes(table: pd.DataFrame, classes: Sequence[str], asked: str) -> None:
    """Refuse a table in which a split is empty, or lacks a class, with the counts.

    Args:
        table: As `tabulate` gives it.
        classes: Those asked for.
        asked: The keys that decide what is in it, for the message.
    """
    counts = pd.crosstab(table.label, table.split)
    counts = counts.reindex(index=classes, columns=SPLITS, fill_value=0)
    for split in SPLITS:
        if not counts[split].any():
            raise ValueError(
                f"{split} is empty ({asked}): RAVDESS actors validate, and test unless data.tess"
                f" says otherwise; clips selected: {table.corpus.value_counts().to_dict()}"
            )
    for split in SPLITS:
        missing = counts.index[counts[split] == 0].to_list()
        if missing:
            raise ValueError(
                f"no {split} clips of {', '.join(missing)} ({asked}): drop these classes with"
                f" data.drop or select other data; clips a class: {counts[split].to_dict()}"
            )


def report_gaps(
    table: pd.DataFrame, clips: Sequence[Clip], splits: Mapping[str, str], channels: Sequence[str]
) -> None:
    """Name the RAVDESS actors who should be tested in a channel and have no clip of it."""
    tested = {
        clip.actor for clip in clips if clip.corpus == "ravdess" and splits.get(clip.name) == "test"
    }
    there = set(zip(table.actor, table.channel, strict=True))
    for channel in channels:
        # Actor 18 recorded no song.
        gaps = [a for a in sorted(tested) if (a, channel) not in there | {("18", "song")}]
        if gaps:
            log.warning("test lacks the %s of actors %s", channel, ", ".join(gaps))
