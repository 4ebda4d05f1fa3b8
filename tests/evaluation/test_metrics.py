import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, classification_report, f1_score

from ser.corpora.clip import EMOTIONS
from ser.evaluation.metrics import (
    metric_collection,
    per_class,
    scores,
)


@pytest.mark.parametrize(
    "classes", [list(EMOTIONS), [name for name in EMOTIONS if name != "sad"], ["calm", "sad"]]
)
@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_scores_what_scikit_learn_scores(classes: list[str], seed: int):
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(len(classes)), generator.integers(0, len(classes), 60)])
    logits = generator.normal(size=(len(truth), len(classes))).astype(np.float32)
    logits[np.arange(len(truth)), truth] += 1
    predicted = logits.argmax(axis=1)
    metrics = metric_collection(classes, "val/")
    for part in np.array_split(np.arange(len(truth)), 4):
        metrics.update(torch.from_numpy(logits[part]), torch.from_numpy(truth[part]))
    epoch = {name: value.item() for name, value in metrics.compute().items()}
    names = np.array(classes)
    report = classification_report(
        names[truth], names[predicted], labels=classes, output_dict=True, zero_division=0.0
    )
    expected = {
        "val/accuracy": accuracy_score(truth, predicted),
        "val/uar": balanced_accuracy_score(truth, predicted),
        "val/macro_f1": report["macro avg"]["f1-score"],
    } | {f"val/f1/{name}": report[name]["f1-score"] for name in classes}
    assert epoch == pytest.approx(expected, abs=1e-6)
    ours = scores(names[truth], names[predicted])
    assert ours["uar"] == pytest.approx(expected["val/uar"])
    assert ours["macro_f1"] == pytest.approx(expected["val/macro_f1"])
    assert ours["weighted_f1"] == pytest.approx(report["weighted avg"]["f1-score"])
    for name, row in per_class(names[truth], names[predicted], classes).items():
        assert row["f1"] == pytest.approx(report[name]["f1-score"])
        assert row["support"] == report[name]["support"]


def test_a_slice_averages_over_the_classes_it_holds():
    truth = np.array(["calm", "calm", "sad", "sad"])
    predicted = np.array(["calm", "happy", "sad", "sad"])
    found = scores(truth, predicted)
    assert found["uar"] == pytest.approx(0.75)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["macro_f1"] == f1_score(truth, predicted, average="macro", labels=["calm", "sad"])
