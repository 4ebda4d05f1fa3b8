import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, classification_report

from ser.config.split_info import SplitInfo
from ser.evaluation.calibration import Calibration, ece, temper, untemper
from ser.evaluation.metrics import SLICES, marginalise_gender, measure, tabulate
from ser.reporting import run_report as report
from ser.reporting.errors import wrong_clips

pytestmark = pytest.mark.usefixtures("pictures")
CLASSES = ["calm", "happy", "sad"]
INFO = SplitInfo("holdout", 1, "0123456789abcdef", fold=0, folds=1, leaky=False, transductive=False)
FACTS = {
    "split_info": INFO,
    "split": "test",
    "audit": {"passed": True},
    "seconds": {"fit": 1.0},
    "abstain": 0.34,
}


CALIBRATION = Calibration(1.5, (0.9, 0.8, 0.7, 0.6, 0.5), (True, True, False, True, False))


@pytest.fixture
def predictions() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    count = 90
    clips = pd.DataFrame(
        {
            "path": [f"<clip {index}>.wav" for index in range(count)],
            "corpus": "ravdess",
            "speaker": [f"{index % 4 + 1:02}" for index in range(count)],
            "gender": ["male" if index % 2 == 0 else "female" for index in range(count)],
            "channel": "speech",
            "emotion": np.resize(CLASSES, count),
            "intensity": "normal",
            "statement": "kids",
            "label": np.resize(CLASSES, count),
            "split": "test",
        }
    )
    probabilities = temper(generator.dirichlet(np.ones(3), count), 1.5)
    return tabulate(clips, CLASSES, probabilities, CALIBRATION, 0.34)


def test_every_figure_comes_from_the_predictions(predictions: pd.DataFrame, tmp_path: Path):
    metrics = measure(predictions, CLASSES, **FACTS)
    report.write_report(tmp_path, predictions, metrics, [])
    read = pd.read_csv(tmp_path / "predictions.csv", dtype={"speaker": str})
    assert read.prediction.tolist() == [
        CLASSES[index]
        for index in read[[f"p_{name}" for name in CLASSES]].to_numpy().argmax(axis=1)
    ]
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["uar"] == pytest.approx(balanced_accuracy_score(read.label, read.prediction))
    assert written["n"] == 90
    assert written["speakers"] == [f"ravdess/0{number}" for number in range(1, 5)]
    assert set(written["slices"]["gender"]) == {"male", "female"}
    for speaker, rows in read.groupby("speaker"):
        found = written["slices"]["speaker"][f"ravdess/{speaker}"]
        assert found["n"] == len(rows)
        assert found["uar"] == pytest.approx(balanced_accuracy_score(rows.label, rows.prediction))
    assert (tmp_path / "report.txt").read_text() == classification_report(
        read.label, read.prediction, labels=CLASSES, digits=3
    ) + "\n" + "\n".join([*report.remarks(metrics), ""])
    probabilities = read[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = read.label.map(CLASSES.index).to_numpy()
    assert written["calibration"]["temperature"] == [1.5]
    for name, values in (
        ("after", probabilities),
        ("before", untemper(probabilities, np.full(90, 1.5))),
    ):
        found = written["calibration"][name]
        assert found["ece"] == pytest.approx(ece(values, truth))
        assert found["ci"]["brier"][0] < found["brier"] < found["ci"]["brier"][1]
    assert read.unsure.tolist() == (probabilities.max(axis=1) < 0.6).tolist()
    answered = read[~read.unsure]
    assert written["selective"]["coverage"] == len(answered) / 90
    assert written["selective"]["error"] == (answered.label != answered.prediction).mean()


def test_a_run_without_validation_speakers_is_not_calibrated(
    predictions: pd.DataFrame, tmp_path: Path
):
    plain = predictions.drop(columns=["temperature", "unsure"])
    metrics = measure(plain, CLASSES, **FACTS)
    assert metrics["calibration"]["before"] is None
    assert metrics["selective"] is None
    report.write_report(tmp_path, plain, metrics, [])
    assert "Not calibrated" in (tmp_path / "report.txt").read_text()
    assert "Not calibrated" in (tmp_path / "report.html").read_text()


def test_the_contract_of_metrics_json(predictions: pd.DataFrame):
    metrics = measure(predictions, CLASSES, **FACTS)
    assert list(metrics) == [
        "protocol", "protocol_version", "protocol_hash", "fold", "folds", "leaky", "transductive",
        "exposed", "exposure_unknown", "refit", "unvalidated",
        "split", "classes", "n", "accuracy", "uar", "macro_f1", "weighted_f1", "ece",
        "per_class", "ci", "ci_unknown", "calibration", "selective", "ci_method",
        "speakers", "worst_speaker", "slices", "audit", "seconds",
    ]  # fmt: skip
    by_speaker = metrics["slices"]["speaker"]
    assert by_speaker[metrics["worst_speaker"]]["uar"] == min(
        row["uar"] for row in by_speaker.values()
    )
    assert set(metrics["slices"]) == set(SLICES)
    low, high = metrics["ci"]["uar"]
    assert low < metrics["uar"] < high
    two = predictions[predictions.speaker.isin(["01", "02"])]
    assert measure(two, CLASSES, **FACTS)["ci"]["uar"] is None


def test_the_html_stands_alone_and_quotes_what_it_shows(
    predictions: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture
):
    leaky = replace(INFO, leaky=True, protocol="random")
    metrics = measure(predictions, CLASSES, **FACTS | {"split_info": leaky})
    report.write_report(tmp_path, predictions, metrics, [])
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3  # no metrics.csv, so no learning curves
    assert "http" not in page
    assert "LEAKY" in page
    assert "&lt;clip" in page
    assert "<clip" not in page
    assert (tmp_path / "report.txt").read_text().startswith("LEAKY")
    report.show_report(tmp_path, metrics)
    shown = capsys.readouterr().out
    assert "LEAKY" in shown
    assert str(tmp_path) in shown.replace("\n", "")


def test_learning_curves_are_drawn_from_metrics_csv(predictions: pd.DataFrame, tmp_path: Path):
    history = pd.DataFrame(
        {"epoch": [0, 0, 1, 1], "train/loss": [None, 2.0, None, 1.0], "val/uar": [0.2, None] * 2}
    )
    history.to_csv(tmp_path / "metrics.csv", index=False)
    metrics = measure(predictions, CLASSES, **FACTS)
    report.write_report(tmp_path, predictions, metrics, [tmp_path / "metrics.csv"])
    assert (tmp_path / "learning_curves.png").stat().st_size > 5000
    (tmp_path / "learning_curves.png").unlink()
    history[["epoch", "val/uar"]].to_csv(tmp_path / "metrics.csv", index=False)  # no training
    report.write_report(tmp_path, predictions, metrics, [tmp_path / "metrics.csv"])
    assert not (tmp_path / "learning_curves.png").exists()


@pytest.mark.parametrize("answer", ["truth", "calm"])
def test_what_all_speakers_score_alike_has_no_interval_and_the_report_says_why(
    predictions: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture, answer: str
):
    clips = predictions.loc[:71, :"split"]  # as many of each class of each speaker
    named = clips.label if answer == "truth" else pd.Series(answer, clips.index)
    table = tabulate(
        clips, CLASSES, pd.get_dummies(named).reindex(columns=CLASSES).fillna(0).to_numpy(float)
    )
    metrics = measure(table, CLASSES, **FACTS)
    assert set(metrics["ci"].values()) == {None}
    assert metrics["ci_unknown"] == "no spread over speakers"
    report.write_report(tmp_path, table, metrics, [])
    report.show_report(tmp_path, metrics)
    line = "No 95 % interval of accuracy, uar, macro_f1, weighted_f1: no spread over speakers."
    assert line in (tmp_path / "report.txt").read_text()
    assert f"<p>{line}</p>" in (tmp_path / "report.html").read_text()
    shown = capsys.readouterr().out
    assert " ".join(line.split()) in " ".join(shown.split())
    assert "│ no spread over speakers" in shown


def test_wrong_clips_come_most_confident_first(predictions: pd.DataFrame):
    wrong = wrong_clips(predictions, CLASSES)
    assert (wrong.label != wrong.prediction).all()
    assert wrong.confidence.is_monotonic_decreasing
    assert len(wrong) == (predictions.label != predictions.prediction).sum()


def test_the_uar_by_emotion_alone_is_shown_beside_that_of_all_classes(
    predictions: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture
):
    classes = [f"{name}_{gender}" for name in CLASSES for gender in ("male", "female")]
    clips = predictions.loc[predictions.speaker.isin(["01", "02"]), :"split"]
    clips["label"] = clips.label + "_" + clips.gender
    shares = np.random.default_rng(0).dirichlet(np.ones(6), len(clips))
    table = tabulate(clips, classes, shares)
    metrics = measure(table, classes, **FACTS)
    report.write_report(tmp_path, table, metrics, [])
    uar = f"{metrics['emotion']['uar']:.3f}"
    page = (tmp_path / "report.html").read_text()
    assert f"<td>UAR, emotion alone</td><td>{uar}</td><td>fewer than 3 speakers</td>" in page
    assert "<h2>By emotion alone</h2>" in page
    assert all(f"<td>{name}</td>" in page for name in (*classes, *CLASSES))
    report.show_report(tmp_path, metrics)
    shown = capsys.readouterr().out
    assert f"UAR, emotion alone │ {uar} │ fewer than 3 speakers" in shown
    assert "nan" not in shown


def test_classes_of_emotion_and_gender_are_folded_to_emotions():
    classes = ["calm_male", "calm_female", "sad_male", "sad_female"]
    predictions = pd.DataFrame(
        [[0.4, 0.0, 0.3, 0.3], [0.1, 0.5, 0.2, 0.2], [0.3, 0.25, 0.45, 0.0]],
        columns=[f"p_{name}" for name in classes],
    ).assign(label=["sad_female", "calm_female", "calm_male"])
    folded, names = marginalise_gender(predictions, classes)
    assert names == ["calm", "sad"]
    assert folded.label.tolist() == ["sad", "calm", "calm"]
    # By class the third is sad_male; by emotion it is calm.
    assert folded.prediction.tolist() == ["sad", "calm", "calm"]
    assert folded.p_calm.tolist() == pytest.approx([0.4, 0.6, 0.55])
    assert marginalise_gender(predictions, ["calm", "sad"]) is None
    assert marginalise_gender(predictions, ["not_sad", "very_sad"]) is None  # of a manifest
