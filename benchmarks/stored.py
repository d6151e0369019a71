"""A store filled as Sidekey saves, and an operator who changes and lists its integrations."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.probe import PASSWORD, TOKEN, USER
from benchmarks.processes import MeasureFailed
from sidekey.config.build.presets import parse_preset
from sidekey.config.stored.presets import PresetDraft
from sidekey.config.stored.rows import build_integration_row, build_preset_row
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import assess
from sidekey.snapshot.store import StoreRules
from sidekey.store.audit import AuditEntry
from sidekey.store.failures import MAX_FAILURES, Failure
from sidekey.store.open import open_store
from sidekey.store.records import IntegrationRow, PresetRow
from sidekey.store.state import Put
from sidekey.store.store import Store
from sidekey.store.usage import COUNTERS, HOUR, Hour

KEY_ID = "k1"
KEY = b"32 bytes that seal nothing real."

_IN_FLIGHT = 10_000
_WHO = "benchmarks"
_SECONDS = 30.0
_API = "/api/v1/integrations"

_DAY = 24
_MONTH = 30 * _DAY
_AUDITED = 10_000
"""Entries of the audit: twice as many as a search reads."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A database with `count` integrations, one of which is `bench`: an SQLite file, or the URL of PostgreSQL.

    Each process has a copy of the file, unless the store is `shared`. There are `presets`, p0 and on.
    """

    database: Path | str
    count: int
    shared: bool = False
    presets: int = 0


def fill(database: Path | str, base: str, count: int, *, shared: bool = False, presets: int = 0) -> Filled:
    """Make a store with so many integrations, each with a password of its own, below `base`.

    They are prepared and sealed one by one as the API does, and saved in one transaction, as it could not. With
    `presets`, each integration also has usage of a day, and `bench` usage of a month and failures.
    """
    asyncio.run(_fill(database, base, count, presets))
    return Filled(database, count, shared, presets)


async def _fill(database: Path | str, base: str, count: int, presets: int) -> None:
    path, url = (None, database) if isinstance(database, str) else (database, None)
    store = await open_store(StoreRules(path, url, ((KEY_ID, KEY),), audit=3600))
    try:
        vault, now = SealingKeys(store.id, store.ring), int(time.time())
        rows = [Put(_row(name, prefix, vault, now), None) for name, prefix in _prefixes(base, count)]
        await store.commit(rows, AuditEntry(who=_WHO, action="create"))
        if presets:
            audited = [
                AuditEntry(who=_WHO, action="update", kind="integration", id="bench", fields=("/tags",))
            ] * _AUDITED
            await store.commit([Put(_preset(number, base, now), None) for number in range(presets)], *audited)
            await _add_history(store, [name for name, _ in _prefixes(base, count)], now)
    finally:
        await store.close()


async def _add_history(store: Store, names: Sequence[str], now: int) -> None:
    counters = tuple(
        100 if name in ("requests", "b50") else 3 if name in ("failed", "s5xx") else 0 for name in COUNTERS
    )
    this = now // HOUR
    for hour in range(this - _MONTH, this):
        used = names if hour >= this - _DAY else ["bench"]
        await store.add_usage(sorted(Hour("integration", name, hour, hour * HOUR, 0, counters) for name in used))
    failures = (now - second for second in range(MAX_FAILURES))
    await store.add_failures(
        [Failure("bench", at, _WHO, "", "", "POST", 503, "", "", 40, "request") for at in failures]
    )


def _prefixes(base: str, count: int) -> Iterator[tuple[str, str]]:
    if count:
        yield "bench", base
    yield from ((f"t{number}", f"{base}/t{number}") for number in range(count - 1))


def _row(name: str, prefix: str, vault: SealingKeys, now: int) -> IntegrationRow:
    document = {
        "description": f"made for {name}",
        "tags": ["bench"],
        "endpoint_prefix": prefix,
        "auth": {"type": "basic", "username": {"value": USER}, "password": {"value": PASSWORD}},
    }
    draft = assess(document, None, in_flight=_IN_FLIGHT, now=now).draft
    assert draft is not None
    return build_integration_row(vault, name, draft, None, None, by=_WHO, now=now).row


def _preset(number: int, base: str, now: int) -> PresetRow:
    document = {
        "title": f"Message {number}",
        "integration": "bench",
        "url": f"{base}/hook",
        "parameters": {"phone": {"type": "text", "title": "Phone"}, "name": {"type": "text"}},
        "body": {"json": {"to": "{{phone}}", "text": "Hello {{name}}"}},
    }
    name = f"p{number}"
    preset = parse_preset(name, document).preset
    assert preset is not None
    return build_preset_row(name, PresetDraft(preset, json.dumps(document)), None, by=_WHO, now=now).row


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
        """Change the description of `bench`, and return the seconds until it is in use. Raises MeasureFailed."""
        self._count += 1
        return self.patch({"description": f"changed {self._count} times"})

    def patch(self, document: Mapping[str, Any]) -> float:
        """Change keys of the integration `bench`, and return the seconds until that is in use. Raises MeasureFailed."""
        path = f"{_API}/bench"
        if not self._version:
            self._version = self.get("/bench")["version"]
        began = time.perf_counter()
        response = self._ask("PATCH", path, document, {"If-Match": f'"{self._version}"'})
        seconds = time.perf_counter() - began
        if response["version"] != self._version + 1:
            raise MeasureFailed(f"a change led from version {self._version} to {response['version']}")
        self._version = response["version"]
        return seconds

    def page(self, query: str) -> float:
        """Get a page of the list or of a query, and return the seconds. Raises MeasureFailed."""
        began = time.perf_counter()
        self.get(query)
        return time.perf_counter() - began

    def get(self, rest: str) -> Any:
        """Get an integration by its path, or a page of integrations by a query. Return the body."""
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
