"""Operators: requests that this process itself sends, such as the test of an integration."""

from __future__ import annotations

from typing import Final

from sidekey.presets.preset import PresetRules


class Operator:
    """An operator who sends requests through the data plane without a caller's token.

    It exists only as an object that this process passes to `DataPlane.connection`: nothing that a connection carries
    makes one. `name` is listed with failures. With a `draft`, each request uses this preset, which no other finds.
    """

    __slots__ = ("draft", "name")

    def __init__(self, name: str = "", draft: PresetRules | None = None) -> None:
        self.name: Final = name
        self.draft: Final = draft
