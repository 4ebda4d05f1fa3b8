"""Statistics of corpora: clips by class, durations and levels."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ser.analysis.spectra import levels
from ser.data.datamodule import EmotionDataModule
from ser.evaluation.statistics import speakers_of
from ser.reporting.html import embed_picture, render_page
from ser.reporting.plots import save

GROUP = ["corpus", "channel", "gender", "modality"]
MEASURES = {
    "duration_s": "duration (s)",
    "rms_dbfs": "level, RMS (dBFS)",
    "peak_dbfs": "peak (dBFS)",
}


def measure(data: EmotionDataModule) -> pd.DataFrame:
    """Measure every selected clip from the cache of decoded audio.

    Returns:
        A row a clip: the columns of split.csv but the split, `duration_s`, `rms_dbfs` and
        `peak_dbfs` of the whole clip, `window_start_s` and `window_end_s` of what the model hears.

    Raises:
        ValueError: No clip is selected.
    """
    data.recorded = dict.fromkeys((clip.clip for clip in data.found.clips), "test")  # no protocol
    data.setup("test")
    data.trim()
    clips = data.table.drop(columns="split")
    if clips.empty:
        raise ValueError(
            f"none of the {len(data.found.clips)} clips of {data.place} is selected:"
            " expected data.corpora, data.channels and data.drop that leave some"
        )
    rate, waveforms = data.sample_rate, data.reader.waveforms
    measured = {}
    for row in track(clips.index, "measuring"):
        samples = waveforms[row]
        begin, end = data.reader.span(row)
        measured[row] = (len(samples) / rate, *levels(samples), begin / rate, end / rate)
    columns = [*MEASURES, "window_start_s", "window_end_s"]
    return clips.join(pd.DataFrame.from_dict(measured, orient="index", columns=columns))


def summarise(clips: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Count and describe the clips of each group: durations in s, levels in dBFS."""
    voices = clips.assign(voice=speakers_of(clips))
    return voices.groupby(by, observed=True, as_index=False).agg(
        clips=("path", "size"),
        speakers=("voice", "nunique"),
        duration_s=("duration_s", "sum"),
        shortest_s=("duration_s", "min"),
        median_s=("duration_s", "median"),
        longest_s=("duration_s", "max"),
        median_rms_dbfs=("rms_dbfs", "median"),
        highest_peak_dbfs=("peak_dbfs", "max"),
    )


def write_statistics(data: EmotionDataModule, folder: Path) -> None:
    """Write clips.csv, corpus.csv, corpus.png and corpus.html, and print a row a class."""
    clips = measure(data)
    clips["label"] = pd.Categorical(clips.label, data.labels.classes)
    groups = summarise(clips, ["label", *GROUP])
    clips.round(4).to_csv(folder / "clips.csv", index=False)
    groups.round(4).to_csv(folder / "corpus.csv", index=False)
    draw(clips, folder / "corpus.png")
    short = int((clips.window_end_s - clips.window_start_s < data.window.seconds).sum())
    lines = [
        data.found.describe(),
        f"{len(clips)} clips of {len(np.unique(speakers_of(clips)))} speakers,"
        f" {clips.duration_s.sum() / 3600:.2f} h; in {short} of them less than"
        f" {data.window.seconds:g} s is left for the window, and zeros follow",
    ]
    html = render_page(
        "explore.html.j2",
        title=str(data.found.root),
        lines=lines,
        picture=embed_picture(folder / "corpus.png"),
        columns=groups.columns,
        rows=_texts(groups),
    )
    (folder / "corpus.html").write_text(html)
    console = Console(markup=False, highlight=False)  # a path may hold brackets
    classes = summarise(clips, ["label"])
    classes = classes[["label", "clips", "speakers", "median_s", "median_rms_dbfs"]]
    table = Table("class", "clips", "speakers", "median s", "median dBFS RMS", box=box.SIMPLE_HEAD)
    for row in _texts(classes):
        table.add_row(*row)
    console.print(table)
    console.print(lines[1], soft_wrap=True)
    console.print(f"clips.csv and corpus.csv, .png and .html are in {folder}", soft_wrap=True)


def _texts(table: pd.DataFrame) -> list[list[str]]:
    return [
        [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]


def draw(clips: pd.DataFrame, path: Path) -> None:
    """Draw how many clips each class has, of whom, and how long and loud they are."""
    figure, panels = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    first, *others = panels.flat
    _draw_counts(clips, first)
    for axes, (column, label) in zip(others, MEASURES.items(), strict=True):
        _draw_boxes(clips, column, axes)
        axes.set(ylabel=label)
    for axes in panels.flat:
        names = clips.label.cat.categories
        axes.set_xticks(range(len(names)), names, rotation=45)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
    save(figure, path)


def _draw_counts(clips: pd.DataFrame, axes: plt.Axes) -> None:
    counts = clips.groupby([*GROUP, "label"], observed=False).size().unstack("label")
    bottom = np.zeros(counts.shape[1], int)
    for group, row in counts.iterrows():
        axes.bar(range(len(row)), row, bottom=bottom, label=" ".join(group))
        bottom += row.to_numpy()
    axes.bar_label(axes.containers[-1], bottom.astype(str))
    axes.set(ylabel="clips")


def _draw_boxes(clips: pd.DataFrame, column: str, axes: plt.Axes) -> None:
    """Draw quartiles and whiskers of a column by class, a box a corpus."""
    corpora = sorted(clips.corpus.unique())
    width = 0.8 / len(corpora)
    for place, corpus in enumerate(corpora):
        by_class = clips[clips.corpus == corpus].groupby("label", observed=False)[column]
        axes.boxplot(
            [values for _, values in by_class],
            positions=np.arange(len(by_class)) + (place - (len(corpora) - 1) / 2) * width,
            widths=0.8 * width,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": f"C{place}", "alpha": 0.5},
            medianprops={"color": "black"},
            flierprops={"markersize": 3},
            label=corpus,
        )
