"""TLS between the loop's TCP transport and a protocol, for clients and servers: `ssl.SSLObject` over memory BIOs.

The loop's own TLS cannot resume a session, decodes the peer's certificate at every handshake, takes 20 KiB more for
each connection, and reports a forged end of TCP differently in asyncio and uvloop. Here `eof_received` always means
close_notify (RFC 8446 6.1). A cut connection causes `connection_lost` only.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from contextlib import suppress
from typing import Any, cast

from sidekey.network.tls_sessions import ResumableSession, Sessions

_CHUNK = 64 << 10
"""Bytes read from or written to TCP at once. It bounds the memory BIOs, which grow but never shrink."""

_RECORD = 16 << 10
"""Maximum plaintext of one TLS record (RFC 8446 5.1)."""

MAX_EMPTY_RECORDS = 64
"""Records without data that a client may send: the handshake, key updates, attempts to renegotiate.

OpenSSL accepts any number of them. A key update that requests another takes 20 us: 0.8 s of CPU for a mebibyte. Real
clients send one in millions of records (RFC 8446 5.5).
"""

_PIECE = 1472
"""Bytes to decrypt at once if a read contains many records, so that a flood ends before the rest is decrypted."""

_HEADER = 5
"""Bytes of a record's header. The last two are the length of its content (RFC 8446 5.1)."""


class FloodError(ssl.SSLError):
    """The client sent too many records without data."""


class _Scratch(threading.local):
    """Buffers that all connections of a thread's loop share.

    A loop calls get_buffer, receives and calls buffer_updated without reading another socket in between. Decrypted
    bytes stay here until the next read overwrites them, as in the loop's own buffers.
    """

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(_CHUNK))
        # One read plus the start of an earlier record; `_read` needs space for a whole record at its end.
        self.plain = memoryview(bytearray(_CHUNK + 2 * _RECORD))


_SCRATCH = _Scratch()


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The protocol of a TCP transport, and the transport of `protocol`, which connects after the handshake.

    After the handshake `ready` resolves, or gets the OSError (ssl.SSLError) that ended it; the caller must retrieve
    that exception. `server_hostname` is verified, and sent as SNI unless it is an address. None makes this the server.
    """

    __slots__ = (
        "_backlog",
        "_cipher",
        "_closing",
        "_context",
        "_empty_records",
        "_ended",
        "_error",
        "_half_closed",
        "_handshake_done",
        "_header",
        "_incoming",
        "_next_record",
        "_not_reusable",
        "_offered_session",
        "_outgoing",
        "_plain",
        "_protocol",
        "_reading",
        "_ready",
        "_server",
        "_sessions",
        "_tcp",
        "_tls",
        "has_spoken",
    )

    _tcp: asyncio.Transport

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        server_hostname: str | None,
        sessions: Sessions | None,
        ready: asyncio.Future[None],
    ) -> None:
        super().__init__()
        self._protocol: asyncio.Protocol | None = protocol
        self._context = context
        self._sessions = sessions
        self._ready: asyncio.Future[None] | None = ready
        self._offered_session: ResumableSession | None = None if sessions is None else sessions.offer(context)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = context.wrap_bio(
            self._incoming,
            self._outgoing,
            # Bytes: a str would pass Python's IDNA codec, but the names of an Origin are already encoded.
            server_hostname=None if server_hostname is None else server_hostname.encode("ascii"),
            server_side=server_hostname is None,
            session=None if self._offered_session is None else self._offered_session.session,
        )
        self._cipher, self._plain = _SCRATCH.cipher, _SCRATCH.plain
        self._server = server_hostname is None
        self._handshake_done = self._not_reusable = self._ended = self._closing = self._half_closed = False
        self.has_spoken = False
        """True once the handshake has sent bytes. A server has then sent its certificate."""
        self._backlog = bytearray()
        # For a server: the number of records without data, the offset of the next record in the bytes to come, and the
        # part of its header that has arrived.
        self._empty_records = self._next_record = 0
        self._header = b""
        self._reading = True
        self._error: Exception | None = None

    # As the protocol of TCP.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._tcp = cast(asyncio.Transport, transport)
        self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's hint is not needed
        """Return the buffer that the loop receives into."""
        return self._cipher

    def buffer_updated(self, nbytes: int) -> None:
        """Process the received bytes."""
        self._process(self._cipher[:nbytes])

    def data_received(self, data: bytes) -> None:
        """Process bytes from before this became the protocol of TCP, or that another TLS transport decrypted."""
        remaining = memoryview(data)
        while remaining:
            self._process(remaining[:_CHUNK])
            remaining = remaining[_CHUNK:]

    def _process(self, data: memoryview) -> None:
        if self._tls is None or self._closing:
            return
        if self._half_closed:
            # Dropped undecrypted: the protocol only learns that bytes arrived.
            cast(asyncio.Protocol, self._protocol).data_received(b"")
            return
        if self._server and not self._count_records(data):
            return
        self._incoming.write(data)
        if self._handshake_done or (self._handshake() and self._incoming.pending):
            self._read()

    def _count_records(self, data: memoryview) -> bool:
        """Count the records that start in the client's bytes.

        Return False if there are so many that this method has processed the bytes itself, in pieces.
        """
        size = len(data)
        if self._next_record or self._header or size < _HEADER or size != _HEADER + (data[3] << 8 | data[4]):
            stream = self._header + bytes(data) if self._header else data
            count, next_record, header = _scan_records(stream, self._next_record)
            if count > MAX_EMPTY_RECORDS and size > _PIECE:
                for start in range(0, size, _PIECE):
                    if not self._is_closed():
                        self._process(data[start : start + _PIECE])
                return False
            self._next_record, self._header = next_record, header
        else:
            count = 1
        # `_read` subtracts the records with data.
        self._empty_records += count
        return True

    def _handshake(self) -> bool:
        """Continue the handshake. Return True if it is complete and the connection open."""
        tls = self._tls
        assert tls is not None  # noqa: S101 - for the type checker: callers have checked
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self.has_spoken |= self._outgoing.pending > 0
            self._flush()
            return False
        except ssl.SSLError as error:
            if self._sessions is not None:
                self._sessions.forget()
            self._fail(error)
            return False
        self._handshake_done = True
        cast(asyncio.Protocol, self._protocol).connection_made(self)
        ready, self._ready = self._ready, None
        if ready is not None and not ready.done():
            ready.set_result(None)
        # Flush after the waiter of `ready` has run: its request then leaves in one segment with our Finished.
        asyncio.get_running_loop().call_soon(self._flush)
        return not self.is_closing()

    def _read(self) -> None:
        """Decrypt all received records and pass their data to the protocol in one piece."""
        tls = self._tls
        assert tls is not None  # noqa: S101 - for the type checker: callers have checked
        incoming, plain = self._incoming, self._plain
        size = records = 0
        failure: ssl.SSLError | None = None
        has_ended = False
        try:
            # Each read takes a whole record, so OpenSSL buffers no data once the BIO is empty.
            while incoming.pending:
                # typeshed allows only bytearray, but any writable buffer works.
                count = cast(int, tls.read(_RECORD, cast(bytearray, plain[size:])))
                if not count:
                    has_ended = True
                    break
                size += count
                records += 1
        except ssl.SSLWantReadError:
            pass  # a partial record, or a handshake message: a ticket, a key update, a certificate request
        except ssl.SSLError as error:
            failure = error
        if self._server:
            failure = failure or self._check_flood(records)
        if self._backlog:
            self._write_backlog(tls)
        if self._outgoing.pending:
            self._flush()  # the backlog, or the reply to a key update or certificate request (RFC 8446 4.6)
        # Set before data_received: its caller may put the connection back into the pool at the end of a response.
        self._not_reusable = has_ended or failure is not None
        if size:
            if self._sessions is not None:
                self._sessions.store(self._context, tls, self._offered_session)
                self._sessions = self._offered_session = None
            cast(asyncio.Protocol, self._protocol).data_received(bytes(plain[:size]))
        if failure is not None:
            self._fail(failure)
        elif has_ended:
            self._handle_close_notify()

    def _check_flood(self, data_records: int) -> FloodError | None:
        """Return FloodError if the client sent too many records without data."""
        self._empty_records = max(0, self._empty_records - data_records)
        return None if self._empty_records <= MAX_EMPTY_RECORDS else FloodError("too many records without data")

    def _handle_close_notify(self) -> None:
        """Close, or wait until the protocol resumes reading: then `resume_reading` calls this method again."""
        self._ended = True
        if self._reading and self._protocol is not None and not self._is_closed():
            self._protocol.eof_received()
            self.close()

    def eof_received(self) -> bool:
        """Let TCP close: `connection_lost` reports its end."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the protocol, and the waiter of the handshake. A TLS error takes precedence over one of TCP."""
        if exc is not None and self._handshake_done and self._reading:
            self._read_last_bytes()
        protocol, self._protocol = self._protocol, None
        ready, self._ready = self._ready, None
        error, self._error = self._error or exc, None
        self._tls = None
        if ready is not None and not ready.done():
            ready.set_exception(error or ConnectionResetError("closed in the handshake"))
        if self._handshake_done:
            cast(asyncio.Protocol, protocol).connection_lost(error)

    def _read_last_bytes(self) -> None:
        """Read what TCP received before it failed, up to one chunk, because it may be an alert.

        A server that rejects or misses our certificate sends an alert (RFC 8446 4.4.2.4) and closes. If it has unread
        bytes, the close is a reset (RFC 9293 3.6.1), and our write fails before the loop has read the alert. The loop
        closes the socket after this callback.
        """
        tcp = self._tcp.get_extra_info("socket")
        if tcp is None or tcp.fileno() < 0 or isinstance(self._tcp, TlsTransport):
            return  # within another TLS connection, the socket has no bytes of this one
        try:
            count = os.readv(tcp.fileno(), [self._cipher])
        except OSError:
            return  # no bytes are left
        self.buffer_updated(count)

    def pause_writing(self) -> None:
        """Pause the protocol: TCP's write buffer is full."""
        if self._handshake_done and self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Resume the protocol: TCP's write buffer has space."""
        if self._handshake_done and self._protocol is not None:
            self._protocol.resume_writing()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._tcp.is_closing():
            self._tcp.write(data)

    def _fail(self, error: ssl.SSLError) -> None:
        """Send the alert that OpenSSL has written, and close."""
        # Without the traceback, whose frames refer to this object.
        self._error = self._error or error.with_traceback(None)
        self._flush()
        if self._tcp.get_write_buffer_size():
            # A peer that has rejected the connection does not read the rest of a request.
            self._tcp.abort()
        else:
            self._tcp.close()

    # As the transport of the protocol.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Pass decrypted data to another protocol from now on."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. TCP's pause_writing and resume_writing control the flow."""
        tls = self._tls
        size = len(data)
        if self._closing or self._half_closed or tls is None or not size:
            return
        if self._backlog:
            self._backlog += data
            return
        try:
            if size <= _RECORD:
                tls.write(data)
            else:
                self._write_records(tls, memoryview(data))
        except ssl.SSLWantReadError:
            # OpenSSL writes nothing while an incoming handshake message is incomplete, such as a certificate request
            # with many CA names.
            self._queue(data)
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._flush()

    def _write_records(self, tls: ssl.SSLObject, remaining: memoryview) -> None:
        """Write record by record: with SSL_MODE_ENABLE_PARTIAL_WRITE, which the ssl module sets, a call writes one."""
        while remaining:
            try:
                remaining = remaining[tls.write(remaining) :]
            except ssl.SSLWantReadError:
                self._queue(remaining)
                return
            if self._outgoing.pending >= _CHUNK:
                self._flush()

    def _queue(self, data: bytes | bytearray | memoryview) -> None:
        """Queue data that OpenSSL cannot encrypt yet, and pause the protocol."""
        self._backlog += data
        cast(asyncio.Protocol, self._protocol).pause_writing()

    def _write_backlog(self, tls: ssl.SSLObject) -> None:
        backlog, self._backlog = self._backlog, bytearray()
        try:
            self._write_records(tls, memoryview(backlog))
        except ssl.SSLError as error:
            self._fail(error)
            return
        if not self._backlog and self._protocol is not None:
            self._protocol.resume_writing()

    def close(self) -> None:
        """Send close_notify and close once all bytes are sent, without waiting for the peer's close_notify.

        While bytes are unsent, only the sending side of TCP is closed: a full close with unread bytes, such as a
        ticket, resets the connection (RFC 9293 3.6.1), and the peer loses the last bytes. The caller must limit that
        wait with `abort`.
        """
        if self._is_closed():
            return
        if self._half_closed:
            self._closing = True
            self._tcp.close()
            return
        if self._backlog:
            # The peer could not tell this end from a cut.
            self.abort()
            return
        self._closing = True
        self._notify_close()
        if self._ended or not self._tcp.get_write_buffer_size():
            self._tcp.close()
            return
        if not self._reading:
            self._reading = True
            self._tcp.resume_reading()
        self._tcp.write_eof()

    def _notify_close(self) -> None:
        # SSLWantReadError: the peer's close_notify is missing. After any other error OpenSSL sends none.
        with suppress(ssl.SSLError):
            cast(ssl.SSLObject, self._tls).unwrap()
        self._flush()

    def write_eof(self) -> None:
        """Send close_notify after the written bytes, then end TCP's stream.

        Bytes that still arrive are dropped, and the protocol receives an empty piece for them: while they arrive, a
        reset could overtake the sent bytes (RFC 9112 9.6). The protocol must call `close` or `abort` in the end.
        """
        if self._is_closed() or self._half_closed:
            return
        if self._backlog:
            self.abort()
            return
        self._half_closed = True
        self._notify_close()
        self._tcp.write_eof()

    def abort(self) -> None:
        """Close at once. The peer sees a cut connection."""
        self._tcp.abort()

    def is_closing(self) -> bool:
        """Return True if either end has closed or the connection is lost, so it must not be reused."""
        return self._not_reusable or self._is_closed()

    def _is_closed(self) -> bool:
        return self._closing or self._tls is None or self._tcp.is_closing()

    def pause_reading(self) -> None:
        """Stop reading from TCP. The protocol already has all received data."""
        if self._reading and not self._is_closed():
            self._reading = False
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Continue reading from TCP."""
        if self._reading or self._is_closed():
            return
        self._reading = True
        if self._ended:
            self._handle_close_notify()
        else:
            self._tcp.resume_reading()

    def is_reading(self) -> bool:
        """Return True if the protocol may receive more data."""
        return self._reading and not self._is_closed()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set TCP's limits, in bytes of ciphertext."""
        self._tcp.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes: ciphertext, and plaintext in the backlog."""
        return len(self._backlog) + self._tcp.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Return True for a server, which may close its sending side after the response.

        A client may not: in TLS 1.2 the server replies to close_notify by closing (RFC 5246 7.2.1).
        """
        return self._server

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the TLS object for `ssl_object`, else TCP's information."""
        return self._tls if name == "ssl_object" else self._tcp.get_extra_info(name, default)


def _scan_records(data: bytes | memoryview, offset: int) -> tuple[int, int, bytes]:
    """Count the record headers in the data, of which the first starts at `offset`.

    Return the count, the offset of the next header in the bytes after the data, and the start of an incomplete header.
    """
    count, size = 0, len(data)
    while offset + _HEADER <= size:
        offset += _HEADER + (data[offset + 3] << 8 | data[offset + 4])
        count += 1
    return (count, 0, bytes(data[offset:])) if offset < size else (count, offset - size, b"")
