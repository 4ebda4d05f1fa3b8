"""Report of a run: metrics.json, report.txt, pictures and report.html, all from its predictions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from ser.corpora.clip import Corpus
from ser.evaluation.metrics import marginalise_gender
from ser.evaluation.results import RunResult
from ser.reporting import listeners
from ser.reporting.errors import Hear, describe_errors
from ser.reporting.html import embed_picture, render_page

STAMPED = {
    "leaky": "LEAKY: the same speakers trained and are scored.",
    "transductive": "TRANSDUCTIVE: features are normalised by other clips of the test speakers.",
    "exposed": "EXPOSED: the encoder was trained on a corpus that is scored.",
    "exposure_unknown": "EXPOSURE UNKNOWN: nobody knows what the encoder was trained on.",
    "refit": "REFIT: the validation speakers trained too, once the model was chosen.",
    "unvalidated": "UNVALIDATED: there were no validation speakers.",
}
CALIBRATION = {
    "ece": "expected calibration error (ECE)",
    "brier": "Brier score",
    "log_loss": "log loss",
    "aurc": "area under risk and coverage (AURC)",
}
HEADLINE = {"accuracy": "accuracy (WA)", "uar": "UAR", "macro_f1": "macro F1"}


def write_report(
    folder: Path,
    predictions: pd.DataFrame,
    metrics: Mapping,
    curves: Sequence[Path],
    corpora: Mapping[str, Corpus] = MappingProxyType({}),
    hear: Hear | None = None,
) -> None:
    """Write predictions.csv, metrics.json, report.txt, the pictures and report.html.

    Args:
        folder: The run folder.
        predictions: As `ser.evaluation.metrics.tabulate` returns them.
        metrics: As `ser.evaluation.metrics.measure` returns them.
        curves: Where a metrics.csv would be; without any there is no learning_curves.png.
        corpora: What is known of those that are scored, by name.
        hear: Reads what the model heard of a clip; None leaves the recordings out.
    """
    from ser.reporting import plots

    classes = metrics["classes"]
    predictions.to_csv(folder / "predictions.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    text = _text(predictions, classes)
    if (folded := marginalise_gender(predictions, classes)) is not None:
        text += f"\nby emotion alone\n\n{_text(*folded)}"
    beside = listeners.compare(predictions, classes, corpora)
    text += "".join(f"\n{comparison.text()}" for comparison in beside)
    stamp = _stamp(metrics)
    unreadable = metrics["audit"].get("unreadable", {})
    listed = [f"{path}: {reason}" for path, reason in unreadable.items()]
    if lines := remarks(metrics) + listed:
        text += "\n" + "".join(f"{line}\n" for line in lines)
    (folder / "report.txt").write_text(f"{stamp}\n\n{text}" if stamp else text)
    plots.confusion_matrix(predictions, classes, folder / "confusion_matrix.png", stamp)
    plots.per_class_f1(metrics, folder / "per_class_f1.png", stamp)
    plots.calibration(predictions, metrics, folder / "calibration.png", stamp)
    histories = [pd.read_csv(path) for path in curves if path.exists()]
    histories = [history for history in histories if len(history.filter(like="train/loss").T)]
    (folder / "learning_curves.png").unlink(missing_ok=True)  # of an earlier start
    if histories:
        plots.learning_curves(histories, folder / "learning_curves.png", stamp)
    (folder / "report.html").write_text(
        _html(
            folder,
            predictions,
            metrics,
            beside=beside,
            errors=describe_errors(predictions, classes, corpora, hear),
        )
    )


def write_result(
    result: RunResult,
    corpora: Mapping[str, Corpus] = MappingProxyType({}),
    hear: Hear | None = None,
) -> None:
    """Write split.csv and the report of pooled folds, or of runs that voted, into its folder.

    Args:
        result: What they scored.
        corpora: As of `write_report`.
        hear: As there.
    """
    result.splits.to_csv(result.folder / "split.csv", index=False)
    curves = [fold / "metrics.csv" for fold in result.folds]
    write_report(result.folder, result.predictions, result.metrics, curves, corpora, hear)


def _text(predictions: pd.DataFrame, classes: Sequence[str]) -> str:
    from sklearn.metrics import classification_report

    return classification_report(
        predictions.label, predictions.prediction, labels=classes, digits=3, zero_division=0.0
    )


def _html(folder: Path, predictions: pd.DataFrame, metrics: Mapping, **parts: object) -> str:
    pictures = {
        name: embed_picture(folder / f"{name}.png")
        for name in ("confusion_matrix", "per_class_f1", "calibration", "learning_curves")
        if (folder / f"{name}.png").exists()
    }
    return render_page(
        "report.html.j2",
        metrics=metrics,
        headline=HEADLINE,
        rows=_rows(metrics),
        calibration=_calibration(metrics),
        title=_headline(metrics),
        stamp=_stamp(metrics),
        remarks=remarks(metrics),
        pictures=pictures,
        **parts,
    )


def _calibration(metrics: Mapping) -> list[tuple[str, ...]]:
    """Return name, value and interval before and after calibration of each measure."""
    rows = []
    for name, label in CALIBRATION.items():
        cells = []
        for scored in (metrics["calibration"]["before"], metrics["calibration"]["after"]):
            interval = scored and scored["ci"].get(name)
            cells.append(f"{scored[name]:.3f}" if scored else "-")
            cells.append(f"{interval[0]:.3f} - {interval[1]:.3f}" if interval else "")
        rows.append((label, *cells))
    return rows


def _share(found: Mapping, key: str) -> str:
    """Return a share in per cent, with its interval where there is one."""
    interval = found["ci"][key]
    bounds = f" [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else ""
    return f"{found[key]:.1%}{bounds}"


def remarks(metrics: Mapping) -> list[str]:
    """List what is not known of the scores: a line each for intervals, unread clips, the audit."""
    lines = []
    if unknown := [name for name, interval in metrics["ci"].items() if interval is None]:
        lines.append(f"No 95 % interval of {', '.join(unknown)}: {metrics['ci_unknown']}.")
    if count := len(metrics["audit"].get("unreadable", ())):
        lines.append(f"{count} recordings cannot be read and were left out.")
    if metrics["calibration"]["temperature"] is None:
        why = ": there were no validation speakers" if metrics["unvalidated"] else ""
        lines.append(f"Not calibrated{why}.")
    elif metrics["split"] == "val":
        lines.append("The temperature was fitted on these clips.")
    if found := metrics["selective"]:
        answered = round(found["coverage"] * metrics["n"])
        wrong = f", {_share(found, 'error')} of them wrongly" if answered else ""
        lines.append(
            f"With {found['accepted']:.0%} wrong answers accepted (threshold of the validation"
            f" speakers), {answered} clips, {_share(found, 'coverage')}, are answered{wrong}."
        )
    if reason := metrics["audit"].get("unknown"):
        lines.append(f"Whether the leak audit passes is unknown: {reason}.")
    return lines


def show_report(folder: Path, metrics: Mapping) -> None:
    """Print the scores with their intervals, the F1 of each class, and where the files lie."""
    console = Console(markup=False)
    console.print(_headline(metrics))
    table = Table("score", Column("", justify="right"), "95 % by speaker")
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
    """Return name, value and interval of the headline scores, and of the UAR by emotion alone."""
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
    """Return what keeps the figures from being those of unknown speakers."""
    return " ".join(text for stamp, text in STAMPED.items() if metrics[stamp])


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
