"""The split table: a protocol applied to the clips at hand."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ser.corpora.clip import COLUMNS
from ser.corpora.labels import Labels
from ser.corpora.names import cell
from ser.corpora.scan import Scan
from ser.splits.protocols import SPLITS, SplitProtocol
from ser.splits.roles import assign, count

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitTable:
    """The folds of a protocol over the selected clips of a scan.

    Attributes:
        found: The scan.
        protocol: What assigns its clips to train, val and test.
        roles: By corpus asked for, what it is for.
        channels: Those asked for.
        labels: The classes, and which clip is of which.
    """

    found: Scan
    protocol: SplitProtocol
    roles: Mapping[str, str]
    channels: Sequence[str]
    labels: Labels

    def count(self) -> int:
        """Count the folds."""
        return count(self.found.clips, self.protocol, self.roles)

    def check(self) -> None:
        """Refuse a protocol under which any fold lacks a split or a class; no audio is read."""
        for fold in range(self.count()):
            self.table(fold)

    def table(self, fold: int) -> pd.DataFrame:
        """Return the table of a fold; each of its splits has every class.

        Only one speaker who tests alone, in one of several folds, may lack some. Nobody validates
        where the protocol assigns nobody to val.

        Raises:
            ValueError: The fold is unknown, or a split or a class of it is empty, with the counts.
        """
        assigned = self.assign_clips(fold)
        needed = [split for split in SPLITS if split != "val" or split in assigned.values()]
        table = self.tabulate(assigned)
        counts = pd.crosstab(table.label, table.split)
        counts = counts.reindex(index=self.labels.classes, columns=SPLITS, fill_value=0)
        roles = ", ".join(f"{name}: {role}" for name, role in self.roles.items())
        asked = (
            f"protocol={self.protocol.name}, fold={fold}, data.roles={{{roles}}},"
            f" data.channels={list(self.channels)}, data.modality={list(self.found.modality)}"
        )
        for split in needed:
            if not counts[split].any():
                raise ValueError(
                    f"{split} is empty ({asked}): expected speakers with clips of these"
                    f" corpora and channels; selected: {table.corpus.value_counts().to_dict()}"
                )
        voices = (table.corpus + "/" + table.speaker).groupby(table.split).nunique()
        for split in needed:
            if split == "test" and voices[split] == 1 and self.count() > 1:
                continue  # one speaker need not have spoken all that the folds together test
            missing = counts.index[counts[split] == 0].to_list()
            if missing:
                raise ValueError(
                    f"no {split} clips of {', '.join(missing)} ({asked}): {self._advise(missing)};"
                    f" clips a class: {counts[split].to_dict()}"
                )
        return table

    def _advise(self, missing: Sequence[str]) -> str:
        """Return what to do about missing classes; data.drop knows emotions, not their genders."""
        genders = self.labels.target != "emotion"
        bases = {name.rpartition("_")[0] if genders else name for name in missing}
        gone = [emotion for emotion, name in self.labels.emotions.items() if name in bases]
        if len(missing) < len(bases) * (2 if genders else 1):
            return "expected data.target=emotion, or a protocol whose splits hold both genders"
        speakers = {clip.voice for clip in self.found.clips if clip.emotion in gone}
        known = f"{next(iter(speakers))} alone speaks them: " if len(speakers) == 1 else ""
        return f"{known}leave them out with data.drop=[{','.join(gone)}], or select other data"

    def tabulate(self, splits: Mapping[str, str]) -> pd.DataFrame:
        """Return the selected clips, indexed by their place in the scan: the content of split.csv.

        Args:
            splits: By a clip's identity, its split; clips without one are left out.
        """
        clips = self.found.clips
        rows = [
            row
            for row, clip in enumerate(clips)
            if clip.corpus in self.roles
            and clip.channel in self.channels
            and clip.emotion in self.labels.emotions
            and clip.clip in splits
        ]
        chosen = [clips[row] for row in rows]
        segments = any(clip.is_segment for clip in chosen)
        columns = (*COLUMNS, *(("start", "end") if segments else ()))
        table = {column: [getattr(clip, column) for clip in chosen] for column in columns}
        table["path"] = [cell(clip.path.relative_to(self.found.root)) for clip in chosen]
        table["label"] = [self.labels.of(clip) for clip in chosen]
        table["split"] = [splits[clip.clip] for clip in chosen]
        return pd.DataFrame(table, index=rows)

    def report_gaps(self, fold: int) -> None:
        """Log the speakers to spread, and their channels, that a fold goes without."""
        clips = [clip for clip in self.found.clips if self.roles.get(clip.corpus) == "split"]
        if not clips:
            return
        if absent := self.protocol.missing(clips, fold):
            log.warning("%s: speakers %s are missing", self.protocol.name, ", ".join(absent))
        splits = self.assign_clips(fold)
        there = {(clip.voice, clip.channel) for clip in clips}
        tested = sorted(
            {(c.voice, c.corpus, c.speaker) for c in clips if splits.get(c.clip) == "test"}
        )
        for channel in self.channels:
            gaps = []
            for voice, name, speaker in tested:
                corpus = self.found.corpora[name]
                recorded = (
                    channel in corpus.releases and (speaker, channel) not in corpus.unrecorded
                )
                if recorded and (voice, channel) not in there:
                    gaps.append(voice)
            if gaps:
                log.warning("test lacks the %s of speakers %s", channel, ", ".join(gaps))

    def assign_clips(self, fold: int) -> dict[str, str]:
        """Map each clip's identity to its split in a fold, before any selection."""
        return assign(self.found.clips, self.protocol, self.roles, fold)
