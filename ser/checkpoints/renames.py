"""Renamed targets: what checkpoints of earlier versions call the classes of this one."""

import io
import zipfile
from collections.abc import Mapping

from ser.corpora.tess import FORMER_ROLES, NAME

TARGETS = {
    "lightning.pytorch.loggers.CSVLogger": "ser.training.restart.CurvesLogger",
    "ser.augment.SpecAugment": "ser.features.augment.SpecAugment",
    "ser.checkpoint_io.WholeFiles": "ser.checkpoints.atomic_io.WholeFiles",
    "ser.classifier.EmotionClassifier": "ser.training.classifier.EmotionClassifier",
    "ser.data.demo.build": "ser.corpora.demo.build",
    "ser.data.download.Servers": "ser.fetch.servers.Servers",
    "ser.data.protocols.Holdout": "ser.splits.protocols.Holdout",
    "ser.data.protocols.KFold": "ser.splits.protocols.KFold",
    "ser.data.protocols.NamedFolds": "ser.splits.protocols.NamedFolds",
    "ser.data.protocols.Random": "ser.splits.protocols.Random",
    "ser.data.transfer.CrossCorpus": "ser.splits.protocols.CrossCorpus",
    "ser.data.transfer.Statement": "ser.splits.protocols.Statement",
    "ser.data.window.Window": "ser.audio.window.Window",
    "ser.estimator.EstimatorClassifier": "ser.training.estimator.EstimatorClassifier",
    "ser.frontend.Chroma": "ser.features.spectral.Chroma",
    "ser.frontend.Functionals": "ser.features.functionals.Functionals",
    "ser.frontend.LogMel": "ser.features.spectral.LogMel",
    "ser.frontend.MFCC": "ser.features.spectral.MFCC",
    "ser.frontend.MFCCChroma": "ser.features.spectral.MFCCChroma",
    "ser.frontend.MelImage": "ser.features.spectral.MelImage",
    "ser.gender.GenderSplit": "ser.models.gender_split.GenderSplit",
    "ser.training.curves.CurvesLogger": "ser.training.restart.CurvesLogger",
    "ser.tracking.wandb_logger": "ser.reporting.wandb.wandb_logger",
}
"""By `_target_`."""

ARGUMENTS = {"val_actors": "val_speakers"}
"""By key of a recipe."""

MODULES = {"ser.gender": "ser.models.gender_split"}
"""By module of a fitted estimator."""


def rename(node: object) -> object:
    """Return plain containers of bounded size with the targets and arguments of this version."""
    if isinstance(node, Mapping):
        renamed = {ARGUMENTS.get(key, key): rename(value) for key, value in node.items()}
        target = node.get("_target_")
        if isinstance(target, str) and target in TARGETS:
            renamed["_target_"] = TARGETS[target]
        if target is not None and str(node.get(NAME)) in FORMER_ROLES:
            renamed |= FORMER_ROLES[str(renamed.pop(NAME))]
        return renamed
    if isinstance(node, list | tuple):
        return [rename(child) for child in node]
    return node


def rename_estimator(content: bytes) -> bytes:
    """Return the bytes that skops wrote with the modules of this version."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = archive.read("schema.json").decode()
        written = schema
        for before, now in MODULES.items():
            written = written.replace(f'"__module__": "{before}"', f'"__module__": "{now}"')
        if written == schema:
            return content
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as renamed:
            for name in archive.namelist():
                renamed.writestr(name, written if name == "schema.json" else archive.read(name))
    return buffer.getvalue()
