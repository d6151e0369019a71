"""A token endpoint over https and an upstream that checks its tokens, in a process of their own."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import trustme

from benchmarks import wire
from benchmarks.load import RESPONSE_BODY
from benchmarks.machine import free_port
from benchmarks.probe import AUTHORIZATION, CHECK, await_response
from benchmarks.processes import MeasureFailed, Program
from benchmarks.tokens import Account, Client, Ledger
from benchmarks.upstream import Upstream

HOST = "tokens.example"
SECRET = "not-a-secret-either"

_JOB = "job.json"
_COUNTS = "/counts"
_RELEASE = "/release/"
_UNAUTHORIZED = wire.response(b"the token is not accepted", status="401 Unauthorized")


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Address, CA and clients of the token endpoint, at 127.0.0.1 under the name HOST."""

    port: int
    ca: Path
    clients: tuple[str, ...]

    @property
    def url(self) -> str:
        """URL of the token endpoint."""
        return f"https://{HOST}:{self.port}/token"


@dataclass(frozen=True, slots=True)
class Counts:
    """Connections that the token endpoint accepted, and the account of each client."""

    connections: int
    accounts: Mapping[str, Account]

    @property
    def calls(self) -> int:
        """Number of token requests of all clients."""
        return sum(len(account.calls) for account in self.accounts.values())


@dataclass(frozen=True, slots=True)
class Issuer:
    """The running process."""

    endpoint: TokenEndpoint
    upstream: Upstream

    def counts(self) -> Counts:
        """Return the counts so far."""
        counts: dict[str, Any] = json.loads(self._control(_COUNTS))
        accounts: dict[str, dict[str, Any]] = counts["accounts"]
        return Counts(counts["connections"], {name: Account(**account) for name, account in accounts.items()})

    def release(self, client: str) -> None:
        """Let the token endpoint respond to a client that it delays."""
        self._control(f"{_RELEASE}{client}")

    def _control(self, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.upstream.port, timeout=5)
        try:
            connection.request("POST", path, b"")
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise MeasureFailed(f"the issuer responded {response.status} to {path}")
        return text


@contextmanager
def issuing(folder: Path, core: int, clients: Mapping[str, Client]) -> Iterator[Issuer]:
    """Run the process on `core`; it writes only below `folder`. Raises MeasureFailed."""
    folder.mkdir()
    authority = trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    plain, secure = free_port(), free_port()
    job = {"plain": plain, "secure": secure, "clients": {name: asdict(client) for name, client in clients.items()}}
    (folder / _JOB).write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.issuer", str(folder)]
    with Program(command, folder / "output.log", core) as program:
        await_response(program, plain, f"/api/{CHECK}", {"Authorization": AUTHORIZATION})
        yield Issuer(TokenEndpoint(secure, folder / "ca.pem", tuple(clients)), Upstream(plain))


class Handlers:
    """Handle requests: those to the token endpoint, and those to the upstream and its control paths."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._connections = 0
        self._held: dict[str, list[wire.Write]] = {name: [] for name, client in ledger.clients.items() if client.held}

    def token_connection(self) -> wire.Requests:
        """Serve and count a connection to the token endpoint."""
        self._connections += 1
        return wire.Requests(self.token)

    def token(self, head: wire.Head, body: bytes, write: wire.Write) -> None:
        """Serve a token request with the client in its body (RFC 6749 2.3.1): at once or after the release."""
        fields = parse_qs(body.decode())
        (name,) = fields.get("client_id", [""])
        if name not in self._ledger.clients or fields.get("client_secret") != [SECRET] or head.start[0] != "POST":
            write(_error("invalid_client"))
            return
        self._ledger.accounts[name].calls.append(time.monotonic())
        if name in self._held:
            self._held[name].append(write)
        else:
            write(self._token(name))

    def upstream(self, head: wire.Head, body: bytes, write: wire.Write) -> None:
        """Serve a request to the upstream or one of its control paths."""
        del body
        path = head.start[1]
        if path.endswith(f"/{CHECK}"):
            write(wire.echo(head))
        elif path == _COUNTS:
            counts = {"connections": self._connections, "accounts": self._ledger.as_json()}
            write(wire.response(json.dumps(counts).encode()))
        elif path.startswith(_RELEASE):
            name = path.removeprefix(_RELEASE)
            for waiting in self._held.pop(name, []):
                waiting(self._token(name))
            write(wire.response())
        else:
            write(self._check(head))

    def _token(self, name: str) -> bytes:
        token = self._ledger.issue(name, time.monotonic())
        issued = {"access_token": token, "token_type": "Bearer", "expires_in": self._ledger.clients[name].life}
        return wire.response(json.dumps(issued).encode(), media_type="application/json")

    def _check(self, head: wire.Head) -> bytes:
        try:
            good = self._ledger.check(head.values("authorization"), time.monotonic())
        except ValueError as error:
            return wire.response(str(error).encode(), status="400 Bad Request")
        return wire.response(RESPONSE_BODY) if good else _UNAUTHORIZED


def _error(code: str) -> bytes:
    return wire.response(json.dumps({"error": code}).encode(), status="401 Unauthorized", media_type="application/json")


async def _serve(folder: Path) -> None:
    job = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    handlers = Handlers(Ledger({name: Client(**client) for name, client in job["clients"].items()}))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    loop = asyncio.get_running_loop()
    secure = await loop.create_server(handlers.token_connection, "127.0.0.1", job["secure"], ssl=context)
    plain = await loop.create_server(lambda: wire.Requests(handlers.upstream), "127.0.0.1", job["plain"], backlog=4096)
    await asyncio.gather(secure.serve_forever(), plain.serve_forever())


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
