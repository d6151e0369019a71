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

TokenDigests = Mapping[str, tuple[Reference, bytes]]
"""The reference to each caller's token, and the token's SHA-256, by name."""


class BuiltCallers(NamedTuple):
    """The callers by the SHA-256 of their tokens, and the digests by name. `errors` reports shared tokens."""

    by_digest: dict[bytes, Caller]
    token_digests: TokenDigests
    unreadable: LocatedErrors
    errors: LocatedErrors


def build_callers(settings: Mapping[str, CallerSettings], read: SecretReader, previous: TokenDigests) -> BuiltCallers:
    """Read the callers' tokens. `previous` are the digests of the last load without errors.

    A caller whose token cannot be read keeps the previous digest while the config has the same reference. Otherwise it
    gets a random one: without it, Sidekey would not check callers if the only caller is unreadable.
    """
    callers: dict[bytes, Caller] = {}
    token_digests: dict[str, tuple[Reference, bytes]] = {}
    unreadable: LocatedErrors = []
    errors: LocatedErrors = []

    def caller_of(name: str) -> Caller:
        integrations, presets = (
            None if ids is None else frozenset(ids) for ids in (settings[name].integrations, settings[name].presets)
        )
        return Caller(name, integrations, presets)

    for name, caller in settings.items():
        loc: Loc = ("callers", name, "token")
        try:
            digest = hashlib.sha256(read(caller.token).encode()).digest()
        except ValueError as error:
            unreadable.append((loc, str(error)))
            continue
        token_digests[name] = caller.token, digest
        if digest in callers:
            errors.append((loc, f"must differ from the token of caller {callers[digest].name}"))
        else:
            callers[digest] = caller_of(name)
    for name in [name for name in settings if name not in token_digests]:
        reference, digest = previous.get(name, (None, b""))
        # Do not keep the digest if the reference has changed, or if another caller has this token now.
        if reference != settings[name].token or digest in callers:
            digest = secrets.token_bytes(32)
        token_digests[name] = settings[name].token, digest
        callers[digest] = caller_of(name)
    return BuiltCallers(callers, token_digests, unreadable, errors)
