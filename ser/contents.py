"""The content of a checkpoint file: read as plain containers, and refused where parts are amiss."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

DATA = ("ser.data.datamodule.EmotionDataModule", "ser.data.window.Window")
"""What its clips and their windows are."""

STAMPS = {
    "protocol": str, "protocol_version": int, "protocol_hash": str, "fold": int, "folds": int,
    "leaky": bool, "transductive": bool,
}  # fmt: skip
"""What a checkpoint says of its split, see `EmotionDataModule.stamps`."""


def read(path: Path) -> Mapping:
    """Give the content of a file.

    Raises:
        ValueError: It would take more memory than disk.
    """
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if packed or sum(record.file_size for record in records) > path.stat().st_size:
        raise ValueError("its records are packed or overlap, as torch never writes them")
    return torch.load(path, map_location="cpu", weights_only=True)


def read_split(columns: Mapping) -> pd.DataFrame:
    """Give a split's columns by the name of the clip.

    Raises:
        ValueError: They are of unequal length, or hold other than they should.
    """
    split = pd.DataFrame({key: columns[key] for key in ("name", "split", "sha256")}, dtype=object)
    if not split.map(lambda value: isinstance(value, str)).all(axis=None):
        raise ValueError("its split holds other than text")
    if split.name.duplicated().any() or not split.split.isin(("train", "val", "test")).all():
        raise ValueError("its split names a clip twice, or none of train, val and test")
    return split.set_index("name")


def check_parts(config: Mapping, stamps: Mapping, classes: Sequence[str], epoch: int) -> None:
    """Refuse what a later step would stumble over.

    Args:
        config: The recipe of the run.
        stamps: What it says of its split.
        classes: Their names.
        epoch: The last that was finished.

    Raises:
        ValueError: One of them is of another kind.
    """
    data = config["data"]
    if (data["_target_"], data["window"]["_target_"]) != DATA:
        raise ValueError(f"its data are not {' and '.join(DATA)}")
    if not isinstance(data["root"], str | Mapping) or not isinstance(epoch, int):
        raise ValueError("data.root or epoch is of another type")
    wrong = [key for key, kind in STAMPS.items() if not isinstance(stamps[key], kind)]
    if wrong:
        raise ValueError(f"of its stamps, {', '.join(wrong)} are of another type")
    named = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    if not named or len(set(classes)) != len(classes) or len(classes) < 2:
        raise ValueError("its classes are not two or more different names")
