"""The benchmarks run; what they print is a measurement, so no figure is asserted."""

import re
import runpy
import sys
from pathlib import Path

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


@pytest.mark.slow
def test_spectra_are_timed_beside_torchaudios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["spectra.py", "rounds=3"])
    runpy.run_path(str(BENCHMARKS / "spectra.py"), run_name="__main__")
    torch.set_num_threads(threads)
    shown = capsys.readouterr().out
    assert re.fullmatch(
        r"ser [\d.]+ ms a clip, torchaudio [\d.]+ ms: [\d.]+ times as fast\n", shown
    )


@pytest.mark.slow
def test_a_start_is_timed_by_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", ["startup.py"])
    runpy.run_path(str(BENCHMARKS / "startup.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert re.search(r"^ser.experiment +-?\d+\.\d\d s   beyond torch and lightning$", shown, re.M)
    assert re.search(r"^    pandas +\d\.\d+$", shown, re.MULTILINE)


@pytest.mark.slow
def test_folds_side_by_side_are_timed_and_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, small: list[str]
):
    short = ["turns=1", *small, "protocol=kfold", "protocol.folds=2", "trainer.max_epochs=1"]
    monkeypatch.setattr(sys, "argv", ["folds.py", *short])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    runpy.run_path(str(BENCHMARKS / "folds.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert re.search(r"^side by side / one after the other +\d+\.\d\d ", shown, re.MULTILINE)
    assert shown.splitlines()[-1] == "the predictions of folds with one thread: True"


@pytest.mark.slow
def test_recordings_are_timed_with_their_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, cnn_run: Path, few: Path
):
    given = [f"ckpt={cnn_run / 'checkpoints' / 'best.ckpt'}", f"folder={few}", "minutes=1"]
    monkeypatch.setattr(sys, "argv", ["recordings.py", *given])
    runpy.run_path(str(BENCHMARKS / "recordings.py"), run_name="__main__")
    names = re.findall(r"^(\w+(?: min)?) +(\d+) files,", capsys.readouterr().out, re.MULTILINE)
    assert names == [("1 min", "1"), ("short", "232")]
