"""The server of the page: what it lets in, where it listens, and how it ends."""

import ipaddress
import json
import logging
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

import gradio as gr
import uvicorn
from annotated_types import Interval, MinLen
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import MutableHeaders, UploadFile
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import ser
from ser.audio.decode import LONGEST
from ser.checkpoints.trust import check_value
from ser.page.interface import CSS, THEME, WAITING, Page

UPLOAD, PROGRESS = "/gradio_api/upload", "/gradio_api/upload_progress"
JOIN = "/gradio_api/queue/join"

PATHS = {
    "GET": r"/|/(assets|static|svelte)/.+|/(config|theme\.css|favicon\.ico|manifest\.json)"
    r"|/gradio_api/(file=.+|heartbeat/\w+|queue/data|upload_progress)",
    "POST": rf"{UPLOAD}|{JOIN}",
}
"""What the page asks for; Gradio has many more routes."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:;"
    " font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:;"
    " frame-ancestors 'none'; form-action 'self'"
)
"""By which a browser asks no other host for anything."""

LARGEST_JOIN = 2**16
"""Bytes of a request for an answer, which names its upload."""

LARGEST_FORM = 2**12
"""Bytes of an upload besides those of its file."""

OLDEST = 3600
"""Seconds after which an upload is deleted for which no answer was asked."""

SETTINGS: Mapping[str, object] = {
    "ckpt": str | Annotated[Sequence[str], MinLen(1)] | None,
    "abstain": float | None,
    "compiled": bool,
    "encoder": str | None,
    "host": str,
    "port": Annotated[int, Interval(ge=0, le=65535)],
    "max_mb": Annotated[float, Interval(gt=0, le=4096)],
    "max_minutes": Annotated[float, Interval(gt=0, le=LONGEST / 60)],
}
"""Keys of `ser.app`, and what they may be."""

log = logging.getLogger(__name__)


def serve(
    ckpt: str | Sequence[str] | None,
    abstain: float | None,
    compiled: bool,
    encoder: str | None,
    host: str,
    port: int,
    max_mb: float,
    max_minutes: float,
    folder: Path,
) -> None:
    """Show the page until Ctrl-C, or until the process is told to end.

    Args:
        ckpt: One or several checkpoints.
        abstain: As of `ser.load`.
        compiled: As of `ser.load`.
        encoder: As of `ser.load`.
        host: Address to listen at; at others than loopback's anyone who reaches it may ask.
        port: Likewise; 0 is any that is free.
        max_mb: Of an upload.
        max_minutes: Of a recording.
        folder: For uploads, until they are answered.

    Raises:
        ValueError: A value is none of its key, a checkpoint cannot be used, or the port is taken.
    """
    given = dict(locals())
    for key, kind in SETTINGS.items():
        check_value(given[key], kind, key)
    with closing(_listen(host, port)) as listening:
        paths = [ckpt] if isinstance(ckpt, str | None) else ckpt
        models = [
            ser.load(path, abstain=abstain, compiled=compiled, encoder=encoder) for path in paths
        ]
        app = build_app(
            Page(models, folder / "uploads", max_minutes), max_mb, _is_loopback(listening)
        )
        config = uvicorn.Config(
            app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1
        )
        address, port = listening.getsockname()[:2]
        named = f"[{address}]" if ":" in address else address
        log.info("http://%s:%d answers until Ctrl-C", named, port)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ValueError(
            f"host={host} port={port} cannot be taken ({error.strerror}): expected an address of"
            " this machine and a free port, or port=0 for any"
        ) from error
    if not _is_loopback(listening):
        log.warning("host=%s: whoever reaches this machine may use the page, unasked", host)
    return listening


def _is_loopback(listening: socket.socket) -> bool:
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def build_app(shown: Page, max_mb: float, loopback: bool) -> FastAPI:
    """Build the application: the page, its uploads, and the door before them.

    Args:
        shown: The page.
        max_mb: Of an upload.
        loopback: Whether only this machine asks, and only by its own name.
    """
    app = FastAPI(openapi_url=None)
    largest = int(max_mb * 2**20)

    @app.post(UPLOAD)
    async def upload(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > largest + LARGEST_FORM:
            return PlainTextResponse(f"The file is larger than {max_mb:g} MB.", 413)
        _remove_old(shown.folder)
        if len(list(shown.folder.iterdir())) >= WAITING:
            return PlainTextResponse("Too many recordings wait: try again later.", 503)
        async with request.form(max_files=1, max_fields=0) as form:
            file = form.get("files")
            if not isinstance(file, UploadFile):
                return PlainTextResponse("Expected one file.", 400)
            # Of its own: Gradio's would be shared by all who upload the same file.
            path = shown.folder / secrets.token_hex(16) / _safe_name(file.filename)
            path.parent.mkdir()
            with path.open("wb") as target:
                await run_in_threadpool(shutil.copyfileobj, file.file, target)
        return JSONResponse([str(path)])

    @app.get(PROGRESS)
    def tell_progress() -> Response:
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    app.add_middleware(Door)
    if loopback:  # a name that another host gave this machine is not its own
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    return gr.mount_gradio_app(
        app,
        shown.build(),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=largest,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=THEME,
        css=CSS,
    )


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # answered meanwhile
            if time.time() - path.stat().st_mtime > OLDEST:
                shutil.rmtree(path, ignore_errors=True)


def _safe_name(name: str | None) -> str:
    """Return a file name that is safe in a path; that of a clip of a corpus stays what it is."""
    found = re.sub(r"[^\w.+() -]", "_", (name or "").replace("\\", "/").rpartition("/")[2])
    # A name has 255 bytes at most, of which a letter takes up to four.
    return found[-60:] if found.strip(". ") else "recording"


class Door:
    """Lets in what the page asks for: no other route, and no file that was not uploaded.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        if not re.fullmatch(PATHS.get(scope["method"].replace("HEAD", "GET"), ""), scope["path"]):
            await PlainTextResponse("Not found.", 404)(scope, receive, send)
            return
        asked = Request(scope).headers
        if asked.get("origin", "").partition("://")[2] not in ("", asked.get("host")):
            await PlainTextResponse("Another page asks.", 403)(scope, receive, send)
            return
        if scope["path"] == JOIN:
            try:
                body = await _read_join(Request(scope, receive))
            except (ValueError, RecursionError) as error:
                await PlainTextResponse(str(error), 400)(scope, receive, send)
                return
            receive = _replay(body, receive)

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY
                headers["referrer-policy"] = "no-referrer"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_policy)


async def _read_join(request: Request) -> bytes:
    """Return the body of a request for an answer.

    Raises:
        ValueError: It is too large, no JSON, or has Gradio fetch a file or an address.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_JOIN:
            raise ValueError("The request is too large.")
    content = json.loads(body)
    # Gradio would copy or download what such a mapping names, before the page sees it.
    if any("path" in each for each in _mappings(content)):
        raise ValueError("The request names a file.")
    return json.dumps(content).encode()


def _mappings(node: object) -> Iterator[Mapping]:
    if isinstance(node, Mapping):
        yield node
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from _mappings(child)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what hands on a body that has been read, and then what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
