"""The embedded corpus, one shared cache, the official names, and ways to run the entry points."""

import json
import logging
import os
import runpy
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import wandb
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

REPOSITORY = Path(__file__).parents[1]
os.environ["WANDB_SILENT"] = "true"
# Which checkpoints are one's own is remembered there.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp()
# Tests run in a process a core: threads on top would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# For the same reason recordings are decoded in this process, where nothing asks for `pools`.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"


@contextmanager
def alone() -> Iterator[None]:
    """Put back what is changed in this process, where another test runs next."""
    environment = dict(os.environ)
    root = logging.getLogger()
    level, handlers, shown = root.level, list(root.handlers), logging.raiseExceptions
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None  # stays set after resume= and --cfg
    # Children inherit a SIGINT that is ignored, as `nohup pytest &` begins with.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    root.setLevel(level)
    for handler in {*root.handlers} - {*handlers}:  # Hydra's, for streams and files of the run
        handler.close()
    root.handlers[:] = handlers
    logging.raiseExceptions = shown
    wandb.teardown()  # it reads the environment once
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    with alone():
        yield


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and its children start pools of processes."""
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that all tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def demo(cache: Path) -> Path:
    """Root of the embedded corpus."""
    from ser.corpora.demo import build

    return Path(build(cache))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Root of the real corpora."""
    root = Path(os.environ.get("SER_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real recordings in {root}")
    return root


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root with an empty file for each of the 2452 + 2800 official names."""
    return write_official_names(tmp_path_factory.mktemp("official"))


def write_official_names(root: Path) -> Path:
    for speaker in range(1, 25):
        folder = root / f"Actor_{speaker:02}"
        folder.mkdir(parents=True)
        for channel, emotions in ((1, 8), (2, 0 if speaker == 18 else 6)):
            for emotion in range(1, emotions + 1):
                for intensity in (1,) if emotion == 1 else (1, 2):
                    for take in ("01-01", "01-02", "02-01", "02-02"):
                        codes = f"03-{channel:02}-{emotion:02}-{intensity:02}-{take}-{speaker:02}"
                        (folder / f"{codes}.wav").touch()
    # The 200 words are not needed by name: any 200 will do.
    words = [a + b + c for a in "bcdfghjklm" for b in "aeiou" for c in "pqrs"]
    for speaker in ("OAF", "YAF"):
        for emotion in ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"):
            folder = root / f"{speaker}_{emotion}"
            folder.mkdir()
            for word in words:
                (folder / f"{speaker}_{word}_{emotion}.wav").touch()
    return root


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of two clips an emotion of speakers of CREMA-D (six), EMO-DB (ten) and SAVEE (four).

    Their names are official, and they lie in a folder a corpus, by its name.
    """
    from ser.corpora.cremad import SPEAKERS
    from ser.corpora.scan import official

    root = tmp_path_factory.mktemp("synthetic")
    chosen = {
        speaker
        for gender in ("male", "female")
        for speaker in [name for name, each in SPEAKERS.items() if each == gender][:3]
    }
    taken = Counter()
    for clip in official(["cremad", "emodb", "savee"], ["speech"], ["audio"]).values():
        taken[clip.voice, clip.emotion] += 1
        wanted = clip.corpus != "cremad" or clip.speaker in chosen
        if wanted and taken[clip.voice, clip.emotion] <= 2:
            write_synthetic(root / clip.corpus / clip.path, clip)
    return root


def write_synthetic(path: Path, clip: object) -> None:
    """Write a clip as a synthetic voice says it, at the rate of its release."""
    import numpy as np
    import soundfile

    from ser.corpora.demo import STATEMENTS
    from ser.corpora.scan import CORPORA
    from ser.corpora.synthesis import Take, draw_style, draw_voice, make_generator, speak

    rng = make_generator(0, clip.clip)
    phones = list(STATEMENTS.values())[sum(map(ord, clip.statement)) % len(STATEMENTS)]
    take = Take(clip.voice, clip.emotion, phones)
    rate = CORPORA[clip.corpus].releases[clip.channel].sample_rate
    voice = draw_voice(take.speaker, clip.gender, 0)
    words = np.pad(speak(take, voice, draw_style(take, 0, rng), rate, rng), rate // 10)
    words += 10 ** (voice.room / 20) * rng.standard_normal(len(words))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, words * min(1, 0.95 / np.abs(words).max()), rate, "PCM_16")


@pytest.fixture(scope="session")
def few(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A third of the embedded corpus: of each speaker of RAVDESS 17 clips, and of TESS 14."""
    root = tmp_path_factory.mktemp("few")
    # One sentence of speech and two words; both sentences where they are calm, as TESS is never.
    taken = "03-01-*-02-01-??.wav", "03-01-02-*.wav", "*_ba[cr]*.wav"
    for path in demo.rglob("*.wav"):
        if any(map(path.match, taken)):
            (root / path.parent.name).mkdir(exist_ok=True)
            os.link(path, root / path.parent.name / path.name)
    return root


@pytest.fixture(scope="session")
def small(few: Path) -> list[str]:
    """What makes a run short: few clips, and a second of each."""
    return ["data=demo", f"data.root={few}", "window.seconds=1"]


@contextmanager
def empty_pictures() -> Iterator[None]:
    """Leave pictures empty: they take a third of a short run."""
    from matplotlib.figure import Figure

    save = Figure.savefig

    def save_empty(figure: Figure, *args: object, **options: object) -> None:
        figure.clear()
        save(figure, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_empty)
        yield


@pytest.fixture
def pictures() -> None:
    """Draw what the runs of a test draw, which are empty pictures elsewhere."""


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if "pictures" in request.fixturenames else empty_pictures():
        yield


@pytest.fixture(scope="session")
def finish(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Finish a run that several tests read; one that changes it takes a copy."""

    def run(*overrides: str, pictures: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("finished") / "run"
        arguments = [f"cache.dir={cache}", "logger=csv", f"hydra.run.dir={folder}"]
        drawn = nullcontext() if pictures else empty_pictures()
        with alone(), drawn, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["train.py", *overrides, *arguments])
            runpy.run_path(str(REPOSITORY / "train.py"), run_name="__main__")
        return folder

    return run


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub has them: wav2vec 2.0 of two blocks of width 16, at random."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("encoder")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = Wav2Vec2Config(**sizes, intermediate_size=32, conv_dim=(8,) * 7)
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def with_encoder(
    tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """By an option of conf/ that takes an encoder, what it needs while no weights are there."""
    import torch
    import torchaudio

    from ser.features.bundles import BUNDLES

    tiny = ["model=probe", "frontend=hub", f"frontend.model={tiny_encoder}"]
    names = {
        "hubert": "HUBERT_BASE", "wav2vec2": "WAV2VEC2_BASE", "wavlm": "WAVLM_BASE_PLUS",
        "xlsr": "WAV2VEC2_XLSR_300M",
    }  # fmt: skip
    found, folder = {"hub": tiny, "probe": tiny}, tmp_path_factory.mktemp("weights")
    for option, name in names.items():
        with torch.device("meta"):
            state = getattr(torchaudio.models, BUNDLES[name].architecture)().state_dict()
        # Of one zero, as large as the weights claim to be.
        zeros = {key: torch.zeros(()).expand(each.shape) for key, each in state.items()}
        torch.save(zeros, folder / f"{option}.pth")
        found[option] = ["model=probe", f"frontend.weights={folder / option}.pth"]
    return found | dict.fromkeys(("attention", "finetune"), found["wavlm"][1:])


@pytest.fixture(scope="session")
def svm_run(small: list[str], finish: Callable[..., Path]) -> Path:
    """A finished run of `model=svm`."""
    return finish(*small, "model=svm", pictures=True)


@pytest.fixture(scope="session")
def cnn_run(small: list[str], finish: Callable[..., Path]) -> Path:
    """A finished run of two epochs of `model=cnn`."""
    return finish(*small, "trainer.max_epochs=2", pictures=True)


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> Callable[..., Path]:
    """Run train.py or eval.py in this process; gives the run folder."""

    def run(script: str, *overrides: str, folder: str = "run", logger: str = "csv") -> Path:
        target = tmp_path / folder
        arguments = [f"cache.dir={cache}", f"logger={logger}", f"hydra.run.dir={target}"]
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *overrides, *arguments])
        runpy.run_path(str(REPOSITORY / f"{script}.py"), run_name="__main__")
        return target

    return run


@pytest.fixture(scope="session")
def leave_run() -> Callable[..., Path]:
    """Leave the files that a finished run is read back from, without running one."""
    from ser.config.split_info import SplitInfo
    from ser.evaluation.metrics import measure

    info = SplitInfo("holdout", 1, "8ff905b8618148a2", 0, 1, leaky=False, transductive=False)

    def write(folder: Path, predictions: object, classes: list[str], **facts: object) -> Path:
        folder.mkdir()
        known = {key: facts.pop(key) for key in asdict(info) if key in facts}
        splits = facts.pop("splits", predictions)
        facts = {"split": "test", "audit": {"passed": True}, "seconds": {"fit": 1.5}} | facts
        metrics = measure(predictions, classes, replace(info, **known), **facts)
        splits.to_csv(folder / "split.csv", index=False)
        predictions.to_csv(folder / "predictions.csv", index=False)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "status.json").write_text(json.dumps({"status": "finished"}))
        return folder

    return write


@pytest.fixture
def split_info() -> object:
    """The only fold of a holdout, without stamps."""
    from ser.config.split_info import SplitInfo

    return SplitInfo("holdout", 1, "0123456789abcdef", 0, 1, leaky=False, transductive=False)
