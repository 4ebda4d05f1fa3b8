"""Timeline: the outline of a recording of any length, and what a model says along it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ser.audio.containers import blocks
from ser.corpora.labels import UNSURE
from ser.inference.model import Prediction, WindowPrediction

INK = "#44546a"

STEPS = 100
"""Stretches of a second that are told apart while a recording is read."""

COLUMNS = 1500
"""Stretches that are drawn, however long it is."""

DOTS = 300
"""Windows whose labels are marked: of more the marks would hide the picture."""


@dataclass(frozen=True)
class Outline:
    """The envelope of a recording.

    Attributes:
        seconds: Its length.
        starts: Of the stretches, in s.
        low: The lowest sample of each, over all channels; full scale is -1.
        high: The highest.
    """

    seconds: float
    starts: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def read(cls, path: Path, most_seconds: float) -> "Outline":
        """Read a recording block by block; no more than one block is held.

        Raises:
            ValueError: It cannot be read, or is longer; what lies beyond is not decoded.
        """
        starts, low, high, frames, first_rate = [], [], [], 0, None
        for rate, block in blocks(path):
            first_rate = first_rate or rate
            step = max(1, first_rate // STEPS)
            begins = np.arange(0, len(block), step)
            starts.append((frames + begins) / first_rate)
            low.append(np.minimum.reduceat(block.min(axis=1), begins))
            high.append(np.maximum.reduceat(block.max(axis=1), begins))
            frames += len(block)
            if frames > most_seconds * first_rate:
                raise ValueError(
                    f"is longer than {most_seconds / 60:g} minutes: expected a shorter part of it"
                )
        if not frames:
            raise ValueError("holds no samples")
        every = np.arange(0, sum(map(len, starts)), -(-sum(map(len, starts)) // COLUMNS))
        return cls(
            frames / first_rate,
            np.concatenate(starts)[every],
            np.minimum.reduceat(np.concatenate(low), every),
            np.maximum.reduceat(np.concatenate(high), every),
        )


def draw_timeline(outline: Outline, prediction: Prediction) -> Figure:
    """Draw the waveform, what was heard of it, and under it the probabilities of the windows.

    A window is drawn until the next begins; one alone is said by the answer itself. A dot is its
    label; a window without is unsure.

    Args:
        outline: Of the recording.
        prediction: Of it.
    """
    classes, windows = list(prediction.probabilities), prediction.windows
    rows = len(classes) if len(windows) > 1 else 0
    figure = Figure(figsize=(8, 1.3 + 0.28 * rows), dpi=110, layout="constrained")
    if not rows:
        axes = [figure.subplots()]
    else:
        axes = list(figure.subplots(2, 1, sharex=True, height_ratios=(1, 0.3 * rows)))
        _draw_windows(axes[1], windows, classes)
    wave, lowest = axes[0], axes[-1]
    peak = max(float(np.abs([outline.low, outline.high]).max()), 1e-4)
    wave.axvspan(windows[0].start, windows[-1].end, color="#e8eef7", linewidth=0)
    wave.fill_between(outline.starts, outline.low, outline.high, color=INK, linewidth=0.4)
    wave.set(ylim=(-1.05 * peak, 1.05 * peak), yticks=[], xlim=(0, outline.seconds))
    lowest.set_xlabel("seconds", fontsize=9, color=INK)
    for each in axes:
        each.spines[:].set_visible(False)
        each.tick_params(length=0, labelsize=9, colors=INK)
    return figure


def _draw_windows(axes: Axes, windows: Sequence[WindowPrediction], classes: Sequence[str]) -> None:
    edges = [window.start for window in windows] + [windows[-1].end]
    values = [[window.probabilities[name] for window in windows] for name in classes]
    rows = np.arange(len(classes) + 1) - 0.5
    drawn = axes.pcolormesh(edges, rows, values, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    if len(windows) <= DOTS:
        sure = [place for place, window in enumerate(windows) if window.label != UNSURE]
        middles = [(edges[place] + edges[place + 1]) / 2 for place in sure]
        named = [classes.index(windows[place].label) for place in sure]
        axes.plot(middles, named, "o", color="#d1495b", markersize=4, clip_on=False)
    axes.set(yticks=range(len(classes)), yticklabels=classes)
    axes.invert_yaxis()
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.01, aspect=14, ticks=(0, 0.5, 1))
    bar.set_label("probability", fontsize=9, color=INK)
    bar.ax.tick_params(length=0, labelsize=8, colors=INK)
    bar.outline.set_visible(False)
