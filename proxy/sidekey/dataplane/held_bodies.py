"""The room for bodies that are held until they are whole, since they are signed: nobody may take all of it.

Who finds no room waits in line for `PATIENCE` seconds. A body of unknown length takes `FIRST` bytes and, if it is
longer, all that a body may have: so nobody waits while holding more than that, and all that is held so leaves room for
one whole body. Whoever waits longest is therefore always let in once the others are done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakValueDictionary

from sidekey.core.framing import CHUNKED
from sidekey.dataplane.deadlines import NEVER
from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem
from sidekey.runtime.rules import Limits
from sidekey.runtime.snapshot import Snapshot

FIRST: Final = 64 << 10
"""Bytes that a body of unknown length takes at first. While others wait, an upload must bring as many in `PATIENCE`."""

PATIENCE: Final = 5.0
"""Seconds that one waits for room at most."""

SMALL: Final = 4 << 10
"""Pieces that are shorter than this are joined, so that none of them costs much more than its bytes."""

_RETRY_AFTER: Final = (("Retry-After", "1"),)
_FULL: Final = Problem("overloaded", "limits.held_bodies is reached", headers=_RETRY_AFTER)
_PART_FULL: Final = Problem(
    "overloaded",
    "one integration holds half of limits.held_bodies, which is the most that one may have",
    headers=_RETRY_AFTER,
)
_TOO_SLOW: Final = Problem(
    "request_timeout", "the body came too slowly while other requests waited for room in limits.held_bodies"
)


class Holder(Protocol):
    """Whose body is held."""

    def room_found(self) -> None:
        """There is room now: go on."""
        ...

    def refuse(self, problem: Problem) -> None:
        """End with this response."""
        ...


class HeldBody:
    """What has come of one body, in pieces, and the room that it takes.

    `waits` says that it is in line for room, `wanted` for how much more; `due` when that, or the next `FIRST` bytes of
    an upload, must have come. `ticket` tells who came first.
    """

    __slots__ = (
        "_is_first",
        "_most",
        "_pace",
        "_pieces",
        "_size",
        "_taken",
        "due",
        "part",
        "ticket",
        "waits",
        "wanted",
    )

    def __init__(self, part: Part, most: int) -> None:
        self.part: Final = part
        self._most: Final = most
        self._pieces: list[bytes] = []
        self._size = self._taken = self._pace = 0
        self._is_first = False
        self.waits = False
        self.wanted = 0
        self.ticket = 0
        self.due = NEVER

    def add(self, pieces: list[bytes]) -> None:
        """More of the body has come."""
        kept = self._pieces
        for piece in pieces:
            size = len(piece)
            self._size += size
            if size < SMALL and kept and len(kept[-1]) < SMALL:
                kept[-1] += piece
            elif size:
                kept.append(piece)
        if self.due != NEVER and not self.waits and self._size >= self._pace:
            self.part.expect_more(self)

    def has_room(self, length: int, *, complete: bool, holder: Holder) -> bool:
        """Whether the body may be held as far as it has come, and read on; else it waits, and `holder` is told.

        `length` is the whole body's, or CHUNKED. Once it is `complete`, it takes what it needs and no more.
        """
        if self.waits:
            return False
        if complete:
            wanted = self._size
        elif length != CHUNKED:
            wanted = length
        elif max(self._size, self._taken) <= FIRST and self._counts_as_first():
            wanted = FIRST
        else:
            wanted = self._most
        wanted -= self._taken
        if wanted > 0:
            if not self.part.may_take(wanted):
                self.wanted = wanted
                self.waits = True
                self.part.enqueue(self, holder)
                return False
            self._take(wanted)
        elif complete:
            self.part.give_back(-wanted)
            self._taken += wanted
        if complete:
            self._end_upload()
        elif self.due == NEVER:
            self.part.begin_upload(self, holder)
        return True

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._size

    def _counts_as_first(self) -> bool:
        if not self._is_first and self.part.has_room_for_first(self._most):
            self._is_first = True
            self.part.count_first(1)
        return self._is_first

    def _take(self, size: int) -> None:
        if self._is_first and self._taken:
            # It goes beyond its first bytes.
            self._is_first = False
            self.part.count_first(-1)
        self._taken += size
        self.part.take(size)

    def _end_upload(self) -> None:
        if self.due != NEVER:
            self.due = NEVER
            self.part.end_upload(self)
        if self._is_first:
            self._is_first = False
            self.part.count_first(-1)

    def be_due(self, when: float) -> None:
        """Have until then: for room, or for the next bytes."""
        self.due = when
        self._pace = self._size + FIRST

    def queue_as(self, ticket: int) -> None:
        """Wait behind all whose tickets are lower."""
        self.ticket = ticket

    def admit(self) -> None:
        """Take what was waited for."""
        self.waits = False
        self.due = NEVER
        self._take(self.wanted)

    def collect(self) -> list[bytes]:
        """The pieces of the whole body, whose room stays taken."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def written(self, size: int) -> None:
        """So many bytes of it are not held any more; what is written a second time takes no room by then."""
        size = min(size, self._taken)
        self._taken -= size
        self.part.give_back(size)

    def end(self) -> None:
        """Hold nothing any more, and wait for nothing."""
        self._pieces = []
        if self.waits:
            self.waits = False
            self.due = NEVER
            self.part.leave_line(self)
        self._end_upload()
        taken, self._taken = self._taken, 0
        if taken:
            self.part.give_back(taken)


class Part:
    """What one integration takes of the room: half of it at most, where there are several.

    `_waiting` are in the order in which they came, `_uploads` in that of what is due of them.
    """

    __slots__ = ("_firsts", "_room", "_taken", "_uploads", "_waiting")

    def __init__(self, room: Room) -> None:
        self._room: Final = room
        self._taken = self._firsts = 0
        self._waiting: dict[HeldBody, Holder] = {}
        self._uploads: dict[HeldBody, Holder] = {}

    @property
    def taken(self) -> int:
        """Bytes that its bodies take."""
        return self._taken

    def fits(self, size: int) -> bool:
        """Whether it may take so many bytes more, as far as it is concerned."""
        return self._taken + size <= self._room.part_limit

    def may_take(self, size: int) -> bool:
        """Whether one that comes now may take so many bytes: there is room for them, and nobody waits before it."""
        return not self._waiting and self.fits(size) and self._room.may_take(size)

    def take(self, size: int) -> None:
        """Take so many bytes."""
        self._taken += size
        self._room.take(size)

    def give_back(self, size: int) -> None:
        """Take so many bytes less; whoever waits for them is let in."""
        self._taken -= size
        self._room.give_back(size)

    def has_room_for_first(self, most: int) -> bool:
        """Whether one more may take its first bytes alone: a whole body, of `most` bytes, must still have room."""
        room = self._room
        return (self._firsts + 1) * FIRST + most <= room.part_limit and (room.firsts + 1) * FIRST + most <= room.limit

    def count_first(self, count: int) -> None:
        """So many more have, or wait for, their first bytes alone."""
        self._firsts += count
        self._room.count_first(count)

    # Uploads.

    def begin_upload(self, body: HeldBody, holder: Holder) -> None:
        """The rest of a body is being read."""
        self._uploads[body] = holder
        body.be_due(self._room.now + PATIENCE)

    def expect_more(self, body: HeldBody) -> None:
        """It has brought what was due in time."""
        self._uploads[body] = self._uploads.pop(body)
        body.be_due(self._room.now + PATIENCE)

    def end_upload(self, body: HeldBody) -> None:
        """It is whole, or given up."""
        self._uploads.pop(body, None)

    def refuse_slow(self, now: float) -> None:
        """End the uploads that are too slow for those who wait."""
        while self._uploads:
            body, holder = next(iter(self._uploads.items()))
            if body.due > now:
                return
            self._uploads.pop(body)
            holder.refuse(_TOO_SLOW)

    # Who waits.

    @property
    def first(self) -> HeldBody | None:
        """Who waits longest here."""
        return next(iter(self._waiting), None)

    def enqueue(self, body: HeldBody, holder: Holder) -> None:
        """Have a body wait behind the others."""
        self._uploads.pop(body, None)
        self._waiting[body] = holder
        body.queue_as(self._room.next_ticket(self))
        body.be_due(self._room.now + PATIENCE)

    def leave_line(self, body: HeldBody) -> None:
        """It waits no more; there may be room for whoever stood behind it."""
        self._waiting.pop(body, None)
        if not self._waiting:
            self._room.nobody_waits(self)
        self._room.serve()

    def admit_first(self, body: HeldBody) -> None:
        """Let in who waits longest."""
        holder = self._waiting[body]
        self.leave_line(body)
        body.admit()
        holder.room_found()

    def refuse_late(self, now: float) -> None:
        """End those who have waited for too long."""
        while (body := self.first) is not None and body.due <= now:
            problem = _FULL if self.fits(body.wanted) or not self._room.is_divided else _PART_FULL
            self._waiting[body].refuse(problem)


Hold = frozenset[Part]
"""A part, held, as `dataplane.shares.Hold` is."""


class Room:
    """The room of one process. It looks at who waits, and at slow uploads, at each tick while somebody does.

    `part_limit` is how many bytes one integration may take. `firsts` counts the bodies that have, or wait for, their
    first bytes alone.
    """

    __slots__ = (
        "_parts",
        "_serving",
        "_taken",
        "_tickets",
        "_waiting",
        "_worker",
        "deadline",
        "firsts",
        "is_divided",
        "limit",
        "part_limit",
    )

    def __init__(self, worker: Worker, snapshot: Snapshot) -> None:
        self._worker: Final = worker
        self._parts: WeakValueDictionary[str, Hold] = WeakValueDictionary()
        self._waiting: dict[Part, None] = {}
        self._taken = self._tickets = self.firsts = 0
        self._serving = False
        self.deadline = NEVER
        self._go_by(snapshot.limits, divided=snapshot.several_hold)

    def _go_by(self, limits: Limits, *, divided: bool) -> None:
        self.limit = limits.held_bodies
        self.is_divided = divided
        self.part_limit = self.limit // 2 if divided else self.limit

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Make ready to go by another snapshot; the result does so. What is held stays."""
        limits, divided = snapshot.limits, snapshot.several_hold

        def commit() -> None:
            self._go_by(limits, divided=divided)
            self.serve()

        return commit

    def part(self, name: str) -> Hold:
        """The part of an integration by its ID: the same one for all who ask while anybody holds it."""
        hold = self._parts.get(name)
        if hold is None:
            hold = self._parts[name] = frozenset((Part(self),))
        return hold

    @property
    def worker(self) -> Worker:
        """Whose room it is."""
        return self._worker

    @property
    def now(self) -> float:
        """The time of the last tick."""
        return self._worker.deadlines.now

    @property
    def taken(self) -> int:
        """Bytes that are taken."""
        return self._taken

    def fits(self, size: int) -> bool:
        """Whether there are so many bytes."""
        return self._taken + size <= self.limit

    def may_take(self, size: int) -> bool:
        """The same for one that comes now: nobody may be waiting but for room of their own part."""
        return self.fits(size) and not (self._waiting and self._is_awaited)

    @property
    def _is_awaited(self) -> bool:
        """Whether somebody waits who would fit into their part."""
        return any((first := part.first) is not None and part.fits(first.wanted) for part in self._waiting)

    def take(self, size: int) -> None:
        """Count bytes in."""
        self._taken += size

    def give_back(self, size: int) -> None:
        """Count bytes out; whoever waits for them is let in."""
        self._taken -= size
        self.serve()

    def count_first(self, count: int) -> None:
        """So many more have, or wait for, their first bytes alone."""
        self.firsts += count

    def next_ticket(self, part: Part) -> int:
        """The ticket of one that waits from now on."""
        if not self._waiting:
            self.deadline = self.now
            self._worker.deadlines.watch(self)
        self._waiting[part] = None
        self._tickets += 1
        return self._tickets

    def nobody_waits(self, part: Part) -> None:
        """Nobody of this part does any more."""
        self._waiting.pop(part, None)
        if not self._waiting:
            self.deadline = NEVER
            self._worker.deadlines.forget(self)

    def serve(self) -> None:
        """Let in whom there is room for, in their order; those of a full part are passed over until it has room.

        Who is let in may give back room before this returns: one round at a time, however many wait.
        """
        if self._serving or not self._waiting:
            return
        self._serving = True
        try:
            while (found := self._next()) is not None:
                part, body = found
                part.admit_first(body)
        finally:
            self._serving = False

    def _next(self) -> tuple[Part, HeldBody] | None:
        """Who is to be let in now: who waits longest of those whose part has room, if all have room for them."""
        found: tuple[Part, HeldBody] | None = None
        for part in self._waiting:
            body = part.first
            if body is not None and part.fits(body.wanted) and (found is None or body.ticket < found[1].ticket):
                found = (part, body)
        return found if found is not None and self.fits(found[1].wanted) else None

    def expired(self) -> None:
        """A tick has passed while somebody waits."""
        now = self.now
        self.deadline = now
        # Where one integration waits for room of its own part, the uploads of others do not delay it.
        awaited = [part for hold in self._parts.values() for part in hold] if self._is_awaited else list(self._waiting)
        for part in awaited:
            part.refuse_slow(now)
        for part in list(self._waiting):
            part.refuse_late(now)
