"""Scores of emotion recognition: accuracy (WA), UAR (UA, macro recall), F1, calibration."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import f1_score, precision_recall_fscore_support, recall_score
from torchmetrics import ClasswiseWrapper, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassRecall,
)

CALIBRATION_BINS = 15


def metric_collection(classes: Sequence[str], prefix: str) -> MetricCollection:
    """Collect accuracy, UAR, macro F1 and `f1/<class>` over an epoch, never a mean over batches."""
    count = len(classes)
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(count, average="micro"),
            "uar": MulticlassRecall(count, average="macro"),
            "macro_f1": MulticlassF1Score(count, average="macro"),
            "f1": ClasswiseWrapper(
                MulticlassF1Score(count, average=None), labels=list(classes), prefix="f1/"
            ),
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
    present = np.unique(truth)
    options = {"labels": present, "zero_division": 0.0}
    return {
        "accuracy": float(np.mean(truth == prediction)),
        "uar": float(recall_score(truth, prediction, average="macro", **options)),
        "macro_f1": float(f1_score(truth, prediction, average="macro", **options)),
        "weighted_f1": float(f1_score(truth, prediction, average="weighted", **options)),
    }


def per_class(
    truth: np.ndarray, prediction: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Give precision, recall, F1 and support (clips) of each class."""
    columns = precision_recall_fscore_support(
        truth, prediction, labels=list(classes), zero_division=0.0
    )
    return {
        name: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for name, precision, recall, f1, support in zip(classes, *columns, strict=True)
    }


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Measure how far confidence is from accuracy, over bins of equal width (ECE).

    Args:
        confidence: Probability of the predicted class, (clips,).
        correct: Whether the prediction was right, (clips,).
    """
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
