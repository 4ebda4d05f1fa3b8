"""Clips of RAVDESS and TESS as batches of waveforms, or of features already computed from them."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from ser.data.audio import open_waveforms
from ser.data.audit import audit
from ser.data.cache import cache_directory
from ser.data.corpora import CHANNELS, CORPORA, Clip, Scan, scan
from ser.data.dataset import Batch, ClipDataset, Reader
from ser.data.protocols import SPLITS, SplitProtocol, assign, select_classes
from ser.data.reader import ClipReader
from ser.data.window import Window

log = logging.getLogger(__name__)


class EmotionDataModule(LightningDataModule):
    """RAVDESS and TESS, parted by a protocol.

    Batches hold `waveform` (batch, samples) in -1..1, `label` (batch,) and `row` (batch,), the
    clip's row in `table`. After `cache_features`, training and validation batches hold `features`
    instead of `waveform`.

    Args:
        root: Folder that holds the corpora in any layout.
        protocol: What assigns the clips to train, val and test.
        window: Which seconds of a clip are read.
        corpora: `ravdess`, `tess` or both.
        channels: `speech`, `song` or both.
        tess: Where TESS is placed, see `ser.data.protocols.assign`.
        drop: Emotions to leave out.
        keep: Emotions to keep; None keeps all.
        batch_size: Clips.
        sample_rate: Hz.
        seed: Of the order of the training clips, together with the epoch.
        cache: Folder of decoded audio and features; None is the user's cache folder.
    """

    def __init__(
        self,
        root: str,
        protocol: SplitProtocol,
        window: Window,
        corpora: Sequence[str] = CORPORA,
        channels: Sequence[str] = CHANNELS,
        tess: str = "train",
        drop: Sequence[str] = (),
        keep: Sequence[str] | None = None,
        batch_size: int = 32,
        sample_rate: int = 48000,
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        _check_known("data.corpora", corpora, CORPORA)
        _check_known("data.channels", channels, CHANNELS)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"data.batch_size={batch_size!r}: expected a number from 1 on")
        self.root = root
        self.protocol = protocol
        self.window = window
        self.corpora = corpora
        self.channels = channels
        self.tess = tess
        self.batch_size = batch_size
        self.sample_rate = sample_rate
        self.seed = seed
        self.cache = cache_directory(cache)
        self.classes = select_classes(drop, keep)

    @property
    def protocol_name(self) -> str:
        """The protocol, with the placement of TESS where that decides what is tested."""
        scored = self.tess not in ("train", "off")
        return f"{self.protocol.name}, tess {self.tess}" if scored else self.protocol.name

    def setup(self, stage: str) -> None:
        """Scan, part, decode and audit, once for all stages.

        Training needs every class in every split; scoring a checkpoint does with what is there.
        """
        if hasattr(self, "table"):
            return
        found = scan(self.root)
        log.info(found.describe())
        self.clips = found.clips
        self.table = self._tabulate(found)
        if stage == "fit":
            self._check_every_class_is_there()
        waveforms = open_waveforms(
            [clip.path for clip in found.clips], found.root, self.sample_rate, self.cache
        )
        self.reader = ClipReader(waveforms, [clip.corpus for clip in found.clips], self.window)
        self.table["sha256"] = [waveforms.notes[row] for row in self.table.index]
        chosen = [found.clips[row] for row in self.table.index]
        self.audit = audit(chosen, self.table.split, self.table.sha256, self.protocol.leaky)

    def _tabulate(self, found: Scan) -> pd.DataFrame:
        splits = assign(found.clips, self.protocol, self.tess)
        rows = {
            row: vars(clip)
            | {
                "path": clip.path.relative_to(found.root).as_posix(),
                "label": clip.emotion,
                "split": splits[clip.name],
            }
            for row, clip in enumerate(found.clips)
            if clip.corpus in self.corpora
            and clip.channel in self.channels
            and clip.emotion in self.classes
            and clip.name in splits
        }
        columns = [*Clip.__dataclass_fields__, "label", "split"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def _check_every_class_is_there(self) -> None:
        counts = pd.crosstab(self.table.label, self.table.split)
        counts = counts.reindex(index=self.classes, columns=SPLITS, fill_value=0)
        asked = (
            f"data.corpora={list(self.corpora)}, data.channels={list(self.channels)},"
            f" data.tess={self.tess}"
        )
        for split in SPLITS:
            if not counts[split].any():
                raise ValueError(
                    f"{split} is empty ({asked}): RAVDESS actors validate, and test unless"
                    " data.tess says otherwise; clips selected:"
                    f" {self.table.corpus.value_counts().to_dict()}"
                )
        for split in SPLITS:
            missing = counts.index[counts[split] == 0].to_list()
            if missing:
                raise ValueError(
                    f"no {split} clips of {', '.join(missing)} ({asked}): drop these classes with"
                    f" data.drop or select other data; clips a class: {counts[split].to_dict()}"
                )

    def cache_features(self, frontend: Callable[[Tensor], Tensor], key: object) -> None:
        """Let training and validation read features that are computed once for all runs.

        Args:
            frontend: Turns (batch, samples) into features of one shape a clip.
            key: What `frontend` was built from: plain containers.
        """
        self.reader.cache_features(frontend, key, self.cache)

    def hold_waveforms(self, device: torch.device) -> None:
        """Let training and validation read waveforms that stay on the device."""
        self.reader.hold(self.table.index.to_numpy(), device)

    def dataset(self, split: str, read: Reader) -> ClipDataset:
        """Give the clips of `train`, `val` or `test`, to be read by `read`."""
        chosen = self.table[self.table.split == split]
        labels = chosen.label.map(self.classes.index).to_numpy(np.int64)
        return ClipDataset(chosen.index.to_numpy(), labels, read)

    def training_features(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the cached features (clips, ...) and labels (clips,) of the training clips."""
        dataset = self.dataset("train", self.reader.read_fastest)
        return dataset.read(dataset.rows)["features"].numpy(), dataset.labels

    def record(self) -> dict[str, list[str]]:
        """List name, split and sha256 of the clips, for another run to score the same ones."""
        return {
            "name": [self.clips[row].name for row in self.table.index],
            "split": self.table.split.to_list(),
            "sha256": self.table.sha256.to_list(),
        }

    def balanced_weights(self) -> Tensor:
        """Weigh each class by the inverse of its training clips, 1 on average: (classes,)."""
        counts = self.table.label[self.table.split == "train"].value_counts()[self.classes]
        return torch.tensor((counts.sum() / len(counts) / counts).to_numpy(np.float32))

    def train_dataloader(self) -> DataLoader:
        """Shuffle by (seed, epoch), so that a resumed run repeats an unbroken one."""
        dataset = self.dataset("train", self.reader.read_fastest)
        sampler = DistributedSampler(dataset, num_replicas=1, rank=0, seed=self.seed)
        return self._loader(dataset, sampler=sampler)

    def val_dataloader(self) -> DataLoader:
        """Give the validation clips in order."""
        return self._loader(self.dataset("val", self.reader.read_fastest))

    def waveform_loader(self, split: str) -> DataLoader:
        """Give the clips of a split in order, as waveforms."""
        return self._loader(self.dataset(split, self.reader.read_waveforms))

    def _loader(self, dataset: ClipDataset, **options: object) -> DataLoader:
        # No worker processes: a batch is one read of the memory map.
        return DataLoader(dataset, self.batch_size, collate_fn=_already_a_batch, **options)


def _already_a_batch(batch: Batch) -> Batch:
    return batch


def _check_known(key: str, values: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(values, str):
        raise ValueError(f"{key}={values!r} is no list: expected {key}='[{values}]'")
    unknown = [value for value in values if value not in known]
    if unknown or not values:
        raise ValueError(f"{key}={list(values)}: expected one or more of {list(known)}")
