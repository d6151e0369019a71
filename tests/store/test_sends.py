"""Sends, on both databases: attempts, limits, batches, pages and maintenance."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from sidekey.store.audit import AuditEntry
from sidekey.store.sends import Existing, Limited, NewSend, OtherBatch, Reserved, Result, SendPage
from sidekey.store.store import Store
from support.stores import KEYS, StoreBackend, fail_on_defect

ENTRY = AuditEntry(who="mark", action="send", kind="preset", id="welcome", outcome="sent")
ACCEPTED = Result("accepted", 200, "", 40, "r-1")
WELCOME = NewSend(
    identity="token:1",
    key="k" * 16,
    who="mark",
    label="",
    content='{"phone":"1"}',
    integration="sms",
    preset="welcome",
    target="https://sms.test/v1",
    method="POST",
    host="sms.test",
    per_minute=600,
    per_day=10_000,
)


def other(number: int, **keys: object) -> NewSend:
    """Build another send with its own key and attempt."""
    return replace(WELCOME, **{"key": f"{number:016}", "attempt": f"{number:032x}", **keys})  # type: ignore[arg-type]


async def reserved(store: Store, new: NewSend) -> Reserved:
    result = await store.reserve_send(new, ENTRY)
    assert isinstance(result, Reserved), result
    return result


async def insert(place: StoreBackend, count: int, **columns: str) -> None:
    """Insert many or old rows without the store. Columns are SQL expressions over the number `n`."""
    values = {
        "seq": "n", "identity": "'token:1'", '"key"': "CAST(n AS TEXT)", "attempt": "''", "who": "'mark'",
        "label": "''", "at": "9999999999999", "fingerprint": "'k1:00'", "batch": "''", "batch_rows": "0",
        "integration": "'sms'", "preset": "'welcome'", "target": "''", "method": "'POST'", "host": "''",
        "outcome": "'accepted'", "status": "200", "code": "''", "ms": "1", "request_id": "''", **columns,
    }  # fmt: skip
    numbers = f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
    names, sources = ", ".join(values), ", ".join(values.values())
    await place.sql(f"INSERT INTO sidekey_sends ({names}) {numbers} SELECT {sources} FROM numbers")


async def test_result_is_written_only_by_its_own_attempt(place: StoreBackend) -> None:
    """A late result changes neither the send of another process with the same key, nor its audit entry."""
    async with place.open() as store:
        late = replace(WELCOME, attempt="0" * 32)
        first = await reserved(store, WELCOME)
        await store.record_send(late, Result("not_sent", 0, "store_unavailable", 0, ""), None)
        sending = await store.get_send("token:1", WELCOME.key)
        assert sending is not None and sending.outcome == "sending"
        for _ in range(2):
            await store.record_send(WELCOME, ACCEPTED, first.audited)
        await store.record_send(WELCOME, Result("unknown", 0, "", 0, ""), first.audited)
        send = await store.get_send("token:1", WELCOME.key)
        assert send is not None
        assert (send.outcome, send.status, send.ms, send.request_id) == ("accepted", 200, 40, "r-1")
        assert [entry.outcome for _, entry in (await store.audit_page()).entries] == ["ok"]


async def test_content_is_compared_with_the_fingerprint(place: StoreBackend) -> None:
    async with place.open(KEYS | {"k2": bytes(32)}) as store:
        await reserved(store, WELCOME)
        for content, same in ((WELCOME.content, True), ("{}", False)):
            existing = await store.find_send("token:1", WELCOME.key, content)
            assert existing is not None and existing.has_same_content is same
        assert await store.find_send("token:2", WELCOME.key, WELCOME.content) is None
    ((fingerprint, content),) = await place.sql("SELECT fingerprint, target FROM sidekey_sends")
    assert fingerprint.startswith("k1:") and len(fingerprint) == 67 and "phone" not in content
    # A rotated ring still compares. A ring without the key does not.
    async with place.open({"k2": bytes(32), **KEYS}) as store:
        existing = await store.find_send("token:1", WELCOME.key, WELCOME.content)
        assert existing is not None and existing.has_same_content
        assert isinstance(await store.reserve_send(WELCOME, ENTRY), Existing)


async def test_limit_has_a_time_to_retry(place: StoreBackend) -> None:
    async with place.open() as store:
        for number in range(3):
            await reserved(store, other(number, per_minute=3))
        assert await store.reserve_send(other(3, per_minute=3), ENTRY) in (
            Limited("per_minute", 60),
            Limited("per_minute", 59),
        )
        await place.sql("UPDATE sidekey_sends SET at = at - 50000")
        result = await store.reserve_send(other(3, per_minute=3), ENTRY)
        assert isinstance(result, Limited) and result.limit == "per_minute" and 1 <= result.retry_after <= 10
        await place.sql("UPDATE sidekey_sends SET at = at - 10000")
        result = await store.reserve_send(other(3, per_day=3), ENTRY)
        assert isinstance(result, Limited) and result.limit == "per_day" and 86_300 <= result.retry_after <= 86_340
        await reserved(store, other(3, per_minute=1, per_day=4))
        # The limits of identities are independent.
        await reserved(store, other(0, identity="token:2", per_minute=1))


async def test_batch_has_one_person_one_preset_and_one_audit_entry(place: StoreBackend) -> None:
    async with place.open() as store:
        for number in range(1, 4):
            result = await reserved(store, other(number, key=f"{'b' * 32}-{number}", batch="b" * 32, batch_rows=9))
            assert result.audited is None
        for keys in ({"identity": "token:2"}, {"preset": "points"}):
            new = other(9, key=f"{'b' * 32}-9", batch="b" * 32, batch_rows=9, **keys)
            assert await store.reserve_send(new, ENTRY) == OtherBatch()
        assert len((await store.audit_page()).entries) == 1
        assert [send.csv_row for send in await store.get_batch("b" * 32)] == [1, 2, 3]
        assert await store.get_batch("") == ()
        # A page shows only the newest row of a batch.
        await reserved(store, other(8))
        assert [send.key for send in (await store.send_page(identity="token:1")).sends] == [f"{8:016}", f"{'b' * 32}-3"]


async def test_page_reads_at_most_5000_rows_and_may_be_empty(place: StoreBackend) -> None:
    async with place.open() as store:
        await insert(place, 5200, preset="CASE WHEN n <= 100 THEN 'rare' ELSE 'welcome' END")
        first = await store.send_page(identity="token:1", preset="rare")
        assert first == SendPage((), 201)
        second = await store.send_page(identity="token:1", preset="rare", before=first.next)
        assert ([send.seq for send in second.sends], second.next) == ([*range(100, 50, -1)], 51)
        by_preset = await store.send_page(preset="rare")
        assert [send.seq for send in by_preset.sends] == [*range(100, 50, -1)]
        assert (await store.send_page(who="nobody", before=50)) == SendPage((), None)


async def test_maintenance_deletes_old_sends_and_fingerprints(place: StoreBackend) -> None:
    """In several transactions. An unfinished send reads as unknown after 90 seconds."""
    async with place.open() as store:
        # One a minute, for 8 days and 8 hours. Both processes have the same clock.
        now = int(time.time() * 1000)
        await insert(place, 12_000, at=f"{now} - CAST(n AS BIGINT) * 60000", outcome="'sending'", status="0")
        for number, outcome in ((1, "sending"), (2, "unknown")):
            row = await store.get_send("token:1", str(number))
            assert row is not None and row.outcome == outcome
        store.watch(lambda: None, fail_on_defect)
        async with asyncio.timeout(20):
            counts = "SELECT count(*), sum(CASE WHEN fingerprint <> '' THEN 1 ELSE 0 END) FROM sidekey_sends"
            while (row := (await place.sql(counts))[0]) != (10_079, 1439):
                assert row[0] >= 10_079, row
                await asyncio.sleep(0.05)
