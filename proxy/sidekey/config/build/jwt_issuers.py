"""Build the issuers of callers' JWTs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from sidekey.config.build.trust import TrustOf, load_trust
from sidekey.config.errors import Loc, LocatedErrors
from sidekey.config.models import JwtIssuerSettings
from sidekey.config.secrets import RecordingReader, describe_source
from sidekey.credentials.calls import parse_json_object
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.jwt_issuer import JwtIssuer, JwtKeys, usable_keys
from sidekey.snapshot.trust import Trust

_MAX_SIZE: Final = 256 << 10


class BuiltIssuers(NamedTuple):
    """The issuers by name, with the values that could not be read, and warnings."""

    issuers: Mapping[str, JwtIssuer]
    unreadable: LocatedErrors
    warnings: LocatedErrors


def build_jwt_issuers(
    settings: Mapping[str, JwtIssuerSettings],
    read: RecordingReader,
    previous: Mapping[str, JwtIssuer],
    trust: Trust,
    trust_of: TrustOf,
) -> BuiltIssuers:
    """Read the keys, the CAs and the token of each issuer.

    A value that cannot be read now keeps its value in `previous`, the issuers of the last load without errors. Without
    a previous one, an issuer has no keys, so that its JWTs are refused. `trust` is that of `network.trusted_ca`.
    """
    unreadable: LocatedErrors = []
    warnings: LocatedErrors = []
    issuers: dict[str, JwtIssuer] = {}
    for name, entry in settings.items():
        base: Loc = ("jwt_issuers", name)
        old = previous.get(name)
        own_trust, reason = load_trust(entry.trusted_ca, trust, read, trust_of)
        if reason is not None:
            unreadable.append(((*base, "trusted_ca"), reason))
            old_trust = None if old is None else old.egress.trust
            if old_trust is not None and (old_trust.source, old_trust.path) == (own_trust.source, own_trust.path):
                own_trust = old_trust
        token = ""
        if entry.token is not None:
            try:
                token = read(entry.token)
            except ValueError as error:
                unreadable.append(((*base, "token"), str(error)))
                token = "" if old is None else old.token
        keys: JwtKeys | None = None
        if entry.jwks is not None and entry.jwks.file is not None:
            try:
                keys, has_private = _read_keys(entry.jwks.file, read)
                if has_private:
                    text = "has private keys, with which anyone who reads it can make JWTs: write only public keys"
                    warnings.append(((*base, "jwks", "file"), text))
            except ValueError as error:
                unreadable.append(((*base, "jwks", "file"), str(error)))
                keys = () if old is None or old.keys is None or old.issuer != entry.issuer else old.keys
        issuers[name] = JwtIssuer(
            name,
            entry.issuer,
            entry.audience,
            keys,
            "" if entry.jwks is None or entry.jwks.url is None else entry.jwks.url,
            Egress(own_trust, tuple(entry.allow_private)),
            token,
        )
    return BuiltIssuers(issuers, unreadable, warnings)


def _read_keys(name: str, read: RecordingReader) -> tuple[JwtKeys, bool]:
    """Return the usable public keys, and True if the file has a private one too (RFC 7518 6.2.2, 6.3.2, 6.4)."""
    subject = describe_source("file", name)
    try:
        document = parse_json_object(read.content(name, _MAX_SIZE))
    except ValueError as error:
        raise ValueError(f"{subject} {error}") from None
    keys = () if document is None else usable_keys(document.get("keys"))
    if not keys:
        raise ValueError(f"{subject} must be a JWKS (RFC 7517) with a key for RS256 or ES256")
    listed = [] if document is None else document["keys"]
    return keys, any(isinstance(key, dict) and ("d" in key or "k" in key) for key in listed)
