"""The head of the request to the upstream: exactly one credential, no hop-by-hop fields, and the rest unchanged."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.framing import CHUNKED
from sidekey.policy.messages import RequestHead
from sidekey.proxy.upstream.request_writer import field_lines, line_without_method, request_head
from support.memory import MemoryUpstream, running
from support.plane import CREDENTIAL, FixedSource, RunningPlane, base_url, forwarded, get, integration, problem, request
from support.wire import Message

GRANT = (("Authorization", CREDENTIAL.decode()), ("X-Api-Key", "k1"))


async def sent(raw: bytes, *, via: bool = True) -> tuple[Message, bytes, bytes, int]:
    """Return the received request, its bytes, the plane's name in Via, and the upstream's port."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("k", url, headers=GRANT), via=via) as sidekey:
            assert (await sidekey.send(raw)).status == 200
        (message,) = upstream.requests
        return message, upstream.received[0], sidekey.plane.worker.instance, upstream.port


async def test_a_plain_request_keeps_its_fields_order_and_bytes() -> None:
    fields = (
        "User-Agent: a/1",
        "X-B: 1",
        "x-a:  two  words",
        "X-B: 2",
        "Cookie: a=b",
        "Accept: */*",
        "X-Empty:",
        "X-Obs: \xe9",
        "X-Forwarded-For: 1.2.3.4",
        "Content-Type: text/plain",
    )
    _, raw, word, port = await sent(request("POST", "/a?q=%20", *fields, body=b"hello"))
    kept = [field.encode("latin-1").replace(b":  ", b": ").replace(b"Empty:", b"Empty: ") for field in fields]
    assert raw == forwarded(port, b"POST", b"/api/a?q=%20", *kept, b"Content-Length: 5", end=b"hello", word=word)


@pytest.mark.parametrize(
    "fields",
    [
        ("Authorization: mine",),
        ("authorization: mine", "AUTHORIZATION: yours"),
        ("Authorization:",),
        ("Connection: Authorization",),
        ("Connection: close, authorization", "Authorization: mine"),
        ("X-Api-Key: mine", "x_api_key: mine", "X_API-Key: mine"),
        ("Connection: X-Api-Key, x_api_key",),
        ("Proxy-Authorization: Basic azp4",),
    ],
)
async def test_caller_cannot_remove_or_duplicate_an_injected_field(fields: tuple[str, ...]) -> None:
    """In any spelling, with `_` for `-`, and with any Connection field."""
    message, _, _, _ = await sent(get("/a", *fields, name="k"))
    names = [name.replace(b"_", b"-") for name, _ in message.headers]
    assert names == [b"host", b"authorization", b"x-api-key", b"via"]
    assert message.values(b"authorization") == [CREDENTIAL]
    assert message.values(b"x-api-key") == [b"k1"]


@pytest.mark.parametrize(
    "field",
    [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Anything: 1",
        "proxy_authorization: Basic aDp4",
        "TE: trailers",
        "Trailer: X",
        "X-Original-URL: /admin",
        "x_rewrite_url: /admin",
        "Sidekey-Token: t",
        "sidekey_anything: 1",
        "X_Integration_Id: o",
        "Content_Length: 5",
        "Transfer_Encoding: chunked",
        "Connection: close",
        "Connection: keep-alive",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    ],
)
async def test_fields_that_are_not_forwarded(field: str) -> None:
    """Hop-by-hop fields, Sidekey's fields, and fields that some servers read as another target."""
    message, _, _, _ = await sent(get("/a", field))
    assert [name for name, _ in message.headers] == [b"host", b"authorization", b"via"]


async def test_fields_named_by_connection_are_not_forwarded() -> None:
    """RFC 9110 7.6.1. The framing stays."""
    fields = (
        "Connection: X-Hop, content-length",
        "X-Hop: 1",
        "x_hop: 2",
        "Connection: Via, Cookie",
        "Cookie: a",
        "X-Stays: 1",
    )
    message, _, word, _ = await sent(request("POST", "/a", *fields, "Via: 1.0 other", body=b"hello"))
    assert message.body == b"hello"
    assert [name for name, _ in message.headers] == [b"host", b"authorization", b"x-stays", b"content-length", b"via"]
    assert message.values(b"via") == [b"1.1 sidekey (%b)" % word]


async def test_via_is_appended() -> None:
    """RFC 9110 7.6.3"""
    message, _, word, _ = await sent(get("/a", "Via: 1.0 first", "Via: 1.1 second"))
    assert message.values(b"via") == [b"1.0 first", b"1.1 second", b"1.1 sidekey (%b)" % word]


async def test_via_false_sends_no_via() -> None:
    message, _, _, _ = await sent(get(), via=False)
    assert message.values(b"via") == []


@pytest.mark.parametrize(("version", "arrives"), [("1.1", [b"100-continue"]), ("1.0", [])])
async def test_expect_is_forwarded_for_http_1_1(version: str, arrives: list[bytes]) -> None:
    """RFC 9110 10.1.1: the expectation of an HTTP/1.0 caller is ignored."""
    message, _, _, _ = await sent(request("POST", "/a", "Expect: 100-continue", body=b"x", version=version))
    assert message.values(b"expect") == arrives


@pytest.mark.parametrize(
    ("raw", "length", "coding"),
    [
        (get(), [], []),
        (request("POST", body=b""), [b"0"], []),
        (request("POST"), [], []),
        (request("POST", body=b"abc"), [b"3"], []),
        (request("POST", "/a", "Transfer-Encoding: Chunked") + b"0\r\n\r\n", [], [b"chunked"]),
        (request("POST", "/a", "Content-Length: 0003") + b"abc", [b"3"], []),
    ],
)
async def test_body_is_framed_by_what_was_parsed(raw: bytes, length: list[bytes], coding: list[bytes]) -> None:
    message, _, _, _ = await sent(raw)
    assert (message.values(b"content-length"), message.values(b"transfer-encoding")) == (length, coding)


async def test_chunk_extensions_are_not_forwarded() -> None:
    """RFC 9112 7.1.1"""
    raw = request("POST", "/a", "Transfer-Encoding: chunked") + b"3;x=y\r\nabc\r\n2;z\r\nde\r\n0;end\r\n\r\n"
    message, _, _, _ = await sent(raw)
    assert message.body == b"abcde"


async def test_http_1_0_request_is_forwarded_as_http_1_1() -> None:
    """RFC 9110 2.5"""
    _, raw, word, port = await sent(get("/a", "X: 1", version="1.0"))
    assert raw == forwarded(port, b"GET", b"/api/a", b"X: 1", word=word)


QUERY = CredentialTraits(InjectionPoints(query=("access_token",)), calls=True)
TOKEN = Grant(query=(("access_token", "a/b+c="),))


def placed(upstream: MemoryUpstream) -> AbstractAsyncContextManager[RunningPlane]:
    """Build a plane whose integration `h` has its token in the query."""
    configured = integration("h", base_url(upstream.port), headers=(), traits=QUERY)
    return running(configured, sources={"h": FixedSource(TOKEN)})


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a", b"/api/a?access_token=a%2Fb%2Bc%3D"),
        ("/a?", b"/api/a?access_token=a%2Fb%2Bc%3D"),
        ("/a?b=%20c", b"/api/a?b=%20c&access_token=a%2Fb%2Bc%3D"),
        ("/a?b&", b"/api/a?b&access_token=a%2Fb%2Bc%3D"),
        ("/a?b=access_token", b"/api/a?b=access_token&access_token=a%2Fb%2Bc%3D"),
        ("?b", b"/api?b&access_token=a%2Fb%2Bc%3D"),
    ],
)
async def test_token_is_appended_to_the_query(path: str, sent: bytes) -> None:
    """RFC 6750 2.3. Repeated, because the fast parser may read the second request."""
    async with MemoryUpstream() as upstream, placed(upstream) as sidekey:
        for _ in range(2):
            assert (await sidekey.send(get(path))).status == 200
        raw = f"GET {base_url(upstream.port)}{path} HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\n\r\n"
        assert (await sidekey.send(raw.encode())).status == 200
        assert [message.target for message in upstream.requests] == [sent] * 3


@pytest.mark.parametrize(
    "path", ["/a?access_token=x", "/a?b&access%5ftoken", "/a?Access_Token=x", "/a?b=%26access_token"]
)
async def test_token_of_the_caller_in_the_query_is_refused(path: str) -> None:
    """400 in any encoding."""
    async with MemoryUpstream() as upstream, placed(upstream) as sidekey:
        response = await sidekey.send(get(path))
        assert (response.status, problem(response)["code"]) == (400, "request_invalid")
        assert upstream.connections == []


@pytest.mark.parametrize("via", [b"", b"\r\nVia: 1.1 sidekey (x)"])
@pytest.mark.parametrize(
    ("length", "framing"),
    [(0, []), (5, [b"\r\nContent-Length: 5"]), (CHUNKED, [b"\r\nTransfer-Encoding: chunked"])],
)
def test_field_lines_match_the_written_head(length: int, framing: list[bytes], via: bytes) -> None:
    lines, names = [b"\r\nX-A: 1", b"\r\nX_B: 2", b"\r\nX-C: 3"], [b"x-a", b"x-b", b"x-c"]
    head = RequestHead(b"POST", b"/a", b"h", lines, names, None, b"x-c", length)
    injected, stripped = (b"\r\nHost: h", b"\r\nX-B: ours"), frozenset({b"x-b"})
    result = field_lines(head, injected, stripped, length=length, via=via)
    assert result == [*injected, b"\r\nX-A: 1", *framing, *([via] if via else [])]
    whole = request_head(
        head, line_without_method(b"/a"), b"".join(injected), stripped, length=length, head_end=via + b"\r\n\r\n"
    )
    assert b"".join(whole) == b"POST /a HTTP/1.1" + b"".join(result) + b"\r\n\r\n"


def test_empty_chunked_body_gets_a_length() -> None:
    head = RequestHead(b"POST", b"/a", b"h", [], [], None, None, CHUNKED)
    assert field_lines(head, (), frozenset(), length=0, via=b"") == [b"\r\nContent-Length: 0"]
