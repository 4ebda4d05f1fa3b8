"""Runs on corpora other than the default ones, under their official names."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from ser.audio.window import Window
from ser.corpora.scan import scan
from ser.data.datamodule import EmotionDataModule
from ser.splits.protocols import CrossCorpus, Holdout, KFold, NamedFolds, Random
from ser.splits.speakers import enrolled

THREE = ("cremad", "emodb", "savee")
SHARED = ["neutral", "happy", "sad", "angry", "fearful", "disgust"]


@pytest.fixture
def together(synthetic: Path, cache: Path) -> Callable[..., EmotionDataModule]:
    def build(protocol: object, *corpora: str, **options: object) -> EmotionDataModule:
        options = {"corpora": corpora or THREE, "cache": str(cache)} | options
        return EmotionDataModule(str(synthetic), Window(1.0), protocol, **options)

    return build


def heard(data: EmotionDataModule, fold: int) -> dict[str, set[str]]:
    """By split of a fold, who speaks in it."""
    table = data.splits.table(fold)
    voices = (table.corpus + "/" + table.speaker).groupby(table.split)
    return {split: set(names) for split, names in voices}


@pytest.mark.parametrize(
    "protocol", [Holdout(), KFold(folds=3, val_speakers=2), NamedFolds("loso"), CrossCorpus()]
)
def test_no_speaker_of_any_corpus_is_on_both_sides(together, protocol: object):
    data = together(protocol)
    tested = []
    for fold in range(data.splits.count()):
        parts = heard(data, fold)
        for one, other in combinations(parts.values(), 2):
            assert not one & other
        tested += sorted(parts["test"])
    voices = {clip.voice for clip in data.found.clips}
    if data.splits.count() > 1:
        assert sorted(tested) == sorted(voices)
    else:
        assert {voice.partition("/")[0] for voice in tested} == {*THREE}  # each in its share


def test_who_is_not_there_moves_no_one_who_validates(synthetic: Path):
    clips = scan(synthetic).clips
    assert len(enrolled(clips)) == 91 + 10 + 4
    assert len({clip.voice for clip in clips}) == 6 + 10 + 4


def test_the_classes_are_those_of_the_corpora_in_their_roles(together, caplog):
    caplog.set_level("INFO")
    data = together(KFold(folds=3, val_speakers=2))
    data.setup("fit")
    assert data.labels.classes == SHARED
    assert "cremad has no clips of surprised, boredom; left out: surprised, boredom" in caplog.text
    assert "savee has no clips of boredom" in caplog.text
    every = together(KFold(folds=3, val_speakers=2), classes="all")
    assert every.labels.classes == [*SHARED, "surprised", "boredom"]
    assert together(Holdout(), "emodb").labels.classes == [*SHARED, "boredom"]
    alone = together(KFold(folds=2, val_speakers=2), "emodb", drop=["boredom"])
    assert alone.labels.classes == SHARED
    roles = {"emodb": "train", "savee": "off"}
    assert together(Holdout(), roles=roles).labels.classes == SHARED
    assert together(Random(), "savee", "emodb", roles={"emodb": "off"}).labels.classes == [
        *SHARED,
        "surprised",
    ]


def test_a_model_of_two_corpora_is_tested_on_a_third(
    synthetic: Path, launch: Callable[..., Path], capfd: pytest.CaptureFixture
):
    given = ["model=logistic", f"data.root={synthetic}", f"data.corpora=[{','.join(THREE)}]"]
    run = launch("train", *given, "protocol=cross_corpus", "fold=all")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["classes"] == SHARED
    assert metrics["folds"] == 3
    assert set(metrics["slices"]["corpus"]) == {*THREE}
    assert len(metrics["speakers"]) == 20
    assert metrics["ci"]["uar"] is not None
    for fold, corpus in enumerate(reversed(THREE)):
        split = pd.read_csv(run / f"fold_{fold}" / "split.csv", dtype=str)
        assert set(split.corpus[split.split == "test"]) == {corpus}
        assert set(split.corpus[split.split == "train"]) == {*THREE} - {corpus}
    again = launch("eval", f"ckpt={run / 'fold_0' / 'checkpoints' / 'best.ckpt'}", folder="again")
    parts = [(folder / "predictions.csv").read_text() for folder in (again, run / "fold_0")]
    assert parts[0] == parts[1]
    with pytest.raises(SystemExit):
        launch("train", *given, "protocol=cross_corpus", "protocol.test=[tess]", folder="none")
    assert "needs clips of tess: there are 72 of cremad" in capfd.readouterr().err


@pytest.mark.slow
def test_a_matrix_has_a_row_of_all_others(synthetic: Path, launch: Callable[..., Path], tmp_path):
    sweep = tmp_path / "sweep"
    given = ["model=logistic", f"data.root={synthetic}", f"data.corpora=[{','.join(THREE)}]"]
    launch("train", "sweep=loco", *given, f"hydra.sweep.dir={sweep}")
    cells = json.loads((sweep / "loco.json").read_text())
    places = {(cell["train"], cell["test"]) for cell in cells}
    assert places == {(one, other) for one in (*THREE, "all others") for other in THREE}
