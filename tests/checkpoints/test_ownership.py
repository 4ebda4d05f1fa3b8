"""Which checkpoints are the user's own."""

import logging
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ser.checkpoints import ownership


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "ser"


def test_a_file_is_ones_own_as_long_as_it_is_as_it_was_written(tmp_path: Path, data_home: Path):
    path, copy = tmp_path / "best.ckpt", tmp_path / "copy.ckpt"
    path.write_bytes(b"forest")
    assert not ownership.is_own(path)
    ownership.remember(path, path.read_bytes())
    assert ownership.is_own(path)
    copy.write_bytes(path.read_bytes())
    assert ownership.is_own(copy)
    path.write_bytes(b"forest.")
    assert not ownership.is_own(path)
    assert stat.S_IMODE((data_home / "key").stat().st_mode) == 0o600


def test_the_list_of_another_user_is_of_another_key(tmp_path: Path, data_home: Path):
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"forest")
    ownership.remember(path, path.read_bytes())
    written = (data_home / "written").read_bytes()
    (data_home / "key").unlink()
    ownership.remember(path, path.read_bytes())
    (data_home / "written").write_bytes(written)
    assert not ownership.is_own(path)


def test_what_cannot_be_remembered_is_told(
    tmp_path: Path, data_home: Path, caplog: pytest.LogCaptureFixture
):
    data_home.parent.write_text("in its place")
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"forest")
    with caplog.at_level(logging.WARNING):
        ownership.remember(path, path.read_bytes())
    assert "somebody else" in caplog.text
    assert not ownership.is_own(path)


def test_ones_own_tree_is_evaluated_and_a_strangers_is_refused(
    launch: Callable[..., Path], small: list[str], data_home: Path, capfd: pytest.CaptureFixture
):
    run = launch("train", *small, "model=tree", logger="none")
    ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    launch("eval", ckpt, folder="own", logger="none")
    (data_home / "key").write_bytes(bytes(32))  # as on another machine
    with pytest.raises(SystemExit):
        launch("eval", ckpt, folder="foreign", logger="none")
    assert "add compiled=true" in capfd.readouterr().err
    launch("eval", ckpt, "compiled=true", folder="asked", logger="none")
    scored = [(run.parent / name / "predictions.csv").read_bytes() for name in ("own", "asked")]
    assert scored[0] == scored[1] == (run / "predictions.csv").read_bytes()
