"""The leak audit: what train, val and test share that they must not."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from ser.data.corpora import Clip
from ser.data.protocols import SPLITS


def audit(
    clips: Sequence[Clip], splits: Sequence[str], hashes: Sequence[str], leaky: bool
) -> dict[str, object]:
    """List the actors and the decoded samples that two splits share.

    Args:
        clips: The selected clips.
        splits: Each clip's split.
        hashes: Each clip's sha256 of its decoded samples: a renamed or re-wrapped copy counts.
        leaky: Whether the protocol is allowed to leak, by its name.

    Raises:
        ValueError: Something is shared, or a split is empty, under a protocol that may not leak.
    """
    actors = {split: set() for split in SPLITS}
    members = defaultdict(list)
    for clip, split, digest in zip(clips, splits, hashes, strict=True):
        actors[split].add(clip.actor)
        members[digest].append((split, clip.path.name))
    shared_actors = sorted(
        set().union(*(actors[one] & actors[other] for one, other in combinations(SPLITS, 2)))
    )
    copies = [group for group in members.values() if len(group) > 1]
    crossing = [group for group in copies if len({split for split, _ in group}) > 1]
    if not leaky and shared_actors:
        raise ValueError(
            f"actors {shared_actors} are in more than one of train, val and test: expected"
            " disjoint actors; only protocol=random may share them"
        )
    if not leaky and crossing:
        (one, first), (other, second) = list(dict(crossing[0]).items())[:2]
        raise ValueError(
            f"{first} ({one}) and {second} ({other}) hold the same samples, and"
            f" {len(crossing) - 1} more such groups cross the split: remove the copies"
        )
    return {
        "passed": not shared_actors and not crossing,
        "actors": {split: sorted(actors[split]) for split in SPLITS},
        "actors_shared": shared_actors,
        "samples_shared": sorted(sorted(name for _, name in group) for group in crossing),
        "samples_repeated": sorted(sorted(name for _, name in group) for group in copies),
    }
