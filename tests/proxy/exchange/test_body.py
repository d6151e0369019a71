"""A token in the body: the body is gathered, checked, and written again behind what the caller sent."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.memory import Upstream, running
from support.plane import FixedSource, RenewedSource, base_url, eventually, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, answering

TRAITS = CredentialTraits(InjectionPoints(body=("access_token",)), calls=True, watched=frozenset({401}))
TOKEN = "a.b-c/d+e="
GRANT = Grant(body=(("access_token", TOKEN),), secrets=(TOKEN.encode(),))
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json; charset=utf-8"


def plane(upstream: Upstream, source: FixedSource | None = None, **options: object) -> object:
    made = integration("h", base_url(upstream.port), headers=(), traits=TRAITS)
    return running(made, sources={"h": source or FixedSource(GRANT)}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "body", "sent"),
    [
        (FORM, b"a=b&c=%20d", b"a=b&c=%20d&access_token=a.b-c%2Fd%2Be%3D"),
        (FORM, b"", b"access_token=a.b-c%2Fd%2Be%3D"),
        (JSON, b'{"a": 1.50}\n', b'{"a": 1.50,"access_token":"a.b-c/d+e="}\n'),
        (JSON, b"{}", b'{"access_token":"a.b-c/d+e="}'),
    ],
)
async def test_the_token_stands_behind_what_was_sent(field: str, body: bytes, sent: bytes) -> None:
    """One Content-Length, recomputed; the rest of the body as it came."""
    async with Upstream() as upstream, plane(upstream) as sidekey:
        assert (await sidekey.ask(request("POST", "/a", field, body=body))).status == 200
        (message,) = upstream.requests
        assert message.body == sent
        assert message.values(b"content-length") == [b"%d" % len(sent)]
        assert message.values(b"authorization") == []


async def test_an_upload_in_pieces_is_gathered_first() -> None:
    """Chunks become one length, and nothing reaches the upstream before the end."""
    async with Upstream() as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(request("POST", "/a", FORM, "Transfer-Encoding: chunked") + b"3\r\na=b\r\n")
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        assert upstream.connections == []
        await caller.send(b"4\r\n&c=d\r\n0\r\n\r\n")
        assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert message.body == b"a=b&c=d&access_token=a.b-c%2Fd%2Be%3D"
        assert message.values(b"transfer-encoding") == []


async def test_an_upload_in_short_chunks_takes_about_its_length() -> None:
    """Each chunk as an object of its own would take 20 times as much."""
    size, limits = 100_000, Limits(replay_body=1 << 20)
    async with Upstream() as upstream, plane(upstream, limits=limits) as sidekey, sidekey.connect() as caller:
        await caller.send(request("POST", "/a", FORM, "Transfer-Encoding: chunked") + b"2\r\na=\r\n")
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        tracemalloc.start()
        try:
            for _ in range(100):
                await caller.send(b"2\r\nxx\r\n" * (size // 200))
                await asyncio.sleep(0)
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        await caller.send(b"0\r\n\r\n")
        assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert message.body.startswith(b"a=" + b"x" * size + b"&access_token=")
    assert size // 2 < grown < 2 * size


async def test_a_caller_that_waits_for_100_gets_it_from_here() -> None:
    """The body is needed before the upstream is asked, so the expectation goes no further (RFC 9110 10.1.1)."""
    async with Upstream() as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(request("POST", "/a", FORM, "Expect: 100-continue", "Content-Length: 3"))
        await caller.until_contains(b"HTTP/1.1 100 Continue\r\n\r\n")
        await caller.send(b"a=b")
        await caller.until_contains(b"ok")
        (message,) = upstream.requests
        assert message.values(b"expect") == []
        assert message.body.startswith(b"a=b&")


ABSENT = "the request has no body, so nothing can be added to it"
TYPES = "nothing can be added to the body: one Content-Type must name a form or JSON"
DIGEST = "a digest covers the body, so nothing can be added to it"
CODED = "the body has a content coding, so nothing can be added to it"
LONG = "the body is over limits.replay_body, so nothing is added to it"
NOMINATED = "Connection must not name Content-Type where fields are added to the body"

UNPLACEABLE = {
    "no body": ("GET", (), None, ABSENT),
    "no body but a type": ("GET", (FORM,), None, ABSENT),
    "no type": ("POST", (), b"a=b", TYPES),
    "a type of its own": ("POST", ("Content-Type: text/plain",), b"a=b", None),
    "multipart": ("POST", ("Content-Type: multipart/form-data; boundary=x",), b"--x--", None),
    "two types": ("POST", (FORM, JSON), b"a=b", TYPES),
    "gzip": ("POST", (FORM, "Content-Encoding: gzip"), b"a=b", CODED),
    "an array": ("POST", (JSON,), b"[]", None),
    "broken json": ("POST", (JSON,), b'{"a"', None),
    "an empty json body": ("POST", (JSON,), b"", None),
    "another charset": ("POST", ("Content-Type: application/json; charset=utf-16",), b"{}", None),
    "digest": ("POST", (FORM, "Digest: SHA-256=x"), b"a=b", DIGEST),
    "content-digest": ("POST", (FORM, "Content-Digest: sha-256=:x:"), b"a=b", DIGEST),
    "repr-digest": ("POST", (FORM, "Repr-Digest: sha-256=:x:"), b"a=b", DIGEST),
    "content-md5": ("POST", (FORM, "Content_MD5: x"), b"a=b", DIGEST),
    "over limits.replay_body": ("POST", (FORM,), b"a" * 1001, LONG),
    "a type that Connection takes away": ("POST", (FORM, "Connection: content-type"), b"a=b", NOMINATED),
}
"""Method, fields, body and the detail of the response; None where `policy/parameters.py` words it."""


@pytest.mark.parametrize("case", UNPLACEABLE)
async def test_a_body_that_cannot_take_the_token_is_refused(case: str) -> None:
    """415 body_unsupported with the reason, and nothing is sent."""
    method, fields, body, detail = UNPLACEABLE[case]
    async with Upstream() as upstream, plane(upstream, limits=Limits(replay_body=1000)) as sidekey:
        answer = await sidekey.ask(request(method, "/a", *fields, body=body))
        said = problem(answer)
        assert (answer.status, said["code"], said["sent"]) == (415, "body_unsupported", "no")
        assert detail in (None, said["detail"])
        assert upstream.connections == []


async def test_a_chunked_body_over_the_limit_is_refused_as_it_comes() -> None:
    """Not gathered further than that."""
    async with Upstream() as upstream, plane(upstream, limits=Limits(replay_body=1000)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", FORM, "Transfer-Encoding: chunked") + b"3e9\r\n" + b"a" * 1001)
            assert problem(await caller.response())["code"] == "body_unsupported"
        assert upstream.connections == []


async def test_a_body_of_the_limit_takes_the_token() -> None:
    """`limits.replay_body` is the most that is kept, whether its length was given or not."""
    chunked = request("POST", "/a", FORM, "Transfer-Encoding: chunked") + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n"
    async with Upstream() as upstream, plane(upstream, limits=Limits(replay_body=1000)) as sidekey:
        assert (await sidekey.ask(request("POST", "/a", FORM, body=b"a" * 1000))).status == 200
        assert (await sidekey.ask(chunked)).status == 200
        assert {message.body[:1001] for message in upstream.requests} == {b"a" * 1000 + b"&"}


@pytest.mark.parametrize(
    ("field", "body"),
    [(FORM, b"access%5Ftoken=x"), (FORM, b"a=b;ACCESS_TOKEN=x"), (JSON, b'{"\\u0061ccess_token": 1}')],
)
async def test_a_field_of_the_tokens_name_is_refused(field: str, body: bytes) -> None:
    """Two would leave it to the server which one counts."""
    async with Upstream() as upstream, plane(upstream) as sidekey:
        answer = await sidekey.ask(request("POST", "/a", field, body=body))
        said = problem(answer)
        assert (answer.status, said["code"]) == (400, "request_invalid")
        assert said["detail"] == "the body must not contain a field that Sidekey adds itself"
        assert upstream.connections == []


async def test_a_body_that_stalls_is_given_up() -> None:
    """As any upload: the idle time-out ends it."""
    async with Upstream() as upstream, plane(upstream, timeouts=Timeouts(idle=0.2)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", FORM, "Content-Length: 5") + b"a=")
            await eventually(lambda: sidekey.metrics.in_flight == 1)
            sidekey.wait(0.3)
            assert problem(await caller.response())["code"] == "request_timeout"
        assert upstream.connections == []


async def test_a_caller_that_leaves_meanwhile_is_forgotten() -> None:
    """No token is fetched and nothing is sent."""
    async with Upstream() as upstream, plane(upstream) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", FORM, "Content-Length: 5") + b"a=")
            await eventually(lambda: sidekey.metrics.in_flight == 1)
        await sidekey.outcomes("h", caller_gone=1)
        assert upstream.connections == []


async def test_the_replay_holds_the_newer_token_once() -> None:
    """The body is written again from what the caller sent."""
    newer = Grant(body=(("access_token", "newer"),))

    async def script(connection: RawConnection) -> None:
        while True:
            message = await connection.request()
            good = message.body.endswith(b"=newer")
            await connection.send(OK if good else b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

    async with Upstream(script) as upstream, plane(upstream, RenewedSource(GRANT, newer)) as sidekey:
        assert (await sidekey.ask(request("POST", "/a", FORM, body=b"a=b"))).status == 200
        assert [message.body for message in upstream.requests] == [
            b"a=b&access_token=a.b-c%2Fd%2Be%3D",
            b"a=b&access_token=newer",
        ]


async def test_a_connection_that_goes_on_after_a_refused_body_is_closed_in_time() -> None:
    """The refusal comes in the middle of reading; the connection keeps its keep_alive limit."""
    async with (
        Upstream() as upstream,
        plane(upstream, timeouts=Timeouts(keep_alive=0.2)) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(request("POST", "/a", JSON, "Content-Length: 4") + b"[1")
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        await caller.send(b"2]")
        assert problem(await caller.response())["code"] == "body_unsupported"
        sidekey.wait(0.3)
        await caller.until_ended()


async def test_a_query_of_the_tokens_name_is_refused_beside_a_body() -> None:
    """Many servers read both as one."""
    async with Upstream() as upstream, plane(upstream) as sidekey:
        answer = await sidekey.ask(request("POST", "/a?access_token=x", FORM, body=b"a=b"))
        assert (answer.status, problem(answer)["code"]) == (400, "request_invalid")
        assert upstream.connections == []


async def test_a_token_from_the_body_is_not_shown_to_the_caller() -> None:
    """In a redirect that repeats the form."""
    echo = b"HTTP/1.1 303 See Other\r\nLocation: /b?a=b&access_token=a.b-c%2Fd%2Be%3D\r\nContent-Length: 0\r\n\r\n"
    async with Upstream(answering(echo)) as upstream, plane(upstream) as sidekey:
        answer = await sidekey.ask(request("POST", "/a", FORM, body=b"a=b"))
        assert answer.values(b"location") == [b"/b?a=b"]


async def test_a_type_that_connection_takes_away_is_no_type() -> None:
    """The body would arrive without it."""
    async with Upstream() as upstream, plane(upstream) as sidekey:
        answer = await sidekey.ask(request("POST", "/a", FORM, "Connection: content-type", body=b"a=b"))
        assert problem(answer)["code"] == "body_unsupported"


@pytest.mark.parametrize(
    ("target", "field", "body", "detail"),
    [
        ("/a?acce%c5%bfs_token=x", FORM, b"a=b", "the query must not contain a parameter that Sidekey adds itself"),
        (
            "/a?acces%25c5%25bf_to%E2%84%AAen",
            FORM,
            b"",
            "the query must not contain a parameter that Sidekey adds itself",
        ),
        ("/a", FORM, b"acce%c5%bfs_token=x", "the body must not contain a field that Sidekey adds itself"),
        ("/a", FORM, "\uff41ccess_token=x".encode(), "the body must not contain a field that Sidekey adds itself"),
        ("/a", JSON, '{"acce\u017fs_token": 1}'.encode(), "the body must not contain a field that Sidekey adds itself"),
        ("/a", JSON, b'{"\\uff41ccess_token": 1}', "the body must not contain a field that Sidekey adds itself"),
        ("/a?%" + "25" * 7 + "61=1", FORM, b"", "the query must not be encoded so many times"),
        ("/a", FORM, b"%" + b"25" * 7 + b"61=1", "the body must not be encoded so many times"),
    ],
)
async def test_the_tokens_name_in_any_spelling_is_refused(target: str, field: str, body: bytes, detail: str) -> None:
    """In query and body alike; nothing reaches the upstream, nor what is encoded too many times to be judged."""
    places = InjectionPoints(query=("access_token",), body=("access_token",))
    async with Upstream() as upstream:
        made = integration("h", base_url(upstream.port), headers=(), traits=CredentialTraits(places))
        async with running(made, sources={"h": FixedSource(GRANT)}) as sidekey:
            answer = await sidekey.ask(request("POST", target, field, body=body))
            assert (answer.status, problem(answer)["code"], problem(answer)["detail"]) == (
                400,
                "request_invalid",
                detail,
            )
        assert upstream.connections == []
