"""Cost of the worst hostile request that a search finds, until it is forwarded or refused (row `worst`)."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from benchmarks.core import BASIC, RESPONSE, WarmSource, Wire
from sidekey.certificates.leaves import Leaves
from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.network.dial import Dialer
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.observe.writer import LineWriter
from sidekey.policy.targets import Domain, Forbidden, Policy, parse_prefix
from sidekey.proxy.data_plane import DataPlane
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, NetworkRules, Snapshot

SEED = 11
CANDIDATES = 1500
"""Requests of each kind that are tried."""
FINALISTS = 12
ROUNDS = 15

TARGET = 16 << 10
HEAD = 64 << 10
FIELDS = 200
BODY = 64 << 10
"""The limits that count by default."""

ORIGIN = "http://upstream.test:8081"
PREFIXES = 50
NAME = "access_token"

# What the parts of a target are made of; each spells something that some server reads as something else.
SEPARATORS = ("/", "//", "/;", "/../", "/a", "/.a", "/a.", "/a;b", "//;", "/a:b", "/a/b;c//d//")
ENCODED = tuple(f"%{code:02x}" for code in b"./\\;?%A ")
FOREIGN = (
    *("%d0%b0", "%e8%aa%aa", "%ef%bc%8e", "%ef%bc%8f", "%ef%bc%bc", "%ef%b7%ba", "%e3%8c%96", "%e2%81%97", "%c2%bd"),
    *("%e2%88%95", "%cc%81", "%cd%84", "%f0%9d%85%9e", "%e3%80%80", "%e0", "%e0%a0", "%f0%90", "%f5", "%f5%80", "%e9"),
)
WIDE = ("%25u002e", "%2525u002f", "%25uff0e", "%25ud83d%25ude00", "%25u", "%25a", "%25%2534%2531")
PATH = (*SEPARATORS, *ENCODED, *FOREIGN, *WIDE, *(text.replace("%", "%25") for text in (*ENCODED, *FOREIGN)), "a", ".")
DEEP = tuple(text.replace("%", "%" + "25" * times) for text in ENCODED for times in (2, 5))
"""Each escape that is encoded once more needs one more round, in which the whole text is decoded and folded."""
FIELDS_OF_A_QUERY = (
    *("&", ";", "=", "&a", "&a=", "&+", "&[", "+++", NAME, f"{NAME}=", f"+{NAME}+", "acces", "&%61", "&%2561", "%26"),
    *(
        "&%25252561",
        "%2526",
        "%252526",
        "&%c5%bf",
        "&a%c5%bf=1",
        "&%ef%b7%ba=",
        "&%e3%8c%96",
        "&%25u0061",
        "%2525u0061",
    ),
)
QUERY = (*FIELDS_OF_A_QUERY, *FOREIGN, *WIDE, *DEEP)


class HostileWire(Wire):
    """A transport that a connection can close, pause and resume, without effect."""

    def close(self) -> None:
        """Do nothing."""
        return

    abort = close
    write_eof = close
    pause_reading = close
    resume_reading = close

    def can_write_eof(self) -> bool:
        """Return True, as a TCP transport does."""
        return True

    def get_write_buffer_size(self) -> int:
        """There is no buffer."""
        return 0


def _integrations() -> dict[str, Integration]:
    """Build integrations of each type: many prefixes, forbidden targets, a token in query or body."""
    prefixes = [parse_prefix(f"{ORIGIN}/api/v{number}") for number in range(PREFIXES)]
    base = parse_prefix(f"{ORIGIN}/api")
    odd = parse_prefix(f"{ORIGIN}/a%20b;c")
    header = InjectionPoints(headers=("Authorization",))
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    forbidden = tuple(Forbidden(base.origin, f"/oauth2/token{number}") for number in range(PREFIXES))
    shapes = (Forbidden(None, "/rest/api/*/auth", below=True), Forbidden(None, "/oauth2/token"))
    one = Integration("one", "basic", Policy(prefixes=(base,)), base, secrets, CredentialTraits(header))
    return {
        built.id: built
        for built in (
            one,
            replace(one, id="many", policy=Policy(prefixes=(base, *prefixes), forbidden=forbidden)),
            replace(one, id="apart", policy=Policy(prefixes=tuple(prefixes)), base=prefixes[-1]),
            replace(one, id="odd", policy=Policy(prefixes=(odd,), path=odd.path), base=odd),
            replace(one, id="domain", policy=Policy(domains=(Domain(base.origin),), forbidden=shapes)),
            replace(one, id="query", traits=CredentialTraits(InjectionPoints(query=(NAME,)))),
            replace(one, id="body", traits=CredentialTraits(InjectionPoints(body=(NAME,)))),
        )
    }


@dataclass
class Bench:
    """A data plane with an open upstream connection, and the results so far."""

    plane: DataPlane
    connection: UpstreamConnection
    upstream: HostileWire

    @classmethod
    def make(cls) -> Bench:
        """Build a plane of all integrations, without a log."""
        integrations = _integrations()
        plane = DataPlane(
            Snapshot(integrations=integrations),
            source_of=lambda _: WarmSource(BASIC),
            identity_of=lambda _: None,
            dialer=Dialer(NetworkRules()),
            metrics=Metrics(),
            access=AccessLog(LineWriter(os.open(os.devnull, os.O_WRONLY)), "errors", False),
            audit=AuditLog(LineWriter(os.open(os.devnull, os.O_WRONLY)), "off"),
            leaves=Leaves(Metrics(), repr),
            report=lambda defect, _: repr(defect),
        )
        for name in integrations:
            plane.router.find(name.encode())
        compiled = plane.router.find(b"one")
        assert compiled is not None
        (pool,) = compiled.pools()
        upstream = HostileWire()
        connection = UpstreamConnection(plane.worker, pool)
        connection.connection_made(cast(asyncio.Transport, upstream))
        pool.offer(connection)
        return cls(plane, connection, upstream)

    def send(self, request: bytes) -> tuple[float, bytes, bytes]:
        """Return the CPU ms until the request is forwarded or refused, and the bytes to the upstream and the caller."""
        caller = HostileWire()
        downstream = self.plane.connection()
        downstream.connection_made(cast(asyncio.Transport, caller))
        self.upstream.written = b""
        began = time.thread_time_ns()
        downstream.data_received(request)
        milliseconds = (time.thread_time_ns() - began) / 1e6
        if self.upstream.written:
            self.connection.data_received(RESPONSE)
        if not caller.written:
            raise RuntimeError(f"the request was neither forwarded nor refused: {request[:200]!r}")
        downstream.connection_lost(None)
        return milliseconds, self.upstream.written, caller.written

    def best(self, request: bytes, rounds: int) -> float:
        """Return the lowest CPU ms of some rounds."""
        return min(self.send(request)[0] for _ in range(rounds))


def _mixed(chance: random.Random, parts: tuple[str, ...], longest: int) -> str:
    """Mix these parts: one repeated, a few in turn, a few at random, or one before a mixture."""
    size = min(longest, chance.choice((200, 2_000, longest // 2, longest, longest)))
    few = [chance.choice(parts) for _ in range(chance.choice((1, 1, 2, 2, 3, 5, 8)))]
    sort = chance.randrange(3)
    if sort == 0:
        turn = "".join(few)
        text = turn * (size // len(turn) + 1)
    elif sort == 1:
        text = "".join(chance.choice(few) for _ in range(size // 3))
    else:
        end = "".join(chance.choice(parts) for _ in range(chance.randint(1, 24)))
        text = few[0] * ((size - len(end)) // len(few[0])) + end
    text = text[:size]
    # No escape may be cut: a target that is malformed as it was sent is refused at once.
    cut = text.rfind("%", len(text) - 2)
    return text if cut < 0 else text[:cut]


def _request(target: str, fields: list[bytes] | None = None, body: bytes | None = None) -> bytes:
    lines = ["POST" if body is not None else "GET", " ", target, " HTTP/1.1\r\nHost: 127.0.0.1:8080"]
    length = [] if body is None else [b"Content-Length: %d" % len(body)]
    head = b"\r\n".join(["".join(lines).encode("latin-1"), *(fields or []), *length, b"", b""])
    return head + (body or b"")


def targets(chance: random.Random) -> Iterator[bytes]:
    """Yield paths of all types: both proxies, one prefix or fifty, odd prefixes, domains, forbidden targets."""
    while True:
        name = chance.choice(("one", "many", "apart", "odd", "domain"))
        path = "/" + _mixed(chance, (*PATH, *DEEP), TARGET - 64).lstrip("/")
        if chance.random() < 0.3:
            place = chance.choice((f"/api/v{PREFIXES - 1}", "/api", "/a%20b;c", "/oauth2", ""))
            yield _request(f"{ORIGIN}{place}{path}", [b"X-Integration-Id: %b" % name.encode()])
        else:
            yield _request(f"/i/{name}{path}")


def queries(chance: random.Random) -> Iterator[bytes]:
    """Yield queries of all types, with and without a token in the query."""
    while True:
        name = chance.choice(("query", "query", "query", "many"))
        path = _mixed(chance, PATH, 60) if chance.random() < 0.2 else ""
        yield _request(f"/i/{name}/{path}?{_mixed(chance, QUERY, TARGET - 128)}")


def heads(chance: random.Random) -> Iterator[bytes]:
    """Yield heads at their limits: fields of all names, lists, naming fields, Host, authorities."""
    makers: tuple[Callable[[random.Random], bytes], ...] = (_many_fields, _long_list, _odd_naming, _odd_authority)
    while True:
        yield chance.choice(makers)(chance)


_ROOM = HEAD - 1_200
_NAMES = (
    *(b"A", b"x-a", b"X_A", b"Connection", b"Via", b"Expect", b"TE", b"Upgrade", b"Transfer-Encoding", b"Cookie"),
    *(b"Proxy-Connection", b"X-Forwarded-For", b"Sidekey-A", b"Proxy-A", b"Content_Length", b"Trailer", b"Keep-Alive"),
)


def _many_fields(chance: random.Random) -> bytes:
    """Build many fields, of known and invented names: up to the limit, beyond it, and a full head."""
    names = [chance.choice(_NAMES) for _ in range(chance.choice((1, 1, 2, 4)))]
    count = chance.choice((FIELDS - 8, FIELDS, 4 * FIELDS, _ROOM))
    invented = chance.random() < 0.4
    value = chance.choice((b"", b"a", b"100-continue", b"h2c", b"a," * 50, b"x" * (_ROOM // FIELDS - 40)))
    fields: list[bytes] = []
    room = _ROOM
    for number in range(count):
        name = chance.choice(names)
        if invented:
            name = chance.choice((b"X-%d-", b"x_%d_", b"Y%d" + b"-_" * 25)) % number + name
        field = b"%b: %b" % (name, value)
        room -= len(field) + 2
        if room < 0:
            break
        fields.append(field)
    return _request("/i/one/a", fields)


def _long_list(chance: random.Random) -> bytes:
    """Build a field that is a list of thousands."""
    name = chance.choice((b"Connection", b"Via", b"Expect", b"Upgrade", b"TE", b"X-Forwarded-For", b"Proxy-Connection"))
    member = chance.choice(
        (b"a,", b"a_b ,", b",", b" ,\t", b"sidekey,", b"1.1 a (sidekey),", b"close,", b"x-%d,", b"h2c,")
    )
    values = [member % number if b"%d" in member else member for number in range(_ROOM // len(member))]
    value = b"".join(values)[: _ROOM - 1_500]
    times = chance.choice((1, 1, 8, FIELDS - 8))
    size = len(value) // times
    others = [b"X-%d: 1" % number for number in range(chance.choice((0, 100)))]
    return _request(
        "/i/one/a", [*(b"%b: %b" % (name, value[at * size : (at + 1) * size - 24]) for at in range(times)), *others]
    )


def _odd_naming(chance: random.Random) -> bytes:
    """Build long IDs, tokens and proxy users."""
    size = chance.choice((60, 1_000, _ROOM))
    text = chance.choice((b"one", b"a", b":", b"\xff", b"one:")) * size
    user = b"Proxy-Authorization: Basic " + b64encode(text)[: _ROOM // 2 // 4 * 4]
    fields = [
        [user],
        [user.replace(b"Basic ", b"Basic" + b" " * 20_000)],
        [b"X-Integration-Id: " + text[:_ROOM]],
        [b"Sidekey-Token: " + text[: _ROOM // 2], user[: _ROOM // 3]],
        [b"Sec-Fetch-Site: " + text[:_ROOM]],
        [b"Max-Forwards: " + b"9" * min(size, _ROOM)],
        [b"Content-Length: " + b"0" * min(size, _ROOM)],
    ]
    target = chance.choice(("/i/one/a", f"{ORIGIN}/api/a", "/i/" + "a" * 1000 + "/b"))
    return _request(target, chance.choice(fields))


def _odd_authority(chance: random.Random) -> bytes:
    """Build absolute targets and Hosts with long and odd authorities."""
    part = chance.choice(
        ("a", "a.", "a-", "-", "1.", "1", "0x", ":", "[", "::1", "f:", "x" * 63 + ".", "a@", "0", "%41", "_")
    )
    size = chance.choice((40, 250, 2_000, TARGET - 40))
    text = (part * size)[:size] + chance.choice(("", "!", "]", ":", ":80", ":99999", ".", "-", "@"))
    if chance.random() < 0.5:
        scheme = chance.choice(("http://", "https://", "HTTP://", "http://[", "a+" * 3_000 + "://", ""))
        return _request((scheme + text)[: TARGET - 2] + "/", [b"X-Integration-Id: one"])
    host = (part * _ROOM)[: chance.choice((size, _ROOM))]
    return _request("/i/one/a").replace(b"127.0.0.1:8080", host.encode() + chance.choice((b"", b"]", b":80")))


def bodies(chance: random.Random) -> Iterator[bytes]:
    """Yield forms and JSON with a token, at limits.replay_body."""
    form, document = b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: application/json"
    while True:
        if chance.random() < 0.5:
            yield _request("/i/body/a", [form], _mixed(chance, QUERY, BODY).encode("latin-1"))
        else:
            yield _request("/i/body/a", [document], _document(chance))


def _document(chance: random.Random) -> bytes:
    """Build an object of many members, of deep values, or of long names."""
    member = chance.choice(
        ('"%d":1', '"a":%d', '"\\u0061%d":""', '"\ufdfa%d":0', '"\u3316":[]', '"a%d":{"b":{}}', '"%d":[[[[]]]]')
    )
    members: list[str] = []
    room = BODY - 40
    for number in range(BODY):
        text = member % number if "%d" in member else member
        room -= len(text.encode()) + 1
        if room < 0:
            break
        members.append(text)
    deep = chance.choice(("[", '{"a":')) * chance.choice((10, 900, 9_000))
    name = "\ufdfa" * (BODY // 3 - 10)
    return chance.choice((f"{{{','.join(members)}}}", f'{{"a":{deep}', f'{{"{name}":1}}')).encode()


SORTS: dict[str, Callable[[random.Random], Iterator[bytes]]] = {
    "target": targets,
    "query": queries,
    "head": heads,
    "body": bodies,
}


def worst(sort: str, candidates: int = CANDIDATES) -> tuple[float, bytes]:
    """Return the CPU ms of the worst request of a type that the search finds, and that request."""
    bench = Bench.make()
    generated = SORTS[sort](random.Random(SEED))
    tried = sorted(
        ((bench.best(request, 2), request) for request, _ in zip(generated, range(candidates), strict=False)),
        reverse=True,
    )
    return max((bench.best(request, ROUNDS), request) for _, request in tried[:FINALISTS])


def run(sorts: Sequence[str] = ("target", "query", "head")) -> dict[str, float]:
    """Return the CPU ms of the worst request of each type, and under `worst` the maximum."""
    gc.collect()
    gc.freeze()
    gc.disable()
    milliseconds = {sort: worst(sort)[0] for sort in sorts}
    return {**milliseconds, "worst": max(milliseconds.values())}


def main() -> None:
    """Print the worst requests."""
    gc.disable()
    for sort in SORTS:
        milliseconds, request = worst(sort)
        print(f"{sort:8} {milliseconds:6.2f} ms  {request[:90]!r} ... {request[-60:]!r}")


if __name__ == "__main__":
    main()
