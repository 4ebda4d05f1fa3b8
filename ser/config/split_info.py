"""SplitInfo: protocol and fold of a split, and whether it leaks."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

STAMPS = ("leaky", "transductive")
"""Fields that keep scores from being those of unknown speakers."""


@dataclass(frozen=True)
class SplitInfo:
    """Protocol and fold of a split; `asdict` is how metrics.json and a checkpoint have it.

    Attributes:
        protocol: Its name, with the role of the corpus of few speakers where that decides what is
        tested.
        protocol_version: Of the code that assigns the clips.
        protocol_hash: Of all settings of the protocol.
        fold: The fold that tests, from 0; `all` of pooled folds.
        folds: How many the protocol has.
        leaky: Whether the same speakers may train and test.
        transductive: Whether features are normalised by other clips of the test speakers.
    """

    protocol: str
    protocol_version: int
    protocol_hash: str
    fold: int | str
    folds: int
    leaky: bool
    transductive: bool

    @classmethod
    def read(cls, content: Mapping) -> "SplitInfo":
        """Take its fields out of the content of metrics.json or of a checkpoint.

        Raises:
            KeyError: One is missing.
            ValueError: One is of another type.
        """
        values = {field.name: content[field.name] for field in fields(cls)}
        wrong = [one.name for one in fields(cls) if not isinstance(values[one.name], one.type)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} are of another type")
        return cls(**values)
