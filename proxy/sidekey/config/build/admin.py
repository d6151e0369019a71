"""Build the rules of the admin listener: operators' tokens, the certificate, and OpenID Connect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence

from sidekey.config.build.last_load import NETWORK_CAS, LastLoad
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


def build_admin(
    settings: AdminSettings,
    read: RecordingReader,
    previous: AdminRules,
    last: LastLoad,
    *,
    trust: Trust,
    trust_of: TrustOf,
) -> tuple[AdminRules, LocatedErrors]:
    """Read the tokens, the certificate, and the issuer's secret. Return the rules and the errors.

    `previous` are the rules of the last load without errors, of which `last` keeps what is unreadable and unchanged.
    An unreadable certificate that is not kept is an error, because tokens would travel in the clear. So is a reload
    with which nobody could log in as an admin any more. `trust` is that of `network.trusted_ca`.
    """
    errors: LocatedErrors = []
    tokens: dict[str, AdminToken] = {}
    owners: dict[bytes, str] = {}
    digests: dict[str, bytes] = {}
    reasons_by_name: dict[str, str] = {}
    for name, entry in settings.tokens.items():
        try:
            digests[name] = _token_digest(read(entry.token))
        except ValueError as error:
            reasons_by_name[name] = str(error)
            continue
        owner = owners.setdefault(digests[name], name)
        if owner != name:
            errors.append((("admin", "tokens", name, "token"), f"must differ from the token of {owner}"))
    for name, reason in reasons_by_name.items():
        old = previous.tokens.get(name)
        # Another operator may have this token now.
        digest = None if old is None or old.digest in owners else old.digest
        digest = last.keep(digest, ("admin", "tokens", name), loc=("admin", "tokens", name, "token"), reason=reason)
        if digest is not None:
            digests[name] = digest
    for name, entry in settings.tokens.items():
        errors += [(("admin", "tokens", name, key), text) for key, text in grant_errors(entry)]
        if name in digests:
            presets = tuple(entry.presets)
            tokens[name] = AdminToken(digests[name], entry.role, presets, entry.per_minute, entry.per_day)
    certificate = None
    if settings.tls is not None:
        certificate, reasons = read_server_certificate(settings.tls, read, ("admin", "tls"))
        for at, reason in reasons:
            certificate = last.keep(previous.certificate, ("admin", "tls"), loc=at, reason=reason, required=True)
    oidc = None
    if settings.oidc is not None:
        oidc = _read_oidc(settings.oidc, read, previous.oidc, last, trust=trust, trust_of=trust_of)
    rules = AdminRules(
        tokens,
        frozenset(settings.names),
        certificate,
        settings.behind_tls,
        oidc,
        has_operators=settings.has_operators,
    )
    if _has_admin(previous) and _has_admin(settings) and not _has_admin(rules):
        text = "would have no admin: make a token with `role: admin`, or the secret of the company log-in, readable"
        errors.append((("admin",), text))
    return rules, errors


def _has_admin(admin: AdminRules | AdminSettings) -> bool:
    """Return True if a token of the config, or the company log-in, can admit an admin."""
    if isinstance(admin, AdminRules):
        by_login = () if admin.oidc is None else admin.oidc.roles.values()
    else:
        by_login = () if admin.oidc is None else admin.oidc.roles.map.values()
    return "admin" in by_login or any(token.role == "admin" for token in admin.tokens.values())


def _read_oidc(
    settings: OidcSettings,
    read: RecordingReader,
    previous: OidcRules | None,
    last: LastLoad,
    *,
    trust: Trust,
    trust_of: TrustOf,
) -> OidcRules | None:
    """Return the rules, or None if a value cannot be read and `last` keeps none."""
    base = ("admin", "oidc")
    trust, reason = load_trust(settings.trusted_ca, trust, read, trust_of)
    usable: Trust | None = trust
    if reason is not None:
        old = None if previous is None else previous.egress.trust
        usable = last.keep(old, base, NETWORK_CAS, loc=(*base, "trusted_ca"), reason=reason)
    secret: str | None
    try:
        secret = read(settings.client_secret)
    except ValueError as error:
        old_secret = None if previous is None else previous.client_secret
        secret = last.keep(old_secret, base, NETWORK_CAS, loc=(*base, "client_secret"), reason=str(error))
    if usable is None or secret is None:
        return None
    presets = settings.presets
    return OidcRules(
        issuer=settings.issuer,
        client_id=settings.client_id,
        client_secret=secret,
        redirect_url=settings.redirect_url,
        scopes=tuple(settings.scopes),
        egress=Egress(usable, tuple(settings.allow_private)),
        roles_claim=settings.roles.claim,
        roles=settings.roles.map,
        presets_claim="" if presets is None else presets.claim,
        presets={} if presets is None else {value: tuple(names) for value, names in presets.map.items()},
        session_seconds=int(settings.session),
        digest=_settings_digest(settings),
    )


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
