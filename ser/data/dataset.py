"""Which clips make an epoch, in which order, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

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


class EpochSampler(Sampler[int]):
    """Orders the training clips by (seed, epoch): a resumed run repeats an unbroken one.

    Args:
        speakers: Who speaks in each clip, (clips,).
        most: Clips that one speaker gives to an epoch, drawn anew each time; None for all.
        seed: Of the order, together with the epoch.
    """

    def __init__(self, speakers: np.ndarray, most: int | None, seed: int) -> None:
        self.groups = [np.flatnonzero(speakers == name) for name in np.unique(speakers)]
        self.most = most
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Move on; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(len(group[: self.most]) for group in self.groups)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        drawn = [generator.permutation(group)[: self.most] for group in self.groups]
        return iter(generator.permutation(np.concatenate(drawn)).tolist())
