"""Checkpoints of earlier versions: those in `format2/` are of before modules had packages."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hydra.utils import get_object

from ser.checkpoints.renames import TARGETS, rename
from ser.corpora.clip import EMOTIONS
from ser.corpora.tess import FORMER_ROLES
from ser.data.datamodule import EmotionDataModule
from ser.splits.protocols import Random

STORED = sorted((Path(__file__).parent / "format2").glob("*.ckpt"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_checkpoint_of_before_scores_as_it_did(launch: Callable[..., Path], path: Path):
    run = launch("eval", f"ckpt={path}", logger="none")
    found = pd.read_csv(run / "predictions.csv").set_index("path")
    expected = pd.read_csv(path.with_suffix(".csv")).set_index("path")
    probabilities = expected.filter(like="p_")
    pd.testing.assert_frame_equal(found.filter(like="p_"), probabilities, atol=1e-5)
    # Not sha256: the synthesiser's sines end in other last bits on another processor.
    for column in ("label", "split", "prediction"):
        assert found[column].equals(expected[column])


def test_a_name_of_before_is_one_that_is_there_now():
    for target in TARGETS.values():
        assert callable(get_object(target))
    recipe = {"_target_": "ser.data.protocols.KFold", "val_actors": 3, "folds": [[1], [2]]}
    assert rename({"data": [recipe]}) == {
        "data": [{"_target_": "ser.splits.protocols.KFold", "val_speakers": 3, "folds": [[1], [2]]}]
    }
    data = {"_target_": "ser.data.datamodule.EmotionDataModule", "drop": []}
    for before, now in FORMER_ROLES.items():
        assert rename(data | {"tess": before}) == data | now
        asked = {"root": "", "window": None, "protocol": Random(), **data, **now, "drop": ["calm"]}
        del asked["_target_"]
        assert EmotionDataModule(**asked).labels.classes == [e for e in EMOTIONS if e != "calm"]
    mixed = EmotionDataModule("", None, Random(), **FORMER_ROLES["mixed"])
    assert mixed.labels.classes == list(EMOTIONS)
    assert rename({"roles": {"tess": "off"}}) == {"roles": {"tess": "off"}}
