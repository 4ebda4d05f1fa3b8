"""Files of tensors, as torch writes them: what one holds is known before it is read."""

import pickletools
import re
import struct
import zipfile
from pathlib import Path

GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2"
    r"|torch (BFloat16|Bool|Byte|Double|Float|Half|Int|Long|Short)Storage"
)
"""What its pickle names: `weights_only` also lets one ask for a bytearray of any size."""

OPERATIONS = 4 * 10**6
"""Of a pickle: a corpus of a hundred thousand clips needs a tenth."""

RECORD = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)
"""What torch calls the records of a file."""


def check_archive(path: Path) -> None:
    """Refuse an archive that torch and zipfile could read in two ways, or that grows when read.

    Raises:
        ValueError: With what is wrong with it.
    """
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
        check_names(archive.read(f"{top}/data.pkl"))


def check_names(pickled: bytes) -> None:
    """Refuse a pickle that names more than tensors, or builds more than it has bytes.

    Raises:
        ValueError: With what it names.
    """
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
