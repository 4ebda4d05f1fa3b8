"""What .github/CONTRIBUTING.md lists for a network, a front end and a protocol is all they need."""

import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from ser.checkpoints import trust

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
from torch import Tensor, nn


class Toy(nn.Module):
    layout = "planes"
    channels = 1
    cached = True

    def __init__(self, bins: int = 8) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, waveform: Tensor) -> Tensor:
        size = self.bins * (waveform.shape[1] // self.bins)
        return waveform[:, :size].reshape(len(waveform), 1, self.bins, -1)[..., ::200]
"""

PROTOCOL = """
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ser.corpora.clip import Clip


@dataclass(frozen=True)
class Toy:
    name: str = "toy"
    tested: str = "01"
    leaky: ClassVar[bool] = False

    def count(self, clips: Sequence[Clip]) -> int:
        return 1

    def missing(self, clips: Sequence[Clip], fold: int) -> list[str]:
        return []

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
    launch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
    quick = ["data=demo", "augment=none", "trainer.max_epochs=1", "data.channels=[speech]"]
    run = launch("train", *choices, searched, *quick)
    again = launch("eval", f"ckpt={run / 'checkpoints' / 'best.ckpt'}", folder="again")
    metrics, scored = (json.loads((path / "metrics.json").read_text()) for path in (run, again))
    assert metrics["protocol"] == "toy"
    assert scored["uar"] == metrics["uar"]
    for package in ("models", "features", "splits"):
        sys.modules.pop(f"ser.{package}.toy")


def test_what_the_page_names_is_there():
    named = re.findall(r"`((?:ser|conf|tests|docs)/[\w./<>]+|\.ci/run)`", PAGE)
    assert len(named) > 15
    for path in named:
        assert (REPOSITORY / re.sub(r"<name>.*", "", path)).exists(), path
