"""Runs that break off lose no finished epoch, and end as if they had never been interrupted."""

import errno
import json
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from ser.checkpoints import training_state
from ser.checkpoints.atomic_io import WholeFiles
from ser.checkpoints.format import load_checkpoint, read_content
from ser.training.restart import CurvesLogger, keep_curves

REPOSITORY = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "3"))


def run(*overrides: object) -> None:
    before = sys.argv
    sys.argv = ["train.py", *map(str, overrides)]
    try:
        runpy.run_path(str(REPOSITORY / "train.py"), run_name="__main__")
    finally:
        sys.argv = before


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start train.py in another process, which does not outlive the test."""
    processes = []

    def launch(*overrides: object, **options: object) -> subprocess.Popen:
        command = [sys.executable, str(REPOSITORY / "train.py"), *map(str, overrides)]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options))
        return processes[-1]

    yield launch
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def status(folder: Path) -> str:
    return json.loads((folder / "status.json").read_text())["status"]


def same(one: Path, other: Path) -> bool:
    return all(
        (one / name).read_bytes() == (other / name).read_bytes()
        for name in ("predictions.csv", "split.csv", "metrics.csv")
    )


@pytest.fixture(scope="module")
def usual(small: list[str], cache: Path) -> list[str]:
    """What all runs here are started with: a third of the embedded corpus."""
    return [*small, f"cache.dir={cache}", "logger=csv"]


@pytest.fixture(scope="module")
def whole(small: list[str], finish: Callable[..., Path]) -> Path:
    """A run of four epochs that nothing interrupted."""
    return finish(*small, "trainer.max_epochs=4")


@pytest.fixture(scope="module")
def _two(small: list[str], finish: Callable[..., Path]) -> Path:
    return finish(*small, "trainer.max_epochs=2")


@pytest.fixture
def two(_two: Path, tmp_path: Path) -> Path:
    """The first two of its epochs, in a folder that has been moved since."""
    return Path(shutil.copytree(_two, tmp_path / "two"))


def test_a_resumed_run_ends_like_one_never_interrupted(whole: Path, two: Path):
    run(f"resume={two}/checkpoints/last.ckpt", "trainer.max_epochs=4")
    assert same(two, whole)
    assert status(two) == "finished"
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (
            torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (two, whole)
        )
        assert one["epoch"] == other["epoch"]
        assert all(
            value.equal(other["state_dict"][key]) for key, value in one["state_dict"].items()
        )
    # And once more, by its own overrides.
    run(f"resume={two}/checkpoints/last.ckpt")
    assert same(two, whole)


@pytest.mark.slow
def test_another_folder_gets_all_that_the_run_needs(
    whole: Path, two: Path, tmp_path: Path, cache: Path
):
    kept = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}
    last, folder = two / "checkpoints" / "last.ckpt", tmp_path / "other"
    run(f"resume={last}", f"hydra.run.dir={folder}", "trainer.max_epochs=4", f"cache.dir={cache}")
    assert same(folder, whole)
    assert {path: path.read_bytes() for path in two.rglob("*") if path.is_file()} == kept


@pytest.mark.slow
def test_the_best_of_earlier_epochs_stays_the_best(two: Path):
    path = two / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    (monitor,) = (state for state in content["callbacks"].values() if state.get("monitor"))
    monitor["best_model_score"] = torch.tensor(2.0)  # which no epoch will reach
    monitor["best_k_models"] = {monitor["best_model_path"]: torch.tensor(2.0)}
    torch.save(content, path)
    best = (two / "checkpoints" / "best.ckpt").read_bytes()
    run(f"resume={path}", "trainer.max_epochs=3")
    assert (two / "checkpoints" / "best.ckpt").read_bytes() == best
    assert torch.load(path, weights_only=True)["epoch"] == 2


@pytest.mark.slow
def test_numbers_of_the_optimiser_win(whole: Path, two: Path):
    run(f"resume={two}/checkpoints/last.ckpt", "trainer.max_epochs=4", "optimizer.lr=2e-4")
    usual, lower = (
        pd.read_csv(folder / "metrics.csv")["train/lr"].dropna() for folder in (whole, two)
    )
    # A tenth of the usual 2e-3 from there on, in the same phase of the schedule.
    assert lower.tolist() == pytest.approx([*usual[:2], *(usual[2:] / 10)])


def test_a_single_file_is_enough(two: Path, tmp_path: Path, capfd: pytest.CaptureFixture):
    alone = tmp_path / "somewhere.ckpt"
    shutil.move(two / "checkpoints" / "last.ckpt", alone)
    folder = tmp_path / "new"
    run(f"resume={alone}", f"hydra.run.dir={folder}", "trainer.max_epochs=3")
    assert status(folder) == "finished"
    assert "best.ckpt is missing" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.drop=[sad]"], "cannot go on with another data.drop"),
        (["seed=3"], "cannot go on with another"),
        (["protocol=luna5"], "cannot go on with another"),
        (["model.network.dropout=0.1"], "another model.network.dropout"),
        (["optimizer=sgd"], "another model.optimizer._target_"),
        (["scheduler.T_0=3"], "another"),
        (["trainer.max_epochs=1"], "max_epochs"),
        (["experiment=drop_sad"], "another data.drop"),
        (["model=svm"], "cannot go on with model=svm"),
        (["callbacks.best.monitor=val/loss"], "another callbacks.best.monitor"),
        (["-m", "trainer.max_epochs=3,4"], "leave -m"),
    ],
)
def test_what_cannot_change_under_way_is_refused_by_name(
    overrides: list[str], words: str, two: Path, capfd: pytest.CaptureFixture
):
    kept = (two / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        run(*overrides, f"resume={two}/checkpoints/last.ckpt")
    assert stopped.value.code == 1
    lines = capfd.readouterr().err.splitlines()
    assert words in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert (two / "checkpoints" / "last.ckpt").read_bytes() == kept


@pytest.mark.slow
def test_an_override_wins_once_however_often_it_breaks_off(whole: Path, two: Path):
    # As a kill before the next epoch's end leaves it: started with the override, and once more.
    last = f"resume={two}/checkpoints/last.ckpt"
    run(last, "trainer.max_epochs=2", "optimizer.lr=2e-4")
    run(last, "trainer.max_epochs=2", "optimizer.lr=2e-4")
    run(last, "trainer.max_epochs=3", "logger=csv")
    usual, lower = (
        pd.read_csv(folder / "metrics.csv")["train/lr"].dropna() for folder in (whole, two)
    )
    assert lower.tolist() == pytest.approx([*usual[:2], usual[2:].iloc[0] / 10])


@pytest.mark.slow
def test_what_is_said_holds_also_where_it_is_the_default(
    two: Path, few: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    path = two / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["ser"]["overrides"] = ["data.roles={tess: off}"]
    content["ser"]["config"]["data"]["root"] = "/nowhere"
    torch.save(content, path)
    monkeypatch.setenv("SER_DATA", str(few))
    run(f"resume={path}", f"data.root={few}")
    with pytest.raises(SystemExit):
        run(
            f"++resume={path}", "data.roles={tess: off}"
        )  # the default of that start, not of the recipe
    assert "another data.roles" in capfd.readouterr().err


def test_a_new_start_leaves_nothing_of_an_earlier_one(
    two: Path, usual: list[str], capfd: pytest.CaptureFixture
):
    with pytest.raises(SystemExit):
        run(*usual, f"hydra.run.dir={two}", "overwrite=true", "trainer.max_epochs=0")
    assert "no epoch was finished" in capfd.readouterr().err
    assert status(two) == "failed"
    for name in ("checkpoints/best.ckpt", "predictions.csv", "metrics.json"):
        assert not (two / name).exists()


@pytest.mark.slow
def test_the_best_of_another_run_is_not_taken(two: Path, whole: Path, tmp_path: Path):
    alone, folder = tmp_path / "last.ckpt", tmp_path / "other"
    shutil.copy(two / "checkpoints" / "last.ckpt", alone)
    shutil.copytree(whole, folder)
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"of another run")
    given = (f"resume={alone}", f"hydra.run.dir={folder}", "trainer.max_epochs=3")
    with pytest.raises(SystemExit):  # it is not that run which goes on
        run(*given)
    run(*given, "overwrite=true")
    assert torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 2


def test_a_checkpoint_behind_the_last_or_of_a_fold_is_refused(
    two: Path, capfd: pytest.CaptureFixture
):
    with pytest.raises(SystemExit):
        run(f"resume={two}/checkpoints/best.ckpt", f"hydra.run.dir={two}")
    assert "would go back behind last.ckpt" in capfd.readouterr().err
    (two / ".hydra" / "hydra.yaml").unlink()  # as in a fold
    with pytest.raises(SystemExit):
        run(f"resume={two}/checkpoints/last.ckpt")
    assert f"is part of the run in {two.parent}: start that once more" in capfd.readouterr().err


@pytest.mark.slow
def test_without_a_logger_the_curves_so_far_stay(two: Path):
    header, *rows = (two / "metrics.csv").read_text().splitlines()
    run(f"resume={two}/checkpoints/last.ckpt", "trainer.max_epochs=3", "logger=none")
    curves = [row for row in rows if not row.startswith(",")]  # those without epoch are of test
    assert (two / "metrics.csv").read_text().splitlines() == [header, *curves]


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"epoch,val/uar\n0,0.5\nx,0.6\n", "invalid literal for int"),
        (b"epoch,val/uar\n0,0.5,1,0.6\n", "a row has more than 2 values"),
        (b"epoch,val/uar\n0,\xff\n", "can't decode byte 0xff"),
        (b"step,val/uar\n0,0.5\n", "'epoch'"),
    ],
)
def test_damaged_curves_are_set_aside(
    damaged: bytes, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    stands = SimpleNamespace(path=tmp_path / "checkpoints" / "last.ckpt", epoch=1)
    (tmp_path / "metrics.csv").write_bytes(damaged)
    keep_curves(stands, tmp_path)
    assert reason in caplog.text
    assert "set aside as" in caplog.text
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "metrics.damaged.csv": damaged
    }
    # Those of another folder stay as they are.
    (tmp_path / "metrics.csv").write_bytes(damaged)
    other = tmp_path / "other"
    other.mkdir()
    keep_curves(stands, other)
    assert (tmp_path / "metrics.csv").read_bytes() == damaged
    assert not list(other.iterdir())


def test_the_curves_go_on_after_the_last_whole_epoch(tmp_path: Path):
    stands = SimpleNamespace(path=tmp_path / "checkpoints" / "last.ckpt", epoch=1)
    # A later epoch is cut, and so is a row that a kill has cut short.
    before = "epoch,step,val/uar\r\n0,3,0.5\r\n1,6,0.6\r\n"
    (tmp_path / "metrics.csv").write_text(f"{before}2,9,0.7\r\n2", newline="")
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        keep_curves(stands, folder)
        logger = CurvesLogger(folder, "", "")
        logger.log_metrics({"epoch": 2, "val/uar": 0.75}, step=9)
        logger.save()
        logger.log_metrics({"epoch": 2, "train/loss": 1.5}, step=9)  # a new column
        logger.finalize("success")
        table = pd.read_csv(folder / "metrics.csv")
        assert table["val/uar"].tolist()[:3] == [0.5, 0.6, 0.75]
        assert table["train/loss"].tolist()[3] == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("often", ["val_check_interval=0.5", "check_val_every_n_epoch=2"])
def test_the_last_checkpoint_is_that_of_an_epochs_end(often: str, usual: list[str], tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    usual = [*usual, "data.roles={tess: off}", f"+trainer.{often}"]
    run(*usual, "trainer.max_epochs=4", f"hydra.run.dir={one}")
    run(*usual, "trainer.max_epochs=2", f"hydra.run.dir={other}")
    run(f"resume={other}/checkpoints/last.ckpt", "trainer.max_epochs=4")
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()


def test_other_clips_are_refused(two: Path, tmp_path: Path, capfd: pytest.CaptureFixture):
    path = two / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    name = content["ser"]["split"]["clip"][5]
    content["ser"]["split"]["sha256"][5] = "0" * 64
    torch.save(content, path)
    with pytest.raises(SystemExit):
        run(f"resume={path}", "trainer.max_epochs=3")
    line = (
        f"1 are missing, new, in another split, of another class or sound different, such as {name}"
    )
    assert line in capfd.readouterr().err


@pytest.mark.parametrize("target", ["torch.hub.load", "torch.utils.collect_env.run"])
def test_a_strangers_checkpoint_runs_nothing_of_its_own(
    target: str, two: Path, capfd: pytest.CaptureFixture
):
    path = two / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["ser"]["config"]["callbacks"]["mine"] = {"_target_": target}
    torch.save(content, path)
    with pytest.raises(SystemExit):
        run(f"resume={path}", "trainer.max_epochs=3")
    assert f"asks to build {target!r}" in capfd.readouterr().err


def test_a_strangers_checkpoint_says_nothing_of_what_is_written(
    two: Path, tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture
):
    """Paths, loggers and files to delete, in the recipe and in the states of the callbacks."""
    path, victim = two / "checkpoints" / "last.ckpt", tmp_path / "victim"
    (victim / "of").mkdir(parents=True)
    content = torch.load(path, weights_only=True)
    config = content["ser"]["config"]
    config["folder"] = "/"
    config["callbacks"]["best"]["dirpath"] = str(tmp_path / "elsewhere")
    config["logger"]["csv"]["save_dir"] = str(tmp_path / "elsewhere")
    config["trainer"]["default_root_dir"] = str(tmp_path / "elsewhere")
    config["name"] = "elsewhere"
    config["hydra"] = {"run": {"dir": str(tmp_path / "elsewhere")}}
    content["ser"]["overrides"] = ["hydra.searchpath=[pkg://this]"]
    for state in content["callbacks"].values():
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = f"local://{victim}/best.ckpt"
        state["best_k_models"] = {f"local://{victim}": torch.tensor(0.0)}
    torch.save(content, path)
    run(f"resume={path}", "trainer.max_epochs=3", f"cache.dir={cache}", "logger=csv")
    assert "was not written here" in "".join(capfd.readouterr())
    assert (victim / "of").is_dir()
    assert not (tmp_path / "elsewhere").exists()
    assert status(two) == "finished"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(3)),
        (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(1).expand(16, 1, 5, 5)),
        (("optimizer_states", 0, "param_groups", 0, "lr"), float("nan")),
        (("optimizer_states", 0, "param_groups", 0, "params"), [0]),
        (("optimizer_states", 0, "state"), {99: {}}),
        (("lr_schedulers", 0, "step"), "x"),
        (("lr_schedulers",), []),
        (("loops", "fit_loop"), {}),
        (("callbacks",), None),
        (("epoch",), None),
        (("pytorch-lightning_version",), "x"),
    ],
)
def test_a_state_that_is_not_one_of_this_training_is_refused(
    two: Path, place: tuple, value: object
):
    path = two / "checkpoints" / "last.ckpt"
    loaded = load_checkpoint(path)
    content = read_content(path)
    whole = training_state.checked(content, loaded.model, path.parent)
    assert {*whole["callbacks"]} == {*content["callbacks"]}
    node = content
    *parents, key = place
    for parent in parents:
        node = node[parent]
    node[key] = value
    with pytest.raises(ValueError, match="cannot go on from its state"):
        training_state.checked(content, loaded.model, path.parent)


def test_a_best_checkpoint_of_another_run_is_refused(two: Path, capfd: pytest.CaptureFixture):
    best = two / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    for recipe in (content["hyper_parameters"], content["ser"]["config"]["model"]):
        recipe["network"]["dropout"] = 0.9
    torch.save(content, best)
    with pytest.raises(SystemExit):
        run(f"resume={two}/checkpoints/last.ckpt", "trainer.max_epochs=3")
    assert f"{best} holds another model than" in capfd.readouterr().err


def test_a_classical_model_has_nothing_to_go_on_with(svm_run: Path, capfd: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        run(f"resume={svm_run}/checkpoints/best.ckpt")
    assert "classical model, which is fitted once" in capfd.readouterr().err


def test_an_online_run_of_wandb_is_continued(two: Path):
    (two / "wandb" / "run-20260101_000000-abc123").mkdir(parents=True)
    path = two / "checkpoints" / "last.ckpt"
    os.environ["WANDB_MODE"] = "disabled"
    try:
        run(f"resume={path}", "logger=wandb", "trainer.max_epochs=2")
    finally:
        del os.environ["WANDB_MODE"]
    config = (two / ".hydra" / "config.yaml").read_text()
    assert "id: abc123" in config
    assert "resume: allow" in config


@pytest.mark.slow
def test_folds_go_on_where_they_broke_off(
    small: list[str], launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    overrides = (*small, "protocol=kfold", "protocol.folds=2", "fold=all")
    short = ("trainer.max_epochs=2", "trainer.limit_train_batches=2")
    folder = launch("train", *overrides, *short)
    expected = (folder / "predictions.csv").read_bytes()
    # As a kill leaves it: the first fold finished, the second at the end of its first epoch.
    fold = folder / "fold_1"
    (fold / "status.json").write_text('{"status": "running"}')
    (fold / "predictions.csv").unlink()
    capfd.readouterr()
    launch("train", *overrides, *short)
    assert "fold 0 is there already" in (messages := capfd.readouterr().err)
    assert "going on after epoch 1 of" in messages
    assert (folder / "predictions.csv").read_bytes() == expected


def test_a_checkpoint_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ser.checkpoints.atomic_io.os.replace", fail)
    with pytest.raises(OSError, match=r"No space left on device\): make room and go on with"):
        WholeFiles().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(
    whole: Path, two: Path, capfd: pytest.CaptureFixture
):
    last = two / "checkpoints" / "last.ckpt"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (last.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(SystemExit) as end:
            run(f"resume={last}", "trainer.max_epochs=4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert end.value.code == 1
    errors = capfd.readouterr().err
    assert "could not be written" in errors
    assert "Traceback" not in errors
    assert status(two) == "failed"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    run(f"resume={last}", "trainer.max_epochs=4")
    assert same(two, whole)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        pytest.param(signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_cleanly(
    number: int, code: int, word: str, two: Path, start: Callable[..., subprocess.Popen]
):
    last = two / "checkpoints" / "last.ckpt"
    process = start(f"resume={last}", "trainer.max_epochs=500")
    rows = two / "metrics.csv"
    while process.poll() is None and not (rows.is_file() and "\n3," in rows.read_text()):
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert f"{word}: resume={last} goes on" in errors
    assert "Traceback" not in errors
    assert status(two) == "interrupted"
    if number == signal.SIGINT:  # the best so far is reported
        best = torch.load(two / "checkpoints" / "best.ckpt", weights_only=True)
        metrics = json.loads((two / "metrics.json").read_text())
        assert metrics["n"] == len(pd.read_csv(two / "predictions.csv")) == 68
        assert best["epoch"] <= torch.load(last, weights_only=True)["epoch"] + 1


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again(
    whole: Path, usual: list[str], tmp_path: Path, start: Callable[..., subprocess.Popen]
):
    folder = tmp_path / "killed"
    last = folder / "checkpoints" / "last.ckpt"
    first = [*usual, f"hydra.run.dir={folder}", "trainer.max_epochs=4"]
    generator = random.Random(0)
    began = time.monotonic()
    start(*first).communicate(timeout=600)
    duration = time.monotonic() - began
    shutil.rmtree(folder)
    for _ in range(KILLS):
        process = start(*([f"resume={last}"] if last.exists() else first))
        time.sleep(generator.uniform(0.2, 1) * duration)
        process.kill()
        process.communicate()
    process = start(*([f"resume={last}"] if last.exists() else first))
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    # Not metrics.csv: Lightning logs an epoch's loss after its checkpoint.
    for name in ("predictions.csv", "split.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
