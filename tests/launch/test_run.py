"""How a run ends is what its folder, the terminal and the exit code say."""

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf

from ser.evaluation.status import NEXT_RECORD, RECORD
from ser.launch.run import Run, finished_before, one_line_errors
from ser.launch.start import BareMessage
from ser.training import folds


@pytest.fixture(autouse=True)
def hydra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    config = SimpleNamespace(
        mode=RunMode.RUN,
        overrides=SimpleNamespace(task=["seed=1"]),
        runtime=SimpleNamespace(output_dir=str(tmp_path)),
        sweep=SimpleNamespace(dir="outputs/sweep"),
    )
    monkeypatch.setattr("ser.launch.run.HydraConfig.get", lambda: config)
    return config


@pytest.fixture
def run(hydra: SimpleNamespace, tmp_path: Path) -> Callable[..., ExitStack]:
    def make(mode: RunMode = RunMode.RUN) -> ExitStack:
        hydra.mode = mode
        stack = ExitStack()
        stack.enter_context(one_line_errors())
        stack.enter_context(Run(str(tmp_path)))
        return stack

    return make


def status(folder: Path) -> tuple[str, str | None]:
    content = json.loads((folder / "status.json").read_text())
    return content["status"], content["error"]


def test_a_run_says_that_it_runs_that_it_finished_and_its_objective(tmp_path: Path):
    with Run(str(tmp_path / "new")) as run:
        assert status(run.folder) == ("running", None)
        run.objective = 0.5
    assert status(run.folder) == ("finished", None)
    assert json.loads((run.folder / "status.json").read_text())["objective"] == 0.5


def test_the_record_of_a_run_stays_until_another_begins(tmp_path: Path):
    def start(seed: int) -> Run:
        cfg = OmegaConf.create({"folder": str(tmp_path), "fold": 0, "seed": seed})
        folds.record(cfg, folds.overrides_of(cfg))
        return Run(str(tmp_path))

    def recorded() -> int:
        assert not (tmp_path / NEXT_RECORD).exists()
        return OmegaConf.load(tmp_path / RECORD / "config.yaml").seed

    with start(1):
        assert OmegaConf.load(tmp_path / RECORD / "overrides.yaml") == ["seed=1", "fold=0"]
    (tmp_path / "metrics.json").touch()
    with pytest.raises(ValueError, match="data"), start(2):
        raise ValueError("no such data")
    assert recorded() == 1
    with start(3) as run:
        run.begin()
        assert recorded() == 3
    with start(4):  # ser.compare and others begin only by their results
        assert OmegaConf.load(tmp_path / RECORD / "config.yaml").seed == 3
    assert recorded() == 4


def test_only_a_finished_job_of_the_same_overrides_is_done(hydra: SimpleNamespace, tmp_path: Path):
    assert finished_before(str(tmp_path)) is None
    with Run(str(tmp_path)) as run:
        run.objective = 0.5
        assert finished_before(str(tmp_path)) is None
    assert finished_before(str(tmp_path))["objective"] == 0.5
    hydra.overrides.task = ["seed=1", "resume_sweep=folder"]
    assert finished_before(str(tmp_path))["objective"] == 0.5
    hydra.overrides.task = ["seed=2"]
    assert finished_before(str(tmp_path)) is None


def test_a_run_within_a_run_has_a_log_of_its_own(tmp_path: Path):
    root = logging.getLogger()
    handlers = root.handlers[:]  # pytest has a file of its own
    outer = logging.FileHandler(tmp_path / "train.log")
    root.handlers = [outer]
    try:
        with Run(str(tmp_path)), Run(str(tmp_path / "fold_0")):
            logging.getLogger("ser").warning("inside")
        logging.getLogger("ser").warning("outside")
    finally:
        root.handlers = handlers
        outer.close()
    assert (tmp_path / "fold_0" / "train.log").read_text() == "inside\n"
    assert (tmp_path / "train.log").read_text() == "inside\noutside\n"


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


@pytest.mark.parametrize(
    ("stop", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted: resume={last} goes on"),
        (SystemExit(1), 130, "interrupted: resume={last} goes on"),  # what Lightning makes of it
        (KeyboardInterrupt("in epoch 0"), 130, "interrupted: in epoch 0"),
        (SIGTERMException(), 143, "terminated: resume={last} goes on"),
    ],
)
def test_a_signal_is_an_interruption(
    run, tmp_path: Path, stop: BaseException, code: int, line: str, caplog: pytest.LogCaptureFixture
):
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    with pytest.raises(SystemExit) as ended, run():
        raise stop
    assert ended.value.code == code
    assert caplog.messages == [line.format(last=last)]
    assert status(tmp_path) == ("interrupted", None)
