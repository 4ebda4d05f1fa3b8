"""File names as text that is safe to print, and safe in a cell of a spreadsheet."""

import os
import re
from pathlib import PurePath

FORMULA = ("=", "+", "-", "@")
"""What a cell begins with that a spreadsheet computes."""

WORD = re.compile(r"[\w ][\w .+-]{0,79}")
"""What may name a class, a speaker or a corpus: in columns, keys, cells and checkpoints."""


def shown(text: object) -> str:
    """Spell out what is no text: control characters, and the bytes that no encoding knows."""
    known = os.fsencode(str(text)).decode(errors="backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in known
    )


def cell(path: PurePath) -> str:
    """Return a path for a table: `./=1+1.wav`, which is the same file, in place of `=1+1.wav`."""
    text = shown(path.as_posix())
    return f"./{text}" if text.startswith(FORMULA) else text
