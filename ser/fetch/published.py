"""A file of a public record, and its way from part to place."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ser.fetch.archive import is_unpacked, unpack

ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
"""Of checksums, as Zenodo and Dataverse name them."""


@dataclass(frozen=True)
class PublishedFile:
    """A file as its record describes it.

    Attributes:
        name: Without a folder.
        url: Of its content.
        size: Bytes.
        checksum: Algorithm and hexadecimal digits, as in `md5:0cc1...`.
    """

    name: str
    url: str
    size: int
    checksum: str

    def __post_init__(self) -> None:
        if self.name in ("", "..") or Path(self.name).name != self.name or "\\" in self.name:
            raise ValueError(f"{self.name!r} is no plain file name")
        if not isinstance(self.size, int) or not isinstance(self.url, str):
            raise ValueError(f"{self.name} has no size or no address")
        if (algorithm := self.checksum.partition(":")[0]) not in ALGORITHMS:
            raise ValueError(f"{self.name} has a checksum {algorithm!r}: expected {ALGORITHMS}")

    @property
    def is_archive(self) -> bool:
        """Whether it becomes a folder."""
        return Path(self.name).suffix.lower() == ".zip"

    def part(self, target: Path) -> Path:
        """Say where it grows before it becomes `target`: under no name of a recording."""
        return target.with_name(f"{self.name}.part")

    def is_there(self, target: Path) -> bool:
        """Say whether it became `target` before.

        Raises:
            ValueError: Something else has its place.
        """
        if self.is_archive:
            return is_unpacked(target, self.checksum)
        if not target.exists():
            return False
        if (size := target.stat().st_size) != self.size:
            raise ValueError(
                f"{target} has {size} bytes: expected {self.size} as its record says; move it away"
                " to have it fetched again"
            )
        return True

    def place(self, target: Path) -> None:
        """Make the folder or the recording `target` of its whole part.

        Raises:
            ValueError: The checksum is another: the part is deleted. Or see `unpack`.
        """
        part = self.part(target)
        algorithm, _, expected = self.checksum.partition(":")
        with part.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected.lower():
            part.unlink()
            raise ValueError(
                f"{self.url} has the {algorithm} {found}: expected {expected} as its record says;"
                " it was deleted, nothing was unpacked; start again"
            )
        if self.is_archive:
            unpack(part, target, self.checksum)
            part.unlink()
        else:
            os.replace(part, target)
