"""Whole runs on the embedded corpus."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.metrics import balanced_accuracy_score

FILES = {
    "split.csv", "predictions.csv", "metrics.json", "report.txt", "report.html", "status.json",
    "confusion_matrix.png", "per_class_f1.png", "train.log", ".hydra", "checkpoints",
}  # fmt: skip
CURVES = {"learning_curves.png", "metrics.csv"}


def read(folder: Path) -> dict:
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["seconds"]
    return metrics


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("computed again")


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("model", ["cnn", "svm"])
def test_a_run_is_complete_and_its_checkpoint_scores_the_same(
    launch: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    few: Path,
    model: str,
):
    run = request.getfixturevalue(f"{model}_run")
    expected = FILES | (CURVES if model == "cnn" else set())
    assert expected <= {path.name for path in run.iterdir()}
    assert all(path.stat().st_size > 5000 for path in run.glob("*.png"))
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    metrics = read(run)
    rows = pd.read_csv(run / "predictions.csv")
    assert metrics["uar"] == pytest.approx(balanced_accuracy_score(rows.label, rows.prediction))
    assert metrics["audit"]["passed"]
    assert metrics["uar"] > (0.15 if model == "cnn" else 0.5)
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["hyper_parameters"]["classes"] == metrics["classes"]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    again = launch("eval", ckpt, folder="again", logger="none")
    assert read(again) == metrics
    if model == "cnn":
        return  # the rest is alike
    validation = launch("eval", ckpt, "split=val", folder="val", logger="none")
    assert read(validation)["split"] == "val"
    assert not set(read(validation)["speakers"]) & set(metrics["speakers"])

    moved = tmp_path / "moved"
    shutil.copytree(few, moved)
    there = launch("eval", ckpt, f"data.root={moved}", folder="there", logger="none")
    assert read(there) == metrics
    assert {"split.csv", "predictions.csv", "report.html"} <= {
        path.name for path in there.iterdir()
    }


def test_a_second_run_decodes_and_computes_nothing_again(
    cnn_run: Path, small: list[str], launch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ser.audio.clips._decode_all", refuse)
    monkeypatch.setattr("ser.data.loading.ClipReader._computed_rows", refuse)
    overrides = ["experiment=drop_sad", "data.merge={calm: neutral}"]
    run = launch("train", *small, "trainer.max_epochs=1", *overrides)
    metrics = read(run)
    assert metrics["classes"] == ["neutral", "happy", "angry", "fearful", "disgust", "surprised"]
    assert len(metrics["per_class"]) == 6
    rows = pd.read_csv(run / "predictions.csv")
    assert not {"p_sad", "p_calm"} & {*rows}
    assert not {"sad", "calm"} & {*rows.label, *rows.prediction}
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["hyper_parameters"]["classes"] == metrics["classes"]
    assert content["state_dict"]["network.head.1.bias"].shape == (6,)


def test_classes_are_merged_by_name(small: list[str], launch: Callable[..., Path]):
    run = launch("train", *small, "model=svm", "data.merge={calm: neutral}", "data.drop=[sad]")
    metrics = read(run)
    assert metrics["classes"] == ["neutral", "happy", "angry", "fearful", "disgust", "surprised"]
    rows = pd.read_csv(run / "predictions.csv")
    assert set(rows.emotion[rows.label == "neutral"]) == {"neutral", "calm"}
    assert (
        metrics["per_class"]["neutral"]["support"] == rows.emotion.isin(["neutral", "calm"]).sum()
    )
    again = launch("eval", f"ckpt={run / 'checkpoints' / 'best.ckpt'}", folder="a", logger="none")
    assert read(again) == metrics


def test_the_same_seed_gives_the_same_numbers(
    cnn_run: Path, small: list[str], launch: Callable[..., Path]
):
    first = read(cnn_run)
    assert read(launch("train", *small, "trainer.max_epochs=2", folder="again")) == first
    other = read(launch("train", *small, "trainer.max_epochs=2", "seed=1", folder="other"))
    assert other["uar"] != first["uar"]
    assert other["speakers"] == first["speakers"]


def test_a_random_split_is_stamped(
    small: list[str], launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    run = launch("train", *small, "model=svm", "protocol=random")
    metrics = read(run)
    assert metrics["leaky"]
    assert metrics["audit"]["speakers_shared"]
    assert "LEAKY" in capfd.readouterr().out
    assert "LEAKY" in (run / "report.html").read_text()
    assert (run / "report.txt").read_text().startswith("LEAKY")
    assert pd.read_csv(run / "predictions.csv").leaky.all()
    assert pd.read_csv(run / "split.csv").leaky.all()
    logged = set(pd.read_csv(run / "metrics.csv")) - {"step", "epoch"}
    assert "leaky-test/uar" in logged
    assert all(key.startswith("leaky-") for key in logged)
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["ser"]["stamps"]["leaky"]
    assert content["ser"]["stamps"]["protocol_hash"] == metrics["protocol_hash"]


@pytest.mark.slow
def test_what_is_normalised_by_speaker_is_stamped(
    small: list[str], few: Path, launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    for name, choice in (("svm", ["model=svm"]), ("cnn", ["channel=none", "trainer.max_epochs=1"])):
        run = launch("train", *small, *choice, "normalize=speaker", folder=name)
        metrics = read(run)
        assert metrics["transductive"]
        assert not metrics["leaky"]
        assert "TRANSDUCTIVE" in capfd.readouterr().out
        ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
        again = launch("eval", ckpt, folder=f"again {name}", logger="none")
        assert read(again) == metrics
    with pytest.raises(SystemExit):
        launch("eval", ckpt, f"input={few / 'Actor_01'}", folder="input", logger="none")
    assert "a recording does not say who speaks" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        launch("train", *small, "normalize=speaker", folder="channel")
    assert "made of: expected channel=none" in capfd.readouterr().err


def test_a_role_that_is_not_the_usual_is_part_of_the_protocols_name(
    small: list[str], launch: Callable[..., Path]
):
    two = ("experiment=tess_speakers", "fold=1", "model=logistic")
    metrics = read(launch("train", *small, *two))
    assert metrics["protocol"] == "loso, ravdess val, tess split"
    assert metrics["speakers"] == ["tess/YAF"]
    assert "calm" not in metrics["classes"]
    assert metrics["ci"]["uar"] is None
    assert not metrics["leaky"]


def test_recordings_of_any_kind_are_scored(
    cnn_run: Path,
    launch: Callable[..., Path],
    tmp_path: Path,
    few: Path,
    capfd: pytest.CaptureFixture,
):
    scored = pd.read_csv(cnn_run / "predictions.csv")
    columns = [name for name in scored if name.startswith("p_")]
    folder = tmp_path / "recordings"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for path in scored.path.head(3):
        shutil.copy(few / path, folder)
    shutil.copy(few / scored.path[0], folder / "deep")  # no merging by name
    soundfile.write(folder / "long.wav", generator.normal(0, 0.1, (80000, 2)), 8000)
    soundfile.write(folder / "tenth.flac", generator.normal(0, 0.1, 4410), 44100)
    (folder / "broken.wav").write_text("no audio")
    (folder / "notes.txt").write_text("no audio either")
    ckpt = f"ckpt={cnn_run / 'checkpoints' / 'best.ckpt'}"
    with pytest.raises(SystemExit) as end:
        launch("eval", ckpt, f"input={folder}", folder="many", logger="none")
    assert end.value.code == 1
    rows = pd.read_csv(tmp_path / "many" / "predictions.csv")
    assert list(rows) == ["path", "start", "end", "prediction", *columns, "error"]
    assert len(rows) == 7
    by_name = rows.set_index(rows.path.str.removeprefix(f"{folder}/"))
    assert "not readable" in by_name.error["broken.wav"]
    assert by_name[columns].loc["broken.wav"].isna().all()
    assert by_name.error.drop("broken.wav").isna().all()
    assert by_name.end["long.wav"] - by_name.start["long.wav"] == pytest.approx(10, abs=0.01)
    assert "6 of 7 recordings scored, 1 not read" in capfd.readouterr().out
    skipped = launch(
        "eval", ckpt, f"input={folder}", "data.on_error=skip", folder="skipped", logger="none"
    )
    assert pd.read_csv(skipped / "predictions.csv").equals(rows)
    assert "1 of 7 recordings could not be read" in capfd.readouterr().err
    for index, path in enumerate(scored.path.head(3)):
        alone = by_name.loc[Path(path).name, columns].to_numpy(float)
        together = scored.loc[index, columns].to_numpy(float)
        assert np.abs(alone - together).max() < 1e-5

    with pytest.raises(SystemExit):
        launch("eval", ckpt, f"input={folder / 'broken.wav'}", folder="none", logger="none")
    (broken,) = pd.read_csv(tmp_path / "none" / "predictions.csv").to_dict("records")
    assert "not readable" in broken["error"]

    one = launch("eval", ckpt, f"input={folder / 'tenth.flac'}", folder="one", logger="none")
    single = pd.read_csv(one / "predictions.csv")
    found = single[columns].to_numpy(float) - by_name.loc[["tenth.flac"], columns].to_numpy(float)
    assert np.abs(found).max() < 1e-5


@pytest.mark.slow
def test_clips_that_cannot_be_read_stop_a_run_or_are_counted(
    launch: Callable[..., Path], tmp_path: Path, few: Path, capfd: pytest.CaptureFixture
):
    root = tmp_path / "damaged"
    shutil.copytree(few, root)
    broken = sorted(root.rglob("03-01-05*.wav"))[::10]
    for path in broken:
        path.write_bytes(path.read_bytes()[:1000])
    given = ["data=demo", f"data.root={root}", "model=svm"]
    with pytest.raises(SystemExit) as end:
        launch("train", *given)
    assert end.value.code == 1
    *listed, last = capfd.readouterr().err.strip().splitlines()
    assert sum("not read: " in line for line in listed) == len(broken)
    assert f"{len(broken)} of 232 recordings below" in last
    assert "leave them out with data.on_error=skip" in last
    assert not (tmp_path / "run" / "split.csv").exists()

    run = launch("train", *given, "data.on_error=skip", folder="skipped")
    metrics = read(run)
    left_out = f"{len(broken)} recordings cannot be read and were left out."
    assert left_out in capfd.readouterr().out
    assert left_out in (run / "report.html").read_text()
    names = [path.relative_to(root).as_posix() for path in broken]
    assert list(metrics["audit"]["unreadable"]) == names
    assert all(f"{name}: is cut off" in (run / "report.txt").read_text() for name in names)
    assert (run / "train.log").read_text().count("not read: ") == len(broken)
    assert not set(names) & set(pd.read_csv(run / "split.csv").path)
    ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    assert read(launch("eval", ckpt, folder="again", logger="none")) == metrics
    with pytest.raises(SystemExit):
        launch("eval", ckpt, "data.on_error=raise", folder="raised", logger="none")
    assert "leave them out with data.on_error=skip" in capfd.readouterr().err


def test_a_checkpoint_scores_what_is_left_and_says_what_is_not(
    svm_run: Path,
    launch: Callable[..., Path],
    tmp_path: Path,
    few: Path,
    capfd: pytest.CaptureFixture,
):
    ckpt = f"ckpt={svm_run / 'checkpoints' / 'best.ckpt'}"
    first, *others = read(svm_run)["speakers"]
    left = tmp_path / "data"
    for number in (speaker.partition("/")[2] for speaker in others):
        shutil.copytree(few / f"Actor_{number}", left / f"Actor_{number}")
    altered = next(left.rglob("*.wav"))
    samples, rate = soundfile.read(altered)
    soundfile.write(altered, samples / 2, rate)
    capfd.readouterr()
    partial = read(launch("eval", ckpt, f"data.root={left}", folder="some", logger="none"))
    assert partial["speakers"] == others
    shown = capfd.readouterr().err
    assert "17 test clips are missing" in shown
    assert f"1 test clips sound different now, such as ravdess/{altered.stem}" in shown
    assert partial["audit"]["passed"] is None
    unknown = "Whether the leak audit passes is unknown: 1 test clips sound different from those"
    assert unknown in (tmp_path / "some" / "report.txt").read_text()
    altered.unlink()
    partial = read(launch("eval", ckpt, f"data.root={left}", folder="rest", logger="none"))
    # The training clips are not there: the checkpoint says who and what they were.
    whole = read(svm_run)["audit"]
    assert partial["audit"] == whole | {"speakers": whole["speakers"] | {"test": others}}
    strangers = pd.read_csv(svm_run / "split.csv", dtype=str).query("split == 'train'").path
    for override, line in (
        (f"data.root={(few / strangers.iloc[0]).parent}", "holds none of the 68 clips"),
        (f"data.root={left / f'Actor_{first[-2:]}'}", "is not a folder"),
        ("split=tset", "expected 'val' or 'test'"),
    ):
        with pytest.raises(SystemExit):
            launch("eval", ckpt, override, folder="none", logger="none")
        assert line in capfd.readouterr().err


def test_training_clips_under_the_names_of_test_clips_are_not_scored(
    svm_run: Path,
    launch: Callable[..., Path],
    tmp_path: Path,
    few: Path,
    capfd: pytest.CaptureFixture,
):
    ckpt = f"ckpt={svm_run / 'checkpoints' / 'best.ckpt'}"
    rows = pd.read_csv(svm_run / "split.csv", dtype=str)
    trained, tested = (rows[rows.split == name].path for name in ("train", "test"))
    (tmp_path / "data").mkdir()
    shutil.copy(few / trained.iloc[0], tmp_path / "data" / Path(tested.iloc[0]).name)
    with pytest.raises(SystemExit):
        launch("eval", ckpt, f"data.root={tmp_path / 'data'}", folder="copies", logger="none")
    assert "hold the same samples" in capfd.readouterr().err
    launch("eval", ckpt, f"input={tmp_path / 'data'}", folder="input", logger="none")
    line = "1 of 1 recordings are training or validation clips of the checkpoint"
    assert line in capfd.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.drop=[sat]"], "unknown emotion 'sat'.*did you mean 'sad'"),
        (["data.root=/nowhere"], "data.root='/nowhere' is not a folder"),
        (["data=demo", "data.tess=test"], "data.tess=test is no key any more.*cross_corpus"),
        (["data=demo", "data.roles={tess: tset}"], "data.roles.tess='tset': expected 'split'"),
        (["data=demo", "data.roles={iemocap: test}"], "data.roles names 'iemocap': expected"),
        (["data=demo", "data.roles={ravdess: train}"], "no clip would test"),
        (["data=demo", "model=svm", "+trainer.max_epochs=3"], "fitted once and has no epochs"),
        (["data=demo", "trainer.max_epochs=0"], "no epoch was finished"),
        (["data=demo", "optimizer.lr=1e30", "trainer.max_epochs=1"], "lower optimizer.lr"),
        (["data=demo", "data.corpora=[tess]"], "holdout needs at least 3 speakers, got"),
        (["data=demo", "protocol=given"], "takes the column split of a manifest"),
        (["data=demo", "protocol=luna5", "fold=all", "data.root=/nowhere"], "is not a folder"),
        (
            ["data=demo", "protocol=sequential6", "fold=all"],
            "fold 3 of protocol=sequential6 is emp",
        ),
        (
            ["data=demo", "protocol=cross_corpus", "data.roles={tess: test}"],
            "protocol=cross_corpus says itself what each corpus is for",
        ),
        (["data=demo", "model=svm", "select=cnn_learning_rate"], "sets optimizer.lr=0.001, which"),
        (["data=demo", "model=svm", "select=leakage_gap"], "which changes protocol"),
        (["data=demo", "fold=1"], "fold=1: expected 0 or all"),
        (["data=demo", "select=svm", "model=svm"], "select='svm'.*svm_regularisation"),
    ],
)
def test_an_error_of_the_user_is_one_line(
    launch: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
    overrides: list[str],
    line: str,
):
    with pytest.raises(SystemExit) as end:
        launch("train", *overrides)
    assert end.value.code == 1
    shown = capfd.readouterr().err.strip().splitlines()
    assert re.search(line, shown[-1])
    assert "Traceback" not in "".join(shown)
    if not (tmp_path / "run").exists():
        return  # refused before anything was written
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert status["error"] == shown[-1]
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()
