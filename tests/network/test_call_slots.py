"""network/call_slots.py: who may call, who waits, and whose kept connection makes room."""

from __future__ import annotations

import asyncio
import gc

import pytest

from sidekey.core.urls import Origin
from sidekey.network.call_slots import CallSlots, NoSlotError

ONE, TWO, THREE = (Origin("https", host, 443) for host in ("one.test", "two.test", "three.test"))
LATE = float("inf")


class Calls:
    """Calls that last until they are told to end; `begun` are those that have had their turn, in that order."""

    def __init__(self, slots: CallSlots) -> None:
        self.begun: list[str] = []
        self._slots = slots
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._over: dict[str, asyncio.Event] = {}

    async def begin(self, name: str, origin: Origin) -> None:
        """Have another one ask for its turn."""
        self._over[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._call(name, origin))
        await self._settle()

    async def end(self, name: str) -> None:
        """Let one get its response."""
        self._over[name].set()
        await self._tasks[name]
        await self._settle()

    async def cancel(self, name: str) -> None:
        """Have one give up, whether or not it has had its turn."""
        self._tasks[name].cancel()
        await self._settle()

    async def _call(self, name: str, origin: Origin) -> None:
        async with self._slots.turn(origin, LATE):
            self.begun.append(name)
            await self._over[name].wait()

    @staticmethod
    async def _settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_one_endpoint_has_at_most_half() -> None:
    """Rounded up; the next call to it waits, and one to another endpoint does not."""
    calls = Calls(CallSlots(3))
    for name in "abc":
        await calls.begin(name, ONE)
    assert calls.begun == ["a", "b"]
    await calls.begin("d", TWO)
    assert calls.begun == ["a", "b", "d"]
    await calls.end("a")
    assert calls.begun == ["a", "b", "d", "c"]
    for name in "bdc":
        await calls.end(name)


async def test_all_endpoints_together_have_no_more() -> None:
    """Who waits has its turn in the order of coming, also where one before it has given up."""
    calls = Calls(CallSlots(2))
    for name, origin in zip("abcd", (ONE, TWO, THREE, ONE), strict=True):
        await calls.begin(name, origin)
    assert calls.begun == ["a", "b"]
    await calls.cancel("c")
    await calls.end("b")
    assert calls.begun == ["a", "b"]
    await calls.cancel("a")
    assert calls.begun == ["a", "b", "d"]
    await calls.end("d")


@pytest.mark.parametrize(
    ("origins", "reason"),
    [
        ((ONE, ONE), "limit of 2 calls to it at a time reached"),
        ((ONE, ONE, TWO, TWO), "limit of 4 calls at a time reached, which NOFILE allows"),
    ],
    ids=["of its endpoint", "of all"],
)
async def test_a_turn_that_does_not_come_in_time_says_whose_calls_are_in_the_way(
    origins: tuple[Origin, ...], reason: str
) -> None:
    """And leaves its place to others."""
    slots = CallSlots(4)
    calls = Calls(slots)
    for number, origin in enumerate(origins):
        await calls.begin(str(number), origin)
    with pytest.raises(NoSlotError) as raised:
        async with slots.turn(origins[0] if len(origins) == 2 else THREE, 0.0):
            pytest.fail("it had no turn")
    assert raised.value.reason == reason
    for number in range(len(origins)):
        await calls.end(str(number))
    async with slots.turn(ONE, LATE), slots.turn(ONE, LATE), slots.turn(TWO, LATE), slots.turn(TWO, LATE):
        pass


async def test_the_limit_may_be_set_before_the_first_call() -> None:
    """Descriptors are counted once their limit has been raised."""
    slots = CallSlots(1)
    slots.limit(2)
    async with slots.turn(ONE, LATE), slots.turn(TWO, LATE):
        with pytest.raises(NoSlotError):
            async with slots.turn(THREE, 0.0):
                pytest.fail("it had a turn")


async def test_a_kept_connection_makes_room_the_longest_idle_first() -> None:
    """Only where the new one would be too many."""
    slots = CallSlots(3)
    closed: list[str] = []

    def keep(name: str) -> None:
        def close() -> None:
            closed.append(name)
            slots.forget(close)

        slots.keep(close)

    keep("old")
    keep("new")
    async with slots.turn(ONE, LATE):
        slots.make_room()
        assert closed == []
        async with slots.turn(TWO, LATE):
            slots.make_room()
            assert closed == ["old"]
            async with slots.turn(THREE, LATE):
                slots.make_room()
                assert closed == ["old", "new"]
                slots.make_room()
                assert closed == ["old", "new"]


async def test_endpoints_that_nobody_calls_are_forgotten() -> None:
    """There may be any number of them in a long life."""
    slots = CallSlots(4)
    async with slots.turn(ONE, LATE):
        assert len(slots._each) == 1
    gc.collect()
    assert len(slots._each) == 0
