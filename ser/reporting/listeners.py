"""A model's recall beside how often people name the same recordings rightly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ser.corpora.clip import Corpus, Listeners
from ser.evaluation.metrics import marginalise_gender
from ser.evaluation.statistics import speaker_interval, speakers_of

FEWEST = 10
"""Clips of a row."""

ALL = "all of these"


@dataclass(frozen=True)
class Row:
    """An emotion, or emotions that are accepted for each other.

    Attributes:
        name: Of them.
        clips: That are scored.
        recall: Share of them that the model names rightly.
        interval: Of it, 95 % by speaker; None where it is not known.
        listeners: Share of right answers of people.
    """

    name: str
    clips: int
    recall: float
    interval: list[float] | None
    listeners: float

    @property
    def better(self) -> bool:
        """Whether the model is above people: its interval, or its recall where it has none."""
        return (self.interval[0] if self.interval else self.recall) > self.listeners


@dataclass(frozen=True)
class Comparison:
    """The model beside the listeners of a corpus.

    Attributes:
        title: Of the clips.
        known: How people were asked.
        choices: How many classes the model chooses from.
        rows: One an emotion, then one of all where all are there.
    """

    title: str
    known: Listeners
    choices: int
    rows: Sequence[Row]

    @property
    def warning(self) -> str:
        """What to distrust, in one sentence; empty where nothing is."""
        named = [row.name for row in self.rows if row.better]
        if not named:
            return ""
        return (
            f"Better than people: {', '.join(named)}. Distrust that: the model may use what these"
            " speakers' acting or these recordings give away, not what makes the emotion heard."
        )

    def text(self) -> str:
        """Return the table for report.txt."""
        width = max(len(row.name) for row in self.rows)
        lines = [f"beside listeners, {self.title}", ""]
        lines.append(f"{'':>{width}}  clips  recall      95 %       listeners")
        for row in self.rows:
            bounds = "{:.3f} - {:.3f}".format(*row.interval) if row.interval else ""
            flag = "  !" if row.better else ""
            lines.append(
                f"{row.name:>{width}}  {row.clips:5}  {row.recall:6.3f}  {bounds:13}"
                f"  {row.listeners:9.3f}{flag}"
            )
        return "\n".join([*lines, *filter(None, ["", self.warning]), ""])


def compare(
    predictions: pd.DataFrame, classes: Sequence[str], corpora: Mapping[str, Corpus]
) -> list[Comparison]:
    """Set the recall on each corpus that people were asked about beside their rates.

    Only clips of that corpus and channel count, and only emotions of which `FEWEST` clips are
    scored and which are classes of their own: not what was merged with another.

    Args:
        predictions: Rows of predictions.csv.
        classes: Class names in their order.
        corpora: What is known of each, by name.
    """
    folded = marginalise_gender(predictions, classes)
    table, names = folded if folded is not None else (predictions, classes)
    found = []
    for corpus in corpora.values():
        if (known := corpus.listeners) is None:
            continue
        clips = table[(table.corpus == corpus.name) & (table.channel == known.channel)]
        rows = []
        for emotions, share in known.named.items():
            own = clips[clips.label.isin(emotions)]
            asked = clips[clips.emotion.isin(emotions)]
            # Both ways: else the class has clips of other emotions, or some are elsewhere.
            if {*own.emotion} == {*emotions} and len(own) == len(asked) >= FEWEST:
                rows.append(_row(" or ".join(emotions), own, own.prediction.isin(emotions), share))
        if len(rows) == len(known.named):
            accepted = {one: emotions for emotions in known.named for one in emotions}
            heard = clips[clips.emotion.isin(accepted)]
            right = heard.label.map(accepted) == heard.prediction.map(accepted)
            rows.append(_row(ALL, heard, right, known.overall))
        if rows:
            title = f"{corpus.title} {known.channel}"
            found.append(Comparison(title, known, len(names), rows))
    return found


def _row(name: str, clips: pd.DataFrame, right: pd.Series, share: float) -> Row:
    right, speakers = right.to_numpy(float), speakers_of(clips)
    interval = speaker_interval(lambda chosen: np.mean(right[chosen]), speakers)
    return Row(name, len(clips), float(right.mean()), interval, share)
