"""The content of a checkpoint file: read as plain containers, and refused where parts are amiss."""

import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from ser.config.split_info import SplitInfo
from ser.corpora.scan import from_name

GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2"
    r"|torch (BFloat16|Bool|Byte|Double|Float|Half|Int|Long|Short)Storage"
)
"""What its pickle names: `weights_only` also lets one ask for a bytearray of any size."""

RECORD = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)
"""What torch calls the records of a file."""

OPERATIONS = 4 * 10**6
"""Of a pickle: a corpus of a hundred thousand clips needs a tenth."""

NODES = 10_000
"""Values of a recipe."""

DEPTH = 30
"""Levels of a recipe."""


def read(path: Path) -> Mapping:
    """Return the content of a file.

    Raises:
        ValueError: It would take more memory than disk, or names other than tensors.
    """
    _check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Refuse an archive that torch and zipfile could read in two ways, or that grows when read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(max(0, size - 98))
        tail = file.read(98)
    # Two records of its end and the one between them, as torch writes them; no comment follows.
    if len(tail) < 98 or (first, tail[:4], tail[76:80]) != (b"PK\3\4", b"PK\6\6", b"PK\5\6"):
        raise ValueError("it does not begin and end as torch writes archives")
    length, start = struct.unpack("<QQ", tail[40:56])
    count, short_length, short_start, comment = struct.unpack("<H2LH", tail[86:98])
    short = [(short_length, length), (short_start, start)]
    if start + length != size - 98 or comment or count == 0:
        raise ValueError("its directory is not where torch writes it")
    if any(one not in (other, 2**32 - 1) for one, other in short):
        raise ValueError("its directory is in two places")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if packed or sum(record.file_size for record in records) > size:
            raise ValueError("its records are packed or overlap, as torch never writes them")
        top = records[0].filename.partition("/")[0]
        names = [record.filename.removeprefix(f"{top}/") for record in records]
        if len({*names}) < len(names) or not all(map(RECORD.fullmatch, names)):
            raise ValueError("its records have names that torch does not write")
        _check_names(archive.read(f"{top}/data.pkl"))


def _check_names(pickled: bytes) -> None:
    """Refuse a pickle that names more than tensors, or builds more than it has bytes."""
    before, tuples = "", set()
    for number, (code, value, _) in enumerate(pickletools.genops(pickled)):
        if number > OPERATIONS:
            raise ValueError(f"its pickle has more than {OPERATIONS} operations")
        if code.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "DUP", "MEMOIZE") or (
            code.name == "GLOBAL" and not GLOBALS.fullmatch(value)
        ):
            raise ValueError(f"it names {value}: expected tensors and plain containers alone")
        # Tuples of tuples of one tuple are small in a file, but not where they are compared.
        if code.name.endswith("BINPUT") and before.startswith("TUPLE"):
            tuples.add(value)
        if code.name.endswith("BINGET") and value in tuples:
            raise ValueError("its pickle uses a tuple twice")
        before = code.name


def read_split(columns: Mapping) -> pd.DataFrame:
    """Return a split's columns by the identity of the clip.

    Raises:
        ValueError: They are of unequal length, or hold other than they should.
    """
    clip = "name" if "name" in columns else "clip"
    split = pd.DataFrame({key: columns[key] for key in (clip, "split", "sha256")}, dtype=object)
    if not split.map(lambda value: isinstance(value, str)).all(axis=None):
        raise ValueError("its split holds other than text")
    if split[clip].duplicated().any() or not split.split.isin(("train", "val", "test")).all():
        raise ValueError("its split names a clip twice, or none of train, val and test")
    if clip == "name":  # of format 2: without the corpus
        found = {name: from_name(name) for name in split.name}
        split["clip"] = [found[name].clip if found[name] else name for name in split.name]
    return split.set_index("clip")[["split", "sha256"]]


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
        if isinstance(part, str) and "${" in part:  # a resolver may read a file
            raise ValueError(f"its recipe asks to resolve {part[:200]!r}")
        if isinstance(part, Mapping):
            part = list(part.values())
        if isinstance(part, list | tuple):
            waiting += [(child, depth + 1) for child in part]


def read_split_info(stamps: Mapping) -> SplitInfo:
    """Return what a checkpoint says of its split.

    Raises:
        ValueError: A value is of another type, or is no text to be printed.
    """
    found = SplitInfo.read(stamps)
    wrong = [key for key, value in asdict(found).items() if not str(value)[:200].isprintable()]
    if wrong or not isinstance(found.fold, int):  # the folds of a pool have a checkpoint each
        raise ValueError(f"{', '.join(wrong) or 'fold'} are of another type")
    return found


def check_parts(classes: Sequence[str], epoch: int) -> None:
    """Refuse what a later step would stumble over.

    Args:
        classes: Their names.
        epoch: The last that was finished.

    Raises:
        ValueError: One of them is of another kind.
    """
    if not isinstance(epoch, int):
        raise ValueError("its epoch is of another type")
    named = isinstance(classes, list | tuple) and all(
        isinstance(name, str) and re.fullmatch(r"[\w ][\w .+-]{0,99}", name) for name in classes
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
