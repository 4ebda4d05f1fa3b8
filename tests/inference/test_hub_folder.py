"""A model hub's folder is a checkpoint: as exact, as safe, and never half-written."""

import json
import os
import runpy
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ser.checkpoints.format import LONGEST, load_checkpoint, read_content
from ser.inference import hub_folder

BEST = Path("checkpoints") / "best.ckpt"
FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def folder(cnn_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CNN's folder; a test that changes it takes a copy."""
    path = tmp_path_factory.mktemp("hub") / "cnn"
    hub_folder.write(load_checkpoint(cnn_run / BEST), path)
    return path


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copied")


@pytest.mark.usefixtures("cnn_run", "svm_run")  # asked for in the test they had no pictures
@pytest.mark.parametrize("name", ["cnn_run", "svm_run"])
def test_a_folder_is_loaded_with_the_same_probabilities_bit_for_bit(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
):
    checkpoint = request.getfixturevalue(name) / BEST
    path = tmp_path / "hub"
    path.mkdir()  # an empty one
    loaded = load_checkpoint(checkpoint)
    hub_folder.write(loaded, path)
    assert sorted(each.name for each in path.iterdir()) == FILES
    assert [each.name for each in tmp_path.iterdir()] == ["hub"]
    again = load_checkpoint(path)
    waveform = 0.1 * torch.randn(3, 48000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(loaded.model(waveform), again.model(waveform))
    assert again.config == loaded.config
    assert again.split.equals(loaded.split)
    assert (again.split_info, again.epoch) == (loaded.split_info, loaded.epoch)
    config = json.loads((path / "config.json").read_text())
    assert config["library_name"] == "ser"
    assert config["classes"] == loaded.model.classes
    assert (config["sample_rate"], config["window_seconds"]) == (48000, 1)
    assert config["temperature"] == loaded.model.temperature
    assert config["thresholds"]["0.2"] == min(loaded.calibration.threshold(0.2), 2)
    assert config["model"]["frontend"]["_target_"].startswith("ser.features.")
    assert any("RAVDESS" in each for each in config["licences"])


def test_the_command_writes_it_and_eval_scores_with_it(
    cnn_run: Path,
    launch: Callable[..., Path],
    few: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    checkpoint = shutil.copytree(cnn_run, tmp_path / "copied") / BEST
    (tmp_path / "copied" / "model_card.md").write_text("# A card\n")
    arguments = [f"ckpt={checkpoint}", f"to={tmp_path}/hub/", f"hydra.run.dir={tmp_path}/export"]
    monkeypatch.setattr(sys, "argv", ["ser.export", *arguments])
    runpy.run_module("ser.export", run_name="__main__")
    assert (tmp_path / "hub" / "README.md").read_text() == "# A card\n"
    recordings = f"input={few / 'Actor_01'}"
    scored = [
        launch("eval", f"ckpt={path}", recordings, folder=name, logger="none")
        for name, path in (("file", checkpoint), ("folder", tmp_path / "hub"))
    ]
    tables = [(run / "predictions.csv").read_text() for run in scored]
    assert tables[0] == tables[1]


def test_a_run_without_a_card_says_so(cnn_run: Path, tmp_path: Path):
    checkpoint = shutil.copytree(cnn_run, tmp_path / "copied") / BEST
    (tmp_path / "copied" / "model_card.md").unlink(missing_ok=True)
    hub_folder.write(load_checkpoint(checkpoint), tmp_path / "hub")
    said = (tmp_path / "hub" / "README.md").read_text()
    assert said == "The run of this checkpoint has no model card.\n"


def test_what_is_there_is_never_replaced(cnn_run: Path, tmp_path: Path):
    loaded, held = load_checkpoint(cnn_run / BEST), tmp_path / "held"
    held.mkdir()
    (held / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (held, tmp_path / "file"):
        with pytest.raises(ValueError, match=r"^to=[^\n]* not empty: expected a new folder[^\n]+$"):
            hub_folder.write(loaded, path)
    with pytest.raises(ValueError, match="expected a folder within one that is there"):
        hub_folder.check(tmp_path / "missing" / "hub")
    assert [each.name for each in held.iterdir()] == ["README.md"]


def test_a_folder_that_reads_otherwise_is_not_left(
    cnn_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded = load_checkpoint(cnn_run / BEST)
    with torch.no_grad():
        loaded.model.network.head[1].bias[0] += 1e-6
    with pytest.raises(ValueError, match=r"read again, it gives other probabilities"):
        hub_folder.write(loaded, tmp_path / "hub")
    monkeypatch.setattr(hub_folder, "LONGEST", 1000)
    with pytest.raises(ValueError, match=r"bytes as JSON; expected at most 1000"):
        hub_folder.write(loaded, tmp_path / "hub")
    assert list(tmp_path.iterdir()) == []


def test_ones_own_tree_is_loaded_from_its_folder_and_a_strangers_is_refused(
    launch: Callable[..., Path],
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    run = launch("train", *small, "model=tree", logger="none")
    hub_folder.write(load_checkpoint(run / BEST), tmp_path / "hub")
    load_checkpoint(tmp_path / "hub")
    altered = shutil.copytree(tmp_path / "hub", tmp_path / "altered")
    (altered / "config.json").write_text((altered / "config.json").read_text() + " ")
    with pytest.raises(ValueError, match="add compiled=true"):
        load_checkpoint(altered)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="add compiled=true"):
        load_checkpoint(tmp_path / "hub")
    # Of a stranger's that was trusted the folder is a stranger's too.
    hub_folder.write(load_checkpoint(run / BEST, compiled=True), tmp_path / "trusted")
    with pytest.raises(ValueError, match="add compiled=true"):
        load_checkpoint(tmp_path / "trusted")


def plant(path: Path, *keys: str, value: object) -> None:
    """Put a value into config.json."""
    config = json.loads((path / "config.json").read_text())
    node = config["checkpoint"]
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (path / "config.json").write_text(json.dumps(config))


EVAL = {"_target_": "builtins.eval", "_args_": ["open('/tmp/planted', 'w')"]}
MODEL = ("ser", "config", "model")


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("hyper_parameters", "network"), EVAL, "no code of it was run"),
        (("ser", "config", "data", "window"), EVAL, "no code of it was run"),
        ((*MODEL, "network"), {"_target_": "ser.models.cnn.CNN", "widths": [4]}, ""),
        (("hyper_parameters", "network", "widths"), [16384] * 8, "other weights than its recipe"),
        (("hyper_parameters", "classes"), ["\x1b[2J", "b"], "no checkpoint of ser"),
        (("hyper_parameters", "seed"), "${oc.env:HOME}", "asks to resolve"),
        (("ser", "config", "data", "window", "seconds"), 1e9, "expected at most 1500"),
        (("ser", "format"), 99, "has format 99"),
        (("ser", "split"), {"clip": ["a"], "split": ["test"]}, "it lacks 'sha256'"),
        (("epoch",), None, "its epoch is of another type"),
        (("ser",), [], "no checkpoint of ser"),
    ],
)
def test_a_planted_recipe_is_refused_in_one_line(
    keys: tuple, value: object, words: str, copied: Path
):
    plant(copied, *keys, value=value)
    if words == "":  # what the weights were saved for decides
        load_checkpoint(copied)
        return
    with pytest.raises(ValueError, match=r"^ckpt=[^\n]+$") as caught:
        load_checkpoint(copied)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[" * 10**5, '{"checkpoint": {}}', "\xff", "1" * 5000, " " * (LONGEST + 1)],
    ids=["empty", "bare", "list", "deep", "lacking", "bytes", "number", "long"],
)
def test_what_is_no_recipe_is_refused_in_one_line(text: str, copied: Path):
    (copied / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"^ckpt=[^\n]+ is no checkpoint of ser [^\n]+$"):
        load_checkpoint(copied)


def test_weights_that_are_not_those_of_the_recipe_are_refused(copied: Path):
    path = copied / "model.safetensors"
    whole = load_file(path)
    name = next(each for each in whole if each.endswith("head.1.weight"))
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header[name]["shape"] = [2**20, 2**20]
    planted = json.dumps(header).encode()
    for altered, words in (
        (whole | {name: torch.zeros(1)}, "holds other weights"),
        (whole | {"network.other": torch.zeros(1)}, "holds other weights"),
        (whole | {"estimator": torch.zeros(4, dtype=torch.uint8)}, ""),
        ({}, "holds other weights"),
        (content[:-10], "no checkpoint of ser"),
        (content + b"more", "no checkpoint of ser"),
        (struct.pack("<Q", 2**40) + content[8:], "no checkpoint of ser"),
        (struct.pack("<Q", len(planted)) + planted + content[8 + length :], "no checkpoint"),
    ):
        if isinstance(altered, dict):
            save_file(altered, path)
        else:
            path.write_bytes(altered)
        if words == "":  # nothing asks for it
            load_checkpoint(copied)
            continue
        with pytest.raises(ValueError, match=r"^ckpt=[^\n]+$") as caught:
            load_checkpoint(copied)
        assert words in str(caught.value)
    path.unlink()
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        load_checkpoint(copied)


def test_a_folder_of_something_else_is_no_checkpoint(tmp_path: Path):
    with pytest.raises(ValueError, match="is not a file"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="it lacks 'checkpoint'"):
        load_checkpoint(tmp_path)


def test_a_pipe_is_not_waited_for(folder: Path, tmp_path: Path):
    copied = shutil.copytree(folder, tmp_path / "copied")
    (copied / "model.safetensors").unlink()
    os.mkfifo(copied / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is no file beside config\.json"):
        load_checkpoint(copied)


def test_the_card_is_of_the_same_model_or_none(cnn_run: Path, svm_run: Path, tmp_path: Path):
    run = shutil.copytree(cnn_run, tmp_path / "run")
    hub_folder.write(load_checkpoint(run / BEST), tmp_path / "best")
    shutil.copy(svm_run / BEST, run / BEST)  # of another run under the same split
    hub_folder.write(load_checkpoint(run / BEST), tmp_path / "foreign")
    hub_folder.write(load_checkpoint(run / "checkpoints" / "last.ckpt"), tmp_path / "last")
    names = ("best", "foreign", "last")
    cards = {name: (tmp_path / name / "README.md").read_text() for name in names}
    assert "## Scores" in cards["best"]
    assert "checkpoints/" not in cards["best"]
    assert "## Scores" not in cards["foreign"] + cards["last"]


def test_no_training_goes_on_from_a_folder(folder: Path):
    with pytest.raises(ValueError, match=r"^resume=.* is not a file"):
        load_checkpoint(folder, key="resume")


def test_the_weights_are_those_of_the_checkpoint(cnn_run: Path, folder: Path):
    state = read_content(cnn_run / BEST)["state_dict"]
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], state[name]) for name in state)
