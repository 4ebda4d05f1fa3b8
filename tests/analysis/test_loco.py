import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest


@pytest.mark.usefixtures("pictures")
def test_a_cell_is_the_run_of_its_two_corpora(
    launch: Callable[..., Path], few: Path, tmp_path: Path, capfd: pytest.CaptureFixture
):
    sweep = tmp_path / "sweep"
    given = ["sweep=loco", "data=demo", f"data.root={few}", "model=logistic"]
    launch("train", *given, f"hydra.sweep.dir={sweep}")
    cells = json.loads((sweep / "loco.json").read_text())
    places = [(cell["train"], cell["test"]) for cell in cells]
    corpora = ("ravdess", "tess")
    assert places == [(train, test) for train in corpora for test in corpora]
    for job, cell in enumerate(cells):
        metrics = json.loads((sweep / str(job) / "metrics.json").read_text())
        assert (cell["uar"], cell["n"]) == (metrics["uar"], metrics["n"])
        assert [cell["uar_low"], cell["uar_high"]] == (metrics["ci"]["uar"] or [None, None])
        assert len(metrics["classes"]) == 7  # calm is of one corpus alone
        tested = pd.read_csv(sweep / str(job) / "predictions.csv", dtype=str)
        assert set(tested.corpus) == {cell["test"]}
        trained = pd.read_csv(sweep / str(job) / "split.csv", dtype=str).query("split == 'train'")
        assert set(trained.corpus) == {cell["train"]}
        voices = [set(each.corpus + each.speaker) for each in (trained, tested)]
        assert not set.intersection(*voices)
    assert pd.read_csv(sweep / "loco.csv").uar.tolist() == pytest.approx([c["uar"] for c in cells])
    assert (sweep / "loco.png").stat().st_size > 5000
    shown = capfd.readouterr().out
    assert "trained on" in shown
    assert f"{cells[1]['uar']:.3f}" in shown
