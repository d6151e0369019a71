"""Build the rules of the admin listener: operators' tokens, the certificate, and OpenID Connect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from sidekey.config.build.certificates import MAX_SIZE
from sidekey.config.build.trust import TrustOf
from sidekey.config.errors import LocatedErrors
from sidekey.config.models import AdminSettings, AdminTlsSettings, OidcSettings, OperatorGrants
from sidekey.config.secrets import RecordingReader, SecretReader
from sidekey.snapshot.admin import AdminRules, AdminToken, OidcRules, ServerCertificate
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
        certificate, reasons = _read_certificate(settings.tls, read)
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
    if settings.trusted_ca is not None:
        if settings.trusted_ca.path is not None:
            read.record(settings.trusted_ca.path)
        trust, reason = trust_of(settings.trusted_ca)
        if reason is not None:
            reasons.append((("admin", "oidc", "trusted_ca"), reason))
            if previous is not None and (previous.trust.source, previous.trust.path) == (trust.source, trust.path):
                trust = previous.trust
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
        trust=trust,
        allow_private=tuple(settings.allow_private),
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


def _read_certificate(settings: AdminTlsSettings, read: SecretReader) -> tuple[ServerCertificate | None, LocatedErrors]:
    data: dict[str, bytes] = {}
    reasons: LocatedErrors = []
    for key, reference in {"certificate": settings.certificate, "private_key": settings.private_key}.items():
        try:
            data[key] = read.raw(reference, MAX_SIZE)
        except ValueError as error:
            reasons.append((("admin", "tls", key), str(error)))
    if not reasons:
        reasons += [(("admin", "tls", key), text) for key, text in _pair_errors(data).items()]
    return (None, reasons) if reasons else (ServerCertificate(data["certificate"], data["private_key"]), [])


def _pair_errors(data: Mapping[str, bytes]) -> dict[str, str]:
    """Return the errors of a certificate and its key, by key. The library's own messages might repeat the input."""
    try:
        chain = load_pem_x509_certificates(data["certificate"])
    except ValueError:
        return {"certificate": "must be a certificate in PEM, with its chain after it"}
    try:
        key = load_pem_private_key(data["private_key"], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return {"private_key": "must be a private key in PEM that is not encrypted"}
    if key.public_key() != chain[0].public_key():
        return {"private_key": "must be the key of the first certificate in admin.tls.certificate"}
    return {}
