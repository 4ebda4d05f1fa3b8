import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from ser.launch.plans import corpora_of

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("protocol.train=[tess]", "sweep=loco sets it itself"),
        ("protocol=holdout", "sweep=loco with another protocol"),
        ("data.corpora=[tess]", r"sweep=loco of \['tess'\]: expected two corpora"),
    ],
)
def test_what_makes_no_matrix_is_refused(override: str, line: str):
    given = ["sweep=loco", "data=demo", override]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", given, return_hydra_config=True)
    with pytest.raises(ValueError, match=line):
        corpora_of(config)


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
