"""Pictures of runs and of what is found over several of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten

import matplotlib

matplotlib.use("Agg")  # no window system is needed, nor asked for

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from ser.evaluation.calibration import answers, reliability, risk_coverage
from ser.evaluation.metrics import probabilities_of, untempered

DPI = 110

_PREFIX = re.compile("((leaky|exposed)-)+")


def confusion_matrix(
    predictions: pd.DataFrame, classes: Sequence[str], path: Path, stamp: str = ""
) -> None:
    """Draw the confusion matrix: shares of the true class, with counts of clips."""
    from sklearn.metrics import ConfusionMatrixDisplay

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
    shares = display.confusion_matrix
    _write_cells(axes, shares, lambda *at: f"{shares[at]:.2f}\n{counts.iat[at]}", fontsize=8)
    axes.set(xlabel="predicted", ylabel="true", title="share of the true class, clips below")
    save(figure, path, stamp)


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
    save(figure, path, stamp)


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
                # The keys of a leaky or an exposed run carry a prefix.
                named = {name: _PREFIX.sub("", name) for name in history}
                curve = history.rename(columns=named).reindex(columns=["epoch", column]).dropna()
                axes.plot(curve["epoch"], curve[column], color=color, marker=".")
            axes.lines[-1].set_label(column)
        axes.legend()
        axes.set(xlabel="epoch", ylabel=label)
    save(figure, path, stamp)


def calibration(predictions: pd.DataFrame, metrics: Mapping, path: Path, stamp: str = "") -> None:
    """Draw accuracy over confidence, before and after calibration, and risk over coverage."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    classes = metrics["classes"]
    after, truth = probabilities_of(predictions, classes)
    named = {"before": untempered(predictions, classes), "after": after}
    for (name, probabilities), color in zip(named.items(), ("tab:gray", "tab:blue"), strict=True):
        if probabilities is None:
            continue
        confidences, correct = answers(probabilities, truth)
        places, shares, clips = reliability(confidences, correct)
        error = metrics["calibration"][name]["ece"]
        left.plot(places, shares, color=color, label=f"{name} calibration, ECE {error:.3f}")
        left.scatter(places, shares, 200 * clips / clips.sum(), color=color)
        coverages, risks = risk_coverage(confidences, correct)
        right.plot(coverages, risks, color=color, label=f"{name} calibration")
    left.axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.02))
    if selective := metrics["selective"]:
        if selective["error"] is not None:
            place = selective["coverage"], selective["error"]
            right.plot(*place, "o", color="tab:orange", label="at the chosen threshold")
        right.axhline(selective["accepted"], color="tab:orange", linestyle="--", linewidth=0.8)
    right.set(xlabel="coverage, the most confident first", ylabel="share of wrong answers")
    right.set(xlim=(0, 1.02), ylim=(0, None))
    for axes in (left, right):
        axes.legend(loc="upper left")
    save(figure, path, stamp)


def jobs(rows: Sequence[Mapping], varied: Sequence[str], path: Path) -> None:
    """Draw the UAR of each finished job of a multirun with its 95 % interval by speaker."""
    scored = [row for row in rows if row["uar"] is not None]
    figure, axes = plt.subplots(figsize=(9, 2 + 0.35 * len(scored)), layout="constrained")
    for place, row in enumerate(scored):
        heard = row["leaky"] or row["exposed"]
        _draw_score(axes, row, "uar", place, "tab:red" if heard else "tab:blue")
    names = [" ".join(f"{key}={row[key]}" for key in varied) or str(row["job"]) for row in scored]
    names = [shorten(name, 60) for name in names]  # or there is no room for the axes
    axes.set(yticks=range(len(scored)), yticklabels=names, ylim=(len(scored) - 0.5, -0.5))
    axes.set(xlabel="UAR, 95 % by speaker; red is leaky or exposed")
    save(figure, path)


def leakage_gap(rows: Sequence[Mapping], varied: Sequence[str], path: Path) -> None:
    """Draw UAR under each protocol beside its leakage gap, with 95 % intervals."""
    names = [" ".join(str(row[key]) for key in (*varied, "protocol")) for row in rows]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 1.8 + 0.5 * len(rows)), layout="constrained", sharey=True
    )
    for place, row in enumerate(rows):
        left.plot(row["leaky_uar"], place, "x", color="tab:red")
        for axes, key, color in ((left, "uar", "tab:blue"), (right, "gap", "tab:red")):
            _draw_score(axes, row, key, place, color)
    left.lines[0].set_label("leaky: protocol=random, same clips")
    left.lines[1].set_label("speakers never heard in training")
    figure.legend(loc="outside upper center", ncols=2)
    left.set(yticks=range(len(rows)), yticklabels=names, ylim=(len(rows) - 0.5, -0.5), xlabel="UAR")
    right.axvline(0, color="gray", linewidth=0.8)
    right.set(xlabel=f"what the leak adds to UAR, {rows[0]['speakers']} speakers")
    save(figure, path)


def stress(rows: Sequence[Mapping], path: Path, stamp: str = "") -> None:
    """Draw the UAR under each condition beside its difference to the first, clean clips."""
    names = [f"{row['condition']}  {row['level']}".strip() for row in rows]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 1.8 + 0.28 * len(rows)), layout="constrained", sharey=True
    )
    for place, row in enumerate(rows):
        _draw_score(left, row, "uar", place, "tab:blue")
        if row["difference"] is not None:
            bounds = {"difference_low": row["low"], "difference_high": row["high"]}
            _draw_score(right, {**row, **bounds}, "difference", place, "tab:red")
    left.axvline(rows[0]["uar"], color="gray", linewidth=0.8)
    right.axvline(0, color="gray", linewidth=0.8)
    left.set(yticks=range(len(rows)), yticklabels=names, ylim=(len(rows) - 0.5, -0.5))
    left.set(xlabel=f"UAR of {rows[0]['n']} clips, 95 % by speaker")
    right.set(xlabel="difference to clean, 95 % paired by speaker")
    save(figure, path, stamp)


def corpus_matrix(settings: Mapping[str, Sequence[Mapping]], path: Path) -> None:
    """Draw the UAR of models trained on one corpus and tested on another, a matrix a setting."""
    size = max(len({cell["test"] for cell in cells}) for cells in settings.values())
    figure, panels = plt.subplots(
        len(settings),
        1,
        figsize=(2.5 + 1.7 * size, (2 + 0.8 * size) * len(settings)),
        layout="constrained",
        squeeze=False,
    )
    for axes, (setting, cells) in zip(panels[:, 0], settings.items(), strict=True):
        rows = list(dict.fromkeys(cell["train"] for cell in cells))
        columns = list(dict.fromkeys(cell["test"] for cell in cells))
        scores = np.full((len(rows), len(columns)), np.nan)
        for cell in cells:
            place = rows.index(cell["train"]), columns.index(cell["test"])
            scores[place] = cell["uar"]
            text = f"{cell['uar']:.3f}"
            if cell["uar_low"] is not None:
                text += f"\n{cell['uar_low']:.3f} to {cell['uar_high']:.3f}"
            color = "black" if cell["uar"] > 0.6 else "white"
            axes.text(*place[::-1], text, ha="center", va="center", color=color)
        axes.imshow(scores, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axes.set(xticks=range(len(columns)), xticklabels=columns, xlabel="tested on")
        axes.set(yticks=range(len(rows)), yticklabels=rows, ylabel="trained on")
        axes.set(title=setting or "UAR, 95 % by speaker")
    save(figure, path)


def class_drop(findings: Sequence[Mapping], path: Path, stamp: str = "") -> None:
    """Draw the UAR of the other classes, what each step adds to it, and where the dropped go."""
    names = [" ".join(map(str, (*row["setting"].values(), row["dropped"]))) for row in findings]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(14, 2.4 + 0.5 * len(findings)), layout="constrained", sharey=True
    )
    colors = {"full": "tab:blue", "masked": "tab:orange", "retrained": "tab:green"}
    for place, finding in enumerate(findings):
        for (variant, color), mark in zip(colors.items(), "osx", strict=True):
            found = finding["variants"][variant]
            left.plot(found["uar"], place, mark, color=color, label=variant)
            left.plot(found["chance"], place, "|", color=color)
        for pair, shift in (("masked - full", -0.1), ("retrained - masked", 0.1)):
            found, color = finding["differences"][pair]["uar"], colors[pair.split()[0]]
            middle.plot(found["difference"], place + shift, "o", color=color, label=pair)
            if found["interval"]:
                middle.hlines(place + shift, *found["interval"], color=color)
    for axes in (left, middle):
        labelled = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(labelled.values(), labelled, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    left.set(yticks=range(len(names)), yticklabels=names, ylabel="dropped")
    left.set(xlabel="UAR of the other classes; strokes: chance")
    middle.axvline(0, color="gray", linewidth=0.8)
    middle.set(xlabel="added to UAR, 95 % by speaker")
    flow = pd.DataFrame([finding["flow"] for finding in findings])
    flow = flow[[name for name in findings[0]["classes"] if name in flow]]
    share = flow.div(flow.sum(axis=1), axis=0)
    right.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _write_cells(right, share.fillna(0).to_numpy(), lambda *at: f"{flow.iat[at]:.0f}")
    right.set_xticks(range(flow.shape[1]), flow.columns, rotation=45)
    right.set(xlabel="where its own clips go, masked", ylim=(len(names) - 0.5, -0.5))
    save(figure, path, stamp)


def save(figure: plt.Figure, path: Path, stamp: str = "") -> None:
    """Write a figure, with a line in red above it where there is a stamp, and close it."""
    if stamp:
        figure.suptitle(stamp, color="tab:red", fontsize=9)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _draw_score(axes: plt.Axes, row: Mapping, key: str, place: int, color: str) -> None:
    """Draw a score of a row, and its interval where that is known."""
    axes.plot(row[key], place, "o", color=color)
    if row[f"{key}_low"] is not None:
        axes.hlines(place, row[f"{key}_low"], row[f"{key}_high"], color=color)


def _write_cells(
    axes: plt.Axes, shares: np.ndarray, text: Callable[[int, int], str], **options: object
) -> None:
    """Write into the cells of a drawn matrix (rows, columns) whose share is not zero."""
    for row, column in zip(*shares.nonzero(), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text(row, column), ha="center", va="center", color=color, **options)
