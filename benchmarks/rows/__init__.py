"""The rows of the table, in the order of measurement."""

from __future__ import annotations

from benchmarks.rows import alone, console, mtls, oauth2, reload, scrape, shared, signed, stored, throughput, tunnel
from benchmarks.rows.accesslog import AccessLog
from benchmarks.rows.base import Row
from benchmarks.rows.bulk import Bulk
from benchmarks.rows.drain import Drain
from benchmarks.rows.idle import Idle
from benchmarks.rows.inflight import InFlight
from benchmarks.rows.integrations import Integrations

_ALL: tuple[Row, ...] = (
    *throughput.ROWS,
    AccessLog(),
    *alone.ROWS,
    Idle(),
    Integrations(),
    InFlight(),
    Bulk(),
    *oauth2.ROWS,
    *mtls.ROWS,
    *signed.ROWS,
    *tunnel.ROWS,
    *reload.ROWS,
    *scrape.ROWS,
    *stored.ROWS,
    *shared.ROWS,
    *console.ROWS,
    Drain(),
)
ROWS: dict[str, Row] = {row.name: row for row in _ALL}
