"""One request and its answer, from the parsed head to the last byte: who waits for whom, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.core.framing import CHUNKED
from sidekey.core.headers import Role
from sidekey.dataplane import answers
from sidekey.dataplane.admission import admit, allowed_methods
from sidekey.dataplane.deadlines import NEVER
from sidekey.dataplane.gathering import fill, gather
from sidekey.dataplane.granting import begin, proceed
from sidekey.dataplane.outbound import request_head
from sidekey.dataplane.renewal import stays_back
from sidekey.dataplane.resend import send_again
from sidekey.errors import CALLER_GONE, Problem
from sidekey.settings.snapshot import NOBODY

if TYPE_CHECKING:
    from sidekey.credentials.base import Grant
    from sidekey.dataplane.lane import Lane, Route
    from sidekey.dataplane.listener import CallerConnection
    from sidekey.dataplane.renewal import Held
    from sidekey.dataplane.upstream import UpstreamConnection

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"})
"""RFC 9110 9.2.2, of the methods whose servers are known to keep it."""

_CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")
_CLOSING = frozenset({"request_invalid", "request_too_large", "request_timeout", "not_implemented", "door_denied"})
"""After these answers the connection closes: what a caller means by its next bytes is in doubt."""
_CLOSE = b"\r\nConnection: close\r\n\r\n"
_KEEP_ALIVE = b"\r\nConnection: keep-alive\r\n\r\n"


class Exchange:
    """One exchange. The listener fills the request in, `begin` sets it going, `finish` counts it, once."""

    __slots__ = (
        "answer_complete",
        "awaits_connection",
        "began",
        "body",
        "caller",
        "caller_blocked",
        "chunked_out",
        "complete",
        "deadline",
        "door",
        "ending",
        "expects_continue",
        "fault",
        "finished",
        "gathering",
        "grant",
        "held",
        "hop_by_hop",
        "host",
        "http_1_1",
        "keep_alive",
        "kept",
        "lane",
        "last_hop",
        "length",
        "length_given",
        "lines",
        "marks",
        "method",
        "names",
        "path",
        "plane",
        "received",
        "replay",
        "replayed",
        "retried",
        "route",
        "seen",
        "sent",
        "status",
        "target",
        "uploading",
        "upstream",
    )

    # Set by admission; an exchange that fails before it has none.
    lane: Lane
    route: Route
    path: bytes
    grant: Grant
    began: float
    deadline: float

    def __init__(self, caller: CallerConnection) -> None:
        self.caller = caller
        self.plane = caller.plane
        self.target = b""
        self.method = b""
        self.lines: list[bytes] = []
        self.names: list[bytes] = []
        self.body: list[bytes] = []
        self.host: bytes | None = None
        self.marks: dict[Role, bytes] | None = None
        self.hop_by_hop: bytes | None = None
        self.length = 0
        self.length_given = False
        self.received = self.seen = 0
        self.sent = 0
        self.status = 0
        self.http_1_1 = True
        self.keep_alive = False
        self.complete = False
        self.uploading = False
        self.last_hop = False
        self.answer_complete = False
        self.awaits_connection = False
        self.caller_blocked = False
        self.chunked_out = False
        self.expects_continue = False
        self.finished = False
        self.fault: Problem | None = None
        self.upstream: UpstreamConnection | None = None
        self.replay: bytes | None = None
        self.kept: list[bytes] | None = None
        self.replayed = self.retried = False
        self.held: Held | None = None
        self.gathering = False
        self.door = "reverse"
        self.ending = b""

    # The way to the upstream.

    def begin(self) -> None:
        """Admit the request and send it on, or answer it. The whole read that completed its head has been parsed."""
        plane = self.plane
        self.began = plane.clock()
        metrics = plane.metrics
        metrics.in_flight += 1
        fault = self.fault or admit(self)
        if fault is not None:
            self.fail(fault)
            return
        if self.last_hop:
            self.answer_as_last_hop()
            return
        if metrics.in_flight > plane.in_flight_limit:
            self.fail(
                Problem("overloaded", "the limit of requests in flight is reached", headers=(("Retry-After", "1"),))
            )
            return
        if plane.timeouts.total:
            self.deadline = plane.deadlines.now + plane.timeouts.total
            plane.deadlines.watched.add(self)
        lane = self.lane
        grant = lane.source.grant
        if grant is None or lane.involved:
            begin(self)
            return
        self.grant = grant
        self.dispatch()

    def dispatch(self) -> None:
        """Find a connection, or wait for one."""
        pool = self.route.pool
        # What was refused goes out by a new connection: the refusal may have been the last answer of its own.
        connection = None if self.replayed else pool.take()
        if connection is not None:
            self.send(connection)
            return
        self.awaits_connection = True
        if not self.complete:
            self.caller.hold_body()
        pool.enqueue(self)

    def send(self, connection: UpstreamConnection) -> None:
        """Write the head and what has arrived of the body, in one piece."""
        self.awaits_connection = False
        self.upstream = connection
        connection.exchange = self
        body = self.body
        lane = self.lane
        if lane.watched:
            self.kept = list(body) if self.received <= self.plane.limits.replay_body else None
        if lane.places.body:
            body = [fill(self, b"".join(body))]
        pieces = request_head(self)
        if body:
            if self.length == CHUNKED:
                pieces += self._chunk(body)
            else:
                pieces += body
            self.body = []
        self.uploading = not self.complete
        if self.complete:
            if self.length == CHUNKED:
                pieces.append(b"0\r\n\r\n")
            data = b"".join(pieces)
            self.replay = None if self.retried else data
            connection.transport.write(data)
            connection.await_answer()
        else:
            # A reused connection still has the deadline of its idleness; the write may set another.
            connection.deadline = NEVER
            connection.transport.write(b"".join(pieces))
            if not connection.full:
                self.caller.release_body()

    @staticmethod
    def _chunk(body: list[bytes]) -> list[bytes]:
        return [b"%x\r\n" % sum(map(len, body)), *body, b"\r\n"]

    def upload(self) -> None:
        """More of the body has arrived, or its end."""
        if self.gathering:
            if gather(self):
                self.uploading = False
                proceed(self, judged=False)
            return
        connection = self._attached()
        if connection is None or connection.transport.is_closing():
            return
        body = self.body
        self.uploading = not self.complete
        if self.kept is not None:
            self.kept += body
            if self.received > self.plane.limits.replay_body:
                self.kept = None
        if self.length == CHUNKED:
            if body:
                body = self._chunk(body)
            if self.complete:
                body.append(b"0\r\n\r\n")
        self.body = []
        if body:
            connection.transport.write(body[0] if len(body) == 1 else b"".join(body))
        if self.complete:
            connection.await_answer()

    def retry(self) -> bool:
        """Send an idempotent request again, once, after a reused connection closed before a byte of answer."""
        data = self.replay
        if data is None or self.method not in IDEMPOTENT or self.finished:
            return False
        self.retried = True
        self.replay = self.upstream = None
        self.plane.spawn(send_again(self, data))
        return True

    # The way back.

    def answered(self, status: int, length: int) -> None:
        """The answer's head has come: decide how its body is framed towards the caller and whether he may go on."""
        self.status = status
        if not self.complete or self.plane.draining:
            # An early answer: what is still to come of the request cannot be told from a next one (RFC 9112 9.3).
            self.keep_alive = False
        if length < 0:
            if self.http_1_1:
                self.chunked_out = True
            else:
                self.keep_alive = False
        via = self.plane.via
        if not self.keep_alive:
            self.ending = via + _CLOSE
        else:
            self.ending = self.plane.via_and_end if self.http_1_1 else via + _KEEP_ALIVE

    def deliver(self, data: bytes) -> None:
        """Write a piece of the answer to the caller."""
        self.sent += len(data)
        caller = self.caller
        caller.answering = True
        caller.transport.write(data)

    def end_unframed(self) -> None:
        """The answer ended with the upstream's connection, in order."""
        self.answer_complete = True
        if self.chunked_out:
            self.deliver(b"0\r\n\r\n")

    def fail(self, fault: Problem) -> None:
        """End with an answer of our own, or cut an answer that has begun, so that it never looks complete."""
        if self.finished:
            return
        sent = fault.sent if self.upstream is None else "maybe"
        self.drop_upstream()
        self.held = None
        if self.caller.answering:
            self._end(fault.code)
            self.caller.close(cut=True)
            return
        close = not (self.complete and self.keep_alive and self.http_1_1) or fault.code in _CLOSING
        close = close or self.plane.draining
        self.keep_alive = not close
        self.status = fault.status
        lane = self._lane()
        self.deliver(
            answers.problem(
                fault,
                integration=None if lane is None or lane.name == NOBODY else lane.name,
                sent=sent,
                close=close,
                head=self.method == b"HEAD",
                via=self.plane.via,
            )
        )
        self._end(fault.code)
        self.caller.exchange_over(self)

    def answer_as_last_hop(self) -> None:
        """Answer an OPTIONS request that may go no further."""
        self.status = 204
        self.keep_alive = self.keep_alive and self.complete and self.http_1_1 and not self.plane.draining
        allow = allowed_methods(self.lane.integration.policy).encode()
        self.deliver(answers.options(allow=allow, close=not self.keep_alive, via=self.plane.via))
        self.finish()

    def finish(self) -> None:
        """The answer has come whole, and is delivered unless it was held back and asks for a replay."""
        if self.held is not None and stays_back(self, self.held):
            return
        if not self.finished:
            self.upstream = None
            self._end("")
            self.caller.exchange_over(self)

    def caller_lost(self) -> None:
        """The caller has left: nothing more is done for him."""
        if not self.finished:
            self.drop_upstream()
            self._end(CALLER_GONE)

    def drop_upstream(self) -> None:
        """Part from the upstream; a connection that still carries this exchange is cut."""
        self.awaits_connection = False
        if (connection := self._attached()) is not None:
            connection.abort()
        self.upstream = None

    def expired(self) -> None:
        """The whole exchange has taken longer than timeouts.total."""
        self.fail(Problem("upstream_timeout", "the exchange took longer than timeouts.total", sent="maybe"))

    def _end(self, code: str) -> None:
        self.finished = True
        plane = self.plane
        plane.metrics.in_flight -= 1
        if plane.draining:
            plane.note_end()
        if plane.timeouts.total:
            plane.deadlines.watched.discard(self)
        seconds = plane.clock() - self.began
        status = self.status
        lane = self._lane()
        stats = plane.metrics.unknown if lane is None else lane.stats
        stats.record(code or _CLASSES[status // 100], seconds)
        access = plane.access
        if access.every or (access.errors and (code or status >= 400)):
            plane.log(self, lane, code, seconds)

    def _lane(self) -> Lane | None:
        return getattr(self, "lane", None)

    # Backpressure, one direction each.

    def upstream_full(self) -> None:
        """The upstream takes no more of the body for now."""
        self.caller.hold_body()

    def upstream_drained(self) -> None:
        """The upstream takes more."""
        self.caller.release_body()

    def caller_full(self) -> None:
        """The caller takes no more of the answer for now."""
        self.caller_blocked = True
        if (connection := self._attached()) is not None:
            connection.hold()

    def caller_drained(self) -> None:
        """The caller takes more."""
        self.caller_blocked = False
        if not (self.held and self.held.weighed) and (connection := self._attached()) is not None:
            connection.resume()

    def _attached(self) -> UpstreamConnection | None:
        """The connection that carries this exchange now."""
        connection = self.upstream
        return connection if connection is not None and connection.exchange is self else None
