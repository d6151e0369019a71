"""A whole process with a secret of every kind: it is nowhere but sealed, and on its way to its upstream."""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from sidekey.credentials.registry import KINDS
from support.api import TOKENS, Api, basic, managed
from support.ask import get
from support.child import run_cli
from support.client_files import ClientAuthority
from support.nginx import Nginx
from support.oauth import signer
from support.postgres import Postgres

MORE: Final = "log: {level: debug, access: all, path: true, audit: uses}\nintegrations: {}"
BEGIN: Final = "-----BEGIN "
PASSPHRASE: Final = "canary-passphrase"
USER: Final = "canary-of-a-user-name"


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


def documents(port: int, folder: Path) -> dict[str, dict[str, Any]]:
    """One of each kind, and of each way to have a secret; every one of them holds a canary, or a private key."""
    base = f"http://127.0.0.1:{port}/v1"
    prefix = {"endpoint_prefix": base}

    def basic_of(password: str) -> dict[str, Any]:
        found = basic(port, password)
        found["auth"]["username"] = {"value": USER}
        return found

    authority = ClientAuthority(folder)
    plain, joined = authority.issue("client.example"), authority.issue("joined.example")
    signing = authority.issue("signing.example").key_pem.decode()
    pair = {
        "certificate": {"inline": plain.pem.decode()},
        "private_key": {"value": plain.key_pem.decode()},
        "allow_private_ca": True,
    }
    pem = {
        "pem": {"value": (joined.pem + joined.key_as(passphrase=PASSPHRASE)).decode()},
        "key_passphrase": {"value": PASSPHRASE},
        "allow_private_ca": True,
    }
    urls = {key: {"url": f"https://127.0.0.1:{port}/canary-url-{key}"} for key in ("certificate", "private_key")}
    oauth2 = {"type": "oauth2", "token_endpoint": f"https://127.0.0.1:{port}/token", "client_id": "id"}
    key = {"prefix": "Key ", "secret": {"value": "canary-of-a-call"}}
    body = {"token_request": {"body": {"key": {"value": "canary-of-a-body"}}, "headers": {"X-Key": key}}}
    assertion = {"private_key": {"value": signing}}
    login = {
        "type": "responsys",
        "login_endpoint": f"https://127.0.0.1:{port}",
        "username": {"value": "canary-api-user"},
    }
    header = {"Authorization": {"prefix": "Bearer ", "secret": {"value": "canary-of-a-header"}}}
    new, old = {"value": "canary-of-a-signature"}, {"value": "canary-of-an-old-signature"}
    aside = {"value": "canary-of-a-signature-beside"}
    message = {"type": "signature", "scheme": "rfc9421", "algorithm": "rsa-pss-sha512"}
    refresh = {"grant": {"type": "refresh_token", "refresh_token": {"value": "canary-to-refresh"}}}
    claims = {"iss": "svc", "deep": [{"key": {"value": "canary-of-a-claim"}}]}
    secret = {"secret": {"value": "canary-of-a-signature-of-32-bytes"}, "claims": claims}
    session = {
        "type": "session",
        "login": {
            "url": f"https://127.0.0.1:{port}/login",
            "headers": {"X-Key": {"secret": {"value": "canary-of-a-login"}}},
            "query": {"key": {"value": "canary-of-its-query"}},
            "body": {"user": {"name": "svc", "key": {"value": "canary-of-its-body"}}},
            "auth": {
                "type": "basic",
                "username": {"value": "canary-who-logs-in"},
                "password": {"value": "canary-of-its-user"},
            },
        },
        "token": {"from": "t"},
    }
    user = {"username": {"value": "canary-user-name"}, "password": {"value": "canary-of-a-user"}}
    owner = {"grant": {"type": "password", **user}}
    aws = {"type": "aws_sigv4", "region": "eu-west-1", "service": "s3", "access_key_id": "AKIAEXAMPLE"}
    keys = {"secret_access_key": {"value": "canary-of-aws"}, "session_token": {"value": "canary-of-a-session"}}
    added = {
        "headers": {"X-Key": {"prefix": "Key ", "secret": {"value": "canary-added-as-a-header"}}},
        "query": {"key": {"secret": {"value": "canary-added-to-the-query"}}},
    }
    field = {"body": {"key": {"secret": {"value": "canary-added-to-a-body"}}}}
    return {
        "aws": {**prefix, "auth": {**aws, **keys}},
        "basic": basic_of("canary-of-basic"),
        "headers": {**prefix, "auth": {"type": "headers", "headers": header}},
        "mtls": {**prefix, "auth": {"type": "mtls", **pair}},
        "pem": {**prefix, "auth": {"type": "mtls", **pem}},
        "urls": {**prefix, "auth": {"type": "mtls", **urls}},
        "oauth2": {"auth": {**oauth2, "client_secret": {"value": "canary-of-oauth2"}, **body}},
        "refresh": {"auth": {**oauth2, "client_secret": {"value": "canary-of-a-client"}, **refresh}},
        "password": {"auth": {**oauth2, **owner}},
        "assertion": {"auth": {**oauth2, "grant": {"type": "jwt_bearer", **assertion, "algorithm": "ES256"}}},
        "jwt": {**prefix, "auth": {"type": "jwt", "algorithm": "HS256", **secret}},
        "signed": {**prefix, "auth": {"type": "jwt", "algorithm": "ES256", **assertion}},
        "by_secret": {
            "auth": {
                **oauth2,
                "client_authentication": "client_secret_jwt",
                "client_secret": {"value": "canary-of-a-client-that-signs-by-it"},
            }
        },
        "responsys": {"auth": {**login, "password": {"value": "canary-of-responsys"}}},
        "session": {"auth": session},
        "signature": {**prefix, "auth": {"type": "signature", "scheme": "stripe", "secret": [new, old]}},
        "message": {**prefix, "auth": {**message, "key": {"value": signer().private_pem.decode()}}},
        "signed_beside": {**basic_of("canary-that-is-signed"), "signature": {"scheme": "github", "secret": aside}},
        "beside": {**basic_of("canary-beside-it"), "client_certificate": pair},
        "query": {**prefix, "auth": {"type": "headers", "query": {"key": {"secret": {"value": "canary-of-a-query"}}}}},
        "added": {**basic_of("canary-below-it"), "add": added},
        "field": {**basic_of("canary-beside-a-field"), "add": field},
    }


def secrets_in(document: Any) -> Iterator[str]:
    """The values of a document that are sealed."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("value", "url") and len(document) == 1 and isinstance(value, str):
                yield value
            else:
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

        def ask(*arguments: Any, **more: Any) -> Any:
            found = api.ask(*arguments, **more)
            said.append(found.body + str(found.headers).encode())
            return found

        made = documents(upstream, tmp_path)
        assert {document["auth"]["type"] for document in made.values()} == KINDS.keys()
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
        caller = api.make("/callers", {"name": "billing", "integrations": "*"})["token"]
        operator = api.make("/tokens", {"name": "ann", "role": "admin", "own_token": api.token})["token"]
        for name in made:
            answer = get(child.proxy_port, f"/i/{name}/x", {"Sidekey-Token": caller})
            # The upstream of these tests repeats what it was sent.
            said.append(b"" if answer.status == 200 else answer.body.encode())
        for path in ("/integrations", "/audit", "/callers", "/tokens", *(f"/integrations/{name}" for name in made)):
            assert ask("GET", path).status == 200
        said.append(get(child.admin_port, "/metrics").body.encode())
        # `env` reads the same snapshot wherever the store is, and prints the same for all of a kind: one place is asked
        # for one of each.
        of_each_kind = {document["auth"]["type"]: name for name, document in made.items()}.values()
        named = of_each_kind if place.startswith("path") else ["basic"]
        for command in (["store", "verify"], ["list", "--json"], ["token", "list"], *(["env", name] for name in named)):
            said.append(command_of(*command, "--config", str(child.config)))
        arguments = Path(f"/proc/{child.process.pid}/cmdline").read_bytes()
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
    wanted |= {form for token in (caller, operator, *TOKENS.values()) for form in forms(token.encode())}
    key = (tmp_path / "key").read_bytes()
    wanted |= {b64encode(f"{USER}:canary-of-basic".encode()), key, b64decode(key)}
    for where, data in haystacks.items():
        for form in wanted:
            found = data.find(form)
            assert found < 0, (where, form, data[max(0, found - 100) : found + 100])


def command_of(*arguments: str) -> bytes:
    """All that a command writes."""
    done = run_cli(*arguments)
    return (done.stdout + done.stderr).encode()
