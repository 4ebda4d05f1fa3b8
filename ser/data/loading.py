"""Batches of clips: their windows as waveforms, or features computed from these."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ser.audio.window import VERSION, Window
from ser.cache.progress import counted
from ser.cache.rows import Rows
from ser.cache.store import digest, load_or_build
from ser.corpora.clip import Clip
from ser.corpora.scan import lead

PART = 64
"""Clips that are turned into features at once."""

MIXED = 8
"""Blocks whose clips are shuffled among each other."""

Batch = dict[str, Tensor]
Reader = Callable[[np.ndarray], Batch]


class ClipReader:
    """Reads batches of clips by their rows in the store of waveforms.

    Args:
        waveforms: All decoded clips.
        clips: What is known of each.
        window: What is cut out of a clip.
    """

    def __init__(self, waveforms: Rows, clips: Sequence[Clip], window: Window) -> None:
        self.waveforms = waveforms
        self.clips = clips
        self.window = window
        self.cached: Rows | None = None
        self.cached_as = ""
        self.held: Tensor | None = None
        self.held_at = np.full(len(waveforms), -1)
        self.withheld = np.zeros(len(waveforms), bool)
        self.standards: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def withhold(self, rows: Sequence[int]) -> None:
        """Refuse these rows, and no others, to all who read: nothing is fitted on them."""
        self.withheld[:] = False
        self.withheld[rows] = True

    def read_waveforms(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Read `waveform` (batch, samples) in -1..1."""
        self._refuse_withheld(rows)
        return {"waveform": self._waveforms(rows)}

    def read_fastest(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Read what is cached, `analysed` or `features` (batch, ...), else `waveform`."""
        self._refuse_withheld(rows)
        if self.cached is not None:
            return {self.cached_as: torch.from_numpy(self._standardised(rows))}
        if self.held is not None:
            return {"waveform": self.held[torch.tensor(self.held_at[rows])].float() / 32768}
        return {"waveform": self._waveforms(rows)}

    def read_beside(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Read what `read_fastest` does, and `waveform` in any case."""
        found = self.read_fastest(rows)
        return found if "waveform" in found else found | self.read_waveforms(rows)

    def cache(
        self,
        compute: Callable[[Tensor], Tensor],
        key: object,
        directory: Path,
        name: str,
        device: torch.device | str = "cpu",
    ) -> None:
        """Compute something of every clip once for all runs.

        Args:
            compute: Turns (batch, samples) into one array of one shape a clip.
            key: What it depends on: plain containers.
            directory: The cache folder.
            name: Of it in batches: `analysed` or `features`.
            device: Where it is computed.
        """
        starts = [lead(clip) for clip in self.clips]
        stores = []
        for block, of in self.waveforms.blocks():
            facts = digest(of, VERSION, repr(self.window), starts[block], key)
            rows = partial(self._computed_rows, compute, device, range(len(starts))[block])
            stores.append(load_or_build(directory, "features", facts, rows))
        self.cached, self.cached_as = Rows.of(stores), name

    def standardise(self, speakers: pd.Series, over_time: bool) -> None:
        """Centre and scale cached features by what the rows of one speaker have in common.

        Unlabelled clips of a test speaker count too: what is scored so is transductive.

        Args:
            speakers: Who speaks, by row; other rows stay as they are.
            over_time: Whether the last axis of the features is time, to be taken together.
        """
        for rows in speakers.groupby(speakers).groups.values():
            values = self.cached.take(rows)  # (clips, ..., features) or (..., bins, frames)
            axes = (0, values.ndim - 1) if over_time else (0,)
            scale = values.std(axis=axes, keepdims=True)[0]
            centre = values.mean(axis=axes, keepdims=True)[0]
            scale = np.where(scale > 0, scale, 1).astype(np.float32)
            self.standards |= dict.fromkeys(rows, (centre, scale))

    def hold(self, rows: np.ndarray, device: torch.device) -> None:
        """Keep the windows of these rows on the device, where the front end then runs."""
        # 16 bit: 1.2 GB for 4000 clips of 3 s.
        self.held = torch.empty(len(rows), self.window.samples, dtype=torch.int16, device=device)
        self.held_at[rows] = np.arange(len(rows))
        for part in np.array_split(rows, -(-len(rows) // PART)):
            windows = torch.from_numpy(self._windows(part))
            self.held[torch.tensor(self.held_at[part], device=device)] = windows.to(device)

    def _refuse_withheld(self, rows: np.ndarray) -> None:
        if count := int(self.withheld[rows].sum()):
            raise ValueError(
                f"{count} test clips were asked for before the model was final: expected that"
                " nothing is fitted, chosen or stopped on them"
            )

    def _standardised(self, rows: np.ndarray) -> np.ndarray:
        values = self.cached.take(rows)
        if self.standards:
            centre, scale = zip(*(self.standards[row] for row in rows), strict=True)
            return (values - np.stack(centre)) / np.stack(scale)
        return values

    def _waveforms(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self._windows(rows)).float() / 32768

    def _windows(self, rows: np.ndarray) -> np.ndarray:
        """Cut the rows' windows: (rows, samples) int16."""
        windows = np.empty((len(rows), self.window.samples), np.int16)
        for window, row in zip(windows, rows, strict=True):
            window[:] = self.window.cut(self.waveforms[row], self.span(row))
        return windows

    def span(self, row: int) -> tuple[int, int]:
        """Return where a clip's window begins and ends in its samples, without the padding."""
        return self.window.spans(self.waveforms[row], *lead(self.clips[row]))[0]

    def hear(self, row: int) -> np.ndarray:
        """Return what a model hears of a clip, (samples,) int16 without the padding."""
        self._refuse_withheld(np.array([row]))
        begin, end = self.span(row)
        return self.waveforms[row][begin:end]

    @torch.no_grad()
    def _computed_rows(
        self, compute: Callable[[Tensor], Tensor], device: torch.device | str, block: range
    ) -> Iterator[tuple[np.ndarray, str]]:
        # Every clip of the scan, not the selection: a sweep over drops computes nothing again.
        def computed() -> Iterator[np.ndarray]:
            for rows in np.array_split(block, -(-len(block) // PART)):
                yield from compute(self._waveforms(rows).to(device)).numpy(force=True)

        for row in counted(computed(), "features", len(self.waveforms), block.start):
            yield row[None], ""


class BlockShuffle(Sampler):
    """Shuffles positions by (seed, epoch), all of them or those of some blocks at a time.

    Blocks of positions that follow each other are shuffled, and then the positions of `MIXED`
    blocks among each other: a memory map is read in a few places at a time. Of several processes
    each gets its share, as of `torch.utils.data.DistributedSampler`.

    Args:
        count: Of positions.
        block: Positions of a block.
        replicas: Processes.
        rank: Of this one.
        seed: Of the order, together with the epoch.
    """

    def __init__(self, count: int, block: int, replicas: int, rank: int, seed: int) -> None:
        self.count, self.block, self.seed = count, block, seed
        self.replicas, self.rank = replicas, rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of another epoch next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.replicas)

    def __iter__(self) -> Iterator[int]:
        """Yield this process's positions; the first are repeated where they do not part evenly."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        blocks = torch.arange(self.count).split(self.block)
        order = torch.randperm(len(blocks), generator=generator)
        mixed = [torch.cat([blocks[place] for place in some]) for some in order.split(MIXED)]
        whole = torch.cat([some[torch.randperm(len(some), generator=generator)] for some in mixed])
        total = len(self) * self.replicas
        whole = whole.repeat(-(-total // self.count))[:total]
        return iter(whole[self.rank :: self.replicas].tolist())


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
