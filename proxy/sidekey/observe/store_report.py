"""Tells operators how the store is: by metrics, and by a line of the log where that changes."""

from __future__ import annotations

from collections.abc import Iterable

from sidekey.observe.logs import get_logger
from sidekey.observe.metrics import Metrics


class StoreReport:
    """The last report on the store of a process. Before the first report it counts as up."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = get_logger()
        self._up = True
        self._problem = ""
        self._altered: frozenset[tuple[str, str]] = frozenset()

    def note(self, *, up: bool, revision: int, rolled_back: bool, problem: str, read: bool = True) -> None:
        """Note how the store is; `problem` says why it is not `up`, or not to be believed.

        Nothing of it is in use until it was `read`.
        """
        self._metrics.store = (up, revision, rolled_back)
        if (up, problem) == (self._up, self._problem):
            return
        self._up, self._problem = up, problem
        if not up and not read:
            self._log.warning("the store cannot be used: only what is in files is served", reason=problem)
        elif not up:
            self._log.warning("the store cannot be used: what is loaded stays in use", reason=problem)
        elif problem and not read:
            self._log.error("the store is not used: only what is in files is served", reason=problem)
        elif problem:
            self._log.error("the store is not used: what is loaded stays in use", reason=problem)
        else:
            self._log.info("the store is in use", revision=revision)

    def note_altered(self, altered: Iterable[tuple[str, str]]) -> None:
        """Note which rows do not bear their MAC, by kind and ID."""
        found = frozenset(altered)
        for kind, name in sorted(found - self._altered):
            self._log.error("a row of the store was altered and is not used", kind=kind, id=name)
        self._altered = found
