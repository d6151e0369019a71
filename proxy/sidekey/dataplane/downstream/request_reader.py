"""Reads requests off a caller's bytes: the parser's callbacks, and the bounds of what the parser may gather."""

from __future__ import annotations

from typing import ClassVar, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sidekey.core.framing import CHUNKED, KNOWN_LENGTHS
from sidekey.core.headers import REQUEST_ROLES, Names, Role, Spelling
from sidekey.core.request import RequestHead
from sidekey.dataplane.buffers import append_piece
from sidekey.dataplane.connection import Connection
from sidekey.dataplane.downstream import request_rules
from sidekey.dataplane.downstream.request_rules import HEAD_TOO_LARGE, MALFORMED, BadRequest, invalid
from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem
from sidekey.runtime.rules import Rules

NAMES: Final = Names(REQUEST_ROLES)
_FIRST: Final = NAMES.first

HEAD_END: Final = b"\r\n\r\n"
_HEAD_END_SIZE: Final = len(HEAD_END)

# Members of an enum are looked up slowly; these are compared for every special field.
_FORWARD: Final = Role.FORWARD
_HOST: Final = Role.HOST
_CONTENT_LENGTH: Final = Role.CONTENT_LENGTH
_CONNECTION: Final = Role.CONNECTION
_PROXY_CONNECTION: Final = Role.PROXY_CONNECTION
_DROP: Final = Role.DROP
_TOKEN: Final = Role.TOKEN
_INTEGRATION_ID: Final = Role.INTEGRATION_ID
_PROXY_AUTHORIZATION: Final = Role.PROXY_AUTHORIZATION


class Request:
    """One request as it arrives: its head, and what has come of its body that nobody has taken yet.

    A CONNECT is one without a body; what follows its head is none of the requests here.

    `rules` are those of its start. `problem` is why it could not be read; such a request is answered and never sent on.
    """

    __slots__ = ("_pieces", "complete", "head", "problem", "received", "rules")

    def __init__(self, head: RequestHead, rules: Rules) -> None:
        self.head = head
        self.rules: Final = rules
        self.complete = False
        self.received = 0
        self.problem: Problem | None = None
        self._pieces: list[bytes] = []

    def restate(self, head: RequestHead) -> None:
        """Say the same by another head: the one that this stands for where it came in."""
        self.head = head

    def replace(self, head: RequestHead, body: bytes) -> None:
        """Stand for another request, the body of which is whole: what has come of this one's was taken."""
        self.head = head
        self._pieces = [body] if body else []

    def add(self, piece: bytes) -> None:
        """Add a piece of the body that has arrived."""
        self.received += len(piece)
        append_piece(self._pieces, piece)

    def end(self) -> None:
        """The body is whole."""
        self.complete = True

    def refuse(self, problem: Problem) -> None:
        """The rest of it cannot be read."""
        self.problem = problem
        self.complete = False

    def take(self) -> list[bytes]:
        """What has come of the body since the last time."""
        pieces = self._pieces
        if pieces:
            self._pieces = []
        return pieces


class RequestReader(Connection):
    """The parsing half of a caller's connection: requests whose head is whole are appended to `_queue`.

    `_reading` is the request whose body the parser is in; while it is in a head (`_in_head`), that head's parts are
    gathered here under `_rules`, and `_spelling` is that of its last field; `_noted` counts the fields that mean
    something to the proxy, and their members. In a long head (`_is_long`) fields are counted as they come. `_held` are
    bytes kept back from the parser while as many requests wait as may. `_bodiless` counts bytes that brought nothing of
    a body. Callbacks only gather; nothing is acted on before the read they come from has parsed.

    `_line` holds the bytes of an unfinished head, at least to the end of its request line, and is empty between heads.
    `_fed` counts the bytes of that head. `_tail` is the end of the previous read, where an end of a head may begin.
    """

    __deletable__: ClassVar = ("_feed", "_parser")
    __slots__ = (
        "_bodiless",
        "_connection",
        "_fed",
        "_feed",
        "_fields",
        "_held",
        "_host",
        "_in_head",
        "_integration_id",
        "_is_long",
        "_length",
        "_length_given",
        "_line",
        "_marks",
        "_method",
        "_names",
        "_noted",
        "_parser",
        "_priming",
        "_proxy_authorization",
        "_queue",
        "_reading",
        "_rules",
        "_seen",
        "_spelling",
        "_tail",
        "_target",
        "_token",
    )

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._queue: list[Request] = []
        self._reading: Request | None = None
        self._rules = worker.rules
        self._held = self._line = self._tail = b""
        self._fed = self._bodiless = self._seen = 0
        self._is_long = False
        self._in_head = False
        self._priming = False
        self._spelling = _FIRST
        self._start_head(b"")
        self._fresh_parser()

    def _start_head(self, target: bytes) -> None:
        self._target = target
        self._method = b""
        self._host: bytes | None = None
        self._fields: list[bytes] = []
        self._names: list[bytes] = []
        self._marks: dict[Role, bytes] | None = None
        self._connection: bytes | None = None
        self._token: bytes | None = None
        self._integration_id: bytes | None = None
        self._proxy_authorization: bytes | None = None
        self._length = self._noted = 0
        self._length_given = False

    def _fresh_parser(self) -> None:
        self._parser = HttpRequestParser(self)
        self._feed = self._parser.feed_data

    def _forget_parser(self) -> None:
        """Break the cycle: the parser holds this object's callbacks."""
        self._reading = None
        del self._parser, self._feed

    def _problem_of(self, error: HttpParserError) -> Problem:
        """What a read that does not parse is answered with: httptools hides a callback's exception behind its own.

        The parser reads no further than the preface of HTTP/2 (RFC 9113 3.4), whose method is no other's.
        """
        cause = error.__context__
        if isinstance(cause, BadRequest):
            return cause.problem
        return request_rules.OTHER_VERSION if self._parser.get_method() == b"PRI" else MALFORMED

    def _unreadable(self) -> Request:
        """The request that the parser is in, as far as it was read, out of its hands."""
        reading, self._reading = self._reading, None
        if reading is not None:
            return reading
        # A parser reads nothing after a CONNECT, so that this is never the method of a request before.
        is_connect = self._parser.get_method() == b"CONNECT"
        method = b"CONNECT" if is_connect else self._method if self._in_head else b""
        target, host = (self._target, self._host) if self._in_head else (b"", None)
        return Request(RequestHead(method, target, host, [], [], keep_alive=False), self._rules)

    def _feed_one(self, data: bytes) -> bool:
        """Feed a read that holds one request from its first byte, as most reads do.

        Return False, with nothing read, where the read may hold anything else. Raises HttpParserError.
        """
        queue = self._queue
        waiting = len(queue)
        size = len(data)
        self._fed = 0
        if size > self.worker.rules.limits.request_head:
            if data.startswith(b"\r\n"):
                # An empty line before the request line (RFC 9112 2.2) is no byte of the head.
                return False
            self._fed = data.find(HEAD_END) + _HEAD_END_SIZE
        try:
            self._feed(data)
        except HttpParserUpgrade:
            pass
        else:
            if len(queue) == waiting + 1 and not self._in_head:
                head = queue[-1].head
                length = head.length
                version = data.find(b" HTTP/1.")
                if version != len(head.method) + 1 + len(head.target):
                    # llhttp has skipped something on the line.
                    pass
                elif length > 0:
                    if self._reading is not None or data.find(HEAD_END, version) == size - length - _HEAD_END_SIZE:
                        return True
                elif self._reading is None and data.endswith(HEAD_END):
                    # A method that has begun behind it would be the end.
                    return True
        del queue[waiting:]
        self._reading = None
        self._in_head = False
        self._fresh_parser()
        return False

    def _feed_pieces(self, data: bytes) -> int:
        """Feed a read in pieces of which none has a head that begins inside: only so are a head's own bytes known.

        Return where an upgrade is passed over, or -1. Raises HttpParserError.
        """
        start = 0
        while start < len(data):
            end = self._piece_end(data, start)
            piece = data[start:end]
            reading = self._reading
            if reading is None:
                self._add_to_head(piece)
            try:
                self._feed(piece)
            except HttpParserUpgrade as upgrade:
                return start + cast(int, upgrade.args[0])
            if reading is not None and reading.head.length == CHUNKED:
                self._bodiless = self._bodiless + len(piece) if self._seen == reading.received else 0
                self._seen = reading.received
            start = end
        reading = self._reading
        is_open = self._line or (reading is not None and reading.head.length == CHUNKED)
        self._tail = (self._tail + data[1 - _HEAD_END_SIZE :])[1 - _HEAD_END_SIZE :] if is_open else b""
        return -1

    def _piece_end(self, data: bytes, start: int) -> int:
        """Return where the next piece ends: with the body whose length is known, else with the next blank line.

        Heads and bodies in chunks end with one as well.
        """
        left = self._body_left()
        if left:
            return min(start + left, len(data))
        if start == 0 and self._tail:
            across = (self._tail + data[: _HEAD_END_SIZE - 1]).find(HEAD_END)
            if across >= 0:
                return across + _HEAD_END_SIZE - len(self._tail)
        end = data.find(HEAD_END, start)
        return len(data) if end < 0 else end + _HEAD_END_SIZE

    def _add_to_head(self, piece: bytes) -> None:
        if not self._line:
            # Empty lines before a request line are ignored (RFC 9112 2.2).
            piece = piece.lstrip(b"\r\n")
            self._fed = 0
        self._fed += len(piece)
        if b"\n" not in self._line:
            self._line += piece

    def _over_bounds(self) -> Problem | None:
        """Bound what the parser gathers of a head, a trailer or a chunk extension over several reads."""
        if self._line:
            limits = self._rules.limits
            if self._fed <= limits.request_head:
                return None
            is_target = self._in_head and len(self._target) > limits.target
            return request_rules.TARGET_TOO_LARGE if is_target else HEAD_TOO_LARGE
        reading = self._reading
        if reading is not None and self._bodiless > reading.rules.limits.request_head:
            detail = "the trailers or chunk extensions are over limits.request_head"
            return Problem("request_too_large", detail, status=431)
        return None

    def _pass_over_upgrade(self) -> None:
        """Go on after an upgrade that is passed over (RFC 9110 7.8).

        llhttp stops after the head and takes the message for complete; a fresh parser, primed with the framing fields,
        reads the body.
        """
        reading = self._reading
        self._fresh_parser()
        if reading is None:
            return
        length = reading.head.length
        if not length:
            reading.end()
            self._reading = None
            return
        framing = b"Transfer-Encoding: chunked" if length == CHUNKED else b"Content-Length: %d" % length
        self._priming = True
        self._feed(b"POST / HTTP/1.1\r\n" + framing + HEAD_END)
        self._priming = False

    def _crowded(self, data: bytes) -> bool:
        """Whether a read may hold more requests than may wait."""
        return self._body_left() < len(data) and data.count(HEAD_END) > self.worker.rules.limits.pipelined

    def _body_left(self) -> int:
        """What is still to come of the body that the parser is in, where its length was given."""
        reading = self._reading
        return 0 if reading is None else max(0, reading.head.length - reading.received)

    def _cut(self) -> bytes:
        """The next piece of what was held back: the rest of a body, or no more heads than may wait."""
        held = self._held
        left = self._body_left()
        if left:
            self._held = held[left:]
            return held[:left]
        end = -len(HEAD_END)
        for _ in range(self.worker.rules.limits.pipelined):
            end = held.find(HEAD_END, end + len(HEAD_END))
            if end < 0:
                self._held = b""
                return held
        end += len(HEAD_END)
        self._held = held[end:]
        return held[:end]

    # httptools' callbacks.

    def on_url(self, url: bytes) -> None:
        if self._in_head:
            self._target += url
        elif not self._priming:
            self._in_head = True
            self._rules = self.worker.rules
            self._bodiless = self._seen = 0
            # Most callers ask for the same again: the hash of that object is known.
            self._start_head(self._target if url == self._target else url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # A trailer, dropped: it must not be merged into the head (RFC 9110 6.5.1).
            return
        self._spelling = spelling = NAMES.read(name, self._spelling)
        role = spelling.role
        if role is _CONTENT_LENGTH:
            length = KNOWN_LENGTHS.get(value)
            self._length = request_rules.content_length(value) if length is None else length
            self._length_given = True
        elif role is _HOST:
            if self._host is not None:
                raise invalid("Host must not be given twice")
            self._host = value
        elif role is _FORWARD:
            self._fields.append(spelling.start + value)
            self._names.append(spelling.normal)
            if self._is_long and len(self._names) > self._rules.limits.headers:
                raise BadRequest(request_rules.TOO_MANY_FIELDS)
        else:
            self._note(spelling, value)

    def _note(self, spelling: Spelling, value: bytes) -> None:
        """Note a field that means something to the proxy. Raises BadRequest."""
        role = spelling.role
        self._noted += 1 if role is _DROP else 1 + value.count(b",")
        if self._noted > request_rules.MOST_MEMBERS:
            raise BadRequest(request_rules.TOO_MANY_MEMBERS)
        if role is _CONNECTION:
            self._connection = b"%b,%b" % (self._connection, value) if self._connection else value
        elif role is _PROXY_CONNECTION:
            # Not a field of HTTP, but llhttp reads it as Connection, so keep-alive no longer tells the version.
            self._connection = self._connection or b""
        elif role is _TOKEN:
            self._token = self._single(self._token, role, value)
        elif role is _INTEGRATION_ID:
            self._integration_id = self._single(self._integration_id, role, value)
        elif role is _PROXY_AUTHORIZATION:
            self._proxy_authorization = self._single(self._proxy_authorization, role, value)
        elif role is not _DROP:
            marks = self._marks
            if marks is None:
                marks = self._marks = {}
            if role in marks and role in request_rules.REPEATABLE:
                marks[role] += b"," + value.strip(b" \t")
            else:
                marks[role] = self._single(marks.get(role), role, value)
            if role in request_rules.FORWARDED:
                self._fields.append(spelling.start + value)
                self._names.append(spelling.normal)

    @staticmethod
    def _single(previous: bytes | None, role: Role, value: bytes) -> bytes:
        """Return the value of a header that a request has once. Raises BadRequest."""
        if previous is not None:
            raise invalid(f"{request_rules.ONCE[role]} must not be given twice")
        return value.strip(b" \t")

    def on_headers_complete(self) -> None:
        if self._priming:
            return
        # An idle connection keeps no name that a caller invented, however long it is.
        self._spelling = _FIRST
        parser, rules, marks = self._parser, self._rules, self._marks
        self._method = method = parser.get_method()
        keep_alive = parser.should_keep_alive()
        http_1_1 = True
        if not keep_alive or self._connection is not None:
            # HTTP/1.1 is known without asking where a connection persists and no field said so (RFC 9112 9.3).
            version = parser.get_http_version()
            if version not in ("1.0", "1.1"):
                raise BadRequest(request_rules.OTHER_VERSION)
            http_1_1 = version == "1.1"
        if method == b"CONNECT":
            request_rules.check_connect(
                framed=self._length_given or (marks is not None and Role.TRANSFER_ENCODING in marks)
            )
        elif self._host is None and http_1_1:
            raise invalid("Host is missing")
        length = self._length
        if marks is not None:
            coding = marks.get(Role.TRANSFER_ENCODING)
            if coding is not None:
                length = request_rules.coded_length(coding, length_given=self._length_given, http_1_1=http_1_1)
            request_rules.check_upgrade(marks.get(Role.UPGRADE, b""))
        head = RequestHead(
            method,
            self._target,
            self._host,
            self._fields,
            self._names,
            marks,
            self._connection,
            length,
            self._length_given,
            http_1_1,
            keep_alive,
            self._token,
            self._integration_id,
            self._proxy_authorization,
        )
        request_rules.check_head(head, rules.limits)
        if self._fed:
            if self._fed > rules.limits.request_head:
                raise BadRequest(HEAD_TOO_LARGE)
            if self._line:
                request_rules.check_line(self._line, head)
                self._line = self._tail = b""
        self._in_head = False
        self._reading = reading = Request(head, rules)
        self._queue.append(reading)

    def on_body(self, chunk: bytes) -> None:
        reading = self._reading
        if reading is not None:
            reading.add(chunk)
            if reading.received > reading.rules.limits.request_body:
                raise BadRequest(Problem("request_too_large", "the body is over limits.request_body", sent="maybe"))

    def on_message_complete(self) -> None:
        reading = self._reading
        if reading is not None and (reading.head.marks is None or not self._parser.should_upgrade()):
            reading.end()
            self._reading = None
