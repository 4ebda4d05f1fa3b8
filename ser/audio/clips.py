"""The clips of a scan with their decoded samples, and those of them that cannot be read."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from ser.audio.decode import ERROR, open_waveforms
from ser.audio.rows import Joined, Kept
from ser.cache.store import Store
from ser.corpora.clip import Scan

ON_ERROR = ("raise", "skip")
"""What to do about files that cannot be read."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """Clips and their samples.

    Attributes:
        found: The scan, without what cannot be read.
        waveforms: A row a clip.
        unreadable: By path below the root, why it was left out.
    """

    found: Scan
    waveforms: Store | Joined | Kept
    unreadable: Mapping[str, str]


def open_library(found: Scan, sample_rate: int, cache: Path, on_error: str) -> Library:
    """Decode every clip of a scan, or open them where that was done before.

    Args:
        found: The scan.
        sample_rate: Hz.
        cache: The cache folder.
        on_error: `raise`, or `skip` to leave out what cannot be read.

    Raises:
        ValueError: Files cannot be read, and are to be raised; the log has a line for each.
    """
    # A store a modality: the audio files are not decoded again for a run with videos.
    groups = groupby(found.clips, attrgetter("modality"))
    paths = [[clip.path for clip in group] for _, group in groups]
    stores = [open_waveforms(group, found.root, sample_rate, cache) for group in paths]
    waveforms = Joined(*stores) if len(stores) > 1 else stores[0]
    notes = waveforms.notes
    sound = tuple(row for row, note in enumerate(notes) if not note.startswith(ERROR))
    if len(sound) == len(notes):
        return Library(found, waveforms, {})
    unreadable = {
        clip.path.relative_to(found.root).as_posix(): note.removeprefix(ERROR)
        for clip, note in zip(found.clips, notes, strict=True)
        if note.startswith(ERROR)
    }
    for name, reason in unreadable.items():
        log.warning("not read: %s: %s", name, reason)
    counted = f"{len(unreadable)} of {len(notes)} recordings below {found.root} cannot be read"
    if on_error == "raise":
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
        raise ValueError(
            f"{counted}: {listed}{'; ...' if len(unreadable) > 5 else ''}: mend or remove them, or"
            " leave them out with data.on_error=skip"
        )
    log.warning("%s and are left out", counted)
    clips = tuple(found.clips[row] for row in sound)
    return Library(replace(found, clips=clips), Kept(waveforms, sound), unreadable)
