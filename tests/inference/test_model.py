"""ser.load: the answers of `eval.py input=`, for files, folders and samples in memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import ser
from ser.evaluation.calibration import temper, untemper
from ser.inference.model import Model


@pytest.fixture(scope="module", params=["cnn_run", "svm_run"])
def ckpt(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param) / "checkpoints" / "best.ckpt"


@pytest.fixture
def model(ckpt: Path) -> Model:
    return ser.load(ckpt)


@pytest.fixture
def folder(few: Path, tmp_path: Path) -> Path:
    """Three clips, ten seconds of noise at another rate, and a broken file."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, path in enumerate(sorted(few.glob("Actor_01/*.wav"))[:3]):
        (folder / f"{number}.wav").write_bytes(path.read_bytes())
    noise = np.random.default_rng(0).normal(0, 0.1, (80_000, 2))
    soundfile.write(folder / "long.wav", noise, 8000)
    (folder / "broken.wav").write_text("no audio")
    return folder


def test_predictions_are_the_rows_of_eval(
    ckpt: Path, model: Model, folder: Path, launch: Callable[..., Path]
):
    run = launch("eval", f"ckpt={ckpt}", f"input={folder}", "data.on_error=skip", logger="none")
    rows = pd.read_csv(run / "predictions.csv")
    found = model.predict(folder)
    assert [str(each.path) for each in found] == rows.path.tolist()
    for each, row in zip(found, rows.to_dict("records"), strict=True):
        if each.path.name == "broken.wav":
            assert each.label is None
            assert each.error == row["error"]
            continue
        assert each.label == row["prediction"]
        assert (each.start, each.end) == (row["start"], row["end"])
        columns = [row[f"p_{name}"] for name in model.classes]
        assert list(each.probabilities.values()) == pytest.approx(columns, abs=1e-12)


def test_a_recording_is_the_mean_of_its_windows(model: Model, folder: Path):
    long = model.predict(folder / "long.wav")
    assert [(each.start, round(each.end, 2)) for each in long.windows[:2]] == [(0, 1), (1.5, 2.5)]
    assert long.windows[-1].end == pytest.approx(10)
    by_window = np.array([list(each.probabilities.values()) for each in long.windows])
    np.testing.assert_allclose(by_window.sum(axis=1), 1, atol=1e-6)
    # The mean is of plain probabilities: no answer changes by calibration.
    temperature = model.checkpoint.calibration.temperature
    plain = untemper(by_window, np.full(len(by_window), temperature)).mean(axis=0)
    expected = temper(plain[None], temperature)[0]
    np.testing.assert_allclose(list(long.probabilities.values()), expected, rtol=1e-6)


def test_samples_are_heard_as_their_file_is(model: Model, folder: Path):
    path = folder / "long.wav"
    samples, rate = soundfile.read(path, dtype="int16")
    for given in (samples, samples / 32768, (samples / 32768).astype(np.float32)):
        assert model.predict(given, rate=rate).probabilities == model.predict(path).probabilities
    both = model.predict([samples, samples[:4000]], rate=rate)
    assert both[0].probabilities == pytest.approx(model.predict(path).probabilities, abs=1e-6)
    assert len(both[1].windows) == 1


def test_answers_come_before_all_is_read(model: Model, folder: Path):
    asked = []

    def paths() -> Iterator[Path]:
        while True:  # more than anyone could wait for
            asked.append(folder / "0.wav")
            yield asked[-1]

    answers = model.stream(paths())
    first = next(answers)
    assert len(asked) <= 128
    assert next(answers) == first


@pytest.mark.parametrize(
    ("given", "rate", "line"),
    [
        ("nowhere.wav", None, "nowhere.wav: is no regular file"),
        (np.zeros(0), 8000, "holds no samples"),
        (np.full(8000, np.nan), 8000, "holds NaN"),
        (np.zeros((8000, 2, 2)), 8000, r"float64 \(8000, 2, 2\): expected floats"),
        (np.zeros(8000, np.int64), 8000, "int64"),
        (np.zeros(8000), 100, "sample rate of 100 Hz"),
        (np.zeros(8000), None, "expected rate="),
        (np.zeros(8000), "8000", "rate='8000': expected rate="),
        (np.zeros((2, 8000)), 8000, "8000 channels"),
    ],
)
def test_what_cannot_be_heard_is_one_line(
    cnn_run: Path, given: object, rate: int | None, line: str
):
    with pytest.raises(ValueError, match=line):
        ser.load(cnn_run / "checkpoints" / "best.ckpt").predict(given, rate=rate)


def test_the_least_sure_are_unsure(ckpt: Path, model: Model, folder: Path):
    picky = ser.load(ckpt, abstain=0.3)
    assert picky.threshold == model.checkpoint.calibration.threshold(0.3)
    for one, other in zip(picky.predict(folder), model.predict(folder), strict=True):
        assert one.probabilities == other.probabilities
        sure = max(one.probabilities.values(), default=0) >= picky.threshold
        assert one.label == (other.label if sure or other.label is None else "unsure")
    assert {each.label for each in ser.load(ckpt, abstain=0).predict(folder)} <= {"unsure", None}
    with pytest.raises(ValueError, match="abstain=2: expected a share"):
        ser.load(ckpt, abstain=2)


def test_clips_of_the_training_are_told(cnn_run: Path, few: Path):
    model = ser.load(cnn_run / "checkpoints" / "best.ckpt")
    split = pd.read_csv(cnn_run / "split.csv")
    found = model.predict([few / path for path in split.path])
    assert [each.trained for each in found] == (split.split != "test").tolist()


def test_a_model_without_validation_speakers_cannot_abstain(
    small: list[str], launch: Callable[..., Path], capfd: pytest.CaptureFixture, few: Path
):
    # The speakers of fold 4 test.
    given = ("protocol=luna5", "fold=4", "data.roles={tess: off}", "model=svm")
    ckpt = (
        launch("train", *small, *given, "protocol.val_speakers=0", "objective=null")
        / "checkpoints"
        / "best.ckpt"
    )
    assert ser.load(ckpt).predict(next(few.rglob("*.wav"))).label in ser.load(ckpt).classes
    with pytest.raises(ValueError, match="no calibration to choose a threshold"):
        ser.load(ckpt, abstain=0.2)
    with pytest.raises(SystemExit):
        launch("eval", f"ckpt={ckpt}", f"input={few}", "abstain=0.2", folder="own")
    assert "or no abstain" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        launch("eval", f"ckpt={ckpt}", "abstain=0.2", folder="test")
    assert "or no abstain" in capfd.readouterr().err
    with pytest.raises(ValueError, match="a float: expected a path, or an array"):
        ser.load(ckpt).predict([0.1, 0.2])


def test_loading_brings_neither_loggers_nor_pictures(cnn_run: Path):
    # Matplotlib comes with Lightning's own torchmetrics, wherever it is installed.
    code = f"""
import sys, ser
assert not {{"torch", "lightning", "wandb", "matplotlib"}} & {{*sys.modules}}
ser.load({str(cnn_run / "checkpoints" / "best.ckpt")!r})
print(sorted({{"wandb", "ser.reporting", "ser.launch"}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
