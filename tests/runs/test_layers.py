"""Arrows between modules point one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ser"
ALLOWED = {
    "ser.launch.class_drop": {
        "ser.analysis.class_drop",
        "ser.corpora.labels",
        "ser.reporting.html",
        "ser.reporting.plots",
        "ser.launch.run_folder",
        "ser.evaluation.statistics",
        "ser.summary",
        "ser.reporting.wandb",
    },
    "ser.analysis.class_drop": {
        "ser.evaluation.metrics",
        "ser.reporting.run_report",
        "ser.evaluation.statistics",
        "ser.summary",
    },
    "ser.checkpoints.trust": set(),
    "ser.features.augment": {"ser.config.quantities"},
    "ser.checkpoints.format": {
        "ser.checkpoints.trust",
        "ser.checkpoints.contents",
        "ser.checkpoints.sizes",
        "ser.checkpoints.ownership",
    },
    "ser.checkpoints.atomic_io": {"ser.checkpoints.ownership"},
    "ser.training.classifier": {
        "ser.checkpoints.trust",
        "ser.features.spectral",
        "ser.evaluation.metrics",
        "ser.config.quantities",
    },
    "ser.compare": {"ser.launch.run", "ser.evaluation.statistics", "ser.evaluation.status"},
    "ser.checkpoints.contents": set(),
    "ser.splits.speakers": {"ser.corpora.clip"},
    "ser.fetch.archive": set(),
    "ser.audio.decode": {"ser.cache.store", "ser.audio.containers", "ser.cache.fingerprints"},
    "ser.splits.leakage": {"ser.corpora.clip", "ser.splits.protocols"},
    "ser.cache.store": {"ser.cache.eviction", "ser.cache.writing"},
    "ser.corpora.labels": {"ser.corpora.clip"},
    "ser.audio.containers": {"ser.audio.mpeg"},
    "ser.corpora.clip": {"ser.corpora.names"},
    "ser.data.datamodule": {
        "ser.splits.leakage",
        "ser.cache.store",
        "ser.corpora.labels",
        "ser.corpora.clip",
        "ser.data.dataset",
        "ser.download",
        "ser.cache.eviction",
        "ser.audio.clips",
        "ser.splits.table",
        "ser.splits.roles",
        "ser.splits.protocols",
        "ser.data.loading",
        "ser.audio.window",
        "ser.config.quantities",
    },
    "ser.data.dataset": set(),
    "ser.corpora.demo": {"ser.cache.store", "ser.corpora.synthesis", "ser.cache.writing"},
    "ser.integrity.diagnosis": {
        "ser.corpora.clip",
        "ser.integrity.measure",
        "ser.integrity.rules",
        "ser.integrity.loudness",
        "ser.corpora.names",
        "ser.corpora.releases",
    },
    "ser.doctor": {
        "ser.integrity.diagnosis",
        "ser.integrity.loudness",
        "ser.reporting.html",
        "ser.launch.run",
    },
    "ser.download": {
        "ser.corpora.clip",
        "ser.fetch.published",
        "ser.corpora.records",
        "ser.corpora.releases",
        "ser.fetch.http",
        "ser.config.quantities",
        "ser.launch.run",
        "ser.launch.settings",
    },
    "ser.cache.eviction": set(),
    "ser.integrity.measure": {"ser.audio.decode"},
    "ser.integrity.rules": {"ser.corpora.clip", "ser.integrity.measure", "ser.corpora.releases"},
    "ser.cache.fingerprints": {"ser.cache.store"},
    "ser.audio.clips": {
        "ser.audio.decode",
        "ser.cache.store",
        "ser.corpora.clip",
        "ser.audio.rows",
    },
    "ser.integrity.loudness": {
        "ser.corpora.clip",
        "ser.integrity.measure",
        "ser.integrity.rules",
        "ser.corpora.releases",
        "ser.reporting.plots",
    },
    "ser.audio.mpeg": set(),
    "ser.corpora.names": set(),
    "ser.splits.table": {
        "ser.corpora.clip",
        "ser.corpora.names",
        "ser.splits.roles",
        "ser.splits.protocols",
    },
    "ser.splits.roles": {"ser.corpora.clip", "ser.splits.protocols", "ser.splits.transfer"},
    "ser.splits.protocols": {"ser.splits.speakers", "ser.corpora.clip", "ser.config.quantities"},
    "ser.fetch.published": {"ser.fetch.archive"},
    "ser.data.loading": {"ser.cache.store", "ser.audio.window"},
    "ser.data.recordings": {
        "ser.audio.decode",
        "ser.audio.containers",
        "ser.corpora.clip",
        "ser.corpora.names",
        "ser.audio.window",
    },
    "ser.corpora.records": {"ser.corpora.clip", "ser.fetch.published", "ser.fetch.http"},
    "ser.corpora.releases": {"ser.corpora.clip"},
    "ser.fetch.http": {"ser.fetch.published"},
    "ser.audio.rows": {"ser.cache.store"},
    "ser.corpora.synthesis": set(),
    "ser.splits.transfer": {
        "ser.splits.speakers",
        "ser.corpora.clip",
        "ser.splits.protocols",
        "ser.config.quantities",
    },
    "ser.audio.window": {"ser.config.quantities"},
    "ser.cache.writing": set(),
    "ser.ensemble": {
        "ser.evaluation.results",
        "ser.evaluation.pool",
        "ser.reporting.run_report",
        "ser.launch.run",
    },
    "ser.training.estimator": {
        "ser.checkpoints.trust",
        "ser.checkpoints.estimator_io",
        "ser.models.gender_split",
        "ser.config.quantities",
    },
    "ser.explore": {
        "ser.checkpoints.trust",
        "ser.analysis.corpus_stats",
        "ser.launch.run",
        "ser.launch.settings",
        "ser.analysis.spectra",
    },
    "ser.checkpoints.estimator_io": set(),
    "ser.training.fit": {
        "ser.checkpoints.format",
        "ser.splits.leakage",
        "ser.data.datamodule",
        "ser.training.estimator",
        "ser.features.spectral",
        "ser.training.restart",
        "ser.training.kept",
        "ser.evaluation.metrics",
        "ser.training.trainer",
        "ser.reporting.run_report",
        "ser.launch.run",
        "ser.evaluation.status",
        "ser.reporting.wandb",
    },
    "ser.training.folds": {"ser.evaluation.status"},
    "ser.features.spectral": {"ser.config.quantities"},
    "ser.models.gender_split": set(),
    "ser.training.restart": {
        "ser.checkpoints.format",
        "ser.checkpoints.atomic_io",
        "ser.checkpoints.contents",
        "ser.training.folds",
        "ser.checkpoints.training_state",
    },
    "ser.analysis.corpus_stats": {
        "ser.data.datamodule",
        "ser.reporting.html",
        "ser.reporting.plots",
        "ser.analysis.spectra",
    },
    "ser.training.kept": {"ser.training.folds", "ser.evaluation.results", "ser.evaluation.status"},
    "ser.evaluation.results": {
        "ser.corpora.clip",
        "ser.reporting.run_report",
        "ser.evaluation.status",
    },
    "ser.evaluation.metrics": set(),
    "ser.models.backbone": {"ser.models.dense_head", "ser.config.quantities"},
    "ser.models.cnn": {"ser.config.quantities"},
    "ser.models.conv1d": {"ser.models.standardizer", "ser.config.quantities"},
    "ser.models.dense_head": set(),
    "ser.models.pca_cnn": {
        "ser.models.dense_head",
        "ser.models.standardizer",
        "ser.config.quantities",
    },
    "ser.models.recurrent": {"ser.models.standardizer", "ser.config.quantities"},
    "ser.models.standardizer": set(),
    "ser.checkpoints.sizes": {"ser.features.spectral"},
    "ser.checkpoints.ownership": set(),
    "ser.reporting.html": set(),
    "ser.reporting.plots": set(),
    "ser.launch.plugins": {"ser.cache.store", "ser.launch.run_folder", "ser.training.selection"},
    "ser.evaluation.pool": {
        "ser.training.folds",
        "ser.evaluation.metrics",
        "ser.reporting.run_report",
        "ser.evaluation.status",
    },
    "ser.analysis.leakage_gap": {"ser.compare", "ser.reporting.plots", "ser.summary"},
    "ser.training.trainer": set(),
    "ser.config.quantities": set(),
    "ser.checkpoints.source": {
        "ser.checkpoints.format",
        "ser.splits.leakage",
        "ser.corpora.clip",
        "ser.data.datamodule",
        "ser.features.spectral",
    },
    "ser.reporting.run_report": {
        "ser.evaluation.metrics",
        "ser.reporting.html",
        "ser.reporting.plots",
        "ser.evaluation.statistics",
    },
    "ser.launch.resume": {
        "ser.checkpoints.format",
        "ser.training.estimator",
        "ser.training.folds",
        "ser.training.restart",
        "ser.checkpoints.ownership",
        "ser.launch.run_folder",
        "ser.launch.settings",
    },
    "ser.launch.run": {"ser.corpora.names", "ser.launch.run_folder", "ser.evaluation.status"},
    "ser.launch.run_folder": {
        "ser.corpora.names",
        "ser.training.folds",
        "ser.training.trainer",
        "ser.evaluation.status",
    },
    "ser.analysis.seeds": {"ser.evaluation.statistics"},
    "ser.training.selection": {"ser.training.folds", "ser.training.kept"},
    "ser.launch.settings": {
        "ser.checkpoints.trust",
        "ser.splits.leakage",
        "ser.corpora.labels",
        "ser.audio.clips",
        "ser.checkpoints.estimator_io",
        "ser.training.folds",
        "ser.checkpoints.sizes",
        "ser.config.quantities",
    },
    "ser.analysis.published": {"ser.ensemble", "ser.summary"},
    "ser.analysis.spectra": {
        "ser.audio.decode",
        "ser.corpora.clip",
        "ser.audio.window",
        "ser.features.spectral",
        "ser.reporting.html",
        "ser.reporting.plots",
    },
    "ser.launch.start": {"ser.launch.run", "ser.launch.run_folder", "ser.launch.settings"},
    "ser.evaluation.statistics": set(),
    "ser.evaluation.status": set(),
    "ser.summary": {
        "ser.reporting.html",
        "ser.reporting.plots",
        "ser.evaluation.pool",
        "ser.training.trainer",
        "ser.reporting.run_report",
        "ser.launch.run",
        "ser.launch.run_folder",
        "ser.analysis.seeds",
        "ser.evaluation.status",
        "ser.launch.sweep",
    },
    "ser.launch.sweep": {"ser.training.kept"},
    "ser.reporting.wandb": {"ser.reporting.run_report"},
    "ser.checkpoints.training_state": set(),
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
