"""Build an integration from its settings, and read its secrets for the first time.

A value that cannot be read is returned with its location and reason, and makes only its part unavailable.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sidekey.config.build.proxy import build_proxy
from sidekey.config.build.trust import TrustOf, load_trust
from sidekey.config.errors import format_loc
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import RecordingReader, ReferenceReader
from sidekey.credentials.base import (
    Credential,
    CredentialTraits,
    Destinations,
    FixedCredential,
    Grant,
    Pairs,
    PartSettings,
    ReadReference,
    Reasons,
    Supplemented,
    SupplementSettings,
)
from sidekey.credentials.destination import Json, accepted_destinations
from sidekey.credentials.fields import WRITTEN, Keys, Reference, SecretUnreadable
from sidekey.credentials.registry import SUPPLEMENTS
from sidekey.credentials.signing import ChainedSigningRules, SigningRules
from sidekey.credentials.token_file import check_expiry
from sidekey.policy.addresses import NetworkOverride
from sidekey.policy.headers import normalise
from sidekey.policy.targets import Domain, Policy, Prefix, parse_prefix
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, TestRequest, Trust

UnreadableValue = tuple[Keys, str]
"""The location of a value that cannot be read, and the reason."""

ProfileEntries = tuple[tuple[str, str], ...]
"""`ProfileSummary.entries`: locations that a profile added, each with its text. The text of a secret is `{name}`."""


class BuildResult(NamedTuple):
    """An integration, and its values that cannot be read."""

    integration: Integration
    unreadable: list[UnreadableValue]


def build_integration(
    name: str,
    settings: IntegrationSettings,
    trust: Trust,
    read: ReferenceReader,
    trust_of: TrustOf,
    *,
    profile_entries: ProfileEntries = (),
    certificate: CertificateLoader | None = None,
    recorder: RecordingReader | None = None,
    stored_networks: NetworkOverride | None = None,
    row_id: str = "",
) -> BuildResult:
    """Build one integration. `trust` applies if the settings name no CAs.

    `recorder` reads the secrets now and records their files, `read` reads them later. The certificate's loader has its
    own errors. Only an integration of the store has a `row_id` and `stored_networks`, the networks to which it may
    connect besides global addresses.
    """
    traits = traits_of(settings)
    resolved = resolve_policy(settings, read if recorder is None else recorder)
    token_files = dict(_token_files(settings, read))
    # Do not read the values that decided the policy a second time, so that the credential fits the policy.
    known_values = {key: value for key, value in resolved.values.items() if key not in token_files}
    read_for_call = partial(_read_unexpired, read) if token_files else read
    loader = SecretLoader(
        partial(_read_credential, settings, read_for_call, known_values, profile_entries), tuple(token_files.values())
    )
    # Only the next call needs a token that has not expired.
    loader.load(partial(_read_credential, settings, read, known_values, profile_entries))
    egress, egress_errors = _build_egress(
        settings, trust, read if recorder is None else recorder, trust_of, stored_networks
    )
    # If the policy could not be resolved, the process builds again once its secret can be read.
    rebuild = partial(
        build_integration,
        *(name, settings, trust, read, trust_of),
        profile_entries=profile_entries,
        certificate=certificate,
        stored_networks=stored_networks,
        row_id=row_id,
    )
    test = settings.test
    integration = Integration(
        id=name,
        kind=settings.auth.type,
        policy=resolved.policy,
        base=resolved.base,
        secrets=loader,
        traits=traits,
        egress=egress,
        certificate=certificate,
        in_flight=settings.limits.in_flight or 0,
        title=settings.title,
        description=settings.description,
        tags=tuple(settings.tags),
        test=None if test is None else TestRequest(test.method, test.path),
        pass_headers=frozenset(normalise(name.encode()) for name in settings.pass_headers),
        redact_response=settings.redact_response,
        websocket="websocket" in settings.upgrade,
        profile_entries=profile_entries,
        public_headers=public_headers_of(settings),
        stored=stored_networks is not None,
        row=row_id,
        settings=settings,
        digests=_digests(settings, resolved, profile_entries),
        destinations=tuple(map(_canonical_json, accepted_destinations(settings)))
        if stored_networks is not None and traits.grants_expire
        else ("",),
        rebuild=None if resolved.is_complete else lambda: rebuild().integration,
    )
    return BuildResult(integration, [*resolved.unreadable, *egress_errors])


def supplements_of(settings: IntegrationSettings) -> list[SupplementSettings]:
    """Return the sections beside `auth` that are set, in the order in which they supplement a grant."""
    return [part for model in SUPPLEMENTS if (part := getattr(settings, model.SECTION)) is not None]


def parts_of(settings: IntegrationSettings) -> list[PartSettings]:
    """Return the sections of the credential, `auth` first."""
    return [settings.auth, *supplements_of(settings)]


def traits_of(settings: IntegrationSettings) -> CredentialTraits:
    """Return the properties of the whole credential that do not depend on a secret."""
    traits = settings.auth.traits()
    for part in supplements_of(settings):
        signing = _chained(traits.signing, part.signing())
        traits = traits._replace(
            injection_points=part.injection_points().joined_with(traits.injection_points), signing=signing
        )
    return traits


def public_headers_of(settings: IntegrationSettings) -> Pairs:
    """Return the injected headers whose values are public text in the document."""
    return tuple(pair for part in parts_of(settings) for pair in part.public_headers())


def _chained(first: SigningRules | None, second: SigningRules | None) -> SigningRules | None:
    return first or second if first is None or second is None else ChainedSigningRules(first, second)


def read_parts(
    settings: IntegrationSettings, read: ReadReference, known_values: Mapping[Keys, str]
) -> tuple[dict[Keys, str], Reasons]:
    """Read the secrets that are not in `known_values`. Return the values and the read errors, both by key."""
    values: dict[Keys, str] = {}
    reasons: Reasons = ()
    for part in parts_of(settings):
        part_values, part_reasons = part.read(read, values_of(part, known_values))
        values |= {(part.SECTION, *key): value for key, value in part_values.items()}
        reasons += part_reasons
    return values, reasons


def values_of(part: PartSettings, values: Mapping[Keys, str]) -> dict[Keys, str]:
    """Return the values of one section, by its own keys."""
    return {key[1:]: value for key, value in values.items() if key[0] == part.SECTION}


def credential_of(settings: IntegrationSettings, values: Mapping[Keys, str]) -> Credential | Supplemented:
    """Build the credential of all sections from their values."""
    credential = settings.auth.credential(values_of(settings.auth, values))
    supplements = [part.supplement(values_of(part, values)) for part in supplements_of(settings)]
    if not supplements:
        return credential
    supplement = reduce(Grant.supplemented, supplements)
    if isinstance(credential, FixedCredential):
        return FixedCredential(credential.grant.supplemented(supplement))
    return Supplemented(credential, supplement)


def _token_files(settings: IntegrationSettings, read: ReferenceReader) -> Iterator[tuple[Keys, Path]]:
    """Yield the key and the path of each file that is read before each call."""
    for key, reference, _ in settings.auth.inputs():
        path = read.file(reference) if reference.reread else None
        if path is not None:
            yield (settings.auth.SECTION, *key), path


def _read_unexpired(read: ReadReference, reference: Reference) -> str:
    """Read a value, and raise ValueError for an expired token of a file."""
    text = read(reference)
    if reference.reread:
        check_expiry(reference.value, text, time.time())
    return text


_DIGEST_KEY: Final = secrets.token_bytes(32)
_PUBLIC_SOURCES: Final = WRITTEN - {"plain"}
"""Sources of values in the document that are no secrets."""


def _digests(
    settings: IntegrationSettings, resolved: ResolvedPolicy, profile_entries: ProfileEntries
) -> tuple[tuple[Keys, bytes], ...]:
    """Return a digest of each secret, so that a later load finds the changed ones.

    Only this process has the key of the digests, so they reveal nothing.
    """
    digests = [
        # A value may have a lone surrogate.
        (keys, hashlib.blake2b(value.encode("utf-8", "surrogatepass"), key=_DIGEST_KEY, digest_size=16))
        for keys, value in _secret_values(settings, resolved)
    ]
    locations = (keys for keys, _ in _at_document_keys(((keys, "") for keys, _ in digests), profile_entries))
    return tuple(zip(locations, (digest.digest() for _, digest in digests), strict=True))


def _secret_values(settings: IntegrationSettings, resolved: ResolvedPolicy) -> Iterator[tuple[Keys, str]]:
    """Yield the secrets that were read, and the prefixes if one is a reference."""
    for part in parts_of(settings):
        for key, reference, _ in part.inputs():
            keys = (part.SECTION, *key)
            # The content of a file that is read before each call is not part of the config.
            if reference.source not in _PUBLIC_SOURCES and not reference.reread and keys in resolved.values:
                yield keys, resolved.values[keys]
    if resolved.policy.prefixes and any(isinstance(prefix, Reference) for prefix in settings.endpoint_prefix):
        yield ("endpoint_prefix",), "\n".join(map(str, resolved.policy.prefixes))


class ResolvedPolicy(NamedTuple):
    """The policy and base URL of an integration, the values that were read, and those that cannot be read.

    If a value that decides the policy cannot be read, `is_complete` is False, and the policy allows nothing.
    """

    policy: Policy
    base: Prefix | None
    values: Mapping[Keys, str]
    unreadable: list[UnreadableValue]
    is_complete: bool


def resolve_policy(settings: IntegrationSettings, read: ReferenceReader) -> ResolvedPolicy:
    """Read the values of the credential, and compute the policy from them."""
    traits = settings.auth.traits()
    prefixes, prefix_errors = _resolve_prefixes(settings, read)
    values, value_errors = read_parts(settings, read, {})
    reasons = [*prefix_errors, *value_errors]
    methods = None if settings.methods is None else frozenset(settings.methods)
    destinations = settings.auth.destinations(values_of(settings.auth, values))
    if prefix_errors or destinations is None:
        # A policy without a rule denies everything.
        return ResolvedPolicy(Policy(methods=methods), None, values, reasons, is_complete=False)
    if traits.canonical_form is not None:
        prefixes = tuple(map(traits.canonical_form.canonicalize_prefix, prefixes))
    policy = Policy(
        prefixes=prefixes,
        domains=(*settings.allowed_domains, *destinations.domains),
        forbidden=destinations.forbidden,
        methods=methods,
        path=destinations.path,
        placeholder_origin=destinations.placeholder_origin,
    )
    base = _base_url(prefixes, settings.allowed_domains, destinations, discovers=traits.discovers_base_url)
    return ResolvedPolicy(policy, base, values, reasons, is_complete=True)


def _build_egress(
    settings: IntegrationSettings,
    trust: Trust,
    read: ReferenceReader,
    trust_of: TrustOf,
    stored_networks: NetworkOverride | None,
) -> tuple[Egress, list[UnreadableValue]]:
    """Build the rules of an integration's connections. Return also the errors of its values that cannot be read."""
    own_trust, reason = load_trust(settings.trusted_ca, trust, read, trust_of)
    unreadable: list[UnreadableValue] = [] if reason is None else [(("trusted_ca",), reason)]
    if stored_networks is not None:
        # Editors choose the targets.
        return Egress(own_trust, stored_networks, settings.source_address, resolve_locally=True), unreadable
    proxy: ParentProxy | Literal["none"] | None
    if settings.proxy is None or settings.proxy == "none":
        proxy = settings.proxy
    else:
        proxy, reasons = build_proxy(settings.proxy, trust, read, trust_of)
        unreadable += [(("proxy", *keys), reason) for keys, reason in reasons]
    return Egress(own_trust, tuple(settings.allow_private), settings.source_address, proxy), unreadable


def _canonical_json(destination: Mapping[str, Json]) -> str:
    return json.dumps(destination, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _resolve_prefixes(
    settings: IntegrationSettings, read: ReadReference
) -> tuple[tuple[Prefix, ...], list[UnreadableValue]]:
    """Return the endpoint prefixes with references resolved, or no prefix if one reference cannot be read."""
    prefixes: list[Prefix] = []
    for prefix in settings.endpoint_prefix:
        try:
            prefixes.append(parse_prefix(read(prefix)) if isinstance(prefix, Reference) else prefix)
        except ValueError as error:
            return (), [(("endpoint_prefix",), str(error))]
    return tuple(prefixes), []


def _read_credential(
    settings: IntegrationSettings,
    read: ReadReference,
    known_values: Mapping[Keys, str],
    profile_entries: ProfileEntries,
) -> Credential | Supplemented:
    _, prefix_errors = _resolve_prefixes(settings, read)
    values, reasons = read_parts(settings, read, known_values)
    if prefix_errors or reasons:
        raise SecretUnreadable(tuple(_at_document_keys((*prefix_errors, *reasons), profile_entries)))
    return credential_of(settings, values)


def _at_document_keys(
    unreadable: Iterable[UnreadableValue], profile_entries: ProfileEntries
) -> Iterator[UnreadableValue]:
    """Replace each location at which a profile put a secret by the key in the document that sets the secret."""
    names = {path: text.strip("{}") for path, text in profile_entries if text.startswith("{")}
    for keys, reason in unreadable:
        name = names.get(format_loc(keys)) if names else None
        yield (keys if name is None else ("auth", name)), reason


def _base_url(
    prefixes: Sequence[Prefix], domains: Sequence[Domain], destinations: Destinations, *, discovers: bool
) -> Prefix | None:
    """Return the base URL to which a reverse proxy request's path is appended, before a grant.

    This is the first prefix, else the first domain that is an exact base URL, else the kind's. The placeholder for a
    base URL that comes with a token has precedence. If each token `discovers` its base URL, the path of a prefix does
    not count.
    """
    if destinations.placeholder_origin is not None:
        return destinations.base
    exact = (Prefix(domain.origin, "") for domain in domains if not domain.wildcard)
    candidates = (Prefix(prefix.origin, "") for prefix in prefixes) if discovers else prefixes
    return next(iter((*candidates, *exact)), destinations.base)
