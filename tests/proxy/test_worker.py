"""The worker: request limit, IDs, tasks, eviction and drain."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from sidekey.errors import Problem, ProblemError
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.snapshot import Snapshot
from support.plane import LIMITS, eventually
from support.scripted import DISCARD


class RecordingWorker:
    """A worker and its reported defects."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.metrics = Metrics()
        self.defects: list[BaseException] = []
        self.worker = Worker(
            Snapshot(integrations={}, limits=limits),
            metrics=self.metrics,
            access=AccessLog(DISCARD, "off", path=False),
            audit=AuditLog(DISCARD, "off"),
            report=self.report,
        )

    def report(self, defect: BaseException, request_id: str) -> str:
        self.defects.append(defect)
        return request_id


class Caller:
    """A caller's connection for a drain."""

    def __init__(self, *, unsent: bool = False, idle_since: float = NEVER) -> None:
        self.unsent = unsent
        self.idle_since = idle_since
        self.calls: list[str] = []

    def close_if_idle(self) -> bool:
        self.calls.append("close_if_idle")
        return self.idle_since < NEVER

    def wind_down(self, *, patient: bool) -> None:
        self.calls.append("look" if patient else "look again")

    def end(self) -> None:
        self.calls.append("end")


async def test_ids_have_the_name_of_the_process_and_a_counter() -> None:
    """The name is that of Via."""
    worker, other = RecordingWorker().worker, RecordingWorker().worker
    word = worker.instance.decode()
    assert [worker.next_id() for _ in range(17)][-2:] == [f"{word}-10".encode(), f"{word}-11".encode()]
    assert (len(word), word != other.instance.decode()) == (8, True)


async def test_snapshot_applies_once_it_is_committed() -> None:
    """To new requests. Preparation has no effect."""
    worker = RecordingWorker().worker
    previous = worker.rules
    commit = worker.prepare(Snapshot(integrations={}, timeouts=Timeouts(idle=1)))
    assert worker.rules is previous
    commit()
    assert worker.rules.timeouts.idle == 1
    assert worker.instance in worker.rules.via


async def test_a_defect_of_a_task_is_reported() -> None:
    """Cancellation is not a defect. The worker keeps a reference until the task ends."""
    shared = RecordingWorker()
    go = asyncio.Event()

    async def fails() -> None:
        await go.wait()
        raise LookupError

    shared.worker.spawn(fails())
    shared.worker.spawn(asyncio.sleep(3600))
    assert shared.worker.is_waiting
    go.set()
    await eventually(lambda: shared.defects)
    assert shared.worker.is_waiting
    await shared.worker.close()
    assert not shared.worker.is_waiting
    assert [type(defect) for defect in shared.defects] == [LookupError]


async def test_a_defect_in_a_later_step_is_reported_and_answered() -> None:
    shared = RecordingWorker()
    responses: list[Problem] = []

    def breaks() -> None:
        raise LookupError

    for step in (lambda: None, breaks):
        shared.worker.run_soon(step, responses.append, b"w-1")
    assert not responses
    await asyncio.sleep(0)
    (response,) = responses
    assert (response.code, response.detail) == ("internal_error", "a defect of Sidekey, logged as w-1")
    assert [type(defect) for defect in shared.defects] == [LookupError]


async def test_pending_connection_is_counted_with_its_outcome() -> None:
    shared = RecordingWorker()
    metrics, outcomes = shared.metrics, []
    stats = metrics.stats("h")

    async def dial(error: BaseException | None) -> str:
        assert metrics.upstream_connecting == 1
        if error is not None:
            raise error
        return "connection"

    # One that is cancelled ends with the process: nothing has come of it.
    ends = (None, ProblemError(Problem("upstream_unreachable", "why")), LookupError(), asyncio.CancelledError())
    for error in ends:
        try:
            outcomes.append(await shared.worker.count_connecting(dial(error), stats))
        except (ProblemError, LookupError, asyncio.CancelledError) as raised:
            assert raised is error
        assert metrics.upstream_connecting == 0
    assert outcomes == ["connection"]
    assert stats.connects == {"ok": 1, "connection_refused": 1, "proxy_internal_error": 1}


async def test_longest_idle_callers_are_evicted() -> None:
    """As soon as requests in flight need their descriptors for upstreams."""
    worker = RecordingWorker(Limits(in_flight=3)).worker
    worker.limit_descriptors(8)
    busy, *idle = callers = [Caller(), *(Caller(idle_since=since) for since in (3.0, 1.0, 2.0, 2.0))]
    assert all(worker.register(caller) for caller in callers)
    assert [caller.calls for caller in callers] == [[]] * 5
    for gone in (idle[1], idle[2], idle[3], idle[0]):
        late = Caller()
        assert worker.register(late)
        assert (gone.calls, gone in worker.connections) == (["close_if_idle"], False)
        assert late in worker.connections
    assert not worker.register(Caller())
    assert busy in worker.connections


async def test_callers_are_searched_once_in_each_tick() -> None:
    """If none is idle, a refused connection must not search all others."""
    looks = 0

    class Busy(Caller):
        @property
        def idle_since(self) -> float:
            nonlocal looks
            looks += 1
            return NEVER

        @idle_since.setter
        def idle_since(self, _: float) -> None:
            """Never idle."""

    worker = RecordingWorker(Limits(in_flight=1)).worker
    worker.limit_descriptors(101)
    busy = [Busy() for _ in range(100)]
    for item in busy:
        assert worker.register(item)
    looks = 0
    late = [Busy() for _ in range(100)]
    for item in late:
        assert not worker.register(item)
        worker.unregister(item)
    # All of them once, and the candidates again.
    assert looks == 100 + 7
    worker.unregister(busy[0])
    idle = Caller(idle_since=0.5)
    assert worker.register(idle)
    assert not worker.register(late[0])
    worker.unregister(late[0])
    worker.deadlines.look(1.0)
    assert worker.register(Caller())
    assert idle.calls == ["close_if_idle"]


async def test_upstreams_in_use_take_room_from_callers() -> None:
    shared = RecordingWorker(Limits(in_flight=1))
    worker, metrics = shared.worker, shared.metrics
    worker.limit_descriptors(4)
    assert worker.register(Caller())
    metrics.upstream_open = 2
    assert not worker.has_no_room
    metrics.upstream_connecting = 1
    assert worker.has_no_room
    assert not worker.register(Caller())


async def test_passthrough_tunnels_need_a_second_descriptor() -> None:
    """The longest idle connections are evicted for it."""
    worker = RecordingWorker(Limits(in_flight=2)).worker
    worker.limit_descriptors(14)
    busy, first, second = callers = [Caller(), Caller(idle_since=1.0), Caller(idle_since=2.0)]
    assert all(worker.register(caller) for caller in [*callers, *(Caller() for _ in range(8))])
    passages = [Caller() for _ in range(3)]
    assert worker.enter_passthrough(passages[0])
    assert (first.calls, second.calls) == ([], [])
    assert worker.enter_passthrough(passages[1])
    assert (first.calls, second.calls) == (["close_if_idle"], [])
    assert worker.enter_passthrough(passages[2])
    assert second.calls == ["close_if_idle"]
    late = Caller()
    assert not worker.register(late)
    worker.unregister(late)
    worker.leave_passthrough(passages[0])
    worker.leave_passthrough(passages[0])
    assert worker.register(late)
    assert not worker.enter_passthrough(passages[0])
    assert busy in worker.connections


async def test_passthrough_tunnels_get_half_of_the_callers_descriptors() -> None:
    worker = RecordingWorker(Limits(in_flight=4)).worker
    worker.limit_descriptors(16)
    passages = [Caller() for _ in range(3)]
    for item in passages:
        assert worker.register(item)
        assert worker.enter_passthrough(item)
    assert not worker.enter_passthrough(Caller())
    worker.leave_passthrough(passages[0])
    assert worker.enter_passthrough(Caller())


async def test_passthrough_connections_do_not_count_as_upstreams_of_requests() -> None:
    shared = RecordingWorker(Limits(in_flight=2))
    worker = shared.worker
    worker.limit_descriptors(6)
    assert worker.enter_passthrough(Caller())
    shared.metrics.upstream_open = 1
    assert [worker.register(Caller()) for _ in range(4)] == [True, True, True, False]


async def test_a_drain_without_connections_is_over_at_once() -> None:
    worker = RecordingWorker().worker
    worker.drain()
    assert worker.draining
    end = asyncio.create_task(worker.finish(30))
    await asyncio.sleep(0)
    assert end.done()
    assert end.result() is True


async def test_a_drain_waits_until_idle_connections_have_closed() -> None:
    worker = RecordingWorker().worker
    caller = Caller()
    worker.register(caller)
    worker.drain()
    end = asyncio.create_task(worker.finish(30))
    await eventually(lambda: len(caller.calls) == 3)
    assert not end.done()
    worker.unregister(caller)
    assert await end is True
    assert caller.calls == ["look", "look again", "look again"]


async def test_idle_connection_that_does_not_close_does_not_fail_the_drain() -> None:
    """Nothing is truncated."""
    worker = RecordingWorker().worker
    worker.register(Caller())
    worker.drain()
    assert await worker.finish(0.05) is True


@pytest.mark.parametrize("earlier", [True, False], ids=["after an earlier one", "the only one"])
async def test_a_drain_waits_for_the_last_request(earlier: bool) -> None:
    """Also if none was active at the start."""
    shared = RecordingWorker()
    worker = shared.worker
    if not earlier:
        began = worker.begin_request()
    worker.drain()
    if earlier:
        worker.end_request(worker.begin_request())
        began = worker.begin_request()
    end = asyncio.create_task(worker.finish(30))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not end.done()
    worker.end_request(began)
    assert await end is True


async def test_close_ends_every_connection_and_task() -> None:
    shared = RecordingWorker()
    worker = shared.worker
    worker.deadlines.start(asyncio.get_running_loop())
    open_, closed = Caller(), Caller()
    for caller in (open_, closed):
        worker.register(caller)
    worker.unregister(closed)
    assert worker.connections == {open_}
    worker.spawn(asyncio.sleep(3600))
    await worker.close()
    assert (open_.calls, closed.calls, worker.is_waiting) == (["end"], [], False)
    now = worker.deadlines.now
    await asyncio.sleep(0.15)
    assert worker.deadlines.now == now


def niceness() -> int:
    """Return the niceness of the calling thread."""
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="a niceness is a thread's own on Linux alone")
async def test_signing_thread_has_a_lower_priority() -> None:
    """Other threads keep theirs."""
    shared = RecordingWorker()
    before = niceness()
    try:
        assert await shared.worker.run_in_thread(niceness, long=True) == 19
        assert await shared.worker.run_in_thread(niceness, long=False) == niceness() == before
    finally:
        await shared.worker.close()


async def test_signing_works_if_a_sandbox_denies_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "nice", refused)
    shared = RecordingWorker()
    try:
        assert await shared.worker.run_in_thread(lambda: "signed", long=True) == "signed"
    finally:
        await shared.worker.close()


async def test_shutdown_does_not_wait_for_signing_threads() -> None:
    shared = RecordingWorker()
    release = threading.Event()
    signing = shared.worker.run_in_thread(release.wait, long=True)
    await asyncio.sleep(0)
    await shared.worker.close()
    assert not signing.done()
    release.set()
    assert await signing
