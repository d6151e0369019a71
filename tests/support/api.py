"""A running Sidekey with a store, and its API as operators use it: real processes, real HTTP."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from support.nginx import Nginx
from support.raw_connection import DEADLINE
from support.sidekey_process import HEAD, SidekeyProcess

PREFIX: Final = "/api/v1"
TOKENS: Final = {
    role: f"sidekey_{hashlib.sha256(role.encode()).hexdigest()}" for role in ("viewer", "editor", "admin", "sender")
}
"""Operators' tokens of the config, by role."""

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


@dataclass(frozen=True)
class ApiResponse:
    """A response of the API. `json` is None without a body."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        document = self.json
        assert document["status"] == self.status
        return str(document["code"])

    @property
    def etag(self) -> str:
        return self.headers["ETag"]

    @property
    def pointers(self) -> set[str]:
        """The pointers of a problem's errors."""
        return {error["pointer"] for error in self.json["errors"]}


class Api:
    """The API on a port of 127.0.0.1, with one token."""

    def __init__(self, port: int, token: str = TOKENS["admin"]) -> None:
        self.port = port
        self.token = token

    def by(self, token: str) -> Api:
        """Return the same API with another token."""
        return Api(self.port, token)

    def connect(self) -> HTTPConnection:
        """Open a connection for one request."""
        return HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        match: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """Send a request on a connection of its own. `body` is JSON, or raw bytes."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Authorization": f"Bearer {self.token}"}
        if data is not None:
            fields["Content-Type"] = MERGE_PATCH if method == "PATCH" else JSON
        if match is not None:
            fields["If-Match"] = match
        fields |= headers or {}
        with closing(self.connect()) as connection:
            connection.request(method, PREFIX + path, data, {key: value for key, value in fields.items() if value})
            response = connection.getresponse()
            return ApiResponse(response.status, response.headers, response.read())

    def get(self, path: str) -> Any:
        """GET a resource that exists: 200."""
        response = self.request("GET", path)
        assert response.status == 200, response
        return response.json

    def create(self, path: str, document: Any) -> Any:
        """Create a resource: 201."""
        response = self.request("POST", path, document)
        assert response.status == 201, response
        return response.json


def config(folder: Path, place: str = "", more: str = "") -> str:
    """Build the config of a Sidekey with a store, below the head that `SidekeyProcess` writes.

    `place` has the store's location, by default a file in the folder. `more` has further keys.
    """
    (folder / "key").write_text(b64encode(bytes(range(32))).decode())
    tokens = ""
    for role, token in TOKENS.items():
        (folder / f"token-{role}").write_text(token)
        granted = ", presets: [hook-of-a-file]" if role == "sender" else ""
        tokens += f"{role}-of-file: {{token: {{file: token-{role}}}, role: {role}{granted}}}, "
    return f"""\
store: {{{place or "path: store.db"}, keys: [{{id: k1, key: {{file: key}}}}], allow_private: ["127.0.0.0/8"]}}
admin: {{tokens: {{{tokens}}}}}
{more or "integrations: {}"}
"""


def managed(folder: Path, place: str = "", more: str = "", head: str = HEAD, probe: str = "/readyz") -> SidekeyProcess:
    """Run a process with a store."""
    return SidekeyProcess(config(folder, place, more), folder, head=head, probe=probe)


@contextmanager
def rewritten(child: SidekeyProcess, text: str) -> Iterator[None]:
    """Replace the text of the config file for the block. The caller waits until each version is in use."""
    original = child.config.read_text()
    child.rewrite(text)
    try:
        yield
    finally:
        child.rewrite(original)


def basic(port: int, secret: str = "a-canary-of-basic", path: str = "/v1") -> dict[str, Any]:
    """Build a document of kind basic for an upstream on this port of 127.0.0.1."""
    return {
        "endpoint_prefix": f"http://127.0.0.1:{port}{path}",
        "auth": {"type": "basic", "username": {"value": "svc"}, "password": {"value": secret}},
        "test": {"path": "/whoami"},
    }


OF_A_FILE: Final = """
callers: {of-a-file: {token: {insecure_value: the-token-of-a-file}, presets: [hook-of-a-file], integrations: "*"}}
presets:
  outside-of-a-file: {integration: of-a-file, url: http://127.0.0.1:1/other, content_type: text/plain}
  hook-of-a-file:
    integration: of-a-file
    url: http://127.0.0.1:1/v1/hook
    parameters: {user: {type: text}}
    body: {json: {text: "Hello {{user}}", n: 1.5}}
integrations:
  of-a-file:
    description: Written in a file
    tags: [files]
    endpoint_prefix: http://127.0.0.1:1/v1
    auth: {type: headers, headers: {X-Key: {secret: {insecure_value: a-secret-of-a-file}}}}
  without-a-secret:
    endpoint_prefix: http://127.0.0.1:1
    auth: {type: headers, headers: {X-Key: {secret: {file: gone}}}}
"""


@dataclass(frozen=True)
class ApiSetup:
    """The process, and the upstream that its integrations may dial."""

    child: SidekeyProcess
    upstream: int


@contextmanager
def serving(folder: Path) -> Iterator[ApiSetup]:
    """Run a Sidekey with a store and integrations of a file, and an echoing upstream."""
    with Nginx(folder) as nginx, managed(folder, more=OF_A_FILE) as child:
        yield ApiSetup(child, nginx.port)
