"""One ONNX file gives the probabilities of eval.py, for recordings of any length, without torch."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ser.audio.window import Window
from ser.checkpoints.format import Checkpoint, load_checkpoint
from ser.inference import graph
from ser.inference.onnx import (
    Clips,
    as_batch,
    check_model,
    find_clips,
    open_session,
    write,
)
from ser.models.layers import temper
from ser.training.committee import Committee
from ser.training.estimator import EstimatorClassifier

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "export.md").read_text()
BEST = Path("checkpoints") / "best.ckpt"

Export = Callable[..., None]


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> Export:
    """Run the command in this process."""

    def run(*overrides: str) -> None:
        places = [f"cache.dir={cache}", f"hydra.run.dir={tmp_path / 'export'}"]
        monkeypatch.setattr(sys, "argv", ["ser.export", *overrides, *places])
        monkeypatch.delitem(sys.modules, "ser.export", raising=False)
        runpy.run_module("ser.export", run_name="__main__")

    return run


@pytest.fixture(scope="module")
def clips() -> Clips:
    """What a graph is compared on, short."""
    return Clips("noise", [speech(0, 30000), speech(1, 20000)])


@pytest.fixture(scope="module")
def cnn_file(cnn_run: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CNN's file."""
    loaded, path = load_checkpoint(cnn_run / BEST), tmp_path_factory.mktemp("onnx") / "model.onnx"
    data = OmegaConf.create({"root": None, "manifest": None})
    places = OmegaConf.create({"dir": str(cache), "max_gb": None})
    write(loaded, path, find_clips(loaded, data, places, validation=False))
    return path


def speech(seed: int, samples: int, silence: int = 2000) -> np.ndarray:
    """Make noise after near silence: (samples,) int16."""
    rng = np.random.default_rng(seed)
    recording = rng.normal(0, 3000, samples)
    recording[: min(silence, samples - 1)] /= 1000
    return np.rint(recording).clip(-32768, 32767).astype(np.int16)


def expected(loaded: Checkpoint, recording: np.ndarray) -> np.ndarray:
    """Score as eval.py does: (classes,)."""
    window = instantiate(loaded.config["data"]["window"], _convert_="all")
    windows = [window.cut(recording, span) for span in window.spans(recording)]
    with torch.inference_mode():
        mean = loaded.model(torch.from_numpy(as_batch(windows))).double().mean(0, keepdim=True)
        return temper(mean, loaded.model.temperature)[0].numpy()


@pytest.mark.parametrize(
    ("start", "hop", "trim_end"),
    [
        ("corpus", 0.1, False),
        ("onset", 0.3, True),
        ({"other": 0.1}, 0.4, False),
        ({"other": 0.9}, 0.1, True),
    ],
)
def test_the_graph_cuts_the_windows_of_the_program(start: object, hop: float, trim_end: bool):
    window = Window(0.3, start, hop_seconds=hop, trim_end=trim_end, sample_rate=1000)
    rng = np.random.default_rng(0)
    for samples in (1, 7, 299, 300, 301, 400, 401, 1234):
        recordings = [speech(number, samples, rng.integers(0, samples)) for number in range(4)]
        recordings.append(np.zeros(samples, np.int16))
        recordings.append(np.full(samples, -32768, np.int16))
        recordings[0][-samples // 3 :] = 0
        waveform = torch.from_numpy(as_batch(recordings))
        windows, shares = graph.Windows(window)(waveform)
        assert shares.sum(1).allclose(torch.ones(len(recordings)))
        for recording, row in zip(recordings, shares, strict=True):
            wanted = [window.cut(recording, span) for span in window.spans(recording)]
            assert np.array_equal(windows[row > 0].numpy(), as_batch(wanted))
            assert row[row > 0].allclose(torch.tensor(1 / len(wanted)))


def test_samples_between_those_of_16_bit_are_rounded_as_when_they_are_decoded():
    window = Window(1.0, {"other": 0.0}, sample_rate=4)
    cut, _ = graph.Windows(window)(torch.tensor([[0.6, 1.4, -2.6, 40000.0]]) / 32768)
    assert (cut * 32768).tolist() == [[1.0, 1.0, -3.0, 32767.0]]


@pytest.mark.usefixtures("cnn_run", "svm_run")  # asked for in the test they had no pictures
@pytest.mark.parametrize("run", ["cnn_run", "svm_run"])
def test_a_run_is_exported_with_its_probabilities_and_says_what_it_is(
    run: str, export: Export, tmp_path: Path, request: pytest.FixtureRequest
):
    folder, path = request.getfixturevalue(run), tmp_path / "model.onnx"
    if run == "svm_run":
        export(f"ckpt={folder / BEST}", f"to={path}")
    else:
        path = request.getfixturevalue("cnn_file")
    assert [each.name for each in path.parent.iterdir() if each.name != "export"] == ["model.onnx"]
    loaded, session = load_checkpoint(folder / BEST), open_session(path)
    for samples in (1, 24000, 48000, 130001):
        recordings = [speech(number, samples, 9000 * number) for number in range(3)]
        recordings.append(np.zeros(samples, np.int16))
        wanted = np.stack([expected(loaded, recording) for recording in recordings])
        (found,) = session.run(["probabilities"], {"waveform": as_batch(recordings)})
        assert found == pytest.approx(wanted, abs=1e-5)
        for recording, row in zip(recordings, wanted, strict=True):
            (alone,) = session.run(None, {"waveform": as_batch([recording])})
            assert alone[0] == pytest.approx(row, abs=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    metrics = json.loads((folder / "metrics.json").read_text())
    assert json.loads(told["classes"]) == loaded.model.classes
    assert (told["sample_rate"], told["window_seconds"]) == ("48000", "1")
    assert json.loads(told["temperature"]) == loaded.model.temperature
    assert told["protocol"] == "holdout"
    assert json.loads(told["split"])["leaky"] is False
    assert json.loads(told["uar"])["value"] == metrics["uar"]
    assert json.loads(told["uar"])["interval_95"] == metrics["ci"]["uar"]
    assert "RAVDESS" in told["licences"]
    measured = json.loads(told["measured"])
    assert measured["clips"].endswith("of its test clips")
    assert 0 <= measured["float32"]["largest_difference"] <= 1e-4
    assert not [each for each in onnx.load(path).graph.initializer if each.external_data]


def test_the_example_of_the_page_needs_no_torch_and_names_the_labels_of_eval(
    launch: Callable[..., Path], cnn_run: Path, cnn_file: Path, demo: Path, tmp_path: Path
):
    folder = tmp_path / "recordings"
    folder.mkdir()
    clips = sorted(demo.glob("Actor_0[12]/*.wav"))[::8][:10]
    for number, clip in enumerate(clips):
        shutil.copy(clip, folder / f"{number}.wav")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(example.splitlines()) <= 20
    blocked = "import sys\nsys.modules['torch'] = sys.modules['ser'] = None\n"
    paths = [str(path) for path in sorted(folder.iterdir())]
    done = subprocess.run(
        [sys.executable, "-c", blocked + example, *paths],
        cwd=cnn_file.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    named = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    scored = launch("eval", f"ckpt={cnn_run / BEST}", f"input={folder}", folder="scored")
    table = pd.read_csv(scored / "predictions.csv").set_index("path")
    assert len(named) == len(table) == 10
    for path, (label, probability) in named.items():
        assert label == table.prediction[path]
        assert float(probability) == pytest.approx(table.loc[path, f"p_{label}"], abs=6e-4)


@pytest.mark.slow
def test_int8_is_kept_where_validation_clips_allow_it(
    export: Export,
    small: list[str],
    finish: Callable[..., Path],
    cnn_file: Path,
    svm_run: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
):
    # After two epochs all classes are nearly as likely: one of 68 clips would be too many.
    trained = finish(*small, "trainer.max_epochs=20")
    path = tmp_path / "int8.onnx"
    export(f"ckpt={trained / BEST}", f"to={path}", "int8=true")
    assert path.stat().st_size < 0.8 * cnn_file.stat().st_size
    stored = {each.data_type for each in onnx.load(path).graph.initializer if each.dims}
    assert onnx.TensorProto.UINT8 in stored
    found = json.loads(open_session(path).get_modelmeta().custom_metadata_map["measured"])["int8"]
    assert 0 <= found["changed_labels"] <= 0.01 * found["validation_clips"]
    assert found["validation_uar"][0] - found["validation_uar"][1] <= 0.01
    assert 0 < found["largest_difference"] < 0.1
    with pytest.raises(SystemExit, match="1"):
        export(f"ckpt={svm_run / BEST}", f"to={tmp_path / 'svm.onnx'}", "int8=true")
    assert "expected int8=false" in capfd.readouterr().err
    assert not (tmp_path / "svm.onnx").exists()


@pytest.mark.slow
def test_int8_that_costs_too_much_is_refused(
    cnn_run: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded = load_checkpoint(cnn_run / BEST)
    # Labels that the float32 graph gives: whatever changes is wrong.
    test = [speech(number, 48000) for number in range(4)]
    labels = [loaded.model.classes[int(expected(loaded, each).argmax())] for each in test]
    tried = Clips("noise", clips.test, test, labels)
    with monkeypatch.context() as patch:
        patch.setattr("ser.inference.onnx.COST", -0.01)
        with pytest.raises(ValueError, match=r"^int8=true changes the label of \d of 4 [^\n]+$"):
            write(loaded, tmp_path / "model.onnx", tried, int8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_answers_differ_is_not_kept_and_the_older_one_is(
    cnn_run: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded, path = load_checkpoint(cnn_run / BEST), tmp_path / "model.onnx"
    path.write_text("older")
    other = load_checkpoint(cnn_run / BEST).model
    with torch.no_grad():
        other.network.head[1].bias += torch.arange(8.0) / 100
    build = graph.build
    with monkeypatch.context() as patch:
        patch.setattr(graph, "build", lambda model, window: build(other, window))
        with pytest.raises(ValueError, match=r"^to=.* differ .* by up to 0\.\d+ on noise[^\n]+$"):
            write(loaded, path, clips)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "older"


def test_without_its_clips_synthetic_speech_is_compared(
    cnn_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SER_DATA", raising=False)
    loaded = load_checkpoint(cnn_run / BEST)
    loaded.config["data"]["root"] = str(tmp_path / "moved")
    data = OmegaConf.create({"root": None, "manifest": None})
    cache = OmegaConf.create({"dir": str(tmp_path / "cache"), "max_gb": None})
    found = find_clips(loaded, data, cache, validation=False)
    assert found.origin == "synthetic speech"
    assert min(map(len, found.test)) > 48000
    with pytest.raises(ValueError, match=r"^int8=true .* expected\s+data\.root= "):
        find_clips(loaded, data, cache, validation=True)
    data.root = str(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="elsewhere"):
        find_clips(loaded, data, cache, validation=False)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["to=notes.txt"], "expected a file as model.onnx, or a folder"),
        ([], "to=None: expected a file"),
        (["to=missing/model.onnx"], "expected a file in a folder that is there"),
        (["to=hub/", "int8=true"], "expected a file, as to=model.onnx"),
        (["to=model.onnx", "int8=maybe"], "int8='maybe': expected true or false"),
        (["to=model.onnx", "ckpt=none.ckpt"], "ckpt='none.ckpt' is not a file"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(
    overrides: list[str],
    words: str,
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        export(*overrides)
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
    assert [each.name for each in tmp_path.iterdir()] == ["export"]


FUNCTIONALS = {"_target_": "ser.features.functionals.Functionals", "bins": 4, "n_mels": 16}
LOGISTIC = {"_target_": "sklearn.linear_model.LogisticRegression"}


def classical(estimator: object, frontend: dict = FUNCTIONALS) -> EstimatorClassifier:
    """Fit an estimator to the features of noise in four classes."""
    model = EstimatorClassifier(["a", "b", "c", "d"], frontend, LOGISTIC).eval()
    noise = torch.from_numpy(as_batch([speech(number, 9000) for number in range(40)]))
    noise *= torch.linspace(0.1, 1, 40)[:, None]
    features = model.frontend(noise).numpy()
    model.estimator = estimator.fit(features, np.arange(40) % 4)
    return model


def difference(model: torch.nn.Module) -> float:
    """Return how far the graph is from the model on recordings of two windows."""
    window = Window(0.2, hop_seconds=0.1)
    session = onnxruntime.InferenceSession(graph.build(model, window).SerializeToString())
    recordings = [speech(number, 12000) // (number + 1) for number in range(3)]
    windows = [[window.cut(each, span) for span in window.spans(each)] for each in recordings]
    with torch.inference_mode():
        means = [model(torch.from_numpy(as_batch(each))).mean(0, keepdim=True) for each in windows]
        wanted = [temper(mean, model.temperature)[0] for mean in means]
    (found,) = session.run(None, {"waveform": as_batch(recordings)})
    return float(np.abs(found - torch.stack(wanted).numpy()).max())


def logistic() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression())


def calibrated(method: str) -> object:
    return make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), method=method, cv=2))


@pytest.mark.slow
def test_estimators_are_converted_down_to_their_parts():
    voters = {
        "pca": make_pipeline(StandardScaler(), PCA(5), LogisticRegression()),
        "forest": RandomForestClassifier(20, random_state=0),
        "sigmoid": calibrated("sigmoid"),
        "temperature": calibrated("temperature"),
        "mlp": make_pipeline(StandardScaler(), MLPClassifier([8], solver="lbfgs", random_state=0)),
        "knn": make_pipeline(StandardScaler(), KNeighborsClassifier(3)),
    }
    voting = VotingClassifier(list(voters.items()), voting="soft", weights=[1, 2, 5, 3, 4, 6])
    assert difference(classical(voting)) < 1e-4


@pytest.mark.slow
def test_a_committee_of_networks_and_estimators_is_one_graph():
    logmel = {"_target_": "ser.features.spectral.LogMel", "bins": 8, "n_fft": 512}
    network = {
        "_target_": "ser.training.classifier.EmotionClassifier",
        "frontend": logmel,
        "network": {"_target_": "ser.models.cnn.CNN", "widths": [4, 4]},
        "optimizer": {"_target_": "torch.optim.Adam"},
    }
    members = [
        network,
        {"_target_": f"{EstimatorClassifier.__module__}.EstimatorClassifier"}
        | {"frontend": FUNCTIONALS, "estimator": LOGISTIC},
        network | {"seed": 1},
    ]
    members.append(members[1])
    model = Committee(["a", "b", "c", "d"], members, [1, 2, 3, 4]).eval()
    model.members[1].estimator = classical(calibrated("temperature")).estimator
    model.members[3].estimator = classical(logistic()).estimator
    assert difference(model) < 1e-5
    model.members, model.shares, model.first = model.members[::2], [0.25, 0.75], [0, 0]
    assert difference(model) < 1e-5


def test_a_temperature_is_applied_to_the_average_of_estimators():
    average = graph.Average([graph.Leaf(0.5, 0, None), graph.Leaf(0.25, 0, None, 2.0)], 2.0)
    values = torch.tensor([[0.0, np.log(2.0)]])  # 0.2 and 0.8 once they are doubled
    found = average(torch.ones(1, 1), torch.tensor([[0.1, 0.9]]), values, torch.full((1, 2), 0.125))
    shares = np.sqrt([0.05 + 0.05 + 0.125, 0.45 + 0.2 + 0.125])
    assert found[0].tolist() == pytest.approx(shares / shares.sum())


def test_parts_without_a_graph_are_named(tiny_encoder: Path, svm_run: Path):
    from ser.models.gender_split import GenderSplit

    features, labels = make_classification(60, 24, n_informative=8, n_classes=4, random_state=0)
    split = GenderSplit(LogisticRegression(), LogisticRegression()).fit(features, labels)
    model = classical(logistic())
    model.estimator = make_pipeline(StandardScaler(), split)
    with pytest.raises(ValueError, match=r"^skl2onnx has no converter for GenderSplit[^\n]+$"):
        graph.check(model)
    hub = {"_target_": "ser.features.hub.HubEncoder", "model": str(tiny_encoder), "layer": 1}
    with pytest.raises(ValueError, match=r"^an encoder gives the features of this model[^\n]+$"):
        graph.check(EstimatorClassifier(["a", "b"], hub, LOGISTIC))
    egemaps = {"_target_": "ser.features.opensmile.OpenSmile", "feature_set": "eGeMAPSv02"}
    with pytest.raises(ValueError, match=r"^a library outside of any graph, openSMILE[^\n]+$"):
        graph.check(EstimatorClassifier(["a", "b"], egemaps, LOGISTIC))
    loaded = load_checkpoint(svm_run / BEST)
    object.__setattr__(loaded.split_info, "transductive", True)
    with pytest.raises(ValueError, match="who speaks"):
        check_model(loaded)
