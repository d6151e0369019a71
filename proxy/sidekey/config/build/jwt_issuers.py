"""Build the issuers of callers' JWTs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from sidekey.config.build.last_load import NETWORK_CAS, LastLoad
from sidekey.config.build.trust import TrustOf, load_trust
from sidekey.config.errors import LocatedErrors, format_loc
from sidekey.config.models import JwtIssuerSettings
from sidekey.config.secrets import RecordingReader, describe_source
from sidekey.credentials.calls import parse_json_object
from sidekey.credentials.fields import Keys
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.jwt_issuer import JwtIssuer, JwtKeys, usable_keys
from sidekey.snapshot.trust import Trust

T = TypeVar("T")

_MAX_SIZE: Final = 256 << 10


def build_jwt_issuers(
    settings: Mapping[str, JwtIssuerSettings],
    read: RecordingReader,
    previous: Mapping[str, JwtIssuer],
    last: LastLoad,
    *,
    trust: Trust,
    trust_of: TrustOf,
) -> tuple[Mapping[str, JwtIssuer], LocatedErrors]:
    """Read the keys, the CAs and the token of each issuer. Return the issuers by name, and warnings.

    `previous` are the issuers of the last load without errors. If `last` keeps no value for one that cannot be read,
    the issuer has a `problem`, and its JWTs are refused. `trust` is that of `network.trusted_ca`.
    """
    warnings: LocatedErrors = []
    issuers: dict[str, JwtIssuer] = {}
    for name, entry in settings.items():
        base = ("jwt_issuers", name)
        old = previous.get(name)
        old = None if old is None or old.problem else old
        lost: list[str] = []

        def keep(
            value: T | None, loc: tuple[str, ...], reason: str, base: Keys = base, lost: list[str] = lost
        ) -> T | None:
            kept = last.keep(value, base, NETWORK_CAS, loc=(*base, *loc), reason=reason)
            if kept is None:
                lost.append(f"`{format_loc(loc)}`")
            return kept

        own_trust, reason = load_trust(entry.trusted_ca, trust, read, trust_of)
        if reason is not None:
            own_trust = keep(None if old is None else old.egress.trust, ("trusted_ca",), reason) or own_trust
        token = ""
        if entry.token is not None:
            try:
                token = read(entry.token)
            except ValueError as error:
                token = keep(None if old is None else old.token, ("token",), str(error)) or ""
        keys: JwtKeys | None = None
        if entry.jwks is not None and entry.jwks.file is not None:
            try:
                keys, has_private = _read_keys(entry.jwks.file, read)
                if has_private:
                    text = "has private keys, with which anyone who reads it can make JWTs: write only public keys"
                    warnings.append(((*base, "jwks", "file"), text))
            except ValueError as error:
                keys = keep(None if old is None else old.keys, ("jwks", "file"), str(error)) or ()
        issuers[name] = JwtIssuer(
            name,
            entry.issuer,
            entry.audience,
            # Without its token or CAs, no request must fetch its keys.
            () if lost else keys,
            "" if entry.jwks is None or entry.jwks.url is None else entry.jwks.url,
            Egress(own_trust, tuple(entry.allow_private)),
            token,
            f"{' and '.join(lost)} of the JWT's issuer cannot be read now" if lost else "",
        )
    return issuers, warnings


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
