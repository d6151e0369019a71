"""Fetching certificates from a real https server: the content for the loader, and the reason for each failure."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidekey.certificates.fetch import MAX_BODY_SIZE, UrlFetch
from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.policy.targets import Policy
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, NetworkRules, Trust
from support.dialling import HOSTS, LOOPBACK
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.upstream import RawUpstream, Script, answering

CERTIFICATE: Keys = ("auth", "certificate")
KEY: Keys = ("auth", "private_key")


def answer(body: bytes = b"pem", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"".join(b"%b\r\n" % field for field in fields)
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, head, len(body), body)


Make = Callable[..., UrlFetch]


@pytest.fixture
def tls(ca: Authority) -> ssl.SSLContext:
    return ca.server_context("up.test")


@pytest.fixture
def integration(ca: Authority) -> Integration:
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    trust = ca.trust
    return Integration(
        "bank", "mtls", Policy(), None, secrets, CredentialTraits(InjectionPoints()), trust, allow_private=LOOPBACK
    )


def loader_at(port: int, *places: Keys) -> CertificateLoader:
    urls = tuple((place, f"https://up.test:{port}/{place[-1]}?k=v") for place in places)
    return CertificateLoader(lambda fetched, now: CertificateResult(None), urls=urls, refresh_every=3600)


def fetching(integration: Integration, loader: CertificateLoader) -> UrlFetch:
    """Build a fetch whose global rules allow no private address."""
    return UrlFetch(integration, loader, Fetcher(Dialer(NetworkRules(hosts=HOSTS)), 16), asyncio.Semaphore(2))


async def failure(made: UrlFetch) -> dict[Keys, str]:
    with pytest.raises(SecretUnreadable) as failed:
        await made.fetch()
    return dict(failed.value.reasons)


async def test_every_url_is_fetched_for_the_loader(integration: Integration, tls: ssl.SSLContext) -> None:
    """With GET and the URL's query, and under the integration's trust and private addresses."""

    async def script(connection: RawConnection) -> None:
        request = await connection.request()
        await connection.send(answer(request.target))

    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE, KEY)
        assert await fetching(integration, loader).fetch()
        assert loader.fetched == {CERTIFICATE: b"/certificate?k=v", KEY: b"/private_key?k=v"}
        assert [request.method for request in upstream.requests] == [b"GET", b"GET"]
    assert not loader.pending


async def test_etag_is_sent_and_304_keeps_the_content(integration: Integration, tls: ssl.SSLContext) -> None:
    """RFC 9110 13.1.2."""
    answers = iter([answer(b"one", b'ETag: "1"'), answer(b"", status=b"304 Not Modified"), answer(b"two")])

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(next(answers, answer(b"two")))

    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE)
        made = fetching(integration, loader)
        changes = [await made.fetch() for _ in range(4)]
        tags = [request.values(b"if-none-match") for request in upstream.requests]
    assert changes == [True, False, True, False]
    assert loader.fetched == {CERTIFICATE: b"two"}
    assert tags == [[], [b'"1"'], [b'"1"'], []]


async def test_failed_url_does_not_affect_the_other(integration: Integration, tls: ssl.SSLContext) -> None:
    """Its reason names its key, and its previous body stays."""

    async def script(connection: RawConnection) -> None:
        request = await connection.request()
        certificate = request.target.startswith(b"/certificate")
        await connection.send(answer(b"new") if certificate else answer(status=b"503 no"))

    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE, KEY)
        loader.receive({KEY: b"old"})
        assert await failure(fetching(integration, loader)) == {KEY: "the server returned 503"}
    assert loader.fetched == {CERTIFICATE: b"new", KEY: b"old"}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answering(answer(b"", b"Location: https://up.test/x", status=b"302 x")), "302: redirects are not followed"),
        (answering(answer(status=b"404 secret words")), "the server returned 404"),
        (answering(answer(b"", status=b"304 Not Modified")), "the server returned 304: redirects are not followed"),
        (answering(answer(bytes(MAX_BODY_SIZE + 1))), "the server returned more than 256 KiB"),
        (answering(b"nonsense\r\n\r\n"), "the server did not return a valid HTTP/1.1 response"),
    ],
    ids=["redirect", "not found", "304 unasked", "too large", "no HTTP"],
)
async def test_unusable_response_is_a_failure(
    integration: Integration, tls: ssl.SSLContext, script: Script, reason: str
) -> None:
    """The reason does not contain the URL, which may hold a secret."""
    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE)
        found = await failure(fetching(integration, loader))
        assert len(upstream.connections) == 1
    assert found[CERTIFICATE].endswith(reason)
    assert loader.fetched == {}


async def test_server_certificate_and_address_are_checked(integration: Integration, tls: ssl.SSLContext) -> None:
    """Under the integration's trust and private addresses only."""
    async with RawUpstream(ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE)
        assert await failure(fetching(replace(integration, trust=Trust()), loader)) == {
            CERTIFICATE: "the server: its certificate is refused: its issuer is not trusted"
        }
        assert await failure(fetching(replace(integration, allow_private=()), loader)) == {
            CERTIFICATE: "the server: its host has only addresses that may not be dialled (loopback)"
        }
        assert upstream.requests == []
