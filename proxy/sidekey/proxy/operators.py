"""Operators: requests that this process itself sends, such as the test of an integration."""

from __future__ import annotations

from typing import Final

from sidekey.presets.preset import PresetRules


class Operator:
    """An operator who sends requests through the data plane without a caller's token.

    Only this process can create one, and passes it to `DataPlane.connection`: no received byte turns a caller into an
    operator. The list of failed requests shows `name`. With a `draft`, each request uses this preset, which is not
    saved yet and which callers cannot use.
    """

    __slots__ = ("draft", "name")

    def __init__(self, name: str = "", draft: PresetRules | None = None) -> None:
        self.name: Final = name
        self.draft: Final = draft
