"""Recordings of any name, length and rate, as windows to score."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import IterableDataset

from ser.audio.containers import holds_audio
from ser.audio.decode import decode_and_peak, warn_clipped
from ser.audio.window import Window
from ser.corpora.clip import AUDIO_SUFFIXES
from ser.corpora.names import cell, shown
from ser.corpora.scan import files, parse
from ser.data.loading import window_spans

BATCH = 64
"""Windows that are scored at once, where they fit."""

log = logging.getLogger(__name__)


@dataclass
class Recordings(IterableDataset):
    """Batches of windows: `waveform` (batch, samples) in -1..1 and `row` (batch,), the file's.

    A file that cannot be read yields no window and leaves its reason in `errors`.

    Attributes:
        paths: Files, one row each.
        window: Cut as for the corpora where the name is one of theirs, else from the onset on.
        batch_size: Windows.
        spans: By row, the first and last second that windows cover.
        errors: By row, why the file could not be read.
        loud: Files with peaks above full scale.
        digests: By row, sha256 of the decoded samples.
    """

    paths: list[Path]
    window: Window
    batch_size: int
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    loud: list[Path] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        batch, self.loud = [], []
        for row, path in enumerate(track(self.paths, "scoring")):
            for window in self._windows(row, path):
                batch.append((window, row))
                if len(batch) == self.batch_size:
                    yield _join(batch)
                    batch = []
        if batch:
            yield _join(batch)
        warn_clipped(self.loud)

    def _windows(self, row: int, path: Path) -> Iterator[np.ndarray]:
        try:
            recording, peak = decode_and_peak(path, self.window.sample_rate)
        except ValueError as error:
            self.errors[row] = shown(error).replace(shown(path), cell(path), 1)
            return
        if peak > 1:
            self.loud.append(path)
        self.digests[row] = sha256(recording.tobytes()).hexdigest()
        spans = window_spans(self.window, recording, parse(path))
        self.spans[row] = tuple(
            edge / self.window.sample_rate for edge in (spans[0][0], spans[-1][1])
        )
        for span in spans:
            yield self.window.cut(recording, span)

    def average(self, outputs: Sequence[dict[str, Tensor]], classes: Sequence[str]) -> pd.DataFrame:
        """Average the windows' probabilities by file, unread files included.

        Args:
            outputs: `row` (batch,) and `probabilities` (batch, classes) of each batch.
            classes: Their names.
        """
        columns = [f"p_{name}" for name in classes]
        rows = [row for output in outputs for row in output["row"].tolist()]
        windows = [output["probabilities"].numpy(force=True) for output in outputs]
        # Of no row where no file could be read.
        windows = np.concatenate([np.empty((0, len(classes)), np.float32), *windows])
        table = pd.DataFrame(windows, rows, columns).groupby(level=0).mean().astype(float)
        table = table.reindex(range(len(self.paths)))
        winners = table[columns].dropna().idxmax(axis=1).str.removeprefix("p_")
        table.insert(0, "path", [cell(path) for path in self.paths])
        table.insert(1, "start", pd.Series({row: span[0] for row, span in self.spans.items()}))
        table.insert(2, "end", pd.Series({row: span[1] for row, span in self.spans.items()}))
        table.insert(3, "prediction", winners)
        return table.assign(error=pd.Series(self.errors, dtype=str))


def _join(batch: list[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
    windows, rows = zip(*batch, strict=True)
    waveform = np.stack(windows).astype(np.float32) / 32768
    return {"waveform": torch.from_numpy(waveform), "row": torch.tensor(rows)}


def find(path: str | Path) -> list[Path]:
    """List what to score: the file itself, or every audio file below a folder, links followed once.

    A file with a suffix of audio is listed even if it turns out unreadable; one without is listed
    when it can be read, else named in the log.

    Raises:
        ValueError: There is no such path, or nothing to score below it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        listed, others = [], []
        for file in sorted(files(path)):
            (listed if _is_audio(file) else others).append(file)
        if others:
            log.info(
                "%d files that are no audio are not scored: %s",
                len(others),
                [file.name for file in others[:5]],
            )
        if listed:
            return listed
    elif path.exists():
        return [path]
    raise ValueError(
        f"input={str(path)!r}: expected an audio file, or a folder with audio files below it"
        " (a path with commas, brackets, = or letters outside ASCII needs quotes inside quotes:"
        " 'input=\"/données\"')"
    )


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES or holds_audio(path)
