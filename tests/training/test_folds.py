"""Cross-validations on the embedded corpus."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from omegaconf import DictConfig, OmegaConf
from sklearn.metrics import balanced_accuracy_score, f1_score

from ser import experiment
from ser.evaluation.results import pool
from ser.evaluation.status import KEPT, held_run
from ser.training import folds, restart


def read(folder: Path) -> dict:
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["seconds"]
    return metrics


@pytest.fixture(scope="module")
def three(small: list[str]) -> list[str]:
    """Three folds of a third of the embedded corpus."""
    return [*small, "model=svm", "protocol=kfold", "protocol.folds=3"]


@pytest.fixture(scope="module")
def whole(three: list[str], finish: Callable[..., Path]) -> Path:
    """A finished cross-validation, which stays as it is."""
    return finish(*three, "fold=all")


def test_folds_are_runs_and_their_pool_is_one(
    whole: Path, three: list[str], launch: Callable[..., Path]
):
    metrics = read(whole)
    rows = pd.read_csv(whole / "predictions.csv", dtype={"speaker": str})
    assert metrics["n"] == len(rows) == rows.path.nunique() == 204
    assert metrics["uar"] == pytest.approx(balanced_accuracy_score(rows.label, rows.prediction))
    assert metrics["macro_f1"] == pytest.approx(
        f1_score(rows.label, rows.prediction, average="macro")
    )
    assert metrics["speakers"] == [f"ravdess/{speaker:02}" for speaker in range(1, 13)]
    assert (metrics["fold"], metrics["folds"]) == ("all", 3)
    assert metrics["audit"]["passed"]
    parts = [read(whole / f"fold_{fold}") for fold in range(3)]
    assert metrics["over_folds"]["uar"]["folds"] == [part["uar"] for part in parts]
    assert metrics["over_folds"]["uar"]["mean"] == pytest.approx(
        sum(part["uar"] for part in parts) / 3
    )
    assert {part["protocol_hash"] for part in parts} == {metrics["protocol_hash"]}
    for fold, of_fold in rows.groupby("fold"):
        own = pd.read_csv(whole / f"fold_{fold}" / "predictions.csv", dtype={"speaker": str})
        assert of_fold.drop(columns="fold").reset_index(drop=True).equals(own)
    splits = pd.read_csv(whole / "split.csv", dtype={"speaker": str})
    assert splits.path.is_unique
    assert (splits.fold.isna() == (splits.corpus == "tess")).all()
    files = {path.name for path in (whole / "fold_0").iterdir()}
    assert {".hydra", "checkpoints", "train.log", "status.json", "report.html"} <= files
    assert (whole / "report.html").read_text().count("<audio") == 24
    card = ModelCard.load(whole / "model_card.md")
    assert metrics["uar"] in [one.metric_value for one in card.data.eval_results]
    assert "each clip scored by the model that never heard its fold" in card.text
    status = json.loads((whole / "status.json").read_text())
    of_folds = [
        json.loads((whole / f"fold_{fold}" / "status.json").read_text())["objective"]
        for fold in range(3)
    ]
    assert status["objective"] == pytest.approx(sum(of_folds) / 3)

    alone = launch("train", *three, "fold=1", folder="alone")
    assert read(alone) == parts[1]


@pytest.mark.slow
def test_what_is_finished_is_kept_and_the_rest_runs_again(
    whole: Path,
    three: list[str],
    launch: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
):
    whole = Path(shutil.copytree(whole, tmp_path / "whole"))
    metrics = read(whole)
    stamps = {fold: (whole / f"fold_{fold}" / "metrics.json").stat().st_mtime_ns for fold in (0, 2)}
    status = whole / "fold_1" / "status.json"
    status.write_text(status.read_text().replace("finished", "running"))  # as a killed one leaves
    capfd.readouterr()
    assert read(launch("train", *three, "fold=all", folder="whole")) == metrics
    shown = capfd.readouterr().err
    assert "fold 0 is there already" in shown
    assert "fold 1 trains" in shown
    for fold, stamp in stamps.items():
        assert (whole / f"fold_{fold}" / "metrics.json").stat().st_mtime_ns == stamp
    with pytest.raises(SystemExit):
        launch("train", *three, "fold=all", "seed=1", folder="whole")
    shown = capfd.readouterr().err
    assert "fold_0 was run with seed: 0, not 1: expected the settings it began with" in shown
    # Nothing of what was there is lost, and what scores nothing may differ.
    assert read(whole) == metrics
    assert json.loads((whole / "status.json").read_text())["status"] == "finished"
    launch("train", *three, "fold=all", folder="whole", logger="none")
    assert "fold 2 is there already" in capfd.readouterr().err


@pytest.mark.slow
def test_jobs_of_a_sweep_over_folds_pool_to_the_same(
    whole: Path,
    three: list[str],
    launch: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
):
    sweep = tmp_path / "sweep"
    launch("train", "-m", *three, "fold=0,1,2", f"hydra.sweep.dir={sweep}")
    monkeypatch.setattr(sys, "argv", ["summary", f"pool={sweep}"])
    monkeypatch.delitem(sys.modules, "ser.summary", raising=False)
    runpy.run_module("ser.summary", run_name="__main__")
    assert "3 folds pooled" in capfd.readouterr().out
    assert read(sweep) == read(whole)
    for name in ("predictions.csv", "split.csv"):
        assert (sweep / name).read_text() == (whole / name).read_text()
    report = (whole / "report.txt").read_text()  # which knows the corpora too
    assert (sweep / "report.txt").read_text().startswith(report.partition("beside")[0].rstrip())

    def altered(name: str, old: str, new: str, line: str) -> None:
        path = sweep / "1" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=line):
            pool(sweep)
        path.write_text(text)

    altered(".hydra/config.yaml", "C: 10.0", "C: 1.0", r"1 was run with model.*as 0")
    for key, old, new in (("transductive", "false", "true"), ("folds", "3", "4")):
        line = rf"{key} is .* in \S+/0 and .* in \S+/1"
        altered("metrics.json", f'"{key}": {old}', f'"{key}": {new}', line)
    digest = pd.read_csv(sweep / "1" / "split.csv").sha256[0]
    altered("split.csv", digest, "0" * 64, "1 clips changed between the folds")
    altered("split.csv", ",05,", ",13,", "1 and 0 know different speakers")
    lines = {
        name: (sweep / "1" / name).read_text().splitlines(True)
        for name in ("split.csv", "predictions.csv")
    }
    altered("split.csv", lines["split.csv"][1], "", "1 lacks 1 clips of the other folds, such as")
    altered("predictions.csv", lines["predictions.csv"][1], "", "1 clips are scored but not test")
    altered("status.json", "finished", "failed", "1 is failed: expected finished runs")
    status = sweep / "1" / "status.json"
    status.unlink()
    with pytest.raises(ValueError, match=r"folds \[1\] of protocol kfold are missing"):
        pool(sweep)


def test_a_pool_takes_one_run_a_fold(whole: Path, tmp_path: Path):
    sweep = tmp_path / "sweep"
    for job in ("0", "1"):
        shutil.copytree(whole / "fold_0", sweep / job)
    with pytest.raises(ValueError, match="fold 0 is there twice, in 0 and 1"):
        pool(sweep)
    with pytest.raises(ValueError, match="holds no runs"):
        pool(sweep / "0")
    shutil.copytree(sweep / "0", sweep / "0" / "1")
    with pytest.raises(ValueError, match=r"holds a run of its own \(fold 0\)"):
        pool(sweep / "0")


def test_a_pool_has_heard_what_one_of_its_folds_has(whole: Path, tmp_path: Path):
    run = shutil.copytree(whole, tmp_path / "run")
    path = run / "fold_1" / "metrics.json"
    path.write_text(path.read_text().replace('"exposed": false', '"exposed": true'))
    pooled = pool(run, "fold_*")
    assert pooled.metrics["exposed"]
    assert not pooled.metrics["leaky"]


def test_what_a_folder_held_is_gone_before_the_first_fold(
    three: list[str],
    launch: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for part in ("", "fold_0", "fold_5", "candidate_1", "7", "notes"):
        folder = tmp_path / "run" / part
        for name in (*KEPT, ".hydra/config.yaml"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("content")
        (folder / "status.json").write_text('{"status": "finished"}')
    before = held_run(tmp_path / "run")

    def train(cfg: DictConfig) -> float:
        folder = Path(cfg.folder)
        parts = sorted(path.parent.name for path in folder.parent.glob("*/status.json"))
        assert parts == ["7", "notes"]
        assert held_run(folder.parent) == "an unfinished run (7)"
        raise ValueError("seen")

    monkeypatch.setattr(experiment, "train_fold", train)
    for wrong, line in (("protocol.folds=99", "99"), ("seed=0", "seen")):
        assert held_run(tmp_path / "run") == before
        with pytest.raises(SystemExit):
            launch("train", *three, "fold=all", "overwrite=true", wrong)
        assert line in (tmp_path / "run" / "train.log").read_text()
    with pytest.raises(ValueError, match="holds no runs"):
        pool(tmp_path / "run", "fold_*")


def test_only_what_may_be_kept_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "fold_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "fold_0" / "checkpoints" / "last.ckpt").touch()
    recipe = {"folder": str(tmp_path / "fold_0"), "seed": 0}
    loaded = SimpleNamespace(config=recipe)
    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(tmp_path)))
    monkeypatch.setattr(folds.HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(restart, "load_checkpoint", lambda *_, **__: loaded)

    def find(**given: object) -> object:
        base = {"resume": None, "resume_sweep": None, "select": None}
        base |= {"refit": False, "overwrite": False}
        return restart.find(OmegaConf.create(recipe | base | given), recipe)

    assert find() is loaded
    assert find(overwrite=True) is None
    assert find(overwrite=True, resume="last.ckpt") is loaded
    hydra.runtime.output_dir = recipe["folder"]
    assert find() is None
    assert find(select="svm_regularisation") is loaded
    assert find(refit=True) is loaded
    assert find(select="svm_regularisation", overwrite=True) is None


@pytest.mark.slow
def test_protocols_are_swept_with_all_their_folds(
    small: list[str], launch: Callable[..., Path], tmp_path: Path
):
    sweep = tmp_path / "sweep"
    swept = (*small, "model=svm", "protocol=sequential6,luna5", "fold=all")
    with pytest.raises(SystemExit):  # speakers 13 to 24 are not in the embedded corpus
        launch("train", "-m", *swept, f"hydra.sweep.dir={sweep}")
    broken, fine = json.loads((sweep / "summary.json").read_text())
    assert "fold 3 of protocol=sequential6 is empty" in broken["error"]
    assert not (sweep / "0" / "fold_0").exists()  # said before any time is spent
    assert fine["status"] == "finished"
    assert fine["uar"] == read(sweep / "1")["uar"]
