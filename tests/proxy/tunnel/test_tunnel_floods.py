"""Expensive records without data in a tunnel: key updates and renegotiation."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidekey.network.tls_transport import MAX_EMPTY_RECORDS
from support.leaves import IssuedLeaves
from support.plane import UPSTREAM, RunningPlane, eventually, integration, running
from support.private_ca import Authority
from support.tls_records import Records12, Records13
from support.tunnels import TlsCaller, client_context, connect_request

DENIED = b"GET /x HTTP/1.1\r\nHost: up.test\r\n\r\n"


@asynccontextmanager
async def logged_tunnel(
    ca: Authority, folder: Path, version: ssl.TLSVersion
) -> AsyncIterator[tuple[RunningPlane, TlsCaller]]:
    """Return a caller in a tunnel, with a log of its keys in this folder."""
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey,
        sidekey.connect() as raw,
    ):
        await raw.send(connect_request("up.test:443"))
        assert (await raw.response(to_head=True)).status == 200
        del raw.received[:]
        raw.consumed = 0
        context = client_context(ca, version)
        context.keylog_filename = str(folder / "keys")
        caller = TlsCaller(raw, context, UPSTREAM)
        await caller.handshake()
        cipher = caller.tls.cipher()
        assert cipher is not None
        assert "AES" in cipher[0]
        assert "SHA384" in cipher[0]
        yield sidekey, caller


async def until_lost(sidekey: RunningPlane, caller: TlsCaller) -> None:
    """Wait until the connection is closed, and nothing of it is left."""
    await caller.raw.until_ended()
    await eventually(lambda: not sidekey.plane.worker.connections)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("asking", [True, False])
async def test_a_caller_may_update_its_keys_now_and_then(
    ca: Authority, tmp_path: Path, *, asking: bool, together: bool
) -> None:
    """Between requests, and more often than any real client. More updates close the tunnel."""
    async with logged_tunnel(ca, tmp_path, ssl.TLSVersion.TLSv1_3) as (sidekey, caller):
        records = Records13(tmp_path / "keys")
        sent = []
        # Some are those of the handshake.
        for _ in range(MAX_EMPTY_RECORDS - 8):
            sent += [records.key_update(asking=asking), records.data(DENIED)]
        for piece in [b"".join(sent)] if together else sent:
            await caller.raw.send(piece)
        for _ in range(MAX_EMPTY_RECORDS - 8):
            assert (await caller.response()).status == 403
        await caller.raw.send(b"".join(records.key_update(asking=asking) for _ in range(8)))
        await until_lost(sidekey, caller)


@pytest.mark.parametrize("asking", [True, False])
async def test_flood_of_key_updates_closes_the_tunnel(ca: Authority, tmp_path: Path, *, asking: bool) -> None:
    """Sidekey answers a few of 20,000, and buffers little for a caller that does not read."""
    async with logged_tunnel(ca, tmp_path, ssl.TLSVersion.TLSv1_3) as (sidekey, caller):
        records = Records13(tmp_path / "keys")
        before = len(caller.raw.received)
        await caller.raw.send(b"".join(records.key_update(asking=asking) for _ in range(20_000)))
        await until_lost(sidekey, caller)
        assert len(caller.raw.received) - before < 3 * MAX_EMPTY_RECORDS * 27


@pytest.mark.parametrize("size", [1, 7, 1000, 1473])
async def test_small_records_of_data_are_no_flood(ca: Authority, tmp_path: Path, size: int) -> None:
    """In any number and any reads."""
    async with logged_tunnel(ca, tmp_path, ssl.TLSVersion.TLSv1_3) as (_, caller):
        records = Records13(tmp_path / "keys")
        data = b"".join(records.data(DENIED[at : at + 1]) for at in range(len(DENIED))) * 1
        data += b"".join(records.data(bytes([item])) for item in DENIED * 10)
        for at in range(0, len(data), size):
            await caller.raw.send(data[at : at + size])
        for _ in range(11):
            assert (await caller.response()).status == 403


async def test_renegotiation_is_refused_and_limited(ca: Authority, tmp_path: Path) -> None:
    """TLS 1.2: alert no_renegotiation. After too many attempts, Sidekey closes the tunnel."""
    async with logged_tunnel(ca, tmp_path, ssl.TLSVersion.TLSv1_2) as (sidekey, caller):
        records = Records12(tmp_path / "keys", bytes(caller.raw.received))
        for _ in range(2):
            await caller.raw.send(records.hello() + records.data(DENIED))
            # Python's client takes the alert for the end.
            before = len(caller.raw.received)
            await caller.raw.until_received(before + 400)
            assert sidekey.plane.worker.connections
        before = len(caller.raw.received)
        await caller.raw.send(b"".join(records.hello() for _ in range(1000)))
        await until_lost(sidekey, caller)
        assert len(caller.raw.received) - before < 3 * MAX_EMPTY_RECORDS * 31
        assert sidekey.metrics.stats("h").outcomes == {"target_denied": 2}
