"""Roles of corpora: one of few speakers is placed beside a protocol, never spread by it."""

from collections.abc import Sequence

from ser.corpora.clip import Clip
from ser.corpora.scan import CORPORA
from ser.splits.protocols import CrossCorpus, Holdout, SplitProtocol
from ser.splits.speakers import is_spread

ROLES = ("train", "test", "oaf_to_yaf", "yaf_to_oaf", "mixed", "off")


def count(clips: Sequence[Clip], protocol: SplitProtocol) -> int:
    """Count the folds; where no corpus is spread there is one."""
    spread = [clip for clip in clips if is_spread(clip)]
    return protocol.count(spread) if spread else 1


def effective(tess: str, protocol: SplitProtocol, corpora: Sequence[str]) -> str:
    """Return the role that comes about: `mixed` is `train` where it would part nothing."""
    parted = protocol.leaky and any(CORPORA[name].placed for name in corpora)
    return "train" if tess == "mixed" and not parted else tess


def assign(
    clips: Sequence[Clip],
    protocol: SplitProtocol,
    tess: str,
    fold: int = 0,
    corpora: Sequence[str] = tuple(CORPORA),
) -> dict[str, str]:
    """Map each clip's identity to train, val or test; clips that are not used are left out.

    `tess` places TESS: `train` adds its two speakers to the training clips; `test` trains on
    RAVDESS and tests on TESS; `oaf_to_yaf` and `yaf_to_oaf` train on one speaker, test on the
    other and validate on RAVDESS; `mixed` parts its clips among those of RAVDESS where the protocol
    is blind to speakers and `corpora` has TESS, and trains on them elsewhere; `off` leaves it out.
    """
    if tess not in ROLES:
        raise ValueError(f"data.tess={tess!r} is unknown: expected one of {ROLES}")
    folds = count(clips, protocol)
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < folds:
        known = "0" if folds == 1 else f"0 to {folds - 1}"
        raise ValueError(
            f"fold={fold!r}: expected {known} or all, the folds of protocol={protocol.name} on"
            " these recordings"
        )
    tess = effective(tess, protocol, corpora)
    if tess == "mixed":
        return protocol.assign(clips, fold)
    if tess not in ("train", "off") and not isinstance(protocol, Holdout):
        raise ValueError(
            f"data.tess={tess} says itself who tests: expected protocol=holdout, got"
            f" {protocol.name}; see protocol=cross_corpus"
        )
    if isinstance(protocol, CrossCorpus):
        if tess == "off":
            raise ValueError(f"data.tess=off: expected train, as {protocol.name} places TESS")
        return protocol.assign(clips, fold)
    spread = [clip for clip in clips if is_spread(clip)]
    placed = [clip for clip in clips if not is_spread(clip)]
    if tess in ("oaf_to_yaf", "yaf_to_oaf"):
        trained = tess[:3].upper()
        return {clip.clip: "val" for clip in spread} | {
            clip.clip: "train" if clip.speaker == trained else "test" for clip in placed
        }
    splits = protocol.assign(spread, fold) if spread else {}
    if tess == "test":
        splits = {name: "val" if split == "val" else "train" for name, split in splits.items()}
    if tess != "off":
        splits |= dict.fromkeys((clip.clip for clip in placed), tess)
    return splits
