"""Hostile token endpoints: effects on the response, the log, the metrics and the memory of the process."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from support.raw_connection import DEADLINE
from support.sidekey_process import WITHOUT_UVLOOP, SidekeyProcess

SECRET = "not-to-be-guessed"
MIB = 1 << 20
MOST = 24 * MIB
"""By which the process may grow. A tenth of a second at full speed would be more, if it were kept."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(64 * MIB), compresslevel=1)
HOSTILE: dict[str, tuple[bytes, bytes, str, str]] = {
    "fields": (OK, b"a: b\r\n", "invalid", "did not return a valid HTTP/1.1 response"),
    "long_fields": (
        OK,
        b"a: %b\r\n" % bytes(b"x" * 60_000),
        "invalid",
        "returned more than 1280 KiB with its header fields",
    ),
    "field": (OK + b"a: ", b"x" * 1000, "invalid", "returned a header field of more than 64 KiB"),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "invalid", "returned too many interim responses"),
    "body": (OK + b"\r\n", b"x" * 1000, "invalid", "returned more than 1024 KiB"),
    "extension": (CHUNKED + b"1;", b"x" * 1000, "invalid", "returned more than 1280 KiB with its header fields"),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n", "invalid", "did not return a valid HTTP/1.1 response"),
    "chunk": (CHUNKED + b"z\r\n", b"", "invalid", "did not return a valid HTTP/1.1 response"),
    "bomb": (
        OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
        b"",
        "invalid",
        "returned more than 1024 KiB",
    ),
    "nothing": (b"", b"", "unreachable", "closed the connection before it responded"),
    "cut": (OK + b"Content-Length: 9\r\n\r\n{", b"", "invalid", "closed the connection in the middle of its response"),
}
"""Start of the response, its endless rest if any, the outcome, and the reported reason."""


class Endpoint:
    """Sends its response to each request at full speed, and counts the requests: `with Endpoint(...) as endpoint`."""

    def __init__(self, begin: bytes, piece: bytes) -> None:
        self.requests: list[bytes] = []
        self._begin = begin
        self._piece = piece * (1 + (256 << 10) // len(piece)) if piece else b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._play, args=(connection,), daemon=True).start()

    def _play(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.requests.append(connection.recv(64 << 10))
            connection.sendall(self._begin)
            while self._piece:
                connection.sendall(self._piece)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def endpoints() -> Iterator[dict[str, Endpoint]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(Endpoint(begin, piece))) for name, (begin, piece, _, _) in HOSTILE.items()
        }


def get(port: int, path: str) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def memory(pid: int) -> int:
    """Return the peak memory of the process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("code", [None, WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
def test_hostile_token_endpoint_is_reported_and_bounded(tmp_path: Path, code: str | None) -> None:
    """Sidekey sends each call once, although it is a GET. The report does not contain the secret from the URL."""
    with endpoints() as result:
        text = "log: {level: debug, path: true, access: all}\nintegrations:\n" + "".join(
            f"  {name}:\n"
            f"    endpoint_prefix: http://127.0.0.1:{endpoint.port}/api\n"
            f"    auth: {{type: oauth2, token_endpoint: 'http://127.0.0.1:{endpoint.port}/token', client_id: id,\n"
            f"      token_request: {{method: GET}}, client_authentication: query,\n"
            f"      client_secret: {{insecure_value: {SECRET}}}}}\n"
            for name, endpoint in result.items()
        )
        with SidekeyProcess(text, tmp_path, code=code) as child:
            get(child.proxy_port, "/i/nothing/orders")
            before = memory(child.process.pid)
            responses = {name: get(child.proxy_port, f"/i/{name}/orders") for name in result}
            grown = memory(child.process.pid) - before
            _, metrics = get(child.admin_port, "/metrics")
            child.stop()
    for name, (_, _, outcome, reason) in HOSTILE.items():
        status, body = responses[name]
        assert (status, json.loads(body)["detail"]) == (502, f"token endpoint {reason}"), name
        assert f'sidekey_token_requests_total{{integration="{name}",outcome="{outcome}"}} 1' in metrics
        assert [request.split(b"?")[0] for request in result[name].requests] == [b"GET /token"]
        assert SECRET.encode() in result[name].requests[0]
        assert any(name in line and reason in line for line in child.lines)
    assert SECRET not in metrics + "".join(child.lines) + "".join(body for _, body in responses.values())
    assert grown < MOST
