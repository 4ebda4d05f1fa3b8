"""The benchmarks run; what they print is a measurement, so no figure is asserted."""

import re
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


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
