"""What every part of the data plane shares: the limit of requests, ids, tasks, and the way to an end."""

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
from support.plane import LIMITS, eventually, integration
from support.scripted import NOWHERE


class Shared:
    """A worker, and the defects that it reported."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.metrics = Metrics()
        self.defects: list[BaseException] = []
        self.worker = Worker(
            Snapshot(integrations={}, limits=limits),
            metrics=self.metrics,
            access=AccessLog(NOWHERE, "off", path=False),
            audit=AuditLog(NOWHERE, "off"),
            report=self.report,
        )

    def report(self, defect: BaseException, request_id: str) -> str:
        self.defects.append(defect)
        return request_id


class Caller:
    """A caller's connection as a drain sees it."""

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


async def test_the_limit_counts_the_request_that_asks() -> None:
    """So it is exceeded by the one that is too many."""
    shared = Shared(Limits(in_flight=2))
    worker = shared.worker
    began = [worker.enter() for _ in range(2)]
    assert not worker.is_full
    began.append(worker.enter())
    assert worker.is_full
    worker.limit_in_flight(3)
    assert (worker.is_full, shared.metrics.in_flight_limit) == (False, 3)
    assert worker.leave(began[0]) >= 0
    assert shared.metrics.in_flight == 2


@pytest.mark.parametrize(("most", "half"), [(1, 1), (2, 1), (3, 2), (10_000, 5_000)])
async def test_one_of_several_origins_has_half_rounded_up(most: int, half: int) -> None:
    """Of the limit in effect; the only one has all of it."""
    worker = Shared().worker
    one, two = integration("a", "https://a.test"), integration("b", "https://b.test")
    worker.limit_in_flight(most)
    assert (worker.origin_limit, worker.is_divided) == (most, False)
    worker.prepare(Snapshot({"a": one, "b": two}))()
    assert (worker.in_flight_limit, worker.origin_limit, worker.is_divided) == (most, half, True)
    worker.limit_in_flight(2 * most)
    assert worker.origin_limit == most
    worker.prepare(Snapshot({"a": one}))()
    assert worker.origin_limit == 2 * most


async def test_ids_are_the_processes_own_and_count() -> None:
    """The word is that of Via."""
    worker, other = Shared().worker, Shared().worker
    word = worker.instance.decode()
    assert [worker.next_id() for _ in range(17)][-2:] == [f"{word}-10".encode(), f"{word}-11".encode()]
    assert (len(word), word != other.instance.decode()) == (8, True)


async def test_another_snapshot_counts_once_it_is_put_in_force() -> None:
    """For the requests that begin then; preparing changes nothing."""
    worker = Shared().worker
    former = worker.rules
    commit = worker.prepare(Snapshot(integrations={}, timeouts=Timeouts(idle=1)))
    assert worker.rules is former
    commit()
    assert worker.rules.timeouts.idle == 1
    assert worker.instance in worker.rules.via


async def test_a_defect_of_a_task_is_reported() -> None:
    """Its cancellation is none; and a task is held on to until it is done."""
    shared = Shared()
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


async def test_what_an_attempt_comes_to_is_answered() -> None:
    """Its problem, or that a defect was reported; nothing where it succeeds."""
    shared = Shared()
    answers: list[Problem] = []
    problem = Problem("overloaded", "why")

    async def works() -> None:
        """Comes to nothing that is answered."""

    async def fails() -> None:
        raise ProblemError(problem)

    async def breaks() -> None:
        raise LookupError

    for work in (works, fails, breaks):
        shared.worker.attempt(work, answers.append, b"w-1")
        await eventually(lambda: not shared.worker.is_waiting)
    assert answers[0] is problem
    assert [each.code for each in answers] == ["overloaded", "internal_error"]
    assert answers[1].detail == "a defect of Sidekey, logged as w-1"
    assert [type(defect) for defect in shared.defects] == [LookupError]


async def test_a_defect_in_a_later_step_is_reported_and_answered() -> None:
    """A step that works is not."""
    shared = Shared()
    answers: list[Problem] = []

    def breaks() -> None:
        raise LookupError

    for step in (lambda: None, breaks):
        shared.worker.soon(step, answers.append, b"w-1")
    assert not answers
    await asyncio.sleep(0)
    (answer,) = answers
    assert (answer.code, answer.detail) == ("internal_error", "a defect of Sidekey, logged as w-1")
    assert [type(defect) for defect in shared.defects] == [LookupError]


async def test_a_connection_that_is_being_made_is_counted_with_what_comes_of_it() -> None:
    shared = Shared()
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
            outcomes.append(await shared.worker.connecting(dial(error), stats))
        except (ProblemError, LookupError, asyncio.CancelledError) as raised:
            assert raised is error
        assert metrics.upstream_connecting == 0
    assert outcomes == ["connection"]
    assert stats.connects == {"ok": 1, "connection_refused": 1, "proxy_internal_error": 1}


async def test_a_defect_is_told_by_its_id_alone() -> None:
    """That of the request, under which it is logged. What it says may be secret."""
    shared = Shared()
    problem = shared.worker.defect(LookupError("secret"), b"w-2f")
    assert (problem.code, problem.sent) == ("internal_error", "maybe")
    assert problem.detail == "a defect of Sidekey, logged as w-2f"
    assert "secret" not in problem.detail


async def test_the_longest_idle_callers_make_room() -> None:
    """As soon as their connections would take what requests in flight need for their upstreams."""
    worker = Shared(Limits(in_flight=3)).worker
    worker.limit_descriptors(8)
    busy, *idle = callers = [Caller(), *(Caller(idle_since=since) for since in (3.0, 1.0, 2.0, 2.0))]
    assert all(worker.opened(caller) for caller in callers)
    assert [caller.calls for caller in callers] == [[]] * 5
    for gone in (idle[1], idle[2], idle[3], idle[0]):
        late = Caller()
        assert worker.opened(late)
        assert (gone.calls, gone in worker.connections) == (["close_if_idle"], False)
        assert late in worker.connections
    assert not worker.opened(Caller())
    assert busy in worker.connections


async def test_callers_without_end_are_looked_at_once_a_tick() -> None:
    """Where nobody is idle, a connection that is refused must not cost a look at all the others."""
    looks = 0

    class Busy(Caller):
        @property
        def idle_since(self) -> float:
            nonlocal looks
            looks += 1
            return NEVER

        @idle_since.setter
        def idle_since(self, _: float) -> None:
            """It never is."""

    worker = Shared(Limits(in_flight=1)).worker
    worker.limit_descriptors(101)
    busy = [Busy() for _ in range(100)]
    for each in busy:
        assert worker.opened(each)
    looks = 0
    late = [Busy() for _ in range(100)]
    for each in late:
        assert not worker.opened(each)
        worker.closed(each)
    # All of them once, and the candidates again.
    assert looks == 100 + 7
    worker.closed(busy[0])
    idle = Caller(idle_since=0.5)
    assert worker.opened(idle)
    assert not worker.opened(late[0])
    worker.closed(late[0])
    worker.deadlines.look(1.0)
    assert worker.opened(Caller())
    assert idle.calls == ["close_if_idle"]


async def test_upstreams_in_use_take_room_from_callers() -> None:
    """More than may be in flight are idle ones, kept for the next request."""
    shared = Shared(Limits(in_flight=1))
    worker, metrics = shared.worker, shared.metrics
    worker.limit_descriptors(4)
    assert worker.opened(Caller())
    metrics.upstream_open = 2
    assert not worker.has_no_room
    metrics.upstream_connecting = 1
    assert worker.has_no_room
    assert not worker.opened(Caller())


async def test_passages_take_room_beside_the_requests_in_flight() -> None:
    """Each takes the descriptor of its target, for which those make room that are idle for the longest time."""
    worker = Shared(Limits(in_flight=2)).worker
    worker.limit_descriptors(14)
    busy, first, second = callers = [Caller(), Caller(idle_since=1.0), Caller(idle_since=2.0)]
    assert all(worker.opened(caller) for caller in [*callers, *(Caller() for _ in range(8))])
    passages = [Caller() for _ in range(3)]
    assert worker.enter_passthrough(passages[0])
    assert (first.calls, second.calls) == ([], [])
    assert worker.enter_passthrough(passages[1])
    assert (first.calls, second.calls) == (["close_if_idle"], [])
    assert worker.enter_passthrough(passages[2])
    assert second.calls == ["close_if_idle"]
    late = Caller()
    assert not worker.opened(late)
    worker.closed(late)
    worker.leave_passthrough(passages[0])
    worker.leave_passthrough(passages[0])
    assert worker.opened(late)
    assert not worker.enter_passthrough(passages[0])
    assert busy in worker.connections


async def test_passages_have_half_of_the_room_of_callers() -> None:
    """Two descriptors each."""
    worker = Shared(Limits(in_flight=4)).worker
    worker.limit_descriptors(16)
    passages = [Caller() for _ in range(3)]
    for each in passages:
        assert worker.opened(each)
        assert worker.enter_passthrough(each)
    assert not worker.enter_passthrough(Caller())
    worker.leave_passthrough(passages[0])
    assert worker.enter_passthrough(Caller())


async def test_the_connections_of_passages_are_none_of_those_kept_for_requests() -> None:
    """They are open upstreams too, and must not be taken for those of requests in flight."""
    shared = Shared(Limits(in_flight=2))
    worker = shared.worker
    worker.limit_descriptors(6)
    assert worker.enter_passthrough(Caller())
    shared.metrics.upstream_open = 1
    assert [worker.opened(Caller()) for _ in range(4)] == [True, True, True, False]


async def test_a_drain_without_connections_is_over_at_once() -> None:
    """There is nothing to wait for."""
    worker = Shared().worker
    worker.drain()
    assert worker.draining
    end = asyncio.create_task(worker.finish(30))
    await asyncio.sleep(0)
    assert end.done()
    assert end.result() is True


async def test_a_drain_waits_until_idle_connections_have_closed() -> None:
    """They are left alone at the first look; how long they take is their business."""
    worker = Shared().worker
    caller = Caller()
    worker.opened(caller)
    worker.drain()
    end = asyncio.create_task(worker.finish(30))
    await eventually(lambda: len(caller.calls) == 3)
    assert not end.done()
    worker.closed(caller)
    assert await end is True
    assert caller.calls == ["look", "look again", "look again"]


async def test_an_idle_connection_that_does_not_close_in_time_was_not_cut() -> None:
    """There is nothing of it that could be."""
    worker = Shared().worker
    worker.opened(Caller())
    worker.drain()
    assert await worker.finish(0.05) is True


@pytest.mark.parametrize("earlier", [True, False], ids=["after an earlier one", "the only one"])
async def test_a_drain_waits_for_the_last_request(earlier: bool) -> None:
    """Also where none was under way when it began, or one had ended since."""
    shared = Shared()
    worker = shared.worker
    if not earlier:
        began = worker.enter()
    worker.drain()
    if earlier:
        worker.leave(worker.enter())
        began = worker.enter()
    end = asyncio.create_task(worker.finish(30))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not end.done()
    worker.leave(began)
    assert await end is True


@pytest.mark.parametrize("unsent", [True, False], ids=["a response", "a request"])
async def test_a_drain_says_where_its_time_was_up(unsent: bool) -> None:
    """It was not clean then; what is left is for `close` to end."""
    worker = Shared().worker
    caller = Caller(unsent=unsent)
    worker.opened(caller)
    if not unsent:
        worker.enter()
    worker.drain()
    assert await worker.finish(0.15) is False
    assert caller.calls == ["look", "look again"]


async def test_the_end_is_that_of_every_connection_and_task() -> None:
    """Those that are known then; one that has closed is none."""
    shared = Shared()
    worker = shared.worker
    worker.deadlines.start(asyncio.get_running_loop())
    open_, closed = Caller(), Caller()
    for caller in (open_, closed):
        worker.opened(caller)
    worker.closed(closed)
    assert worker.connections == {open_}
    worker.spawn(asyncio.sleep(3600))
    await worker.close()
    assert (open_.calls, closed.calls, worker.is_waiting) == (["end"], [], False)
    now = worker.deadlines.now
    await asyncio.sleep(0.15)
    assert worker.deadlines.now == now


def niceness() -> int:
    """Of the thread that asks."""
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="a niceness is a thread's own on Linux alone")
async def test_a_thread_that_signs_a_long_body_gives_way_to_the_loop() -> None:
    """Nobody else's priority changes."""
    shared = Shared()
    before = niceness()
    try:
        assert await shared.worker.in_thread(niceness, long=True) == 19
        assert await shared.worker.in_thread(niceness, long=False) == niceness() == before
    finally:
        await shared.worker.close()


async def test_a_sandbox_may_keep_threads_from_giving_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """They sign all the same."""

    def refused(_: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "nice", refused)
    shared = Shared()
    try:
        assert await shared.worker.in_thread(lambda: "signed", long=True) == "signed"
    finally:
        await shared.worker.close()


async def test_the_end_waits_for_no_thread_that_signs() -> None:
    """What it signs is for nobody by then."""
    shared = Shared()
    release = threading.Event()
    signing = shared.worker.in_thread(release.wait, long=True)
    await asyncio.sleep(0)
    await shared.worker.close()
    assert not signing.done()
    release.set()
    assert await signing
