"""Stored integrations: a store filled as Sidekey itself saves, and an operator who changes and lists them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.probe import PASSWORD, TOKEN, USER
from benchmarks.processes import MeasureFailed
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings.stored.opening import Vault
from sidekey.settings.stored.rows import saved_row
from sidekey.settings.stored.saving import assess
from sidekey.store.audit import AuditEntry
from sidekey.store.place import open_store
from sidekey.store.records import IntegrationRow
from sidekey.store.state import Put

KEY_ID = "k1"
KEY = b"32 bytes that seal nothing real."

_IN_FLIGHT = 10_000
_WHO = "benchmarks"
_SECONDS = 30.0
_API = "/api/v1/integrations"


@dataclass(frozen=True, slots=True)
class Filled:
    """A database with `count` integrations, one of which is `bench`: an SQLite file, or the URL of PostgreSQL.

    Each process has a copy of the file, unless the store is `shared`.
    """

    database: Path | str
    count: int
    shared: bool = False


def fill(database: Path | str, base: str, count: int, *, shared: bool = False) -> Filled:
    """Make a store with so many integrations, each with a password of its own, below `base`.

    They are prepared and sealed one by one as the API does, and saved in one transaction, as it could not.
    """
    asyncio.run(_fill(database, base, count))
    return Filled(database, count, shared)


async def _fill(database: Path | str, base: str, count: int) -> None:
    path, url = (None, database) if isinstance(database, str) else (database, None)
    store = await open_store(StoreRules(path, url, ((KEY_ID, KEY),), audit=3600))
    try:
        vault, now = Vault(store.id, store.ring), int(time.time())
        rows = [Put(_row(name, prefix, vault, now), None) for name, prefix in _prefixes(base, count)]
        await store.commit(rows, AuditEntry(who=_WHO, action="create"))
    finally:
        await store.close()


def _prefixes(base: str, count: int) -> Iterator[tuple[str, str]]:
    if count:
        yield "bench", base
    yield from ((f"t{number}", f"{base}/t{number}") for number in range(count - 1))


def _row(name: str, prefix: str, vault: Vault, now: int) -> IntegrationRow:
    document = {
        "description": f"made for {name}",
        "tags": ["bench"],
        "endpoint_prefix": prefix,
        "auth": {"type": "basic", "username": {"value": USER}, "password": {"value": PASSWORD}},
    }
    draft = assess(document, None, in_flight=_IN_FLIGHT, now=now).draft
    assert draft is not None
    return saved_row(vault, name, draft, None, None, by=_WHO, now=now).row


class Operator:
    """Uses the API of a running Sidekey over one kept connection."""

    def __init__(self, admin_port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", admin_port, timeout=_SECONDS)
        self._version = 0
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def change(self) -> float:
        """Give the integration `bench` another description; seconds until that is in use. Raises MeasureFailed."""
        self._count += 1
        return self.patch({"description": f"changed {self._count} times"})

    def patch(self, document: Mapping[str, Any]) -> float:
        """Change keys of the integration `bench`; seconds until that is in use. Raises MeasureFailed."""
        path = f"{_API}/bench"
        if not self._version:
            self._version = self.get("/bench")["version"]
        began = time.perf_counter()
        found = self._ask("PATCH", path, document, {"If-Match": f'"{self._version}"'})
        seconds = time.perf_counter() - began
        if found["version"] != self._version + 1:
            raise MeasureFailed(f"a change led from version {self._version} to {found['version']}")
        self._version = found["version"]
        return seconds

    def page(self, query: str) -> float:
        """Get a page of the list, or of what a query finds; seconds. Raises MeasureFailed."""
        began = time.perf_counter()
        self.get(query)
        return time.perf_counter() - began

    def get(self, rest: str) -> Any:
        """What the API shows of integrations: of one by its path, or of those that a query finds."""
        return self._ask("GET", f"{_API}{rest}")

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, fields: Mapping[str, str] | None = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}", **(fields or {})}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            text = response.read().decode()
        except (OSError, HTTPException) as error:
            raise MeasureFailed(f"{method} {path} failed: {error!r}") from error
        if response.status != 200:
            raise MeasureFailed(f"{method} {path} responded {response.status}: {text[:300]}")
        return json.loads(text)
