"""A relay in front of a PostgreSQL server, which loses the commits of chosen transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_SOCKET: Final = ".s.PGSQL.5432"


class Relay:
    """Listens on a unix socket in a folder, like the server behind it.

    `lose(statement)` closes the connection at the next commit of a transaction that executed a statement with these
    bytes: before the server receives it, or with `applied` after the server has committed. `note(statement)` sets
    `noted` after the commit of a transaction with these bytes.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.path = folder / _SOCKET
        self.lost = 0
        self.noted = False
        self._server = str(server / _SOCKET)
        self._statement = self._noting = b""
        self._applied = False

    def lose(self, statement: bytes, *, applied: bool) -> None:
        self._statement, self._applied = statement, applied

    def note(self, statement: bytes) -> None:
        self.noted, self._noting = False, statement

    @contextmanager
    def running(self) -> Iterator[Relay]:
        loop = asyncio.new_event_loop()
        with ThreadPoolExecutor(1) as thread:
            server = thread.submit(loop.run_until_complete, asyncio.start_unix_server(self._serve, self.path)).result()
            running = thread.submit(loop.run_forever)
            try:
                yield self
            finally:
                loop.call_soon_threadsafe(loop.stop)
                running.result()
                thread.submit(self._end, loop, server).result()

    @staticmethod
    def _end(loop: asyncio.AbstractEventLoop, server: asyncio.Server) -> None:
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server)
        back = asyncio.create_task(self._pass_on(from_server, writer))
        executed = b""
        try:
            with suppress(OSError):
                while data := await reader.read(1 << 16):
                    executed += data
                    if b"COMMIT" in data:
                        if self._statement and self._statement in executed:
                            self._statement = b""
                            back.cancel()
                            await asyncio.wait([back])
                            if self._applied:
                                to_server.write(data)
                                await from_server.read(1 << 16)
                            self.lost += 1
                            return
                        self.noted |= bool(self._noting) and self._noting in executed
                        executed = b""
                    to_server.write(data)
                    await to_server.drain()
        finally:
            back.cancel()
            writer.close()
            to_server.close()

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()
