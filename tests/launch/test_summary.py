import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
from omegaconf import OmegaConf

from ser.evaluation import jobs
from ser.launch.start import Check
from ser.launch.sweep import Summary, summarise
from ser.reporting.sweep_table import CHOICE, show_summary


def test_a_multirun_goes_on_after_a_failed_job_and_ends_with_a_table(
    launch: Callable[..., Path], small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture
):
    sweep = tmp_path / "sweep"
    overrides = ["-m", f"hydra.sweep.dir={sweep}", *small, "model=svm"]
    with pytest.raises(SystemExit) as end:
        launch("train", *overrides, "data.drop=[sat],[sad],[]")
    assert end.value.code == 1
    table = pd.read_csv(sweep / "summary.csv", dtype=str, keep_default_na=False)
    rows = table.to_dict("records")
    assert [row["status"] for row in rows] == ["failed", "finished", "finished"]
    assert [row["data.drop"] for row in rows] == ["[sat]", "[sad]", "[]"]
    assert "model" not in rows[0]  # it did not vary
    assert "did you mean 'sad'" in rows[0]["error"]
    assert rows[0]["uar"] == ""
    for row in rows[1:]:
        metrics = json.loads((sweep / row["job"] / "metrics.json").read_text())
        assert float(row["uar"]) == metrics["uar"]
        assert [float(row["uar_low"]), float(row["uar_high"])] == metrics["ci"]["uar"]
    assert json.loads((sweep / "summary.json").read_text())[1]["status"] == "finished"
    shown = capfd.readouterr().out
    assert "95 % of UAR" in shown
    assert "[sad]" in shown
    assert "sound different" not in shown
    clips = pd.read_csv(sweep / "2" / "split.csv", dtype=str)
    clips.assign(sha256="0" * 64).to_csv(sweep / "2" / "split.csv", index=False)
    summarise(sweep)
    shared = len(pd.read_csv(sweep / "1" / "split.csv"))
    assert f"{shared} clips sound different in the jobs, such as" in capfd.readouterr().out


@pytest.mark.slow
def test_a_poisoned_job_is_a_row_without_scores_and_its_folder_is_no_other_sweeps(
    launch: Callable[..., Path], small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture
):
    sweep = f"hydra.sweep.dir={tmp_path}"
    poisoned = [*small]
    poisoned += ["trainer.max_epochs=1", "optimizer.lr=1e30,1e-3", sweep]
    with pytest.raises(SystemExit) as end:
        launch("train", "-m", *poisoned)
    assert end.value.code == 1
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [row["status"] for row in rows] == ["failed", "finished"]
    assert "the loss is" in rows[0]["error"]
    assert [row["uar"] is None for row in rows] == [True, False]
    for overrides, expected in (
        ([sweep], "holds a sweep already: expected another folder, or resume_sweep="),
        ([f"resume_sweep={tmp_path}"], "expected it without -m"),
    ):
        capfd.readouterr()
        with pytest.raises(SystemExit):
            launch("train", "-m", "data=demo", *overrides)
        (line,) = capfd.readouterr().err.splitlines()
        assert expected in line
    shutil.copy(tmp_path / "1" / "metrics.json", tmp_path / "0" / "metrics.json")
    assert jobs.collect(tmp_path)[0]["uar"] is None  # an earlier start's


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., None]:
    """Leave what a job leaves, without running one; of no `clips` it has no split."""

    def write(number: int, clips: dict | None, status: str = "finished", **config: object) -> None:
        folder = tmp_path / str(number)
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save([f"input={number}"], folder / ".hydra" / "overrides.yaml")
        OmegaConf.save(config, folder / ".hydra" / "config.yaml")
        (folder / "status.json").write_text(json.dumps({"status": status}))
        if clips is not None:
            rows = pd.DataFrame({"clip": clips.keys(), "sha256": clips.values()})
            rows.to_csv(folder / "split.csv", index=False)

    return write


def test_a_sweep_over_recordings_without_a_split_ends_with_what_its_jobs_did(
    job: Callable[..., None], tmp_path: Path
):
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    job(0, None)
    Summary().on_multirun_end(config)
    job(1, None, "failed")
    with pytest.raises(SystemExit) as stop:
        Summary().on_multirun_end(config)
    assert stop.value.code == 1
    assert [row["status"] for row in summarise(tmp_path)] == ["finished", "failed"]


@pytest.mark.parametrize(
    ("error", "expected"), [(OSError("no room\nleft"), True), (RuntimeError("a bug"), False)]
)
def test_no_exception_lets_a_sweep_end_or_go_on_as_if_all_were_well(
    error: Exception,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    def fail(*_: object) -> None:
        raise error

    for name in ("summarise", "_check_folder", "resume"):
        monkeypatch.setattr(f"ser.launch.sweep.{name}", fail)
    monkeypatch.setattr("ser.launch.settings.check", fail)
    monkeypatch.setattr("ser.launch.start.HydraConfig", Mock())
    hydra = {"sweep": {"dir": str(tmp_path)}, "run": {"dir": str(tmp_path)}, "overrides": {}}
    config = OmegaConf.create({"resume_sweep": str(tmp_path), "hydra": {**hydra, "runtime": {}}})
    for call in (
        Summary().on_multirun_end,
        Summary().on_multirun_start,
        Summary().on_run_start,
        Check().on_run_start,
    ):
        with pytest.raises(SystemExit) as stop:
            call(config)
        assert stop.value.code == 1
        shown = capsys.readouterr().err.splitlines()
        assert shown[-1] == " ".join(str(error).split())
        assert (len(shown) == 1) == expected  # of a bug the traceback too


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"root": "r", "sample_rate": 16000}, {"root": "r", "sample_rate": 16000}, True),
        ({"root": "r", "sample_rate": 16000}, {"root": "r", "sample_rate": 48000}, False),
        ({"root": "r", "sample_rate": 16000}, {"root": {"dir": "s"}, "sample_rate": 16000}, False),
    ],
)
@pytest.mark.parametrize("scored", [False, True])
def test_only_jobs_of_one_root_and_rate_can_sound_different(
    one: dict, other: dict, told: bool, scored: bool, job: Callable[..., None],
    tmp_path: Path, capsys: pytest.CaptureFixture,
):  # fmt: skip
    for number, data in enumerate((one, other)):
        config = {"data": data}
        if scored:  # by eval.py, of a checkpoint that knows its data
            run = tmp_path / "runs" / str(number)
            (run / ".hydra").mkdir(parents=True)
            OmegaConf.save(config, run / ".hydra" / "config.yaml")
            config = {"ckpt": str(run / "checkpoints" / "best.ckpt"), "data": {"root": None}}
        job(number, {"a.wav": str(number), "b.wav": "0"}, **config)
    summarise(tmp_path)
    shown = capsys.readouterr().out
    assert ("1 clips sound different in the jobs, such as a.wav" in shown) == told
    assert CHOICE not in shown  # without scores


def test_a_name_that_varies_splits_no_folder(launch: Callable[..., Path], tmp_path: Path):
    sweep = "hydra.sweep.dir=" + str(tmp_path / "${name}")
    with pytest.raises(SystemExit):
        launch("train", "-m", "data=demo", "data.drop=[sat]", "name=default,other", sweep)
    rows = json.loads((tmp_path / "default" / "summary.json").read_text())
    assert [row["name"] for row in rows] == ["default", "other"]


@pytest.mark.slow
def test_a_table_over_different_numbers_of_classes_says_so(
    launch: Callable[..., Path], small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture
):
    overrides = ["-m", f"hydra.sweep.dir={tmp_path}", *small]
    overrides += ["model=logistic"]
    with pytest.raises(SystemExit):
        launch("train", *overrides, "data.target=emotion,emotion_gender,gender")
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [row["classes"] for row in rows] == [8, 16, None]
    assert jobs.varied(rows) == ["data.target"]
    metrics = json.loads((tmp_path / "1" / "metrics.json").read_text())
    assert rows[1]["emotion_uar"] == metrics["emotion"]["uar"] != rows[1]["uar"]
    assert rows[0]["emotion_uar"] == rows[0]["uar"]
    assert "<td>emotion_gender</td><td>16</td>" in (tmp_path / "summary.html").read_text()
    assert "None" not in (tmp_path / "summary.html").read_text()
    shown = capfd.readouterr().out
    assert "classes" in shown
    show_summary(tmp_path, [rows[0], rows[2]])
    assert "classes" not in capfd.readouterr().out


@pytest.mark.slow
def test_seeds_end_with_their_spread_beside_that_of_the_speakers(
    launch: Callable[..., Path], small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture
):
    sweep = tmp_path / "sweep"
    overrides = ["-m", f"hydra.sweep.dir={sweep}", *small]
    overrides += ["trainer.max_epochs=1"]
    launch("train", *overrides, "seed=0,1", "data.drop=[],[sad]")
    rows = pd.read_csv(sweep / "summary.csv", keep_default_na=False)
    spread = pd.read_csv(sweep / "seeds.csv")
    assert spread["data.drop"].tolist() == ["[]", "[sad]"]
    assert (spread.seeds == 2).all()
    for _, row in spread.iterrows():
        of_setting = rows.uar[rows["data.drop"] == row["data.drop"]]
        assert row["mean"] == pytest.approx(of_setting.mean())
        assert row["seed_sd"] == pytest.approx(of_setting.std())
        assert row["speaker_se"] > 0
    assert "sd over seeds" in capfd.readouterr().out


def test_a_multirun_that_finishes_ends_well_and_its_table_is_written_again_by_command(
    launch: Callable[..., Path],
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
):
    sweep = tmp_path / "sweep"
    launch("train", "-m", f"hydra.sweep.dir={sweep}", *small, "model=svm,logistic")
    rows = json.loads((sweep / "summary.json").read_text())
    assert [row["model"] for row in rows] == ["svm", "logistic"]
    assert {row["status"] for row in rows} == {"finished"}
    assert capfd.readouterr().out.count(CHOICE) == 1
    assert (sweep / "summary.html").read_text().count(CHOICE) == 1
    written = {path.name: path.read_bytes() for path in sweep.glob("summary.*")}
    assert set(written) == {"summary.csv", "summary.json", "summary.html", "summary.png"}
    assert b"model=svm" not in written["summary.html"]
    assert b"<td>svm</td>" in written["summary.html"]
    assert written["summary.html"].count(b"data:image/png;base64,") == 1
    for name in written:
        (sweep / name).unlink()

    def command(*overrides: str) -> None:
        monkeypatch.setattr(sys, "argv", ["summary", *overrides])
        monkeypatch.delitem(sys.modules, "ser.summary", raising=False)
        runpy.run_module("ser.summary", run_name="__main__")

    command(f"sweep={sweep}")
    assert "logistic" in capfd.readouterr().out
    for name in ("summary.csv", "summary.json", "summary.html"):
        assert (sweep / name).read_bytes() == written[name]
    for overrides, line in (
        ([], "expected one of them"),
        ([f"sweep={sweep}", f"pool={sweep}"], "expected one of them"),
        ([f"sweep={tmp_path}"], "holds no jobs"),
    ):
        with pytest.raises(SystemExit):
            command(*overrides)
        assert line in capfd.readouterr().err
