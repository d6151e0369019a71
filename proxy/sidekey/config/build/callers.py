"""Reads the tokens of a config's callers."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from sidekey.config.errors import Loc, Reasons
from sidekey.config.models import CallerSettings
from sidekey.config.secrets import SecretReader
from sidekey.credentials.fields import Reference
from sidekey.policy.callers import Caller

Digests = Mapping[str, tuple[Reference, bytes]]
"""The reference to each caller's token, and the token's SHA-256, by name."""


class Callers(NamedTuple):
    """Callers by the SHA-256 of their tokens, tokens that cannot be read, and tokens that two callers have."""

    found: dict[bytes, Caller]
    digests: Digests
    unreadable: Reasons
    twice: Reasons


def build_callers(settings: Mapping[str, CallerSettings], read: SecretReader, previous: Digests) -> Callers:
    """Read the callers' tokens. `previous` are the digests of the last good load.

    A caller whose token cannot be read keeps the previous one while the config names the same place. Otherwise it gets
    a digest that no token has: without it, a config whose last caller is unreadable would no longer check callers.
    """
    callers: dict[bytes, Caller] = {}
    digests: dict[str, tuple[Reference, bytes]] = {}
    unreadable: Reasons = []
    twice: Reasons = []

    def granted(name: str) -> Caller:
        integrations, presets = (
            None if ids is None else frozenset(ids) for ids in (settings[name].integrations, settings[name].presets)
        )
        return Caller(name, integrations, presets)

    for name, caller in settings.items():
        place: Loc = ("callers", name, "token")
        try:
            digest = hashlib.sha256(read(caller.token).encode()).digest()
        except ValueError as error:
            unreadable.append((place, str(error)))
            continue
        digests[name] = caller.token, digest
        if digest in callers:
            twice.append((place, f"must differ from the token of caller {callers[digest].name}"))
        else:
            callers[digest] = granted(name)
    for name in [name for name in settings if name not in digests]:
        reference, digest = previous.get(name, (None, b""))
        # A token that was moved to another caller is that caller's.
        if reference != settings[name].token or digest in callers:
            digest = secrets.token_bytes(32)
        digests[name] = settings[name].token, digest
        callers[digest] = granted(name)
    return Callers(callers, digests, unreadable, twice)
