"""How a run ends is what its folder, the terminal and the exit code say."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.errors import InstantiationException
from hydra.types import RunMode

from ser.run import BareMessage, Run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Run]:
    def make(mode: RunMode = RunMode.RUN) -> Run:
        hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(tmp_path)), mode=mode)
        monkeypatch.setattr("ser.run.HydraConfig.get", lambda: hydra)
        return Run()

    return make


def status(folder: Path) -> tuple[str, str | None]:
    return tuple(json.loads((folder / "status.json").read_text()).values())


def test_a_run_says_that_it_runs_and_that_it_finished(run, tmp_path: Path):
    with run():
        assert status(tmp_path) == ("running", None)
    assert status(tmp_path) == ("finished", None)


def test_an_error_of_the_user_is_its_innermost_line(run, tmp_path: Path, caplog):
    outer, inner = InstantiationException("outer"), InstantiationException("inner")
    outer.__cause__, inner.__cause__ = inner, ValueError("say\n what to do")
    with pytest.raises(SystemExit) as end, run():
        raise outer
    assert end.value.code == 1
    assert status(tmp_path) == ("failed", "say what to do")
    assert BareMessage().format(caplog.records[-1]) == "say what to do"


def test_a_bug_keeps_its_traceback(run, tmp_path: Path):
    with pytest.raises(AttributeError, match="a bug"), run():
        raise AttributeError("a bug")
    assert status(tmp_path) == ("failed", "a bug")


def test_a_multirun_survives_any_error_of_a_job(run, tmp_path: Path, caplog):
    for error in (ValueError("wrong"), AttributeError("a bug")):
        with run(RunMode.MULTIRUN):
            raise error
        assert status(tmp_path) == ("failed", str(error))
    assert all(record.levelno == logging.ERROR for record in caplog.records)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_is_an_interruption(run, tmp_path: Path, interruption: type[BaseException]):
    # Lightning turns the one into the other.
    with pytest.raises(interruption), run():
        raise interruption
    assert status(tmp_path) == ("interrupted", None)


def test_a_run_that_failed_in_part_ends_with_exit_code_1(run, tmp_path: Path):
    with pytest.raises(SystemExit) as end, run() as unfinished:
        unfinished.failed = True
    assert end.value.code == 1
    assert status(tmp_path) == ("failed", None)
