"""Parse the requests of a caller: the callbacks of httptools, and the limits on heads, bodies and queued requests."""

from __future__ import annotations

from typing import ClassVar, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sidekey.errors import Problem
from sidekey.policy.framing import CHUNKED, KNOWN_LENGTHS
from sidekey.policy.headers import REQUEST_ROLES, FieldName, FieldNames, Role
from sidekey.policy.messages import RequestHead
from sidekey.proxy.connection import Connection
from sidekey.proxy.downstream import request_validation
from sidekey.proxy.downstream.certified_rules import CertifiedRules
from sidekey.proxy.downstream.request_validation import HEAD_TOO_LARGE, MALFORMED, BadRequest, invalid
from sidekey.proxy.transport import append_piece
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import RequestRules

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
    """One request as it arrives: its head, and the pieces of its body that its exchange has not taken yet.

    A CONNECT has no body. `rules` are the limits, timeouts and callers at the start of the request, or for a WebSocket
    handshake at its admission. `received` counts the bytes of the body. `complete` is True once the body has ended.
    `problem` is set if the request could not be read: Sidekey responds with it and never forwards the request.
    """

    __slots__ = ("_pieces", "complete", "head", "problem", "received", "rules")

    def __init__(self, head: RequestHead, rules: RequestRules) -> None:
        self.head = head
        self.rules = rules
        self.complete = False
        self.received = 0
        self.problem: Problem | None = None
        self._pieces: list[bytes] = []

    def replace_head(self, head: RequestHead) -> None:
        """Replace the head: by its absolute form in a tunnel, by that of a preset, or by one with another key."""
        self.head = head

    def pin(self, rules: RequestRules) -> None:
        """Use these rules, the current ones, instead of those at the start of the request."""
        self.rules = rules

    def replace(self, head: RequestHead, body: bytes) -> None:
        """Replace the head, and the body by a complete one."""
        self.head = head
        self._pieces = [body] if body else []

    def add(self, piece: bytes) -> None:
        """Add a piece of the body."""
        self.received += len(piece)
        append_piece(self._pieces, piece)

    def end(self) -> None:
        """Mark the body as complete."""
        self.complete = True

    def set_problem(self, problem: Problem) -> None:
        """Set the problem of a request that cannot be read to its end."""
        self.problem = problem
        self.complete = False

    def take_body(self) -> list[bytes]:
        """Return the pieces of the body that have arrived since the last call."""
        pieces = self._pieces
        if pieces:
            self._pieces = []
        return pieces


class RequestReader(Connection):
    """The parser of a caller's connection. It appends requests with a complete head to `_queue`.

    The callbacks only collect. `CallerConnection` acts on the requests once the whole read is parsed. `_backlog` is
    input that is not parsed yet, because too many requests wait.

    Heads: `_in_head` is True while a head is being parsed. The callbacks collect its parts in fields of this object,
    within the limits of `_rules`. `_last_name` is the name of its last field, from which `NAMES` guesses the next
    one. `_special_count` counts the fields that the proxy acts on, and their list members. If `_is_long`, each field
    is checked against the limit as it arrives.
    `_open_head` is the start of an incomplete head, with its request line, and is empty between heads. `_head_size`
    counts all bytes of that head. `_tail` is the end of the previous read, where the blank line after a head may begin.

    Bodies: `_reading` is the request whose body is being parsed. `_overhead` counts the bytes since the last body byte
    of a chunked body: chunk extensions and trailers. `_received_before` is the size of that body before the last piece.
    `_priming` is True while a fresh parser parses an artificial head, which the callbacks ignore.

    `certified` has the rules if the caller's TLS presented a client certificate.
    """

    __deletable__: ClassVar = ("_parser",)
    __slots__ = (
        "_backlog",
        "_connection",
        "_control_headers",
        "_fields",
        "_has_content_length",
        "_head_size",
        "_host",
        "_in_head",
        "_integration_id",
        "_is_long",
        "_last_name",
        "_length",
        "_method",
        "_names",
        "_open_head",
        "_overhead",
        "_parser",
        "_priming",
        "_proxy_authorization",
        "_queue",
        "_reading",
        "_received_before",
        "_rules",
        "_special_count",
        "_tail",
        "_target",
        "_token",
        "certified",
    )

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.certified: CertifiedRules | None = None
        self._queue: list[CallerRequest] = []
        self._reading: CallerRequest | None = None
        self._rules = worker.rules
        self._backlog = self._open_head = self._tail = b""
        self._head_size = self._overhead = self._received_before = 0
        self._is_long = False
        self._in_head = False
        self._priming = False
        self._last_name = _FIRST
        self._start_head(b"")
        self._reset_parser()

    def current_rules(self) -> RequestRules:
        """Return the rules for a request that begins now."""
        certified = self.certified
        return self.worker.rules if certified is None else certified.pin()

    def _start_head(self, target: bytes) -> None:
        self._target = target
        self._method = b""
        self._host: bytes | None = None
        self._fields: list[bytes] = []
        self._names: list[bytes] = []
        self._control_headers: dict[Role, bytes] | None = None
        self._connection: bytes | None = None
        self._token: bytes | None = None
        self._integration_id: bytes | None = None
        self._proxy_authorization: bytes | None = None
        self._length = self._special_count = 0
        self._has_content_length = False

    def _reset_parser(self) -> None:
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

    def _take_incomplete(self) -> CallerRequest:
        """Stop parsing the current request, and return the part of it that was read."""
        reading, self._reading = self._reading, None
        if reading is not None:
            return reading
        # The parser stops after a CONNECT, so this method belongs to the current request.
        is_connect = self._parser.get_method() == b"CONNECT"
        method = b"CONNECT" if is_connect else self._method if self._in_head else b""
        target, host = (self._target, self._host) if self._in_head else (b"", None)
        return CallerRequest(RequestHead(method, target, host, [], [], keep_alive=False), self._rules)

    def _parse_single_request(self, data: bytes) -> bool:
        """Parse a read that contains exactly one head, and a body or its beginning, as most reads do.

        Otherwise discard the result, make a fresh parser and return False. Raises HttpParserError.
        """
        queue = self._queue
        waiting = len(queue)
        size = len(data)
        self._head_size = 0
        if size > self.worker.rules.limits.request_head:
            if data.startswith(b"\r\n"):
                # An empty line before the request line (RFC 9112 2.2) does not count as part of the head.
                return False
            self._head_size = data.find(HEAD_END) + _HEAD_END_SIZE
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
                    # If it ended otherwise, the read would contain the start of another request.
                    return True
        del queue[waiting:]
        self._reading = None
        self._in_head = False
        self._reset_parser()
        return False

    def _parse_in_pieces(self, data: bytes) -> int:
        """Parse a read in pieces, each of which ends with a head or body, so that the bytes of each head are known.

        Return the offset after a head with an upgrade (a CONNECT, or one that is ignored), or -1. Raises
        HttpParserError.
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
                self._overhead = self._overhead + len(piece) if self._received_before == reading.received else 0
                self._received_before = reading.received
            start = end
        reading = self._reading
        is_open = self._open_head or (reading is not None and reading.head.length == CHUNKED)
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
        if not self._open_head:
            # Empty lines before a request line are ignored (RFC 9112 2.2).
            piece = piece.lstrip(b"\r\n")
            self._head_size = 0
        self._head_size += len(piece)
        if b"\n" not in self._open_head:
            self._open_head += piece

    def _check_limits(self) -> Problem | None:
        """Check the limits of an incomplete head, or of the trailers and chunk extensions so far."""
        if self._open_head:
            limits = self._rules.limits
            if self._head_size <= limits.request_head:
                return None
            is_target = self._in_head and len(self._target) > limits.target
            return request_validation.TARGET_TOO_LARGE if is_target else HEAD_TOO_LARGE
        reading = self._reading
        if reading is not None and self._overhead > reading.rules.limits.request_head:
            detail = "the trailers or chunk extensions are over limits.request_head"
            return Problem("request_too_large", detail, status=431)
        return None

    def _restart_after_upgrade(self) -> None:
        """Replace the parser after an upgrade, which Sidekey ignores (RFC 9110 7.8).

        llhttp stops after the head and considers the message complete. A fresh parser reads the body, after an
        artificial head that contains only the framing fields.
        """
        reading = self._reading
        self._reset_parser()
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

    def _has_too_many_heads(self, data: bytes) -> bool:
        """Return True if a read may contain more requests than `limits.pipelined`."""
        return self._body_left() < len(data) and data.count(HEAD_END) > self.worker.rules.limits.pipelined

    def _body_left(self) -> int:
        """Return the number of bytes of the current body that are still to come, or 0 if its length is unknown."""
        reading = self._reading
        return 0 if reading is None else max(0, reading.head.length - reading.received)

    def _take_backlog(self) -> bytes:
        """Take the next piece of the backlog: the rest of a body, or as many heads as may wait."""
        backlog = self._backlog
        left = self._body_left()
        if left:
            self._backlog = backlog[left:]
            return backlog[:left]
        end = -len(HEAD_END)
        for _ in range(self.worker.rules.limits.pipelined):
            end = backlog.find(HEAD_END, end + len(HEAD_END))
            if end < 0:
                self._backlog = b""
                return backlog
        end += len(HEAD_END)
        self._backlog = backlog[end:]
        return backlog[:end]

    # Callbacks of httptools.

    def on_url(self, url: bytes) -> None:
        if self._in_head:
            self._target += url
        elif not self._priming:
            self._in_head = True
            certified = self.certified
            self._rules = self.worker.rules if certified is None else certified.pin()
            self._overhead = self._received_before = 0
            self._start_head(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # A trailer must not be merged into the head (RFC 9110 6.5.1).
            return
        self._last_name = field_name = NAMES.read(name, self._last_name)
        role = field_name.role
        if role is _CONTENT_LENGTH:
            length = KNOWN_LENGTHS.get(value)
            self._length = request_validation.content_length(value) if length is None else length
            self._has_content_length = True
        elif role is _HOST:
            if self._host is not None:
                raise invalid("Host must not be given twice")
            self._host = value
        elif role is _FORWARD:
            self._fields.append(field_name.start + value)
            self._names.append(field_name.normal)
            if self._is_long and len(self._names) > self._rules.limits.headers:
                raise BadRequest(request_validation.TOO_MANY_FIELDS)
        else:
            self._add_special_field(field_name, value)

    def _add_special_field(self, field_name: FieldName, value: bytes) -> None:
        """Store a field that the proxy acts on. Raises BadRequest."""
        role = field_name.role
        self._special_count += 1 if role is _DROP else 1 + value.count(b",")
        if self._special_count > request_validation.MAX_MEMBERS:
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
            control_headers = self._control_headers
            if control_headers is None:
                control_headers = self._control_headers = {}
            if role in control_headers and role in request_validation.REPEATABLE:
                control_headers[role] += b"," + value.strip(b" \t")
            else:
                control_headers[role] = self._single(control_headers.get(role), role, value)
            if role in request_validation.FORWARDED:
                self._fields.append(field_name.start + value)
                self._names.append(field_name.normal)

    @staticmethod
    def _single(previous: bytes | None, role: Role, value: bytes) -> bytes:
        """Return the value of a header that a request may have only once. Raises BadRequest."""
        if previous is not None:
            raise invalid(f"{request_validation.ONCE[role]} must not be given twice")
        return value.strip(b" \t")

    def on_headers_complete(self) -> None:
        if self._priming:
            return
        # An idle connection must not keep memory for a name that the caller invented.
        self._last_name = _FIRST
        parser, rules, control_headers = self._parser, self._rules, self._control_headers
        self._method = method = parser.get_method()
        certified = self.certified
        keep_alive = parser.should_keep_alive() and (certified is None or not certified.is_ending)
        http_1_1 = True
        if not keep_alive or self._connection is not None:
            # A connection that persists without a Connection field speaks HTTP/1.1 (RFC 9112 9.3).
            version = parser.get_http_version()
            if version not in ("1.0", "1.1"):
                raise BadRequest(request_validation.OTHER_VERSION)
            http_1_1 = version == "1.1"
        if method == b"CONNECT":
            request_validation.check_connect(
                framed=self._has_content_length
                or (control_headers is not None and Role.TRANSFER_ENCODING in control_headers)
            )
        elif self._host is None and http_1_1:
            raise invalid("Host is missing")
        length = self._length
        if control_headers is not None:
            coding = control_headers.get(Role.TRANSFER_ENCODING)
            if coding is not None:
                length = request_validation.coded_length(
                    coding, has_content_length=self._has_content_length, http_1_1=http_1_1
                )
        head = RequestHead(
            method,
            self._target,
            self._host,
            self._fields,
            self._names,
            control_headers,
            self._connection,
            length,
            self._has_content_length,
            http_1_1,
            keep_alive,
            self._token,
            self._integration_id,
            self._proxy_authorization,
        )
        if control_headers is not None and Role.UPGRADE in control_headers:
            request_validation.check_upgrade(head, control_headers[Role.UPGRADE])
        request_validation.check_head(head, rules.limits)
        if self._head_size:
            if self._head_size > rules.limits.request_head:
                raise BadRequest(HEAD_TOO_LARGE)
            if self._open_head:
                request_validation.check_request_line(self._open_head, head)
                self._open_head = self._tail = b""
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
        if reading is not None and (reading.head.control_headers is None or not self._parser.should_upgrade()):
            reading.end()
            self._reading = None
