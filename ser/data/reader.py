"""What the model is given of a clip: its window as a waveform, or features computed from it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from ser.data.cache import Store, digest, load_or_build
from ser.data.window import VERSION, Window

PART = 64
"""Clips that are turned into features at once."""


class ClipReader:
    """Reads batches of clips by their rows in the store of waveforms.

    Args:
        waveforms: All decoded clips.
        corpora: The corpus of each, which says where its window begins.
        window: What is cut out of a clip.
    """

    def __init__(self, waveforms: Store, corpora: Sequence[str], window: Window) -> None:
        self.waveforms = waveforms
        self.corpora = corpora
        self.window = window
        self.features: Store | None = None
        self.held: Tensor | None = None

    def read_waveforms(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Read `waveform` (batch, samples) in -1..1."""
        return {"waveform": torch.from_numpy(self._windows(rows)).float() / 32768}

    def read_fastest(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Read `features` (batch, ...) where they are cached, else `waveform`."""
        if self.features is not None:
            return {"features": torch.from_numpy(self.features.values[rows])}
        if self.held is not None:
            return {"waveform": self.held[torch.tensor(rows)].float() / 32768}
        return self.read_waveforms(rows)

    def cache_features(
        self, frontend: Callable[[Tensor], Tensor], key: object, directory: Path
    ) -> None:
        """Compute the features of every clip once for all runs.

        Args:
            frontend: Turns (batch, samples) into features of one shape a clip.
            key: What `frontend` was built from: plain containers.
            directory: The cache folder.
        """
        key = digest(self.waveforms.key, VERSION, repr(self.window), key)
        rows = partial(self._feature_rows, frontend)
        self.features = load_or_build(directory, "features", key, rows)

    def hold(self, rows: np.ndarray, device: torch.device) -> None:
        """Keep the windows of these rows on the device, where the front end then runs."""
        # 16 bit: 1.5 GB for everything. Other rows stay empty.
        self.held = torch.zeros(
            len(self.waveforms), self.window.samples, dtype=torch.int16, device=device
        )
        for part in np.array_split(rows, -(-len(rows) // PART)):
            windows = torch.from_numpy(self._windows(part))
            self.held[torch.tensor(part, device=device)] = windows.to(device)

    def _windows(self, rows: np.ndarray) -> np.ndarray:
        """Cut the rows' windows: (rows, samples) int16."""
        windows = np.empty((len(rows), self.window.samples), np.int16)
        for window, row in zip(windows, rows, strict=True):
            recording = self.waveforms[row]
            spans = self.window.spans(recording, self.corpora[row])
            window[:] = self.window.cut(recording, spans[0])
        return windows

    @torch.no_grad()
    def _feature_rows(
        self, frontend: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[np.ndarray, str]]:
        # Every clip of the scan, not the selection: a sweep over drops computes nothing again.
        parts = np.array_split(np.arange(len(self.waveforms)), -(-len(self.waveforms) // PART))
        for rows in track(parts, "features"):
            for features in frontend(self.read_waveforms(rows)["waveform"]).numpy():
                yield features[None], ""
