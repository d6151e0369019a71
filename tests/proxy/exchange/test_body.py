"""A token in the body of a request: Sidekey buffers the body, validates it, and appends the token."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.memory import MemoryUpstream, running
from support.plane import FixedSource, RenewedSource, base_url, eventually, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, respond_with

TRAITS = CredentialTraits(InjectionPoints(body=("access_token",)), calls=True, watched=frozenset({401}))
TOKEN = "a.b-c/d+e="
GRANT = Grant(body=(("access_token", TOKEN),), secrets=(TOKEN.encode(),))
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json; charset=utf-8"


def plane(upstream: MemoryUpstream, source: FixedSource | None = None, **options: object) -> object:
    configured = integration("h", base_url(upstream.port), headers=(), traits=TRAITS)
    return running(configured, sources={"h": source or FixedSource(GRANT)}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "body", "sent"),
    [
        (FORM, b"a=b&c=%20d", b"a=b&c=%20d&access_token=a.b-c%2Fd%2Be%3D"),
        (FORM, b"", b"access_token=a.b-c%2Fd%2Be%3D"),
        (JSON, b'{"a": 1.50}\n', b'{"a": 1.50,"access_token":"a.b-c/d+e="}\n'),
        (JSON, b"{}", b'{"access_token":"a.b-c/d+e="}'),
    ],
)
async def test_token_is_appended_to_the_body(field: str, body: bytes, sent: bytes) -> None:
    """With a new Content-Length. The rest of the body is unchanged."""
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey:
        assert (await sidekey.send(request("POST", "/a", field, body=body))).status == 200
        (message,) = upstream.requests
        assert message.body == sent
        assert message.values(b"content-length") == [b"%d" % len(sent)]
        assert message.values(b"authorization") == []


async def test_upload_in_pieces_is_buffered() -> None:
    """Chunks become one Content-Length. Nothing reaches the upstream before the end."""
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(request("POST", "/a", FORM, "Transfer-Encoding: chunked") + b"3\r\na=b\r\n")
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        assert upstream.connections == []
        await caller.send(b"4\r\n&c=d\r\n0\r\n\r\n")
        assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert message.body == b"a=b&c=d&access_token=a.b-c%2Fd%2Be%3D"
        assert message.values(b"transfer-encoding") == []


async def test_an_upload_in_short_chunks_takes_about_its_length() -> None:
    """One object for each chunk would take 20 times as much memory."""
    size, limits = 100_000, Limits(replay_body=1 << 20)
    async with MemoryUpstream() as upstream, plane(upstream, limits=limits) as sidekey, sidekey.connect() as caller:
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


async def test_sidekey_sends_100_continue_for_a_buffered_body() -> None:
    """RFC 9110 10.1.1. It does not forward the expectation."""
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
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
    """415 body_unsupported. Nothing is sent."""
    method, fields, body, detail = UNPLACEABLE[case]
    async with MemoryUpstream() as upstream, plane(upstream, limits=Limits(replay_body=1000)) as sidekey:
        response = await sidekey.send(request(method, "/a", *fields, body=body))
        error = problem(response)
        assert (response.status, error["code"], error["sent"]) == (415, "body_unsupported", "no")
        assert detail in (None, error["detail"])
        assert upstream.connections == []


async def test_chunked_body_is_refused_once_it_exceeds_the_limit() -> None:
    async with MemoryUpstream() as upstream, plane(upstream, limits=Limits(replay_body=1000)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", FORM, "Transfer-Encoding: chunked") + b"3e9\r\n" + b"a" * 1001)
            assert problem(await caller.response())["code"] == "body_unsupported"
        assert upstream.connections == []


async def test_body_at_the_limit_gets_the_token() -> None:
    """`limits.replay_body`, with and without Content-Length."""
    chunked = request("POST", "/a", FORM, "Transfer-Encoding: chunked") + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n"
    async with MemoryUpstream() as upstream, plane(upstream, limits=Limits(replay_body=1000)) as sidekey:
        assert (await sidekey.send(request("POST", "/a", FORM, body=b"a" * 1000))).status == 200
        assert (await sidekey.send(chunked)).status == 200
        assert {message.body[:1001] for message in upstream.requests} == {b"a" * 1000 + b"&"}


@pytest.mark.parametrize(
    ("field", "body"),
    [(FORM, b"access%5Ftoken=x"), (FORM, b"a=b;ACCESS_TOKEN=x"), (JSON, b'{"\\u0061ccess_token": 1}')],
)
async def test_body_with_a_field_of_the_tokens_name_is_refused(field: str, body: bytes) -> None:
    """With two fields, the server would choose one."""
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey:
        response = await sidekey.send(request("POST", "/a", field, body=body))
        error = problem(response)
        assert (response.status, error["code"]) == (400, "request_invalid")
        assert error["detail"] == "the body must not contain a field that Sidekey adds itself"
        assert upstream.connections == []


async def test_stalled_body_ends_at_the_idle_time_out() -> None:
    async with MemoryUpstream() as upstream, plane(upstream, timeouts=Timeouts(idle=0.2)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", FORM, "Content-Length: 5") + b"a=")
            await eventually(lambda: sidekey.metrics.in_flight == 1)
            sidekey.advance(0.3)
            assert problem(await caller.response())["code"] == "request_timeout"
        assert upstream.connections == []


async def test_nothing_is_sent_for_a_caller_that_left_during_its_upload() -> None:
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", FORM, "Content-Length: 5") + b"a=")
            await eventually(lambda: sidekey.metrics.in_flight == 1)
        await sidekey.wait_for_outcomes("h", caller_gone=1)
        assert upstream.connections == []


async def test_replay_contains_only_the_new_token() -> None:
    newer = Grant(body=(("access_token", "newer"),))

    async def script(connection: RawConnection) -> None:
        while True:
            message = await connection.request()
            good = message.body.endswith(b"=newer")
            await connection.send(OK if good else b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

    async with MemoryUpstream(script) as upstream, plane(upstream, RenewedSource(GRANT, newer)) as sidekey:
        assert (await sidekey.send(request("POST", "/a", FORM, body=b"a=b"))).status == 200
        assert [message.body for message in upstream.requests] == [
            b"a=b&access_token=a.b-c%2Fd%2Be%3D",
            b"a=b&access_token=newer",
        ]


async def test_connection_after_a_refused_body_obeys_keep_alive() -> None:
    """Sidekey refuses the body while it reads."""
    async with (
        MemoryUpstream() as upstream,
        plane(upstream, timeouts=Timeouts(keep_alive=0.2)) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(request("POST", "/a", JSON, "Content-Length: 4") + b"[1")
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        await caller.send(b"2]")
        assert problem(await caller.response())["code"] == "body_unsupported"
        sidekey.advance(0.3)
        await caller.until_ended()


async def test_query_field_of_the_tokens_name_is_refused() -> None:
    """Many servers merge query and body."""
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey:
        response = await sidekey.send(request("POST", "/a?access_token=x", FORM, body=b"a=b"))
        assert (response.status, problem(response)["code"]) == (400, "request_invalid")
        assert upstream.connections == []


async def test_injected_token_is_removed_from_redirects() -> None:
    """The redirect repeats the form."""
    echo = b"HTTP/1.1 303 See Other\r\nLocation: /b?a=b&access_token=a.b-c%2Fd%2Be%3D\r\nContent-Length: 0\r\n\r\n"
    async with MemoryUpstream(respond_with(echo)) as upstream, plane(upstream) as sidekey:
        response = await sidekey.send(request("POST", "/a", FORM, body=b"a=b"))
        assert response.values(b"location") == [b"/b?a=b"]


async def test_content_type_named_by_connection_is_refused() -> None:
    """The body would arrive without it."""
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey:
        response = await sidekey.send(request("POST", "/a", FORM, "Connection: content-type", body=b"a=b"))
        assert problem(response)["code"] == "body_unsupported"


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
    """In query and body. Values with too many levels of encoding are refused, too."""
    places = InjectionPoints(query=("access_token",), body=("access_token",))
    async with MemoryUpstream() as upstream:
        configured = integration("h", base_url(upstream.port), headers=(), traits=CredentialTraits(places))
        async with running(configured, sources={"h": FixedSource(GRANT)}) as sidekey:
            response = await sidekey.send(request("POST", target, field, body=body))
            assert (response.status, problem(response)["code"], problem(response)["detail"]) == (
                400,
                "request_invalid",
                detail,
            )
        assert upstream.connections == []
