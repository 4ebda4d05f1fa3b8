"""The leak audit: what train, val and test share, and what test clips must not decide."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ser.corpora.clip import Clip
from ser.splits.protocols import SPLITS

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

STATISTICS = ("n_samples_seen_", "n_samples_", "mean_", "var_", "scale_", "data_min_", "data_max_")
"""What scikit-learn's scalers and projections keep of the clips they were fitted on."""


def audit(
    clips: Sequence[Clip], splits: Sequence[str], hashes: Sequence[str], leaky: bool
) -> dict[str, object]:
    """List the speakers and decoded samples that two splits share; count takes and repetitions.

    Segments of one file that overlap share samples. An audio file and a video of one moment are one
    take. A repetition is another take in which
    the same speaker says the same sentence in the same way.

    Args:
        clips: The selected clips.
        splits: Each clip's split.
        hashes: Each clip's sha256 of its decoded samples: a renamed or re-wrapped copy counts.
        leaky: Whether the protocol is allowed to leak, by its name.

    Raises:
        ValueError: Something is shared under a protocol that may not leak.
    """
    speakers = {split: set() for split in SPLITS}
    copied = _repeated(hashes)
    taken, said = (_repeated(getattr(clip, key) for clip in clips) for key in ("take", "sentence"))
    members = defaultdict(list)
    takes, sentences = defaultdict(list), defaultdict(list)
    for clip, split, digest in zip(clips, splits, hashes, strict=True):
        speakers[split].add(clip.voice)
        if hash(digest) in copied:
            members[digest].append((split, _file(clip)))
        if hash(clip.take) in taken:
            takes[clip.take].append(split)
        if hash(clip.sentence) in said:
            sentences[clip.sentence].append((clip.repetition, split))
    shared_speakers = sorted(
        set().union(*(speakers[one] & speakers[other] for one, other in combinations(SPLITS, 2)))
    )
    copies = [group for group in members.values() if len(group) > 1]
    crossing = [group for group in copies if len({split for split, _ in group}) > 1]
    crossing += _overlaps(clips, splits)
    shared_takes = [take for take in takes.values() if len(set(take)) > 1]
    repeated = sum(
        split == "test" and any(other != "test" and again != take for again, other in heard)
        for heard in sentences.values()
        for take, split in heard
    )
    if not leaky and shared_speakers:
        raise ValueError(
            f"speakers {shared_speakers} are in more than one of train, val and test: expected"
            " disjoint speakers; only protocol=random may share them, or protocol=given with"
            " protocol.allow_leak=true"
        )
    if not leaky and crossing:
        (one, first), (other, second) = list(dict(crossing[0]).items())[:2]
        raise ValueError(
            f"{first} ({one}) and {second} ({other}) hold the same samples, and"
            f" {len(crossing) - 1} more such groups cross the split: remove the copies"
        )
    return {
        "passed": not (shared_speakers or crossing or shared_takes or repeated),
        "speakers": {split: sorted(speakers[split]) for split in SPLITS},
        "speakers_shared": shared_speakers,
        "samples_shared": sorted(sorted(name for _, name in group) for group in crossing),
        "samples_repeated": sorted(sorted(name for _, name in group) for group in copies),
        "takes_shared": len(shared_takes),
        "test_takes_trained": sum(take.count("test") for take in shared_takes),
        "test_repetitions_trained": repeated,
    }


def _repeated(keys: Iterable[Hashable]) -> set[int]:
    """Return the hashes of keys that come more than once: few, where all keys would be many."""
    values, counts = np.unique(np.fromiter(map(hash, keys), np.int64), return_counts=True)
    return {*values[counts > 1].tolist()}


def _file(clip: Clip) -> str:
    """Name a clip as what is removed where it is a copy."""
    return clip.clip.rpartition("/")[2] if clip.is_segment else clip.path.name


def _overlaps(clips: Sequence[Clip], splits: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """Yield split and name of pairs of segments of one file that overlap across the split."""
    files = defaultdict(list)
    cut = {clip.path for clip in clips if clip.is_segment}
    for clip, split in zip(clips, splits, strict=True):
        if clip.path not in cut:
            continue
        files[clip.path].append(
            (clip.start, math.inf if clip.end is None else clip.end, split, clip)
        )
    for segments in files.values():
        last = {}  # by split, the end that is furthest so far, and whose it is
        for start, end, split, clip in sorted(segments, key=lambda one: one[:3]):
            for other, (reached, before) in last.items():
                if other != split and reached > start:
                    yield [(other, _file(before)), (split, _file(clip))]
            if end > last.get(split, (-1, clip))[0]:
                last[split] = end, clip


def check_statistics(estimator: "BaseEstimator", features: np.ndarray, labels: np.ndarray) -> None:
    """Refuse a fitted pipeline whose scaling or projection knows other than the training clips.

    Each step but the last is fitted once more, on the training clips alone, and compared in what
    `STATISTICS` names; a step that keeps nothing of it passes.

    Args:
        estimator: Fitted; what is no pipeline has no steps to check.
        features: Of the training clips, (clips, features).
        labels: Of the same, (clips,).
    """
    from sklearn.base import clone

    for name, step in getattr(estimator, "steps", [])[:-1]:
        again = clone(step).fit(features, labels)
        for key in STATISTICS:
            if hasattr(again, key) and not np.allclose(getattr(step, key), getattr(again, key)):
                raise ValueError(
                    f"{key} of {name} is not that of the {len(features)} training clips: expected"
                    " a pipeline that is fitted on them alone"
                )
        features = step.transform(features)


def check_objective(key: str, metric: str | None) -> None:
    """Refuse to let anything be chosen or stopped by a metric of the test speakers.

    Args:
        key: Where it is set, for the message.
        metric: Its name; None decides nothing.
    """
    if metric is not None and not str(metric).startswith(("val/", "train/", "cv/")):
        raise ValueError(
            f"{key}={metric!r} may decide nothing: expected a metric of val/ or train/, such as"
            " val/uar; the test speakers are for the last score alone"
        )
