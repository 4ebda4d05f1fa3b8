"""The systems of others, as presets: each runs, scores the same again, and has its row."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from lightning import Trainer
from omegaconf import OmegaConf

from ser.analysis.published import Scored, collect_scores
from ser.checkpoints.format import load_checkpoint
from ser.checkpoints.source import open_data
from ser.training.fit import score

CONF = Path(__file__).parents[2] / "conf"
QUICK = ("knn", "ravtess_conv1d", "source_mfcc_cnn")
"""A classical model, a network over vectors and one over planes; the others are slow."""
PRESETS = [
    pytest.param(path.stem, marks=[pytest.mark.slow] * (path.stem not in QUICK))
    for path in sorted((CONF / "experiment").glob("*.yaml"))
    # Of nobody else: see test_committee and test_experiment.
    if path.stem not in ("best_from_scratch", "tess_speakers")
]


LARGE = {"gender_split", "pca_cnn"}
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


def read(folder: Path) -> dict:
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["seconds"]
    return metrics


def shorter(preset: str) -> list[str]:
    """What makes a preset's run small enough for a test."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"experiment={preset}"])
    overrides = ["data.keep=[neutral,sad,happy,angry]", "data.modality=[audio]"]
    if "max_epochs" in cfg.trainer:
        overrides += ["trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    if cfg.frontend._target_.endswith("MelImage"):
        size = 75 if preset == "inception" else 32
        overrides += [f"frontend.size={size}", "model.network.pretrained=false"]
    voters = {f"voters.{name}": voter for name, voter in cfg.get("voters", {}).items()}
    for key, estimator in (voters or {"model.estimator": cfg.model.get("estimator", {})}).items():
        if "n_estimators" in estimator:
            overrides.append(f"{key}.n_estimators=5")
        if "MLPClassifier" in str(estimator):
            overrides.append(f"{key}._args_.1.hidden_layer_sizes=[20]")
        if "batch_size" in str(estimator):
            overrides.append(f"{key}._args_.1.batch_size=32")
    return overrides


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs_and_its_checkpoint_scores_the_same(
    launch: Callable[..., Path], small: list[str], cache: Path, preset: str
):
    # Some ask for more clips: a share of each class, or as many as components.
    data = ["data=demo"] if preset in LARGE else small
    run = launch("train", *data, f"experiment={preset}", *shorter(preset))
    loaded = load_checkpoint(run / "checkpoints" / "best.ckpt")
    scored = open_data(loaded, None, str(cache), "test")
    trainer = Trainer(accelerator="cpu", **QUIET)
    again = score(loaded.model, scored, trainer, "test", loaded.calibration, 0.2)
    assert again.to_csv(index=False) == (run / "predictions.csv").read_text()
    assert ("emotion" in read(run)) == (loaded.config["data"].get("target") == "emotion_gender")


def test_what_could_not_be_measured_says_why(launch: Callable[..., Path], tmp_path: Path):
    presets = ["data=demo", "experiment=tree,knn", "protocol=kfold", "data.drop=[sat]"]
    with pytest.raises(SystemExit):
        launch("train", "sweep=sources", *presets, f"hydra.sweep.dir={tmp_path}", logger="none")
    with (tmp_path / "sources.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["preset"] for row in rows] == ["tree", "knn"]
    assert all("not measured: unknown emotion 'sat'" in row["note"] for row in rows)


@pytest.mark.slow
def test_a_row_holds_the_metric_that_its_source_reports(
    launch: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
):
    sweep = tmp_path / "sweep"
    overrides = ["data=demo", "experiment=knn,logistic", "protocol=random,kfold"]
    overrides += ["++protocol.folds=2", f"hydra.sweep.dir={sweep}"]
    launch("train", "sweep=sources", *overrides, logger="none")
    with (sweep / "sources.csv").open() as file:
        knn, logistic = csv.DictReader(file)
    jobs = [read(sweep / str(job)) for job in range(4)]
    assert [job["leaky"] for job in jobs] == [True, True, False, False]
    assert (knn["metric"], float(knn["published"])) == ("accuracy", 0.55)
    assert float(knn["random"]) == jobs[0]["accuracy"]
    assert [float(knn["disjoint_low"]), float(knn["disjoint_high"])] == jobs[2]["ci"]["accuracy"]
    assert (logistic["published"], logistic["protocol"]) == ("0.68", "kfold")
    assert float(logistic["disjoint"]) == jobs[3]["accuracy"]
    lines = (sweep / "sources.md").read_text().splitlines()
    assert lines[2].startswith(f"| knn | accuracy | 0.55 | {jobs[0]['accuracy']:.3f} [")
    assert "0.55" in capfd.readouterr().out
    assert "(LEAKY)" in lines[0]


def scored(preset: str, leaky: bool, accuracy: float | None, published: dict) -> Scored:
    metrics = {"leaky": leaky, "protocol": "random" if leaky else "kfold", "accuracy": accuracy}
    metrics |= {"macro_f1": 0.5, "ci": {"accuracy": [0.1, 0.9], "macro_f1": None}}
    error = "no weights" if accuracy is None else None
    return Scored(preset, published, Path(preset), metrics if accuracy else None, error)


def test_each_published_metric_has_a_row_and_no_run_takes_the_place_of_another():
    both = {"accuracy": 0.8, "macro_f1": 0.7, "note": "shorter"}
    runs = [scored("a", True, 0.6, both), scored("a seed=1", True, 0.2, {"accuracy": 0.8})]
    runs += [scored("a", False, 0.5, both), scored("b", True, None, {"accuracy": 0.9})]
    a, macro, seed, b = collect_scores(runs)
    assert (a["random"], a["disjoint"], a["published"], a["note"]) == (0.6, 0.5, 0.8, "shorter")
    assert (macro["metric"], macro["random"], macro["random_low"]) == ("macro_f1", 0.5, None)
    assert (seed["preset"], seed["random"], seed["disjoint"]) == ("a seed=1", 0.2, None)
    assert (b["random"], b["note"]) == (None, "not measured: no weights")


@pytest.mark.slow
def test_a_vote_is_a_row_and_every_preset_is_in_the_sweep(
    launch: Callable[..., Path], small: list[str], tmp_path: Path
):
    sweep = OmegaConf.load(CONF / "sweep" / "sources.yaml").hydra
    swept = {name.strip() for name in sweep.sweeper.params.experiment.split(",")}
    assert swept == {param.values[0] for param in PRESETS} - {"drop_sad"}
    vote = "{members: {tree: 1, ravtess_tree: 3}, published: {accuracy: 0.5}}"
    overrides = [*small, "protocol=kfold", "data.roles={tess: train}"]
    overrides += ["experiment=tree,ravtess_tree"]
    overrides += ["++protocol.folds=2", "data.target=emotion", "data.corpora=[ravdess,tess]"]
    overrides += [f"+hydra.callbacks.sources.votes.both={vote}", f"hydra.sweep.dir={tmp_path}"]
    launch("train", "sweep=sources", *overrides, logger="none")
    with (tmp_path / "sources.csv").open() as file:
        *_, both = csv.DictReader(file)
    assert (both["preset"], both["published"]) == ("both", "0.5")
    assert float(both["disjoint"]) == read(tmp_path / "both_kfold")["accuracy"]
