"""A process with a secret of every kind: no output contains a secret."""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from support.api import TOKENS, Api, managed
from support.canaries import forms
from support.every_kind import USER, documents_of_every_kind
from support.http_get import get
from support.model_keys import SECRETS, keys_of_integrations
from support.postgres import Postgres
from support.sidekey_process import run_cli

SENT: Final = "a-canary-of-what-people-send"
MORE: Final = "log: {level: debug, access: all, path: true, audit: uses}\nintegrations: {}"
BEGIN: Final = "-----BEGIN "


def secrets_in(document: Any) -> Iterator[str]:
    """Return the secret values of a document."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("value", "url") and len(document) == 1 and isinstance(value, str):
                yield value
            else:
                yield from secrets_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from secrets_in(value)


def patterns(secret: str) -> set[bytes]:
    """Return the forms of a secret that must not appear. For a private key these are the first lines of its PEM."""
    if BEGIN not in secret:
        return forms(secret.encode())
    key = secret[secret.index(BEGIN, secret.find("CERTIFICATE-----\n") + 1) :] if "CERTIFICATE" in secret else secret
    # The last lines of a key are the public half, which the certificate contains too.
    lines = [line.encode() for line in key.splitlines() if "-----" not in line]
    return {*lines[:2], b64decode(lines[0]), lines[0].hex().encode()}


def dump(store_settings: str, folder: Path, request: pytest.FixtureRequest) -> dict[str, bytes]:
    """Return the content of a database: its files, and its dump on PostgreSQL."""
    if store_settings.startswith("path"):
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
    store_settings: str, tmp_path: Path, echo_port: int, request: pytest.FixtureRequest
) -> None:
    """The test checks responses, metrics, log, audit, database and process arguments."""
    outputs: list[bytes] = []
    with managed(tmp_path, store_settings, MORE) as child:
        api = Api(child.admin_port)

        documents = documents_of_every_kind(echo_port, tmp_path)
        assert secret_keys_of(documents) == {key.name for key in keys_of_integrations() if key.secret}
        requested: set[tuple[str, str]] = set()

        def send(method: str, path: str, *arguments: Any, **more: Any) -> Any:
            response = api.request(method, path, *arguments, **more)
            outputs.append(response.body + str(response.headers).encode())
            collection, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
            key = {"callers": "name", "tokens": "name", "sends": "key", "kinds": "kind"}.get(collection, "id")
            name, _, action = rest.partition("/")
            known = (
                rest if collection in ("drafts", "session") else "/".join(filter(None, (name and f"{{{key}}}", action)))
            )
            requested.add((method.lower(), "/".join(filter(None, ("/api/v1", collection, known)))))
            return response

        secrets = {secret for document in documents.values() for secret in secrets_in(document)}
        for name, document in documents.items():
            assert send("POST", "/integrations", {"id": name, **document}).status == 201, outputs[-1]
            wrong = json.loads(json.dumps(document).replace(BEGIN, "no PEM: "))
            send("PUT", f"/integrations/{name}", {**wrong, "nothing-we-know": "canary-of-basic"}, match='"1"')
            send("PATCH", f"/integrations/{name}", {"endpoint_prefix": "https://evil.example.com"}, match='"1"')
            send("PATCH", f"/integrations/{name}", {"description": "edited"}, match='"1"')
            send("POST", f"/integrations/{name}/explain", {"url": "/x"})
            send("POST", f"/integrations/{name}/test")
            send("POST", "/drafts/integration/test", document)
            send("POST", "/drafts/integration/preview", {"id": "a-draft", **document})
            public_document = send("GET", f"/integrations/{name}").json
            send(
                "POST",
                "/drafts/integration/preview",
                {**public_document, "endpoint_prefix": "https://evil.example.com"},
            )
            send("PUT", f"/integrations/{name}", {**public_document, "tags": ["edited"]}, match="*")
            send("GET", f"/integrations/{name}", headers={"Accept": "application/yaml"})
            send("GET", f"/integrations/{name}/activity")
            send("GET", f"/integrations/{name}/usage")
            send("GET", f"/integrations/{name}/failures")
        preset = {"integration": "basic", "url": f"http://127.0.0.1:{echo_port}/v1/x", "content_type": "text/plain"}
        for draft in ({"id": "hook", **preset}, {"id": "wrong", **preset, "headers": {"Authorization": USER}}):
            send("POST", "/presets", draft)
            send("POST", "/drafts/preset/preview", draft)
            send("POST", "/drafts/preset/test", draft)
        for method in ("GET", "PUT", "PATCH"):
            send(method, "/presets/hook", None if method == "GET" else preset, match="*")
        send("POST", "/presets/hook/preview", {"parameters": {}})
        send("GET", "/presets/hook/usage")
        send("GET", "/kinds/basic/template")
        assert send("GET", f"/export?id={','.join(documents)}").status == 200
        batch = "b" * 32
        part = {"payload": SENT, "batch": {"id": batch, "rows": 1}}
        sent = send("POST", "/presets/hook/sends", part, headers={"Idempotency-Key": f"{batch}-1"})
        assert sent.json["outcome"] == "accepted"
        send("POST", "/presets/hook/check", {"rows": [{"x": SENT}]})
        caller = api.create("/callers", {"name": "billing", "integrations": "*"})["token"]
        operator = api.create("/tokens", {"name": "ann", "role": "admin", "own_token": api.token})["token"]
        # Only these responses may contain the new tokens.
        tokens = {"own_token": api.token}
        caller = api.request("POST", "/callers/billing/rotate", tokens, match="*").json["token"]
        operator = api.request("POST", "/tokens/ann/rotate", tokens, match="*").json["token"]
        requested |= {("post", f"/api/v1/{collection}/{{name}}/rotate") for collection in ("callers", "tokens")}
        send("PATCH", "/tokens/ann", {"per_minute": 1, **tokens}, match="*")
        # Only this response may contain the cookie.
        console = {"Authorization": "", "Sidekey-Console": "1", "Sec-Fetch-Site": "same-origin"}
        log_in = api.request("POST", "/session", {"token": operator}, headers=console)
        requested.add(("post", "/api/v1/session"))
        outputs.append(log_in.body)
        session = {**console, "Cookie": log_in.headers["Set-Cookie"].partition(";")[0]}
        cookie = session["Cookie"].partition("=")[2].partition(".")[0]
        assert send("GET", "/session", headers=session).json["who"]["name"] == "ann"
        send("GET", "/sessions")
        send("DELETE", "/sessions/unknown")
        assert send("DELETE", "/session", headers=session).status == 204
        send("POST", "/session/oidc/start", {"again": False}, headers=console)
        send("POST", "/session/oidc", {"code": SENT, "state": SENT}, headers=console)
        for name in documents:
            reply = get(child.proxy_port, f"/i/{name}/x", {"Sidekey-Token": caller})
            # The upstream echoes the request.
            outputs.append(b"" if reply.status == 200 else reply.body.encode())
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
            assert send("GET", path).status == 200
        outputs.append(get(child.admin_port, "/metrics").body.encode())
        # `env` does not depend on the database, and prints the same for all integrations of a kind.
        of_each_kind = {document["auth"]["type"]: name for name, document in documents.items()}.values()
        named = of_each_kind if store_settings.startswith("path") else ["basic"]
        for command in (
            ["store", "verify"],
            ["export"],
            ["list", "--json"],
            ["token", "list"],
            *(["env", name] for name in named),
        ):
            outputs.append(run_command(*command, "--config", str(child.config)))
        arguments = Path(f"/proc/{child.process.pid}/cmdline").read_bytes()
        for method in ("PUT", "PATCH", "DELETE"):
            send(method, "/callers/billing", None if method == "DELETE" else {"integrations": "*"}, match="*")
        for path in ("/callers", "/tokens"):
            send("POST", path, {"name": "No name", "token": caller})
        send("DELETE", "/tokens/ann", match="*")
        send("DELETE", "/presets/hook", match="*")
        send("DELETE", "/integrations/urls", match="*")
        paths = send("GET", "/openapi.json").json["paths"]
        assert requested == {(method, path) for path, methods in paths.items() for method in methods}
        stored = dump(store_settings, tmp_path, request)
        assert child.stop() == 0
    haystacks = {
        "a response": b"".join(outputs),
        "the log": "\n".join(child.lines).encode(),
        "the arguments": arguments,
        **stored,
    }
    # Public values are present. Otherwise the test would prove nothing.
    assert all(b"127.0.0.1" in data for source, data in haystacks.items() if source in ("a response", "the dump"))
    sent = json.dumps(documents).encode()
    assert all(any(form in sent for form in patterns(secret)) for secret in secrets)
    all_patterns = {form for secret in secrets for form in patterns(secret)}
    # Sidekey stores no content of a send.
    all_patterns |= forms(SENT.encode())
    all_patterns |= {form for token in (caller, operator, cookie, *TOKENS.values()) for form in forms(token.encode())}
    key = (tmp_path / "key").read_bytes()
    all_patterns |= {b64encode(f"{USER}:canary-of-basic".encode()), key, b64decode(key)}
    for source, data in haystacks.items():
        for form in all_patterns:
            position = data.find(form)
            assert position < 0, (source, form, data[max(0, position - 100) : position + 100])


def secret_keys_of(documents: Mapping[str, Any]) -> set[str]:
    """Return the keys of secrets in documents, as `keys_of_integrations` does."""
    keys: set[str] = set()
    for document in documents.values():
        for section, raw in document.items():
            if isinstance(raw, dict):
                keys |= {*_secret_keys(raw, document["auth"]["type"] if section == "auth" else section)}
    return keys


def _secret_keys(raw: Mapping[str, Any], above: str) -> Iterator[str]:
    for key, value in raw.items():
        if key in SECRETS and isinstance(value, dict | list):
            yield f"{above}.{key}"
        elif isinstance(value, dict) and key not in ("headers", "query", "body", "claims"):
            yield from _secret_keys(value, f"{above}.{key}")


def run_command(*arguments: str) -> bytes:
    """Return all output of a command."""
    result = run_cli(*arguments)
    return (result.stdout + result.stderr).encode()
