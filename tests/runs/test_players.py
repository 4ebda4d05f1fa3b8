"""Recordings in report.html: there by default, gone with players=false."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd


def test_players_of_a_run_and_of_its_evaluation(svm_run: Path, launch: Callable[..., Path]):
    scores = pd.read_csv(svm_run / "predictions.csv")
    errors = (scores.label != scores.prediction).sum()
    assert errors > 10
    heard = min(errors, 24)
    assert (svm_run / "report.html").read_text().count("<audio") == heard
    ckpt = f"ckpt={svm_run / 'checkpoints' / 'best.ckpt'}"
    for players, count in (("true", heard), ("false", 0)):
        scored = launch("eval", ckpt, f"players={players}", folder=players)
        page = (scored / "report.html").read_text()
        assert page.count("<audio") == count
        assert ("Heard here: " in page) == bool(count)
        assert page.count("<tr data-label") == errors


def test_the_demo_corpus_is_called_synthetic_and_no_people_heard_it(
    launch: Callable[..., Path],
):
    run = launch("train", "data=demo", "window.seconds=1", "model=svm", "data.channels=[speech]")
    page, card = (run / "report.html").read_text(), (run / "model_card.md").read_text()
    assert "Heard here: The clips of the demo corpus are synthetic" in page
    assert "listeners" not in page
    assert "name: synthetic RAVDESS" in card
    assert "datasets:" not in card
    assert "Livingstone" not in page + card
