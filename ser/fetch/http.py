"""HTTP with patience: records listed, and files fetched from the byte on that is missing.

pooch, which would be the library, begins a download that broke off anew: 200 MB archives.
"""

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from ser.fetch.published import PublishedFile

log = logging.getLogger(__name__)

BUSY = (429, 500, 502, 503, 504)
"""Answers after which a server is asked again."""

CHUNK = 1 << 20
"""Bytes read at once, at most."""

LONGEST_RECORD = 64 << 20
"""Bytes of a record: TESS's is below three megabytes."""

NO_RECORD = (
    HTTPError, OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError,
)  # fmt: skip
"""What reading an answer raises that lists no files."""

LONGEST_WAIT = 120
"""Seconds before the next try, whatever the server would like."""


class Remote(requests.Session):
    """HTTP with patience.

    Args:
        retries: Tries after the first, in a row, that bring no new byte.
        backoff: Seconds; each wait is twice the one before.
        timeout: Seconds without a byte after which a connection counts as broken.
    """

    def __init__(self, retries: int, backoff: float, timeout: float) -> None:
        super().__init__()
        self.retries = retries
        self.backoff = backoff
        self.timeout = timeout
        adapter = HTTPAdapter(
            max_retries=Retry(
                retries,
                backoff_factor=backoff,
                backoff_max=LONGEST_WAIT,
                status_forcelist=BUSY,
                retry_after_max=LONGEST_WAIT,
            )
        )
        self.mount("http://", adapter)
        self.mount("https://", adapter)
        # A body that is compressed on the way has other offsets than the file.
        self.headers["Accept-Encoding"] = "identity"
        # It warns of every try in its own words.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

    def list_files(
        self, url: str, read: Callable[[dict], list[PublishedFile]]
    ) -> list[PublishedFile]:
        """Ask a record for its files.

        Args:
            url: Of the record in the server's API.
            read: Finds the files in the answer.

        Raises:
            ValueError: No answer, or none that lists files.
        """
        response = self._get(url)
        try:
            with response:
                content = response.raw.read(LONGEST_RECORD + 1, decode_content=True)
            if len(content) > LONGEST_RECORD:
                raise ValueError(f"more than {LONGEST_RECORD} bytes")
            return read(json.loads(content))
        except NO_RECORD as error:
            raise ValueError(
                f"{url} does not answer with a list of files ({type(error).__name__}: {error}):"
                " expected the record as JSON; is its address in data.servers right?"
            ) from error

    def fetch(self, file: PublishedFile, part: Path, progress: Callable[[int], None]) -> None:
        """Complete `part`, from its end on; it stays, whatever happens.

        Args:
            file: What it becomes; not yet verified.
            part: The part that is here, or none.
            progress: Is told the bytes of `part`.

        Raises:
            ValueError: The server refuses, gives up too often or holds another size; or the disk
                is full.
        """
        if part.exists() and part.stat().st_size > file.size:
            part.unlink()
        part.touch()
        failures, farthest, reason = 0, part.stat().st_size, None
        while (arrived := part.stat().st_size) < file.size:
            if reason:
                failures = 1 if arrived > farthest else failures + 1
                farthest = max(farthest, arrived)
                place = f"{file.url} broke off at byte {arrived} of {file.size} ({reason})"
                if failures > self.retries:
                    raise ValueError(
                        f"{place}, {failures} times: start again, what is here is kept"
                    )
                log.warning("%s: trying again", place)
                time.sleep(min(LONGEST_WAIT, self.backoff * 2 ** (failures - 1)))
            reason = self._transfer(file, part, progress)
        progress(file.size)

    def _transfer(self, file: PublishedFile, part: Path, progress: Callable[[int], None]) -> str:
        """Append what one answer brings, and say how it ended."""
        offset = part.stat().st_size
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._get(file.url, headers) as response:
            begin = response.headers.get("Content-Range", "")
            if response.status_code != 206 or not begin.startswith(f"bytes {offset}-"):
                offset = 0  # a server without ranges sends all of it
            length = response.headers.get("Content-Length", "")
            if headers and not offset and not length.isdecimal():
                # What is here is not given for an answer that may be no file at all.
                raise ValueError(
                    f"{file.url} does not say how much it sends ({response.status_code}), and sends"
                    " no part: start again later, what is here is kept"
                )
            if length.isdecimal() and offset + int(length) != file.size:
                if response.status_code == 416 or not part.stat().st_size:
                    part.unlink()
                raise ValueError(_of_other_size(file))
            try:
                with part.open("ab" if offset else "wb") as opened:
                    # Other ways of reading lose what came before a connection broke off.
                    read = partial(response.raw.read1, CHUNK, decode_content=False)
                    for chunk in iter(read, b""):
                        if offset + len(chunk) > file.size:
                            part.unlink()
                            raise ValueError(_of_other_size(file))
                        opened.write(chunk)
                        offset += len(chunk)
                        progress(offset)
            except HTTPError as error:
                return _reason(error)
            except OSError as error:
                raise ValueError(
                    f"{part} cannot be written ({error.strerror}): make room and start again, what"
                    " is here is kept"
                ) from error
        return "the server ended it"

    def _get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is no address: expected one that begins with https://")
        try:
            response = self.get(url, headers=headers, stream=True, timeout=self.timeout)
        except requests.RequestException as error:
            raise ValueError(
                f"{url} cannot be fetched ({_reason(error)}, {self.retries + 1} tries): check the"
                " network and start again, what is here is kept"
            ) from error
        if response.status_code >= 400 and response.status_code != 416:
            response.close()
            raise ValueError(
                f"{url} answers {response.status_code} {response.reason}: expected the file; is its"
                " address in data.servers right?"
            )
        return response


def _of_other_size(file: PublishedFile) -> str:
    return (
        f"{file.url} does not have the {file.size} bytes that its record says: start again later,"
        " nothing was unpacked"
    )


def _reason(error: Exception) -> str:
    """Return the innermost of the errors that requests and urllib3 wrap into each other."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", inner)
    inner = inner[0] if isinstance(inner, tuple) else inner
    return " ".join(str(inner).split()) or type(error).__name__
