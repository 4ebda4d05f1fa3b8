"""The clips a checkpoint was trained and tested on, found again."""

import logging
import os
from pathlib import Path

import pandas as pd
from hydra.utils import instantiate

from ser.checkpoint import Checkpoint
from ser.data.datamodule import EmotionDataModule
from ser.frontend import cache_key

log = logging.getLogger(__name__)


def data(loaded: Checkpoint, root: str | None, cache: str | None, split: str) -> EmotionDataModule:
    """Build the data of a checkpoint, wherever it lies now, with the split it was trained on.

    Clips that are missing or sound different now are told in the log.

    Args:
        loaded: The checkpoint.
        root: Where its corpora lie now; None where they lay.
        cache: The cache folder; None is the user's.
        split: What is to be scored: `val` or `test`.
    """
    config = loaded.config["data"] | {"cache": cache}
    if root is not None:
        config["root"] = root
    elif isinstance(config["root"], dict):  # the embedded corpus is built where the cache is now
        config["root"] |= {"directory": cache}
    elif not Path(config["root"]).is_dir():
        config["root"] = os.environ.get("SER_DATA", config["root"])
    found = instantiate(config)
    found.recorded = loaded.split["split"].to_dict()
    found.setup("test")
    _compare(loaded.split, found, split)
    if found.normalize:
        key = cache_key(loaded.model.hparams.frontend)
        found.cache_features(loaded.model.frontend, key)
    return found


def _compare(trained: pd.DataFrame, data: EmotionDataModule, split: str) -> None:
    """Warn where the data are not those of the checkpoint; without any to score, stop."""
    found = pd.DataFrame(data.record()).set_index("name")
    expected = trained[trained["split"] == split]
    there = expected.index.intersection(found.index)
    if there.empty:
        raise ValueError(
            f"data.root={data.root!r} holds none of the {len(expected)} clips that split={split}"
            f" names in the checkpoint (splits: {', '.join(sorted(set(trained['split'])))})"
        )
    missing = expected.index.difference(there)
    if len(missing):
        log.warning("%d %s clips are missing, such as %s", len(missing), split, missing[0])
    changed = there[expected.loc[there, "sha256"] != found.loc[there, "sha256"]]
    if len(changed):
        log.warning("%d %s clips sound different now, such as %s", len(changed), split, changed[0])
