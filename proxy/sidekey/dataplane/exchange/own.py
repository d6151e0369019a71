"""A request that this process itself makes, such as an operator's test: nobody is asked whose it is."""

from __future__ import annotations

from sidekey.core.decide import decide
from sidekey.core.preset_decision import apply_preset, decide_preset
from sidekey.core.presets import Preset
from sidekey.core.routing import preset_id
from sidekey.dataplane.downstream.connection import CallerConnection
from sidekey.dataplane.downstream.request_reader import Request
from sidekey.dataplane.exchange.exchange import Exchange
from sidekey.dataplane.routing.index import Index
from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem


class OwnExchange(Exchange):
    """One request of our own and its response. It is judged as any other, but for the caller's token."""

    __slots__ = ()

    @property
    def _peer(self) -> str:
        return ""

    def _admit(self) -> Problem | None:
        head = self._request.head
        if preset_id(head.target):
            return self._settle(decide_preset(head, None, self._index))
        return self._settle(decide(head, None, self._index))


class DraftExchange(OwnExchange):
    """One request of our own by a preset that nobody else can use, with the integration that others use as well."""

    __slots__ = ("_draft", "_who")

    def __init__(
        self, worker: Worker, index: Index, caller: CallerConnection, request: Request, draft: Preset, *, who: str
    ) -> None:
        super().__init__(worker, index, caller, request)
        self._draft = draft
        self._who = who

    def _sender(self) -> str:
        return self._who

    def _admit(self) -> Problem | None:
        return self._settle(apply_preset(self._draft, self._request.head, self._index))
