"""Pickles of tensors: what one names is known before it is read."""

import pickletools
import re

GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2"
    r"|torch (BFloat16|Bool|Byte|Double|Float|Half|Int|Long|Short)Storage"
)
"""What its pickle names: `weights_only` also lets one ask for a bytearray of any size."""

OPERATIONS = 4 * 10**6
"""Of a pickle: a corpus of a hundred thousand clips needs a tenth."""


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
