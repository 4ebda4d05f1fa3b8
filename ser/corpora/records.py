"""The records of RAVDESS and TESS: which of their files hold which clips."""

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path

from ser.corpora.clip import AUDIO_SUFFIXES
from ser.fetch.http import Remote
from ser.fetch.published import PublishedFile

RAVDESS = "api/records/1188976"
TESS = "api/datasets/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF"

# A video archive is one speaker's.
_RAVDESS_ARCHIVE = re.compile(r"(Audio|Video)_(Speech|Song)_Actors?_\d\d(-\d\d)?\.zip")


def ravdess_files(
    remote: Remote, zenodo: str, kinds: Collection[tuple[str, str]]
) -> dict[Path, PublishedFile]:
    """List the archives that hold the clips, by the folder that each becomes.

    Args:
        remote: What asks.
        zenodo: Base address.
        kinds: Channel and modality of the clips.

    Raises:
        ValueError: The record is not there, or has no such archive.
    """
    url = f"{zenodo.rstrip('/')}/{RAVDESS}"
    files = remote.list_files(url, _read_zenodo)
    found = {}
    for channel, modality in sorted(kinds):
        parts = modality.title(), channel.title()
        matched = ((file, _RAVDESS_ARCHIVE.fullmatch(file.name)) for file in files)
        chosen = [file for file, match in matched if match and match.group(1, 2) == parts]
        if not chosen:
            raise ValueError(
                f"{url} lists no archive such as {'_'.join(parts)}_Actors_01-24.zip: is its"
                " address in data.servers right?"
            )
        found |= {Path("RAVDESS", Path(file.name).stem): file for file in chosen}
    return found


def tess_files(remote: Remote, dataverse: str) -> dict[Path, PublishedFile]:
    """List the archives and recordings, by the folder or file that each becomes.

    Args:
        remote: What asks.
        dataverse: Base address.

    Raises:
        ValueError: The record is not there, or has neither.
    """
    url = f"{dataverse.rstrip('/')}/{TESS}"
    found = {}
    for file in remote.list_files(url, partial(_read_dataverse, dataverse.rstrip("/"))):
        path = Path("TESS", file.name)
        if file.is_archive:
            found[path.with_suffix("")] = file
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            found[path] = file
    if not found:
        raise ValueError(
            f"{url} lists neither recordings nor archives: is its address in data.servers right?"
        )
    return found


def _read_zenodo(record: dict) -> list[PublishedFile]:
    return [
        PublishedFile(entry["key"], entry["links"]["self"], entry["size"], entry["checksum"])
        for entry in record["files"]
    ]


def _read_dataverse(address: str, record: dict) -> list[PublishedFile]:
    found = []
    for entry in record["data"]["latestVersion"]["files"]:
        file = entry["dataFile"]
        url = f"{address}/api/access/datafile/{int(file['id'])}"
        checksum = file.get("checksum") or {"type": "MD5", "value": file["md5"]}
        algorithm = checksum["type"].lower().replace("-", "")
        digits = f"{algorithm}:{checksum['value']}"
        found.append(PublishedFile(file["filename"], url, file["filesize"], digits))
    return found
