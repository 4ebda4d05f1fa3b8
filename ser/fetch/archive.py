"""Unpacking of zip files: whole or not at all, and nothing outside of their folder."""

import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

MARKER = ".unpacked.json"
"""In the folder of an archive: its checksum, and the size of each file it held."""

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises of an archive that is broken, encrypted or packed in an unknown way."""


def is_unpacked(folder: Path, checksum: str) -> bool:
    """Return whether `folder` holds all of the archive of this checksum.

    Raises:
        ValueError: The folder is there, but is not what `unpack` has left.
    """
    if not folder.exists():
        return False
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        whole = marker["checksum"] == checksum and all(
            (folder / name).stat().st_size == size for name, size in marker["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(
            f"{folder} is there, but not as its archive was unpacked: expected no such folder, or"
            " all of its files; move it away to have it fetched again"
        )
    return True


def unpack(archive: Path, folder: Path, checksum: str) -> None:
    """Unpack a zip file into a folder that does not exist yet.

    Until all is there, the files have names that no scan takes for recordings.

    Args:
        archive: The zip file, already verified.
        folder: Where its members go.
        checksum: What the folder will say that it holds.

    Raises:
        ValueError: The archive is damaged, holds a member that would lie outside of the folder or
            is no plain file, or the disk is full. Nothing of it is left.
    """
    partial = folder.with_name(f".{folder.name}.part")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_members(archive, opened.infolist())
            sizes = {member.filename: member.file_size for member in members}
            _check_space(archive, folder.parent, sum(sizes.values()))
            shutil.rmtree(partial, ignore_errors=True)  # of a start that was killed
            for member in members:
                target = partial / f"{member.filename}.part"
                target.parent.mkdir(parents=True, exist_ok=True)
                # Never more than the declared size, and checked by its CRC.
                with opened.open(member) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file)
        for name in sizes:
            os.replace(partial / f"{name}.part", partial / name)
        marker = {"checksum": checksum, "files": sizes}
        (partial / MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")
        os.replace(partial, folder)
    except DAMAGED as error:
        raise ValueError(
            f"{archive} cannot be unpacked ({error}): expected a sound zip file; its checksum is"
            " that of the record, so the record itself is damaged"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{archive} cannot be unpacked into {folder} ({error.strerror}); nothing is left there:"
            " make room and start again, the archive is kept"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_members(archive: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        kind = stat.S_IFMT(member.external_attr >> 16)  # 0: made where there are no such types
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            problem = "would lie outside of its folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "is a link or a device"
        else:
            continue
        raise ValueError(
            f"{archive} is refused, nothing of it was unpacked: its member {member.filename!r}"
            f" {problem}; expected plain files"
        )


def _check_space(archive: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"{archive} needs {needed / 1e6:,.0f} MB to be unpacked, {folder} has"
            f" {free / 1e6:,.0f} MB free: make room and start again, the archive is kept"
        )
