"""Parsing of requests: in any reads, within limits, and with ignored upgrades."""

from __future__ import annotations

import pytest

from sidekey.proxy.downstream.connection import SHORT_READ, CallerConnection
from sidekey.proxy.downstream.request_validation import MAX_MEMBERS
from sidekey.snapshot.request_rules import Limits
from support import wire
from support.framing import chunks
from support.plane import base_url, get, integration, problem, request
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.upstream import OK

H = integration("h", base_url(1))
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
BLANKS = b"line\r\n\r\n" * 1024
"""A body full of what ends a head."""


def responses(caller: RecordingTransport) -> list[wire.Message]:
    """Return the responses that a caller has received."""
    result, data = [], bytes(caller.written)
    while (message := wire.first_response(data)) is not None:
        result.append(message)
        data = data[message.length :]
    return result


async def converse(sidekey: ScriptedPlane, *pieces: bytes) -> tuple[list[wire.Message], list[wire.Message]]:
    """Feed a caller's bytes, answer each forwarded request, and return the messages of both sides."""
    caller = sidekey.caller()
    seen: list[int] = []
    for piece in pieces:
        caller.feed(piece)
        await settle()
        for upstream in sidekey.upstreams:
            while len(seen) < len(whole(bytes(upstream.written))):
                seen.append(1)
                upstream.feed(OK)
                await settle()
    received = [message for upstream in sidekey.upstreams for message in whole(bytes(upstream.written))]
    return received, responses(caller)


def whole(data: bytes) -> list[wire.Message]:
    """Return the complete requests at the start of `data`."""
    result = []
    while (message := wire.first_request(data)) is not None:
        result.append(message)
        data = data[message.length :]
    return result


MIXED = b"".join(
    [
        get("/1"),
        request("POST", "/2", body=b"a\r\n\r\nb"),
        request("POST", "/3", "Transfer-Encoding: chunked") + chunks(b"c\r\n\r\n", b"d", extension=b";q=1"),
        b"\r\n" + get("/4", "X-Empty:", "X-Other:  spaced  "),
        request("POST", "/5", *H2C, body=b"hello"),
        request("POST", "/6", *H2C, "Transfer-Encoding: chunked") + chunks(b"hel", b"lo"),
        request("PUT", "/7", body=b""),
        request("OPTIONS", "/8", *H2C),
        get("/9"),
    ]
)
BODIES = [b"", b"a\r\n\r\nb", b"c\r\n\r\nd", b"", b"hello", b"hello", b"", b"", b""]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 1 << 20])
async def test_any_split_into_reads_gives_the_same_requests(size: int) -> None:
    pieces = [MIXED[at : at + size] for at in range(0, len(MIXED), size)]
    received, replies = await converse(ScriptedPlane(H), *pieces)
    assert [message.target for message in received] == [b"/api/%d" % number for number in range(1, 10)]
    assert [message.body for message in received] == BODIES
    assert [message.status for message in replies] == [200] * 9
    assert received[3].values(b"x-empty") == [b""]
    assert received[3].values(b"x-other") == [b"spaced"]
    for message in received:
        assert not {b"upgrade", b"http2-settings", b"connection"} & {name for name, _ in message.headers}


async def test_any_split_in_two_gives_the_same_requests() -> None:
    for at in range(1, len(MIXED), 5):
        received, _ = await converse(ScriptedPlane(H, limits=Limits(pipelined=3)), MIXED[:at], MIXED[at:])
        assert [message.body for message in received] == BODIES, at


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
@pytest.mark.parametrize("pipelined", [1, 16])
async def test_a_body_full_of_blank_lines_arrives_byte_for_byte(framing: str, pipelined: int) -> None:
    """With Content-Length, in one write for each read. In chunks, it costs no more than heads."""
    sidekey = ScriptedPlane(H, limits=Limits(pipelined=pipelined))
    caller = sidekey.caller()
    if framing == "chunked":
        caller.feed(request("POST", "/a", "Transfer-Encoding: chunked"))
        body = chunks(BLANKS)
    else:
        caller.feed(request("POST", "/a", f"Content-Length: {len(BLANKS)}"))
        body = BLANKS
    upstream = await sidekey.upstream()
    before = count_writes(upstream)
    caller.feed(body, get("/next"))
    await settle()
    (message,) = whole(bytes(upstream.written))
    assert message.body == BLANKS
    if framing == "Content-Length":
        assert before == [BLANKS]
    else:
        assert len(before) <= 2 + BLANKS.count(b"\r\n\r\n") // pipelined
    upstream.feed(OK)
    assert whole(bytes(upstream.written))[1].target == b"/api/next"


def count_writes(upstream: RecordingTransport) -> list[bytes]:
    """Collect further writes."""
    pieces: list[bytes] = []
    write = upstream.write

    def kept(data: bytes) -> None:
        pieces.append(data)
        write(data)

    upstream.write = kept  # type: ignore[method-assign, assignment]
    return pieces


LIMITS = Limits(request_head=4000, target=2000, headers=20, request_body=10_000)
OVER = {
    "a target": (get("/" + "a" * 2500), 414),
    "a target without end": (b"GET /i/h/" + b"a" * 9000, 414),
    "many small fields": (get("/a", *(f"X-{number}: 1" for number in range(25))), 431),
    "a body by its length": (request("POST", "/a", "Content-Length: 10001"), 413),
    "a body by its chunks": (request("POST", "/a", "Transfer-Encoding: chunked") + chunks(*[b"x" * 1000] * 11), 413),
    "a chunk extension": (
        request("POST", "/a", "Transfer-Encoding: chunked") + b"5;x=" + b"a" * 9000 + b"\r\nhello\r\n0\r\n\r\n",
        431,
    ),
    "trailers": (
        request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        431,
    ),
}

UNFINISHED = {
    "a field": get("/a", "X: " + "a" * 5000),
    "a field without end": get()[:-2] + b"X: " + b"a" * 9000,
    "a name without end": get()[:-2] + b"X" * 9000,
    "fields that add up": get("/a", *(f"X-{number}: {'a' * 300}" for number in range(19))),
}


@pytest.mark.parametrize("size", [100, 1000])
@pytest.mark.parametrize(("raw", "status"), OVER.values(), ids=OVER)
async def test_long_heads_and_trailers_in_several_reads_are_refused(raw: bytes, status: int, size: int) -> None:
    """Each with its own status. The connection closes, and no upstream has a complete request."""
    sidekey = ScriptedPlane(H, limits=LIMITS)
    response = await refused(sidekey, raw, size)
    error = problem(response)
    assert (response.status, error["code"]) == (status, "request_too_large")
    if b"Transfer-Encoding" in raw and status == 431:
        assert error["detail"] == "the trailers or chunk extensions are over limits.request_head"
    assert [whole(bytes(upstream.written)) for upstream in sidekey.upstreams] in ([], [[]])


@pytest.mark.parametrize("raw", UNFINISHED.values(), ids=UNFINISHED)
async def test_field_over_the_limit_is_refused_before_it_ends(raw: bytes) -> None:
    sidekey = ScriptedPlane(H, limits=LIMITS)
    assert (await refused(sidekey, raw, 100)).status in {400, 431}
    assert sidekey.upstreams == []


@pytest.mark.parametrize("raw", UNFINISHED.values(), ids=UNFINISHED)
async def test_one_field_over_the_limit_is_431(raw: bytes) -> None:
    """As in one read (RFC 6585 5)."""
    response = await refused(ScriptedPlane(H, limits=LIMITS), raw, 100)
    assert (response.status, problem(response)["code"]) == (431, "request_too_large")


async def refused(sidekey: ScriptedPlane, raw: bytes, size: int) -> wire.Message:
    """Feed a request in reads of `size` bytes until the error response, which must close the connection."""
    caller = sidekey.caller()
    fed = 0
    while not caller.written and fed < len(raw):
        caller.feed(raw[fed : fed + size])
        fed += size
        await settle()
    (response,) = responses(caller)
    assert response.values(b"connection") == [b"close"]
    assert caller.ended
    # A bound is met where it lies, not after everything was gathered.
    assert fed <= LIMITS.request_body + LIMITS.request_head + 2 * size
    return response


WITHIN = {
    "a target": get("/" + "a" * 1900),
    "a head": get("/" + "a" * 1900, "X: " + "b" * 1900),
    "a body": request("POST", body=b"x" * 10_000),
    "extensions of many chunks": request("POST", "/a", "Transfer-Encoding: chunked")
    + chunks(*[b"x" * 100] * 20, extension=b";x=" + b"a" * 300),
    "trailers": request("POST", "/a", "Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n0\r\nX: "
    + b"a" * 3000
    + b"\r\n\r\n",
}


@pytest.mark.parametrize("size", [10, 1000, 1 << 20])
@pytest.mark.parametrize("raw", WITHIN.values(), ids=WITHIN)
async def test_requests_within_the_limits_pass_in_any_reads(raw: bytes, size: int) -> None:
    """Limits apply to each head, body and chunk line. A second request starts again."""
    both = raw + raw
    pieces = [both[at : at + size] for at in range(0, len(both), size)]
    received, replies = await converse(ScriptedPlane(H, limits=LIMITS), *pieces)
    assert [message.status for message in replies] == [200, 200]
    assert (received[0].headers, received[0].body) == (received[1].headers, received[1].body)


@pytest.mark.parametrize("pieces", [1, 1 << 20], ids=["dribbled", "whole"])
async def test_limits_apply_to_a_head_with_an_upgrade(pieces: int) -> None:
    head = request("POST", "/a", *H2C, "X: " + "a" * 3700, body=b"hello")
    cut = [head[at : at + pieces] for at in range(0, len(head), pieces)]
    received, replies = await converse(ScriptedPlane(H, limits=LIMITS), *cut)
    assert ([message.body for message in received], [message.status for message in replies]) == ([b"hello"], [200])
    refused = request("POST", "/a", *H2C, "Content-Length: 10001")
    received, replies = await converse(ScriptedPlane(H, limits=LIMITS), refused)
    assert (received, [message.status for message in replies]) == ([], [413])


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nhelloX", b"5;\x00\r\nhello\r\n"])
async def test_malformed_body_of_an_ignored_upgrade_is_refused(body: bytes) -> None:
    sidekey = ScriptedPlane(H)
    received, replies = await converse(sidekey, request("POST", "/a", *H2C, "Transfer-Encoding: chunked") + body)
    assert (received, [message.status for message in replies], sidekey.upstreams) == ([], [400], [])


async def test_trailer_is_merged_into_no_head() -> None:
    """RFC 9110 6.5.1"""
    trailers = b"0\r\nAuthorization: theirs\r\nX-Integration-Id: other\r\n\r\n"
    raw = request("POST", "/1", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n" + trailers + get("/2")
    for size in (1, 1 << 20):
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        received, _ = await converse(ScriptedPlane(H), *pieces)
        assert [message.body for message in received] == [b"hello", b""]
        assert all(b"theirs" not in message.values(b"authorization") for message in received)
        assert all(message.trailers == () for message in received)


LISTED = ["Connection: a", "Via: 1.1 a", "Expect: 100-continue", "Upgrade: h2c", "Connection: x"]


@pytest.mark.parametrize("count", [MAX_MEMBERS, MAX_MEMBERS + 1])
@pytest.mark.parametrize("field", LISTED)
@pytest.mark.parametrize("lines", ["one", "each its own"])
async def test_fields_for_the_proxy_have_few_members(count: int, field: str, lines: str) -> None:
    """Over any number of lines. Sidekey would have to search a longer list again and again."""
    name, _, member = field.partition(": ")
    fields = [f"{name}: {','.join([member] * count)}"] if lines == "one" else [field] * count
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(get("/a", *fields))
    await settle()
    if count == MAX_MEMBERS and (lines == "one" or name != "Via"):
        assert sidekey.upstreams[0].read().startswith(b"GET /api/a HTTP/1.1\r\n")
        return
    assert sidekey.upstreams == []
    (response,) = responses(caller)
    assert (response.status, problem(response)["code"]) == (431, "request_too_large")


@pytest.mark.parametrize("name", ["TE", "Sidekey-A", "Proxy-Connection", "Keep-Alive", "Content_Length"])
async def test_fields_that_are_dropped_are_counted_by_their_lines(name: str) -> None:
    """Sidekey does not parse their lists."""
    for fields, reached in (
        ([f"{name}: {'a,' * 1000}"], name != "Proxy-Connection"),
        ([f"{name}: a"] * MAX_MEMBERS, True),
        ([f"{name}: a"] * (MAX_MEMBERS + 1), False),
    ):
        sidekey = ScriptedPlane(H)
        sidekey.caller().feed(get("/a", *fields))
        await settle()
        assert bool(sidekey.upstreams) is reached


@pytest.mark.parametrize("count", [200, 201, 16_000])
@pytest.mark.parametrize("reads", [1, 2, 40])
async def test_head_with_too_many_fields_is_parsed_only_up_to_the_limit(count: int, reads: int) -> None:
    raw = get("/a", *["a:"] * count)
    size = len(raw) // reads + 1
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    connection = caller.protocol
    assert isinstance(connection, CallerConnection)
    caller.feed(*(raw[at : at + size] for at in range(0, len(raw), size)))
    await settle()
    if count == 200:
        assert sidekey.upstreams[0].read().count(b"\r\na: ") == 200
        return
    (response,) = responses(caller)
    assert (response.status, problem(response)["detail"]) == (431, "the head has more fields than limits.headers")
    assert len(connection._names) <= SHORT_READ // len("a:\r\n")
