from pathlib import Path

import numpy as np
import pytest
import torch

from ser.data.datamodule import EmotionDataModule
from ser.data.protocols import Holdout
from ser.data.window import Window

WINDOW = Window(3.0, {"ravdess": 1.0, "tess": 0.0, "other": "onset"})


@pytest.fixture
def data(demo: Path, cache: Path) -> EmotionDataModule:
    module = EmotionDataModule(str(demo), Holdout(), WINDOW, batch_size=32, cache=str(cache))
    module.setup("fit")
    return module


def energy(waveform: torch.Tensor) -> torch.Tensor:
    """A stand-in for a front end: (batch, samples) -> (batch, 1, 3, 10)."""
    return waveform.reshape(len(waveform), 1, 3, 10, -1).square().mean(dim=-1)


def test_every_clip_is_in_one_split_and_every_batch_is_whole(data: EmotionDataModule):
    assert sum(len(data.dataset(split, None)) for split in ("train", "val", "test")) == 616
    batches = list(data.waveform_loader("test"))
    rows = torch.cat([batch["row"] for batch in batches]).tolist()
    assert rows == data.table.index[data.table.split == "test"].tolist()
    first = batches[0]
    assert first["waveform"].shape == (32, 144000)
    assert first["waveform"].abs().max() <= 1
    names = [data.classes[label] for label in first["label"]]
    assert names == data.table.label[first["row"].numpy()].tolist()


def test_cached_features_are_those_of_the_waveforms(data: EmotionDataModule):
    plain = list(data.val_dataloader())
    data.cache_features(energy, "energy")
    cached = list(data.val_dataloader())
    for before, after in zip(plain, cached, strict=True):
        assert torch.equal(energy(before["waveform"]), after["features"])
        assert torch.equal(before["label"], after["label"])
        assert "waveform" not in after
    assert "waveform" in next(iter(data.waveform_loader("test")))


def test_waveforms_held_on_a_device_are_those_of_the_memory_map(data: EmotionDataModule):
    plain = list(data.val_dataloader())
    data.hold_waveforms(torch.device("cpu"))
    for before, after in zip(plain, data.val_dataloader(), strict=True):
        assert torch.equal(before["waveform"], after["waveform"])


def test_balanced_weights_undo_the_class_balance(data: EmotionDataModule):
    counts = data.table.label[data.table.split == "train"].value_counts()[data.classes].to_numpy()
    weighed = data.balanced_weights().numpy() * counts
    assert np.allclose(weighed, weighed[0])
    assert weighed.sum() == pytest.approx(counts.sum())


def test_an_epochs_order_is_a_function_of_seed_and_epoch(data: EmotionDataModule):
    def order(seed: int, epoch: int) -> list[int]:
        data.seed = seed
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # as Lightning does
        return list(loader.sampler)

    assert sorted(order(0, 0)) == list(range(len(data.dataset("train", None))))
    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_a_selection_moves_no_actor(demo: Path, cache: Path, data: EmotionDataModule):
    options = {"drop": ["sad", "calm"], "channels": ["speech"]}
    few = EmotionDataModule(str(demo), Holdout(), WINDOW, cache=str(cache), **options)
    few.setup("fit")
    assert few.reader.waveforms.key == data.reader.waveforms.key
    assert few.audit["actors"] == data.audit["actors"]
    assert (few.table.split == data.table.split[few.table.index]).all()
    assert set(few.table.channel) == {"speech"}
    assert few.classes == ["neutral", "happy", "angry", "fearful", "disgust", "surprised"]
