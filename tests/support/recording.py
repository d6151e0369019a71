"""A `RawUpstream` for blocking tests, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ssl import SSLContext

from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream, Script


async def _patient(connection: RawConnection) -> None:
    """Respond to every request with `OK`, after any idle time."""
    while True:
        try:
            await connection.request()
        except TimeoutError:
            continue
        await connection.send(OK)


@contextmanager
def recording(script: Script = _patient, *, ssl_context: SSLContext | None = None) -> Iterator[RawUpstream]:
    """Run an upstream. A test can read its requests after their responses."""
    loop = asyncio.new_event_loop()
    upstream = RawUpstream(script, ssl_context=ssl_context)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(loop.run_until_complete, upstream.__aenter__()).result()
        running = thread.submit(loop.run_forever)
        try:
            yield upstream
        finally:
            loop.call_soon_threadsafe(loop.stop)
            running.result()
            thread.submit(loop.run_until_complete, upstream.__aexit__(None, None, None)).result()
            thread.submit(loop.close).result()
