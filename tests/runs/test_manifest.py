"""Recordings of one's own: a manifest is trained on, cross-validated, scored again and resumed."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from ser.audio.decode import decode
from ser.checkpoints.format import load_checkpoint
from ser.checkpoints.source import open_data

RATE = 16000
SPEAKERS = ("ann", "bob", "cat", "dan", "eve", "fay")
LABELS = {"glee": 1.5, "gloom": 0.7}
"""By label, what multiplies the pitch."""
QUICK = ["window.seconds=0.5", "trainer.max_epochs=1"]
FOLDS = ["protocol=kfold", "protocol.folds=3", "protocol.val_speakers=1"]


def tone(speaker: int, label: str, take: int) -> np.ndarray:
    """A tone of a speaker's own pitch and of a label, in noise, (samples,) at `RATE`."""
    generator = np.random.default_rng([speaker, len(label), take])
    time = np.arange(round(0.6 * RATE)) / RATE
    pitch = (200 + 20 * speaker) * LABELS[label] * generator.uniform(0.95, 1.05)
    return 0.3 * np.sin(2 * np.pi * pitch * time) + generator.normal(0, 0.01, len(time))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Sixty clips of six speakers under invented names, and the table that says what they are."""
    folder = tmp_path / "mine"
    (folder / "takes").mkdir(parents=True)
    rows = ["path,label,speaker"]
    for (number, speaker), label, take in product(enumerate(SPEAKERS), LABELS, range(5)):
        name = f"takes/x{len(rows):02}.flac"
        soundfile.write(folder / name, tone(number, label, take), RATE)
        rows.append(f"{name},{label},{speaker}")
    assert len(rows) == 61
    path = folder / "clips.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """The same clips one after another in two files, with their seconds."""
    folder = tmp_path / "long"
    folder.mkdir()
    rows = []
    for part in range(2):
        whole, gap = [], np.zeros(RATE // 10)
        for number, label, take in product(range(3 * part, 3 * part + 3), LABELS, range(5)):
            begin = sum(map(len, whole)) / RATE
            whole += [tone(number, label, take), gap]
            row = {"path": f"{part}.wav", "label": label, "speaker": SPEAKERS[number]}
            rows.append(row | {"start": round(begin, 3), "end": round(begin + 0.6, 3)})
        soundfile.write(folder / f"{part}.wav", np.concatenate(whole), RATE)
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def data(path: Path) -> list[str]:
    return ["data=manifest", f"data.manifest={path}", *QUICK[:1]]


def test_a_manifest_is_trained_on_scored_again_and_scored_elsewhere(
    launch: Callable[..., Path], manifest: Path, tmp_path: Path, capfd: pytest.CaptureFixture
):
    run = launch("train", *data(manifest), *FOLDS, "model=svm")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["classes"] == ["glee", "gloom"]
    assert metrics["uar"] > 0.9  # a pitch apart
    table = pd.read_csv(run / "split.csv")
    assert table.groupby("speaker").split.nunique().max() == 1
    assert set(table.corpus) == {"manifest"}
    assert "start" not in table
    moved = shutil.move(manifest.parent, tmp_path / "elsewhere")
    best = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    with pytest.raises(SystemExit):
        launch("eval", best, folder="gone")
    assert "which is not there: expected data.manifest= where it lies now" in capfd.readouterr().err
    again = launch("eval", best, f"data.manifest={moved / 'clips.csv'}", folder="again")
    for name in ("predictions.csv", "split.csv"):
        assert (again / name).read_text() == (run / name).read_text()


def test_other_labels_than_those_of_the_training_are_refused(
    launch: Callable[..., Path], manifest: Path, capfd: pytest.CaptureFixture
):
    run = launch("train", *data(manifest), *FOLDS, "trainer.max_epochs=1")
    swapped = {"glee": "gloom", "gloom": "glee"}
    rows = pd.read_csv(manifest)
    rows.assign(label=rows.label.map(swapped)).to_csv(manifest, index=False)
    for script, *overrides in (
        ("eval", f"ckpt={run / 'checkpoints' / 'best.ckpt'}"),
        ("train", f"resume={run / 'checkpoints' / 'last.ckpt'}", "trainer.max_epochs=2"),
    ):
        capfd.readouterr()
        with pytest.raises(SystemExit):
            launch(script, *overrides, folder="run" if script == "train" else script)
        assert "of another class" in capfd.readouterr().err


def test_a_manifest_is_cross_validated(launch: Callable[..., Path], manifest: Path):
    run = launch("train", *data(manifest), *FOLDS, "model=svm", "fold=all")
    predictions = pd.read_csv(run / "predictions.csv")
    assert len(predictions) == 60  # each clip once
    assert predictions["clip"].is_unique


def test_segments_are_as_their_own_files(
    launch: Callable[..., Path], manifest: Path, long: Path, cache: Path
):
    files, parts = (
        launch("train", *data(path), *FOLDS, "model=logistic", folder=path.parent.name)
        for path in (manifest, long)
    )
    tables = [pd.read_csv(run / "predictions.csv") for run in (files, parts)]
    key = ["speaker", "label", "p_glee"]
    one, other = (table.sort_values(key).reset_index() for table in tables)
    assert one[key[:2]].equals(other[key[:2]])
    assert np.allclose(one.p_glee, other.p_glee, atol=0.05)  # FLAC and WAV round in their own ways
    table = pd.read_csv(parts / "split.csv")
    assert set(table.path) == {"0.wav", "1.wav"}
    assert (table.end - table.start).round(6).eq(0.6).all()
    assert table["clip"].str.fullmatch(r"manifest/[01]\.wav#[\d.]+-[\d.]+").all()
    source = open_data(load_checkpoint(parts / "checkpoints" / "best.ckpt"), None, cache, "test")
    row = table[(table.split == "test") & (table.start > 1)].iloc[0]
    heard, rate = source.hear(row["clip"])  # of the segment, not of the file
    whole = decode(long.parent / row.path, rate)
    own = whole[round(row.start * rate) : round(row.end * rate)]
    assert 0.3 * rate < len(heard) <= 0.5 * rate
    begins = len(own) - len(heard)
    assert any(np.array_equal(own[at : at + len(heard)], heard) for at in range(begins + 1))
    assert "manifest: licence unknown" in (parts / "model_card.md").read_text()


def test_a_network_on_a_manifest_is_resumed_as_if_never_interrupted(
    launch: Callable[..., Path], manifest: Path
):
    given = [*data(manifest), *FOLDS, "model.network.widths=[4,4]"]
    whole = launch("train", *given, "trainer.max_epochs=2", folder="whole")
    part = launch("train", *given, "trainer.max_epochs=1", folder="part")
    last = part / "checkpoints" / "last.ckpt"
    resumed = launch("train", f"resume={last}", "trainer.max_epochs=2", folder="part")
    assert (resumed / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()


def test_a_clip_that_was_changed_or_left_out_is_told(
    launch: Callable[..., Path],
    manifest: Path,
    cache: Path,
    capfd: pytest.CaptureFixture,
):
    run = launch("train", *data(manifest), *FOLDS, "model=logistic")
    best = run / "checkpoints" / "best.ckpt"
    table = pd.read_csv(run / "split.csv")
    trained = table["clip"][table.split == "train"].iloc[0].removeprefix("manifest/")
    rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join(row for row in rows if not row.startswith(trained)))
    with pytest.raises(
        ValueError, match=f"names the clip 'manifest/{trained}', which is not in data"
    ):
        open_data(load_checkpoint(best), None, str(cache), "test")
    manifest.write_text("\n".join(row.replace("gloom", "grief") for row in rows))
    with pytest.raises(
        ValueError, match=r"\['glee', 'gloom'\] apart, .*have the classes \['glee', 'gri"
    ):
        open_data(load_checkpoint(best), None, str(cache), "test")
    manifest.write_text("a stranger's table\nof no clips")
    with pytest.raises(
        ValueError, match=r"no column path, label and speaker.*expected data.manifest= wh"
    ):
        open_data(load_checkpoint(best), None, str(cache), "test")
    with pytest.raises(ValueError, match=r"data.root='x', but .* trained on data.manifest"):
        open_data(load_checkpoint(best), "x", str(cache), "test")


def test_a_manifest_says_who_tests(
    launch: Callable[..., Path], manifest: Path, capfd: pytest.CaptureFixture
):
    header, *rows = manifest.read_text().splitlines()
    place = dict.fromkeys(SPEAKERS, "train") | {"eve": "val", "fay": "test"}
    given = [f"{row},{place[row.rpartition(',')[2]]}" for row in rows]
    manifest.write_text("\n".join([f"{header},split", *given]))
    run = launch("train", *data(manifest), "protocol=given", "model=logistic")
    table = pd.read_csv(run / "split.csv")
    assert dict(zip(table.speaker, table.split, strict=True)) == place
    given[0] = given[0].replace("train", "test")
    manifest.write_text("\n".join([f"{header},split", *given]))
    with pytest.raises(SystemExit):
        launch("train", *data(manifest), "protocol=given", "model=logistic", folder="leaks")
    assert "speakers ['manifest/ann'] are in more than one of" in capfd.readouterr().err


def test_a_sweep_drops_a_label_of_a_manifest(
    launch: Callable[..., Path], manifest: Path, tmp_path: Path
):
    rows = manifest.read_text().splitlines()
    thirds = [row.replace("glee", "pride") if i % 2 else row for i, row in enumerate(rows)]
    manifest.write_text("\n".join(thirds))
    sweep = [f"hydra.sweep.dir={tmp_path / 'sweep'}", "sweep=drop_each_class", "model=logistic"]
    launch("train", *data(manifest), *FOLDS, *sweep, "drop_classes=[pride]")
    full, dropped = (
        json.loads((tmp_path / "sweep" / job / "metrics.json").read_text()) for job in "01"
    )
    assert full["classes"] == ["glee", "gloom", "pride"]
    assert dropped["classes"] == ["glee", "gloom"]


def test_wrong_names_are_one_line_before_any_work(
    launch: Callable[..., Path], manifest: Path, capfd: pytest.CaptureFixture
):
    for override, expected in (
        ("data.drop=[glea]", "unknown emotion 'glea': expected one of "),
        ("data.corpora=[mine]", "data.corpora=['mine']: mine is none of data.manifest="),
        ("data.manifest=null", "data.root=None and data.manifest=None: expected one of them"),
        ("+window.start.mine=0", "window.start.mine: expected one of ravdess, tess"),
        ("data.download=true", "of these data there is nothing to download"),
    ):
        with pytest.raises(SystemExit):
            launch("train", *data(manifest), override)
        (line,) = capfd.readouterr().err.splitlines()
        assert expected in line


def test_explore_describes_a_manifest(
    long: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "seen"
    arguments = [*data(long)[:2], f"cache.dir={cache}", f"hydra.run.dir={target}"]
    monkeypatch.setattr(sys, "argv", ["ser.explore", *arguments])
    monkeypatch.delitem(sys.modules, "ser.explore", raising=False)
    runpy.run_module("ser.explore", run_name="__main__")
    clips = pd.read_csv(target / "clips.csv")
    assert len(clips) == 60
    assert clips.duration_s.round(3).eq(0.6).all()


def test_a_checkpoint_of_a_manifest_holds_plain_values(launch: Callable[..., Path], manifest: Path):
    run = launch("train", *data(manifest), *FOLDS, "model=logistic")
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    recorded = content["ser"]["config"]["data"]
    assert (recorded["manifest"], recorded["root"]) == (str(manifest), None)
    assert set(content["ser"]["split"]["clip"]) == {
        f"manifest/{row.partition(',')[0]}" for row in manifest.read_text().splitlines()[1:]
    }
