"""The benchmarks run; what they print is a measurement, so no figure is asserted."""

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_the_epoch_is_timed_three_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, cache: Path
):
    monkeypatch.setattr(sys, "argv", ["epoch.py", "data=demo", f"cache.dir={cache}"])
    runpy.run_path(str(BENCHMARKS / "epoch.py"), run_name="__main__")
    shown = capsys.readouterr().out
    ratios = re.findall(r"^(.+?) +(\d+\.\d\d)(?: +\(aim.*)?$", shown, re.MULTILINE)
    assert [name for name, _ in ratios] == [
        "ser / bare loop", "plain / ser", "plain, 2 workers / ser"
    ]  # fmt: skip
    assert all(float(ratio) > 0 for _, ratio in ratios)


@pytest.mark.slow
def test_scan_split_and_cache_are_measured_by_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", ["scale.py", "sizes=1200,1400"])
    runpy.run_path(str(BENCHMARKS / "scale.py"), run_name="__main__")
    rows = re.findall(r"^ +(\d+) (\w+) +(\d+\.\d\d)", capsys.readouterr().out, re.MULTILINE)
    steps = ("scan", "split", "cache", "features", "epoch", "open")
    sizes = ("1200", "1400")
    assert [row[:2] for row in rows] == [(size, step) for size in sizes for step in steps]


@pytest.mark.slow
def test_two_trainings_at_once_are_timed_beside_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", ["side_by_side.py", "trainer.max_epochs=1"])
    runpy.run_path(str(BENCHMARKS / "side_by_side.py"), run_name="__main__")
    ratios = re.findall(
        r"^(\w.*?) +two at once.* (\d+\.\d\d)$", capsys.readouterr().out, re.MULTILINE
    )
    assert [name for name, _ in ratios] == ["as it is", "spinning threads", "one thread"]
    assert all(float(ratio) > 0 for _, ratio in ratios)


def test_a_channel_changes_what_it_says_and_not_the_length():
    module = runpy.run_path(str(BENCHMARKS / "channels.py"))
    time = np.arange(48001) / 48000
    low, high = (3000 * np.sin(2 * np.pi * hertz * time) for hertz in (440, 9000))
    recording = np.rint(low + high).astype(np.int16)

    def heard(name: str) -> np.ndarray:
        (altered,) = module["Altered"]([recording], module["CHANNELS"][name])
        assert altered.dtype == np.int16
        assert len(altered) == len(recording)
        return altered.astype(float)

    for name in ("resampled 16 kHz", "resampled 8 kHz", "low-pass 8 kHz", "low-pass 4 kHz"):
        limit = 500 if name == "low-pass 8 kHz" else 30  # a filter is no wall
        assert np.abs(heard(name) - low)[2000:-2000].max() < limit, name
    assert np.array_equal(heard("clean"), recording)
    assert np.array_equal(heard("20 dB softer"), np.rint(recording / 10))
    noise = heard("noise 20 dB SNR") - recording
    assert 10 * np.log10(np.var(recording) / np.var(noise)) == pytest.approx(20, abs=0.1)
    recording = np.rint(low).astype(np.int16)
    for name in ("mu-law 8 kHz", "Opus 16 kbit/s"):
        error = (heard(name) - recording)[2000:-2000]
        assert 15 < 10 * np.log10(np.var(recording) / np.var(error)) < 50, name
    altered = {name: heard(name) for name in module["CHANNELS"]}
    module["CODED"].clear()
    assert all(np.array_equal(heard(name), altered[name]) for name in altered)


@pytest.mark.slow
def test_runs_and_folds_are_scored_through_each_channel(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    svm_run: Path,
    small: list[str],
    finish: Callable[..., Path],
    cache: Path,
):
    pooled = finish(*small, "model=svm", "protocol=kfold", "protocol.folds=2", "fold=all")
    capsys.readouterr()
    runs = [svm_run, pooled]
    monkeypatch.setattr(sys, "argv", ["channels.py", *map(str, runs), f"cache.dir={cache}"])
    runpy.run_path(str(BENCHMARKS / "channels.py"), run_name="__main__")
    shown = capsys.readouterr().out
    names = re.findall(r"^(\w.*?) +\d\.\d{3} ", shown, re.MULTILINE)
    assert names == list(runpy.run_path(str(BENCHMARKS / "channels.py"))["CHANNELS"])
    (clean,) = re.findall(r"^clean .*", shown, re.MULTILINE)
    expected = [json.loads((run / "metrics.json").read_text())["uar"] for run in runs]
    assert re.findall(r"(\d\.\d{3}) \+0\.000 -", clean) == [f"{uar:.3f}" for uar in expected]


@pytest.mark.slow
def test_a_graph_is_timed_beside_its_model_and_their_answers_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, cnn_run: Path
):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["", f"ckpt={cnn_run / 'checkpoints' / 'best.ckpt'}"])
    runpy.run_path(str(BENCHMARKS / "onnx_graph.py"), run_name="__main__")
    torch.set_num_threads(threads)
    rows = re.findall(
        r"^ *([\d.]+) s, batch (\d): graph / torch +(\d+\.\d\d) +largest difference (\S+)$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert [row[:2] for row in rows] == [
        (s, b) for s in ("0.5", "1.0", "3.0", "10.0") for b in "18"
    ]
    assert all(float(ratio) > 0 and float(apart) < 1e-4 for _, _, ratio, apart in rows)
