"""Roles: what each corpus is for. The protocol spreads the speakers of some, others are placed."""

import logging
from collections.abc import Mapping, Sequence
from itertools import compress

from ser.corpora.clip import Clip, Corpus
from ser.corpora.scan import CORPORA
from ser.splits.protocols import FEWEST, SPLITS, SplitProtocol

log = logging.getLogger(__name__)


def resolve(
    given: Mapping[str, str] | None, corpora: Mapping[str, Corpus], protocol: SplitProtocol
) -> dict[str, str]:
    """Return the role of each corpus.

    By default a corpus of four speakers or more is split, unless the protocol names speakers and
    none of it; others train. One that is alone is split, and so is each where the protocol itself
    places corpora.

    Args:
        given: Roles by corpus, where they are not the default.
        corpora: Those asked for, by name.
        protocol: What parts the clips.

    Raises:
        ValueError: A corpus is unknown, a role contradicts the protocol, or nothing is tested.
    """
    given = {**(given or {}), **(protocol.roles or {})}
    if unknown := [name for name in given if name not in {*corpora, *CORPORA}]:
        raise ValueError(f"data.roles names {unknown[0]!r}: expected some of {', '.join(corpora)}")
    asked = {name: role for name, role in given.items() if name in corpora}
    for name in given.keys() - {*corpora}:
        if given[name] != "off":
            log.warning("data.roles: %s is not in data.corpora and has no role", name)
    if protocol.places and (wrong := [role for role in asked.values() if role in SPLITS]):
        raise ValueError(
            f"data.roles={asked}: expected off, or no {wrong[0]}, as protocol={protocol.name} says"
            " itself what each corpus is for"
        )
    roles = defaults(asked, corpora, protocol) | asked
    if not {*roles.values()} & {"split", "test"}:
        raise ValueError(
            f"no clip would test, by data.roles={roles}: expected a corpus whose role is split or"
            " test"
        )
    return roles


def defaults(
    asked: Mapping[str, str], corpora: Mapping[str, Corpus], protocol: SplitProtocol
) -> dict[str, str]:
    """Return the roles that corpora have where nothing else is asked for."""
    alone = len([name for name in corpora if asked.get(name) != "off"]) == 1
    parted = {
        name
        for name, corpus in corpora.items()
        if len(corpus.speakers) >= FEWEST and protocol.parts(name)
    }
    return {
        name: "split" if protocol.places or alone or name in parted else "train" for name in corpora
    }


def deciding(roles: Mapping[str, str]) -> dict[str, str]:
    """Return the roles that decide what is tested and validated."""
    return {name: role for name, role in roles.items() if role in ("split", "val", "test")}


def groups(roles: Mapping[str, str], corpora: Mapping[str, Corpus], shared: bool) -> list[set[str]]:
    """Return the sets of emotions that a class must be in: of each split, for it to be there.

    Args:
        roles: By corpus.
        corpora: By name.
        shared: Whether each corpus that is split must hold it too.
    """
    parts = [[name for name, role in roles.items() if role in ("split", split)] for split in SPLITS]
    if shared:
        parts += [[name] for name, role in roles.items() if role == "split"]
    return [
        {emotion for name in part for emotion in corpora[name].emotions} for part in parts if part
    ]


def count(clips: Sequence[Clip], protocol: SplitProtocol, roles: Mapping[str, str]) -> int:
    """Count the folds; where no corpus is split there is one."""
    spread = [clip for clip in clips if roles.get(clip.corpus) == "split"]
    return protocol.count(spread) if spread else 1


def assign(
    clips: Sequence[Clip], protocol: SplitProtocol, roles: Mapping[str, str], fold: int = 0
) -> dict[str, str]:
    """Map each clip's identity to train, val or test; clips that are not used are left out.

    Args:
        clips: All that there are.
        protocol: What parts those of role `split`.
        roles: By corpus; one that is not named is off.
        fold: Of the protocol, from 0.
    """
    folds = count(clips, protocol, roles)
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < folds:
        known = "0" if folds == 1 else f"0 to {folds - 1}"
        raise ValueError(
            f"fold={fold!r}: expected {known} or all, the folds of protocol={protocol.name} on"
            " these recordings"
        )
    of_clips = [roles.get(clip.corpus, "off") for clip in clips]
    spread = list(compress(clips, (role == "split" for role in of_clips)))
    splits = protocol.assign(spread, fold) if spread else {}
    placed = {clip.clip: role for clip, role in zip(clips, of_clips, strict=True) if role in SPLITS}
    return splits | placed
