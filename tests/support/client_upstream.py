"""An https server for real clients: it records requests, and responds as each client expects."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import random
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import programs

SMALL = b"a small body"
"""The body that every client posts."""

GOT = b"got a small body"
LARGE = random.Random(4711).randbytes(10_000_000)
"""10 MB that no coding makes smaller."""

EVENTS = ("one", "two", "three")
DEADLINE = 45.0
"""Seconds to wait until the client has received an event."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A received request: `target` with its query, header names in lower case."""

    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        return self.headers.get_all(name, [])


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A response, with a body or with `events`."""

    body: bytes = b""
    content_type: str = "text/plain"
    status: int = 200
    events: tuple[str, ...] = ()


class ClientUpstream:
    """`with ClientUpstream(folder, context) as upstream`: listens on a free port, with http if there is no context."""

    def __init__(self, folder: Path, context: ssl.SSLContext | None, host: str = "127.0.0.1") -> None:
        self.received: list[ReceivedRequest] = []
        """Requests since the last `reset`."""
        self.repository = folder / "repo.git"
        self._folder = folder
        self._host = host
        self._context = context
        self._seen = threading.Semaphore(0)
        self._server: _Server

    @property
    def scheme(self) -> str:
        """Scheme of its URLs."""
        return "http" if self._context is None else "https"

    @property
    def port(self) -> int:
        """Port of the listener."""
        return int(self._server.server_address[1])

    def seen(self) -> None:
        """Note that the client has received the last event."""
        self._seen.release()

    def wait_until_seen(self) -> bool:
        """Return True if the client receives the last event within the deadline."""
        return self._seen.acquire(timeout=DEADLINE)

    def reset(self) -> None:
        """Begin a new list of requests."""
        self.received = []
        self._seen = threading.Semaphore(0)

    def answer(self, request: ReceivedRequest, base: str) -> UpstreamResponse:
        """Build the response. `base` is the URL of this server for the client."""
        if request.path == "/v1/balance":
            return _json({"object": "balance", "livemode": False})
        area, _, rest = request.path.removeprefix("/api/").partition("/")
        if area == "repo.git":
            return self._git(request, rest)
        if area == "simple":
            return _index(rest)
        if area == "npm":
            return _registry(request, rest, f"{base}/api/npm")
        if area == "v1":
            return _openai(request, rest)
        if request.method == "PUT":
            return UpstreamResponse()
        if request.method != "GET":
            return UpstreamResponse(hashlib.sha256(request.body).hexdigest().encode())
        last = request.path.rpartition("/")[2]
        if last == "events":
            return UpstreamResponse(content_type="text/event-stream", events=EVENTS)
        return {"small": UpstreamResponse(GOT), "large": UpstreamResponse(LARGE)}.get(
            last, UpstreamResponse(status=404)
        )

    def _git(self, request: ReceivedRequest, rest: str) -> UpstreamResponse:
        """Run `git http-backend`, a CGI program (RFC 3875)."""
        if not self.repository.exists():
            make_repository(self.repository)
        environment = {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "GIT_PROJECT_ROOT": str(self._folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "service",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": f"/repo.git/{rest}",
            "QUERY_STRING": request.target.partition("?")[2],
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        }
        command = [programs.require("git"), "http-backend"]
        output = subprocess.run(command, env=environment, input=request.body, capture_output=True, check=True).stdout
        head, _, body = output.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        return UpstreamResponse(body, fields["Content-Type"], int(fields.get("Status", "200").split()[0]))

    def __enter__(self) -> Self:
        self._server = _Server(self, self._host, self._context)
        # Handlers may wait for the test, so the server must not wait for handlers at the end.
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    block_on_close = False

    def __init__(self, upstream: ClientUpstream, host: str, context: ssl.SSLContext | None) -> None:
        self.upstream = upstream
        self._context = context
        super().__init__((host, 0), _Handler)

    def get_request(self) -> tuple[Any, Any]:
        accepted, address = super().get_request()
        if self._context is not None:
            # The handler completes the handshake with its first read: it must not block the next connection.
            accepted = self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        return accepted, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect. The test reads `received`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _respond(self) -> None:
        upstream = self.server.upstream
        request = ReceivedRequest(self.command, self.path, self.headers, self._body())
        upstream.received.append(request)
        response = upstream.answer(request, f"https://{self.headers['Host']}")
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        if response.events:
            self._send_events(response.events)
            return
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    do_GET = do_POST = do_PUT = _respond  # noqa: N815 - names of the base class

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(_chunks(self.rfile))
            assert self.rfile.readline() == b"\r\n", "no trailers"
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        # S3 has chunks of its own inside HTTP chunks.
        return b"".join(_chunks(io.BytesIO(body))) if self.headers.get("Content-Encoding") == "aws-chunked" else body

    def _send_events(self, events: tuple[str, ...]) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            data = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            if not self.server.upstream.wait_until_seen():
                # End the connection, so that no client accepts an incomplete response.
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments: Any) -> None:
        """Log nothing: the test reads `received`."""


def _chunks(file: io.BufferedIOBase) -> Iterator[bytes]:
    """Decode chunks (RFC 9112 7.1), up to the trailers."""
    while size := int(file.readline(), 16):
        yield file.read(size)
        file.readline()


def make_repository(folder: Path) -> None:
    """Create a git repository with a file of LARGE, which accepts pushes."""

    def git(*arguments: str, data: bytes = b"") -> str:
        identity = {f"GIT_{role}_{field}": "x@y" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
        environment = {"PATH": os.defpath, "HOME": str(folder.parent), **identity}
        command = [programs.require("git"), "-C", str(folder), *arguments]
        return subprocess.run(command, env=environment, input=data, capture_output=True, check=True).stdout.decode()

    folder.mkdir()
    git("init", "--quiet", "--bare", "--initial-branch=main")
    # The content is incompressible, and each attempt takes a third of a second.
    git("config", "core.compression", "0")
    blob = git("hash-object", "-w", "--stdin", data=LARGE).strip()
    tree = git("mktree", data=f"100644 blob {blob}\tlarge\n".encode()).strip()
    git("update-ref", "refs/heads/main", git("commit-tree", tree, "-m", "large").strip())
    git("config", "http.receivepack", "true")


@cache
def wheel() -> bytes:
    """Build a package for pip, with LARGE in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("demo-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1\n")
        archive.writestr("demo-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("demo-1.dist-info/RECORD", "")
        archive.writestr("large", LARGE)
    return file.getvalue()


@cache
def archive() -> bytes:
    """Build a package for npm, with LARGE in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=0) as packed:
        for name, content in (("package.json", b'{"name": "demo", "version": "1.0.0"}\n'), ("large", LARGE)):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _index(rest: str) -> UpstreamResponse:
    if rest == "demo/":
        name = "demo-1-py3-none-any.whl"
        digest = hashlib.sha256(wheel()).hexdigest()
        return UpstreamResponse(f"<!DOCTYPE html><a href='{name}#sha256={digest}'>{name}</a>".encode(), "text/html")
    return UpstreamResponse(wheel(), "application/zip")


def _registry(request: ReceivedRequest, rest: str, base: str) -> UpstreamResponse:
    if rest == "demo/-/demo-1.0.0.tgz":
        return UpstreamResponse(archive(), "application/octet-stream")
    if request.method == "POST":
        # An audit without findings.
        packages = json.loads(gzip.decompress(request.body))
        return _json({}) if packages == {"demo": ["1.0.0"]} else UpstreamResponse(status=400)
    if request.method == "PUT":
        (published,) = json.loads(request.body)["_attachments"].values()
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(published["data"]))) as packed:
            file = packed.extractfile("package/large")
            assert file is not None
            return _json({"ok": True}) if file.read() == LARGE else UpstreamResponse(status=400)
    if rest != "demo":
        return UpstreamResponse(status=404)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive()).digest()).decode()
    dist = {"tarball": f"{base}/demo/-/demo-1.0.0.tgz", "integrity": integrity}
    version = {"name": "demo", "version": "1.0.0", "dist": dist}
    return _json({"name": "demo", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}})


def _openai(request: ReceivedRequest, rest: str) -> UpstreamResponse:
    if rest == "models":
        model = {"id": GOT.decode(), "object": "model", "created": 1, "owned_by": "us"}
        return _json({"object": "list", "data": [model]})
    if rest == "files/large/content":
        return UpstreamResponse(LARGE, "application/octet-stream")
    digest = hashlib.sha256(request.body).hexdigest()
    if rest == "files":
        return _json({"id": digest, "object": "file", "bytes": len(request.body), "created_at": 1, "filename": "large"})
    if not json.loads(request.body).get("stream"):
        return _json(_completion("chat.completion", message={"role": "assistant", "content": digest}))
    chunks = (_completion("chat.completion.chunk", delta={"content": event}) for event in EVENTS)
    return UpstreamResponse(content_type="text/event-stream", events=tuple(map(json.dumps, chunks)))


def _completion(kind: str, **content: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": None, **content}
    return {"id": "1", "object": kind, "created": 1, "model": "small", "choices": [choice]}


def _json(content: Any) -> UpstreamResponse:
    return UpstreamResponse(json.dumps(content).encode(), "application/json")
