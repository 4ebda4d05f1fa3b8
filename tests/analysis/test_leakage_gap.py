import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_the_gap_is_what_the_random_split_adds_on_the_same_clips(
    launch: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
):
    # Two folds are quicker than the five of luna5.
    protocols = ["protocol=random,kfold", "++protocol.folds=2"]
    sweep = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    models = ["data=demo", "model=svm,logistic"]
    launch("train", "sweep=leakage_gap", *models, *protocols, sweep)
    rows = json.loads((tmp_path / "sweep" / "leakage_gap.json").read_text())
    jobs = pd.read_csv(tmp_path / "sweep" / "summary.csv").set_index(["protocol", "model"])
    assert [(row["model"], row["protocol"]) for row in rows] == [
        ("svm", "kfold"),
        ("logistic", "kfold"),
    ]
    for row in rows:
        random, kfold = (jobs.loc[name, row["model"]] for name in ("random", "kfold"))
        assert random.leaky
        assert not kfold.leaky
        assert row["n"] == 504
        assert row["speakers"] == 12
        assert row["leaky_uar"] == pytest.approx(random.uar)
        assert row["uar"] == pytest.approx(kfold.uar)
        assert row["gap"] == pytest.approx(random.uar - kfold.uar)
        assert row["gap_low"] < row["gap"] < row["gap_high"]
        assert 0 < row["p"] == row["p_holm"] <= 1  # one comparison a leaky job
    table = pd.read_csv(tmp_path / "sweep" / "leakage_gap.csv")
    assert table.gap.tolist() == pytest.approx([row["gap"] for row in rows])
    assert (tmp_path / "sweep" / "leakage_gap.png").stat().st_size > 5000
    shown = capfd.readouterr().out
    assert "gap" in shown
    assert "LEAKY" in shown


@pytest.mark.slow
def test_what_is_more_than_a_leak_is_no_gap(
    launch: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
):
    sweep = tmp_path / "sweep"
    protocols = "protocol=random,cross_corpus"
    launch("train", "sweep=leakage_gap", protocols, "data=demo", "model=logistic",
           f"hydra.sweep.dir={sweep}")  # fmt: skip
    shown = capfd.readouterr()
    assert "/1 has other clips or classes than the leaky job: no gap" in shown.out + shown.err
    assert "expected a finished job of protocol=random and of another" in shown.out
    assert not (sweep / "leakage_gap.csv").exists()
    assert (sweep / "summary.csv").exists()
