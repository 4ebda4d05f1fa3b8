"""What .github/CONTRIBUTING.md lists for a network, a front end, ... is all that they need."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest

from ser.audio.window import Window
from ser.checkpoints import trust
from ser.corpora.clip import EMOTIONS
from ser.corpora.scan import CORPORA, from_name, parse
from ser.data.datamodule import EmotionDataModule
from ser.splits.protocols import Random

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / ".github" / "CONTRIBUTING.md").read_text()

NETWORK = """
from torch import Tensor, nn


class Toy(nn.Module):
    layout = "planes"

    def __init__(self, classes: int, bins: int, channels: int, width: int = 4) -> None:
        super().__init__()
        layers = nn.Linear(channels * bins, width), nn.Tanh(), nn.Linear(width, classes)
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features.mean(3).flatten(1))
"""

FRONTEND = """
from torch import Tensor

from ser.features.frontend import FrontEnd


class Toy(FrontEnd):
    layout = "planes"
    channels = 1

    def __init__(self, bins: int = 8) -> None:
        super().__init__()
        self.bins = bins

    def analyse(self, waveform: Tensor) -> Tensor:
        size = self.bins * (waveform.shape[1] // self.bins)
        return waveform[:, :size].reshape(len(waveform), 1, self.bins, -1)[..., ::200]
"""

PROTOCOL = """
from collections.abc import Sequence
from dataclasses import dataclass

from ser.corpora.clip import Clip
from ser.splits.protocols import SplitProtocol


@dataclass(frozen=True)
class Toy(SplitProtocol):
    name: str = "toy"
    tested: str = "01"

    def assign(self, clips: Sequence[Clip], fold: int) -> dict[str, str]:
        splits = {self.tested: "test", "02": "val"}
        return {clip.clip: splits.get(clip.speaker, "train") for clip in clips}
"""

TOYS = {
    "network": (
        NETWORK,
        """
# @package _global_
defaults:
  - /hydra/base/neural

model:
  network:
    _target_: ser.models.toy.Toy
    width: 3
""",
    ),
    "front end": (FRONTEND, "_target_: ser.features.toy.Toy\nbins: 6\n"),
    "protocol": (PROTOCOL, "_target_: ser.splits.toy.Toy\ntested: '03'\n"),
}
"""By section, the two new files; the third file has one line more."""


def test_the_listed_files_are_enough(
    launch: Callable[..., Path], small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    choices = []
    for section, contents in TOYS.items():
        text = PAGE.partition(f"\n## A {section}\n")[2].partition("\n## ")[0]
        module, config, trusted = re.findall(r"^- `(\S+)`: ", text, re.MULTILINE)
        assert trusted == "ser/checkpoints/trust.py"
        (slot,) = re.findall(rf"^- `{trusted}`: its line in the slot `(\w+)`", text, re.MULTILINE)
        for path, content in zip((module, config), contents, strict=True):
            new = tmp_path / path.replace("<name>", "toy")
            new.parent.mkdir(parents=True)
            new.write_text(content)
        folder = Path(module).parent
        package = import_module(str(folder).replace("/", "."))
        target = f"{package.__name__}.toy.Toy"
        monkeypatch.setitem(trust.SLOTS[slot], target, {})
        # As if the new file stood beside the others.
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / folder)])
        choices.append(f"{Path(config).parent.name}=toy")

    searched = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    quick = [*small, "augment=none", "trainer.max_epochs=1"]
    run = launch("train", *choices, searched, *quick)
    again = launch("eval", f"ckpt={run / 'checkpoints' / 'best.ckpt'}", folder="again")
    metrics, scored = (json.loads((path / "metrics.json").read_text()) for path in (run, again))
    assert metrics["protocol"] == "toy"
    assert scored["uar"] == metrics["uar"]
    for package in ("models", "features", "splits"):
        sys.modules.pop(f"ser.{package}.toy")


CORPUS = """
from pathlib import Path

from ser.corpora.clip import EMOTIONS, Clip, Corpus, Record, Release

SPEAKERS = {f"t{number}": "male" if number % 2 else "female" for number in range(1, 7)}


def parse(path):
    prefix, speaker, emotion, word = (path.stem.split("_") + [""] * 4)[:4]
    if prefix != "toy" or speaker not in SPEAKERS or emotion not in EMOTIONS:
        return None
    return Clip(
        clip=f"toy/{path.stem}", path=path, corpus="toy", speaker=speaker,
        gender=SPEAKERS[speaker], channel="speech", emotion=emotion, intensity="normal",
        statement=word, repetition=1, modality="audio",
    )


TOY = Corpus(
    name="toy", title="Toy", parse=parse, from_name=lambda name: parse(Path(name)),
    official=lambda: [], speakers=SPEAKERS, emotions=EMOTIONS, lead_seconds=0.5,
    releases={"speech": Release(48000, (1.0, 5.0), (-30.0, -10.0))},
    record=Record("zenodo", "api/records/0", "TOY", lambda *_: False, lambda *_: "toy.zip"),
    source="https://example.org", licence="CC0", examples="toy_t1_sad_yes.wav",
)
"""


def test_a_corpus_is_its_file_and_its_line(
    demo: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "toy.py").write_text(CORPUS)
    monkeypatch.syspath_prepend(tmp_path)
    corpus = import_module("toy").TOY
    monkeypatch.setitem(CORPORA, "toy", corpus)
    recording = next((demo / "Actor_01").iterdir())
    for speaker, emotion, word in product(corpus.speakers, EMOTIONS, ("yes", "no")):
        shutil.copy(recording, tmp_path / f"toy_{speaker}_{emotion}_{word}.wav")
    for speaker in range(1, 7):
        (tmp_path / f"Actor_{speaker:02}").symlink_to(demo / f"Actor_{speaker:02}")
    data = EmotionDataModule(
        root=str(tmp_path),
        protocol=Random(folds=2),
        window=Window(seconds=3.0),
        corpora=("ravdess", "toy"),
        channels=("speech",),
        cache=str(cache),
    )
    data.setup("fit")
    parts = data.table.groupby(["corpus", "split"]).size()
    assert parts["toy"].sum() == 6 * 8 * 2
    assert {*parts["toy"].index} == {*parts["ravdess"].index} == {"train", "val", "test"}
    row = int(data.table.index[data.table.corpus == "toy"][0])
    assert data.reader.span(row)[0] == round(0.5 * 48000)
    assert from_name("toy_t1_sad_yes").take == parse(tmp_path / "toy_t1_sad_yes.wav").take


def test_what_the_page_names_is_there():
    named = re.findall(r"`((?:ser|conf|tests|docs)/[\w./<>]+|\.ci/run)`", PAGE)
    assert len(named) > 15
    for path in named:
        assert (REPOSITORY / re.sub(r"<name>.*", "", path)).exists(), path
