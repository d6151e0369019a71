"""A whole process with a secret of every kind: it is nowhere but sealed, and on its way to its upstream."""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from support.api import TOKENS, Api, managed
from support.child import run_cli
from support.every_kind import USER, documents_of_every_kind
from support.http_get import get
from support.model_keys import SECRETS, keys_of_integrations
from support.nginx import Nginx
from support.postgres import Postgres

SENT: Final = "a-canary-of-what-people-send"
MORE: Final = "log: {level: debug, access: all, path: true, audit: uses}\nintegrations: {}"
BEGIN: Final = "-----BEGIN "


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[int]:
    """The port of an upstream that answers with what it was sent."""
    with Nginx(tmp_path) as nginx:
        yield nginx.port


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What a config says of an empty store."""
    if request.param == "sqlite":
        return "path: store.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    (tmp_path / "store-url").write_text(postgres.url(asyncio.run(postgres.schema())))
    return "url: {file: store-url}"


def secrets_in(document: Any) -> Iterator[str]:
    """The values of a document that are sealed."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("value", "url") and len(document) == 1 and isinstance(value, str):
                yield value
            else:
                yield from secrets_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from secrets_in(value)


def forms(secret: bytes) -> set[bytes]:
    """A secret as it stands, in base64 wherever it begins, in hexadecimal, and percent-encoded in two ways."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    found |= {quote(secret, safe="").encode(), "".join(f"%{byte:02X}" for byte in secret).encode()}
    for before in range(3):
        whole = b64encode(bytes(before) + secret).rstrip(b"=")
        # The first and the last characters also hold bits of what is around it.
        found.add(whole[4 if before else 0 : -2])
    return found


def looked_for(secret: str) -> set[bytes]:
    """What must be nowhere of a secret; of a private key each line of its PEM, and what it stands for."""
    if BEGIN not in secret:
        return forms(secret.encode())
    key = secret[secret.index(BEGIN, secret.find("CERTIFICATE-----\n") + 1) :] if "CERTIFICATE" in secret else secret
    # The last lines of a key hold the public half, which the certificate has as well.
    lines = [line.encode() for line in key.splitlines() if "-----" not in line]
    return {*lines[:2], b64decode(lines[0]), lines[0].hex().encode()}


def dumped(place: str, folder: Path, request: pytest.FixtureRequest) -> dict[str, bytes]:
    """Everything that a database keeps: its files, and what it gives out."""
    if place.startswith("path"):
        files = {path.name: path.read_bytes() for path in folder.glob("store.db*")}
        assert files.keys() >= {"store.db", "store.db-wal"}
        return files
    postgres: Postgres = request.getfixturevalue("postgres")
    command = ["pg_dump", "--inserts", "-h", str(postgres.folder), "-U", "sidekey", "postgres"]
    dump = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    asyncio.run(postgres.sql("CHECKPOINT"))
    files = {path.name: path.read_bytes() for path in postgres.folder.rglob("*") if path.is_file()}
    return {"the dump": dump.stdout, "the server's files": b"\n".join(files.values())}


def test_no_secret_is_shown_logged_or_written_anywhere(
    place: str, tmp_path: Path, upstream: int, request: pytest.FixtureRequest
) -> None:
    """In no response or metric, no line of the log or the audit, no byte of the database, no argument of a process."""
    said: list[bytes] = []
    with managed(tmp_path, place, MORE) as child:
        api = Api(child.admin_port)

        made = documents_of_every_kind(upstream, tmp_path)
        assert secret_keys_of(made) == {key.name for key in keys_of_integrations() if key.secret}
        asked: set[tuple[str, str]] = set()

        def ask(method: str, path: str, *arguments: Any, **more: Any) -> Any:
            found = api.ask(method, path, *arguments, **more)
            said.append(found.body + str(found.headers).encode())
            collection, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
            key = {"callers": "name", "tokens": "name", "sends": "key", "kinds": "kind"}.get(collection, "id")
            name, _, action = rest.partition("/")
            known = (
                rest if collection in ("drafts", "session") else "/".join(filter(None, (name and f"{{{key}}}", action)))
            )
            asked.add((method.lower(), "/".join(filter(None, ("/api/v1", collection, known)))))
            return found

        secrets = {secret for document in made.values() for secret in secrets_in(document)}
        for name, document in made.items():
            assert ask("POST", "/integrations", {"id": name, **document}).status == 201, said[-1]
            wrong = json.loads(json.dumps(document).replace(BEGIN, "no PEM: "))
            ask("PUT", f"/integrations/{name}", {**wrong, "nothing-we-know": "canary-of-basic"}, match='"1"')
            ask("PATCH", f"/integrations/{name}", {"endpoint_prefix": "https://evil.example.com"}, match='"1"')
            ask("PATCH", f"/integrations/{name}", {"description": "edited"}, match='"1"')
            ask("POST", f"/integrations/{name}/explain", {"url": "/x"})
            ask("POST", f"/integrations/{name}/test")
            ask("POST", "/drafts/integration/test", document)
            ask("POST", "/drafts/integration/preview", {"id": "a-draft", **document})
            shown = ask("GET", f"/integrations/{name}").json
            ask("POST", "/drafts/integration/preview", {**shown, "endpoint_prefix": "https://evil.example.com"})
            ask("PUT", f"/integrations/{name}", {**shown, "tags": ["edited"]}, match="*")
            ask("GET", f"/integrations/{name}", headers={"Accept": "application/yaml"})
            ask("GET", f"/integrations/{name}/activity")
            ask("GET", f"/integrations/{name}/usage")
            ask("GET", f"/integrations/{name}/failures")
        preset = {"integration": "basic", "url": f"http://127.0.0.1:{upstream}/v1/x", "content_type": "text/plain"}
        for each in ({"id": "hook", **preset}, {"id": "wrong", **preset, "headers": {"Authorization": USER}}):
            ask("POST", "/presets", each)
            ask("POST", "/drafts/preset/preview", each)
            ask("POST", "/drafts/preset/test", each)
        for method in ("GET", "PUT", "PATCH"):
            ask(method, "/presets/hook", None if method == "GET" else preset, match="*")
        ask("POST", "/presets/hook/preview", {"parameters": {}})
        ask("GET", "/presets/hook/usage")
        ask("GET", "/kinds/basic/template")
        assert ask("GET", f"/export?id={','.join(made)}").status == 200
        batch = "b" * 32
        part = {"payload": SENT, "batch": {"id": batch, "rows": 1}}
        sent = ask("POST", "/presets/hook/sends", part, headers={"Idempotency-Key": f"{batch}-1"})
        assert sent.json["outcome"] == "accepted"
        ask("POST", "/presets/hook/check", {"rows": [{"x": SENT}]})
        caller = api.make("/callers", {"name": "billing", "integrations": "*"})["token"]
        operator = api.make("/tokens", {"name": "ann", "role": "admin", "own_token": api.token})["token"]
        # These responses have the new tokens, and nothing else may.
        own = {"own_token": api.token}
        caller = api.ask("POST", "/callers/billing/rotate", own, match="*").json["token"]
        operator = api.ask("POST", "/tokens/ann/rotate", own, match="*").json["token"]
        asked |= {("post", f"/api/v1/{collection}/{{name}}/rotate") for collection in ("callers", "tokens")}
        ask("PATCH", "/tokens/ann", {"per_minute": 1, **own}, match="*")
        # The response has the cookie, and nothing else may.
        console = {"Authorization": "", "Sidekey-Console": "1", "Sec-Fetch-Site": "same-origin"}
        begun = api.ask("POST", "/session", {"token": operator}, headers=console)
        asked.add(("post", "/api/v1/session"))
        said.append(begun.body)
        session = {**console, "Cookie": begun.headers["Set-Cookie"].partition(";")[0]}
        cookie = session["Cookie"].partition("=")[2].partition(".")[0]
        assert ask("GET", "/session", headers=session).json["who"]["name"] == "ann"
        ask("GET", "/sessions")
        ask("DELETE", "/sessions/unknown")
        assert ask("DELETE", "/session", headers=session).status == 204
        ask("POST", "/session/oidc/start", {"again": False}, headers=console)
        ask("POST", "/session/oidc", {"code": SENT, "state": SENT}, headers=console)
        for name in made:
            answer = get(child.proxy_port, f"/i/{name}/x", {"Sidekey-Token": caller})
            # The upstream of these tests repeats what it was sent.
            said.append(b"" if answer.status == 200 else answer.body.encode())
        lists = ("/integrations", "/presets", "/audit", "/callers", "/tokens", "/sends", "/forms")
        sends = (f"/sends/{batch}-1", f"/batches/{batch}", "/forms/hook")
        for path in (
            *lists,
            *sends,
            "/kinds",
            "/providers",
            "/whoami",
            "/openapi.json",
            "/callers/billing",
            "/tokens/ann",
        ):
            assert ask("GET", path).status == 200
        said.append(get(child.admin_port, "/metrics").body.encode())
        # `env` reads the same snapshot wherever the store is, and prints the same for all of a kind: one place is asked
        # for one of each.
        of_each_kind = {document["auth"]["type"]: name for name, document in made.items()}.values()
        named = of_each_kind if place.startswith("path") else ["basic"]
        for command in (
            ["store", "verify"],
            ["export"],
            ["list", "--json"],
            ["token", "list"],
            *(["env", name] for name in named),
        ):
            said.append(command_of(*command, "--config", str(child.config)))
        arguments = Path(f"/proc/{child.process.pid}/cmdline").read_bytes()
        for method in ("PUT", "PATCH", "DELETE"):
            ask(method, "/callers/billing", None if method == "DELETE" else {"integrations": "*"}, match="*")
        for path in ("/callers", "/tokens"):
            ask("POST", path, {"name": "No name", "token": caller})
        ask("DELETE", "/tokens/ann", match="*")
        ask("DELETE", "/presets/hook", match="*")
        ask("DELETE", "/integrations/urls", match="*")
        paths = ask("GET", "/openapi.json").json["paths"]
        assert asked == {(method, path) for path, methods in paths.items() for method in methods}
        stored = dumped(place, tmp_path, request)
        assert child.stop() == 0
    haystacks = {
        "a response": b"".join(said),
        "the log": "\n".join(child.lines).encode(),
        "the arguments": arguments,
        **stored,
    }
    # What is no secret is there, or this would say nothing.
    assert all(b"127.0.0.1" in data for where, data in haystacks.items() if where in ("a response", "the dump"))
    sent = json.dumps(made).encode()
    assert all(any(form in sent for form in looked_for(secret)) for secret in secrets)
    wanted = {form for secret in secrets for form in looked_for(secret)}
    # A send is kept without its content.
    wanted |= forms(SENT.encode())
    wanted |= {form for token in (caller, operator, cookie, *TOKENS.values()) for form in forms(token.encode())}
    key = (tmp_path / "key").read_bytes()
    wanted |= {b64encode(f"{USER}:canary-of-basic".encode()), key, b64decode(key)}
    for where, data in haystacks.items():
        for form in wanted:
            found = data.find(form)
            assert found < 0, (where, form, data[max(0, found - 100) : found + 100])


def secret_keys_of(documents: Mapping[str, Any]) -> set[str]:
    """Name the keys of secrets that documents have, as `keys_of_integrations` does."""
    found: set[str] = set()
    for document in documents.values():
        for section, raw in document.items():
            if isinstance(raw, dict):
                found |= {*_secret_keys(raw, document["auth"]["type"] if section == "auth" else section)}
    return found


def _secret_keys(raw: Mapping[str, Any], above: str) -> Iterator[str]:
    for key, value in raw.items():
        if key in SECRETS and isinstance(value, dict | list):
            yield f"{above}.{key}"
        elif isinstance(value, dict) and key not in ("headers", "query", "body", "claims"):
            yield from _secret_keys(value, f"{above}.{key}")


def command_of(*arguments: str) -> bytes:
    """All that a command writes."""
    done = run_cli(*arguments)
    return (done.stdout + done.stderr).encode()
