"""One start at a time writes to a run folder, and none removes a run without being asked."""

import errno
import json
import pickle
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from ser.evaluation.status import KEPT, NEXT_RECORD, RECORD, check_finished, held_run, read_status
from ser.launch.run_folder import LOCK, RunFolder, _warn_unlocked, check, hold, release
from ser.launch.sweep import Summary

REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from ser.launch.run_folder import hold
lock = hold(Path(sys.argv[1]))
print(flush=True)
time.sleep(600)
"""


def write_run(folder: Path, status: str, *files: str) -> Path:
    for name in ("status.json", *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    (folder / "status.json").write_text(json.dumps({"status": status}))
    return folder


def content(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def config(name: str = "train", *overrides: str) -> DictConfig:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return compose(name, [*overrides], return_hydra_config=True)


def record(cfg: DictConfig, folder: Path) -> None:
    (folder / ".hydra").mkdir(parents=True)
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")


@pytest.mark.parametrize(
    ("status", "files", "held"),
    [
        ("finished", ["comparison.csv"], None),
        ("finished", ["metrics.json"], "a finished run (metrics.json)"),
        ("interrupted", ["checkpoints/last.ckpt"], "an interrupted run (checkpoints/last.ckpt)"),
        ("running", ["checkpoints/best.ckpt"], "an unfinished run (checkpoints/best.ckpt)"),
        ("failed", ["train.log", ".hydra/config.yaml"], None),
        ("interrupted", ["split.csv"], None),
    ],
)
def test_what_a_folder_holds(status: str, files: list[str], held: str | None, tmp_path: Path):
    assert held_run(tmp_path / "new") is None
    assert held_run(write_run(tmp_path, status, *files)) == held
    # It is there for the folder above too, where that is a cross-validation's or a sweep's.
    for part in ("fold_0", "candidate_12", "3", "2026-01-01"):
        above = tmp_path / f"above {part}"
        write_run(above / part, status, *files)
        named = held is not None and part != "2026-01-01"
        assert held_run(above) == (f"an unfinished run ({part})" if named else None)


@pytest.mark.parametrize("text", ["", "[]", '{"error": null}', '{"status": "fin'])
def test_a_damaged_status_is_one_line_and_no_reason_to_lose_a_run(text: str, tmp_path: Path):
    write_run(tmp_path, "finished", "metrics.json")
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(ValueError, match=r"status.json is damaged \(.*\): run it again"):
        read_status(tmp_path)
    assert held_run(tmp_path) == "an unfinished run (metrics.json)"


def test_results_of_a_run_that_failed_are_not_read(tmp_path: Path):
    check_finished(tmp_path)  # of no status
    check_finished(write_run(tmp_path, "finished"))
    (tmp_path / "status.json").write_text('{"status": "failed", "error": "no such class"}')
    with pytest.raises(ValueError, match=r"is failed \(no such class\): expected finished runs"):
        check_finished(tmp_path)


@pytest.mark.parametrize("name", ["train", "eval", "compare", "ensemble", "explore", "doctor"])
def test_every_command_that_writes_a_run_folder_keeps_the_run_there(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture
):
    folder = write_run(tmp_path / "run", "finished", *KEPT, ".lock")
    before = content(folder)
    cfg = config(name, f"hydra.run.dir={folder}")
    *_, params = cfg.hydra.callbacks.values()  # last, as resume= says which folder it is
    assert params._target_ == "ser.launch.run_folder.RunFolder"
    callback = RunFolder(**{key: value for key, value in params.items() if key != "_target_"})
    with pytest.raises(SystemExit) as stopped:
        callback.on_run_start(cfg)
    assert stopped.value.code == (2 if name == "doctor" else 1)
    (line,) = capfd.readouterr().err.splitlines()
    way = f", go on with resume={folder}/checkpoints/last.ckpt" * (name == "train")
    assert line == (
        f"hydra.run.dir={folder} holds a finished run ({', '.join(KEPT)}): expected another"
        f" folder{way}, or overwrite=true to replace it"
    )
    assert content(folder) == before
    with pytest.raises(ValueError, match="overwrite='yes': expected true or false"):
        check(config(name, "overwrite='yes'"), folder)
    RunFolder().on_run_start(config(name, f"hydra.run.dir={folder}", "overwrite=true"))


def test_what_goes_on_is_let_in(tmp_path: Path):
    folder = write_run(tmp_path / "run", "interrupted", *KEPT)
    resumed = config("train", f"resume={folder}/checkpoints/last.ckpt")
    check(resumed, folder)
    other = write_run(tmp_path / "other", "interrupted", *KEPT)
    with pytest.raises(ValueError, match="holds an interrupted run"):
        check(resumed, other)

    folds = ("fold=all", "protocol=kfold", "model=svm")
    with pytest.raises(ValueError, match="holds an interrupted run"):  # of one fold
        check(config("train", *folds), folder)
    whole = tmp_path / "whole"
    for path in (whole, write_run(whole / "fold_0", "interrupted", *KEPT)):
        record(config("train", *folds), path)
    check(config("train", *folds, "logger=csv"), whole)
    with pytest.raises(ValueError, match=r"fold_0 was run with seed: 0, not 1.*overwrite=true"):
        check(config("train", *folds, "seed=1"), whole)
    with pytest.raises(ValueError, match=r"holds an unfinished run \(fold_0\)"):
        check(config("train", *folds[1:]), whole)

    given = ("model=svm", "select=svm_regularisation")
    selecting = write_run(tmp_path / "selecting", "interrupted")
    write_run(selecting / "candidate_0", "finished", *KEPT)
    record(config("train", *given), selecting)
    check(config("train", *given, "logger=csv"), selecting)
    for other in ("seed=1", "fold=1", "fold=all", "select=null"):
        with pytest.raises(ValueError, match=r"holds an interrupted run \(candidate_0\)"):
            check(config("train", *given, other), selecting)


def test_a_folder_is_held_by_one_process_until_that_ends(tmp_path: Path):
    folder = tmp_path / "new" / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline()
        before = content(folder)
        with pytest.raises(ValueError, match="is in use by") as refused:
            hold(folder)
        assert f"process {holder.pid} on {socket.gethostname()} since 2" in str(refused.value)
        assert content(folder) == before
        holder.send_signal(signal.SIGKILL)
    hold(folder)
    hold(folder.parent / ".." / "new" / "run")  # what a start has taken, its run takes once more
    with pytest.raises(Timeout):
        FileLock(folder / LOCK, timeout=0).acquire()
    release(folder)
    release(folder)
    FileLock(folder / LOCK, timeout=0).acquire().lock.release()


def test_a_sweep_is_held_until_its_table(tmp_path: Path, capfd: pytest.CaptureFixture):
    cfg = config("train", f"hydra.sweep.dir={tmp_path}/sweep")
    callback = RunFolder()
    callback.on_multirun_start(cfg)
    pickle.dumps(callback)  # by the launchers of joblib and submitit
    with pytest.raises(Timeout):
        FileLock(tmp_path / "sweep" / LOCK, timeout=0).acquire()
    with pytest.raises(SystemExit):  # as there are no jobs
        Summary().on_multirun_end(cfg)
    with FileLock(tmp_path / "sweep" / LOCK, timeout=0):
        with pytest.raises(SystemExit):
            callback.on_multirun_start(cfg)
        assert "/sweep is in use by" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks"), OSError(errno.EOPNOTSUPP, ""), NotImplementedError]
)
def test_without_locks_there_is_one_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog
):
    def refuse(*_: object) -> None:
        raise error

    _warn_unlocked.cache_clear()
    monkeypatch.setattr(FileLock, "_acquire", refuse)
    for name in ("a", "b"):
        hold(tmp_path / name)
        release(tmp_path / name)
    (line,) = caplog.messages
    assert line.startswith("this file system has no locks")


@pytest.mark.parametrize("name", ["train", "eval", "compare"])
def test_a_folder_that_cannot_be_made_is_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture
):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        RunFolder().on_run_start(config(name, f"hydra.run.dir={tmp_path}/file/run"))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/file/run cannot be written (Not a directory)")


def test_a_sweep_that_cannot_be_written_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture):
    (tmp_path / "file").touch()
    for folder in ("file/sweep", "file"):
        with pytest.raises(SystemExit):
            Summary().on_multirun_start(config("train", f"hydra.sweep.dir={tmp_path}/{folder}"))
        (line,) = capfd.readouterr().err.splitlines()
        assert f"{tmp_path}/{folder} cannot be written, as {tmp_path}/file is" in line


@pytest.mark.slow
def test_a_typo_costs_nothing(
    svm_run: Path,
    small: list[str],
    launch: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
):
    given = ("data=demo", "model=svm")
    folder = Path(shutil.copytree(svm_run, tmp_path / "run"))
    before = content(folder)
    with pytest.raises(SystemExit):
        launch("train", *given, "data.root=nowhere")
    assert content(folder) == before
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"hydra.run.dir={folder} holds a")

    # Also where it may be replaced: not before data, model and trainer stand.
    for typo in ("data.root=nowhere", "trainer.accelerator=foo", "trainer.max_epochs=3"):
        with pytest.raises(SystemExit):
            launch("train", *given, "overwrite=true", typo)
        after = content(folder)
        assert {path: after[path] for path in before if path.suffix != ".log"} == {
            path: text for path, text in before.items() if path.suffix != ".log"
        }
        assert not (folder / NEXT_RECORD).exists()
    launch("train", *small, *given[1:], "overwrite=true", "seed=1")
    assert OmegaConf.load(folder / RECORD / "config.yaml").seed == 1
    assert {path.name for path in folder.glob(".hydra*")} == {RECORD}
    assert "seed=1" in read_status(folder)["overrides"]
