"""The split table: a protocol applied to the clips at hand."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ser.corpora.clip import COLUMNS
from ser.corpora.names import cell
from ser.corpora.scan import CORPORA, Scan
from ser.splits.protocols import SPLITS, SplitProtocol
from ser.splits.roles import assign, count
from ser.splits.speakers import is_spread

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitTable:
    """The folds of a protocol over the selected clips of a scan.

    Attributes:
        found: The scan.
        protocol: What assigns its clips to train, val and test.
        tess: The role of the corpus of few speakers, see `ser.splits.roles.assign`.
        corpora: Those asked for.
        channels: Those asked for.
        labels: By (emotion, gender) asked for, its class.
    """

    found: Scan
    protocol: SplitProtocol
    tess: str
    corpora: Sequence[str]
    channels: Sequence[str]
    labels: Mapping[tuple[str, str], str]

    def count(self) -> int:
        """Count the folds."""
        return count(self.found.clips, self.protocol)

    def check(self) -> None:
        """Refuse a protocol under which any fold lacks a split or a class; no audio is read."""
        for fold in range(self.count()):
            self.table(fold)

    def table(self, fold: int) -> pd.DataFrame:
        """Return the table of a fold; each of its splits has every class.

        Nobody validates where the protocol assigns nobody to val.

        Raises:
            ValueError: The fold is unknown, or a split or a class of it is empty, with the counts.
        """
        assigned = self.assign_clips(fold)
        needed = [split for split in SPLITS if split != "val" or split in assigned.values()]
        table = self.tabulate(assigned)
        counts = pd.crosstab(table.label, table.split)
        counts = counts.reindex(
            index=list(dict.fromkeys(self.labels.values())), columns=SPLITS, fill_value=0
        )
        asked = (
            f"protocol={self.protocol.name}, fold={fold}, data.corpora={list(self.corpora)},"
            f" data.channels={list(self.channels)}, data.modality={list(self.found.modality)},"
            f" data.tess={self.tess}"
        )
        for split in needed:
            if not counts[split].any():
                raise ValueError(
                    f"{split} is empty ({asked}): expected speakers with clips of these"
                    f" corpora and channels; selected: {table.corpus.value_counts().to_dict()}"
                )
        for split in needed:
            missing = counts.index[counts[split] == 0].to_list()
            if missing:
                raise ValueError(
                    f"no {split} clips of {', '.join(missing)} ({asked}): {self._advise(missing)};"
                    f" clips a class: {counts[split].to_dict()}"
                )
        return table

    def _advise(self, missing: Sequence[str]) -> str:
        """Return what to do about missing classes; data.drop knows emotions, not their genders."""
        there = {emotion for (emotion, _), label in self.labels.items() if label not in missing}
        gone = dict.fromkeys(
            emotion for (emotion, _), label in self.labels.items() if label in missing
        )
        if there.intersection(gone):
            return "expected data.target=emotion, or a protocol whose splits hold both genders"
        return f"leave them out with data.drop=[{','.join(gone)}], or select other data"

    def tabulate(self, splits: Mapping[str, str]) -> pd.DataFrame:
        """Return the selected clips, indexed by their place in the scan: the content of split.csv.

        Args:
            splits: By a clip's identity, its split; clips without one are left out.
        """
        rows = {
            row: vars(clip)
            | {
                "path": cell(clip.path.relative_to(self.found.root)),
                "label": self.labels[clip.emotion, clip.gender],
                "split": splits[clip.clip],
            }
            for row, clip in enumerate(self.found.clips)
            if clip.corpus in self.corpora
            and clip.channel in self.channels
            and (clip.emotion, clip.gender) in self.labels
            and clip.clip in splits
        }
        segments = any(self.found.clips[row].end is not None for row in rows)
        columns = [*COLUMNS, *(("start", "end") if segments else ()), "label", "split"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def report_gaps(self, fold: int) -> None:
        """Log the speakers to spread, and their channels, that a fold goes without."""
        clips = [clip for clip in self.found.clips if is_spread(clip)]
        if not clips or all(CORPORA[name].placed for name in self.corpora):
            return
        if absent := self.protocol.missing(clips, fold):
            log.warning("%s: speakers %s are missing", self.protocol.name, ", ".join(absent))
        splits = self.assign_clips(fold)
        there = {(clip.speaker, clip.channel) for clip in clips}
        there.update(*(CORPORA[name].unrecorded for name in self.corpora))
        tested = sorted({clip.speaker for clip in clips if splits.get(clip.clip) == "test"})
        for channel in self.channels:
            gaps = [speaker for speaker in tested if (speaker, channel) not in there]
            if gaps:
                log.warning("test lacks the %s of speakers %s", channel, ", ".join(gaps))

    def assign_clips(self, fold: int) -> dict[str, str]:
        """Map each clip's identity to its split in a fold, before any selection."""
        return assign(self.found.clips, self.protocol, self.tess, fold, self.corpora)
