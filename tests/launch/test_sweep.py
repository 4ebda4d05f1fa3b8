"""Sweeps that break off, as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from ser.launch.sweep import resume

REPOSITORY = Path(__file__).parents[2]


def train(*arguments: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "train.py"), *arguments]


@pytest.mark.slow
def test_a_sweep_killed_midway_is_completed_with_its_own_overrides(tmp_path: Path, cache: Path):
    sweep = tmp_path / "a sweep"
    given = ["-m", "data=demo", "model=logistic", "data.drop=[],[sat],[sad],[calm,sad]"]
    where = [f"hydra.sweep.dir='{sweep}'", f"cache.dir={cache}", "logger=csv"]
    with subprocess.Popen(train(*given, *where), start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not (sweep / "2" / "status.json").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    status = [json.loads((sweep / job / "status.json").read_text()) for job in "012"]
    assert [one["status"] for one in status[:2]] == ["finished", "failed"]
    assert status[2]["status"] in ("running", "finished")
    assert not (sweep / "summary.csv").exists()
    stamp = (sweep / "0" / "metrics.json").stat().st_mtime_ns

    again = train(f"resume_sweep='{sweep}'")
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr  # the class that nobody knows fails again
    assert (sweep / "0" / "metrics.json").stat().st_mtime_ns == stamp
    assert "finished already" in done.stderr
    table = pd.read_csv(sweep / "summary.csv", keep_default_na=False)
    assert table["data.drop"].tolist() == ["[]", "[sat]", "[sad]", "[calm,sad]"]
    assert table.status.tolist() == ["finished", "failed", "finished", "finished"]
    assert not (tmp_path / "outputs").exists()  # no run of its own


@pytest.mark.parametrize(("script", "wrong"), [("train", "fold"), ("eval", "split")])
def test_a_wrong_value_is_the_row_of_its_job(
    script: str, wrong: str, launch: Callable[..., Path], tmp_path: Path
):
    with pytest.raises(SystemExit):
        launch(script, "-m", f"{wrong}=-7,x", f"hydra.sweep.dir={tmp_path}/sweep")
    rows = json.loads((tmp_path / "sweep" / "summary.json").read_text())
    assert [row["status"] for row in rows] == ["failed", "failed"]
    for row, value in zip(rows, ("-7", "'x'"), strict=True):
        assert row["error"].startswith(f"{wrong}={value}")


def test_what_is_no_sweep_is_one_line(tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no multirun.yaml: expected the folder of"):
        resume(str(tmp_path), OmegaConf.create({"task": [], "hydra": []}))
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(ValueError, match="takes the sweep's own overrides: leave out seed=1"):
        resume(str(tmp_path), OmegaConf.create({"task": ["resume_sweep=x", "seed=1"]}))
    done = subprocess.run(
        train("resume_sweep=nowhere"), cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("resume_sweep='nowhere' holds no multirun.yaml")
