"""Runs with a pretrained encoder as front end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from ser.data.datamodule import EmotionDataModule
from ser.features.hub import HubEncoder

TUNED = "ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition"


@pytest.fixture(scope="module")
def probed(small: list[str], tiny_encoder: Path, finish: Callable[..., Path]) -> Path:
    return finish(*small, *encoder(tiny_encoder), "model=probe", "trainer.max_epochs=2")


@pytest.fixture
def hub(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub that has the tiny encoder under the name of one tuned on RAVDESS."""
    kept = tmp_path / "hub" / f"models--{TUNED.replace('/', '--')}"
    shutil.copytree(tiny_encoder, kept / "snapshots" / "1234")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("1234")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a server was asked"))
    return tmp_path / "hub"


def encoder(model: object, *others: str) -> list[str]:
    return ["frontend=hub", f"frontend.model={model}", *others]


def test_a_probe_scores_the_same_from_its_checkpoint_without_the_cache(
    probed: Path, launch: Callable[..., Path], tmp_path: Path
):
    checkpoint = probed / "checkpoints" / "best.ckpt"
    again = launch("eval", f"ckpt={checkpoint}", f"cache.dir={tmp_path / 'empty'}")
    written = [(run / "predictions.csv").read_text() for run in (probed, again)]
    assert written[0] == written[1]
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert [key for key in state if key.startswith("frontend.")] == ["frontend.sha256"]
    assert state["network.shares"].abs().max() > 0
    assert json.loads((probed / "metrics.json").read_text())["exposure_unknown"]
    assert (probed / "report.txt").read_text().startswith("EXPOSURE UNKNOWN")


def test_upper_blocks_are_trained_from_their_weights_on(
    small: list[str], tiny_encoder: Path, launch: Callable[..., Path], tmp_path: Path
):
    tuned = ["model=finetune", "frontend.layer=1", "model.network.blocks=1"]
    options = [*small, *encoder(tiny_encoder, *tuned), "trainer.max_epochs=1"]
    run = launch("train", *options)
    checkpoint = run / "checkpoints" / "best.ckpt"
    again = launch("eval", f"ckpt={checkpoint}", f"cache.dir={tmp_path / 'empty'}", folder="eval")
    written = [(one / "predictions.csv").read_text() for one in (run, again)]
    assert written[0] == written[1]
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    blocks = {key for key in state if key.startswith("network.blocks.")}
    before = HubEncoder(str(tiny_encoder), 1, frames=True).upper(1)
    before.initialize()
    for name, value in before.state_dict().items():
        moved = (state[key := f"network.blocks.{name}"] - value).abs().max()
        # So many steps of Adam, of 2e-5 each at most.
        assert 0 < moved < 2e-4 or name.endswith("k_proj.bias"), key
        blocks.remove(key)
    assert not blocks


def test_other_weights_are_not_those_of_a_checkpoint(
    small: list[str], tiny_encoder: Path, launch: Callable[..., Path], tmp_path: Path,
    capfd: pytest.CaptureFixture,
):  # fmt: skip
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    run = launch("train", *small, *encoder(folder, "frontend.layer=1"), "model=logistic")
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(SystemExit):
        launch("eval", f"ckpt={run / 'checkpoints' / 'best.ckpt'}", folder="eval")
    assert "the checkpoint was trained with other weights" in capfd.readouterr().err
    # An earlier result says nothing of the new files, while a folder of another name is the same.
    kept = {*tmp_path.parent.glob("*/features-*")}
    config.write_text(config.read_text()[:-1])
    moved = folder.rename(tmp_path / "moved")
    again = launch(
        "train", *small, *encoder(moved, "frontend.layer=1"), "model=logistic", folder="again"
    )
    assert {*tmp_path.parent.glob("*/features-*")} == kept
    scored = launch(
        "eval", f"ckpt={run}/checkpoints/best.ckpt", f"encoder={moved}", folder="scored"
    )
    written = [(one / "predictions.csv").read_text() for one in (run, again, scored)]
    assert written[0] == written[1] == written[2]


def test_a_classical_model_asks_for_a_layer(
    small: list[str], tiny_encoder: Path, launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    with pytest.raises(SystemExit):
        launch("train", *small, *encoder(tiny_encoder), "model=logistic")
    message = capfd.readouterr().err
    assert "frontend.layer=<number> (or select=encoder_layer)" in message


@pytest.mark.slow
def test_a_layer_is_chosen_on_the_validation_speakers(
    small: list[str], tiny_encoder: Path, launch: Callable[..., Path]
):
    run = launch("train", *small, *encoder(tiny_encoder), "model=logistic", "select=encoder_layer")
    selection = json.loads((run / "selection.json").read_text())
    scores = [candidate["score"] for candidate in selection["candidates"]]
    assert None not in scores[:3]
    assert scores[3:] == [None] * 22
    assert selection["winner"] == [f"frontend.layer={scores.index(max(scores[:3]))}"]


def test_an_encoder_that_has_heard_the_corpus_is_said_everywhere(
    small: list[str], hub: Path, launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    run = launch("train", *small, *encoder(TUNED, "frontend.layer=2"), "model=logistic")
    assert "EXPOSED" in capfd.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["exposed"], metrics["exposure_unknown"]) == (True, False)
    assert "EXPOSED" in (run / "report.html").read_text()
    logged = [key for key in pd.read_csv(run / "metrics.csv") if key not in ("epoch", "step")]
    assert "exposed-test/uar" in logged
    assert all(key.startswith("exposed-") for key in logged)
    again = launch("eval", f"ckpt={run / 'checkpoints' / 'best.ckpt'}", folder="eval")
    assert json.loads((again / "metrics.json").read_text())["exposed"]


def test_who_has_heard_what_is_tested(demo: Path, cache: Path):
    data = EmotionDataModule(str(demo), window=None, cache=str(cache))
    data.setup = lambda stage: None
    data.table = pd.DataFrame({"corpus": ["ravdess", "tess"], "split": ["train", "test"]})

    def stamps(origin: str | None) -> tuple[bool, bool]:
        said = data.split_info(origin)
        return said.exposed, said.exposure_unknown

    assert stamps(None) == (False, False)
    assert stamps("WAVLM_LARGE") == stamps("microsoft/wavlm-large") == (False, False)
    assert stamps("") == stamps("openai/whisper-base.en") == (False, True)
    assert stamps(TUNED) == (False, True)  # on RAVDESS, and nobody says on what not
    assert stamps("amiriparian/ExHuBERT") == (True, False)
    data.table.split = "test"
    assert stamps(TUNED) == (True, False)
