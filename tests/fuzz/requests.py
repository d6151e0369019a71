"""The request parser: a data plane without sockets gets a caller's bytes, and h11 parses the same bytes."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import h11

from fuzz.target import LONGEST, Target
from support import wire
from support.plane import base_url, get, integration, request
from support.scripted import RecordingTransport, ScriptedPlane, settle

_LOOP: Final = asyncio.new_event_loop()
_RESPONSE: Final = b"HTTP/1.1 204 No Content\r\nUpstream: 1\r\n\r\n"
_REWRITTEN: Final = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"max-forwards",
        b"transfer-encoding",
        b"via",
    }
)
"""Fields that Sidekey writes itself."""

_INFORMATIONAL: Final = re.compile(rb"HTTP/1\.1 1\d\d ")

SEEDS: Final = (
    get("/1") + get("/2", "X-Empty:", "X-Other:  spaced  ") + get("/3", version="1.0"),
    request("POST", "/1", body=b"a\r\n\r\nb") + b"\r\n" + request("PUT", "/2", body=b""),
    request("POST", "/1", "Transfer-Encoding: chunked", "Trailer: X")
    + b"3;q=1\r\na\r\n\r\n1\r\nb\r\n0\r\nX: y\r\n\r\n",
    request("POST", "/1", "Expect: 100-continue", "Content-Length: 2") + b"ok",
    request("POST", "/1", "Connection: Upgrade", "Upgrade: h2c", body=b"hello") + get("/2"),
    request("OPTIONS", "/1", "Max-Forwards: 0") + request("HEAD", "/2", "Connection: close, X-One", "X-One: 1"),
    b"CONNECT up.test:1 HTTP/1.1\r\nHost: up.test:1\r\n\r\n",
    b"GET http://up.test:1/api/a HTTP/1.1\r\nHost: up.test:1\r\nX-Integration-Id: h\r\n\r\n",
    b"POST /i/h/1 HTTP/1.1\r\nhost:h.test\r\nContent-Length: 1\r\ncontent-length: 1\r\n"
    b"Transfer-Encoding: gzip\r\n\r\na",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


@dataclass(frozen=True, slots=True)
class Read:
    """A parsed request, with its end-to-end headers."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The caller's responses by status and sender, and the upstream's requests."""

    responses: tuple[tuple[int, bool], ...]
    arrived: tuple[Read, ...]


async def _converse(pieces: Sequence[bytes]) -> Outcome:
    """Deliver each piece in a read of its own, then close the connection in an orderly way."""
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = sidekey.caller()
    received: list[Read] = []
    answered: dict[int, int] = {}
    for piece in pieces:
        caller.feed(piece)
        await _answer(sidekey, answered, received)
    caller.finish()
    await _answer(sidekey, answered, received)
    for upstream in sidekey.upstreams:
        upstream.finish()
    await settle()
    assert sidekey.defects == [], sidekey.defects
    return Outcome(tuple(_responses(bytes(caller.written))), tuple(received))


async def _answer(sidekey: ScriptedPlane, answered: dict[int, int], received: list[Read]) -> None:
    """Respond to each complete request of an upstream connection, until nothing more arrives."""
    while True:
        await settle()
        fresh = [pair for pair in enumerate(sidekey.upstreams) if _next(*pair, answered, received)]
        if not fresh:
            return


def _next(number: int, upstream: RecordingTransport, answered: dict[int, int], received: list[Read]) -> bool:
    """Respond to the next request of an upstream connection. Raises InvalidMessage for ambiguous bytes."""
    at = answered.get(number, 0)
    message = wire.first_request(bytes(upstream.written[at:]))
    if message is None:
        return False
    answered[number] = at + message.length
    fields = tuple(field for field in message.headers if field[0] not in _REWRITTEN)
    received.append(Read(message.method, message.target, fields, message.body))
    upstream.feed(_RESPONSE)
    return True


def _responses(data: bytes) -> Iterator[tuple[int, bool]]:
    """Yield the status of each final response to the caller, and whether it is the upstream's."""
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        if _INFORMATIONAL.match(head):
            data = rest
            continue
        # Bodies are problems (RFC 9457), which responses to HEAD only announce.
        message = wire.first_response(data, to_head=not rest.startswith(b"{"), ended=True)
        assert message is not None, f"a response is cut: {data!r}"
        yield message.status, b"\r\nupstream: 1" in head.lower()
        data = data[message.length :]


def converse(*pieces: bytes) -> Outcome:
    """Return the outcome of these reads."""
    return _LOOP.run_until_complete(_converse(pieces))


def parse(data: bytes) -> None:
    """Parse the bytes and begin the first exchange. Further requests wait for its end."""
    _LOOP.run_until_complete(_begin(data))


async def _begin(data: bytes) -> None:
    caller = ScriptedPlane(integration("h", base_url(1))).caller()
    caller.feed(data)
    caller.fail(ConnectionResetError())
    await settle()


def read_by_h11(data: bytes) -> list[Read]:
    """Return every request that h11 parses completely, up to the first error and the last request of the connection."""
    result: list[Read] = []
    while True:
        # RFC 9112 2.2: empty lines before a request line are ignored; h11 refuses them.
        data = data.lstrip(b"\r\n")
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * LONGEST)
        connection.receive_data(data)
        connection.receive_data(b"")
        body = bytearray()
        try:
            head = connection.next_event()
            if not isinstance(head, h11.Request):
                return result
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    return result
                body += event.data
        except h11.RemoteProtocolError:
            return result
        fields = tuple((name, value) for name, value in head.headers if name not in _REWRITTEN)
        result.append(Read(head.method, head.target, fields, bytes(body)))
        # RFC 9112 9.3: with keep-alive HTTP/1.0 persists, too; h11 reads nothing after it.
        persists = (b"connection", b"keep-alive") in [(name, value.lower()) for name, value in head.headers]
        if connection.their_state is h11.MUST_CLOSE and not (persists and head.http_version == b"1.0"):
            return result
        data = connection.trailing_data[0]


def check(data: bytes) -> None:
    """Compare what arrives with what h11 reads, and a read in pieces with one read."""
    whole, expected = converse(data), read_by_h11(data)
    compare(whole, expected)
    if len(data) < 3:
        return
    chosen = random.Random(data)
    for count in (1, 2):
        cuts = sorted(chosen.sample(range(1, len(data)), count))
        pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        other = converse(*pieces)
        compare(other, expected)
        assert agree(whole, other), f"cut at {cuts}: {other}, in one read: {whole}"


def agree(whole: Outcome, cut: Outcome) -> bool:
    """Return True if one read and several come to the same, up to the first request that Sidekey itself refuses.

    From there on they may differ. What has parsed of a read is dropped where its rest is malformed, and a refusal
    before the body has arrived ends the connection.
    """
    refusals = [_first_refusal(outcome) for outcome in (whole, cut)]
    if refusals[0] is None:
        return whole == cut
    first = min(number for number in refusals if number is not None)
    return whole.responses[:first] == cut.responses[:first] and whole.arrived[:first] == cut.arrived[:first]


def _first_refusal(outcome: Outcome) -> int | None:
    return next((number for number, (_, from_upstream) in enumerate(outcome.responses) if not from_upstream), None)


def compare(outcome: Outcome, expected: Sequence[Read]) -> None:
    """Raise AssertionError for a request at the upstream that h11 reads differently or refuses."""
    received = iter(outcome.arrived)
    for number, (_, from_upstream) in enumerate(outcome.responses):
        if not from_upstream:
            continue
        read = next(received)
        assert number < len(expected), f"h11 refuses request {number}: {read}"
        other = expected[number]
        assert (read.method, read.body) == (other.method, other.body), f"{read} and {other}"
        if other.target.startswith(b"/i/h/"):
            assert read.target == b"/api" + other.target.removeprefix(b"/i/h"), f"{read} and {other}"
        assert Counter(read.fields) <= Counter(other.fields), f"{read} and {other}"


WORDS: Final = (
    b"  ",
    b"\r\n\r\n",
    b" HTTP/1.0\r\n",
    b"GET /i/h/1 HTTP/1.1\r\nHost: h.test\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Content-Length: 1\r\n",
    b"Expect: 100-continue\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: h2c\r\n",
    b"\r\n0\r\n\r\n",
)

TARGET: Final = Target(SEEDS, parse, check, WORDS)
