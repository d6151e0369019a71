"""PostgreSQL for tests: a temporary cluster of an unprivileged user, on a unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from support import programs
from support.ports import free_port
from support.private_ca import Leaf

_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
full_page_writes = off
synchronous_commit = off
autovacuum = off
shared_buffers = 16MB
max_connections = 40
logging_collector = off
max_wal_senders = 2
jit = off
"""

_USER = "nobody"
"""Whom PostgreSQL runs as where the tests run as root, which it refuses."""


class Postgres:
    """`with Postgres() as postgres`: `schema()` creates a schema, and `url(schema)` returns its URL.

    With a `leaf`, it also listens on `port` of 127.0.0.1, with TLS and this certificate.
    """

    def __init__(self, leaf: Leaf | None = None) -> None:
        self._leaf = leaf
        self.port = free_port()
        self._binaries = Path(programs.require("postgres")).resolve().parent
        # Where an unprivileged user gets to, and short enough for a socket's path.
        self.folder = Path(tempfile.mkdtemp(prefix="sidekey-pg-"))
        self._count = 0

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER)
        data = self.folder / "data"
        self._create(data)
        with (data / "postgresql.conf").open("a") as config:
            config.write(_SETTINGS.format(folder=self.folder))
            if self._leaf is not None:
                config.write(self._tls(self._leaf, data))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def _create(self, data: Path) -> None:
        options = ["-U", "sidekey", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"]
        self._run("initdb", "-D", str(data), *options)

    def _tls(self, leaf: Leaf, data: Path) -> str:
        for name, path in (("server.crt", leaf.certificate), ("server.key", leaf.key)):
            (data / name).write_bytes(path.read_bytes())
            (data / name).chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(data / name, _USER)
        return f"listen_addresses = '127.0.0.1'\nport = {self.port}\nssl = on\n"

    def start(self) -> None:
        """Start the server, and wait until it serves."""
        self._control("start", "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Close every connection, and stop the server."""
        self._control("stop", "-m", "fast")

    def restart(self) -> None:
        """Close every connection, and restart the server."""
        self._control("restart", "-m", "fast", "-l", str(self.folder / "log"))

    def crash(self) -> None:
        """Kill the server's processes, and start it again: it recovers from its WAL."""
        self._control("stop", "-m", "immediate")
        self.start()

    def url(self, schema: str = "public") -> str:
        """Return the URL of this schema."""
        port = "" if self._leaf is None else f"&port={self.port}"
        return f"postgresql://sidekey@/postgres?host={self.folder}{port}&search_path={schema}"

    async def schema(self) -> str:
        """Create an empty schema, and return its name."""
        self._count += 1
        name = f"t{self._count}"
        await self.sql(f"CREATE SCHEMA {name}")
        return name

    async def sql(self, statement: str, schema: str = "public") -> Sequence[Sequence[Any]]:
        """Execute a statement on a connection of its own, and return its rows."""
        (rows,) = await self.all([statement], schema)
        return rows

    async def all(self, statements: Sequence[str], schema: str = "public") -> list[Sequence[Sequence[Any]]]:
        """Execute statements on one connection, which costs the server less, and return the rows of each."""
        connection = await asyncpg.connect(self.url(schema))
        try:
            return [[tuple(row) for row in await connection.fetch(statement)] for statement in statements]
        finally:
            await connection.close()

    async def kill_connections(self) -> int:
        """Terminate Sidekey's connections as an administrator would, and return their number."""
        rows = await self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sidekey'"
        )
        return len(rows)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-s", "-w", *arguments)

    def _run(self, name: str, *arguments: str) -> None:
        user = _USER if os.geteuid() == 0 else None
        result = subprocess.run(
            [str(self._binaries / name), *arguments],
            user=user,
            extra_groups=[] if user else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"{name} failed: {result.stderr}")


class Standby(Postgres):
    """An asynchronous streaming replica of a server."""

    def __init__(self, primary: Postgres) -> None:
        super().__init__()
        self._primary = primary

    def promote(self) -> None:
        """Make the replica writable, with the data that it has received."""
        self._control("promote")

    def _create(self, data: Path) -> None:
        source = ["-h", str(self._primary.folder), "-U", "sidekey"]
        self._run("pg_basebackup", "-D", str(data), *source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
