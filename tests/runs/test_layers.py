"""The rule of the layers: what a package may import."""

import ast
from pathlib import Path

import pytest

from ser.corpora.scan import CORPORA

PACKAGE = Path(__file__).parents[2] / "ser"
BELOW = {
    "config": "",
    "cache": "config",
    "corpora": "config cache",
    "audio": "config cache",
    "features": "config",
    "models": "config",
    "splits": "config corpora",
    "fetch": "config corpora",
    "evaluation": "config",
    "data": "config cache corpora audio splits features fetch",
    "reporting": "config corpora evaluation",
    "integrity": "corpora audio reporting",
    "checkpoints": "config corpora splits features data evaluation",
    "training": "config splits features models data checkpoints evaluation",
    "analysis": "config corpora audio features data evaluation reporting",
    "inference": "config cache corpora audio features models data checkpoints evaluation training"
    " reporting",
    "page": "corpora audio checkpoints reporting inference",
}
"""By package, those that it imports. `launch` may import all of them, the commands `launch` too."""


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("ser.")}


@pytest.mark.parametrize("package", [*BELOW, "launch"])
def test_arrows_point_down(package: str):
    allowed = {*BELOW.get(package, " ".join(BELOW)).split(), package}
    for path in (PACKAGE / package).glob("*.py"):
        assert imported(path) <= allowed, path.name


def test_every_package_has_its_place_and_not_too_many_files():
    packages = {path.parent for path in PACKAGE.glob("*/*.py")}
    assert {path.name for path in packages} == {*BELOW, "launch"}
    for path in packages:
        files = {file.stem for file in path.glob("[!_]*.py")} - {*CORPORA}  # a corpus is a file
        assert len(files) <= 9, path.name


def test_the_top_holds_commands_alone():
    files = [path for path in PACKAGE.glob("[!_]*.py") if path.stem != "experiment"]
    for path in files:
        assert len(path.read_text().splitlines()) <= 60, path.name
        assert "@hydra.main" in path.read_text(), path.name


def test_no_package_but_its_own_knows_a_corpus_by_name():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "corpora":
            assert not any(f'"{name}"' in path.read_text() for name in ("ravdess", "tess")), path


def test_run_folders_have_one_reader():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if "json.load" in text and ('"metrics.json"' in text or '"status.json"' in text):
            assert path.parent.name == "evaluation"
            assert path.name in ("results.py", "status.py"), path
