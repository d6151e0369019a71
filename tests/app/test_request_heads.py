"""Request heads at a running Sidekey: in pieces, too large, malformed or late."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from support.private_ca import Authority
from support.raw_connection import ConnectionEnded, RawConnection, connect
from support.serving import HEAD, RunningApp, problem, serving
from support.tunnels import TlsCaller, connect_request
from support.upstream import RawUpstream

HOST = "up.test"
ROUTES = ["reverse", "plain tunnel", "TLS tunnel"]
FULL_OF_HEAD_ENDS = b"GET /decoy HTTP/1.1\r\n\r\n" * 140
"""A body of 3 KB that looks like the start of other requests."""


@dataclass
class Route:
    """A route through Sidekey to the upstream of its integration."""

    name: str
    sidekey: RunningApp
    upstream: RawUpstream
    trust: Path

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[RawConnection | TlsCaller]:
        """Connect, through CONNECT and TLS if the route needs them."""
        async with connect(self.sidekey.port) as raw:
            if self.name == "reverse":
                yield raw
                return
            await raw.send(connect_request(f"{HOST}:{self.upstream.port}", user="it:x"))
            assert (await raw.response(to_head=True)).status == 200
            if self.name == "plain tunnel":
                yield raw
                return
            caller = TlsCaller(raw, ssl.create_default_context(cadata=self.trust.read_text()), HOST)
            await caller.handshake()
            yield caller

    def head(self, method: str, path: str, *fields: str, line: str = "{method} {target} HTTP/1.1") -> bytes:
        """Build a head as a client sends it over this route."""
        target = f"/i/it{path}" if self.name == "reverse" else path
        host = "localhost" if self.name == "reverse" else f"{HOST}:{self.upstream.port}"
        start = line.format(method=method, target=target)
        return "\r\n".join([start, f"Host: {host}", *fields, "", ""]).encode()

    def post(self, path: str, body: bytes, *fields: str) -> bytes:
        """Build a request with Content-Length."""
        return self.head("POST", path, f"Content-Length: {len(body)}", *fields) + body

    def chunked(self, path: str, body: bytes) -> bytes:
        """Build a request with a body of one chunk."""
        return self.head("POST", path, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@asynccontextmanager
async def opened(name: str, folder: Path, ca: Authority, head: str = HEAD) -> AsyncIterator[Route]:
    """Serve one integration over this route."""
    is_tls = name == "TLS tunnel"
    async with RawUpstream(ssl_context=ca.server_context(HOST) if is_tls else None) as upstream:
        scheme = "https" if is_tls else "http"
        text = (
            f"  it: {{endpoint_prefix: '{scheme}://{HOST}:{upstream.port}',"
            " auth: {type: basic, username: svc, password: {insecure_value: secret}}}\n"
        )
        with_ca = head.replace("integrations:\n", "ca: {{folder: state}}\nintegrations:\n")
        async with serving(text, folder, ca, hosts={HOST: ["127.0.0.1"]}, head=with_ca) as sidekey:
            yield Route(name, sidekey, upstream, folder / "state" / "trust" / "ca.pem")


async def send_in_reads(caller: RawConnection | TlsCaller, *pieces: bytes) -> None:
    """Send pieces so that Sidekey, which runs on the same loop, reads each before the next is sent."""
    for piece in pieces:
        await caller.send(piece)
        for _ in range(4):
            await asyncio.sleep(0)


def cut(data: bytes, *positions: int) -> list[bytes]:
    """Cut bytes at these positions."""
    edges = [0, *sorted(positions), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def positions_in_pairs(first: int, second: range) -> Iterator[tuple[int, int]]:
    """Pair each position before `first` with one in `second`, so that each occurs."""
    for number in range(max(first - 1, len(second))):
        yield 1 + number % (first - 1), second[number % len(second)]


def in_the_body(size: int, head: int) -> Iterator[tuple[int, int]]:
    """Pair a cut in a body with one in the next head, which may arrive with the end of the body."""
    for rest in (*range(0, head, 7), size):
        yield size // 2, rest
        yield size - 1, rest


TIGHT_HEADS = HEAD.replace("integrations:\n", "limits: {{request_head: 128B}}\nintegrations:\n")
"""Two heads of these tests together exceed this limit."""

SMALL_HEADS = HEAD.replace("integrations:\n", "limits: {{request_head: 512B}}\nintegrations:\n")


CALLERS = 8
"""Number of concurrent callers."""


@pytest.mark.parametrize("name", ROUTES)
async def test_every_split_of_head_body_and_next_head_reaches_the_upstream(
    name: str, ca: Authority, tmp_path: Path
) -> None:
    """One head and the next head are each cut once. The body between them is larger than the limit of a head."""
    expected: dict[bytes, bytes] = {}
    async with opened(name, tmp_path, ca, TIGHT_HEADS) as route:

        async def converse(caller_number: int) -> None:
            async with route.caller() as caller:
                for build in (route.post, route.chunked):
                    sample = build("/post/000/b", FULL_OF_HEAD_ENDS)
                    # Include the size of the first chunk.
                    edge = len(sample.partition(b"\r\n\r\n")[0]) + 12
                    pairs = [*positions_in_pairs(edge, range(edge)), *in_the_body(len(sample), edge)]
                    for number, (position, rest) in enumerate(pairs):
                        if number % CALLERS != caller_number:
                            continue
                        paths = [f"/{build.__name__}/{number:03}/{part}" for part in "abc"]
                        first, second = (build(path, FULL_OF_HEAD_ENDS) for path in paths[:2])
                        pieces = cut(first + second + route.head("GET", paths[2]), position, len(first) + rest)
                        await send_in_reads(caller, *pieces)
                        assert [(await caller.response()).status for _ in paths] == [200, 200, 200], pieces
                        bodies = [FULL_OF_HEAD_ENDS, FULL_OF_HEAD_ENDS, b""]
                        expected.update(zip(map(str.encode, paths), bodies, strict=True))

        await asyncio.gather(*map(converse, range(CALLERS)))
        assert {request.target: request.body for request in route.upstream.requests} == expected
        assert len(route.upstream.requests) == len(expected)


@pytest.mark.parametrize("name", ROUTES)
async def test_large_body_between_two_cut_heads_does_not_count_as_head(
    name: str, ca: Authority, tmp_path: Path
) -> None:
    """The body of 70,000 bytes exceeds the default limit of a head, 64 KiB."""
    body = b"x" * 70_000
    async with opened(name, tmp_path, ca) as route:
        first, second = route.post("/first", body), route.head("GET", "/second")
        async with route.caller() as caller:
            await send_in_reads(caller, *cut(first + second, 20, len(first) + 20))
            assert [(await caller.response()).status for _ in range(2)] == [200, 200]
        assert [(request.target, request.body) for request in route.upstream.requests] == [
            (b"/first", body),
            (b"/second", b""),
        ]


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("behind", [False, True], ids=["first", "behind another request"])
@pytest.mark.parametrize("size", [100, 1 << 20], ids=["in many reads", "in one read"])
async def test_head_over_its_limit_is_refused(
    name: str, behind: bool, size: int, ca: Authority, tmp_path: Path
) -> None:
    """The limit counts only the bytes of this head."""
    async with opened(name, tmp_path, ca, SMALL_HEADS) as route:
        prefix = route.post("/before", FULL_OF_HEAD_ENDS) if behind else b""
        filling = 512 - len(route.head("GET", "/large", "X-Fill: "))
        fits = route.head("GET", "/large", "X-Fill: " + "x" * filling)
        async with route.caller() as caller:
            await send_in_reads(caller, prefix, *cut(fits, *range(size, len(fits), size)))
            assert [(await caller.response()).status for _ in range(1 + behind)] == [200] * (1 + behind)
            over = route.head("GET", "/over", "X-Fill: " + "x" * (filling + 2))
            for piece in cut(prefix + over, *range(len(prefix) + size, len(prefix) + len(over), size)):
                try:
                    await send_in_reads(caller, piece)
                except ConnectionEnded:
                    break
            response = await caller.response()
            if behind and response.status == 200:
                response = await caller.response()
        assert (response.status, problem(response)["detail"]) == (431, "the head is over limits.request_head")
        assert b"/over" not in b"".join(route.upstream.received)


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("cuts_body", [False, True], ids=["whole", "its body in the second read"])
async def test_request_before_a_head_that_is_too_large_is_served(
    name: str, cuts_body: bool, ca: Authority, tmp_path: Path
) -> None:
    """The incomplete large head arrives with the last byte of the request's body."""
    async with opened(name, tmp_path, ca, SMALL_HEADS) as route:
        first = route.post("/first", b"abcde")
        over = route.head("GET", "/over", "X-Fill: " + "x" * 1000)[:-4]
        async with route.caller() as caller:
            await send_in_reads(caller, *cut(first + over, *([len(first) - 5] if cuts_body else [])))
            assert [(await caller.response()).status for _ in range(2)] == [200, 431]
        assert [(request.target, request.body) for request in route.upstream.requests] == [(b"/first", b"abcde")]


MALFORMED_LINES = {
    "two spaces before the target": "{method}  {target} HTTP/1.1",
    "two spaces before the version": "{method} {target}  HTTP/1.1",
    "many spaces": "{method}    {target}    HTTP/1.1",
    "a space before the method": " {method} {target} HTTP/1.1",
    "a space behind the version": "{method} {target} HTTP/1.1 ",
    "a tab before the method": "\t{method} {target} HTTP/1.1",
    "a tab before the target": "{method}\t{target} HTTP/1.1",
    "a tab and a space before the target": "{method} \t{target} HTTP/1.1",
    "a tab before the version": "{method} {target}\tHTTP/1.1",
    "a space in the target": "{method} {target} x HTTP/1.1",
    "a form feed in the target": "{method} {target}\x0c HTTP/1.1",
    "no method": "{target} HTTP/1.1",
    "no target": "{method} HTTP/1.1",
    "an empty target": "{method}  HTTP/1.1",
    "no protocol": "{method} {target} 1.1",
    "a bare line feed": "{method} {target} HTTP/1.1\nX: y",
    "a bare carriage return": "{method} {target} HTTP/1.1\rX: y",
}


@pytest.mark.parametrize("line", MALFORMED_LINES.values(), ids=MALFORMED_LINES)
async def test_malformed_request_line_is_refused(line: str, ca: Authority, tmp_path: Path) -> None:
    """The line may be cut anywhere and may follow another request."""
    async with opened("reverse", tmp_path, ca) as route:
        bad = route.head("GET", "/bad", line=line)
        prefixes = [
            route.head("GET", "/before"),
            route.post("/before", FULL_OF_HEAD_ENDS[:-4] + b"GET  /b HTTP/1.1"),
            route.chunked("/before", FULL_OF_HEAD_ENDS),
        ]
        conversations = [cut(bad, position) for position in range(len(line) + 12)]
        for prefix in prefixes:
            conversations += [
                [prefix + bad],
                [prefix, bad],
                [prefix + bad[:7], bad[7:]],
                [prefix[:9], prefix[9:] + bad],
            ]
            conversations += [[prefix + b"\r\n" + bad[:2], bad[2:4], bad[4:]], [prefix[:-2], prefix[-2:] + bad]]
        for pieces in conversations:
            async with route.caller() as caller:
                for piece in pieces:
                    try:
                        await send_in_reads(caller, piece)
                    except ConnectionEnded:
                        break
                response = await caller.response()
                if response.status == 200:
                    response = await caller.response()
            assert (response.status, problem(response)["code"]) == (400, "request_invalid"), pieces
        assert b"/bad" not in b"".join(route.upstream.received)


@pytest.mark.parametrize("name", ROUTES)
async def test_two_spaces_in_a_request_line_are_refused(name: str, ca: Authority, tmp_path: Path) -> None:
    async with opened(name, tmp_path, ca) as route:
        for line in ("{method}  {target} HTTP/1.1", "{method} {target}  HTTP/1.1"):
            async with route.caller() as caller:
                await caller.send(route.head("GET", "/bad", line=line))
                response = await caller.response()
            detail = "the request line must have one space between method and target, and one before the version"
            assert (response.status, problem(response)["detail"]) == (400, detail)
        assert b"/bad" not in b"".join(route.upstream.received)


async def test_two_spaces_in_the_line_of_a_connect_are_refused(ca: Authority, tmp_path: Path) -> None:
    """No tunnel is opened."""
    async with opened("plain tunnel", tmp_path, ca) as route, connect(route.sidekey.port) as caller:
        await caller.send(connect_request(f"{HOST}:{route.upstream.port}", user="it:x").replace(b" ", b"  ", 1))
        assert (await caller.response()).status == 400


async def test_empty_lines_before_a_request_line_are_ignored(ca: Authority, tmp_path: Path) -> None:
    """RFC 9112 2.2."""
    async with opened("reverse", tmp_path, ca) as route, route.caller() as caller:
        first, second = route.post("/first", b"body"), route.head("GET", "/second")
        await send_in_reads(caller, b"\r\n", b"\r\n" + first, b"\r\n\r\n\r\n", second + b"\r\n", b"\r", b"\n" + first)
        assert [(await caller.response()).status for _ in range(3)] == [200, 200, 200]


SHORT = HEAD.replace("request_head: 45s", "request_head: {head}, keep_alive: {keep_alive}")


def with_timeouts(head: str, keep_alive: str) -> str:
    """Build the start of a config with these timeouts."""
    return SHORT.replace("{head}", head).replace("{keep_alive}", keep_alive)


@pytest.mark.parametrize("name", ROUTES)
async def test_timeout_of_a_head_begins_with_its_first_byte(name: str, ca: Authority, tmp_path: Path) -> None:
    """A connection older than `timeouts.request_head` has the full time for its first request."""
    async with (
        opened(name, tmp_path, ca, with_timeouts("400ms", "60s")) as route,
        connect(route.sidekey.port) as raw,
    ):
        if name == "TLS tunnel":
            async with route.caller() as caller:
                await asyncio.sleep(0.8)
                await caller.send(route.head("GET", "/a"))
                assert (await caller.response()).status == 200
            return
        if name == "plain tunnel":
            await asyncio.sleep(0.8)
            await raw.send(connect_request(f"{HOST}:{route.upstream.port}", user="it:x"))
            assert (await raw.response(to_head=True)).status == 200
        else:
            await asyncio.sleep(0.8)
        await raw.send(route.head("GET", "/a"))
        assert (await raw.response()).status == 200


@pytest.mark.parametrize("begun", [b"G", b"GET ", b"GET /i/it/a HTTP/1.1\r\nHost: loc"])
async def test_incomplete_head_times_out(begun: bytes, ca: Authority, tmp_path: Path) -> None:
    async with opened("reverse", tmp_path, ca, with_timeouts("400ms", "60s")) as route:
        for prefix in (b"", route.head("GET", "/a")):
            async with route.caller() as caller:
                await send_in_reads(caller, prefix + begun)
                if prefix:
                    assert (await caller.response()).status == 200
                response = await caller.response()
            assert (response.status, problem(response)["code"]) == (408, "request_timeout")


async def test_silent_connection_ends_after_keep_alive(ca: Authority, tmp_path: Path) -> None:
    """Sidekey sends no response. Empty lines do not extend the time."""
    async with opened("reverse", tmp_path, ca, with_timeouts("60s", "400ms")) as route:
        for sent in (b"", b"\r\n"):
            async with connect(route.sidekey.port) as raw:
                await raw.send(sent)
                assert await raw.until_ended() == b""
