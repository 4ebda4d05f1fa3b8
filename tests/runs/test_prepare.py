"""The cache, filled by shards or in several goes, is the cache that a training fills."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ser.audio.decode import decode_and_peak
from ser.cache import rows

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "FEWEST", 50)


@pytest.fixture
def run(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a command in this process, with a cache of the test's own."""

    def start(module: str, *overrides: str) -> None:
        own = [f"cache.dir={tmp_path / 'cache'}", "logger=csv", *small, "model=svm"]
        monkeypatch.setattr(sys, "argv", [f"{module}.py", *overrides, *own])
        if module == "train":
            runpy.run_path(str(REPOSITORY / "train.py"), run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__")

    return start


def stores(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("cache/*.bin")}


def test_shards_fill_what_a_training_reads(
    run: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run("ser.prepare", "-m", "shard=0,1,2", "shards=3", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    kept = stores(tmp_path)
    assert len(kept) == 2 * 5  # blocks of 232 clips, decoded and analysed
    run("ser.prepare", "shard=7", "shards=8", f"hydra.run.dir={tmp_path / 'none'}")
    assert "0 clips are in the cache" in (tmp_path / "none" / "prepare.log").read_text()
    monkeypatch.setattr("ser.audio.clips.decode_and_peak", lambda *_: pytest.fail("decoded again"))
    run("train", f"hydra.run.dir={tmp_path / 'run'}")
    assert stores(tmp_path) == kept


def test_a_build_that_broke_off_goes_on(
    run: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded, most = [], 120

    def decode(path: Path, rate: int) -> tuple[np.ndarray, float]:
        if len(decoded) == most:
            raise KeyboardInterrupt
        decoded.append(path)
        return decode_and_peak(path, rate)

    monkeypatch.setattr("ser.audio.clips.decode_and_peak", decode)
    with pytest.raises(SystemExit):
        run("train", f"hydra.run.dir={tmp_path / 'run'}")
    assert len(stores(tmp_path)) == 2
    most = 1000
    run("ser.prepare", f"hydra.run.dir={tmp_path / 'prepared'}")
    assert len(decoded) == 120 + 232 - 100
    assert len({*decoded}) == 232


def test_a_shard_may_be_of_files_that_cannot_be_read(
    run: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise ValueError("not readable as audio")

    monkeypatch.setattr("ser.audio.clips.decode_and_peak", refuse)
    skip, folder = "data.on_error=skip", tmp_path / "run"
    run("ser.prepare", "shard=4", "shards=5", skip, f"hydra.run.dir={folder}")
    said = (folder / "prepare.log").read_text()
    assert "32 of 32 recordings" in said
    assert "0 clips are in the cache" in said
    with pytest.raises(SystemExit):
        run("ser.prepare", skip, f"hydra.run.dir={tmp_path / 'whole'}")
    assert "none of 232 recordings can be read" in (tmp_path / "whole" / "prepare.log").read_text()
