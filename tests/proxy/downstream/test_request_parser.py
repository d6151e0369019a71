"""How requests are read off a caller's bytes: in any pieces, within bounds, with upgrades passed over."""

from __future__ import annotations

import pytest

from sidekey.proxy.downstream.connection import SHORT_READ, CallerConnection
from sidekey.proxy.downstream.request_validation import MAX_MEMBERS
from sidekey.snapshot.request_rules import Limits
from support import wire
from support.plane import base_url, get, integration, problem, request
from support.scripted import RecordingTransport, Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
BLANKS = b"line\r\n\r\n" * 1024
"""A body full of what ends a head."""


def chunks(*pieces: bytes, extension: bytes = b"") -> bytes:
    """A body in chunked coding."""
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension if piece else b"", piece) for piece in (*pieces, b""))


def answers(caller: RecordingTransport) -> list[wire.Message]:
    """The responses that a caller has."""
    found, data = [], bytes(caller.written)
    while (message := wire.first_response(data)) is not None:
        found.append(message)
        data = data[message.length :]
    return found


async def converse(sidekey: Scripted, *pieces: bytes) -> tuple[list[wire.Message], list[wire.Message]]:
    """Feed a caller's bytes, answer what reaches an upstream, and return both sides' messages."""
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
    arrived = [message for upstream in sidekey.upstreams for message in whole(bytes(upstream.written))]
    return arrived, answers(caller)


def whole(data: bytes) -> list[wire.Message]:
    """The complete requests at the start of `data`."""
    found = []
    while (message := wire.first_request(data)) is not None:
        found.append(message)
        data = data[message.length :]
    return found


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
async def test_every_cut_into_reads_gives_the_same_requests(size: int) -> None:
    """Heads, bodies, chunks, trailers' ends and upgrades may be cut anywhere."""
    pieces = [MIXED[at : at + size] for at in range(0, len(MIXED), size)]
    arrived, told = await converse(Scripted(H), *pieces)
    assert [message.target for message in arrived] == [b"/api/%d" % number for number in range(1, 10)]
    assert [message.body for message in arrived] == BODIES
    assert [message.status for message in told] == [200] * 9
    assert arrived[3].values(b"x-empty") == [b""]
    assert arrived[3].values(b"x-other") == [b"spaced"]
    for message in arrived:
        assert not {b"upgrade", b"http2-settings", b"connection"} & {name for name, _ in message.headers}


async def test_every_cut_in_two_gives_the_same_requests() -> None:
    """Wherever the one cut is."""
    for at in range(1, len(MIXED), 5):
        arrived, _ = await converse(Scripted(H, limits=Limits(pipelined=3)), MIXED[:at], MIXED[at:])
        assert [message.body for message in arrived] == BODIES, at


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
@pytest.mark.parametrize("pipelined", [1, 16])
async def test_a_body_full_of_blank_lines_arrives_byte_for_byte(framing: str, pipelined: int) -> None:
    """In one write for its read where its length was given; in chunks of its own making it costs no more than heads."""
    sidekey = Scripted(H, limits=Limits(pipelined=pipelined))
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
    """What is written from now on, write by write."""
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
async def test_what_is_gathered_over_several_reads_is_bounded(raw: bytes, status: int, size: int) -> None:
    """Each with its own status; the connection ends, and no upstream has a whole request."""
    sidekey = Scripted(H, limits=LIMITS)
    answer = await refused(sidekey, raw, size)
    said = problem(answer)
    assert (answer.status, said["code"]) == (status, "request_too_large")
    if b"Transfer-Encoding" in raw and status == 431:
        assert said["detail"] == "the trailers or chunk extensions are over limits.request_head"
    assert [whole(bytes(upstream.written)) for upstream in sidekey.upstreams] in ([], [[]])


@pytest.mark.parametrize("raw", UNFINISHED.values(), ids=UNFINISHED)
async def test_a_field_that_takes_its_head_over_the_bound_is_not_waited_for(raw: bytes) -> None:
    """The parser gathers no more of it: the request is refused before the field has an end."""
    sidekey = Scripted(H, limits=LIMITS)
    assert (await refused(sidekey, raw, 100)).status in {400, 431}
    assert sidekey.upstreams == []


@pytest.mark.parametrize("raw", UNFINISHED.values(), ids=UNFINISHED)
async def test_a_head_that_one_field_takes_over_the_bound_is_too_large(raw: bytes) -> None:
    """431 as where it comes in one read (RFC 6585 5)."""
    answer = await refused(Scripted(H, limits=LIMITS), raw, 100)
    assert (answer.status, problem(answer)["code"]) == (431, "request_too_large")


async def refused(sidekey: Scripted, raw: bytes, size: int) -> wire.Message:
    """Feed a request in reads of `size` until it is answered; the response must come soon and end the connection."""
    caller = sidekey.caller()
    fed = 0
    while not caller.written and fed < len(raw):
        caller.feed(raw[fed : fed + size])
        fed += size
        await settle()
    (answer,) = answers(caller)
    assert answer.values(b"connection") == [b"close"]
    assert caller.ended
    # A bound is met where it lies, not after everything was gathered.
    assert fed <= LIMITS.request_body + LIMITS.request_head + 2 * size
    return answer


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
async def test_what_lies_within_the_bounds_passes_in_any_pieces(raw: bytes, size: int) -> None:
    """Bounds are on a head, a body and what is between chunks, each by itself: a second request begins again."""
    both = raw + raw
    pieces = [both[at : at + size] for at in range(0, len(both), size)]
    arrived, told = await converse(Scripted(H, limits=LIMITS), *pieces)
    assert [message.status for message in told] == [200, 200]
    assert (arrived[0].headers, arrived[0].body) == (arrived[1].headers, arrived[1].body)


@pytest.mark.parametrize("pieces", [1, 1 << 20], ids=["dribbled", "whole"])
async def test_a_head_that_offers_h2c_is_bounded_too(pieces: int) -> None:
    """The head that is made up to read the body of a passed-over upgrade counts for nothing."""
    head = request("POST", "/a", *H2C, "X: " + "a" * 3700, body=b"hello")
    cut = [head[at : at + pieces] for at in range(0, len(head), pieces)]
    arrived, told = await converse(Scripted(H, limits=LIMITS), *cut)
    assert ([message.body for message in arrived], [message.status for message in told]) == ([b"hello"], [200])
    refused = request("POST", "/a", *H2C, "Content-Length: 10001")
    arrived, told = await converse(Scripted(H, limits=LIMITS), refused)
    assert (arrived, [message.status for message in told]) == ([], [413])


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nhelloX", b"5;\x00\r\nhello\r\n"])
async def test_a_malformed_body_of_a_passed_over_upgrade_is_refused(body: bytes) -> None:
    """A fresh parser reads it as strictly as any other."""
    sidekey = Scripted(H)
    arrived, told = await converse(sidekey, request("POST", "/a", *H2C, "Transfer-Encoding: chunked") + body)
    assert (arrived, [message.status for message in told], sidekey.upstreams) == ([], [400], [])


async def test_a_trailer_is_not_merged_into_the_next_head() -> None:
    """Nor into its own (RFC 9110 6.5.1), whatever it is called."""
    trailers = b"0\r\nAuthorization: theirs\r\nX-Integration-Id: other\r\n\r\n"
    raw = request("POST", "/1", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n" + trailers + get("/2")
    for size in (1, 1 << 20):
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        arrived, _ = await converse(Scripted(H), *pieces)
        assert [message.body for message in arrived] == [b"hello", b""]
        assert all(b"theirs" not in message.values(b"authorization") for message in arrived)
        assert all(message.trailers == () for message in arrived)


LISTED = ["Connection: a", "Via: 1.1 a", "Expect: 100-continue", "Upgrade: h2c", "Connection: x"]


@pytest.mark.parametrize("count", [MAX_MEMBERS, MAX_MEMBERS + 1])
@pytest.mark.parametrize("field", LISTED)
@pytest.mark.parametrize("lines", ["one", "each its own"])
async def test_fields_for_the_proxy_have_few_members(count: int, field: str, lines: str) -> None:
    """However they are spread over lines: what would have to be looked through a thousand times is refused."""
    name, _, member = field.partition(": ")
    fields = [f"{name}: {','.join([member] * count)}"] if lines == "one" else [field] * count
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(get("/a", *fields))
    await settle()
    if count == MAX_MEMBERS and (lines == "one" or name != "Via"):
        assert sidekey.upstreams[0].take().startswith(b"GET /api/a HTTP/1.1\r\n")
        return
    assert sidekey.upstreams == []
    (answer,) = answers(caller)
    assert (answer.status, problem(answer)["code"]) == (431, "request_too_large")


@pytest.mark.parametrize("name", ["TE", "Sidekey-A", "Proxy-Connection", "Keep-Alive", "Content_Length"])
async def test_fields_that_are_dropped_are_counted_by_their_lines(name: str) -> None:
    """A list in one of them is never looked at."""
    for fields, reached in (
        ([f"{name}: {'a,' * 1000}"], name != "Proxy-Connection"),
        ([f"{name}: a"] * MAX_MEMBERS, True),
        ([f"{name}: a"] * (MAX_MEMBERS + 1), False),
    ):
        sidekey = Scripted(H)
        sidekey.caller().feed(get("/a", *fields))
        await settle()
        assert bool(sidekey.upstreams) is reached


@pytest.mark.parametrize("count", [200, 201, 16_000])
@pytest.mark.parametrize("reads", [1, 2, 40])
async def test_a_long_head_is_read_only_as_far_as_its_fields_may_be_many(count: int, reads: int) -> None:
    """In one read or in several: what comes after the field too many, or after a short read, is not even looked up."""
    raw = get("/a", *["a:"] * count)
    size = len(raw) // reads + 1
    sidekey = Scripted(H)
    caller = sidekey.caller()
    connection = caller.protocol
    assert isinstance(connection, CallerConnection)
    caller.feed(*(raw[at : at + size] for at in range(0, len(raw), size)))
    await settle()
    if count == 200:
        assert sidekey.upstreams[0].take().count(b"\r\na: ") == 200
        return
    (answer,) = answers(caller)
    assert (answer.status, problem(answer)["detail"]) == (431, "the head has more fields than limits.headers")
    assert len(connection._names) <= SHORT_READ // len("a:\r\n")
