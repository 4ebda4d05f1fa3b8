"""Clips of one split, a batch at a time."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

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
