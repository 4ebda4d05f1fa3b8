"""Files of public records: listed by Zenodo or Dataverse, verified, and put in place."""

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

    @property
    def target(self) -> str:
        """The name of what it becomes."""
        return Path(self.name).stem if self.is_archive else self.name

    def part(self, target: Path) -> Path:
        """Return where it grows before it becomes `target`: under no name of a recording."""
        return target.with_name(f"{self.name}.part")

    def is_there(self, target: Path) -> bool:
        """Return whether it became `target` before.

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


def read_zenodo(address: str, record: dict) -> list[PublishedFile]:
    """Read the files of a record of Zenodo; `address` is that of the server."""
    return [
        PublishedFile(entry["key"], entry["links"]["self"], entry["size"], entry["checksum"])
        for entry in record["files"]
    ]


def read_dataverse(address: str, record: dict) -> list[PublishedFile]:
    """Read the files of a dataset of Dataverse; `address` is that of the server."""
    found = []
    for entry in record["data"]["latestVersion"]["files"]:
        file = entry["dataFile"]
        url = f"{address}/api/access/datafile/{int(file['id'])}"
        checksum = file.get("checksum") or {"type": "MD5", "value": file["md5"]}
        algorithm = checksum["type"].lower().replace("-", "")
        digits = f"{algorithm}:{checksum['value']}"
        found.append(PublishedFile(file["filename"], url, file["filesize"], digits))
    return found


READERS = {"zenodo": read_zenodo, "dataverse": read_dataverse}
"""By the kind of server, what reads the files of a record."""
