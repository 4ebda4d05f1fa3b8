"""Keyed digests of the checkpoints that this user has written.

Checkpoints with trees, boosters or nearest neighbours are read by compiled code that trusts them:
a stranger's are refused unless `compiled=true` is given. A training that goes on from a stranger's
file takes nothing from it that says what is written, deleted or sent.
"""

import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

from platformdirs import user_data_path

log = logging.getLogger(__name__)


def remember(path: Path, content: bytes | memoryview) -> None:
    """Note that a file with this content is the user's own, in the user's data folder."""
    try:
        folder = user_data_path("ser")
        folder.mkdir(parents=True, exist_ok=True)
        line = f"{hmac.digest(_key(folder), content, 'sha256').hex()}\n".encode()
        opened = os.open(folder / "written", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(opened, "ab", buffering=0) as file:  # one write: runs may end together
            file.write(line)
    except OSError as error:
        log.warning("%s will count as somebody else's: %s", path, error)


def is_own(path: Path) -> bool:
    """Return whether `remember` was told of the file, as it is now."""
    folder = user_data_path("ser")
    try:
        key, written = (folder / "key").read_bytes(), (folder / "written").read_bytes()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hmac.new(key, digestmod="sha256"))
        return digest.hexdigest().encode() in written.split(b"\n")
    except OSError:
        return False


def _key(folder: Path) -> bytes:
    """Read the key that the user alone may read; make it where there is none."""
    path = folder / "key"
    if not path.exists():
        # Under a name of its own first: of two runs that make one, both take the first's.
        partial = folder / f"key.{os.getpid()}"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_bytes()
