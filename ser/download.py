"""Fetch what is missing of RAVDESS and TESS: `python -m ser.download data.root=<folder>`."""

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import hydra
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ser.config.quantities import Amount, Natural, Positive
from ser.corpora.clip import Clip, audio_files, parse
from ser.corpora.records import ravdess_files, tess_files
from ser.corpora.releases import official
from ser.fetch.http import Remote
from ser.fetch.published import PublishedFile

log = logging.getLogger(__name__)

LICENCES = {
    "ravdess": "RAVDESS (Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391) is CC BY-NC-SA"
    " 4.0: non-commercial use, with attribution; what is made of it is shared alike",
    "tess": "TESS (Pichora-Fuller & Dupuis 2020, doi:10.5683/SP2/E8H2MF) is CC BY-NC-ND 4.0:"
    " non-commercial use, with attribution; nothing made of it is passed on",
}


@hydra.main(version_base="1.3", config_path="../conf", config_name="download")
def main(cfg: DictConfig) -> None:
    """Compose the config, fetch what is missing, and say what lies there then."""
    # Imported here, so that --help answers at once.
    from hydra.utils import instantiate

    from ser.launch import settings
    from ser.launch.run import one_line_errors

    with one_line_errors():
        settings.check_types(OmegaConf.to_container(cfg, resolve=True))
        try:
            _ = instantiate(cfg.data, download=True).scanned
        except KeyboardInterrupt:
            raise KeyboardInterrupt("start again, what is here is kept") from None


@dataclass(frozen=True)
class Servers:
    """Where the releases are fetched from.

    Args:
        zenodo: Base address of the server that holds RAVDESS as record 1188976.
        dataverse: Base address of the server that holds TESS as doi:10.5683/SP2/E8H2MF.
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

        They are verified, and archives unpacked, into `RAVDESS/` and `TESS/`; what else is below
        `root`, in any layout, stays as it is. Processes that start together share one download.

        Args:
            root: The folder.
            corpora: `ravdess`, `tess` or both.
            channels: `speech`, `song` or both.
            modality: `audio`, `video` or both.

        Raises:
            ValueError: A server, a file or the disk is not as it should be. What has arrived is
                kept, but for files of a wrong size or checksum.
        """
        folder = Path(str(root)).expanduser()
        asked = official(corpora, channels, modality).values()
        if not _missing(folder, asked):
            log.info("nothing to download: all %d clips are below %s", len(asked), folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            if missing := _missing(folder, asked):
                self._fetch(folder, missing)

    def _fetch(self, root: Path, clips: Collection[Clip]) -> None:
        corpora = {clip.corpus for clip in clips}
        with closing(Remote(self.retries, self.backoff, self.timeout)) as remote:
            files = {}
            if "ravdess" in corpora:
                ravdess = [clip for clip in clips if clip.corpus == "ravdess"]
                kinds = {(clip.channel, clip.modality) for clip in ravdess}
                files |= ravdess_files(remote, self.zenodo, kinds)
            if "tess" in corpora:
                files |= tess_files(remote, self.dataverse)
            _transfer(remote, {root / target: file for target, file in files.items()}, root)


def _transfer(remote: Remote, files: Mapping[Path, PublishedFile], root: Path) -> None:
    left = {target: file for target, file in files.items() if not file.is_there(target)}
    if not left:
        log.info("nothing to download: all %d files were fetched before", len(files))
        return
    for corpus in sorted({target.relative_to(root).parts[0].lower() for target in left}):
        log.info(LICENCES[corpus])
    _check_space(root, left)
    total = sum(file.size for file in left.values())
    before = 0
    with _bar() as bar:
        task = bar.add_task("", total=total)
        for target, file in left.items():
            bar.update(task, description=file.name)
            target.parent.mkdir(exist_ok=True)
            remote.fetch(file, file.part(target), partial(_advance, bar, task, before))
            file.place(target)
            before += file.size
    log.info("downloaded %d files, %.0f MB, into %s", len(left), total / 1e6, root)


def _missing(root: Path, clips: Collection[Clip]) -> list[Clip]:
    found = map(parse, audio_files(root)) if root.is_dir() else ()
    names = {clip.name for clip in found if clip}
    return [clip for clip in clips if clip.name not in names]


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


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )


def _advance(bar: Progress, task: TaskID, before: int, size: int) -> None:
    bar.update(task, completed=before + size)


if __name__ == "__main__":
    main()
