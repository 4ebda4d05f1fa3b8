"""Arrows between modules point one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ser"
ALLOWED = {
    "ser.ablation": {
        "ser.account",
        "ser.data.classes",
        "ser.page",
        "ser.plots",
        "ser.run_folder",
        "ser.statistics",
        "ser.summary",
        "ser.tracking",
    },
    "ser.account": {"ser.metrics", "ser.report", "ser.statistics", "ser.summary"},
    "ser.allowed": set(),
    "ser.augment": {"ser.quantities"},
    "ser.checkpoint": {"ser.allowed", "ser.contents", "ser.outline", "ser.ownership"},
    "ser.checkpoint_io": {"ser.ownership"},
    "ser.classifier": {"ser.allowed", "ser.frontend", "ser.metrics", "ser.quantities"},
    "ser.compare": {"ser.run", "ser.statistics", "ser.status"},
    "ser.contents": set(),
    "ser.data.actors": {"ser.data.corpora"},
    "ser.data.archive": set(),
    "ser.data.audio": {"ser.data.cache", "ser.data.container", "ser.data.fingerprints"},
    "ser.data.audit": {"ser.data.corpora", "ser.data.protocols"},
    "ser.data.cache": {"ser.data.eviction", "ser.data.writing"},
    "ser.data.classes": {"ser.data.corpora"},
    "ser.data.container": {"ser.data.mpeg"},
    "ser.data.corpora": {"ser.data.names"},
    "ser.data.datamodule": {
        "ser.data.audit",
        "ser.data.cache",
        "ser.data.classes",
        "ser.data.corpora",
        "ser.data.dataset",
        "ser.data.download",
        "ser.data.eviction",
        "ser.data.library",
        "ser.data.partition",
        "ser.data.placement",
        "ser.data.protocols",
        "ser.data.reader",
        "ser.data.window",
        "ser.quantities",
    },
    "ser.data.dataset": set(),
    "ser.data.demo": {"ser.data.cache", "ser.data.synthesiser", "ser.data.writing"},
    "ser.data.diagnosis": {
        "ser.data.corpora",
        "ser.data.examination",
        "ser.data.findings",
        "ser.data.loudness",
        "ser.data.names",
        "ser.data.releases",
    },
    "ser.data.doctor": {"ser.data.diagnosis", "ser.data.loudness", "ser.page", "ser.run"},
    "ser.data.download": {
        "ser.data.corpora",
        "ser.data.published",
        "ser.data.records",
        "ser.data.releases",
        "ser.data.remote",
        "ser.quantities",
        "ser.run",
        "ser.settings",
    },
    "ser.data.eviction": set(),
    "ser.data.examination": {"ser.data.audio"},
    "ser.data.findings": {"ser.data.corpora", "ser.data.examination", "ser.data.releases"},
    "ser.data.fingerprints": {"ser.data.cache"},
    "ser.data.library": {"ser.data.audio", "ser.data.cache", "ser.data.corpora", "ser.data.rows"},
    "ser.data.loudness": {
        "ser.data.corpora",
        "ser.data.examination",
        "ser.data.findings",
        "ser.data.releases",
        "ser.plots",
    },
    "ser.data.mpeg": set(),
    "ser.data.names": set(),
    "ser.data.partition": {
        "ser.data.corpora",
        "ser.data.names",
        "ser.data.placement",
        "ser.data.protocols",
    },
    "ser.data.placement": {"ser.data.corpora", "ser.data.protocols", "ser.data.transfer"},
    "ser.data.protocols": {"ser.data.actors", "ser.data.corpora", "ser.quantities"},
    "ser.data.published": {"ser.data.archive"},
    "ser.data.reader": {"ser.data.cache", "ser.data.window"},
    "ser.data.recordings": {
        "ser.data.audio",
        "ser.data.container",
        "ser.data.corpora",
        "ser.data.names",
        "ser.data.window",
    },
    "ser.data.records": {"ser.data.corpora", "ser.data.published", "ser.data.remote"},
    "ser.data.releases": {"ser.data.corpora"},
    "ser.data.remote": {"ser.data.published"},
    "ser.data.rows": {"ser.data.cache"},
    "ser.data.synthesiser": set(),
    "ser.data.transfer": {
        "ser.data.actors",
        "ser.data.corpora",
        "ser.data.protocols",
        "ser.quantities",
    },
    "ser.data.window": {"ser.quantities"},
    "ser.data.writing": set(),
    "ser.ensemble": {"ser.members", "ser.pool", "ser.report", "ser.run"},
    "ser.estimator": {"ser.allowed", "ser.fitted", "ser.gender", "ser.quantities"},
    "ser.explore": {"ser.allowed", "ser.inventory", "ser.run", "ser.settings", "ser.spectra"},
    "ser.fitted": set(),
    "ser.fitting": {
        "ser.checkpoint",
        "ser.data.audit",
        "ser.data.datamodule",
        "ser.estimator",
        "ser.frontend",
        "ser.interrupted",
        "ser.kept",
        "ser.metrics",
        "ser.processes",
        "ser.report",
        "ser.run",
        "ser.status",
        "ser.tracking",
    },
    "ser.folds": {"ser.status"},
    "ser.frontend": {"ser.quantities"},
    "ser.gender": set(),
    "ser.interrupted": {
        "ser.checkpoint",
        "ser.checkpoint_io",
        "ser.contents",
        "ser.folds",
        "ser.training_state",
    },
    "ser.inventory": {"ser.data.datamodule", "ser.page", "ser.plots", "ser.spectra"},
    "ser.kept": {"ser.folds", "ser.members", "ser.status"},
    "ser.members": {"ser.data.corpora", "ser.report", "ser.status"},
    "ser.metrics": set(),
    "ser.models.backbone": {"ser.models.dense_head", "ser.quantities"},
    "ser.models.cnn": {"ser.quantities"},
    "ser.models.conv1d": {"ser.models.standardizer", "ser.quantities"},
    "ser.models.dense_head": set(),
    "ser.models.pca_cnn": {"ser.models.dense_head", "ser.models.standardizer", "ser.quantities"},
    "ser.models.recurrent": {"ser.models.standardizer", "ser.quantities"},
    "ser.models.standardizer": set(),
    "ser.outline": {"ser.frontend"},
    "ser.ownership": set(),
    "ser.page": set(),
    "ser.plots": set(),
    "ser.plugins": {"ser.data.cache", "ser.run_folder", "ser.selection"},
    "ser.pool": {"ser.folds", "ser.metrics", "ser.report", "ser.status"},
    "ser.premium": {"ser.compare", "ser.plots", "ser.summary"},
    "ser.processes": set(),
    "ser.quantities": set(),
    "ser.recorded": {
        "ser.checkpoint",
        "ser.data.audit",
        "ser.data.corpora",
        "ser.data.datamodule",
        "ser.frontend",
    },
    "ser.report": {"ser.metrics", "ser.page", "ser.plots", "ser.statistics"},
    "ser.resume": {
        "ser.checkpoint",
        "ser.estimator",
        "ser.folds",
        "ser.interrupted",
        "ser.ownership",
        "ser.run_folder",
        "ser.settings",
    },
    "ser.run": {"ser.data.names", "ser.run_folder", "ser.status"},
    "ser.run_folder": {"ser.data.names", "ser.folds", "ser.processes", "ser.status"},
    "ser.seeds": {"ser.statistics"},
    "ser.selection": {"ser.folds", "ser.kept"},
    "ser.settings": {
        "ser.allowed",
        "ser.data.audit",
        "ser.data.classes",
        "ser.data.library",
        "ser.fitted",
        "ser.folds",
        "ser.outline",
        "ser.quantities",
    },
    "ser.sources": {"ser.ensemble", "ser.summary"},
    "ser.spectra": {
        "ser.data.audio",
        "ser.data.corpora",
        "ser.data.window",
        "ser.frontend",
        "ser.page",
        "ser.plots",
    },
    "ser.start": {"ser.run", "ser.run_folder", "ser.settings"},
    "ser.statistics": set(),
    "ser.status": set(),
    "ser.summary": {
        "ser.page",
        "ser.plots",
        "ser.pool",
        "ser.processes",
        "ser.report",
        "ser.run",
        "ser.run_folder",
        "ser.seeds",
        "ser.status",
        "ser.sweep",
    },
    "ser.sweep": {"ser.kept"},
    "ser.tracking": {"ser.report"},
    "ser.training_state": set(),
}


def modules() -> dict[str, Path]:
    paths = (path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in paths
    }


def imports(path: Path, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & known


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_what_lies_below_it(name: str):
    known = modules()
    found = imports(known[name], set(known))
    if name == "ser.experiment":
        return  # the top: it may import all
    assert found <= ALLOWED[name]


def test_every_module_is_listed():
    assert set(modules()) == set(ALLOWED) | {"ser.experiment"}
