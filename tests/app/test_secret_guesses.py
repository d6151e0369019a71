"""An editor who does not know a stored secret can neither verify a guess nor move the secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api import TOKENS, Api, managed
from support.certificates import IssuedCertificate, issue
from support.sidekey_process import SidekeyProcess

START = datetime.now(UTC) - timedelta(days=1)
ROOT = issue("root.example", start=START, authority=True)
LEAF = issue("one.example", ROOT, start=START)
OTHER = issue("other.example", ROOT, start=START)


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    with managed(tmp_path_factory.mktemp("guesses")) as process:
        yield process


def separate(issued: IssuedCertificate, passphrase: str) -> dict[str, Any]:
    key = issued.key_as(passphrase=passphrase).decode()
    return {"certificate": {"inline": issued.pem.decode()}, "private_key": {"value": key}}


def combined(issued: IssuedCertificate, passphrase: str) -> dict[str, Any]:
    return {"pem": {"value": (issued.pem + issued.key_as(passphrase=passphrase)).decode()}}


@pytest.mark.parametrize(("passphrase", "key"), [(separate, "private_key"), (combined, "pem")])
@pytest.mark.parametrize("guess", ["right", "wrong"])
def test_passphrase_and_key_are_entered_together(child: SidekeyProcess, passphrase: Any, key: str, guess: str) -> None:
    """Otherwise the status would reveal whether a guessed passphrase decrypts the stored key."""
    api, path = Api(child.admin_port, TOKENS["editor"]), f"/integrations/{key.replace('_', '-')}-{guess}"
    auth = {"type": "mtls", "allow_private_ca": True, **passphrase(LEAF, "right"), "key_passphrase": {"value": "right"}}
    document = {"id": path.rpartition("/")[2], "endpoint_prefix": "https://api.example.com", "auth": auth}
    api.create("/integrations", document)
    document = api.get(path)
    for patch, pointer, reason in (
        (passphrase(OTHER, guess), "/auth/key_passphrase", f"{key} beside it has changed"),
        ({"key_passphrase": {"value": guess}}, f"/auth/{key}", "key_passphrase beside it has changed"),
        ({"key_passphrase": None}, f"/auth/{key}", "key_passphrase beside it has changed"),
    ):
        response = api.request("PATCH", path, {"auth": patch}, match='"1"')
        expected = [{"pointer": pointer, "detail": f"must be sent again, since {reason}"}]
        assert (response.status, response.code, response.json["errors"]) == (422, "reenter", expected)
    assert api.get(path) == document
    both = {**passphrase(OTHER, "new"), "key_passphrase": {"value": "new"}}
    assert api.request("PATCH", path, {"auth": both}, match='"1"').json["status"] == "ok"
    assert api.request("PATCH", path, {"description": "x"}, match='"2"').json["status"] == "ok"


def test_cookie_keeps_its_name(child: SidekeyProcess) -> None:
    """A server may echo a cookie of another name to anyone."""
    api, path = Api(child.admin_port, TOKENS["editor"]), "/integrations/cookie"
    cookie = {"Cookie": {"prefix": "session=", "secret": {"value": "canary-of-a-cookie"}}}
    auth = {"type": "headers", "headers": {**cookie, "X-Key": {"prefix": "Key ", "secret": {"value": "other"}}}}
    api.create("/integrations", {"id": "cookie", "endpoint_prefix": "https://api.example.com", "auth": auth})
    for prefix in ("language=", "", None):
        response = api.request("PATCH", path, {"auth": {"headers": {"Cookie": {"prefix": prefix}}}}, match="*")
        pointers = {f"/auth/headers/{name}/secret" for name in ("Cookie", "X-Key")}
        assert (response.status, response.code, response.pointers) == (422, "reenter", pointers)
    assert api.request("PATCH", path, {"auth": {"headers": {"X-Key": {"prefix": ""}}}}, match="*").status == 200
