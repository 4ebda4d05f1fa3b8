"""The stress card of runs and of cross-validations of the embedded corpus."""

import json
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ser.corpora.clip import Clip
from ser.evaluation.statistics import paired_difference
from ser.inference.stress import CLEAN, COLUMNS, Altered, babble_rows, find_checkpoints, tabulate


@pytest.fixture
def stress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> Callable[..., Path]:
    """Run `ser.stress` in this process; gives the folder."""

    def run(*overrides: object, kind: str = "run") -> Path:
        folder = tmp_path / "card"
        where = [f"cache.dir={cache}", f"hydra.{kind}.dir={folder}"]
        monkeypatch.setattr(sys, "argv", ["stress", *map(str, overrides), *where])
        monkeypatch.delitem(sys.modules, "ser.stress", raising=False)
        runpy.run_module("ser.stress", run_name="__main__")
        return folder

    return run


def card_of(folder: Path) -> tuple[dict, dict[str, dict]]:
    card = json.loads((folder / "stress.json").read_text())
    return card, {row["condition"]: row for row in card["conditions"]}


def test_clean_is_the_test_of_the_run_and_each_condition_stands_beside_it(
    stress: Callable[..., Path], svm_run: Path, capsys: pytest.CaptureFixture
):
    names = "[white_0,gain_-12,silence,tempo_0.8,babble_10]"
    folder = stress(f"ckpt={svm_run}/checkpoints/best.ckpt", f"conditions={names}")
    card, rows = card_of(folder)
    metrics = json.loads((svm_run / "metrics.json").read_text())
    assert list(rows) == [CLEAN, "white_0", "babble_10", "gain_-12", "silence_1", "tempo_0.8"]
    assert rows[CLEAN]["uar"] == pytest.approx(metrics["uar"])
    assert [rows[CLEAN][f"uar_{end}"] for end in ("low", "high")] == (
        pytest.approx(metrics["ci"]["uar"]) if metrics["ci"]["uar"] else [None, None]
    )
    assert card["n"] == metrics["n"]
    assert card["speakers"] == metrics["speakers"]
    assert card["babble_of"] == ["tess"]  # which is not tested
    assert not card["leaky"]
    for name, row in rows.items():
        difference = None if name == CLEAN else pytest.approx(row["uar"] - rows[CLEAN]["uar"])
        assert row["difference"] == difference
    assert rows["white_0"]["difference"] < -0.1  # it was trained in silence
    table = pd.read_csv(folder / "stress.csv")
    assert tuple(table)[: len(COLUMNS)] == COLUMNS
    assert table.uar.to_list() == pytest.approx([row["uar"] for row in rows.values()])
    assert (folder / "stress.png").exists()
    assert "white_0" in capsys.readouterr().out
    model_card = (svm_run / "model_card.md").read_text()
    assert model_card.count("## Under other conditions") == 1
    assert f"| white_0 | SNR 0 dB | {rows['white_0']['uar']:.3f} |" in model_card


def test_a_drop_is_paired_by_speaker():
    # Three speakers, two clips of two classes each; noise costs the last two a clip.
    clips = pd.DataFrame(
        {
            "clip": [f"c/{number}" for number in range(6)],
            "corpus": "c",
            "speaker": ["1", "1", "2", "2", "3", "3"],
            "label": ["happy", "sad"] * 3,
        }
    )
    noisy = ["happy", "sad", "happy", "happy", "sad", "sad"]
    clean, row = tabulate(
        {
            CLEAN: clips.assign(prediction=clips.label),
            "white_0": clips.assign(prediction=noisy),
        }
    )
    assert (clean["uar"], clean["difference"], clean["p"]) == (1, None, None)
    assert row["uar"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert row["difference"] == pytest.approx(-1 / 3)
    # Leaving a speaker out gives -1/2, -1/4, -1/4: mean -1/3, jackknife variance
    # 2/3 * (1/36 + 2/144) = 1/36, so a standard error of 1/6; t of two degrees of freedom 4.303.
    assert (row["low"], row["high"]) == pytest.approx((-1, -1 / 3 + 4.3027 / 6), abs=1e-3)
    # Of 8 ways to swap the speakers four are as far from 0: those that swap 2 and 3 alike.
    assert row["p"] == pytest.approx(0.5)
    assert row["p_holm"] == pytest.approx(0.5)
    assert (row["most"], row["share"], row["level"]) == ("happy", 0.5, "SNR 0 dB")
    columns = (clips.label, pd.Series(noisy), clips.label, "c/" + clips.speaker)
    pair = paired_difference(*(column.to_numpy(str) for column in columns))["uar"]
    assert pair["interval"] == pytest.approx([row["low"], row["high"]])


def test_recordings_are_altered_whole_several_at_once_and_each_once():
    recordings = [np.full(9, 100 * (row + 1), np.int16) for row in range(5)]
    asked = []

    def work(function: Callable, rows: Sequence[int]) -> list[np.ndarray]:
        asked.append(list(rows))
        return [function(row) for row in rows]

    begins = {3: 4, 1: 0, 4: 2}
    altered = Altered(recordings, begins, "gain_-20", 48000, 0, (), SimpleNamespace(map=work))
    assert [altered[row].tolist() for row in begins] == [[40] * 9, [20] * 9, [50] * 9]
    assert asked == [[3, 1, 4]]
    slower = Altered(recordings, begins, "tempo_0.8", 48000, 0, (), SimpleNamespace(map=work))
    assert slower[3][:4].tolist() == [400] * 4  # what precedes the window
    assert len(slower[3]) == 4 + round(5 / 0.8)


def clip(corpus: str, speaker: str, channel: str = "speech") -> Clip:
    name = f"{corpus}/{speaker}{channel}"
    said = ("female", channel, "sad", "normal", "a", 1, "audio")
    return Clip(name, Path(name), corpus, speaker, *said)


def test_babble_is_never_of_who_is_tested():
    clips = [clip("a", "1"), clip("a", "2"), clip("a", "2", "song"), clip("b", "1")]

    def rows(known: Sequence[Clip], splits: Sequence[str]) -> list[int]:
        table = pd.DataFrame([{"corpus": each.corpus, "speaker": each.speaker} for each in known])
        reader = SimpleNamespace(clips=known)
        return babble_rows(SimpleNamespace(table=table.assign(split=splits), reader=reader))

    assert rows(clips, ["test", "train", "train", "train"]) == [3]  # another corpus
    assert rows(clips[:3], ["test", "train", "train"]) == [1]  # speech of another speaker
    assert rows(clips[1:3], ["train", "test"]) == [0]  # leaky: of the training clips
    assert rows(clips[1:3], ["test", "test"]) == []


@pytest.mark.slow
def test_folds_are_pooled_and_jobs_end_in_one_table(
    stress: Callable[..., Path],
    svm_run: Path,
    small: list[str],
    finish: Callable[..., Path],
    capsys: pytest.CaptureFixture,
):
    pooled = finish(*small, "model=svm", "protocol=kfold", "protocol.folds=2", "fold=all")
    best = svm_run / "checkpoints" / "best.ckpt"
    capsys.readouterr()
    folder = stress("-m", f"ckpt={pooled},{best}", "conditions=[gain_-12,mulaw]", kind="sweep")
    for job, run in enumerate((pooled, svm_run)):
        card, rows = card_of(folder / str(job))
        metrics = json.loads((run / "metrics.json").read_text())
        assert card["n"] == metrics["n"]
        assert card["fold"] == metrics["fold"]
        assert rows[CLEAN]["uar"] == pytest.approx(metrics["uar"])
    table = pd.read_csv(folder / "stress.csv")
    assert table.condition.to_list() == [CLEAN, "mulaw", "gain_-12"] * 2
    assert table.ckpt.unique().tolist() == [str(pooled), str(best)]
    shown = capsys.readouterr().out.partition("UAR, to clean")[2]
    assert f"{rows['mulaw']['uar']:.3f} {rows['mulaw']['difference']:+.3f}" in shown
    assert f"job 0: ckpt={pooled}" in shown
    (pooled / "fold_1" / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(ValueError, match=r"has checkpoints of 1 of its 2 folds: expected"):
        find_checkpoints(str(pooled))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["ckpt=nowhere.ckpt"], "ckpt='nowhere.ckpt' is not a file"),
        ([], "ckpt=None is not a file"),
        (["ckpt=."], "./metrics.json|holds no metrics.json"),
        (["ckpt=nowhere.ckpt", "conditions=[grey]"], "there is no 'grey': expected one of white"),
        (["ckpt=nowhere.ckpt", "conditions=white"], "conditions='white': expected a list"),
        (["ckpt=nowhere.ckpt", "conditions=[]"], "expected one or more, or null for all"),
        (["ckpt=nowhere.ckpt", "seed=-1"], "seed=-1: expected at least 0"),
    ],
)
def test_bad_input_is_one_line(
    stress: Callable[..., Path],
    overrides: list[str],
    words: str,
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        stress(*overrides)
    assert stopped.value.code == 1
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    assert any(word in shown.splitlines()[-1] for word in words.split("|"))
    assert not (tmp_path / "card" / "stress.csv").exists()


@pytest.mark.slow
def test_a_transductive_checkpoint_is_refused(
    stress: Callable[..., Path],
    small: list[str],
    finish: Callable[..., Path],
    capfd: pytest.CaptureFixture,
):
    run = finish(*small, "model=svm", "normalize=speaker")
    with pytest.raises(SystemExit, match="1"):
        stress(f"ckpt={run}/checkpoints/best.ckpt")
    assert "was trained with normalize=speaker" in capfd.readouterr().err
