"""The model card: read by the hub's own library, its figures those of metrics.json."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard
from omegaconf import OmegaConf

from ser.corpora.clip import Corpus
from ser.corpora.scan import CORPORA
from ser.evaluation.metrics import measure, tabulate
from ser.reporting.model_card import write_card

CLASSES = ["happy", "sad"]
CONFIG = {
    "name": "default",
    "ensemble": None,
    "data": {"window": {"seconds": 3.0, "sample_rate": 48000}},
    "model": {
        "network": {"_target_": "ser.models.cnn.CNN"},
        "frontend": {"_target_": "ser.features.spectral.Mfcc"},
    },
}


@pytest.fixture
def write(tmp_path: Path, split_info: object) -> Callable[..., ModelCard]:
    def card(
        corpora: dict[str, Corpus], notes: dict | None = None, info: object = split_info
    ) -> ModelCard:
        rows = [
            {
                "clip": f"{name}/{speaker}{take}", "corpus": name, "speaker": speaker,
                "channel": "speech", "gender": "male", "intensity": "normal", "statement": "kids",
                "split": split, "label": CLASSES[take % 2],
            }
            for name in corpora
            for speaker, split in (("07", "train"), ("08", "val"), ("09", "test"), ("10", "test"))
            for take in range(4)
        ]  # fmt: skip
        splits = pd.DataFrame(rows)
        tested = splits[splits.split == "test"]
        answers = ["happy" if number % 3 else "sad" for number in range(len(tested))]
        shares = pd.get_dummies(pd.Categorical(answers, CLASSES)).to_numpy(float)
        facts = {"split": "test", "audit": {"passed": True}, "seconds": {}}
        metrics = measure(tabulate(tested, CLASSES, shares), CLASSES, info, **facts)
        write_card(tmp_path, metrics | (notes or {}), splits, corpora, OmegaConf.create(CONFIG))
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        return ModelCard.load(tmp_path / "model_card.md")

    return card


def some(*names: str) -> dict[str, Corpus]:
    return {name: CORPORA[name] for name in names}


def test_the_hub_reads_the_front_matter_and_its_figures_are_those_of_metrics_json(
    write: Callable[..., ModelCard], tmp_path: Path
):
    card = write(some("ravdess"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    data = card.data
    assert (data.library_name, data.pipeline_tag) == ("ser", "audio-classification")
    assert (data.license, data.datasets) == ("cc-by-nc-sa-4.0", ["ravdess"])
    found = {result.metric_name: result for result in data.eval_results}
    for name, key in (("UAR", "uar"), ("accuracy (WA)", "accuracy"), ("macro F1", "macro_f1")):
        assert found[name].metric_value == metrics[key]
        assert found[name].dataset_type == "ravdess"
        assert found[name].dataset_split == "test"
        assert f"| {name} | {metrics[key]:.3f} |" in card.text
    assert len(found) == 3
    assert CORPORA["ravdess"].licence in card.text
    assert CORPORA["ravdess"].limits in card.text
    assert "| RAVDESS | train | 1 speaker, 4 clips: 07 |" in card.text
    assert "| RAVDESS | test | 2 speakers, 8 clips: 09, 10 |" in card.text
    assert "`CNN` on `Mfcc`, and hears 3 s of a recording at 48000 Hz" in card.text
    assert "holdout, version 1, 0123456789abcdef" in card.text


def test_recordings_of_several_licences_or_of_none_known(write: Callable[..., ModelCard]):
    data = write(some("ravdess", "tess")).data
    assert (data.license, data.datasets) == ("other", ["ravdess", "tess"])
    assert write(some("cremad")).data.license == "odbl"
    known = Corpus("calls", "calls", {}, ("happy", "sad"))
    card = write({"calls": known})
    assert card.data.license == "other"
    assert card.data.datasets is None
    assert "calls: licence unknown: ask whoever gave you the recordings" in card.text
    assert "| calls | test | 2 speakers, 8 clips |" in card.text  # who may be called by their names


def test_stamps_warn_in_text_tags_and_names_of_the_figures(
    write: Callable[..., ModelCard], split_info: object
):
    card = write(some("ravdess"), info=replace(split_info, leaky=True, protocol="random"))
    assert "**LEAKY: the same speakers trained and are scored.**" in card.text
    assert "leaky" in card.data.tags
    assert {result.metric_name for result in card.data.eval_results} >= {"UAR (leaky)"}


def test_calibration_stands_where_a_run_has_it(write: Callable[..., ModelCard]):
    assert "Not calibrated." in write(some("ravdess")).text
    before = {"ece": 0.2, "brier": 0.5, "log_loss": 1.25, "aurc": 0.3, "ci": {"ece": None}}
    calibration = {"temperature": [1.5], "before": before, "after": before | {"ece": 0.0625}}
    selective = {"accepted": 0.2, "coverage": 0.75, "error": 0.125, "ci": {"error": None}}
    text = write(some("ravdess"), {"calibration": calibration, "selective": selective}).text
    assert "Temperature 1.500, fitted on the validation speakers." in text
    assert "| ece | 0.200 | 0.062 |" in text
    assert "answers 75.0 % of the clips, 12.5 % of these wrongly." in text
    text = write(
        some("ravdess"), {"calibration": calibration | {"before": None}, "selective": None}
    ).text
    assert "| | after |\n|---|---|\n| ece | 0.062 |" in text


def test_the_command_says_what_was_trained_and_not_where_files_lie(
    write: Callable[..., ModelCard], tmp_path: Path
):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(
        yaml.safe_dump(
            ["model=cnn", "data.root=/home/me/corpora", "hydra.run.dir=/x", "cache.dir=/y",
             "frontend.weights='/home/me/wavlm.pth'", "fold=2", "+trainer.max_epochs=3"]
        )
    )  # fmt: skip
    text = write(some("ravdess")).text
    assert "\ntrain.py model=cnn frontend.weights=wavlm.pth fold=2 trainer.max_epochs=3\n" in text
    assert "/home" not in text


def test_tables_are_whole(write: Callable[..., ModelCard]):
    for block in re.findall(r"(?:^\|.*\n)+", write(some("ravdess", "tess")).text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_a_run_has_one(svm_run: Path):
    card = ModelCard.load(svm_run / "model_card.md")
    metrics = json.loads((svm_run / "metrics.json").read_text())
    assert [one.metric_value for one in card.data.eval_results] == [
        metrics["accuracy"], metrics["uar"], metrics["macro_f1"],
    ]  # fmt: skip
    assert "It is `SVC` on `Functionals`, and hears 1 s" in card.text
