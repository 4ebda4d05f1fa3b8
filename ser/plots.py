"""The pictures of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window system is needed, nor asked for

import pandas as pd
from matplotlib import pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

DPI = 110


def confusion_matrix(
    predictions: pd.DataFrame, classes: Sequence[str], path: Path, stamp: str = ""
) -> None:
    """Draw where each class's clips went, as shares of the class with counts of clips."""
    figure, axes = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
    display = ConfusionMatrixDisplay.from_predictions(
        predictions.label,
        predictions.prediction,
        labels=classes,
        normalize="true",
        include_values=False,
        cmap="Blues",
        ax=axes,
        xticks_rotation=45,
        im_kw={"vmin": 0, "vmax": 1},
    )
    counts = pd.crosstab(predictions.label, predictions.prediction).reindex(
        index=classes, columns=classes, fill_value=0
    )
    for row, column in ((i, j) for i in range(len(classes)) for j in range(len(classes))):
        share = display.confusion_matrix[row, column]
        if share == 0:
            continue
        axes.text(
            column,
            row,
            f"{share:.2f}\n{counts.iat[row, column]}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share > 0.5 else "black",
        )
    axes.set(xlabel="predicted", ylabel="true", title="share of the true class, clips below")
    _save(figure, path, stamp)


def per_class_f1(metrics: Mapping, path: Path, stamp: str = "") -> None:
    """Draw the F1 of each class beside their mean."""
    figure, axes = plt.subplots(figsize=(7.5, 3.5), layout="constrained")
    values = {name: row["f1"] for name, row in metrics["per_class"].items()}
    bars = axes.bar(list(values), list(values.values()), color="tab:blue")
    axes.bar_label(bars, fmt="%.2f", padding=2)
    mean = metrics["macro_f1"]
    axes.axhline(mean, color="tab:orange", linestyle="--", label=f"macro F1 {mean:.2f}")
    axes.set(ylim=(0, 1.05), ylabel="F1")
    axes.legend(loc="lower right")
    _save(figure, path, stamp)


def learning_curves(histories: Sequence[pd.DataFrame], path: Path, stamp: str = "") -> None:
    """Draw losses, validation scores and the learning rate over epochs, a line a metrics.csv."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    groups = {
        "loss": ("train/loss", "val/loss"),
        "score": ("val/uar", "val/macro_f1"),
        "learning rate": ("train/lr",),
    }
    for axes, (label, columns) in zip(panels, groups.items(), strict=True):
        for color, column in zip(("tab:blue", "tab:orange"), columns, strict=False):
            for history in histories:
                # The keys of a leaky run carry a prefix.
                named = {name: name.removeprefix("leaky-") for name in history}
                curve = history.rename(columns=named).reindex(columns=["epoch", column]).dropna()
                axes.plot(curve["epoch"], curve[column], color=color, marker=".")
            axes.lines[-1].set_label(column)
        axes.legend()
        axes.set(xlabel="epoch", ylabel=label)
    _save(figure, path, stamp)


def leak_premium(rows: Sequence[Mapping], varied: Sequence[str], path: Path) -> None:
    """Draw UAR under each protocol beside what the leaky one adds, with 95 % intervals by actor."""
    names = [" ".join(str(row[key]) for key in (*varied, "protocol")) for row in rows]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 1.8 + 0.5 * len(rows)), layout="constrained", sharey=True
    )
    for place, row in enumerate(rows):
        left.plot(row["leaky_uar"], place, "x", color="tab:red")
        for axes, key, color in ((left, "uar", "tab:blue"), (right, "premium", "tab:red")):
            axes.plot(row[key], place, "o", color=color)
            if row[f"{key}_low"] is not None:
                axes.hlines(place, row[f"{key}_low"], row[f"{key}_high"], color=color)
    left.lines[0].set_label("leaky: protocol=random, same clips")
    left.lines[1].set_label("actors never heard in training")
    figure.legend(loc="outside upper center", ncols=2)
    left.set(yticks=range(len(rows)), yticklabels=names, ylim=(len(rows) - 0.5, -0.5), xlabel="UAR")
    right.axvline(0, color="gray", linewidth=0.8)
    right.set(xlabel=f"what the leak adds to UAR, {rows[0]['actors']} actors")
    _save(figure, path)


def _save(figure: plt.Figure, path: Path, stamp: str = "") -> None:
    if stamp:
        figure.suptitle(stamp, color="tab:red", fontsize=9)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
