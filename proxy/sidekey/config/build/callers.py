"""Read the tokens of a config's callers."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from sidekey.config.errors import Loc, LocatedErrors
from sidekey.config.models import CallerSettings
from sidekey.config.secrets import SecretReader
from sidekey.credentials.fields import Reference
from sidekey.policy.callers import Caller

Digests = Mapping[str, tuple[Reference, bytes]]
"""The reference to each caller's token, and the token's SHA-256, by name."""


class Callers(NamedTuple):
    """The callers by the SHA-256 of their tokens. `errors` reports tokens that two callers share."""

    by_digest: dict[bytes, Caller]
    digests: Digests
    unreadable: LocatedErrors
    errors: LocatedErrors


def build_callers(settings: Mapping[str, CallerSettings], read: SecretReader, previous: Digests) -> Callers:
    """Read the callers' tokens. `previous` are the digests of the last good load.

    A caller whose token cannot be read keeps the previous digest while the config has the same reference. Otherwise it
    gets a random one: without it, Sidekey would not check callers if the only caller is unreadable.
    """
    callers: dict[bytes, Caller] = {}
    digests: dict[str, tuple[Reference, bytes]] = {}
    unreadable: LocatedErrors = []
    errors: LocatedErrors = []

    def caller_of(name: str) -> Caller:
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
            errors.append((place, f"must differ from the token of caller {callers[digest].name}"))
        else:
            callers[digest] = caller_of(name)
    for name in [name for name in settings if name not in digests]:
        reference, digest = previous.get(name, (None, b""))
        # Another caller has this token now.
        if reference != settings[name].token or digest in callers:
            digest = secrets.token_bytes(32)
        digests[name] = settings[name].token, digest
        callers[digest] = caller_of(name)
    return Callers(callers, digests, unreadable, errors)
