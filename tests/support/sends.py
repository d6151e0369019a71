"""A Sidekey with presets that operators send, and an upstream controlled by the request path."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from support.api import PREFIX, TOKENS, Api, ApiResponse, config
from support.raw_connection import DEADLINE, RawConnection
from support.recording import recording
from support.sidekey_process import SidekeyProcess
from support.upstream import OK, RawUpstream
from support.wire import Message

SECRET: Final = "a-canary-of-sends-4711"

HEAD: Final = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
network: {{allow_private: ["127.0.0.0/8"]}}
timeouts: {{drain: 2s}}
"""


class SendUpstream:
    """The last segment of the path is a status, or `hold` (respond once `release` is set), `cut` or `endless`."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.requests: list[Message] = []
        """In the order in which they arrived."""
        self.server: RawUpstream

    @contextmanager
    def running(self) -> Iterator[SendUpstream]:
        with recording(self._script) as server:
            self.server = server
            try:
                yield self
            finally:
                self.release.set()

    async def _script(self, connection: RawConnection) -> None:
        while True:
            message = await connection.request()
            self.requests.append(message)
            word = message.target.decode().rpartition("/")[2]
            if word == "cut":
                connection.transport.abort()
                return
            if word == "endless":
                await connection.send(b"HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
                await connection.until_ended()
                return
            if word == "hold":
                while not self.release.is_set():
                    await asyncio.sleep(0.01)
            if word.isdecimal():
                await connection.send(b"HTTP/1.1 %d X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n" % int(word))
            else:
                await connection.send(OK)

    @property
    def words(self) -> list[str]:
        """Return the last path segment of each request."""
        return [request.target.decode().rpartition("/")[2] for request in self.requests]


def presets(port: int, path: str = "sms") -> str:
    """Build integrations and presets of a file, for an upstream on this port of 127.0.0.1."""
    base = f"http://127.0.0.1:{port}"
    return f"""\
integrations:
  sms:
    endpoint_prefix: {base}
    auth: {{type: basic, username: svc, password: {{insecure_value: {SECRET}}}}}
  closed:
    endpoint_prefix: http://127.0.0.1:1
    auth: {{type: basic, username: svc, password: {{insecure_value: {SECRET}}}}}
  missing:
    endpoint_prefix: {base}/missing
    auth: {{type: basic, username: svc, password: {{file: no-such-file}}}}
presets:
  welcome:
    title: Welcome text message
    help: Greets a new member
    integration: sms
    url: "{base}/{path}/{{{{phone}}}}"
    parameters:
      phone: {{type: text, max_length: 20, title: Phone, help: With country code, example: "+44", format: phone}}
      language: {{type: text, enum: [en, sk], default: en}}
    body: {{json: {{text: "Hello {{{{phone}}}} {{{{language}}}}"}}}}
  event: {{integration: sms, url: "{base}/event/200", content_type: text/plain}}
  closed: {{integration: closed, url: "http://127.0.0.1:1/x", body: {{json: {{a: 1}}}}}}
  missing: {{integration: missing, url: "{base}/missing/200", body: {{json: {{a: 1}}}}}}
  outside: {{integration: missing, url: "{base}/elsewhere", body: {{json: {{a: 1}}}}}}
  secret: {{integration: sms, url: "{base}/secret/200", body: {{json: {{a: 1}}}}}}
"""


def people(folder: Path, limits: str = "per_minute: 600, per_day: 10000") -> str:
    """Build two senders, with limits of their own, in place of the default one."""
    granted = "presets: [welcome, event, closed, missing, outside, gone]"
    text = ""
    for name in ("mark", "anna"):
        (folder / f"token-{name}").write_text(token_of(name))
        text += f"{name}: {{token: {{file: token-{name}}}, role: sender, {granted}, {limits}}}, "
    return text


def token_of(name: str) -> str:
    """Return the token of a sender."""
    return f"sidekey_{name}_" + name.encode().hex() * 8


class SendApi(Api):
    """The API, with sends."""

    def send(self, preset: str, key: str | None = None, batch: Any = None, **parameters: Any) -> ApiResponse:
        """Send a preset with parameters."""
        body = {"parameters": parameters} if batch is None else {"parameters": parameters, "batch": batch}
        return self.post(preset, body, key)

    def post(self, preset: str, body: Any, key: str | None = None) -> ApiResponse:
        """Send a preset with any body."""
        return self.request("POST", f"/presets/{preset}/sends", body, headers={"Idempotency-Key": key or new_key()})

    def begin(self, preset: str, key: str, **parameters: Any) -> HTTPConnection:
        """Send a preset on a connection that the caller may close before the response."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        self.send_on(connection, preset, key, **parameters)
        return connection

    def send_on(self, connection: HTTPConnection, preset: str, key: str, **parameters: Any) -> None:
        """Send a preset on a connection, without reading the response."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", "Idempotency-Key": key}
        connection.request("POST", f"{PREFIX}/presets/{preset}/sends", json.dumps({"parameters": parameters}), headers)


def new_key() -> str:
    return secrets.token_hex(16)


def sql(folder: Path, statement: str) -> list[tuple[object, ...]]:
    """Execute a statement on the store in this folder, and return its rows."""
    with closing(sqlite3.connect(folder / "store.db", timeout=10, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


@dataclass(frozen=True)
class SendSetup:
    """A running process and its upstream."""

    child: SidekeyProcess
    upstream: SendUpstream
    folder: Path

    def by(self, name: str) -> SendApi:
        """Return the API with a sender's token, or with the token of a role."""
        return SendApi(self.child.admin_port, TOKENS[name] if name in ("viewer", "editor", "admin") else token_of(name))


def text_of(folder: Path, upstream: SendUpstream, place: str = "", limits: str = "", path: str = "sms") -> str:
    """Build the config below the head."""
    text = config(folder, place, presets(upstream.server.port, path))
    return text.replace("tokens: {", "tokens: {" + (people(folder, limits) if limits else people(folder)), 1)


@contextmanager
def sending(
    folder: Path, upstream: SendUpstream, place: str = "", limits: str = "", head: str = HEAD
) -> Iterator[SendSetup]:
    """Run a process."""
    folder.mkdir(exist_ok=True)
    with SidekeyProcess(text_of(folder, upstream, place, limits), folder, head=head) as child:
        yield SendSetup(child, upstream, folder)
