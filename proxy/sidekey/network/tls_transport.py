"""TLS between the loop's TCP transport and a protocol, for either end: `ssl.SSLObject` over two memory BIOs.

Why not the loop's own: it takes no session to resume, decodes the peer's certificate at every handshake, holds 20 KiB
more for each connection, and reports a forged end of TCP differently in asyncio and uvloop. Here `eof_received` means
close_notify (RFC 8446 6.1) and nothing else; a cut is told by `connection_lost` alone.
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
"""Bytes taken from or given to TCP at once: bounds what the BIOs hold, since a memory BIO grows but never shrinks."""

_RECORD = 16 << 10
"""The plaintext of one TLS record, at most (RFC 8446 5.1)."""


BARE_RECORDS = 64
"""How many records without data a client may send: the few of a handshake, key updates, attempts to renegotiate.

OpenSSL takes any number of them, at 20 us each where one is asked for in return: 0.8 s of CPU for a mebibyte. Real
clients send one in some millions of records (RFC 8446 5.5).
"""

_PIECE = 1472
"""Bytes that are decrypted at once where a read holds many records: no more than `BARE_RECORDS` of them."""

_HEADER = 5
"""Bytes of a record's header, the last two of which are the length of the rest (RFC 8446 5.1)."""


class FloodError(ssl.SSLError):
    """A client sent more records without data than any client needs to."""


class _Scratch(threading.local):
    """Where bytes are for the length of one callback: shared by the connections of a loop, which is a thread's.

    Loops call get_buffer, receive and call buffer_updated in one go, and nothing in between reads from a socket. What
    was decrypted stays here until the next read overwrites it, as it does in buffers of the loop's own.
    """

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(_CHUNK))
        # At most what was received, and a record that was begun before; each is read into the room of a whole one.
        self.plain = memoryview(bytearray(_CHUNK + 2 * _RECORD))


_SCRATCH = _Scratch()


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The protocol of a TCP transport, and the transport of `protocol`, which is connected once the handshake is done.

    `ready` is resolved then, or with the OSError (ssl.SSLError) that ended the handshake; whoever passes it must
    retrieve the exception. `server_hostname` is verified and, where it is not an address, sent (SNI); None makes this
    the server's end.
    """

    __slots__ = (
        "_backlog",
        "_bare",
        "_cipher",
        "_closing",
        "_context",
        "_ended",
        "_error",
        "_half_closed",
        "_handshake_done",
        "_header",
        "_incoming",
        "_not_reusable",
        "_offer",
        "_outgoing",
        "_plain",
        "_protocol",
        "_reading",
        "_ready",
        "_record",
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
        self._offer: ResumableSession | None = None if sessions is None else sessions.offer(context)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = context.wrap_bio(
            self._incoming,
            self._outgoing,
            # Bytes: a str would go through Python's IDNA codec, which the names of an Origin have behind them.
            server_hostname=None if server_hostname is None else server_hostname.encode("ascii"),
            server_side=server_hostname is None,
            session=None if self._offer is None else self._offer.session,
        )
        self._cipher, self._plain = _SCRATCH.cipher, _SCRATCH.plain
        self._server = server_hostname is None
        self._handshake_done = self._not_reusable = self._ended = self._closing = self._half_closed = False
        self.has_spoken = False
        """Whether something was sent in the handshake: a server's certificate, once the client has begun."""
        self._backlog = bytearray()
        # Of a server's end: records that have brought nothing, where the next one begins in what is received next, and
        # what has come of its header.
        self._bare = self._record = 0
        self._header = b""
        self._reading = True
        self._error: Exception | None = None

    # The protocol of TCP.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._tcp = cast(asyncio.Transport, transport)
        self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's guess is not asked for
        """Where the loop receives."""
        return self._cipher

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was received; once this end has closed, nothing of it matters."""
        self._take(self._cipher[:nbytes])

    def received(self, data: bytes) -> None:
        """Take what was received before this was the protocol of TCP."""
        rest = memoryview(data)
        while rest:
            self._take(rest[:_CHUNK])
            rest = rest[_CHUNK:]

    def _take(self, data: memoryview) -> None:
        if self._tls is None or self._closing:
            return
        if self._half_closed:
            # Dropped undecrypted; that it came is all the protocol is told.
            cast(asyncio.Protocol, self._protocol).data_received(b"")
            return
        if self._server and not self._note_records(data):
            return
        self._incoming.write(data)
        if self._handshake_done or (self._handshake() and self._incoming.pending):
            self._read()

    def _note_records(self, data: memoryview) -> bool:
        """Count the records that begin in what a client sent; False where they are many, and were taken in pieces."""
        size = len(data)
        if self._record or self._header or size < _HEADER or size != _HEADER + (data[3] << 8 | data[4]):
            whole = self._header + bytes(data) if self._header else data
            count, at, header = _records(whole, self._record)
            if count > BARE_RECORDS and size > _PIECE:
                for start in range(0, size, _PIECE):
                    if not self._is_closed():
                        self._take(data[start : start + _PIECE])
                return False
            self._record, self._header = at, header
        else:
            count = 1
        self._bare += count
        return True

    def _handshake(self) -> bool:
        """Take the handshake further; whether it is done and the connection open."""
        tls = self._tls
        assert tls is not None  # noqa: S101 - for the type checker: callers have looked
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
        # After whoever waits has run: a request that is written at once leaves in one segment with our Finished.
        asyncio.get_running_loop().call_soon(self._flush)
        return not self.is_closing()

    def _read(self) -> None:
        """Decrypt all that was received, and hand it over in one piece."""
        tls = self._tls
        assert tls is not None  # noqa: S101 - for the type checker: callers have looked
        incoming, plain = self._incoming, self._plain
        have = records = 0
        failure: ssl.SSLError | None = None
        end = False
        try:
            # A record is read whole, so that nothing is left where the BIO is empty.
            while incoming.pending:
                # typeshed knows only bytearray; any writable buffer does.
                count = cast(int, tls.read(_RECORD, cast(bytearray, plain[have:])))
                if not count:
                    end = True
                    break
                have += count
                records += 1
        except ssl.SSLWantReadError:
            pass  # part of a record, or a message of the handshake protocol: tickets, a key update, a request to sign
        except ssl.SSLError as error:
            failure = error
        if self._server:
            failure = failure or self._flood(records)
        if self._backlog:
            self._write_backlog(tls)
        if self._outgoing.pending:
            self._flush()  # what waited, the answer to a key update or to a request for the certificate (RFC 8446 4.6)
        # Whoever gets the end of a response must not find out by the next request that the peer has closed.
        self._not_reusable = end or failure is not None
        if have:
            if self._sessions is not None:
                self._sessions.keep(self._context, tls, self._offer)
                self._sessions = self._offer = None
            cast(asyncio.Protocol, self._protocol).data_received(bytes(plain[:have]))
        if failure is not None:
            self._fail(failure)
        elif end:
            self._end()

    def _flood(self, records: int) -> FloodError | None:
        """What a client is refused for that has sent too much without data; so many records have given some."""
        self._bare = max(0, self._bare - records)
        return None if self._bare <= BARE_RECORDS else FloodError("too many records without data")

    def _end(self) -> None:
        """The peer sent close_notify; a protocol that has paused learns of it when it reads on."""
        self._ended = True
        if self._reading and self._protocol is not None and not self._is_closed():
            self._protocol.eof_received()
            self.close()

    def eof_received(self) -> bool:
        """TCP ended: it is closed, and `connection_lost` tells."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol, or whoever waits for the handshake; an error of TLS comes before one of TCP."""
        if exc is not None and self._handshake_done and self._reading:
            self._read_rest()
        protocol, self._protocol = self._protocol, None
        ready, self._ready = self._ready, None
        error, self._error = self._error or exc, None
        self._tls = None
        if ready is not None and not ready.done():
            ready.set_exception(error or ConnectionResetError("closed in the handshake"))
        if self._handshake_done:
            cast(asyncio.Protocol, protocol).connection_lost(error)

    def _read_rest(self) -> None:
        """Take what TCP had received when it was lost, at most what is read at once.

        A server that refuses our certificate, or wants one, sends an alert (RFC 8446 4.4.2.4) and closes; with bytes of
        ours unread that is a reset (RFC 9293 3.6.1), and a write of ours learns of it before the loop has read the
        alert. The loop closes the socket only after it has told us.
        """
        tcp = self._tcp.get_extra_info("socket")
        if tcp is None or tcp.fileno() < 0:
            return
        try:
            count = os.readv(tcp.fileno(), [self._cipher])
        except OSError:
            return  # a read that failed has left nothing
        self.buffer_updated(count)

    def pause_writing(self) -> None:
        """TCP has taken all it wants for now."""
        if self._handshake_done and self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """TCP takes more."""
        if self._handshake_done and self._protocol is not None:
            self._protocol.resume_writing()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._tcp.is_closing():
            self._tcp.write(data)

    def _fail(self, error: ssl.SSLError) -> None:
        """Send the alert, which OpenSSL has written, and close."""
        # Without its frames, which refer to this object.
        self._error = self._error or error.with_traceback(None)
        self._flush()
        if self._tcp.get_write_buffer_size():
            # A peer that refuses takes no more of a request.
            self._tcp.abort()
        else:
            self._tcp.close()

    # The transport of the protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; flow control is that of TCP, by pause_writing and resume_writing."""
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
            # Only the small write: OpenSSL writes nothing while a message to it, such as a request for the
            # certificate with many names of CAs, has come in part.
            self._wait(data)
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._flush()

    def _write_records(self, tls: ssl.SSLObject, rest: memoryview) -> None:
        """Write piece by piece: the ssl module sets SSL_MODE_ENABLE_PARTIAL_WRITE, so that a call makes one record."""
        while rest:
            try:
                rest = rest[tls.write(rest) :]
            except ssl.SSLWantReadError:
                self._wait(rest)
                return
            if self._outgoing.pending >= _CHUNK:
                self._flush()

    def _wait(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what cannot be written yet, and ask for no more of it."""
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
        """Send close_notify, let what was written go, and close without waiting for the peer's close_notify.

        While bytes are unsent, TCP is closed by halves: closing it whole with something unread, such as a ticket,
        resets it (RFC 9293 3.6.1), and the peer loses the end of what it was sent. The caller must bound that
        wait by `abort`.
        """
        if self._is_closed():
            return
        if self._half_closed:
            self._closing = True
            self._tcp.close()
            return
        if self._backlog:
            # Its end could not be told from a cut, so it is one.
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
        # It wants the peer's close_notify; after an error there is nothing to be said.
        with suppress(ssl.SSLError):
            cast(ssl.SSLObject, self._tls).unwrap()
        self._flush()

    def write_eof(self) -> None:
        """Send close_notify after what was written, and the end of TCP's stream after that.

        What still arrives is dropped, and the protocol receives an empty piece for it: as long as something comes, a
        reset could overtake what was sent (RFC 9112 9.6). It must `close` in the end, or `abort`.
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
        """Close at once; the peer sees a cut."""
        self._tcp.abort()

    def is_closing(self) -> bool:
        """Whether either end has closed, or the connection is lost: it is good for nothing new."""
        return self._not_reusable or self._is_closed()

    def _is_closed(self) -> bool:
        return self._closing or self._tls is None or self._tcp.is_closing()

    def pause_reading(self) -> None:
        """Take nothing more from TCP; what was received has been handed over."""
        if self._reading and not self._is_closed():
            self._reading = False
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._reading or self._is_closed():
            return
        self._reading = True
        if self._ended:
            self._end()
        else:
            self._tcp.resume_reading()

    def is_reading(self) -> bool:
        """Whether more may be handed over."""
        return self._reading and not self._is_closed()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set TCP's limits, in bytes of ciphertext."""
        self._tcp.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that TCP has not taken, nearly all of them ciphertext."""
        return len(self._backlog) + self._tcp.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Whether one direction can be closed alone.

        A client cannot: in TLS 1.2 the other end answers close_notify by closing (RFC 5246 7.2.1). A server has said
        all that it will, and lets the client find that out.
        """
        return self._server

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object` is TLS's own; the rest is TCP's."""
        return self._tls if name == "ssl_object" else self._tcp.get_extra_info(name, default)


def _records(data: bytes | memoryview, at: int) -> tuple[int, int, bytes]:
    """How many records have their header in these bytes, the first one at `at`.

    With it how far behind them the next one begins, or what has come of its header.
    """
    count, size = 0, len(data)
    while at + _HEADER <= size:
        at += _HEADER + (data[at + 3] << 8 | data[at + 4])
        count += 1
    return (count, 0, bytes(data[at:])) if at < size else (count, at - size, b"")
