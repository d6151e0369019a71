"""Parse the requests of a caller: the callbacks of the parser, and the limits of what it may collect."""

from __future__ import annotations

from typing import ClassVar, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sidekey.errors import Problem
from sidekey.policy.framing import CHUNKED, KNOWN_LENGTHS
from sidekey.policy.headers import REQUEST_ROLES, FieldName, FieldNames, Role
from sidekey.policy.messages import RequestHead
from sidekey.proxy.connection import Connection
from sidekey.proxy.downstream import request_validation
from sidekey.proxy.downstream.request_validation import HEAD_TOO_LARGE, MALFORMED, BadRequest, invalid
from sidekey.proxy.transport import append_piece
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import Rules

NAMES: Final = FieldNames(REQUEST_ROLES)
_FIRST: Final = NAMES.first

HEAD_END: Final = b"\r\n\r\n"
_HEAD_END_SIZE: Final = len(HEAD_END)

# Looking up a member of an enum is slow, and these are compared for each header field.
_FORWARD: Final = Role.FORWARD
_HOST: Final = Role.HOST
_CONTENT_LENGTH: Final = Role.CONTENT_LENGTH
_CONNECTION: Final = Role.CONNECTION
_PROXY_CONNECTION: Final = Role.PROXY_CONNECTION
_DROP: Final = Role.DROP
_TOKEN: Final = Role.TOKEN
_INTEGRATION_ID: Final = Role.INTEGRATION_ID
_PROXY_AUTHORIZATION: Final = Role.PROXY_AUTHORIZATION


class CallerRequest:
    """One request as it arrives: its head, and the pieces of its body that no exchange has taken yet.

    A CONNECT has no body. `rules` are those of the request's start. `problem` is set if the request could not be read:
    it is answered and never forwarded.
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
        """Replace the head by an equivalent one, such as the absolute form of a head in a tunnel."""
        self.head = head

    def replace(self, head: RequestHead, body: bytes) -> None:
        """Replace the request by another one with a complete body."""
        self.head = head
        self._pieces = [body] if body else []

    def add(self, piece: bytes) -> None:
        """Add a piece of the body."""
        self.received += len(piece)
        append_piece(self._pieces, piece)

    def end(self) -> None:
        """Mark the body as complete."""
        self.complete = True

    def refuse(self, problem: Problem) -> None:
        """Record why the rest of the request cannot be read."""
        self.problem = problem
        self.complete = False

    def take(self) -> list[bytes]:
        """Return the pieces of the body that have arrived since the last call."""
        pieces = self._pieces
        if pieces:
            self._pieces = []
        return pieces


class RequestReader(Connection):
    """The parser of a caller's connection. It appends requests with a complete head to `_queue`.

    Callbacks of the parser only collect. The connection acts on them once the whole read is parsed.

    `_reading` is the request whose body is being parsed. `_in_head` is True while a head is being parsed. Its parts are
    collected here, with the limits in `_rules`. `_spelling` is the name of its last field. `_noted` counts the fields
    with a meaning to the proxy, and their list members. In a long head (`_is_long`) each field is checked against the
    limit as it comes.

    `_held` are bytes that the parser does not get yet, because enough requests wait. `_bodiless` counts chunk
    extensions and trailers: bytes without a part of the body.

    `_line` contains an incomplete head up to the end of its request line, or more, and is empty between heads. `_fed`
    counts the bytes of that head. `_tail` is the end of the previous read, where the end of a head may begin.
    """

    __deletable__: ClassVar = ("_parser",)
    __slots__ = (
        "_bodiless",
        "_connection",
        "_fed",
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
        self._queue: list[CallerRequest] = []
        self._reading: CallerRequest | None = None
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

    def _forget_parser(self) -> None:
        """Break the reference cycle between this object and the parser."""
        self._reading = None
        del self._parser

    def _problem_of(self, error: HttpParserError) -> Problem:
        """Return the problem for a parse error. httptools wraps the exception of a callback in its own.

        The method PRI is the preface of HTTP/2 (RFC 9113 3.4), where the parser stops.
        """
        cause = error.__context__
        if isinstance(cause, BadRequest):
            return cause.problem
        return request_validation.OTHER_VERSION if self._parser.get_method() == b"PRI" else MALFORMED

    def _unreadable(self) -> CallerRequest:
        """Take the request that is being parsed, as far as it was read."""
        reading, self._reading = self._reading, None
        if reading is not None:
            return reading
        # The parser stops after a CONNECT, so this is not the method of an earlier request.
        is_connect = self._parser.get_method() == b"CONNECT"
        method = b"CONNECT" if is_connect else self._method if self._in_head else b""
        target, host = (self._target, self._host) if self._in_head else (b"", None)
        return CallerRequest(RequestHead(method, target, host, [], [], keep_alive=False), self._rules)

    def _feed_one(self, data: bytes) -> bool:
        """Parse a read that contains exactly one request from its first byte, as most reads do.

        Return False, with a fresh parser, if the read may contain anything else. Raises HttpParserError.
        """
        queue = self._queue
        waiting = len(queue)
        size = len(data)
        self._fed = 0
        if size > self.worker.rules.limits.request_head:
            if data.startswith(b"\r\n"):
                # An empty line before the request line (RFC 9112 2.2) does not count as part of the head.
                return False
            self._fed = data.find(HEAD_END) + _HEAD_END_SIZE
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass
        else:
            if len(queue) == waiting + 1 and not self._in_head:
                head = queue[-1].head
                length = head.length
                version = data.find(b" HTTP/1.")
                if version != len(head.method) + 1 + len(head.target):
                    # llhttp has skipped bytes of the request line.
                    pass
                elif length > 0:
                    if self._reading is not None or data.find(HEAD_END, version) == size - length - _HEAD_END_SIZE:
                        return True
                elif self._reading is None and data.endswith(HEAD_END):
                    # Otherwise the read would end with the start of another request.
                    return True
        del queue[waiting:]
        self._reading = None
        self._in_head = False
        self._fresh_parser()
        return False

    def _feed_pieces(self, data: bytes) -> int:
        """Parse a read in pieces, each of which ends with a head or body, so that the bytes of each head are known.

        Return the offset behind an upgrade that is ignored, or -1. Raises HttpParserError.
        """
        start = 0
        while start < len(data):
            end = self._piece_end(data, start)
            piece = data[start:end]
            reading = self._reading
            if reading is None:
                self._add_to_head(piece)
            try:
                self._parser.feed_data(piece)
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
        """Return the end of the next piece: the end of a body of known length, else the next blank line.

        Heads and chunked bodies end with a blank line.
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
        """Check the limits of a head, trailers or chunk extensions that span several reads."""
        if self._line:
            limits = self._rules.limits
            if self._fed <= limits.request_head:
                return None
            is_target = self._in_head and len(self._target) > limits.target
            return request_validation.TARGET_TOO_LARGE if is_target else HEAD_TOO_LARGE
        reading = self._reading
        if reading is not None and self._bodiless > reading.rules.limits.request_head:
            detail = "the trailers or chunk extensions are over limits.request_head"
            return Problem("request_too_large", detail, status=431)
        return None

    def _pass_over_upgrade(self) -> None:
        """Continue after an upgrade that is ignored (RFC 9110 7.8).

        llhttp stops after the head and considers the message complete. A fresh parser reads the body, after a head that
        only has the framing fields.
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
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + HEAD_END)
        self._priming = False

    def _crowded(self, data: bytes) -> bool:
        """Return True if a read may contain more requests than may wait."""
        return self._body_left() < len(data) and data.count(HEAD_END) > self.worker.rules.limits.pipelined

    def _body_left(self) -> int:
        """Return the number of bytes that the current body still lacks, or 0 if its length is unknown."""
        reading = self._reading
        return 0 if reading is None else max(0, reading.head.length - reading.received)

    def _cut(self) -> bytes:
        """Take the next piece of the buffered input: the rest of a body, or as many heads as may wait."""
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
            self._start_head(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # A trailer must not be merged into the head (RFC 9110 6.5.1).
            return
        self._spelling = spelling = NAMES.read(name, self._spelling)
        role = spelling.role
        if role is _CONTENT_LENGTH:
            length = KNOWN_LENGTHS.get(value)
            self._length = request_validation.content_length(value) if length is None else length
            self._length_given = True
        elif role is _HOST:
            if self._host is not None:
                raise invalid("Host must not be given twice")
            self._host = value
        elif role is _FORWARD:
            self._fields.append(spelling.start + value)
            self._names.append(spelling.normal)
            if self._is_long and len(self._names) > self._rules.limits.headers:
                raise BadRequest(request_validation.TOO_MANY_FIELDS)
        else:
            self._note(spelling, value)

    def _note(self, spelling: FieldName, value: bytes) -> None:
        """Record a field with a meaning to the proxy. Raises BadRequest."""
        role = spelling.role
        self._noted += 1 if role is _DROP else 1 + value.count(b",")
        if self._noted > request_validation.MAX_MEMBERS:
            raise BadRequest(request_validation.TOO_MANY_MEMBERS)
        if role is _CONNECTION:
            self._connection = b"%b,%b" % (self._connection, value) if self._connection else value
        elif role is _PROXY_CONNECTION:
            # llhttp reads this as Connection, so its keep-alive no longer implies the version.
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
            if role in marks and role in request_validation.REPEATABLE:
                marks[role] += b"," + value.strip(b" \t")
            else:
                marks[role] = self._single(marks.get(role), role, value)
            if role in request_validation.FORWARDED:
                self._fields.append(spelling.start + value)
                self._names.append(spelling.normal)

    @staticmethod
    def _single(previous: bytes | None, role: Role, value: bytes) -> bytes:
        """Return the value of a header that a request has once. Raises BadRequest."""
        if previous is not None:
            raise invalid(f"{request_validation.ONCE[role]} must not be given twice")
        return value.strip(b" \t")

    def on_headers_complete(self) -> None:
        if self._priming:
            return
        # An idle connection must not keep a name that the caller invented.
        self._spelling = _FIRST
        parser, rules, marks = self._parser, self._rules, self._marks
        self._method = method = parser.get_method()
        keep_alive = parser.should_keep_alive()
        http_1_1 = True
        if not keep_alive or self._connection is not None:
            # A connection that persists without a Connection field speaks HTTP/1.1 (RFC 9112 9.3).
            version = parser.get_http_version()
            if version not in ("1.0", "1.1"):
                raise BadRequest(request_validation.OTHER_VERSION)
            http_1_1 = version == "1.1"
        if method == b"CONNECT":
            request_validation.check_connect(
                framed=self._length_given or (marks is not None and Role.TRANSFER_ENCODING in marks)
            )
        elif self._host is None and http_1_1:
            raise invalid("Host is missing")
        length = self._length
        if marks is not None:
            coding = marks.get(Role.TRANSFER_ENCODING)
            if coding is not None:
                length = request_validation.coded_length(coding, length_given=self._length_given, http_1_1=http_1_1)
            request_validation.check_upgrade(marks.get(Role.UPGRADE, b""))
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
        request_validation.check_head(head, rules.limits)
        if self._fed:
            if self._fed > rules.limits.request_head:
                raise BadRequest(HEAD_TOO_LARGE)
            if self._line:
                request_validation.check_line(self._line, head)
                self._line = self._tail = b""
        self._in_head = False
        self._reading = reading = CallerRequest(head, rules)
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
