"""Folds and members in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
import torch
from omegaconf import OmegaConf

from ser.evaluation.status import read_status
from ser.training.processes import _portable, at_once

REPOSITORY = Path(__file__).parents[2]
CNN = ["model=cnn", "protocol=kfold", "protocol.folds=3"]


@pytest.mark.parametrize(
    ("runs", "threads", "jobs", "expected"),
    [
        (5, 2, None, 3),  # then two: no processor is idle
        (24, 2, None, 2),
        (5, 4, None, 5),
        (11, 8, None, 11),
        (15, 8, None, 8),
        (5, 16, None, 5),
        (3, 1, None, 1),
        (2, 8, 7, 2),
        (6, 1, 4, 4),
    ],
)
def test_as_many_at_once_as_keep_the_processors_busy(
    monkeypatch: pytest.MonkeyPatch, runs: int, threads: int, jobs: int | None, expected: int
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    trainer = {"_target_": "lightning.Trainer", "accelerator": "cpu", "barebones": True}
    assert at_once(OmegaConf.create({"jobs": jobs, "trainer": trainer}), runs) == expected


def test_errors_reach_the_first_process():
    known, unreadable = ValueError("lr=-1: expected more"), HTTPError("u", 404, "gone", {}, None)
    assert _portable(known).args == known.args
    again = _portable(unreadable)
    assert (type(again), str(again)) == (OSError, "HTTP Error 404: gone")


@pytest.fixture
def start(small: list[str], cache: Path, tmp_path: Path) -> Iterator[Callable]:
    """Start a training with two threads; gives the process and its run folder."""
    started = []

    def run(*overrides: str, folder: str = "run") -> tuple[subprocess.Popen, Path]:
        target = tmp_path / folder
        command = [sys.executable, REPOSITORY / "train.py", *small, *overrides, "logger=csv"]
        process = subprocess.Popen(
            [*command, f"cache.dir={cache}", f"hydra.run.dir={target}"],
            env={**os.environ, "OMP_NUM_THREADS": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, target

    yield run
    for process in started:
        process.kill()
        process.communicate()


def scored(run: Path) -> bytes:
    return (run / "predictions.csv").read_bytes()


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_each_is_the_single_run(start: Callable, launch: Callable[..., Path], small: list[str]):
    runs = ["trainer.max_epochs=2", *CNN]
    process, together = start(*runs, "fold=all", "ensemble=2", folder="together")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "3 runs, 3 at once, 1 threads each" in said
    alone = launch("train", *small, *runs, "fold=1", "ensemble=2")
    assert scored(together / "fold_1") == scored(alone)  # its members took turns
    process, members = start(*runs, "fold=1", "ensemble=2", "jobs=2", folder="members")
    process.communicate(timeout=300)
    for number in range(2):
        one, two = (weights(run / f"member_{number}") for run in (alone, members))
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "left"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "interrupted"),
        (signal.SIGKILL, -9, "running"),
    ],
)
def test_all_end_with_the_first_process(start: Callable, number: int, code: int, left: str):
    process, run = start(*CNN, "fold=all", "trainer.max_epochs=5000")
    parts = [run / f"fold_{fold}" for fold in range(3)]
    while process.poll() is None and not all((part / "metrics.csv").exists() for part in parts):
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    assert read_status(run)["status"] == left
    rows = [(part / "metrics.csv").stat().st_size for part in parts]
    assert {read_status(part)["status"] for part in parts} == {left}
    time.sleep(1)
    assert [(part / "metrics.csv").stat().st_size for part in parts] == rows


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5, 1.0])
def test_ctrl_c_while_they_start(start: Callable, seconds: float):
    process, run = start(*CNN, "fold=all", "trainer.max_epochs=5000")
    while "3 at once" not in process.stderr.readline():
        pass
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert read_status(run)["status"] == "interrupted"


@pytest.mark.slow
def test_a_fold_that_fails_ends_the_rest(start: Callable):
    process, run = start(
        *CNN, "fold=all", "jobs=2", "trainer.max_epochs=2", "optimizer.lr=1e30", "channel=none"
    )
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("the loss is nan in epoch")
    assert read_status(run / "fold_1")["status"] == "failed"
    assert not (run / "fold_2").exists()
