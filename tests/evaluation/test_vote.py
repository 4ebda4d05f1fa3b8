"""Runs vote by the weighted mean of their probabilities, if they scored the same clips."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser.analysis.comparison import compare
from ser.corpora.scan import parse
from ser.evaluation.metrics import tabulate
from ser.evaluation.results import RunResult, vote
from ser.reporting.run_report import write_result

CLASSES = ["neutral", "calm", "happy"]
STAMPS = {
    "protocol": "holdout", "protocol_version": 1, "protocol_hash": "8ff905b8618148a2", "fold": 0,
    "folds": 1, "split": "test", "leaky": False, "transductive": False,
}  # fmt: skip


def clips(suffix: str = "wav") -> pd.DataFrame:
    """Rows of split.csv: 3 emotions of 5 speakers, of whom 4 test and one trains."""
    names = [
        f"03-01-{e:02}-01-0{s}-01-{a:02}" for a in range(1, 6) for e in (1, 2, 3) for s in "12"
    ]
    found = [parse(Path(f"{name}.{suffix}")) for name in names]
    rows = pd.DataFrame([asdict(clip) for clip in found])
    rows["label"] = rows.emotion
    rows["split"] = np.where(rows.speaker == "05", "train", "test")
    return rows.assign(sha256=[f"{name} decoded" for name in names])


def probabilities(seed: int, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), 24).astype(np.float32)


@pytest.fixture
def run(leave_run: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    def write(
        name: str,
        seed: int = 0,
        table: pd.DataFrame | None = None,
        classes: list[str] = CLASSES,
        status: str = "finished",
        **facts: object,
    ) -> Path:
        table = clips() if table is None else table
        tested = table[table.split != "train"]
        shares = probabilities(seed, len(classes))[: len(tested)]
        predictions = tabulate(tested, classes, shares)
        folder = leave_run(tmp_path / name, predictions, classes, splits=table, **facts)
        (folder / "status.json").write_text(json.dumps({"status": status}))
        return folder

    return write


@pytest.fixture
def launch_ensemble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    def launch(*overrides: str) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ensemble", *overrides, "hydra.run.dir=voted"])
        # Run as a program it must not be there already as a module.
        monkeypatch.delitem(sys.modules, "ser.ensemble", raising=False)
        runpy.run_module("ser.ensemble", run_name="__main__")
        return tmp_path / "voted"

    return launch


def ensemble(folders: list[Path], weights: list[float], folder: Path) -> dict:
    result = vote([RunResult.read(run) for run in folders], weights, folder)
    write_result(result)
    return result.metrics


def voted(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv", dtype={"speaker": str})


def test_the_vote_by_hand(run, launch_ensemble, tmp_path: Path, capsys):
    a, b = run("a", seed=1), run("b", seed=2, seconds={"fit": 2.0, "val": 1.0})
    folder = launch_ensemble("runs=[a,b]", "weights=[3,2]")
    expected = (3 * probabilities(1).astype(float) + 2 * probabilities(2).astype(float)) / 5
    found = voted(folder)
    np.testing.assert_allclose(found[[f"p_{name}" for name in CLASSES]], expected, atol=1e-7)
    winners = np.array(CLASSES)[expected.argmax(axis=1)]
    assert found.prediction.tolist() == winners.tolist()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["accuracy"] == np.mean(winners == found.label)
    assert (metrics["runs"], metrics["weights"]) == (["a", "b"], [3, 2])
    assert metrics["seconds"] == {"fit": 3.5, "val": 1.0}
    assert {key: metrics[key] for key in STAMPS} == STAMPS
    names = {"confusion_matrix.png", "per_class_f1.png", "report.txt", "report.html", "split.csv"}
    assert names <= {path.name for path in folder.iterdir()}
    assert (folder / "split.csv").read_text() == (a / "split.csv").read_text()
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    printed = capsys.readouterr()
    assert "test: 24 clips of 4 speakers, protocol holdout." in printed.out
    # Read like any run: compared with a member, and voting again.
    assert compare(RunResult.read(folder), RunResult.read(b))["n"] == 24
    again = tmp_path / "again"
    again.mkdir()
    ensemble([folder, a], [1, 1], again)
    assert len(voted(again)) == 24


def test_a_run_with_itself_and_with_a_weight_of_zero_is_the_run(run, tmp_path: Path):
    a, b = run("a", seed=1), run("b", seed=2)
    for others, weights in (([a, a], [1, 1]), ([a, b], [1, 0]), ([b, a], [0, 0.5])):
        metrics = ensemble(others, weights, tmp_path)
        pd.testing.assert_frame_equal(voted(tmp_path), voted(a), rtol=0, atol=0)
        expected = json.loads((a / "metrics.json").read_text())
        for key in (
            "accuracy",
            "uar",
            "macro_f1",
            "per_class",
            "ci",
            "slices",
            "audit",
            "speakers",
        ):
            assert metrics[key] == expected[key]


def test_neither_order_nor_scale_nor_container_matters(run, tmp_path: Path):
    shuffled = clips("ogg").sample(frac=1, random_state=0)
    a, b, c = run("a", seed=1), run("b", seed=2), run("c", seed=3, table=shuffled)
    ensemble([a, b, c], [3, 2, 1], tmp_path)
    forward = voted(tmp_path).sort_values("sha256", ignore_index=True)
    ensemble([c, b, a], [0.5, 1, 1.5], tmp_path)
    backward = voted(tmp_path).sort_values("sha256", ignore_index=True)
    assert backward.path.str.endswith("ogg").all()
    pd.testing.assert_frame_equal(forward.drop(columns="path"), backward.drop(columns="path"))


def test_the_order_of_a_members_classes_does_not_matter(run, tmp_path: Path):
    a, b = run("a", seed=1), run("b", seed=2)
    ensemble([a, b], [3, 2], tmp_path)
    expected = voted(tmp_path)
    path = b / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"classes": CLASSES[::-1]}))
    ensemble([a, b], [3, 2], tmp_path)
    pd.testing.assert_frame_equal(voted(tmp_path), expected)


def test_stamps_carry_over(run, tmp_path: Path):
    a = run("a")
    for key in ("leaky", "transductive"):
        metrics = ensemble([a, run(key, seed=1, **{key: True})], [1, 1], tmp_path)
        assert metrics[key] is True
        assert key.upper() in (tmp_path / "report.txt").read_text()


def test_pooled_runs_keep_their_folds(run, tmp_path: Path):
    table = clips()
    table["fold"] = pd.array([None if a == "05" else int(a) % 2 for a in table.speaker], "Int64")
    pooled = {"table": table, "fold": "all", "folds": 2}
    runs = [run(name, seed=seed, **pooled) for seed, name in enumerate("ab")]
    (runs[0] / "status.json").unlink()  # as in a multirun that was pooled
    metrics = ensemble(runs, [1, 1], tmp_path)
    found = voted(tmp_path)
    assert found.fold.tolist() == table.fold.dropna().tolist()
    assert found.columns.get_loc("fold") == found.columns.get_loc("prediction") - 1
    right = (found.label == found.prediction).groupby(found.fold).mean()
    accuracy = metrics["over_folds"]["accuracy"]
    assert accuracy["folds"] == right.tolist()
    assert accuracy["sd"] == pytest.approx(right.std())
    other = run("c", **pooled | {"table": table.assign(fold=1 - table.fold)})
    with pytest.raises(
        ValueError, match=r"fold of 24 clips differs in split\.csv: that of ravdess/"
    ):
        ensemble([runs[0], other], [1, 1], tmp_path)


def test_classes_of_emotion_and_gender_are_folded_after_the_vote(run, tmp_path: Path):
    table = clips().assign(label=lambda rows: rows.emotion + "_" + rows.gender)
    classes = [f"{name}_{gender}" for name in CLASSES for gender in ("male", "female")]
    runs = [run(name, seed, table, classes) for seed, name in enumerate("ab")]
    metrics = ensemble(runs, [1, 3], tmp_path)
    mean = (probabilities(0, 6) + 3 * probabilities(1, 6)) / 4
    by_emotion = mean.reshape(24, 3, 2).sum(axis=2)
    right = np.array(CLASSES)[by_emotion.argmax(axis=1)] == table.emotion[:24]
    assert metrics["emotion"]["accuracy"] == right.mean()


def changed(column: str, value: str, row: int = 0) -> pd.DataFrame:
    table = clips()
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"protocol": "random"}, "protocol is holdout in A and random in B: expected runs under"),
        ({"protocol_hash": "0"}, "protocol_hash is 8ff905b8618148a2 in A and 0 in B:"),
        ({"fold": 3}, "fold is 0 in A and 3 in B:"),
        ({"split": "val"}, "split is test in A and val in B:"),
        ({"classes": ["neutral", "calm", "sad"]}, "A knows happy and B does not: expected runs of"),
        (
            {"table": clips().drop(index=[0, 1])},
            "2 clips are in split.csv of A and not of B, such as ravdess/03-01-01-01-01-01-01:",
        ),
        (
            {"table": changed("split", "train")},
            "split of 1 clips differs in split.csv: that of ravdess/03-01-01-01-01-01-01 is test"
            " in A and train in B;",
        ),
        (
            {"table": changed("sha256", "cut", 7)},
            "sha256 of 1 clips differs in split.csv: that of ravdess/03-01-01-01-02-01-02 is",
        ),
        (
            {"table": changed("label", "calm")},
            "label of 1 clips differs in split.csv: that of ravdess/03-01-01-01-01-01-01 is"
            " neutral in A and calm in B;",
        ),
        ({"status": "interrupted"}, "B is interrupted: expected finished runs; run it again first"),
    ],
)
def test_runs_that_differ_are_refused_by_name(run, tmp_path: Path, other: dict, line: str):
    a, b = run("a"), run("b", **other)
    with pytest.raises(ValueError, match="expected") as error:
        ensemble([a, b], [1, 1], tmp_path)
    assert str(error.value).replace(str(a), "A").replace(str(b), "B").startswith(line)
    assert not (tmp_path / "predictions.csv").exists()


def test_clips_scored_by_one_run_alone_are_refused(run, tmp_path: Path):
    a, b = run("a"), run("b")
    lines = (b / "predictions.csv").read_text().splitlines()
    (b / "predictions.csv").write_text("\n".join(lines[:-1]))
    for pair in ([a, b], [b, a]):
        with pytest.raises(ValueError, match=r"1 clips are in predictions\.csv of \S+/a and not"):
            ensemble(pair, [1, 1], tmp_path)


def test_a_damaged_run_is_one_line(run, tmp_path: Path):
    a, b = run("a"), run("b")
    whole = (b / "predictions.csv").read_text()
    lines = whole.splitlines()
    for broken in ([], lines[1:], [*lines[:-1], lines[-1][:-30]], [*lines, lines[-1]]):
        (b / "predictions.csv").write_text("\n".join(broken))
        with pytest.raises(
            ValueError, match=r"^\S+/b/predictions\.csv is damaged \(.*run it again"
        ):
            ensemble([a, b], [1, 1], tmp_path)
    (b / "predictions.csv").write_text(whole)
    metrics = (b / "metrics.json").read_text()
    (b / "metrics.json").write_text('{"protocol": "holdout"}')
    with pytest.raises(
        ValueError, match=r"metrics\.json is damaged \(it lacks 'protocol_version'\)"
    ):
        ensemble([a, b], [1, 1], tmp_path)
    (b / "metrics.json").write_text(metrics)
    (b / "split.csv").unlink()
    with pytest.raises(ValueError, match=r"b holds no split\.csv: expected the folder"):
        ensemble([a, b], [1, 1], tmp_path)


RUNS, WEIGHTS = "expected two run folders or more", "expected 2 numbers from 0 on, one a run"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ((), f"runs=None: {RUNS}"),
        (("runs=a",), f"runs=a: {RUNS}"),
        (("runs=[a]",), f"runs=['a']: {RUNS}"),
        (("runs=[a,nowhere]",), "nowhere holds no metrics.json"),
        (("runs=[a,a]", "weights=[1]"), f"weights=[1]: {WEIGHTS}"),
        (("runs=[a,a]", "weights=1"), f"weights=1: {WEIGHTS}"),
        (("runs=[a,a]", "weights=[2,-1]"), f"weights=[2, -1]: {WEIGHTS}"),
        (("runs=[a,a]", "weights=[0,0.0]"), f"weights=[0, 0.0]: {WEIGHTS}"),
        (("runs=[a,a]", "weights=[nan,1]"), f"weights=[nan, 1]: {WEIGHTS}"),
        (("runs=[a,a]", f"weights=[1{'0' * 400},1]"), f"weights=[1{'0' * 400}, 1]: {WEIGHTS}"),
        (("runs=[a,a]", "weights=[more,1]"), f"weights=['more', 1]: {WEIGHTS}"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(run, launch_ensemble, tmp_path, overrides, line):
    run("a")
    with pytest.raises(SystemExit) as end:
        launch_ensemble(*overrides)
    assert end.value.code == 1
    status = json.loads((tmp_path / "voted" / "status.json").read_text())
    assert status["status"] == "failed"
    assert status["error"].startswith(line)


def test_the_scale_of_the_weights_is_free(run, tmp_path: Path):
    runs = [run("a", seed=1), run("b", seed=2)]
    tables = []
    for weights in ([3, 2], [1.5e308, 1e308], [3 * 2**-1074, 2**-1073]):
        ensemble(runs, weights, tmp_path)
        tables.append((tmp_path / "predictions.csv").read_bytes())
    assert tables[0] == tables[2]
    assert b"nan" not in tables[1]
    pd.testing.assert_frame_equal(*(pd.read_csv(BytesIO(table)) for table in tables[:2]))


@pytest.mark.slow
def test_cross_validations_and_evaluations_vote(launch, launch_ensemble, small: list[str]):
    kfold = ("protocol=kfold", "protocol.folds=2", "fold=all")
    data = (*small, "data.roles={tess: off}")
    run = launch("train", *data, "model=logistic", *kfold)
    folder = launch_ensemble(f"runs=[{run},{run}]")
    together, alone = (json.loads((at / "metrics.json").read_text()) for at in (folder, run))
    assert together.keys() - alone.keys() == {"runs", "weights"}
    # An average of folds that have a temperature each has none.
    for key in alone.keys() - {"seconds", "ece", "over_folds", "calibration", "selective"}:
        assert together[key] == alone[key]
    for key, value in alone["over_folds"]["uar"].items():
        assert together["over_folds"]["uar"][key] == pytest.approx(value)
    fold = run / "fold_0"
    checkpoint = f"ckpt={fold / 'checkpoints' / 'best.ckpt'}"
    scored = launch("eval", checkpoint, folder="eval", logger="none")
    folder = launch_ensemble(f"runs=[{scored},{fold}]", "weights=[3,2]", "overwrite=true")
    expected = voted(fold).drop(columns=["temperature", "unsure"])
    pd.testing.assert_frame_equal(voted(folder), expected)
