"""Callers and their permissions to use integrations and presets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """A client that may use these `integrations` and `presets`, by ID. None means all of them."""

    name: str
    integrations: frozenset[str] | None
    presets: frozenset[str] | None = frozenset()

    def __repr__(self) -> str:
        return f"Caller({self.name})"

    def may_use(self, integration: str) -> bool:
        """Return True if the caller may use this integration."""
        return self.integrations is None or integration in self.integrations

    def lists(self, integration: str) -> bool:
        """Return True if the caller's permissions name this integration. Unlike `may_use`, False for "all of them"."""
        return self.integrations is not None and integration in self.integrations

    def may_send(self, preset: str) -> bool:
        """Return True if the caller may use this preset. It needs no permission for the preset's integration."""
        return self.presets is None or preset in self.presets


def find_caller(callers: Mapping[bytes, Caller], token: bytes) -> Caller | None:
    """Find a caller by the SHA-256 digest of its token.

    The look-up time depends on the digest and reveals nothing that helps to guess a token.
    """
    return callers.get(hashlib.sha256(token).digest())
