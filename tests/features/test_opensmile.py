"""openSMILE's features are those of its own package, whatever the clips come with."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import opensmile
import pandas as pd
import pytest
import torch

from ser.checkpoints.format import load_checkpoint
from ser.checkpoints.source import open_data
from ser.features import opensmile as opensmile_frontend
from ser.features.frontend import cache_key, unpadded
from ser.features.opensmile import FEATURES, OpenSmile

RATE = 16000
SETS = pytest.mark.parametrize("feature_set", FEATURES)


def clips() -> torch.Tensor:
    """Noise of several lengths in windows of half a second, as 16 bit stores it, and silence."""
    drawn = torch.randn(6, RATE // 2, generator=torch.Generator().manual_seed(0))
    waveform = (drawn * 3000).round().clamp(-32768, 32767) / 32768
    for clip, length in zip(waveform, (8000, 6000, 4000, 7, 1, 0), strict=True):
        clip[length:] = 0
    return waveform


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_zeros_at_the_end_are_padding(device: str):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    rows = [[0, 0.5, 0, 0], [0.1, 0, 0, -0.2], [0, 0, 0, 0], [-1, 0, 0, 0]]
    waveform = torch.tensor(rows, device=device)
    kept = [[0, 0.5], [0.1, 0, 0, -0.2], [0], [-1]]
    found = unpadded(waveform)
    assert [clip.tolist() for clip in found] == [torch.tensor(row).tolist() for row in kept]
    assert all(clip.device == waveform.device for clip in found)


@SETS
def test_they_are_openSMILEs(feature_set: str, pools: None):  # noqa: N802
    waveform, frontend = clips(), OpenSmile(feature_set, RATE)
    found = frontend(waveform)
    assert found.shape == (6, frontend.features)
    assert found.isfinite().all()
    smile = opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)
    for features, clip in zip(found[:3], waveform, strict=False):
        (expected,) = smile.process_signal(clip[clip != 0].numpy(), RATE).to_numpy(np.float32)
        np.testing.assert_array_equal(features, expected)


def test_neither_company_nor_padding_nor_threads_matter(
    pools: None, monkeypatch: pytest.MonkeyPatch
):
    waveform, frontend = clips(), OpenSmile("eGeMAPSv02", RATE)
    together = frontend(waveform)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    for row, length in enumerate((8000, 6000, 4000, 7, 1)):
        assert torch.equal(frontend(waveform[row : row + 1, :length])[0], together[row])
    assert frontend(torch.ones(1, 8000)).equal(frontend(torch.full((1, 8000), 32767 / 32768)))


def test_a_new_openSMILE_computes_anew(monkeypatch: pytest.MonkeyPatch):  # noqa: N802
    frontend, recipe = OpenSmile("eGeMAPSv02"), {"feature_set": "eGeMAPSv02"}
    before = cache_key(frontend, recipe, False)
    monkeypatch.setattr("ser.features.frontend.version", {"opensmile": "9"}.get)
    assert cache_key(frontend, recipe, False) != before


def test_a_missing_package_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, launch: Callable[..., Path], capsys: pytest.CaptureFixture
):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(SystemExit, match="1"):
        launch("train", "data=demo", "model=svm", "frontend=compare")
    assert "uv run --extra opensmile train.py" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_with_compare_is_chosen_scored_again_and_used(
    launch: Callable[..., Path], small: list[str], few: Path, cache: Path
):
    opensmile_frontend._tell_licence.cache_clear()
    select = "select=logistic_regularisation"
    run = launch("train", *small, "model=logistic", "frontend=compare", select)
    assert (run / "train.log").read_text().count("commercial licence") == 1
    ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    again = launch("eval", ckpt, folder="again")
    assert (again / "predictions.csv").read_text() == (run / "predictions.csv").read_text()
    loaded = load_checkpoint(run / "checkpoints" / "best.ckpt")
    data = open_data(loaded, str(few), str(cache), "test")
    data.cache_features(loaded.model.frontend, loaded.model.hparams.frontend)
    rows = np.arange(0, len(data.reader.waveforms), 40)
    direct = loaded.model.frontend(data.reader.read_waveforms(rows)["waveform"])
    assert torch.equal(data.reader.read_fastest(rows)["analysed"], direct)
    own = launch("eval", ckpt, f"input={few / 'Actor_01'}", folder="own")
    scored = pd.read_csv(own / "predictions.csv")
    assert len(scored) == 17
    assert scored.error.isna().all()


@pytest.mark.slow
def test_a_network_over_egemaps_is_trained(launch: Callable[..., Path], small: list[str]):
    run = launch("train", *small, "model=conv1d", "frontend=egemaps", "trainer.max_epochs=1")
    ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    again = launch("eval", ckpt, folder="again")
    columns = pd.read_csv(run / "predictions.csv"), pd.read_csv(again / "predictions.csv")
    pd.testing.assert_frame_equal(*columns, atol=1e-6)
