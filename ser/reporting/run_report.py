"""The files of one run, all computed from its predictions."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.metrics import classification_report

from ser.evaluation.metrics import calibration_error, per_class, scores
from ser.evaluation.statistics import METHOD, speaker_interval, why_unknown
from ser.reporting import html as page
from ser.reporting import plots

SLICES = ("gender", "channel", "intensity", "statement", "corpus", "speaker")
STAMPS = (
    "protocol", "protocol_version", "protocol_hash", "fold", "folds", "split", "leaky",
    "transductive",
)  # fmt: skip
HEADLINE = {"accuracy": "accuracy (WA)", "uar": "UAR", "macro_f1": "macro F1"}


def tabulate(
    clips: pd.DataFrame, classes: Sequence[str], probabilities: np.ndarray
) -> pd.DataFrame:
    """Join clips with their probabilities (clips, classes): the content of predictions.csv."""
    predictions = clips.reset_index(drop=True)
    predictions["prediction"] = np.array(classes)[probabilities.argmax(axis=1)]
    columns = [f"p_{name}" for name in classes]
    return predictions.join(pd.DataFrame(probabilities, columns=columns))


def measure(predictions: pd.DataFrame, classes: Sequence[str], facts: Mapping) -> dict:
    """Compute the content of metrics.json.

    Args:
        predictions: Rows of predictions.csv.
        classes: Class names in their order.
        facts: What the predictions cannot say: `STAMPS`, audit, seconds.
    """
    slices = {column: _slice(predictions, column) for column in SLICES}
    metrics = {key: facts[key] for key in STAMPS} | _scores(predictions, classes)
    if (folded := fold_genders(predictions, classes)) is not None:
        metrics["emotion"] = _scores(*folded)
    return metrics | {
        "ci_method": METHOD,
        "speakers": sorted(set(predictions.speaker.to_numpy(str))),
        "worst_speaker": min(
            slices["speaker"], key=lambda speaker: slices["speaker"][speaker]["uar"]
        ),
        "slices": slices,
        "audit": facts["audit"],
        "seconds": facts["seconds"],
    }


def fold_genders(
    predictions: pd.DataFrame, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[str]] | None:
    """Give predictions and classes by emotion alone, where classes are emotion_gender.

    The probability of an emotion is the sum over genders.
    """
    emotions = {name: name.rpartition("_")[0] for name in classes}
    if not all(emotions.values()):
        return None
    names = list(dict.fromkeys(emotions.values()))
    by_emotion = {
        f"p_{name}": predictions[[f"p_{one}" for one in classes if emotions[one] == name]].sum(
            axis=1
        )
        for name in names
    }
    folded = predictions.drop(columns=[f"p_{name}" for name in classes]).assign(**by_emotion)
    folded["label"] = predictions.label.map(emotions)
    folded["prediction"] = np.array(names)[folded[list(by_emotion)].to_numpy().argmax(axis=1)]
    return folded, names


def _scores(predictions: pd.DataFrame, classes: Sequence[str]) -> dict:
    truth = predictions.label.to_numpy(str)
    predicted = predictions.prediction.to_numpy(str)
    confidence = predictions[[f"p_{name}" for name in classes]].to_numpy().max(axis=1)

    def of(metric: str) -> Callable[[np.ndarray], float]:
        return lambda chosen: scores(truth[chosen], predicted[chosen])[metric]

    whole = scores(truth, predicted)
    speakers = predictions.speaker.to_numpy(str)
    intervals = {metric: speaker_interval(of(metric), speakers) for metric in whole}
    return {
        "classes": list(classes),
        "n": len(predictions),
        **whole,
        "ece": calibration_error(confidence, truth == predicted),
        "per_class": per_class(truth, predicted, classes),
        "ci": intervals,
        "ci_unknown": None if all(intervals.values()) else why_unknown(speakers),
    }


def _slice(predictions: pd.DataFrame, column: str) -> dict[str, dict[str, float]]:
    return {
        str(value): {"n": len(rows)}
        | scores(rows.label.to_numpy(str), rows.prediction.to_numpy(str))
        for value, rows in predictions.groupby(column)
    }


def write(
    folder: Path, predictions: pd.DataFrame, metrics: Mapping, curves: Sequence[Path]
) -> None:
    """Write predictions.csv, metrics.json, report.txt, the pictures and report.html.

    Args:
        folder: The run folder.
        predictions: As `tabulate` gives them.
        metrics: As `measure` gives them.
        curves: Where a metrics.csv would be; without any there is no learning_curves.png.
    """
    classes = metrics["classes"]
    predictions.to_csv(folder / "predictions.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    text = _text(predictions, classes)
    if (folded := fold_genders(predictions, classes)) is not None:
        text += f"\nby emotion alone\n\n{_text(*folded)}"
    stamp = _stamp(metrics)
    unreadable = metrics["audit"].get("unreadable", {})
    listed = [f"{path}: {reason}" for path, reason in unreadable.items()]
    if lines := remarks(metrics) + listed:
        text += "\n" + "".join(f"{line}\n" for line in lines)
    (folder / "report.txt").write_text(f"{stamp}\n\n{text}" if stamp else text)
    plots.confusion_matrix(predictions, classes, folder / "confusion_matrix.png", stamp)
    plots.per_class_f1(metrics, folder / "per_class_f1.png", stamp)
    histories = [pd.read_csv(path) for path in curves if path.exists()]
    histories = [history for history in histories if len(history.filter(like="train/loss").T)]
    (folder / "learning_curves.png").unlink(missing_ok=True)  # of an earlier start
    if histories:
        plots.learning_curves(histories, folder / "learning_curves.png", stamp)
    (folder / "report.html").write_text(_html(folder, predictions, metrics))


def _text(predictions: pd.DataFrame, classes: Sequence[str]) -> str:
    return classification_report(
        predictions.label, predictions.prediction, labels=classes, digits=3, zero_division=0.0
    )


def _html(folder: Path, predictions: pd.DataFrame, metrics: Mapping) -> str:
    pictures = {
        name: page.embed(folder / f"{name}.png")
        for name in ("confusion_matrix", "per_class_f1", "learning_curves")
        if (folder / f"{name}.png").exists()
    }
    return page.render(
        "report.html.j2",
        metrics=metrics,
        headline=HEADLINE,
        rows=_rows(metrics),
        title=_headline(metrics),
        stamp=_stamp(metrics),
        remarks=remarks(metrics),
        pictures=pictures,
        wrong=wrong(predictions, metrics["classes"]).head(50).to_dict("records"),
    )


def remarks(metrics: Mapping) -> list[str]:
    """Say what is not known of the scores: a line each for intervals, unread clips, the audit."""
    lines = []
    if unknown := [name for name, interval in metrics["ci"].items() if interval is None]:
        lines.append(f"No 95 % interval of {', '.join(unknown)}: {metrics['ci_unknown']}.")
    if count := len(metrics["audit"].get("unreadable", ())):
        lines.append(f"{count} recordings cannot be read and were left out.")
    if reason := metrics["audit"].get("unknown"):
        lines.append(f"Whether the leak audit passes is unknown: {reason}.")
    return lines


def wrong(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """List the wrongly classified clips, the most confident first."""
    missed = predictions[predictions.label != predictions.prediction]
    confidence = missed[[f"p_{name}" for name in classes]].max(axis=1)
    columns = ["path", "speaker", "channel", "label", "prediction"]
    return missed[columns].assign(confidence=confidence).sort_values("confidence", ascending=False)


def show(folder: Path) -> None:
    """Print the scores with their intervals, the F1 of each class, and where the files lie."""
    metrics = json.loads((folder / "metrics.json").read_text())
    console = Console(markup=False)
    console.print(_headline(metrics))
    table = Table()
    table.add_column("score")
    table.add_column("", justify="right")
    table.add_column("95 % by speaker")
    for row in _rows(metrics):
        table.add_row(*row)
    worst = metrics["worst_speaker"]
    table.add_row("UAR of the worst", f"{metrics['slices']['speaker'][worst]['uar']:.3f}", worst)
    if "over_folds" in metrics:
        over = metrics["over_folds"]["uar"]
        deviation = "one fold" if over["sd"] is None else f"sd {over['sd']:.3f} over folds"
        table.add_row("UAR, mean of folds", f"{over['mean']:.3f}", deviation)
    table.add_section()
    for name, values in metrics["per_class"].items():
        table.add_row(f"F1 {name}", f"{values['f1']:.3f}", f"{values['support']} clips")
    console.print(table)
    for line in remarks(metrics):
        console.print(line)
    for fold, overrides in enumerate(metrics.get("selected", [])):
        console.print(f"fold {fold} selected {' '.join(overrides)}")
    console.print(f"everything is in {folder}", soft_wrap=True)


def _rows(metrics: Mapping) -> list[tuple[str, str, str]]:
    """Give name, value and interval of the headline scores, and of the UAR by emotion alone."""
    scored = [(label, key, metrics) for key, label in HEADLINE.items()]
    if "emotion" in metrics:
        scored.append(("UAR, emotion alone", "uar", metrics["emotion"]))
    rows = []
    for label, key, of in scored:
        interval = of["ci"][key]
        bounds = f"{interval[0]:.3f} - {interval[1]:.3f}" if interval else of["ci_unknown"]
        rows.append((label, f"{of[key]:.3f}", bounds))
    return rows


def _headline(metrics: Mapping) -> str:
    fold = ""
    if metrics["fold"] == "all":
        fold = f", {metrics['folds']} folds pooled"
    elif metrics["folds"] > 1:
        fold = f", fold {metrics['fold']} (of {metrics['folds']})"
    return (
        f"{metrics['split']}: {metrics['n']} clips of {len(metrics['speakers'])} speakers, protocol"
        f" {metrics['protocol']}{fold}. {_stamp(metrics)}"
    ).rstrip()


def _stamp(metrics: Mapping) -> str:
    """Say what keeps the figures from being those of unknown speakers."""
    stamps = []
    if metrics["leaky"]:
        stamps.append("LEAKY: the same speakers trained and are scored.")
    if metrics["transductive"]:
        stamps.append("TRANSDUCTIVE: features are normalised by other clips of the test speakers.")
    return " ".join(stamps)


def show_recordings(folder: Path, table: pd.DataFrame) -> None:
    """Print how many recordings got which prediction, and where the rows lie."""
    console = Console(markup=False)  # a path may hold brackets
    for name, count in table.prediction.value_counts().items():
        console.print(f"{name}: {count}")
    failed = table[table.error.notna()]
    for error in failed.error.head(10):
        console.print(f"not read: {error}", soft_wrap=True)
    console.print(
        f"{len(table) - len(failed)} of {len(table)} recordings scored, {len(failed)} not read:"
        f" {folder / 'predictions.csv'}",
        soft_wrap=True,
    )
