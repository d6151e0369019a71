"""Added headers and parameters reach the upstream once, with their own values, or Sidekey refuses the request."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from urllib.parse import parse_qsl

import h11
from hypothesis import event, given
from hypothesis import strategies as st

from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.snapshot.secret_loader import SecretLoader
from support.http_strategies import chunked as coded
from support.plane import GRANT, base_url, integration
from support.scripted import ScriptedPlane, settle
from support.upstream import OK

ADDED = Grant(
    headers=(("X-Tenant", "ours"),),
    query=(("api_key", "o u&r=s"),),
    body=(("mode", "ours"), ("deep", True)),
    secrets=(b"o u&r=s",),
)
SECRETS = SecretLoader(lambda: FixedCredential(GRANT.supplemented(ADDED)))
SECRETS.load()
H = replace(
    integration("h", base_url(1)),
    secrets=SECRETS,
    traits=CredentialTraits(InjectionPoints(("X-Tenant", "Authorization"), ("api_key",), ("mode", "deep"))),
)
FORM, JSON = "application/x-www-form-urlencoded", "application/json"

HEADERS = st.lists(
    st.sampled_from(
        [
            *("X-Tenant: evil", "x_tenant: evil", "X_TENANT: evil", "x-tenant:", "Connection: X-Tenant, authorization"),
            *("Authorization: evil", "X-Tenants: mine", "Connection: close", "X-Other: mine"),
        ]
    ),
    max_size=4,
)
NAMES = st.sampled_from(
    [
        *("api_key", "API_KEY", "api.key", "api%5Fkey", "api%255fkey", "api+key", "api_key[]", "%61pi_key", "api-key"),
        *("mode", "Mode", "m%6fde", "mode%00x", "deep", "deeper", "a", ""),
    ]
)
PAIRS = st.lists(st.tuples(NAMES, st.sampled_from(["=evil", "=", "", "=a%26api_key%3Dx"])), max_size=3)


def encoded(pairs: list[tuple[str, str]]) -> str:
    return "&".join(map("".join, pairs))


OBJECTS = st.dictionaries(
    st.sampled_from(["mode", "MODE", "m\u006fde", "de\u0065p", "\uff4dode", "a", "api_key", "mode\0x"]),
    st.none() | st.just("evil") | st.just({"mode": "evil"}) | st.integers(),
    max_size=3,
)
BODIES = st.one_of(
    st.tuples(st.just(FORM), PAIRS.map(lambda pairs: encoded(pairs).encode())),
    st.tuples(st.just(JSON), OBJECTS.map(lambda members: json.dumps(members).encode())),
    st.tuples(st.just(JSON), OBJECTS.map(lambda members: json.dumps(members, ensure_ascii=False).encode())),
)


def normalize_leniently(name: str) -> str:
    """Normalize a name as lenient servers do."""
    return name.partition("[")[0].partition("\0")[0].strip().replace(".", "_").replace(" ", "_").casefold()


def check(data: bytes, kind: str) -> None:
    """Check with h11 and the standard library that a request has all added values exactly once."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    names = [name.replace(b"_", b"-") for name, _ in request.headers]
    assert (names.count(b"x-tenant"), names.count(b"authorization")) == (1, 1)
    assert (b"x-tenant", b"ours") in list(request.headers)
    query = parse_qsl(request.target.partition(b"?")[2].decode(), keep_blank_values=True)
    assert [(name, value) for name, value in query if normalize_leniently(name) == "api_key"] == [
        ("api_key", "o u&r=s")
    ]
    body = b""
    while isinstance(part := server.next_event(), h11.Data):
        body += part.data
    assert isinstance(part, h11.EndOfMessage)
    assert server.trailing_data == (b"", False)
    result: list[tuple[str, object]]
    if kind == FORM:
        result = [*parse_qsl(body.decode(), keep_blank_values=True)]
    else:
        result = json.loads(body, object_pairs_hook=lambda pairs: pairs)
    own = [(name, value) for name, value in result if normalize_leniently(name) in ("mode", "deep")]
    assert own == [("mode", "ours"), ("deep", "true" if kind == FORM else True)]


@given(HEADERS, PAIRS, BODIES, st.booleans())
def test_callers_cannot_duplicate_or_remove_added_values(
    headers: list[str], pairs: list[tuple[str, str]], body: tuple[str, bytes], chunked: bool
) -> None:
    """Their headers of these names are dropped, and parameters of these names are refused in any spelling."""
    kind, content = body
    query = f"?{encoded(pairs)}" if pairs else ""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(content)}"
    sent = coded([content] if content else []) if chunked else content
    lines = (f"POST /i/h/a{query} HTTP/1.1", "Host: h.test", *headers, f"Content-Type: {kind}", framing, "", "")

    async def main() -> None:
        sidekey = ScriptedPlane(H)
        caller = sidekey.caller()
        caller.feed("\r\n".join(lines).encode("latin-1") + sent)
        await settle()
        for upstream in sidekey.upstreams:
            check(bytes(upstream.written), kind)
            upstream.feed(OK)
        await settle()
        answered = caller.read()
        received = len(sidekey.upstreams)
        assert answered.startswith(b"HTTP/1.1 200 " if received else (b"HTTP/1.1 400 ", b"HTTP/1.1 415 "))
        event("arrived" if received else "refused")
        assert sidekey.defects == []

    asyncio.run(main())
