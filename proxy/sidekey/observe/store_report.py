"""Tell operators how the store is: by metrics, and by a line of the log if that changes."""

from __future__ import annotations

from collections.abc import Mapping

from sidekey.observe.logs import get_logger
from sidekey.observe.metrics import Metrics
from sidekey.store.state import Name, State
from sidekey.store.store import Health


class StoreReport:
    """The last report on the store of a process. Before the first report it counts as up."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = get_logger()
        self._problem = ""
        self._read_only = False
        self._altered: frozenset[Name] = frozenset()
        self._rolled_back: Mapping[Name, tuple[int, int]] = {}

    def note(self, health: Health, state: State, *, read: bool = True) -> None:
        """Report the state of the connection and of the rows. Nothing is in use until the store was `read`."""
        problem = health.problem
        self._metrics.store = (not problem, state.revision, bool(state.rolled_back))
        self._note_rows(state)
        if health.read_only and not self._read_only:
            self._log.info("the database user may not change the store: this process refuses edits")
        self._read_only = health.read_only
        if problem == self._problem:
            return
        self._problem = problem
        if not problem:
            self._log.info("the store is in use", revision=state.revision)
        elif read:
            self._log.warning("the store cannot be used: what is loaded stays in use", reason=problem)
        else:
            self._log.warning("the store cannot be used: only what is in files is served", reason=problem)

    def _note_rows(self, state: State) -> None:
        for kind, name in sorted(state.altered - self._altered):
            self._log.error("a row of the store was altered and is not used", kind=kind, id=name)
        self._altered = state.altered
        for (kind, name), (seen, found) in sorted(state.rolled_back.items()):
            if self._rolled_back.get((kind, name)) != (seen, found):
                self._log.error(
                    "a row of the store is older than before: the present one is used",
                    kind=kind,
                    id=name,
                    seen=seen,
                    found=found,
                )
        self._rolled_back = state.rolled_back
