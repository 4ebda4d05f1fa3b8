"""Downloads from a local server that breaks off, lies, is busy or has too much to give."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import wave
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ser.audio.window import Window
from ser.checkpoints.source import open_data
from ser.corpora.scan import official, scan
from ser.data.datamodule import EmotionDataModule
from ser.fetch.archive import MARKER
from ser.fetch.servers import Servers
from ser.splits.protocols import Holdout

SPEECH, SONG = "Audio_Speech_Actors_01-24.zip", "Audio_Song_Actors_01-24.zip"
VIDEO = "Video_Speech_Actor_01.zip"
REPOSITORY = Path(__file__).parents[2]


def silence(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setparams((1, 2, 48000, 0, "NONE", ""))
        opened.writeframes(bytes(2 * int(48000 * seconds)))
    return file.getvalue()


def pack(*names: str | zipfile.ZipInfo, seconds: float = 1, compression: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name in names:
            opened.writestr(name, silence(seconds))
    return file.getvalue()


class Shelf(ThreadingHTTPServer):
    """Two records and what is wrong with them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.ravdess = {
            SPEECH: pack(*(f"Actor_01/03-01-0{e}-01-01-01-01.wav" for e in range(1, 9))),
            SONG: pack("Actor_01/03-02-01-01-01-01-01.wav"),
            VIDEO: pack("Actor_01/01-01-01-01-01-01-01.mp4", "Actor_01/02-01-01-01-01-01-01.mp4"),
        }
        self.tess = {"OAF_back_angry.wav": silence(0.1), "YAF_dog_ps.wav": silence(0.2)}
        self.tess["read me.txt"] = b"not a recording"
        self.said: dict[str, dict] = {}  # by name, what a record says of it against the truth
        self.record: bytes | None = None
        self.cuts: list[int] = []  # bytes after which the next bodies break off
        self.stall = threading.Event()
        self.stall.set()
        self.ranges, self.lengths, self.status, self.busy = True, True, 200, 0
        self.asked: list[tuple[str, str | None]] = []

    def contents(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _ in self.asked if "/content/" in path]

    def answer(self, path: str) -> bytes | None:
        if path == "/api/records/1188976":
            files = [
                self.describe(name, content, "key", "size")
                | {"links": {"self": f"{self.address}/content/{name}"}}
                for name, content in self.ravdess.items()
            ]
            return self.record or json.dumps({"files": files}).encode()
        if path == "/api/datasets/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF":
            files = []
            for number, (name, content) in enumerate(self.tess.items()):
                file = self.describe(name, content, "filename", "filesize") | {"id": number}
                kind, _, digits = file.pop("checksum").partition(":")
                # Older answers have md5, newer ones name the algorithm too.
                old = {"md5": digits}
                new = {"checksum": {"type": kind.upper(), "value": digits}}
                files.append({"dataFile": file | (old if number else new)})
            return json.dumps({"data": {"latestVersion": {"files": files}}}).encode()
        if path.startswith("/content/"):
            return self.ravdess.get(path.removeprefix("/content/"))
        return list(self.tess.values())[int(path.removeprefix("/api/access/datafile/"))]

    def describe(self, name: str, content: bytes, key: str, size: str) -> dict:
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        return {key: name, size: len(content), "checksum": checksum} | self.said.get(name, {})

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the play."""


class Answer(BaseHTTPRequestHandler):
    server: Shelf

    def do_GET(self) -> None:
        shelf = self.server
        wanted = self.headers["Range"]
        shelf.asked.append((self.path, wanted))
        if shelf.busy:
            shelf.busy -= 1
            self.send_error(503)
            return
        content = shelf.answer(self.path)
        if shelf.status != 200 or content is None:
            self.send_error(shelf.status if shelf.status != 200 else 404)
            return
        begin = int(wanted[6:-1]) if wanted and shelf.ranges else 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            span = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        if shelf.lengths or "/api/" in self.path:
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        cut = shelf.cuts.pop(0) if shelf.cuts and "/api/" not in self.path else len(content)
        self.wfile.write(content[begin:cut])
        if cut < len(content):
            shelf.stall.wait(60)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Shelf() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.stall.set()
        server.shutdown()
        thread.join()


def fetch(shelf: Shelf, root: Path, *kinds: str, **options: object) -> None:
    """Fetch RAVDESS's speech, or other kinds."""
    corpora = [kind for kind in kinds if kind in ("ravdess", "tess")] or ["ravdess"]
    channels = [kind for kind in kinds if kind in ("speech", "song")] or ["speech"]
    modality = [kind for kind in kinds if kind in ("audio", "video")] or ["audio"]
    servers = Servers(
        shelf.address, f"{shelf.address}/", **({"retries": 3, "backoff": 0} | options)
    )
    servers.fetch(str(root), corpora, channels, modality)


def files(root: Path) -> set[str]:
    found = (path for path in root.rglob("*") if path.is_file() and path.name != ".download.lock")
    return {path.relative_to(root).as_posix() for path in found}


def test_both_records_are_fetched_once(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    everything = ("ravdess", "tess", "speech", "song", "audio", "video")
    shelf.said[SONG] = {"checksum": f"sha256:{hashlib.sha256(shelf.ravdess[SONG]).hexdigest()}"}
    # The song of the videos is not on the shelf.
    with pytest.raises(ValueError, match=r"no file such as Video_Song_Actors_01-24\.zip"):
        fetch(shelf, tmp_path, *everything)
    assert files(tmp_path) == set()
    for _ in range(2):
        fetch(shelf, tmp_path, "ravdess", "tess", "speech", "song")
        fetch(shelf, tmp_path, "video")
        found = scan(tmp_path, ["audio", "video"])
        assert len(found.clips) == 8 + 1 + 1 + 2
        assert not found.copies
        assert sorted(shelf.contents()) == [SONG, SPEECH, VIDEO]
    assert caplog.text.count("CC BY-NC-SA 4.0") == 2
    assert caplog.text.count("CC BY-NC-ND 4.0") == 1
    assert "nothing to download: all files were fetched before" in caplog.text
    assert files(tmp_path / "TESS") == {"OAF_back_angry.wav", "YAF_dog_ps.wav"}
    assert not list(tmp_path.rglob("*.part"))


def test_a_zip_of_tess_is_unpacked(shelf: Shelf, tmp_path: Path):
    shelf.tess = {"TESS.zip": pack("TESS/OAF_angry/OAF_back_angry.wav")}
    fetch(shelf, tmp_path, "tess")
    assert [clip.name for clip in scan(tmp_path).clips] == ["OAF_back_angry"]


def test_what_is_there_by_name_is_not_fetched(shelf: Shelf, tmp_path: Path):
    for clip in official(["ravdess"], ["speech"], ["audio"]).values():
        (tmp_path / clip.path.name).touch()
    before = sorted(tmp_path.iterdir())
    fetch(shelf, tmp_path)
    assert (shelf.asked, sorted(tmp_path.iterdir())) == ([], before)
    fetch(shelf, tmp_path, "speech", "song")
    assert shelf.contents() == [SONG]


def test_a_broken_transfer_goes_on_at_the_byte_where_it_broke(shelf: Shelf, tmp_path: Path):
    size = len(shelf.ravdess[SPEECH])
    cuts = sorted(np.random.default_rng(6).integers(1, size, 7).tolist())
    shelf.cuts = cuts[:6]
    fetch(shelf, tmp_path / "patient", retries=1)  # each try brought something: none counts twice
    ranges = [wanted for path, wanted in shelf.asked if "/content/" in path]
    assert ranges == [None, *(f"bytes={cut}-" for cut in cuts[:6])]

    shelf.asked.clear()
    shelf.cuts = cuts[6:]
    with pytest.raises(ValueError, match=f"broke off at byte {cuts[6]} of {size} .* is kept"):
        fetch(shelf, tmp_path / "other", retries=0)
    part = tmp_path / "other" / "RAVDESS" / f"{SPEECH}.part"
    assert part.read_bytes() == shelf.ravdess[SPEECH][: cuts[6]]
    with pytest.raises(ValueError, match=r"holds no RAVDESS, .* or SAVEE recording"):
        scan(tmp_path / "other")
    fetch(shelf, tmp_path / "other", retries=0)
    assert shelf.asked[-1][1] == f"bytes={cuts[6]}-"
    assert files(tmp_path / "other") == files(tmp_path / "patient")


def test_a_server_without_ranges_begins_again(shelf: Shelf, tmp_path: Path):
    shelf.ranges = False
    shelf.cuts = [300_000, 200_000]
    fetch(shelf, tmp_path, retries=2)
    assert len(scan(tmp_path).clips) == 8
    shelf.cuts = [300] * 9
    with pytest.raises(ValueError, match=r"broke off at byte 300 of \d+ \(.*\), 3 times"):
        fetch(shelf, tmp_path, "song", retries=2)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"checksum": "md5:" + 32 * "0"}, "has the md5 .* expected 0{32} as its record says"),
        ({"size": 1000}, "does not have the 1000 bytes that its record says"),
        ({"size": 10**6}, "does not have the 1000000 bytes that its record says"),
    ],
)
def test_a_file_that_is_not_what_its_record_says_is_deleted(
    shelf: Shelf, tmp_path: Path, said: dict, message: str
):
    shelf.said[SPEECH] = said
    with pytest.raises(ValueError, match=message):
        fetch(shelf, tmp_path)
    assert files(tmp_path) == set()


def test_a_part_of_something_else_is_found_out(shelf: Shelf, tmp_path: Path):
    part = tmp_path / "RAVDESS" / f"{SPEECH}.part"
    part.parent.mkdir()
    part.write_bytes(b"another file")
    with pytest.raises(ValueError, match="it was deleted, nothing was unpacked; start again"):
        fetch(shelf, tmp_path)
    part.write_bytes(bytes(10**6))  # longer than the file
    fetch(shelf, tmp_path)
    assert len(scan(tmp_path).clips) == 8


@pytest.mark.parametrize("lengths", [True, False])
def test_a_page_in_the_place_of_the_file_leaves_the_part(
    shelf: Shelf, tmp_path: Path, lengths: bool
):
    shelf.cuts = [5000]
    with pytest.raises(ValueError, match="broke off at byte 5000"):
        fetch(shelf, tmp_path, retries=0)
    content = shelf.ravdess[SPEECH]
    shelf.said[SPEECH] = shelf.describe(SPEECH, content, "key", "size")
    shelf.ravdess[SPEECH], shelf.ranges = b"<html>Sign in</html>", False
    shelf.lengths = lengths
    says = (
        f"does not have the {len(content)} bytes" if lengths else "does not say how much it sends"
    )
    with pytest.raises(ValueError, match=says):
        fetch(shelf, tmp_path)
    part = tmp_path / "RAVDESS" / f"{SPEECH}.part"
    assert part.read_bytes() == content[:5000]


def test_a_server_that_refuses(shelf: Shelf, tmp_path: Path):
    shelf.busy = 3
    fetch(shelf, tmp_path)
    shelf.busy = 10**6
    with pytest.raises(ValueError, match=r"cannot be fetched \(too many 503 error responses, 4 "):
        fetch(shelf, tmp_path, "song")
    assert 10**6 - shelf.busy == 4
    shelf.busy, shelf.status = 0, 404
    with pytest.raises(ValueError, match="/1188976 answers 404 Not Found: expected the file"):
        fetch(shelf, tmp_path, "song")
    shelf.status = 200
    shelf.server_close()
    with pytest.raises(ValueError, match=r"cannot be fetched .*Connection refused, 1 tries"):
        fetch(shelf, tmp_path, "song", retries=0)


@pytest.mark.parametrize(
    "record",
    [
        b"<html>Sign in</html>", b"[]", b"null", b'{"files": [{}]}', b'{"files": "none"}',
        b'{"files": [{"key": "../../x.zip", "size": 1, "checksum": "md5:0", "links": {}}]}',
        b'{"files": [{"key": "x.zip", "size": 1, "checksum": "crc:0", "links": {"self": ""}}]}',
        b'{"files": [{"key": "x.zip", "size": 1, "checksum": "shake_128:0", "links":{"self":""}}]}',
        b"[" * 50_000,  # too deep
        b'{"files": []}' + b" " * 64_000,  # too long, or without an end
        b'{"files": [{"key": "x.zip", "size": "1", "checksum": "md5:0", "links": {"self":""}}]}',
    ],
)  # fmt: skip
def test_an_answer_that_is_no_record(
    shelf: Shelf, tmp_path: Path, record: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ser.fetch.http.LONGEST_RECORD", 64_000, raising=False)
    shelf.record = record
    with pytest.raises(ValueError, match="does not answer with a list of files"):
        fetch(shelf, tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "nowhere"])
def test_only_the_web_is_asked(shelf: Shelf, tmp_path: Path, url: str):
    shelf.said[SPEECH] = {"size": 10}
    record = json.loads(shelf.answer("/api/records/1188976"))
    record["files"][0]["links"]["self"] = url
    shelf.record = json.dumps(record).encode()
    with pytest.raises(ValueError, match="is no address: expected one that begins with https"):
        fetch(shelf, tmp_path)


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("Actor_01/link")
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    "member",
    ["../outside.wav", "a/../../outside.wav", "/outside.wav", "..\\outside", "C:/x", link()],
)
def test_an_archive_that_reaches_outside_is_refused(shelf: Shelf, tmp_path: Path, member):
    shelf.ravdess[SPEECH] = pack("Actor_01/03-01-01-01-01-01-01.wav", member)
    with pytest.raises(ValueError, match="is refused, nothing of it was unpacked: its member"):
        fetch(shelf, tmp_path / "root")
    assert files(tmp_path) == {f"root/RAVDESS/{SPEECH}.part"}


def test_a_damaged_archive_leaves_no_recording(shelf: Shelf, tmp_path: Path):
    content = bytearray(shelf.ravdess[SPEECH])
    content[50_000] ^= 1  # inside the first recording
    shelf.ravdess[SPEECH] = bytes(content)
    with pytest.raises(ValueError, match=r"cannot be unpacked \(Bad CRC-32"):
        fetch(shelf, tmp_path)
    assert files(tmp_path) == {f"RAVDESS/{SPEECH}.part"}


def test_what_was_changed_since_is_not_replaced(shelf: Shelf, tmp_path: Path):
    fetch(shelf, tmp_path, "ravdess", "tess")
    folder = tmp_path / "RAVDESS" / Path(SPEECH).stem
    clip = folder / "Actor_01" / "03-01-01-01-01-01-01.wav"
    clip.write_bytes(b"cut")
    with pytest.raises(ValueError, match="is there, but not as its archive was unpacked"):
        fetch(shelf, tmp_path)
    (folder / MARKER).unlink()
    with pytest.raises(ValueError, match="is there, but not as its archive was unpacked"):
        fetch(shelf, tmp_path)
    assert clip.read_bytes() == b"cut"
    (tmp_path / "TESS" / "OAF_back_angry.wav").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"OAF_back_angry\.wav has 3 bytes: expected 9644 as"):
        fetch(shelf, tmp_path, "tess")


def test_too_small_a_disk_is_told_before_anything_is_fetched(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    size = len(shelf.ravdess[SPEECH])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size - 1))
    with pytest.raises(ValueError, match=r"has 2 MB free: expected 2 MB or more for the 1 files"):
        fetch(shelf, tmp_path)
    assert shelf.contents() == []
    # What a compressed archive becomes is known only then.
    shelf.ravdess[SPEECH] = pack("03-01-01-01-01-01-01.wav", seconds=60, compression=8)
    with pytest.raises(ValueError, match=r"needs 6 MB to be unpacked, .* has 2 MB free"):
        fetch(shelf, tmp_path)
    assert files(tmp_path) == {f"RAVDESS/{SPEECH}.part"}


def test_a_disk_that_fills_up_on_the_way(shelf: Shelf, tmp_path: Path):
    part = tmp_path / "RAVDESS" / f"{SPEECH}.part"
    part.parent.mkdir()
    part.symlink_to("/dev/full")
    with pytest.raises(ValueError, match=r"part cannot be written \(No space left on device\)"):
        fetch(shelf, tmp_path)


@pytest.mark.parametrize(("compression", "step"), [(0, "written"), (8, "unpacked into")])
def test_a_limit_reached_on_the_way_leaves_the_part(
    shelf: Shelf, tmp_path: Path, compression: int, step: str
):
    shelf.ravdess[SPEECH] = pack("03-01-01-01-01-01-01.wav", seconds=2, compression=compression)
    script = (
        "import resource; from ser.fetch.servers import Servers\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        f"servers = Servers({shelf.address!r}, {shelf.address!r})\n"
        f"servers.fetch({str(tmp_path)!r}, ['ravdess'], ['speech'], ['audio'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert f"cannot be {step}" in done.stderr.splitlines()[-1]
    assert "(File too large)" in done.stderr
    assert files(tmp_path) == {f"RAVDESS/{SPEECH}.part"}
    fetch(shelf, tmp_path)
    assert shelf.contents() == [SPEECH] * (1 if compression else 2)
    assert shelf.asked[-1][1] == (None if compression else "bytes=100000-")
    assert len(scan(tmp_path).clips) == 1


def test_starts_at_once_share_one_download(shelf: Shelf, tmp_path: Path):
    starts = [threading.Thread(target=fetch, args=(shelf, tmp_path)) for _ in range(4)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert shelf.contents() == [SPEECH]
    assert len(scan(tmp_path).clips) == 8


@pytest.mark.slow
def test_the_command_interrupted_and_started_again(shelf: Shelf, tmp_path: Path):
    shelf.cuts = [400_000]
    shelf.stall.clear()
    command = [
        *(sys.executable, "-m", "ser.download", f"data.root={tmp_path / 'data'}"),
        *(f"data.servers.{name}={shelf.address}" for name in ("zenodo", "dataverse")),
        *("data.channels=[speech]", "data.servers.backoff=0"),
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    started = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    part = tmp_path / "data" / "RAVDESS" / f"{SPEECH}.part"
    limit = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 300_000):
        assert time.monotonic() < limit
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130
    assert errors.decode().splitlines()[-1] == "interrupted: start again, what is here is kept"
    arrived = part.stat().st_size
    shelf.stall.set()

    again = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert (f"/content/{SPEECH}", f"bytes={arrived}-") in shelf.asked
    said = again.stderr.splitlines()
    assert [line.split()[0] for line in said[:2]] == ["RAVDESS", "TESS"]
    assert said[-1] == f"{tmp_path / 'data'}: 8 ravdess, 2 tess clips"
    assert os.listdir(tmp_path) == ["data"]


def test_a_corpus_without_a_record_is_named_before_anything_is_asked(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    servers = Servers(shelf.address, shelf.address, retries=0)
    speech = ["speech"], ["audio"]
    with pytest.raises(ValueError, match=r"480 of the 480 clips of SAVEE.*DC/a01\.wav; get "):
        servers.fetch(str(tmp_path / "none"), ["savee"], *speech)
    assert (shelf.asked, list(tmp_path.iterdir())) == ([], [])

    (tmp_path / "03a01Fa.wav").touch()
    servers.fetch(str(tmp_path), ["emodb", "ravdess", "savee"], *speech)
    line, *_ = caplog.messages
    assert "534 of the 535 clips of EMO-DB" in line
    assert "http://kahlan.eps.surrey.ac.uk/savee" in line
    assert shelf.contents() == [SPEECH]
    assert len(scan(tmp_path).clips) == 8 + 1

    caplog.clear()
    servers.fetch(str(tmp_path), ["emodb"], *speech)  # some are there: the rest may be wanted so
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for path in official(["savee"], *speech).values():
        (tmp_path / path.path).parent.mkdir(exist_ok=True)
        (tmp_path / path.path).touch()
    caplog.clear()
    servers.fetch(str(tmp_path), ["savee"], *speech)
    assert not caplog.records


def test_the_data_module_fetches_what_it_was_asked_for(shelf: Shelf, tmp_path: Path):
    window = Window(3.0, {"ravdess": 1.0, "tess": 0.0, "other": "onset"})
    servers = Servers(shelf.address, shelf.address, retries=0)

    def module(**options: object) -> EmotionDataModule:
        return EmotionDataModule(str(tmp_path), window, Holdout(), cache=str(tmp_path), **options)

    assert len(module(servers=servers, download=True, roles={"tess": "off"}).found.clips) == 9
    assert not [path for path, _ in shelf.asked if path.startswith("/api/datasets")]
    with pytest.raises(ValueError, match="expected data=ravdess_tess; of these data"):
        module(download=True)


def test_a_checkpoint_does_not_say_what_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def build(config: dict) -> None:
        raise LookupError(config["download"])

    monkeypatch.setattr("ser.checkpoints.source.instantiate", build)
    config = {"data": {"root": str(tmp_path), "download": True}}
    loaded = SimpleNamespace(config=config, clips_at_once=32)
    with pytest.raises(LookupError, match="False"):
        open_data(loaded, None, None, "test")


@pytest.mark.parametrize("address", [None, "zenodo.org", "ftp://zenodo.org"])
def test_an_address_that_is_none(address: str | None):
    with pytest.raises(
        ValueError, match=rf"data\.servers\.zenodo={address!r}: expected an address"
    ):
        Servers(address, "https://borealisdata.ca")
