"""Finished runs over one split, whose predictions can be put together clip by clip."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ser.corpora.scan import parse
from ser.evaluation.metrics import STAMPS
from ser.evaluation.status import check_finished

SPLIT = ("protocol", "protocol_version", "protocol_hash", "folds", "fold", "split")
"""Keys of metrics.json in which members agree."""
ROW = ("label", "split", "fold", "sha256")
"""Columns, where they are, in which the rows of a clip agree."""


@dataclass(frozen=True)
class Member:
    """What a run has left.

    Attributes:
        folder: Where it wrote.
        metrics: The content of metrics.json.
        predictions: Rows of predictions.csv by the clip's name; probabilities are numbers, all
            else is text.
        splits: Rows of split.csv by the clip's name, all of them text.
    """

    folder: Path
    metrics: dict
    predictions: pd.DataFrame
    splits: pd.DataFrame

    def probabilities(self, clips: Sequence[str], classes: Sequence[str]) -> np.ndarray:
        """Give the probabilities of these clips and classes, in their order: (clips, classes)."""
        return self.predictions.loc[clips, _columns(classes)].to_numpy()


def read(folder: Path) -> Member:
    """Read a finished run.

    Raises:
        ValueError: It is not finished, lacks a file, or one is damaged.
    """
    check_finished(folder)
    for name in ("metrics.json", "predictions.csv", "split.csv"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}: expected the folder of a finished run that scored clips"
                " of known emotion, such as outputs/default/<time>"
            )
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        _ = [metrics[key] for key in (*STAMPS, "classes", "uar", "audit", "seconds")]
        predictions, splits = (
            read_rows(folder / f"{name}.csv") for name in ("predictions", "split")
        )
        predictions = predictions.astype(dict.fromkeys(_columns(metrics["classes"]), float))
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"the files of {folder} are damaged ({error}): run it again") from error
    return Member(folder, metrics, predictions, splits)


def _columns(classes: Sequence[str]) -> list[str]:
    return [f"p_{name}" for name in classes]


def read_rows(path: Path) -> pd.DataFrame:
    """Read rows as text, indexed by the clip's name, which no move or container changes."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    clips = {file: parse(Path(file)) for file in table["path"]}
    table.index = [clips[file].name if clips[file] else file for file in table["path"]]
    if not table.index.is_unique:
        raise ValueError(f"{path.name} has two rows of {table.index[table.index.duplicated()][0]}")
    return table


def check_same(a: Member, b: Member) -> None:
    """Refuse two runs that differ in split, classes or clips, and name the first difference."""
    for key in SPLIT:
        if a.metrics[key] != b.metrics[key]:
            raise ValueError(
                f"{key} is {a.metrics[key]} in {a.folder} and {b.metrics[key]} in {b.folder}:"
                " expected runs under one split"
            )
    for one, other in ((a, b), (b, a)):
        classes = [name for name in one.metrics["classes"] if name not in other.metrics["classes"]]
        if classes:
            raise ValueError(
                f"{one.folder} knows {', '.join(classes)} and {other.folder} does not: expected"
                " runs of the same classes"
            )
    for name in ("splits", "predictions"):
        _check_same_rows(a, b, name)


def _check_same_rows(a: Member, b: Member, name: str) -> None:
    file = {"splits": "split.csv", "predictions": "predictions.csv"}[name]
    for one, other in ((a, b), (b, a)):
        lacking = getattr(one, name).index.difference(getattr(other, name).index)
        if len(lacking):
            raise ValueError(
                f"{len(lacking)} clips are in {file} of {one.folder} and not of {other.folder},"
                f" such as {lacking[0]}: expected runs of the same clips"
            )
    of_a = getattr(a, name)
    of_b = getattr(b, name).loc[of_a.index]
    for column in of_a.columns.intersection(ROW):
        differing = of_a.index[of_a[column] != of_b[column]]
        if len(differing):
            clip = differing[0]
            raise ValueError(
                f"{column} of {len(differing)} clips differs in {file}: that of {clip} is"
                f" {of_a.at[clip, column]} in {a.folder} and {of_b.at[clip, column]} in {b.folder};"
                " expected runs of the same clips under one split"
            )


def facts(members: Sequence[Member]) -> dict[str, object]:
    """Say what `measure` wants to know: a stamp of one member is a stamp of all."""
    first = members[0].metrics  # its audit is that of all: they have one split
    seconds = pd.DataFrame([member.metrics["seconds"] for member in members]).sum().round(3)
    stamps = {
        stamp: any(member.metrics[stamp] for member in members)
        for stamp in ("leaky", "transductive")
    }
    return {**first, **stamps, "seconds": seconds.to_dict()}
