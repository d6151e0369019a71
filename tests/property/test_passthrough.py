"""Requests that pass without a credential: never to a covered host, and only with the caller's headers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address

from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.errors import Problem
from support import wire
from support.admission import admit, head_of
from support.http_strategies import soup
from support.plane import CREDENTIAL, integration
from support.scripted import ScriptedPlane, settle

INTEGRATIONS = (
    integration("h", "https://up.test/api", "http://127.0.0.1:8080/v1"),
    integration("k", domains=["https://b.test:8443", "https://*.wild.test"]),
    integration("v6", "https://[2001:db8::1]/x", forbidden=[("https://auth.test", "/token")]),
)
COVERED = ["up.test", "b.test", "wild.test", "a.wild.test", "x.y.wild.test", "auth.test", "127.0.0.1", "2001:db8::1"]


def passes(target: str, named: str | None) -> bool:
    """Return True if a request would pass without a credential."""

    async def main() -> bool:
        sidekey = ScriptedPlane(*INTEGRATIONS, passing=True)
        passthrough = sidekey.plane.router.passthrough
        assert passthrough is not None
        integration_id = None if named is None else named.encode()
        result = admit(sidekey.plane, head_of(target, host=b"any", integration_id=integration_id))
        return not isinstance(result, Problem) and result.integration is passthrough.candidate

    return asyncio.run(main())


def spelled_addresses(host: str) -> list[str]:
    """Return the spellings of an address."""
    address = ip_address(host)
    if address.version == 6:
        return [f"[{address.compressed}]", f"[{address.exploded}]", f"[{address.compressed.upper()}]"]
    number = int(address)
    short = f"{number >> 24}.{number & 0xFFFFFF}"
    octal = ".".join(f"0{int(part):o}" for part in host.split("."))
    return [host, f"{host}.", short, octal, str(number), hex(number), f"[::ffff:{host}]", f"[64:ff9b::{host}]"]


@st.composite
def spellings(draw: st.DrawFn, hosts: list[str]) -> str:
    """Draw an authority that leads to one of these hosts, or seems to."""
    host = draw(st.sampled_from(hosts))
    if ":" in host or host[0].isdigit():
        host = draw(st.sampled_from(spelled_addresses(host)))
    else:
        host = "".join(draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in host)
        host += draw(st.sampled_from(["", "", "."]))
        at = draw(st.integers(0, len(host) - 1))
        if draw(st.integers(0, 4)) == 0:
            host = f"{host[:at]}%{ord(host[at]):02x}{host[at + 1 :]}"
    user = draw(st.sampled_from(["", "", "", "user@", "user:pass@", "free.test@", "free.test:80@", "%40"]))
    port = draw(st.sampled_from(["", ":", ":80", ":443", ":8443", ":080", ":1", ":65535"]))
    return f"{user}{host}{port}"


@given(
    st.sampled_from(["http", "https", "HTTP", "Https"]),
    spellings(COVERED),
    soup() | st.just(""),
    st.sampled_from([None, "h", "k", "v6"]),
)
@example("http", "127.1", "/", None)
@example("http", "UP.test.", "", "h")
@example("https", "[::FFFF:7f00:1]:8080", "/v1", "k")
def test_covered_host_never_passes(scheme: str, authority: str, path: str, named: str | None) -> None:
    """In any spelling, with any named integration."""
    assert not passes(f"{scheme}://{authority}{path}", named)


@given(
    st.sampled_from(["http", "https"]),
    st.sampled_from(["free.test", "test", "xup.test", "up.test.free.test", "xwild.test", "127.0.0.2", "[2001:db8::2]"]),
    st.sampled_from(["", ":80", ":8080"]),
    st.sampled_from([None, "h", "k", "v6"]),
)
def test_other_hosts_pass(scheme: str, host: str, port: str, named: str | None) -> None:
    """Also look-alikes of covered hosts."""
    assert passes(f"{scheme}://{host}{port}/api", named)


@dataclass(frozen=True, slots=True)
class Fields:
    """Headers of a request, and those that Sidekey forwards, in order."""

    sent: list[str]
    kept: list[tuple[bytes, bytes]]


@st.composite
def fields(draw: st.DrawFn) -> Fields:
    """Draw the caller's own headers among those that Sidekey drops."""
    token = st.text("abcXYZ019-", min_size=1, max_size=6)
    own = st.one_of(
        st.sampled_from(["Authorization", "Cookie", "authorization", "X-Token", "X-HTTP-Method-Override", "Origin"]),
        token.map(lambda name: f"X-Own-{name}"),
    )
    ends = st.sampled_from(
        [
            "X_Integration_Id: h",
            "Sidekey-Trace: SECRET",
            "sidekey_token: SECRET",
            "Proxy-Connection: keep-alive",
            "Proxy-Status: SECRET",
            "proxy_authorization: SECRET",
            "X-Original-URL: /SECRET",
            "TE: trailers",
            "Keep-Alive: timeout=5",
        ]
    )
    sent: list[str] = []
    kept: list[tuple[bytes, bytes]] = []
    origin = False
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            name, value = draw(own), draw(st.text("abc =;,/\xe9", max_size=8)).strip()
            if name == "Origin":
                if origin:
                    continue
                origin = True
            sent.append(f"{name}: {value}")
            kept.append((name.lower().encode(), value.encode("latin-1")))
        else:
            sent.append(draw(ends))
    # Each of these may come once.
    for once in ("X-Integration-Id: h", "Sidekey-Token: SECRET"):
        if draw(st.booleans()):
            sent.insert(draw(st.integers(0, len(sent))), once)
    return Fields(sent, kept)


@given(fields(), st.binary(max_size=20))
def test_passed_request_has_only_the_callers_headers(given: Fields, body: bytes) -> None:
    """In order and byte for byte. Only Via is added."""

    async def main() -> bytes:
        sidekey = ScriptedPlane(*INTEGRATIONS, passing=True)
        caller = sidekey.caller()
        lines = ["POST http://free.test:81/a%2F..;b?c=%20 HTTP/1.1", "Host: up.test"]
        head = "\r\n".join([*lines, *given.sent, f"Content-Length: {len(body)}", "", ""])
        caller.feed(head.encode("latin-1") + body)
        await settle()
        (upstream,) = sidekey.upstreams
        word = sidekey.plane.worker.instance
        return upstream.read().replace(word, b"WORD")

    data = asyncio.run(main())
    message = wire.first_request(data)
    assert message is not None
    assert (message.target, message.body, message.length) == (b"/a%2F..;b?c=%20", body, len(data))
    length = [(b"content-length", str(len(body)).encode())]
    via = [(b"via", b"1.1 sidekey (WORD)")]
    assert list(message.headers) == [(b"host", b"free.test:81"), *given.kept, *length, *via]
    assert CREDENTIAL not in data
    assert b"SECRET" not in data
