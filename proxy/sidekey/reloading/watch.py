"""Reports that something may have changed in some folders, by the kernel's notifications where there are any.

The receiver finds out what did change: a notification can be lost, and says little where links are swapped.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# The documented interface to the Rust part, rather than `watchfiles.watch`: it says when the watch has begun, and reads
# no environment variable.
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from sidekey.observe.logs import get_logger

SETTLE = 200
"""Milliseconds without a further change before a report: several files are mostly written at once."""

LONGEST = 1_000
"""Milliseconds before a report, however many changes follow."""

_POLL_DELAY = 1_000


class Watch:
    """Watches the folders it was last given, in a thread, and calls `changed` on the event loop it was made on.

    `working` says whether notifications come of all of them. Where one may not be watched, or the kernel's limits are
    reached, that is logged, and only polling finds a change.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.working = False
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._folders: frozenset[Path] = frozenset()
        self._ways: frozenset[str] = frozenset()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._logged = False

    async def over(self, folders: frozenset[Path]) -> bool:
        """Watch these folders from the return on; True where that begins now: changes before it were not reported."""
        if folders == self._folders and self.working:
            return False
        await self.close()
        self._folders, self._stop = folders, threading.Event()
        self._ways = frozenset(str(way) for folder in folders for way in (folder, *folder.parents))
        begun: asyncio.Future[bool] = self._loop.create_future()
        thread = threading.Thread(target=self._run, args=(self._stop, begun), name="watch", daemon=True)
        thread.start()
        self._thread = thread
        self.working = await begun
        if not self.working and not self._logged:
            get_logger().warning("the config folders cannot be watched; they are checked every few seconds")
        self._logged = not self.working
        return self.working

    async def close(self) -> None:
        """End the thread, which takes up to `SETTLE`."""
        self.working = False
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _run(self, stop: threading.Event, begun: asyncio.Future[bool]) -> None:
        try:
            self._notified(stop, begun)
        finally:
            self._on_loop(self._ended, stop, begun)

    def _ended(self, stop: threading.Event, begun: asyncio.Future[bool]) -> None:
        """Whatever ended the thread, nobody waits for it any more, and nothing counts as watched."""
        self._set_result(begun, False)
        if stop is self._stop:
            self.working = False

    def _notified(self, stop: threading.Event, begun: asyncio.Future[bool]) -> None:
        try:
            paths = [str(folder) for folder in sorted(self._folders)]
            notify = RustNotify(paths, False, False, _POLL_DELAY, False, False)
        except (OSError, WatchfilesRustInternalError):
            return
        with notify:
            self._on_loop(self._set_result, begun, True)
            while not isinstance(changes := notify.watch(LONGEST, SETTLE, 0, stop), str):
                self._on_loop(self._notify, stop, any(path in self._ways for _, path in changes))

    def _notify(self, stop: threading.Event, moved: bool) -> None:
        if moved and stop is self._stop:
            # The kernel watches the folder that was there, not the one that bears its name now.
            self.working = False
        self._changed()

    @staticmethod
    def _set_result(begun: asyncio.Future[bool], working: bool) -> None:
        if not begun.done():
            begun.set_result(working)

    def _on_loop(self, what: Callable[..., object], *arguments: object) -> None:
        # The loop may have closed while the thread was on its way out.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)
