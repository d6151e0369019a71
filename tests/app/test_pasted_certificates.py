"""A PEM with certificate and private key in a certificate field: Sidekey splits it and seals the key."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.api import Api, managed
from support.certificate_files import client_certificate_of, require_client_certificate, valid_now
from support.certificates import IssuedCertificate, issue
from support.http_get import get
from support.private_ca import Authority
from support.sidekey_process import SidekeyProcess, run_process
from support.upstream import RawUpstream, always_ok

CALLERS = 'callers: {all: {token: {insecure_value: of-a-caller}, integrations: "*"}}\nintegrations: {}'
CALLER = {"Sidekey-Token": "of-a-caller"}
START = datetime.now(UTC) - timedelta(days=1)
ROOT = issue("root.example", start=START, authority=True)
MIDDLE = issue("middle.example", ROOT, start=START, authority=True)
LEAF = issue("leaf.example", MIDDLE, start=START)
OTHER = valid_now("other.example")


def join_pem(*parts: bytes) -> str:
    return b"Bag Attributes\n".join(parts).decode()


ORDERS = {
    "certificate-first": join_pem(LEAF.pem, MIDDLE.pem, LEAF.key_pem),
    "key-first": join_pem(LEAF.key_pem, LEAF.pem, MIDDLE.pem),
    "key-between-chain-reversed": join_pem(MIDDLE.pem, LEAF.key_pem, LEAF.pem),
}


def mtls(port: int, **auth: Any) -> dict[str, Any]:
    return {
        "id": "bank",
        "endpoint_prefix": f"https://127.0.0.1:{port}",
        "auth": {"type": "mtls", "allow_private_ca": True, **auth},
    }


def verifying(ca: Authority, host: str) -> ssl.SSLContext:
    """Build a server context that requires a certificate of the root. These certificates have no key identifiers."""
    context = require_client_certificate(ca.server_context(host), ROOT)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def key_lines(issued: IssuedCertificate) -> list[str]:
    """Return lines of a private key that occur in no certificate."""
    return issued.key_pem.decode().splitlines()[1:3]


def has_key(text: str, *issued: IssuedCertificate) -> bool:
    return "PRIVATE KEY" in text or any(line in text for certificate in issued for line in key_lines(certificate))


async def test_pasted_key_is_sealed_and_the_certificate_shown(ca: Authority, tmp_path: Path) -> None:
    """The PEM blocks may have any order. No output contains the key."""
    context = verifying(ca, "127.0.0.1")
    outputs: list[Any] = []
    async with RawUpstream(always_ok, ssl_context=context) as upstream:
        with managed(tmp_path, more=CALLERS) as child:
            api = Api(child.admin_port)

            def make_and_use(name: str, pasted: str) -> None:
                certificate = {"inline": pasted}
                document = {**mtls(upstream.port, certificate=certificate), "id": name}
                document["trusted_ca"] = {"inline": ca.bundle.read_text()}
                preview = api.request("POST", "/drafts/integration/preview", document).json
                assert preview["valid"] is True
                assert preview["certificate"]["subject"] == "CN=leaf.example"
                created, stored = api.create("/integrations", document), api.get(f"/integrations/{name}")
                assert stored["auth"]["certificate"]["inline"].count("BEGIN CERTIFICATE") == 2
                assert stored["auth"]["private_key"].keys() == {"set", "id", "set_at", "set_by"}
                assert get(child.proxy_port, f"/i/{name}/x", CALLER).status == 200
                outputs.extend((preview, created, stored, api.get("/audit")))

            for name, pasted in ORDERS.items():
                await asyncio.to_thread(make_and_use, name, pasted)
            exported = await asyncio.to_thread(run_process, "export", "--config", str(child.config))
            assert await asyncio.to_thread(child.stop) == 0
        assert {client_certificate_of(connection) for connection in upstream.connections} == {LEAF.der}
    database = b"".join(file.read_bytes() for file in tmp_path.glob("store.db*")).decode("latin-1")
    assert "CERTIFICATE" in database
    for text in (json.dumps(outputs), exported.stdout, database, "\n".join(child.lines)):
        assert not has_key(text, LEAF)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    with managed(tmp_path_factory.mktemp("pasted"), more=CALLERS) as process:
        yield process


def test_pasted_pair_replaces_the_stored_one(shared: SidekeyProcess) -> None:
    """A document with a second key is refused."""
    api = Api(shared.admin_port)
    pair = {"certificate": {"inline": OTHER.pem.decode()}, "private_key": {"value": OTHER.key_pem.decode()}}
    api.create("/integrations", mtls(1, **pair))
    pasted = {"certificate": {"inline": ORDERS["key-first"]}}
    response = api.request("PATCH", "/integrations/bank", {"auth": pasted}, match='"1"')
    assert (response.status, LEAF.pem.decode() in response.json["auth"]["certificate"]["inline"]) == (200, True)
    wrong = {**pasted, "private_key": {"value": OTHER.key_pem.decode()}}
    response = api.request("PATCH", "/integrations/bank", {"auth": wrong}, match='"2"')
    assert (response.status, response.pointers) == (422, {"/auth/certificate"})
    assert "must not contain a private key" in response.body.decode()
    assert not has_key(response.body.decode().replace("PRIVATE KEY", ""), LEAF, OTHER)


def test_pasted_pem_beside_other_credentials_is_split(shared: SidekeyProcess) -> None:
    """CAs with a key are refused."""
    api = Api(shared.admin_port)
    beside = mtls(1)
    beside["auth"] = {"type": "headers", "headers": {"X-A": "b"}}
    pair = {"certificate": {"inline": ORDERS["key-first"]}, "allow_private_ca": True}
    created = api.create("/integrations", {**beside, "id": "beside", "client_certificate": pair})
    assert created["client_certificate"]["private_key"]["set"] is True
    assertion = {"type": "private_key_jwt", "algorithm": "ES256", "certificate": join_pem(OTHER.pem, OTHER.key_pem)}
    oauth2 = {
        "type": "oauth2",
        "token_endpoint": "https://a.test/token",
        "client_id": "id",
        "client_authentication": assertion,
    }
    created = api.create("/integrations", {"id": "signed", "auth": oauth2})
    assert created["auth"]["client_authentication"]["private_key"]["set"] is True
    trusted = {"id": "trusting", **beside, "trusted_ca": {"inline": join_pem(OTHER.pem, OTHER.key_pem)}}
    response = api.request("POST", "/integrations", {**trusted, "id": "trusting"})
    assert (response.status, response.pointers) == (422, {"/trusted_ca"})


MISSPELLED = {
    "space": LEAF.key_pem.decode().replace("PRIVATE KEY", "PRIVATE KEY "),
    "two spaces": LEAF.key_pem.decode().replace("PRIVATE KEY", "PRIVATE  KEY"),
    "four hyphens": LEAF.key_pem.decode().replace("-----", "----"),
    "lower case": LEAF.key_pem.decode().replace("PRIVATE KEY", "private key"),
    "no end": LEAF.key_pem.decode()[:-10],
}


@pytest.mark.parametrize("label", MISSPELLED)
def test_pasted_key_with_a_misspelled_label_is_refused(label: str, shared: SidekeyProcess) -> None:
    """The check covers every public certificate field."""
    pasted = LEAF.pem.decode() + MISSPELLED[label]
    oauth2 = {
        "type": "oauth2",
        "token_endpoint": "https://a.test/token",
        "client_id": "id",
        "client_authentication": {
            "type": "private_key_jwt",
            "algorithm": "ES256",
            "certificate": pasted,
            "private_key": {"value": LEAF.key_pem.decode()},
        },
    }
    key = {"private_key": {"value": LEAF.key_pem.decode()}}
    api = Api(shared.admin_port)
    for document, pointer in (
        (mtls(1, certificate={"inline": pasted}, **key), "/auth/certificate"),
        (
            {**mtls(1, certificate={"inline": LEAF.pem.decode()}, **key), "trusted_ca": {"inline": pasted}},
            "/trusted_ca",
        ),
        ({"auth": oauth2}, "/auth/client_authentication/certificate"),
    ):
        response = api.request("POST", "/integrations", {**document, "id": "refused"})
        assert (response.status, response.pointers) == (422, {pointer})
        assert "must not contain a private key" in response.body.decode()
        assert not any(line in response.body.decode() for line in key_lines(LEAF))


def test_only_the_blocks_of_a_pasted_certificate_are_stored(shared: SidekeyProcess) -> None:
    """A key without its first line has no label by which it could be refused."""
    headless = LEAF.key_pem.decode().split("\n", 1)[1].rpartition("-----END")[0]
    pair = {"certificate": {"inline": headless + LEAF.pem.decode()}, "private_key": {"value": LEAF.key_pem.decode()}}
    created = Api(shared.admin_port).create("/integrations", {**mtls(1, **pair), "id": "headless"})
    assert created["auth"]["certificate"]["inline"] == LEAF.pem.decode()
    database = b"".join(file.read_bytes() for file in shared.config.parent.glob("store.db*")).decode("latin-1")
    assert "CERTIFICATE" in database
    assert not has_key(database, LEAF)
