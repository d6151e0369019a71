"""Exchanges: for any bytes of callers and upstreams, Sidekey writes valid messages or visibly truncates them."""

from __future__ import annotations

import asyncio

import h11
from hypothesis import event, example, given
from hypothesis import strategies as st

from support import wire
from support.http_strategies import answers, cuts, damaged, pieces, requests
from support.plane import CREDENTIAL, base_url, get, integration
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.upstream import OK

H = integration("h", base_url(1))


async def serve(sidekey: ScriptedPlane) -> dict[RecordingTransport, list[bytes]]:
    """Respond to each complete request until nothing more arrives. Return the bytes of each, and the rest."""
    seen: dict[RecordingTransport, list[bytes]] = {}
    busy = True
    while busy:
        await settle()
        busy = False
        for upstream in sidekey.upstreams:
            parts = seen.setdefault(upstream, [b""])
            parts[-1] += upstream.read()
            message = wire.first_request(parts[-1])
            if message is not None:
                whole = parts[-1]
                parts[-1:] = [whole[: message.length], whole[message.length :]]
                upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                busy = True
    return seen


def check_request(data: bytes) -> None:
    """Check with h11 that a request is valid, under the prefix, and has the credential exactly once."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.target == b"/api" or request.target.startswith((b"/api/", b"/api?"))
    names = [name.replace(b"_", b"-") for name, _ in request.headers]
    assert names.count(b"authorization") == 1
    assert (b"authorization", CREDENTIAL) in list(request.headers)
    assert names.count(b"host") == 1
    while isinstance(ended := server.next_event(), h11.Data):
        pass
    assert isinstance(ended, h11.EndOfMessage)
    assert not ended.headers
    assert server.trailing_data == (b"", False)


@given(st.data())
def test_upstream_gets_valid_requests_for_any_input(data: st.DataObject) -> None:
    """Each request is valid and complete, or its connection was cut in the middle of it."""
    raw = data.draw(st.lists(damaged(requests()), min_size=1, max_size=3).map(b"".join))
    at = data.draw(cuts(len(raw)))

    async def main() -> None:
        sidekey = ScriptedPlane(H)
        caller = sidekey.caller()
        caller.feed(*pieces(raw, at))
        seen = await serve(sidekey)
        caller.finish()
        await settle()
        for upstream, parts in seen.items():
            for part in parts[:-1]:
                check_request(part)
            assert parts[-1] == b"" or upstream.ended or upstream.aborted
        event(f"{sum(len(parts) - 1 for parts in seen.values())} arrived")
        assert sidekey.defects == []
        assert sidekey.metrics.in_flight == 0

    asyncio.run(main())


@given(st.data())
def test_cuts_between_reads_do_not_change_the_request(data: st.DataObject) -> None:
    """Except for the sizes of chunks."""
    raw = data.draw(requests())
    at = data.draw(cuts(len(raw)))

    async def arrived(*reads: bytes) -> tuple[bytes, wire.Message]:
        sidekey = ScriptedPlane(H, via=False)
        sidekey.caller().feed(*reads)
        ((part, rest),) = (await serve(sidekey)).values()
        assert rest == b""
        message = wire.first_request(part)
        assert message is not None
        return part.partition(b"\r\n\r\n")[0], message

    async def main() -> None:
        head, message = await arrived(raw)
        for reads in (pieces(raw, at), pieces(raw, list(range(1, len(raw))))):
            other_head, other = await arrived(*reads)
            assert (other_head, other.body, other.trailers) == (head, message.body, message.trailers)

    asyncio.run(main())


def as_client(method: str, data: bytes, *, ended: bool) -> tuple[int, bytes] | None:
    """Return status and body of the final response as h11 parses it, or None if it is incomplete.

    Raises h11.RemoteProtocolError if it is malformed.
    """
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if ended:
        client.receive_data(b"")
    status, body = 0, b""
    while True:
        result = client.next_event()
        if isinstance(result, h11.Response):
            status = result.status_code
        elif isinstance(result, h11.Data):
            body += result.data
        elif isinstance(result, h11.EndOfMessage):
            return status, body
        elif not isinstance(result, h11.InformationalResponse):
            return None


@given(st.data())
@example(None)
def test_caller_gets_complete_or_visibly_truncated_responses(data: st.DataObject | None) -> None:
    """No truncated response looks complete, and none is malformed."""
    if data is None:
        raw, at, version, method, end = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            [],
            "1.0",
            "GET",
            "finish",
        )
    else:
        raw = data.draw(damaged(answers()))
        at = data.draw(cuts(len(raw)))
        version = data.draw(st.sampled_from(["1.0", "1.1"]))
        method = data.draw(st.sampled_from(["GET", "HEAD"]))
        end = data.draw(st.sampled_from(["finish", "lose", "stay"]))

    async def main() -> None:
        sidekey = ScriptedPlane(H)
        caller = sidekey.caller()
        caller.feed(get(version=version).replace(b"GET", method.encode(), 1))
        upstream = await sidekey.upstream()
        upstream.feed(*pieces(raw, at))
        if end == "finish":
            upstream.finish()
        elif end == "lose":
            upstream.fail(ConnectionResetError())
        await settle()
        # What is still under way ends by a time-out.
        sidekey.plane.worker.deadlines.look(1e6)
        await settle()
        received = caller.read()
        assert sidekey.metrics.in_flight == 0
        assert sidekey.defects == []
        if caller.truncated:
            event("cut")
            return
        got = as_client(method, received, ended=caller.ended)
        assert got is not None
        status, body = got
        if b"Proxy-Status: sidekey" in received:
            event("a response of our own")
            return
        event("passed")
        try:
            sent = as_client(method, raw, ended=end == "finish")
        except h11.RemoteProtocolError:
            # llhttp and h11 differ on it; that the caller got a sound response was checked above.
            return
        assert sent == (status, body)

    asyncio.run(main())


@given(st.data())
def test_bytes_of_one_exchange_never_reach_another(data: st.DataObject) -> None:
    """The next request of another caller gets its own response, or 502."""
    raw = data.draw(damaged(answers())) + data.draw(st.sampled_from([b"", OK, b"HTTP/1.1 200 OK\r\n\r\nevil", b"evil"]))
    at = data.draw(cuts(len(raw)))
    mine = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine"

    async def main() -> None:
        sidekey = ScriptedPlane(H)
        first, second = sidekey.caller(), sidekey.caller()
        first.feed(get())
        upstream = await sidekey.upstream()
        upstream.feed(*pieces(raw, at))
        await settle()
        if upstream.aborted or upstream.ended or not sidekey.pooled():
            return
        second.feed(get("/second"))
        await settle()
        used = next(item for item in sidekey.upstreams if b"/second" in item.written)
        used.feed(mine)
        await settle()
        got = as_client("GET", second.read(), ended=second.ended)
        assert got == (200, b"mine")

    asyncio.run(main())
