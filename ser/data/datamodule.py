"""Clips of RAVDESS and TESS as batches of waveforms, or of features already computed from them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from ser.data.audio import open_waveforms
from ser.data.audit import audit
from ser.data.cache import Store, cache_directory, digest, load_or_build
from ser.data.corpora import CHANNELS, CORPORA, Clip, scan
from ser.data.protocols import SPLITS, SplitProtocol, assign, select_classes
from ser.data.window import Window

log = logging.getLogger(__name__)

Batch = dict[str, Tensor]
Reader = Callable[[np.ndarray], Batch]


class ClipDataset(Dataset):
    """Clips of one split; a batch is read at once, straight from the memory map."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, read: Reader) -> None:
        self.rows = rows
        self.labels = labels
        self.read = read

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Read a batch: `label` and `row` (batch,), beside what `read` returns for the rows."""
        rows = self.rows[positions]
        labels = torch.from_numpy(self.labels[positions])
        return self.read(rows) | {"label": labels, "row": torch.from_numpy(rows)}


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
        batch_size: int = 64,
        sample_rate: int = 48000,
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        _check_known("data.corpora", corpora, CORPORA)
        _check_known("data.channels", channels, CHANNELS)
        if batch_size < 1:
            raise ValueError(f"data.batch_size={batch_size}: expected at least 1")
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
        self.features: Store | None = None
        self.held: Tensor | None = None

    def setup(self, stage: str) -> None:
        """Scan, part, decode and audit, once for all stages.

        Training needs every class in every split; scoring a checkpoint does with what is there.
        """
        if hasattr(self, "table"):
            return
        found = scan(self.root)
        log.info(found.describe())
        splits = assign(found.clips, self.protocol, self.tess)
        self.waveforms = open_waveforms(
            [clip.path for clip in found.clips], found.root, self.sample_rate, self.cache
        )
        self.clips = found.clips
        self.table = self._tabulate(found.clips, splits, found.root)
        if stage == "fit":
            self._check_every_class_is_there()
        chosen = [found.clips[row] for row in self.table.index]
        self.audit = audit(chosen, self.table.split, self.table.sha256, self.protocol.leaky)

    def _tabulate(self, clips: Sequence[Clip], splits: dict[str, str], root: Path) -> pd.DataFrame:
        rows = {}
        for row, clip in enumerate(clips):
            wanted = clip.corpus in self.corpora and clip.channel in self.channels
            if wanted and clip.emotion in self.classes and clip.name in splits:
                facts = vars(clip) | {
                    "path": clip.path.relative_to(root).as_posix(),
                    "label": clip.emotion,
                    "split": splits[clip.name],
                    "sha256": self.waveforms.notes[row],
                }
                rows[row] = facts
        columns = [*Clip.__dataclass_fields__, "label", "split", "sha256"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def _check_every_class_is_there(self) -> None:
        counts = pd.crosstab(self.table.label, self.table.split)
        counts = counts.reindex(index=self.classes, columns=SPLITS, fill_value=0)
        for split in SPLITS:
            missing = counts.index[counts[split] == 0].to_list()
            if missing:
                raise ValueError(
                    f"no {split} clips of {', '.join(missing)} (data.tess={self.tess},"
                    f" data.corpora={list(self.corpora)}, data.channels={list(self.channels)}):"
                    f" drop these classes with data.drop or select other data; clips a class:"
                    f" {counts[split].to_dict()}"
                )

    def cache_features(self, frontend: Callable[[Tensor], Tensor], key: object) -> None:
        """Let training and validation read features that are computed once for all runs.

        Args:
            frontend: Turns (batch, samples) into features of one shape a clip.
            key: What `frontend` was built from: plain containers.
        """
        key = digest(self.waveforms.key, repr(self.window), key)
        rows = partial(self._feature_rows, frontend)
        self.features = load_or_build(self.cache, "features", key, rows)

    def hold_waveforms(self, device: torch.device) -> None:
        """Keep the window of every selected clip on the device, where the front end then runs."""
        rows = self.table.index.to_numpy()
        # 16 bit: 1.5 GB for everything. Rows that were not selected stay empty.
        self.held = torch.zeros(
            len(self.clips), self.window.samples, dtype=torch.int16, device=device
        )
        for part in np.array_split(rows, -(-len(rows) // 256)):
            windows = torch.from_numpy(self._windows(part))
            self.held[torch.from_numpy(part).to(device)] = windows.to(device)

    @torch.no_grad()
    def _feature_rows(
        self, frontend: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[np.ndarray, str]]:
        # Every clip of the scan, not the selection: a sweep over drops computes nothing again.
        parts = np.array_split(np.arange(len(self.waveforms)), -(-len(self.waveforms) // 64))
        for rows in track(parts, "features"):
            for features in frontend(self._read_waveforms(rows)["waveform"]).numpy():
                yield features[None], ""

    def _windows(self, rows: np.ndarray) -> np.ndarray:
        """Cut the rows' windows: (rows, samples) int16."""
        windows = np.empty((len(rows), self.window.samples), np.int16)
        for window, row in zip(windows, rows, strict=True):
            recording = self.waveforms[row]
            spans = self.window.spans(recording, self.clips[row].corpus)
            window[:] = self.window.cut(recording, spans[0])
        return windows

    def _read_waveforms(self, rows: np.ndarray) -> Batch:
        return {"waveform": torch.from_numpy(self._windows(rows)).float() / 32768}

    def _read_fastest(self, rows: np.ndarray) -> Batch:
        if self.features is not None:
            return {"features": torch.from_numpy(self.features.values[rows])}
        if self.held is not None:
            return {"waveform": self.held[torch.from_numpy(rows)].float() / 32768}
        return self._read_waveforms(rows)

    def dataset(self, split: str, read: Reader) -> ClipDataset:
        """Give the clips of `train`, `val` or `test`, to be read by `read`."""
        chosen = self.table[self.table.split == split]
        labels = chosen.label.map(self.classes.index).to_numpy(np.int64)
        return ClipDataset(chosen.index.to_numpy(), labels, read)

    def training_features(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the cached features (clips, ...) and the labels (clips,) of the training clips."""
        dataset = self.dataset("train", self._read_fastest)
        return self.features.values[dataset.rows], dataset.labels

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
        """Shuffle by (seed, epoch), so that a resumed run sees the order of an unbroken one."""
        dataset = self.dataset("train", self._read_fastest)
        sampler = DistributedSampler(dataset, num_replicas=1, rank=0, seed=self.seed)
        # A last batch of one clip would break batch normalisation.
        return self._loader(dataset, sampler=sampler, drop_last=len(dataset) > self.batch_size)

    def val_dataloader(self) -> DataLoader:
        """Give the validation clips in order."""
        return self._loader(self.dataset("val", self._read_fastest))

    def waveform_loader(self, split: str) -> DataLoader:
        """Give the clips of a split in order, as waveforms."""
        return self._loader(self.dataset(split, self._read_waveforms))

    def _loader(self, dataset: ClipDataset, **options: object) -> DataLoader:
        # No worker processes: a batch is one read of the memory map.
        return DataLoader(dataset, self.batch_size, collate_fn=_already_a_batch, **options)


def _already_a_batch(batch: Batch) -> Batch:
    return batch


def _check_known(key: str, values: Sequence[str], known: Sequence[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown or not values:
        raise ValueError(f"{key}={list(values)}: expected one or more of {list(known)}")
