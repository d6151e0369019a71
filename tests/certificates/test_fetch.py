"""Fetching certificates from an https server: the content for the loader, and errors."""

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
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, NetworkRules
from support.dialling import HOSTS, LOOPBACK
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.upstream import RawUpstream, Script, respond_with

CERTIFICATE: Keys = ("auth", "certificate")
KEY: Keys = ("auth", "private_key")


def response(body: bytes = b"pem", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"".join(b"%b\r\n" % field for field in fields)
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, head, len(body), body)


Make = Callable[..., UrlFetch]


@pytest.fixture
def tls(ca: Authority) -> ssl.SSLContext:
    return ca.server_context("up.test")


@pytest.fixture
def integration(ca: Authority) -> Integration:
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    egress = Egress(ca.trust, LOOPBACK)
    return Integration("bank", "mtls", Policy(), None, secrets, CredentialTraits(InjectionPoints()), egress)


def loader_at(port: int, *keys: Keys) -> CertificateLoader:
    urls = tuple((key, f"https://up.test:{port}/{key[-1]}?k=v") for key in keys)
    return CertificateLoader(lambda fetched, now: CertificateResult(None), urls=urls, refresh_every=3600)


def build_fetch(integration: Integration, loader: CertificateLoader) -> UrlFetch:
    """Build a fetch. Only the integration allows private addresses."""
    return UrlFetch(integration, loader, Fetcher(Dialer(NetworkRules(hosts=HOSTS)), 16), asyncio.Semaphore(2))


async def errors_of(fetch: UrlFetch) -> dict[Keys, str]:
    with pytest.raises(SecretUnreadable) as error:
        await fetch.fetch()
    return dict(error.value.reasons)


async def test_every_url_is_fetched_for_the_loader(integration: Integration, tls: ssl.SSLContext) -> None:
    """The requests are GET and have the query of the URL."""

    async def script(connection: RawConnection) -> None:
        request = await connection.request()
        await connection.send(response(request.target))

    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE, KEY)
        assert await build_fetch(integration, loader).fetch()
        assert loader.fetched == {CERTIFICATE: b"/certificate?k=v", KEY: b"/private_key?k=v"}
        assert [request.method for request in upstream.requests] == [b"GET", b"GET"]
    assert not loader.pending


async def test_etag_is_sent_and_304_keeps_the_content(integration: Integration, tls: ssl.SSLContext) -> None:
    """RFC 9110 13.1.2."""
    responses = iter([response(b"one", b'ETag: "1"'), response(b"", status=b"304 Not Modified"), response(b"two")])

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(next(responses, response(b"two")))

    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE)
        fetch = build_fetch(integration, loader)
        changes = [await fetch.fetch() for _ in range(4)]
        tags = [request.values(b"if-none-match") for request in upstream.requests]
    assert changes == [True, False, True, False]
    assert loader.fetched == {CERTIFICATE: b"two"}
    assert tags == [[], [b'"1"'], [b'"1"'], []]


async def test_failed_url_does_not_affect_the_other(integration: Integration, tls: ssl.SSLContext) -> None:
    """The loader keeps the previous content of the failed URL."""

    async def script(connection: RawConnection) -> None:
        request = await connection.request()
        certificate = request.target.startswith(b"/certificate")
        await connection.send(response(b"new") if certificate else response(status=b"503 no"))

    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE, KEY)
        loader.add_fetched({KEY: b"old"})
        assert await errors_of(build_fetch(integration, loader)) == {KEY: "the server returned 503"}
    assert loader.fetched == {CERTIFICATE: b"new", KEY: b"old"}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            respond_with(response(b"", b"Location: https://up.test/x", status=b"302 x")),
            "302: redirects are not followed",
        ),
        (respond_with(response(status=b"404 secret words")), "the server returned 404"),
        (
            respond_with(response(b"", status=b"304 Not Modified")),
            "the server returned 304: redirects are not followed",
        ),
        (respond_with(response(bytes(MAX_BODY_SIZE + 1))), "the server returned more than 256 KiB"),
        (respond_with(b"nonsense\r\n\r\n"), "the server did not return a valid HTTP/1.1 response"),
    ],
    ids=["redirect", "not found", "304 unasked", "too large", "no HTTP"],
)
async def test_unusable_response_is_a_failure(
    integration: Integration, tls: ssl.SSLContext, script: Script, reason: str
) -> None:
    """The reason does not contain the URL, which may contain a secret."""
    async with RawUpstream(script, ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE)
        errors = await errors_of(build_fetch(integration, loader))
        assert len(upstream.connections) == 1
    assert errors[CERTIFICATE].endswith(reason)
    assert loader.fetched == {}


async def test_server_certificate_and_address_are_checked(integration: Integration, tls: ssl.SSLContext) -> None:
    """Only the trust and the private addresses of the integration apply."""
    async with RawUpstream(ssl_context=tls) as upstream:
        loader = loader_at(upstream.port, CERTIFICATE)
        assert await errors_of(build_fetch(replace(integration, egress=Egress(allow_private=LOOPBACK)), loader)) == {
            CERTIFICATE: "the server: its certificate is refused: its issuer is not trusted"
        }
        assert await errors_of(build_fetch(replace(integration, egress=Egress(integration.egress.trust)), loader)) == {
            CERTIFICATE: "the server: its host has only addresses that may not be dialled (loopback)"
        }
        assert upstream.requests == []
