"""The quick reading of a request and the full one agree, whoever sends it and whichever way it comes.

A data plane reads a request in full if it has not used the integration yet.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.authority.rules import CaRules
from sidekey.core.callers import Caller
from sidekey.runtime.snapshot import Snapshot
from support.plane import integration
from support.presets import preset
from support.scripted import RecordingTransport, Scripted, settle
from support.upstream import OK

INTEGRATIONS = (
    integration("h", "http://up.test/api", "https://up.test/api"),
    integration("k", "http://up.test/k", methods=["POST"]),
    replace(integration("s", "http://s.test/api"), stored=True),
)
PRESETS = (
    preset("hook", "http://up.test/api/hook"),
    preset("full", "http://up.test/api/full", body={"json": {"a": "{{a}}"}}, parameters={"a": {"type": "text"}}),
)
CALLERS = {
    sha256(caller.name.encode()).digest(): caller
    for caller in (
        Caller("all", None, None),
        Caller("some", frozenset({"h", "s"}), frozenset({"hook"})),
        Caller("none", frozenset(), frozenset({"full"})),
    )
}
TOKENS = [*["all", "some"] * 3, "none", "wrong", None]
IDS = [*["h", "s"] * 3, "k", "x", None]
PATHS = [*["/api/a", "/api/a?b=c"] * 3, "/api", "/k/a", "/api/%2e%2e/x", "//api", "/i/h/a"]
METHODS = ["POST", "POST", "POST", "GET", "TRACE"]
EXTRA = ["Via: 1.1 other", "Via: 1.0 sidekey" + ", 1.1 sidekey" * 5, "Origin: https://a.test", "Expect: 100-continue"]


class Leaves:
    """The contexts of tunnels to any host; no request here begins TLS."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def context_for(self, host: str) -> ssl.SSLContext | None:
        return self.context

    async def obtain(self, host: str) -> ssl.SSLContext:
        return self.context


@dataclass(frozen=True)
class Request:
    """A request by its parts. `tunnel` is the authority of the CONNECT that precedes it, if one does."""

    target: str
    method: str = "POST"
    host: str = "h.test"
    fields: tuple[str, ...] = ()
    tunnel: str = ""
    connect: tuple[str, ...] = ()

    def written(self) -> bytes:
        fields = (*self.fields, "Content-Type: application/json", "Content-Length: 7")
        return head(f"{self.method} {self.target}", self.host, fields) + b'{"a":1}'


def head(start: str, host: str, fields: Sequence[str]) -> bytes:
    return "\r\n".join((f"{start} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode()


def user(name: str | None, token: str | None) -> str:
    return "Proxy-Authorization: Basic " + b64encode(f"{name or '-'}:{token or ''}".encode()).decode()


@st.composite
def namings(draw: st.DrawFn) -> tuple[str, ...]:
    """Draw the headers that name an integration and give a token, in no, one or two places."""
    name, token = draw(st.sampled_from(IDS)), draw(st.sampled_from(TOKENS))
    named = [] if name is None else [f"X-Integration-Id: {name}"]
    given = [] if token is None else [f"Sidekey-Token: {token}"]
    by_user = [user(name, token)]
    others = [user(draw(st.sampled_from(IDS)), draw(st.sampled_from(TOKENS)))]
    ways = [by_user, by_user, [*named, *given], given, named, [], [*by_user, *named, *given], [*others, *named, *given]]
    return tuple(draw(st.sampled_from([*ways, ["Proxy-Authorization: Bearer x"]])))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    path, method = draw(st.sampled_from(PATHS)), draw(st.sampled_from(METHODS))
    more = draw(st.sampled_from([(), (), ("X-Any: 1",), *((each,) for each in EXTRA)]))
    fields = (*draw(namings()), *more)
    way = draw(st.sampled_from(["reverse", "preset", "forward", "tunnel", "tunnel"]))
    if way == "reverse":
        name, host = (
            draw(st.sampled_from(["h", "h", "s", "k", "x"])),
            draw(st.sampled_from(["h.test", "h.test", "b.test"])),
        )
        return Request(f"/i/{name}{path.removeprefix('/api')}", method, host, fields)
    if way == "preset":
        return Request(draw(st.sampled_from(["/p/hook", "/p/hook", "/p/full", "/p/x"])), method, "localhost", fields)
    host = draw(st.sampled_from(["up.test", "s.test"]))
    if way == "forward":
        return Request(f"http://{host}{path}", method, host, fields)
    own = draw(st.sampled_from([more, more, more, fields]))
    shown = draw(st.sampled_from([host, host, f"{host}:80", "b.test"]))
    target = draw(st.sampled_from([path, path, path, f"http://{host}{path}"]))
    return Request(target, method, shown, own, f"{host}:80", draw(namings()))


NAMED = Request("/api/a", host="s.test", tunnel="s.test:80", connect=(user("s", "some"),))


@given(
    st.sampled_from([CALLERS, CALLERS, None]),
    st.lists(requests(), min_size=1, max_size=4),
    st.sampled_from([("s.test",), ("up.test",), ()]),
    st.booleans(),
)
@example(CALLERS, [NAMED, replace(NAMED, fields=("Sidekey-Token: none",))], (), False)
@example(CALLERS, [NAMED, replace(NAMED, host="b.test")], (), False)
@example(None, [replace(NAMED, connect=(user("s", ""),))], (), False)
@example(CALLERS, [Request("http://s.test/api/a", fields=(user("s", "some"),)), NAMED], (), False)
@example(CALLERS, [Request("/p/hook", fields=(f"Sidekey-Token: {each}",)) for each in ("some", "none")], (), True)
@example(None, [Request("/p/hook"), Request("/p/hook", fields=("X-Integration-Id: k",))], (), False)
@example(CALLERS, [Request("http://up.test/api/a", fields=(user("h", each),)) for each in ("some", "none")], (), False)
@example(CALLERS, [replace(NAMED, target="http://s.test/api/a", fields=("Sidekey-Token: none",))], ("s.test",), False)
@example(CALLERS, [Request("/i/h/a", fields=(f"Sidekey-Token: {each}",)) for each in ("some", "none")], (), False)
@example(CALLERS, [Request("/i/h/a", fields=(user("k", "all"), "Sidekey-Token: all"))], (), False)
@example(None, [Request("/i/h/a"), Request("/i/h/a", fields=("Origin: https://a.test",))], (), False)
@example(None, [Request("/i/h/a"), Request("/i/h/a", fields=(user("k", ""),))], (), False)
@example(None, [Request("http://up.test/k/a", each, fields=(user("k", ""),)) for each in ("POST", "GET")], (), False)
@example(CALLERS, [Request("http://up.test/api/a", fields=(user("h", "all"), "Sidekey-Token: some"))], (), False)
def test_quick_and_full_reading_agree(
    callers: dict[bytes, Caller] | None, sent: list[Request], hosts: tuple[str, ...], is_removed: bool
) -> None:
    """Before and after a reload that narrows `ca.hosts` and may remove a caller, also in tunnels opened before it."""
    first = replace(Scripted(*INTEGRATIONS, presets=PRESETS).snapshot, callers=callers, ca=CaRules(hosts=("s.test",)))
    left = callers and {key: each for key, each in callers.items() if not is_removed or each.name != "some"}
    snapshots = [first, replace(first, callers=left, ca=CaRules(hosts=hosts))]

    async def main() -> None:
        sidekey = serving(first)
        tunnels = [[[await opened(sidekey, each) for _ in range(2)] for each in sent] for _ in snapshots]
        for snapshot, connections in zip(snapshots, tunnels, strict=True):
            sidekey.plane.prepare(snapshot)()
            use(sidekey)
            for request, pair in zip(sent, connections, strict=True):
                expected = await read_in_full(first, snapshot, request)
                assert [await result(sidekey, each, request) for each in pair] == [expected] * 2
        assert sidekey.defects == []

    asyncio.run(main())


def serving(snapshot: Snapshot) -> Scripted:
    sidekey = Scripted(*INTEGRATIONS, presets=PRESETS, leaves=Leaves())
    sidekey.plane.prepare(snapshot)()
    return sidekey


def use(sidekey: Scripted) -> None:
    """Let the quick reading know the integrations and the listener's host, as earlier requests do."""
    for each in INTEGRATIONS:
        sidekey.plane.index.find(each.id.encode())
    sidekey.plane.index.is_own_host(b"h.test")


async def read_in_full(first: Snapshot, snapshot: Snapshot, request: Request) -> tuple[bytes, bytes]:
    """Return the result of a plane that has used no integration of its snapshot."""
    sidekey = serving(first)
    caller = await opened(sidekey, request)
    unknown = {name: replace(each) for name, each in snapshot.integrations.items()}
    sidekey.plane.prepare(replace(snapshot, integrations=unknown))()
    return await result(sidekey, caller, request)


async def opened(sidekey: Scripted, request: Request) -> RecordingTransport:
    """Connect as a caller, and open the request's tunnel if it has one."""
    caller = sidekey.caller()
    if request.tunnel:
        caller.feed(head(f"CONNECT {request.tunnel}", request.tunnel, request.connect))
        await settle()
        if not caller.take().startswith(b"HTTP/1.1 200 "):
            return sidekey.caller()
    return caller


async def result(sidekey: Scripted, caller: RecordingTransport, request: Request) -> tuple[bytes, bytes]:
    """Send a request and return the response and the bytes at the upstream, without IDs."""
    caller.feed(request.written())
    await settle()
    written = b""
    for upstream in sidekey.upstreams:
        if data := upstream.take():
            assert not written
            written = data
            upstream.feed(OK)
    await settle()
    changing = re.compile(rb"[0-9a-f]{8}-[0-9a-f]+|Content-Length: \d+|\([0-9a-f]{8}\)")
    return changing.sub(b"", caller.take()), changing.sub(b"", written)
