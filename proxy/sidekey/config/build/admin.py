"""Build the rules of the admin listener: operators' tokens, the certificate, and OpenID Connect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from sidekey.config.build.server_certificate import read_server_certificate
from sidekey.config.build.trust import TrustOf, load_trust
from sidekey.config.errors import LocatedErrors
from sidekey.config.models import AdminSettings, OidcSettings, OperatorGrants
from sidekey.config.secrets import RecordingReader
from sidekey.snapshot.admin import AdminRules, AdminToken, OidcRules
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import Snapshot
from sidekey.snapshot.trust import Trust

MIN_TOKEN_LENGTH = 16
"""Minimum number of characters of a token. The listener does not limit the number of guesses."""


class BuiltAdmin(NamedTuple):
    """The rules of the admin listener, with the values that could not be read and the errors."""

    rules: AdminRules
    unreadable: LocatedErrors
    errors: LocatedErrors


def build_admin(
    settings: AdminSettings, read: RecordingReader, previous: AdminRules, trust: Trust, trust_of: TrustOf
) -> BuiltAdmin:
    """Read the tokens, the certificate, and the issuer's secret.

    A token, secret or certificate that cannot be read now keeps its value in `previous`, the rules of the last load
    without errors. An unreadable certificate without a previous one is an error, because tokens would travel in the
    clear. `trust` is that of `network.trusted_ca`.
    """
    unreadable: LocatedErrors = []
    errors: LocatedErrors = []
    tokens: dict[str, AdminToken] = {}
    owners: dict[bytes, str] = {}
    for name, entry in settings.tokens.items():
        loc = ("admin", "tokens", name, "token")
        try:
            digest = _token_digest(read(entry.token))
        except ValueError as error:
            unreadable.append((loc, str(error)))
            if name not in previous.tokens:
                continue
            digest = previous.tokens[name].digest
        if digest in owners:
            errors.append((loc, f"must differ from the token of {owners[digest]}"))
        owners[digest] = name
        errors += [(("admin", "tokens", name, key), text) for key, text in grant_errors(entry)]
        tokens[name] = AdminToken(digest, entry.role, tuple(entry.presets), entry.per_minute, entry.per_day)
    certificate = None
    if settings.tls is not None:
        certificate, reasons = read_server_certificate(settings.tls, read, ("admin", "tls"))
        certificate = previous.certificate if certificate is None else certificate
        if certificate is None:
            errors += reasons
        else:
            unreadable += reasons
    oidc = None
    if settings.oidc is not None:
        oidc, reasons = _read_oidc(settings.oidc, read, previous.oidc, trust, trust_of)
        unreadable += reasons
    rules = AdminRules(
        tokens,
        frozenset(settings.names),
        certificate,
        settings.behind_tls,
        oidc,
        has_operators=settings.has_operators,
    )
    return BuiltAdmin(rules, unreadable, errors)


def _read_oidc(
    settings: OidcSettings, read: RecordingReader, previous: OidcRules | None, trust: Trust, trust_of: TrustOf
) -> tuple[OidcRules | None, LocatedErrors]:
    """Return the rules, or None if there is no secret, and the errors of values that cannot be read."""
    reasons: LocatedErrors = []
    trust, reason = load_trust(settings.trusted_ca, trust, read, trust_of)
    if reason is not None:
        reasons.append((("admin", "oidc", "trusted_ca"), reason))
        old_trust = None if previous is None else previous.egress.trust
        if old_trust is not None and (old_trust.source, old_trust.path) == (trust.source, trust.path):
            trust = old_trust
    try:
        secret = read(settings.client_secret)
    except ValueError as error:
        reasons.append((("admin", "oidc", "client_secret"), str(error)))
        if previous is None or (previous.issuer, previous.client_id) != (settings.issuer, settings.client_id):
            return None, reasons
        secret = previous.client_secret
    presets = settings.presets
    rules = OidcRules(
        issuer=settings.issuer,
        client_id=settings.client_id,
        client_secret=secret,
        redirect_url=settings.redirect_url,
        scopes=tuple(settings.scopes),
        egress=Egress(trust, tuple(settings.allow_private)),
        roles_claim=settings.roles.claim,
        roles=settings.roles.map,
        presets_claim="" if presets is None else presets.claim,
        presets={} if presets is None else {value: tuple(names) for value, names in presets.map.items()},
        session_seconds=int(settings.session),
        digest=_settings_digest(settings),
    )
    return rules, reasons


def _settings_digest(settings: OidcSettings) -> str:
    """Return the SHA-256 of all keys but the secret and the CAs, in hexadecimal."""
    document = settings.model_dump(mode="json", exclude={"client_secret", "trusted_ca"})
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def grant_errors(grants: OperatorGrants) -> Iterator[tuple[str, str]]:
    """Yield the key and the error of each grant that does not fit the role."""
    if grants.role == "sender":
        if not grants.presets:
            yield "presets", "must list at least one preset"
        return
    for key in ("presets", "per_minute", "per_day"):
        if key in grants.model_fields_set:
            yield key, "only the role sender has this key: remove it, or set `role: sender`"


def preset_errors(
    presets: Sequence[str], snapshot: Snapshot, granted: Collection[str] = ()
) -> Iterator[tuple[int, str]]:
    """Yield the index and the error of each preset that a sender cannot send, except `granted` ones."""
    for index, name in enumerate(presets):
        preset = snapshot.presets.get(name)
        if name in granted:
            continue
        if preset is None:
            yield index, "no preset has this ID"
        elif not preset.rules.has_body:
            yield index, "has no body, so a sender cannot fill it in"


def _token_digest(token: str) -> bytes:
    if len(token) < MIN_TOKEN_LENGTH:
        raise ValueError(f"must have at least {MIN_TOKEN_LENGTH} characters: make one with openssl rand -hex 32")
    return hashlib.sha256(token.encode()).digest()
