"""Makes the runtime snapshot of validated settings, and reads secrets for the first time.

What cannot be read is returned beside the result, as places and reasons, and affects only what needs it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from sidekey.core.addresses import Only
from sidekey.core.headers import normalise
from sidekey.core.matching import Matching, Narrowed
from sidekey.core.policy import Domain, Policy, Prefix, parse_prefix
from sidekey.credentials.base import Credential, Destinations, Supplemented
from sidekey.credentials.certificates.loader import CertificateLoader
from sidekey.credentials.destination import Json, accepted
from sidekey.credentials.fields import WRITTEN, Keys, Reference, SecretUnreadable
from sidekey.credentials.secret_loader import SecretLoader
from sidekey.runtime import snapshot
from sidekey.runtime.rules import Limits, Timeouts
from sidekey.settings.bundles import LARGEST_BUNDLE, check_bundle, check_no_local_ca
from sidekey.settings.config_errors import Loc, show
from sidekey.settings.file_side import FileSide
from sidekey.settings.models import CallerSettings, IntegrationSettings, ListenSettings, LogSettings
from sidekey.settings.parts import credential_of, parts_of, public_headers_of, read_parts, traits_of, values_of
from sidekey.settings.passing import build_passing
from sidekey.settings.presets import PresetJudge
from sidekey.settings.secrets import NotingReader, ReferenceReader, SecretReader, named

Reasons = list[tuple[Loc, str]]
Unread = tuple[Keys, str]
Filled = tuple[tuple[str, str], ...]
TrustOf = Callable[[snapshot.Trust], tuple[snapshot.Trust, str | None]]
"""`build_trust` of one load, which reads each file once."""


def build_integration(
    name: str,
    settings: IntegrationSettings,
    trust: snapshot.Trust,
    read: ReferenceReader,
    trust_of: TrustOf,
    *,
    filled: Filled = (),
    certificate: CertificateLoader | None = None,
    noting: NotingReader | None = None,
    stored: Only | None = None,
    row: str = "",
) -> Built:
    """One integration with its secrets read; `trust` is what holds where it names none itself.

    `noting` reads for this time, where it is to be known what was read; `read` for every later one. The errors of its
    client certificate are the loader's. One that is `stored`, in this `row`, dials global addresses and these.
    """
    traits = traits_of(settings)
    where = where_of(settings, read if noting is None else noting)
    # What was read decides the policy, and is not read a second time: the two always belong together.
    reread = {(settings.auth.SECTION, *key) for key in traits.reread}
    known = {key: value for key, value in where.values.items() if key not in reread}
    loader = SecretLoader(partial(_credential, settings, read, known, filled))
    loader.load()
    trust, unusable = _trust(settings, trust, trust_of, noting)
    rebuild: Callable[[], snapshot.Integration] | None = None
    if not where.known:

        def rebuild() -> snapshot.Integration:
            return build_integration(
                name,
                settings,
                trust,
                read,
                trust_of,
                filled=filled,
                certificate=certificate,
                stored=stored,
                row=row,
            ).integration

    test = settings.test
    integration = snapshot.Integration(
        id=name,
        kind=settings.auth.type,
        policy=where.policy,
        base=where.base,
        secrets=loader,
        traits=traits,
        trust=trust,
        certificate=certificate,
        allow_private=tuple(settings.allow_private) if stored is None else stored,
        in_flight=settings.limits.in_flight or 0,
        source_address=settings.source_address,
        description=settings.description,
        tags=tuple(settings.tags),
        test=None if test is None else snapshot.TestRequest(test.method, test.path),
        pass_headers=frozenset(normalise(name.encode()) for name in settings.pass_headers),
        redact_response=settings.redact_response,
        filled=filled,
        public_headers=public_headers_of(settings),
        stored=stored is not None,
        row=row,
        written=settings,
        digests=_digests(settings, where, filled),
        destinations=("",) if stored is None or not traits.ends else tuple(map(_spelled, accepted(settings))),
        rebuild=rebuild,
    )
    return Built(integration, [*where.unreadable, *unusable])


_DIGEST_KEY: Final = secrets.token_bytes(32)
_PUBLIC: Final = WRITTEN - {"plain"}
"""Sources of values that are no secrets: they are written in the config as they are."""


def _digests(settings: IntegrationSettings, where: Where, filled: Filled) -> tuple[tuple[Keys, bytes], ...]:
    """By which a later load tells which secrets have changed; outside this process they say nothing."""
    found = [
        # Of a lone surrogate it is known that it is one.
        (keys, hashlib.blake2b(value.encode("utf-8", "surrogatepass"), key=_DIGEST_KEY, digest_size=16))
        for keys, value in _secret_values(settings, where)
    ]
    places = (keys for keys, _ in _as_written(((keys, "") for keys, _ in found), filled))
    return tuple(zip(places, (digest.digest() for _, digest in found), strict=True))


def _secret_values(settings: IntegrationSettings, where: Where) -> Iterator[tuple[Keys, str]]:
    """What was read of the credential's secrets, and the prefixes where one of them was read."""
    for part in parts_of(settings):
        for key, reference, _ in part.inputs():
            keys = (part.SECTION, *key)
            if reference.source not in _PUBLIC and keys in where.values:
                yield keys, where.values[keys]
    if where.policy.prefixes and any(isinstance(each, Reference) for each in settings.endpoint_prefix):
        yield ("endpoint_prefix",), "\n".join(map(str, where.policy.prefixes))


class Built(NamedTuple):
    """An integration, and the values of it that cannot be read, with the reasons."""

    integration: snapshot.Integration
    unread: list[Unread]


class Where(NamedTuple):
    """Where a credential may go, with all that was read of the credential, and why the rest was not.

    Where it is not `known`, what decides it cannot be read, and nothing is allowed.
    """

    policy: Policy
    base: Prefix | None
    values: Mapping[Keys, str]
    unreadable: list[Unread]
    known: bool


def where_of(settings: IntegrationSettings, read: ReferenceReader) -> Where:
    """Where a credential may go, by what can be read."""
    traits = settings.auth.traits()
    prefixes, unread = _prefixes(settings, read)
    values, unreadable = read_parts(settings, read, {})
    reasons = [*unread, *unreadable]
    methods = None if settings.methods is None else frozenset(settings.methods)
    destinations = settings.auth.destinations(values_of(settings.auth, values))
    if unread or destinations is None:
        # A policy without a rule denies everything.
        return Where(Policy(methods=methods), None, values, reasons, known=False)
    if traits.spelling is not None:
        prefixes = tuple(map(traits.spelling.spell_prefix, prefixes))
    policy = Policy(
        prefixes=prefixes,
        domains=(*settings.allowed_domains, *destinations.domains),
        forbidden=destinations.forbidden,
        methods=methods,
        path=destinations.path,
        placeholder_origin=destinations.placeholder_origin,
    )
    base = _base(prefixes, settings.allowed_domains, destinations, learns=traits.learns)
    return Where(policy, base, values, reasons, known=True)


def _trust(
    settings: IntegrationSettings, trust: snapshot.Trust, trust_of: TrustOf, noting: NotingReader | None
) -> tuple[snapshot.Trust, list[Unread]]:
    """The CAs of an integration, `trust` where it names none; and why they cannot be read."""
    if settings.trusted_ca is None:
        return trust, []
    if noting is not None and settings.trusted_ca.path is not None:
        noting.note(settings.trusted_ca.path)
    found, reason = trust_of(settings.trusted_ca)
    return found, [(("trusted_ca",), reason)] if reason else []


def _spelled(destination: Mapping[str, Json]) -> str:
    return json.dumps(destination, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _prefixes(settings: IntegrationSettings, read: ReferenceReader) -> tuple[tuple[Prefix, ...], list[Unread]]:
    """The endpoint prefixes, those behind references read; none of them where one cannot be read."""
    prefixes: list[Prefix] = []
    for prefix in settings.endpoint_prefix:
        try:
            prefixes.append(parse_prefix(read(prefix)) if isinstance(prefix, Reference) else prefix)
        except ValueError as error:
            return (), [(("endpoint_prefix",), str(error))]
    return tuple(prefixes), []


def _credential(
    settings: IntegrationSettings, read: ReferenceReader, known: Mapping[Keys, str], filled: Filled
) -> Credential | Supplemented:
    _, unread = _prefixes(settings, read)
    values, reasons = read_parts(settings, read, known)
    if unread or reasons:
        raise SecretUnreadable(tuple(_as_written((*unread, *reasons), filled)))
    return credential_of(settings, values)


def _as_written(unread: Iterable[Unread], filled: Filled) -> Iterator[Unread]:
    """What cannot be read, where the integration has it: what a profile asks for has the profile's name."""
    names = {path: text.strip("{}") for path, text in filled if text.startswith("{")}
    for keys, reason in unread:
        name = names.get(show(keys)) if names else None
        yield (keys if name is None else ("auth", name)), reason


def _base(
    prefixes: Sequence[Prefix], domains: Sequence[Domain], destinations: Destinations, *, learns: bool
) -> Prefix | None:
    """The base that the path of a reverse proxy request is appended to, before a grant.

    The first prefix, else the first domain of the integration that is an exact base URL, else what the kind names. A
    base that is a placeholder for the one to be learnt comes first; where any will be learnt, no prefix's path comes
    before the caller's.
    """
    if destinations.placeholder_origin is not None:
        return destinations.base
    exact = (Prefix(domain.origin, "") for domain in domains if not domain.wildcard)
    known = (Prefix(prefix.origin, "") for prefix in prefixes) if learns else prefixes
    return next(iter((*known, *exact)), destinations.base)


def build_trust(trust: snapshot.Trust, read: SecretReader) -> tuple[snapshot.Trust, str | None]:
    """The trust with its file's whole path and content, or why the file cannot be used."""
    if trust.path is None:
        return trust, None
    path = str(read.path(trust.path))
    try:
        data = read.content(trust.path, LARGEST_BUNDLE)
        # Text between the certificates may be in any encoding.
        pem = data.decode("latin-1").encode("ascii", "replace").decode()
        check_bundle(pem)
        check_no_local_ca(data)
    except ValueError as error:
        return snapshot.Trust(trust.source, path), f"{named('file', trust.path)} {error}"
    return snapshot.Trust(trust.source, path, hashlib.sha256(data).hexdigest(), pem), None


Digests = Mapping[str, tuple[Reference, bytes]]
"""Callers' tokens: where each was read from, and the SHA-256 of it."""


class Callers(NamedTuple):
    """Callers by the SHA-256 of their tokens, what could not be read, and tokens that are used twice."""

    found: dict[bytes, snapshot.Caller]
    digests: Digests
    unreadable: Reasons
    twice: Reasons


def build_callers(settings: Mapping[str, CallerSettings], read: SecretReader, former: Digests) -> Callers:
    """Read the callers' tokens. `former` are the digests of the last good load.

    A caller whose token cannot be read keeps its former one while the config names the same place. Otherwise it gets
    a digest that no token has: without it, a config whose last caller is unreadable would no longer check callers.
    """
    callers: dict[bytes, snapshot.Caller] = {}
    digests: dict[str, tuple[Reference, bytes]] = {}
    unreadable: Reasons = []
    twice: Reasons = []

    def granted(name: str) -> snapshot.Caller:
        integrations, presets = (
            None if granted is None else frozenset(granted)
            for granted in (settings[name].integrations, settings[name].presets)
        )
        return snapshot.Caller(name, integrations, presets)

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
        reference, digest = former.get(name, (None, b""))
        # A token that was moved to another caller is that caller's.
        if reference != settings[name].token or digest in callers:
            digest = secrets.token_bytes(32)
        digests[name] = settings[name].token, digest
        callers[digest] = granted(name)
    return Callers(callers, digests, unreadable, twice)


def build_snapshot(side: FileSide, stored: snapshot.Stored | None, judge: PresetJudge) -> snapshot.Snapshot:
    """The whole config at run time: what its files say, and the store. `judge` is asked about the presets of both."""
    settings, store = side.settings, side.store
    network, forward = settings.network, settings.forward
    # Of its own in any case: whoever lets go of a snapshot empties it gradually.
    integrations = {**side.integrations, **({} if stored is None else stored.integrations)}
    callers: dict[bytes, snapshot.Caller] | None = {**({} if stored is None else stored.callers), **side.callers}
    awaits_store = stored is not None and not stored.read
    passing = None
    if forward.unmatched == "pass":
        passing = build_passing(
            integrations, side.trust, forward.pass_ports, stored_at=side.stored_at, awaits_store=awaits_store
        )
    return snapshot.Snapshot(
        integrations=integrations,
        # With a store the last caller may be removed, and nobody must be let in by that.
        callers=callers if callers or store is not None else None,
        presets=judge({**side.presets, **({} if stored is None else stored.presets)}, integrations),
        listen=build_listen(settings.listen, side.read),
        network=snapshot.NetworkRules(
            hosts={host: tuple(addresses) for host, addresses in network.hosts.items()},
            allow_private=tuple(network.allow_private),
            search=network.search,
            source_address=network.source_address,
        ),
        timeouts=Timeouts(**dict(settings.timeouts)),
        limits=Limits(**dict(settings.limits)),
        log=build_log(settings.log, side.read),
        via=settings.via,
        ca=side.ca,
        store=store,
        admin=side.admin,
        stored=stored,
        passing=passing,
        matching=build_matching(integrations, side.stored_at) if forward.match_by_host else None,
        trust=side.trust,
        awaits_store=awaits_store,
        written=settings,
    )


def build_matching(
    integrations: Mapping[str, snapshot.Integration], stored_at: frozenset[str] = frozenset()
) -> Matching:
    """Which integrations name a host; not one that is not known yet to."""
    known = {each.id: each.policy for each in integrations.values() if each.rebuild is None}
    stored = frozenset(each.id for each in integrations.values() if each.stored)
    return Matching.of(known, Narrowed(stored, stored_at))


def build_listen(settings: ListenSettings, read: SecretReader) -> snapshot.Listen:
    """The listeners, sockets' paths whole."""

    def place(address: snapshot.Address) -> snapshot.Address:
        if address.path is None:
            return address
        return replace(address, path=str(read.path(address.path)), mode=settings.mode)

    return snapshot.Listen(
        proxy=place(settings.proxy),
        admin=place(settings.admin),
        metrics=None if settings.metrics is None else place(settings.metrics),
        names=tuple(settings.names),
    )


def build_log(settings: LogSettings, read: SecretReader) -> snapshot.Log:
    """What is logged and where, the file's path whole."""
    log = snapshot.Log(**dict(settings))
    return log if log.file is None else replace(log, file=str(read.path(log.file)))


def moved(one: snapshot.Listen, other: snapshot.Listen) -> Iterator[str]:
    """The keys of `listen` by which two differ."""
    modes = False
    for key in ("proxy", "admin", "metrics"):
        before, after = getattr(one, key), getattr(other, key)
        if before is None or after is None or replace(before, mode=after.mode) != after:
            if before is not after:
                yield key
        else:
            modes |= before.mode != after.mode
    if set(one.names) != set(other.names):
        yield "names"
    if modes:
        yield "mode"
