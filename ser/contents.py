"""The content of a checkpoint file: read as plain containers, and refused where parts are amiss."""

import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2"
    r"|torch (BFloat16|Bool|Byte|Double|Float|Half|Int|Long|Short)Storage"
)
"""What its pickle names: `weights_only` also lets one ask for a bytearray of any size."""

NODES = 10_000
"""Values of a recipe."""

DEPTH = 30
"""Levels of a recipe."""

STAMPS = {
    "protocol": str, "protocol_version": int, "protocol_hash": str, "fold": int, "folds": int,
    "leaky": bool, "transductive": bool,
}  # fmt: skip
"""What a checkpoint says of its split, see `EmotionDataModule.stamps`."""


def read(path: Path) -> Mapping:
    """Give the content of a file.

    Raises:
        ValueError: It would take more memory than disk, or names other than tensors.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":  # torch would read it in the format of before
            raise ValueError("it begins as no archive")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if packed or sum(record.file_size for record in records) > path.stat().st_size:
            raise ValueError("its records are packed or overlap, as torch never writes them")
        for record in records:
            if record.filename.endswith(".pkl"):
                _check_names(archive.read(record))
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_names(pickled: bytes) -> None:
    for code, name, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL" and GLOBALS.fullmatch(name):
            continue
        if code.name in ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise ValueError(f"it names {name}: expected tensors and plain containers alone")


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


def check_size(node: object) -> None:
    """Refuse containers that hold one another many times over, or themselves.

    Raises:
        ValueError: There are more than `NODES` values or `DEPTH` levels.
    """
    waiting, count = [(node, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        count += 1
        if count > NODES or depth > DEPTH:
            raise ValueError(f"its recipe has more than {NODES} values or {DEPTH} levels")
        if isinstance(part, Mapping):
            part = list(part.values())
        if isinstance(part, list | tuple):
            waiting += [(child, depth + 1) for child in part]


def check_parts(stamps: Mapping, classes: Sequence[str], epoch: int) -> None:
    """Refuse what a later step would stumble over.

    Args:
        stamps: What it says of its split.
        classes: Their names.
        epoch: The last that was finished.

    Raises:
        ValueError: One of them is of another kind.
    """
    if not isinstance(epoch, int):
        raise ValueError("its epoch is of another type")
    wrong = [key for key, kind in STAMPS.items() if not isinstance(stamps[key], kind)]
    if wrong:
        raise ValueError(f"of its stamps, {', '.join(wrong)} are of another type")
    named = isinstance(classes, list | tuple) and all(
        isinstance(name, str) and name.isprintable() for name in classes
    )
    if not named or len(set(classes)) != len(classes) or len(classes) < 2:
        raise ValueError("its classes are not two or more different names")


def check_weights(network: nn.Module, weights: Mapping, source: str) -> None:
    """Refuse weights that are not those of a network, before it takes memory.

    Args:
        network: On the meta device.
        weights: The state of the model that holds it as `network`.
        source: Where they are from, for the message.

    Raises:
        ValueError: Names or shapes differ.
    """
    expected = {f"network.{name}": value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in weights.items() if name.startswith("network.")}
    differing = sorted(
        name for name in {*expected, *found} if expected.get(name) != found.get(name)
    )
    if differing:
        name = differing[0]
        expected, found = (
            list(shapes[name]) if name in shapes else "none" for shapes in (expected, found)
        )
        raise ValueError(
            f"{source} holds other weights than its recipe makes: {len(differing)} differ, such as"
            f" {name}, {found} instead of {expected}"
        )


def check_stored(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse tensors that claim more values than their file has.

    Raises:
        ValueError: One is sparse, on no device, or repeats what is stored, or two share it.
    """
    for name, value in state.items():
        plain = isinstance(value, torch.Tensor) and value.device.type == "cpu"
        plain = plain and value.layout == torch.strided
        if not plain or value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"{source}: {name!r} is no tensor whose values are all in the file")
    storages = [value.untyped_storage() for value in state.values()]
    stored = sum({each.data_ptr(): each.nbytes() for each in storages}.values())
    if sum(value.nbytes for value in state.values()) > stored:
        raise ValueError(f"{source}: tensors of its state share their values")
