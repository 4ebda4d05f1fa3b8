"""File names as text that is safe to print, and safe in a cell of a spreadsheet."""

import os
import re
import unicodedata
from pathlib import PurePath

FORMULA = ("=", "+", "-", "@")
"""What a cell begins with that a spreadsheet computes."""

MARKS = ("Mn", "Mc")
"""Unicode's categories of what letters of many scripts are written with."""


def is_word(text: str, longest: int = 80) -> bool:
    """Return whether a text may name a class, a speaker or a corpus, in columns, keys and cells.

    Letters, digits, marks, spaces and _ anywhere, and . + - after the first character.
    """
    plain = "".join("_" if unicodedata.category(one) in MARKS else one for one in text)
    return len(text) <= longest and re.fullmatch(r"[\w ][\w .+-]*", plain) is not None


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
