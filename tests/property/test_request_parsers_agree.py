"""The fast and the full parser of requests agree, for every caller and proxy."""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.ca.authorities import CaRules
from sidekey.config.build.snapshot import build_matching
from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.callers import Caller
from sidekey.policy.targets import Policy, parse_domain, parse_prefix
from sidekey.snapshot.snapshot import Integration, Snapshot
from support.plane import FixedSource, integration, secrets_of
from support.presets import preset
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.upstream import OK

LOGIN = parse_prefix("https://login.l.test/api")
LEARNING = Integration(
    "l",
    "responsys",
    Policy(
        domains=tuple(map(parse_domain, ("https://login.l.test", "https://*.l.test"))),
        path="/api",
        placeholder_origin=LOGIN.origin,
    ),
    LOGIN,
    secrets_of(Grant()),
    CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, discovers_base_url=True),
)
GRANTS = [
    Grant(headers=(("Authorization", host),), base_url=f"https://{host}/api") for host in ("a.l.test", "b.l.test")
]
"""The grants before and after the reload, each with its base URL."""
INTEGRATIONS = (
    LEARNING,
    integration("h", "http://up.test/api", "https://up.test/api"),
    integration("k", "http://up.test/k", methods=["POST"]),
    replace(integration("s", "http://s.test/api"), stored=True),
    integration("m", "http://m.test/api"),
    integration("n", "http://m.test/n"),
)
PRESETS = (
    preset("hook", "http://up.test/api/hook"),
    preset("full", "http://up.test/api/full", body={"json": {"a": "{{a}}"}}, parameters={"a": {"type": "text"}}),
)
CALLERS = {
    sha256(caller.name.encode()).digest(): caller
    for caller in (
        Caller("all", None, None),
        Caller("some", frozenset({"h", "s", "m", "l"}), frozenset({"hook"})),
        Caller("none", frozenset(), frozenset({"full"})),
    )
}
TOKENS = [*["all", "some"] * 3, "none", "wrong", None]
IDS = [*["h", "s", "l"] * 3, "k", "x", None, None]
PATHS = [*["/api/a", "/api/a?b=c"] * 3, "/api", "/k/a", "/api/i/a", "/api/%2e%2e/x", "//api", "/i/h/a"]
METHODS = ["POST", "POST", "POST", "GET", "TRACE"]
EXTRA = ["Via: 1.1 other", "Via: 1.0 sidekey" + ", 1.1 sidekey" * 5, "Origin: https://a.test", "Expect: 100-continue"]


Result = tuple[bytes, bytes, Counter[tuple[str, str]]]


class Leaves:
    """Issues certificates for tunnels to any host. No request here begins TLS."""

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
    """Draw the headers with an integration ID and a token, in no, one or two places."""
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
    more = draw(st.sampled_from([(), (), ("X-Any: 1",), *((item,) for item in EXTRA)]))
    fields = (*draw(namings()), *more)
    way = draw(st.sampled_from(["reverse", "preset", "forward", "tunnel", "tunnel"]))
    if way == "reverse":
        name, host = (
            draw(st.sampled_from(["h", "h", "s", "l", "k", "x"])),
            draw(st.sampled_from(["h.test", "h.test", "b.test"])),
        )
        return Request(f"/i/{name}{path.removeprefix('/api')}", method, host, fields)
    if way == "preset":
        return Request(draw(st.sampled_from(["/p/hook", "/p/hook", "/p/full", "/p/x"])), method, "localhost", fields)
    host = draw(st.sampled_from(["up.test", "s.test", "m.test", "login.l.test", "a.l.test", "b.l.test"]))
    if way == "forward":
        return Request(f"http://{host}{path}", method, host, fields)
    own = draw(st.sampled_from([more, more, more, fields]))
    shown = draw(st.sampled_from([host, host, f"{host}:80", "b.test"]))
    target = draw(st.sampled_from([path, path, path, f"http://{host}{path}"]))
    return Request(target, method, shown, own, f"{host}:80", draw(namings()))


@dataclass(frozen=True)
class Config:
    """A config that loads. `callers` are the names of some of CALLERS; `sharing` adds an integration at m.test."""

    callers: tuple[str, ...] | None = ("all", "some", "none")
    hosts: tuple[str, ...] = ("s.test",)
    by_host: bool = False
    passing: bool = False
    sharing: bool = False

    def snapshot(self) -> Snapshot:
        served = INTEGRATIONS if self.sharing else INTEGRATIONS[:-1]
        scripted = ScriptedPlane(*served, presets=PRESETS, passing=self.passing)
        names = self.callers
        callers = None if names is None else {key: item for key, item in CALLERS.items() if item.name in names}
        matching = build_matching(scripted.snapshot.integrations, frozenset(self.hosts)) if self.by_host else None
        return replace(scripted.snapshot, callers=callers, ca=CaRules(hosts=self.hosts), matching=matching)


CONFIGS = st.builds(
    Config,
    st.sampled_from([("all", "some", "none"), ("all", "some", "none"), ("all",), None]),
    st.sampled_from([("s.test",), ("s.test",), ("up.test",), ()]),
    st.booleans(),
    st.sampled_from([False, False, True]),
    st.booleans(),
)
OPEN, NARROW = Config(None), Config(hosts=())
BY_HOST = Config(by_host=True)
NAMED = Request("/api/a", host="s.test", tunnel="s.test:80", connect=(user("s", "some"),))
UNNAMED = Request("/api/a", host="m.test", tunnel="m.test:80", connect=(user(None, "some"),))
DISCOVERED = Request("/api/a", host="a.l.test", tunnel="a.l.test:80", connect=(user("l", "some"),))
FORWARD = Request("http://m.test/api/a", fields=(user(None, "some"),))


def by_token(target: str) -> list[Request]:
    """Return a request with the token of a permitted caller, then one of another."""
    return [Request(target, fields=(f"Sidekey-Token: {item}",)) for item in ("some", "none")]


@given(CONFIGS, CONFIGS, st.lists(requests(), min_size=1, max_size=4))
@example(Config(), NARROW, [NAMED, replace(NAMED, fields=("Sidekey-Token: none",))])
@example(Config(), NARROW, [NAMED, replace(NAMED, host="b.test")])
@example(OPEN, replace(OPEN, hosts=()), [replace(NAMED, connect=(user("s", ""),))])
@example(Config(), NARROW, [Request("http://s.test/api/a", fields=(user("s", "some"),)), NAMED])
@example(Config(), Config(("all", "none")), by_token("/p/hook"))
@example(Config(), Config(), by_token("/i/h/a"))
@example(OPEN, OPEN, [Request("/p/hook"), Request("/p/hook", fields=("X-Integration-Id: k",))])
@example(Config(), Config(), [Request("http://up.test/api/a", fields=(user("h", item),)) for item in ("some", "none")])
@example(Config(), Config(), [replace(NAMED, target="http://s.test/api/a", fields=("Sidekey-Token: none",))])
@example(Config(), Config(), [Request("/i/h/a", fields=(user("k", "all"), "Sidekey-Token: all"))])
@example(OPEN, OPEN, [Request("/i/h/a"), Request("/i/h/a", fields=("Origin: https://a.test",))])
@example(OPEN, OPEN, [Request("/i/h/a"), Request("/i/h/a", fields=(user("k", ""),))])
@example(OPEN, OPEN, [Request("http://up.test/k/a", item, fields=(user("k", ""),)) for item in ("POST", "GET")])
@example(Config(), Config(), [Request("http://up.test/api/a", fields=(user("h", "all"), "Sidekey-Token: some"))])
@example(Config(), Config(), [Request("/i/h/a", fields=(user("k", "some"),))])
@example(BY_HOST, Config(), [UNNAMED, FORWARD, replace(FORWARD, fields=(user(None, "none"),))])
@example(BY_HOST, replace(BY_HOST, passing=True, sharing=True), [UNNAMED, FORWARD])
@example(BY_HOST, BY_HOST, [replace(FORWARD, target="http://s.test/api/a", fields=(user(None, "all"),))])
@example(Config(), Config(), [DISCOVERED])
@example(Config(), Config(), [replace(DISCOVERED, tunnel="login.l.test:80", host="login.l.test")])
@example(Config(), Config(), [replace(DISCOVERED, tunnel="b.l.test:80", host="b.l.test")])
def test_fast_and_full_parser_agree(config: Config, reloaded: Config, sent: list[Request]) -> None:
    """Before and after a reload and another grant, also in tunnels that were opened before it."""
    first = config.snapshot()

    async def main() -> None:
        source = FixedSource(GRANTS[0])
        sidekey = serving(first, source)
        snapshots = [first, reloaded.snapshot()]
        tunnels = [[[await opened(sidekey, item) for _ in range(2)] for item in sent] for _ in snapshots]
        for snapshot, connections, grant in zip(snapshots, tunnels, GRANTS, strict=True):
            sidekey.plane.prepare(snapshot)()
            source.grant = grant
            use(sidekey)
            for request, pair in zip(sent, connections, strict=True):
                expected = await parse_in_full(first, snapshot, request, grant)
                assert [await result(sidekey, item, request) for item in pair] == [expected] * 2
        assert sidekey.defects == []

    asyncio.run(main())


def serving(snapshot: Snapshot, source: FixedSource) -> ScriptedPlane:
    sidekey = ScriptedPlane(*INTEGRATIONS, presets=PRESETS, leaves=Leaves(), sources={"l": source})
    sidekey.metrics.prepare(snapshot)()
    sidekey.plane.prepare(snapshot)()
    return sidekey


def use(sidekey: ScriptedPlane) -> None:
    """Send earlier requests, so that the fast parser knows the integrations and the listener's host."""
    for item in INTEGRATIONS:
        sidekey.plane.router.find(item.id.encode())
    sidekey.plane.router.is_listener_host(b"h.test")


async def parse_in_full(first: Snapshot, snapshot: Snapshot, request: Request, grant: Grant) -> Result:
    """Return the result of a data plane that has served no integration of its snapshot yet."""
    source = FixedSource(GRANTS[0])
    sidekey = serving(first, source)
    caller = await opened(sidekey, request)
    source.grant = grant
    unknown = {name: replace(item) for name, item in snapshot.integrations.items()}
    sidekey.plane.prepare(replace(snapshot, integrations=unknown))()
    return await result(sidekey, caller, request)


async def opened(sidekey: ScriptedPlane, request: Request) -> RecordingTransport:
    """Connect as a caller, and open the request's tunnel, if it has one."""
    caller = sidekey.caller()
    if request.tunnel:
        caller.feed(head(f"CONNECT {request.tunnel}", request.tunnel, request.connect))
        await settle()
        if not caller.read().startswith(b"HTTP/1.1 200 "):
            return sidekey.caller()
    return caller


async def result(sidekey: ScriptedPlane, caller: RecordingTransport, request: Request) -> Result:
    """Send a request. Return the response and the upstream's bytes, both without IDs, and the counters."""
    counted = counts(sidekey)
    caller.feed(request.written())
    await settle()
    written = b""
    for upstream in sidekey.upstreams:
        if data := upstream.read():
            assert not written
            written = data
            upstream.feed(OK)
    await settle()
    changing = re.compile(rb"[0-9a-f]{8}-[0-9a-f]+|Content-Length: \d+|\([0-9a-f]{8}\)")
    return changing.sub(b"", caller.read()), changing.sub(b"", written), counts(sidekey) - counted


def counts(sidekey: ScriptedPlane) -> Counter[tuple[str, str]]:
    """Return the requests of callers and presets, by name and outcome."""
    metrics = sidekey.metrics
    series = [*metrics.callers.items(), *metrics.presets.items()]
    return Counter({(name, outcome): number for name, item in series for outcome, number in item.items()})
