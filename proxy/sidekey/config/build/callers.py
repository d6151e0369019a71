"""Build the callers of a config, and read their tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from sidekey.config.build.admin import MIN_TOKEN_LENGTH
from sidekey.config.build.last_load import LastLoad
from sidekey.config.errors import Loc, LocatedErrors
from sidekey.config.models import CallerSettings
from sidekey.config.secrets import SecretReader
from sidekey.policy.callers import Caller, certificate_key, jwt_key

TokenDigests = Mapping[str, bytes]
"""The SHA-256 of each caller's token, by name."""


_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
"""Characters that a URL contains unencoded (RFC 3986 2.3)."""

_SHORT: Final = (
    f"has fewer than {MIN_TOKEN_LENGTH} characters, so others may guess it: make one with openssl rand -hex 32"
)

_ENCODED: Final = (
    "has characters other than letters, digits and - . _ ~, which must be percent-encoded in a proxy URL: make one "
    "with openssl rand -hex 32, or let `sidekey env` write the URL"
)


class BuiltCallers(NamedTuple):
    """The callers by key (`policy.callers`), and the digests of known tokens by name.

    `unreadable` has the reason for each caller whose token is not known, by name. `errors` reports shared keys, and
    short tokens of a listener that other machines can reach.
    """

    by_key: dict[bytes, Caller]
    token_digests: TokenDigests
    unreadable: Mapping[str, str]
    errors: LocatedErrors
    warnings: LocatedErrors


def build_callers(
    settings: Mapping[str, CallerSettings],
    read: SecretReader,
    previous: TokenDigests,
    last: LastLoad,
    *,
    is_local: bool,
) -> BuiltCallers:
    """Read the callers' tokens. `previous` are the digests of the last load without errors.

    `is_local`: only this machine can reach the proxy listener.

    A caller whose token cannot be read keeps the previous digest by the rule of `LastLoad`. Otherwise it gets a random
    one: without it, Sidekey would not check callers if the only caller is unreadable.
    """
    callers: dict[bytes, Caller] = {}
    token_digests: dict[str, bytes] = {}
    reasons: dict[str, str] = {}
    errors: LocatedErrors = []
    warnings: LocatedErrors = []

    built = {name: _build_caller(name, caller) for name, caller in settings.items()}
    for name, caller in settings.items():
        for keys, key in _other_keys(caller):
            if key in callers:
                errors.append((("callers", name, *keys), f"must differ from that of caller {callers[key].name}"))
            callers[key] = built[name]
    tokens = {name: caller.token for name, caller in settings.items() if caller.token is not None}
    for name, token in tokens.items():
        loc: Loc = ("callers", name, "token")
        try:
            text = read(token)
        except ValueError as error:
            reasons[name] = str(error)
            continue
        if len(text) < MIN_TOKEN_LENGTH:
            (warnings if is_local else errors).append((loc, _SHORT))
        if not _UNRESERVED.fullmatch(text):
            warnings.append((loc, _ENCODED))
        digest = hashlib.sha256(text.encode()).digest()
        token_digests[name] = digest
        if digest in callers:
            errors.append((loc, f"must differ from the token of caller {callers[digest].name}"))
        else:
            callers[digest] = built[name]
    for name, reason in reasons.items():
        kept = previous.get(name)
        # Another caller may have this token now.
        kept = None if kept in callers else kept
        kept = last.keep(kept, ("callers", name), loc=("callers", name, "token"), reason=reason)
        if kept is not None:
            token_digests[name] = kept
        callers[secrets.token_bytes(32) if kept is None else kept] = built[name]
    unreadable = {name: reason for name, reason in reasons.items() if name not in token_digests}
    return BuiltCallers(callers, token_digests, unreadable, errors, warnings)


def _build_caller(name: str, settings: CallerSettings) -> Caller:
    integrations, presets = (
        None if ids is None else frozenset(ids) for ids in (settings.integrations, settings.presets)
    )
    return Caller(name, integrations, presets)


def _other_keys(settings: CallerSettings) -> Iterator[tuple[Loc, bytes]]:
    """Yield the keys of the certificate and the JWT that identify a caller, each with its location."""
    if settings.certificate is not None:
        yield ("certificate", "san"), certificate_key(settings.certificate.san)
    if settings.jwt is not None:
        yield ("jwt", "subject"), jwt_key(settings.jwt.issuer, settings.jwt.subject)
