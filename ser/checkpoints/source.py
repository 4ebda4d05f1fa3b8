"""The data of a checkpoint: the clips that it was trained and tested on, found again."""

import logging
import os
from pathlib import Path

import pandas as pd
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from ser.checkpoints.format import Checkpoint
from ser.corpora.clip import Clip
from ser.corpora.scan import from_name
from ser.data.datamodule import EmotionDataModule
from ser.splits.leakage import audit

log = logging.getLogger(__name__)


def open_data(
    loaded: Checkpoint,
    root: str | None,
    cache: str | None,
    split: str,
    on_error: str | None = None,
    cache_max_gb: float | None = None,
    manifest: str | None = None,
) -> EmotionDataModule:
    """Build the data of a checkpoint, wherever it lies now, with the split it was trained on.

    Clips that are missing or sound different now are told in the log. The audit is of the clips to
    score as they are now, and of all others as the checkpoint recorded them: these need not be
    there.

    Args:
        loaded: The checkpoint.
        root: Where its corpora lie now; None where they lay.
        cache: The cache folder; None is the user's.
        split: What is to be scored: `val` or `test`.
        on_error: `raise` or `skip` recordings that cannot be read; None is as in training.
        cache_max_gb: What the cache may take; None is any amount.
        manifest: Where its manifest lies now, if it was trained on one; None where it lay.

    Raises:
        ValueError: There is nothing to score, or it has trained the model.
    """
    if split == "val" and loaded.split_info.refit:
        raise ValueError(
            f"ckpt={str(loaded.path)!r} with split=val: its validation speakers have trained it;"
            " expected split=test"
        )
    # A checkpoint may be a stranger's: it says neither what is downloaded, nor what is deleted.
    here = {"cache": cache, "cache_max_gb": cache_max_gb, "download": False}
    config = loaded.config["data"] | here
    config["batch_size"] = min(config.get("batch_size", 32), loaded.clips_at_once)
    if on_error is not None:
        config["on_error"] = on_error
    listed = config.get("manifest") is not None
    if listed or manifest is not None:
        config["manifest"] = _find_manifest(loaded, root, manifest)
    elif root is not None:
        config["root"] = root
    elif isinstance(config["root"], dict):  # the embedded corpus is built where the cache is now
        config["root"] |= {"directory": cache}
    elif config["root"] is not None and not Path(config["root"]).is_dir():
        config["root"] = os.environ.get("SER_DATA", config["root"])
    try:
        found = instantiate(config)
    except InstantiationException as error:
        # What a stranger names as its manifest may be any file that is here.
        if isinstance(error.__cause__, ValueError | OSError) and (manifest or not listed):
            raise
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        where = ": expected data.manifest= where its manifest lies now" if listed else ""
        raise ValueError(
            f"ckpt={str(loaded.path)!r}: the data of its own recipe cannot be built ({reason})"
            + where
        ) from error
    if found.labels.classes != loaded.model.classes:
        raise ValueError(
            f"ckpt={str(loaded.path)!r} tells {loaded.model.classes} apart, but its data have the"
            f" classes {found.labels.classes}: expected an untouched file"
            + (", and the manifest of its training" if listed else "")
        )
    found.recorded = loaded.split["split"].to_dict()
    found.setup("test")
    changed = _compare(loaded.split, found, split)
    found.audit = _audit(loaded, found, split) | {"unreadable": dict(found.decoded.unreadable)}
    if changed and found.audit["passed"]:
        found.audit["passed"] = None
        found.audit["unknown"] = (
            f"{changed} {split} clips sound different from those that the checkpoint recorded, so"
            " copies of its training clips may be among them"
        )
    if found.normalize:
        found.cache_features(loaded.model.frontend, loaded.model.hparams.frontend)
    found.trim()
    return found


def _find_manifest(loaded: Checkpoint, root: str | None, manifest: str | None) -> str:
    """Return the file that lists the clips of a checkpoint.

    Raises:
        ValueError: It is not there, or the checkpoint was trained on other data.
    """
    source, recorded = f"ckpt={str(loaded.path)!r}", loaded.config["data"].get("manifest")
    if recorded is None:
        raise ValueError(
            f"data.manifest={manifest!r}, but {source} was trained on what is below data.root:"
            " expected that"
        )
    if root is not None:
        raise ValueError(
            f"data.root={root!r}, but {source} was trained on data.manifest: expected that"
        )
    if manifest is None and not Path(recorded).is_file():
        raise ValueError(
            f"{source} was trained on data.manifest={recorded!r}, which is not there: expected"
            " data.manifest= where it lies now"
        )
    return manifest or recorded


def _audit(loaded: Checkpoint, data: EmotionDataModule, split: str) -> dict[str, object]:
    """Audit the clips to score now against the others as they were in training."""
    there = {clip.clip: clip for clip in data.scanned.clips}
    now = data.record()
    rows = pd.concat([now[now.split == split], loaded.split[loaded.split.split != split]])
    clips = [there.get(clip) or (None if data.manifest else _from_id(clip)) for clip in rows.index]
    if None in clips:
        name = rows.index[clips.index(None)]
        lacks = "of no corpus: expected an untouched file"
        if data.manifest:
            lacks = (
                f"not in {data.place}: expected the manifest of its training, with data.manifest="
            )
        raise ValueError(f"ckpt={str(loaded.path)!r} names the clip {name!r}, which is {lacks}")
    return audit(clips, rows.split, rows.sha256, loaded.split_info.leaky)


def _from_id(identity: str) -> Clip | None:
    """Return the clip of an identity, with a path of no file; None where there is no such clip."""
    clip = from_name(identity.partition("/")[2])
    return clip if clip and clip.clip == identity else None


def _compare(trained: pd.DataFrame, data: EmotionDataModule, split: str) -> int:
    """Warn where the data are not those of the checkpoint; without any to score, stop.

    Returns:
        How many clips to score sound different now.
    """
    found = data.record()
    expected = trained[trained["split"] == split]
    there = expected.index.intersection(found.index)
    if there.empty:
        raise ValueError(
            f"{data.place} holds none of the {len(expected)} clips that split={split}"
            f" names in the checkpoint (splits: {', '.join(sorted(set(trained['split'])))})"
        )
    missing = expected.index.difference(there)
    if len(missing):
        log.warning("%d %s clips are missing, such as %s", len(missing), split, missing[0])
    changed = there[expected.loc[there, "sha256"] != found.loc[there, "sha256"]]
    if len(changed):
        log.warning("%d %s clips sound different now, such as %s", len(changed), split, changed[0])
    if "label" in expected:  # which a manifest may say otherwise by now
        other = there[expected.loc[there, "label"] != found.loc[there, "label"]]
        if len(other):
            raise ValueError(
                f"{data.place} has {len(other)} {split} clips of another class than in training,"
                f" such as {other[0]}: {found.label[other[0]]}, then {expected.label[other[0]]};"
                " expected the labels of the training"
            )
    return len(changed)
