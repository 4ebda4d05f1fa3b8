"""Download of the corpora: clips missing below a root are fetched from their records."""

import logging
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock
from rich import progress

from ser.config.quantities import Amount, Natural, Positive
from ser.corpora.clip import Clip, Record
from ser.corpora.scan import CORPORA, audio_files, official, parse
from ser.fetch.http import Remote
from ser.fetch.published import READERS, PublishedFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Servers:
    """Where the releases are fetched from.

    Args:
        zenodo: Base address of the server of records of Zenodo.
        dataverse: Base address of the server of records of Dataverse.
        retries: Tries after the first, in a row, that bring no new byte.
        backoff: Seconds; each wait is twice the one before.
        timeout: Seconds without a byte after which a connection counts as broken.
    """

    zenodo: str
    dataverse: str
    retries: Natural = 5
    backoff: Amount = 1.0
    timeout: Positive = 30.0

    def __post_init__(self) -> None:
        for key in ("zenodo", "dataverse"):
            if not str(address := getattr(self, key)).startswith(("http://", "https://")):
                raise ValueError(
                    f"data.servers.{key}={address!r}: expected an address such as https://zenodo.org"
                )

    def fetch(
        self, root: str, corpora: Sequence[str], channels: Sequence[str], modality: Sequence[str]
    ) -> None:
        """Fetch the archives and files of those clips that are not all below `root` by name.

        They are verified, and archives unpacked, into a folder a corpus; what else is below `root`,
        in any layout, stays as it is. Processes that start together share one download. Corpora
        without a record are named where clips of them are missing.

        Args:
            root: The folder.
            corpora: Names of corpora.
            channels: `speech`, `song` or both.
            modality: `audio`, `video` or both.

        Raises:
            ValueError: A server, a file or the disk is not as it should be. What has arrived is
                kept, but for files of a wrong size or checksum. Or none of the corpora has a
                record, and one of them is not there.
        """
        folder = Path(str(root)).expanduser()
        elsewhere = [name for name in corpora if CORPORA[name].record is None]
        corpora = [name for name in corpora if name not in elsewhere]
        unfetched = official(elsewhere, channels, modality).values()
        _name_missing(folder, unfetched, alone=not corpora)
        asked = official(corpora, channels, modality).values()
        if not _missing(folder, asked):
            if corpora:
                log.info("nothing to download: all %d clips are below %s", len(asked), folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            if missing := _missing(folder, asked):
                self._fetch(folder, missing)

    def _fetch(self, root: Path, clips: Collection[Clip]) -> None:
        files, notices = {}, []
        with Remote(self.retries, self.backoff, self.timeout) as remote:
            for corpus in CORPORA.values():
                kinds = {(c.channel, c.modality) for c in clips if c.corpus == corpus.name}
                if kinds:
                    found = self._list(remote, corpus.record, kinds)
                    found = {root / corpus.record.folder / name: f for name, f in found.items()}
                    left = {target: f for target, f in found.items() if not f.is_there(target)}
                    notices += [corpus.licence] if left else []
                    files |= left
            if not files:
                log.info("nothing to download: all files were fetched before")
                return
            for notice in notices:
                log.info(notice)
            _transfer(remote, files, root)

    def _list(
        self, remote: Remote, record: Record, kinds: Collection[tuple[str, str]]
    ) -> dict[str, PublishedFile]:
        """List the files of a record that hold clips, by the name of what each becomes.

        Args:
            remote: What asks.
            record: Of a corpus.
            kinds: Channel and modality of the clips.

        Raises:
            ValueError: The record is not there, or has no such file.
        """
        address = getattr(self, record.server).rstrip("/")
        url = f"{address}/{record.path}"
        files = remote.list_files(url, partial(READERS[record.server], address))
        found = {}
        for kind in sorted(kinds):
            chosen = [file for file in files if record.holds(file.name, *kind)]
            if not chosen:
                raise ValueError(
                    f"{url} lists no file such as {record.example(*kind)}: is its address in"
                    " data.servers right?"
                )
            found |= {file.target: file for file in chosen}
        return found


def _transfer(remote: Remote, left: Mapping[Path, PublishedFile], root: Path) -> None:
    _check_space(root, left)
    total = sum(file.size for file in left.values())
    before = 0
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns) as bar:
        task = bar.add_task("", total=total)
        for target, file in left.items():
            bar.update(task, description=file.name)
            target.parent.mkdir(exist_ok=True)
            advance = partial(_advance, bar, task, before)
            remote.fetch(file, file.part(target), advance)
            file.place(target)
            before += file.size
    log.info("downloaded %d files, %.0f MB, into %s", len(left), total / 1e6, root)


def _name_missing(root: Path, clips: Collection[Clip], alone: bool) -> None:
    """Say in one line which clips that have no record are missing, and where they are found.

    Args:
        root: The folder.
        clips: Of corpora without a record.
        alone: Whether no other corpus is asked for.

    Raises:
        ValueError: The same line, where one of the corpora is not there at all and `alone`.
    """
    total = Counter(clip.corpus for clip in clips)
    missing = Counter(clip.corpus for clip in _missing(root, clips))
    parts = [
        f"{count} of the {total[name]} clips of {CORPORA[name].title} (such as"
        f" {CORPORA[name].examples}; get them from {CORPORA[name].source})"
        for name, count in missing.items()
    ]
    if parts:
        line = (
            f"not below data.root={str(root)!r}, and not downloaded by this program:"
            f" {', '.join(parts)}; put them there, into any folder"
        )
        if alone and any(missing[name] == total[name] for name in missing):
            raise ValueError(line)
        log.warning(line)


def _missing(root: Path, clips: Collection[Clip]) -> list[Clip]:
    found = map(parse, audio_files(root)) if root.is_dir() else ()
    there = {clip.clip for clip in found if clip}
    return [clip for clip in clips if clip.clip not in there]


def _check_space(root: Path, left: Mapping[Path, PublishedFile]) -> None:
    """Refuse to begin what cannot be finished: an archive is there until it is unpacked."""
    parts = [file.part(target) for target, file in left.items()]
    needed = sum(file.size for file in left.values())
    needed += max((file.size for file in left.values() if file.is_archive), default=0)
    needed -= sum(part.stat().st_size for part in parts if part.exists())
    free = shutil.disk_usage(root).free
    if free < needed:
        raise ValueError(
            f"data.root={str(root)!r} has {free / 1e6:,.0f} MB free: expected"
            f" {needed / 1e6:,.0f} MB or more for the {len(left)} files to download and unpack;"
            " make room, or set data.root to another disk"
        )


def _advance(bar: progress.Progress, task: progress.TaskID, before: int, size: int) -> None:
    bar.update(task, completed=before + size)
