"""Two runs are compared on the clips they share, from their folders alone."""

import csv
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ser.analysis import comparison
from ser.evaluation.metrics import scores, tabulate
from ser.evaluation.results import RunResult

EMOTIONS = ("calm", "happy", "sad")


def clips(speakers: int = 4, wrong: int = 0, suffix: str = "wav") -> pd.DataFrame:
    """Predictions for two takes a speaker and emotion, the first `wrong` emotions missed."""
    rows = [
        {
            "clip": f"ravdess/{speaker:02}-{emotion}-{take}",
            "path": f"{speaker:02}/{emotion}-{take}.{suffix}",
            "corpus": "ravdess",
            "speaker": f"{speaker:02}",
            "gender": "male",
            "channel": "speech",
            "emotion": emotion,
            "intensity": "normal",
            "statement": "kids",
            "repetition": take,
            "label": emotion,
            "sha256": "0",
            "prediction": EMOTIONS[index - 1] if index < wrong else emotion,
        }
        for speaker in range(1, speakers + 1)
        for index, emotion in enumerate(EMOTIONS)
        for take in (1, 2)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def run(leave_run: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, rows: pd.DataFrame, **facts: object) -> Path:
        classes = sorted(set(rows.label))
        shares = pd.get_dummies(rows.prediction).reindex(columns=classes).fillna(0.0)
        predictions = tabulate(rows.drop(columns="prediction"), classes, shares.to_numpy(float))
        return leave_run(tmp_path / name, predictions, classes, **facts)

    return write


def compare(a: Path, b: Path) -> dict:
    return comparison.compare(RunResult.read(a), RunResult.read(b))


@pytest.fixture
def launch_compare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    def launch(*overrides: str) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["compare", *overrides, "hydra.run.dir=comparison"])
        # Run as a program it must not be there already as a module.
        monkeypatch.delitem(sys.modules, "ser.compare", raising=False)
        runpy.run_module("ser.compare", run_name="__main__")
        return tmp_path / "comparison"

    return launch


def test_two_runs_by_hand(run):
    found = compare(run("a", clips()), run("b", clips(wrong=1)))
    assert (found["n"], found["speakers"]) == (24, [f"ravdess/0{number}" for number in range(1, 5)])
    uar = found["scores"]["uar"]
    assert (uar["a"], uar["b"]) == pytest.approx((1, 2 / 3))
    assert uar["difference"] == pytest.approx(1 / 3)
    assert (uar["interval"], uar["unknown"]) == (None, "no spread over speakers")  # all alike
    assert uar["p"] == found["lowest_p"] == 0.125
    assert uar["minimum_detectable"] is None  # as no p of four speakers reaches 5 %


def test_neither_order_nor_path_nor_container_tells_clips_apart(run):
    b = clips(wrong=2, suffix="ogg").sample(frac=1, random_state=0)
    found = compare(run("a", clips(wrong=2)), run("b", b))
    assert found["a"]["left_out"] == found["b"]["left_out"] == 0
    assert all(values["difference"] == 0 for values in found["scores"].values())


def test_clips_that_sound_different_are_told(run, caplog, tmp_path: Path):
    a, b = clips(), clips()
    b.loc[2, "sha256"] = "1"
    compare(run("a", a), run("b", b))
    (line,) = caplog.messages
    assert line.startswith("1 clips sound different in the runs")
    for name, rate in (("a", 16000), ("b", 48000)):  # no two samples are the same
        folder = tmp_path / name / ".hydra"
        folder.mkdir()
        (folder / "config.yaml").write_text(f"data: {{sample_rate: {rate}}}")
    caplog.clear()
    compare(tmp_path / "a", tmp_path / "b")
    assert not caplog.messages


def test_only_shared_clips_count_and_the_rest_is_told(run, caplog):
    a, b = clips(5, wrong=1), clips(6).iloc[3:]
    found = compare(run("a", a), run("b", b))
    assert (found["n"], len(found["speakers"])) == (27, 5)
    expected = scores(a.label.to_numpy(str)[3:], a.prediction.to_numpy(str)[3:])
    for score, values in found["scores"].items():
        assert values["a"] == pytest.approx(expected[score])
    (line,) = caplog.messages
    assert line.startswith("not in both runs, left out: 3 clips of")
    assert (found["a"]["left_out"], found["b"]["left_out"]) == (3, 6)


def test_each_of_several_corpora_has_a_difference_of_its_own(run, launch_compare, capsys):
    def twice(wrong: int, others: int) -> pd.DataFrame:
        """Four speakers of one corpus, and of the other four of the same names."""
        own = clips(wrong=others)
        other = own.assign(corpus="own", clip=own["clip"].str.replace("ravdess", "own"))
        return pd.concat([clips(wrong=wrong), other], ignore_index=True)

    a, b = run("a", twice(0, 0)), run("b", twice(1, 2))
    found = compare(a, b)
    assert len(found["speakers"]) == 8
    parts = {name: each["uar"]["difference"] for name, each in found["corpora"].items()}
    assert parts == pytest.approx({"ravdess": 1 / 3, "own": 2 / 3})
    assert found["scores"]["uar"]["difference"] == pytest.approx(1 / 2)
    table = pd.read_csv(launch_compare(f"a={a}", f"b={b}") / "comparison.csv")
    table["corpus"] = table.corpus.fillna("")
    rows = table[table.score == "uar"].set_index("corpus")["difference"]
    assert rows[["", "ravdess", "own"]].tolist() == pytest.approx([1 / 2, 1 / 3, 2 / 3])
    assert "uar, own" in capsys.readouterr().out


def test_other_classes_are_a_warning(run, caplog):
    a, b = clips(), clips()
    compare(run("a", a[a.label != "sad"]), run("b", b))
    left_out, classes = caplog.messages
    assert left_out.startswith("not in both runs, left out: 0 clips of")
    assert classes.startswith("only one of the runs knows sad:")


def test_what_cannot_be_compared_is_one_line(run, tmp_path: Path):
    a = run("a", clips())
    with pytest.raises(ValueError, match=r"nowhere holds no metrics\.json: expected the folder"):
        compare(a, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="share no clip"):
        compare(a, run("song", clips().assign(clip=lambda rows: rows["clip"] + "-song")))
    relabelled = clips().assign(label=lambda rows: rows.label.replace("sad", "low"))
    with pytest.raises(ValueError, match=r"ravdess/01-sad-1 is sad in .* and low in"):
        compare(a, run("relabelled", relabelled))
    twice = pd.concat([clips(), clips().head(1)], ignore_index=True)
    with pytest.raises(ValueError, match=r"it has two rows of ravdess/01-calm-1\): run it again"):
        compare(a, run("twice", twice))
    with pytest.raises(ValueError, match=r"predictions\.csv is damaged \(it lacks 'clip'\)"):
        compare(a, run("of an earlier version", clips().drop(columns="clip")))


def test_a_damaged_run_is_one_line(run):
    fine, damaged = run("a", clips()), run("b", clips())
    whole = (damaged / "metrics.json").read_text()
    (damaged / "metrics.json").write_text('{"protocol": "hold')
    with pytest.raises(ValueError, match=r"b/metrics.json is damaged"):
        compare(fine, damaged)
    (damaged / "metrics.json").write_text('{"protocol": "holdout"}')
    with pytest.raises(ValueError, match=r"json is damaged \(it lacks 'protocol_version'\)"):
        compare(fine, damaged)
    (damaged / "metrics.json").write_text(whole)
    lines = (damaged / "predictions.csv").read_text().splitlines()
    for broken in (lines[:1], [*lines[:-1], lines[-1][:10]]):
        (damaged / "predictions.csv").write_text("\n".join(broken))
        with pytest.raises(ValueError, match=r"b/predictions\.csv is damaged \(.*run it again"):
            compare(fine, damaged)


def test_a_run_that_failed_is_not_compared(run):
    a, b = run("a", clips()), run("b", clips())
    (b / "status.json").write_text('{"status": "failed", "error": "no such class"}')
    with pytest.raises(ValueError, match=r"b is failed \(no such class\): expected finished runs"):
        compare(a, b)


def test_several_runs_are_adjusted_within_a_score(run):
    a = run("a", clips(6))
    b, c = run("b", clips(6, wrong=1)), run("c", clips(6))
    pairs = comparison.compare_several(*(RunResult.read(a), [RunResult.read(b), RunResult.read(c)]))
    assert [pair["scores"]["uar"]["p"] for pair in pairs] == [0.03125, 1]
    assert [pair["scores"]["uar"]["p_holm"] for pair in pairs] == [0.0625, 1]


def test_the_command_writes_a_row_for_each_run_and_score(run, launch_compare, capsys):
    run("a", clips())
    run("b", clips(wrong=1), leaky=True, protocol="random")
    c = clips(wrong=2)
    c.loc[0, "prediction"] = c.label[0]  # one speaker unlike the others
    run("c", c, transductive=True)
    folder = launch_compare("a=a", "b=[b,c]")
    with (folder / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["score"]) for row in rows] == [
        (name, score) for name in "bc" for score in ("accuracy", "uar", "macro_f1")
    ]
    pairs = json.loads((folder / "comparison.json").read_text())
    assert [pair["b"]["protocol"] for pair in pairs] == ["random", "holdout"]
    assert pairs[1]["a"]["folder"] == "a"
    assert float(rows[4]["p_holm"]) == pairs[1]["scores"]["uar"]["p_holm"] == 0.25
    assert float(rows[4]["low"]) == pairs[1]["scores"]["uar"]["interval"][0]
    assert (rows[1]["low"], pairs[0]["scores"]["uar"]["interval"]) == ("", None)
    assert [rows[0][key] for key in ("leaky_a", "leaky_b")] == ["False", "True"]
    assert rows[4]["n"] == "24"
    assert rows[4]["speakers"] == "4"
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    printed = capsys.readouterr().out
    assert "b is leaky" in printed
    assert "b is transductive" in printed
    assert "Holm p" in printed
    assert "24 clips of 4 speakers; no p below 0.125 is possible with so few" in printed


def test_one_against_one_needs_no_adjustment_and_two_speakers_give_no_interval(
    run, launch_compare, capsys
):
    run("a", clips(2))
    run("b", clips(2, wrong=1))
    folder = launch_compare("a=a", "b=b")
    printed = capsys.readouterr().out
    assert "Holm" not in printed
    assert "fewer than 3 speakers" in printed
    (pair,) = json.loads((folder / "comparison.json").read_text())
    assert pair["scores"]["uar"]["minimum_detectable"] is None


@pytest.mark.parametrize("overrides", [(), ("a=a",), ("a=a", "b=[]"), ("a=a", "b=nowhere")])
def test_a_mistake_is_one_line_and_exit_code_1(run, launch_compare, tmp_path, overrides):
    run("a", clips())
    with pytest.raises(SystemExit) as end:
        launch_compare(*overrides)
    assert end.value.code == 1
    status = json.loads((tmp_path / "comparison" / "status.json").read_text())
    assert status["status"] == "failed"
    assert "expected" in status["error"]
