"""The head that goes to the upstream: the credential exactly once, nothing that was to end here, the rest as it was."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.framing import CHUNKED
from sidekey.policy.messages import RequestHead
from sidekey.proxy.upstream.request_writer import field_lines, line_of, request_head
from support.memory import Upstream, running
from support.plane import CREDENTIAL, FixedSource, Running, base_url, forwarded, get, integration, problem, request
from support.wire import Message

GRANT = (("Authorization", CREDENTIAL.decode()), ("X-Api-Key", "k1"))


async def sent(raw: bytes, *, via: bool = True) -> tuple[Message, bytes, bytes, int]:
    """The one request that arrives, the bytes of it, the plane's word, and the upstream's port."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("k", url, headers=GRANT), via=via) as sidekey:
            assert (await sidekey.ask(raw)).status == 200
        (message,) = upstream.requests
        return message, upstream.received[0], sidekey.plane.worker.instance, upstream.port


async def test_a_plain_request_keeps_its_fields_order_and_bytes() -> None:
    """Names keep their case, values their bytes, repeated fields their places."""
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
async def test_nothing_a_caller_sends_removes_or_doubles_an_injected_field(fields: tuple[str, ...]) -> None:
    """However it is spelled, `_` counting as `-`, and whatever Connection names."""
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
async def test_fields_that_end_here(field: str) -> None:
    """Hop-by-hop fields, Sidekey's own, and those that some servers take for another target."""
    message, _, _, _ = await sent(get("/a", field))
    assert [name for name, _ in message.headers] == [b"host", b"authorization", b"via"]


async def test_what_connection_names_ends_here() -> None:
    """RFC 9110 7.6.1; the framing is not touched by it."""
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


async def test_via_is_added_behind_those_before() -> None:
    """RFC 9110 7.6.3."""
    message, _, word, _ = await sent(get("/a", "Via: 1.0 first", "Via: 1.1 second"))
    assert message.values(b"via") == [b"1.0 first", b"1.1 second", b"1.1 sidekey (%b)" % word]


async def test_via_false_stops_sending() -> None:
    """Neither hop is told."""
    message, _, _, _ = await sent(get(), via=False)
    assert message.values(b"via") == []


@pytest.mark.parametrize(("version", "arrives"), [("1.1", [b"100-continue"]), ("1.0", [])])
async def test_expect_is_forwarded_for_http_1_1(version: str, arrives: list[bytes]) -> None:
    """RFC 9110 10.1.1: an HTTP/1.0 caller's is ignored."""
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
async def test_the_body_is_framed_again(raw: bytes, length: list[bytes], coding: list[bytes]) -> None:
    """In one way, by what was read rather than by what was written."""
    message, _, _, _ = await sent(raw)
    assert (message.values(b"content-length"), message.values(b"transfer-encoding")) == (length, coding)


async def test_chunk_extensions_end_here() -> None:
    """RFC 9112 7.1.1: a recipient ignores those it does not know."""
    raw = request("POST", "/a", "Transfer-Encoding: chunked") + b"3;x=y\r\nabc\r\n2;z\r\nde\r\n0;end\r\n\r\n"
    message, _, _, _ = await sent(raw)
    assert message.body == b"abcde"


async def test_an_http_1_0_request_goes_on_as_http_1_1() -> None:
    """Each hop has its own version (RFC 9110 2.5)."""
    _, raw, word, port = await sent(get("/a", "X: 1", version="1.0"))
    assert raw == forwarded(port, b"GET", b"/api/a", b"X: 1", word=word)


QUERY = CredentialTraits(InjectionPoints(query=("access_token",)), calls=True)
TOKEN = Grant(query=(("access_token", "a/b+c="),))


def placed(upstream: Upstream) -> AbstractAsyncContextManager[Running]:
    """A plane whose integration `h` has its token in the query."""
    made = integration("h", base_url(upstream.port), headers=(), traits=QUERY)
    return running(made, sources={"h": FixedSource(TOKEN)})


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
async def test_a_token_in_the_query_stands_behind_what_was_judged(path: str, sent: bytes) -> None:
    """RFC 6750 2.3; again and again, since the quick reading may take the second."""
    async with Upstream() as upstream, placed(upstream) as sidekey:
        for _ in range(2):
            assert (await sidekey.ask(get(path))).status == 200
        raw = f"GET {base_url(upstream.port)}{path} HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\n\r\n"
        assert (await sidekey.ask(raw.encode())).status == 200
        assert [message.target for message in upstream.requests] == [sent] * 3


@pytest.mark.parametrize(
    "path", ["/a?access_token=x", "/a?b&access%5ftoken", "/a?Access_Token=x", "/a?b=%26access_token"]
)
async def test_a_callers_own_token_in_the_query_is_refused(path: str) -> None:
    """400, in any decoding; nothing is sent."""
    async with Upstream() as upstream, placed(upstream) as sidekey:
        answer = await sidekey.ask(get(path))
        assert (answer.status, problem(answer)["code"]) == (400, "request_invalid")
        assert upstream.connections == []


@pytest.mark.parametrize("via", [b"", b"\r\nVia: 1.1 sidekey (x)"])
@pytest.mark.parametrize(
    ("length", "framing"),
    [(0, []), (5, [b"\r\nContent-Length: 5"]), (CHUNKED, [b"\r\nTransfer-Encoding: chunked"])],
)
def test_field_lines_are_those_of_the_head_one_by_one(length: int, framing: list[bytes], via: bytes) -> None:
    """In the order in which they are written, and none of them empty."""
    lines, names = [b"\r\nX-A: 1", b"\r\nX_B: 2", b"\r\nX-C: 3"], [b"x-a", b"x-b", b"x-c"]
    head = RequestHead(b"POST", b"/a", b"h", lines, names, None, b"x-c", length)
    injected, stripped = (b"\r\nHost: h", b"\r\nX-B: ours"), frozenset({b"x-b"})
    found = field_lines(head, injected, stripped, length=length, via=via)
    assert found == [*injected, b"\r\nX-A: 1", *framing, *([via] if via else [])]
    whole = request_head(head, line_of(b"/a"), b"".join(injected), stripped, length=length, head_end=via + b"\r\n\r\n")
    assert b"".join(whole) == b"POST /a HTTP/1.1" + b"".join(found) + b"\r\n\r\n"


def test_a_body_that_turned_out_empty_has_a_length() -> None:
    """It came in chunks, which a server may expect of no body at all."""
    head = RequestHead(b"POST", b"/a", b"h", [], [], None, None, CHUNKED)
    assert field_lines(head, (), frozenset(), length=0, via=b"") == [b"\r\nContent-Length: 0"]
