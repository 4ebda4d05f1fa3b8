"""SplitInfo: protocol and fold of a split, and whether it leaks."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields

EXPOSURE = ("exposed", "exposure_unknown")
"""Fields that say what an encoder has heard of the corpus that is scored."""

STAMPS = ("leaky", "transductive", *EXPOSURE, "refit", "unvalidated")
"""Fields that say how far scores are those of unknown speakers, and how the model was chosen."""


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
        exposed: Whether a pretrained encoder was trained on a corpus that is scored.
        exposure_unknown: Whether it is not known what the encoder was trained on.
        refit: Whether the validation speakers trained too, once the model was chosen.
        unvalidated: Whether there were no validation speakers.
    """

    protocol: str
    protocol_version: int
    protocol_hash: str
    fold: int | str
    folds: int
    leaky: bool
    transductive: bool
    exposed: bool = False
    exposure_unknown: bool = False
    refit: bool = False
    unvalidated: bool = False

    @classmethod
    def read(cls, content: Mapping) -> "SplitInfo":
        """Take its fields out of the content of metrics.json or of a checkpoint.

        What earlier versions did not write has its default.

        Raises:
            KeyError: Another one is missing.
            ValueError: One is of another type.
        """
        values = {
            field.name: content[field.name]
            if field.default is MISSING
            else content.get(field.name, field.default)
            for field in fields(cls)
        }
        wrong = [one.name for one in fields(cls) if not isinstance(values[one.name], one.type)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} are of another type")
        return cls(**values)


def joint_stamps(infos: Iterable[SplitInfo]) -> dict[str, bool]:
    """Return the stamps of what is made of several runs: those that any of them has."""
    infos = list(infos)
    return {stamp: any(getattr(info, stamp) for info in infos) for stamp in STAMPS}
