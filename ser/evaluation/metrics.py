"""Scores of emotion recognition: accuracy (WA), UAR (UA, macro recall), F1, calibration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ser.config.split_info import SplitInfo
from ser.evaluation.calibration import MEASURES, Calibration, ece, untemper
from ser.evaluation.statistics import METHOD, speaker_interval, speakers_of, why_unknown

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

SLICES = ("gender", "channel", "intensity", "statement", "corpus", "speaker")

GENDERS = {"male", "female"}
"""What ends the names of classes by emotion and gender."""

PREFIXES = ("leaky", "exposed")
"""Stamps that stand before every key that such a run logs, so `leaky-test/uar`."""


def key_prefix(stamps: Mapping[str, bool]) -> dict[str, str]:
    """Return the argument `prefix` of a logger of a run with these stamps; none where it is plain.

    Args:
        stamps: By name, such as `leaky`, whether the run has it.
    """
    found = "-".join(stamp for stamp in PREFIXES if stamps[stamp])
    return {"prefix": found} if found else {}


def metric_collection(classes: Sequence[str], prefix: str) -> "MetricCollection":
    """Collect accuracy, UAR, macro F1 and `f1/<class>` over an epoch, never a mean over batches."""
    # With torch, which nothing else here needs.
    from torchmetrics import ClasswiseWrapper, MetricCollection, classification

    count = len(classes)
    by_class = classification.MulticlassF1Score(count, average=None)
    return MetricCollection(
        {
            "accuracy": classification.MulticlassAccuracy(count, average="micro"),
            "uar": classification.MulticlassRecall(count, average="macro"),
            "macro_f1": classification.MulticlassF1Score(count, average="macro"),
            "f1": ClasswiseWrapper(by_class, labels=list(classes), prefix="f1/"),
        },
        prefix=prefix,
        # The wrapper's state is not that of the bare metrics it would be grouped with.
        compute_groups=False,
    )


def scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Score predicted names against true names, averaging over the classes in `truth`.

    Returns:
        accuracy, uar, macro_f1 and weighted_f1, each between 0 and 1.
    """
    _, recall, f1, support = _by_class(truth, prediction, np.unique(truth))
    return {
        "accuracy": float(np.mean(truth == prediction)),
        "uar": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
    }


def per_class(
    truth: np.ndarray, prediction: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and support (clips) of each class."""
    columns = _by_class(truth, prediction, list(classes))
    names = ("precision", "recall", "f1", "support")
    table = pd.DataFrame(dict(zip(names, columns, strict=True)), list(classes))
    return table.to_dict("index")


def _by_class(
    truth: np.ndarray, prediction: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    return precision_recall_fscore_support(truth, prediction, labels=classes, zero_division=0.0)


def tabulate(
    clips: pd.DataFrame,
    classes: Sequence[str],
    probabilities: np.ndarray,
    calibration: Calibration | None = None,
    abstain: float | None = None,
) -> pd.DataFrame:
    """Join clips with their probabilities (clips, classes): the content of predictions.csv.

    Args:
        clips: A row each.
        classes: Their names.
        probabilities: As the model returns them, (clips, classes).
        calibration: Of the model, whose `temperature` is then a column.
        abstain: Share of wrong answers to accept, so that `unsure` is one; None for neither.
    """
    columns = [f"p_{name}" for name in classes]
    shares = pd.DataFrame(probabilities, clips.index, columns)
    named = np.array(classes)[probabilities.argmax(axis=1)]
    table = clips.assign(prediction=named).join(shares)
    if calibration is not None:
        table["temperature"] = calibration.temperature
        if abstain is not None:
            table["unsure"] = probabilities.max(axis=1) < calibration.threshold(abstain)
    return table


def measure(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    split_info: SplitInfo,
    split: str,
    audit: Mapping,
    seconds: Mapping[str, float],
    abstain: float | None = None,
) -> dict:
    """Compute the content of metrics.json.

    Args:
        predictions: Rows of predictions.csv.
        classes: Class names in their order.
        split_info: Under which protocol the clips were parted.
        split: Which of its splits is scored.
        audit: The leak audit.
        seconds: What the steps of the run took.
        abstain: The share of wrong answers that was accepted for the column `unsure`.
    """
    speakers = speakers_of(predictions)
    by_column = {column: predictions[column].astype(str) for column in SLICES} | {
        "speaker": speakers
    }
    slices = {
        column: {
            str(value): {"n": len(rows)}
            | scores(rows.label.to_numpy(str), rows.prediction.to_numpy(str))
            for value, rows in predictions.groupby(values)
        }
        for column, values in by_column.items()
        if column == "speaker" or (values != "").any()  # a manifest need not say them
    }
    metrics = asdict(split_info) | {"split": split} | _scores(predictions, classes)
    if (folded := marginalise_gender(predictions, classes)) is not None:
        metrics["emotion"] = _scores(*folded)
    return metrics | {
        "calibration": _calibration(predictions, classes, speakers),
        "selective": _selective(predictions, abstain, speakers),
        "ci_method": METHOD,
        "speakers": np.unique(speakers).tolist(),
        "worst_speaker": min(
            slices["speaker"], key=lambda speaker: slices["speaker"][speaker]["uar"]
        ),
        "slices": slices,
        "audit": audit,
        "seconds": seconds,
    }


def marginalise_gender(
    predictions: pd.DataFrame, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[str]] | None:
    """Return predictions and classes by emotion alone; None where classes are not emotion_gender.

    The probability of an emotion is the sum over genders.
    """
    emotions = {name: name.rpartition("_")[0] for name in classes}
    if not all(emotions.values()) or not {name.rpartition("_")[2] for name in classes} <= GENDERS:
        return None
    names = list(dict.fromkeys(emotions.values()))
    parts = {name: [f"p_{one}" for one in classes if emotions[one] == name] for name in names}
    by_emotion = {f"p_{name}": predictions[own].sum(axis=1) for name, own in parts.items()}
    folded = predictions.drop(columns=[f"p_{name}" for name in classes]).assign(**by_emotion)
    folded["label"] = predictions.label.map(emotions)
    folded["prediction"] = np.array(names)[folded[list(by_emotion)].to_numpy().argmax(axis=1)]
    return folded, names


def probabilities_of(
    predictions: pd.DataFrame, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (clips, classes) and the true classes (clips,), indices."""
    truth = pd.Index(classes).get_indexer(predictions.label)
    return predictions[[f"p_{name}" for name in classes]].to_numpy(float), truth


def untempered(predictions: pd.DataFrame, classes: Sequence[str]) -> np.ndarray | None:
    """Return the probabilities (clips, classes) before calibration; None where there was none."""
    if "temperature" not in predictions:
        return None
    probabilities, _ = probabilities_of(predictions, classes)
    return untemper(probabilities, predictions.temperature.to_numpy(float))


def _calibration(
    predictions: pd.DataFrame, classes: Sequence[str], speakers: np.ndarray
) -> dict[str, object]:
    """Measure the probabilities before and after calibration, with intervals by speaker."""
    after, truth = probabilities_of(predictions, classes)
    found: dict[str, object] = {"temperature": None}
    if "temperature" in predictions:
        found["temperature"] = predictions.temperature.unique().tolist()  # one a fold
    for name, values in (("before", untempered(predictions, classes)), ("after", after)):
        found[name] = None if values is None else _measured(values, truth, speakers)
    return found


def _measured(probabilities: np.ndarray, truth: np.ndarray, speakers: np.ndarray) -> dict:
    def of(measure: Callable) -> Callable[[np.ndarray], float]:
        return lambda chosen: measure(probabilities[chosen], truth[chosen])

    intervals = {
        name: speaker_interval(of(measure), speakers, highest=highest)
        for name, (measure, highest) in MEASURES.items()
    }
    found = {name: measure(probabilities, truth) for name, (measure, _) in MEASURES.items()}
    return {"ece": ece(probabilities, truth), **found, "ci": intervals}


def _selective(
    predictions: pd.DataFrame, abstain: float | None, speakers: np.ndarray
) -> dict[str, object] | None:
    """Return how many clips are answered, and how many of these wrongly; None without `unsure`."""
    if "unsure" not in predictions:
        return None
    answered = ~predictions.unsure.to_numpy(bool)
    wrong = (predictions.label != predictions.prediction).to_numpy() & answered

    def error(chosen: np.ndarray) -> float:
        return float(wrong[chosen].sum() / max(answered[chosen].sum(), 1))

    def coverage(chosen: np.ndarray) -> float:
        return float(answered[chosen].mean())

    scored = {"coverage": coverage, "error": error}
    every = np.ones(len(predictions), bool)
    found = {name: score(every) for name, score in scored.items()}
    intervals = {name: speaker_interval(score, speakers) for name, score in scored.items()}
    if not answered.any():
        found["error"] = intervals["error"] = None
    return {"accepted": abstain, **found, "ci": intervals}


def _scores(predictions: pd.DataFrame, classes: Sequence[str]) -> dict:
    truth = predictions.label.to_numpy(str)
    predicted = predictions.prediction.to_numpy(str)

    def of(metric: str) -> Callable[[np.ndarray], float]:
        return lambda chosen: scores(truth[chosen], predicted[chosen])[metric]

    whole = scores(truth, predicted)
    speakers = speakers_of(predictions)
    intervals = {metric: speaker_interval(of(metric), speakers) for metric in whole}
    return {
        "classes": list(classes),
        "n": len(predictions),
        **whole,
        "ece": ece(*probabilities_of(predictions, classes)),
        "per_class": per_class(truth, predicted, classes),
        "ci": intervals,
        "ci_unknown": None if all(intervals.values()) else why_unknown(speakers),
    }
