"""Build the snapshot that the process serves from the content of the files and of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sidekey.ca.authorities import CaRules
from sidekey.config.build.builder import BuiltIntegration
from sidekey.config.build.callers import TokenDigests
from sidekey.config.build.presets import PresetChecker
from sidekey.config.errors import LocatedMapping
from sidekey.config.models import GlobalSettings, NetworkSettings
from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.policy.callers import Caller
from sidekey.policy.coverage import Coverage
from sidekey.policy.headers import TARGET_FIELDS
from sidekey.policy.match import HostRestriction, Matching
from sidekey.policy.targets import Policy
from sidekey.policy.urls import Authority
from sidekey.snapshot import snapshot
from sidekey.snapshot.admin import AdminRules
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.jwt_issuer import JwtIssuer
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Listen, Log, NetworkRules, Preset, Trust
from sidekey.snapshot.store import StoreRules


@dataclass(frozen=True, slots=True, eq=False)
class FileContent:
    """The result of a load without errors, which the next load compares with.

    `integrations` are the valid integrations of `entries`. The keys of `callers` are those of `policy.callers`, and the
    keys of `token_digests` and `unreadable_callers` are their names. `trust` is the network's. `log_file` is the last
    writable log file. `presets` were not checked with their integrations, because some may be in the store.
    """

    settings: GlobalSettings
    entries: Mapping[str, BuiltIntegration[LocatedMapping]]
    integrations: Mapping[str, Integration]
    callers: Mapping[bytes, Caller]
    token_digests: TokenDigests
    unreadable_callers: Mapping[str, str]
    jwt_issuers: Mapping[str, JwtIssuer]
    trust: Trust
    network: NetworkRules
    ca: CaRules
    store: StoreRules | None
    admin: AdminRules
    presets: Mapping[str, Preset]
    listen: Listen
    log: Log
    log_file: str | None

    @property
    def ca_hosts(self) -> frozenset[str]:
        """The host names at which callers reach stored integrations by target, with their subdomains."""
        return frozenset(self.settings.ca.hosts)


def build_passthrough(
    integrations: Mapping[str, snapshot.Integration],
    trust: snapshot.Trust,
    ports: Iterable[int],
    *,
    ca_hosts: frozenset[str] = frozenset(),
    awaits_store: bool = False,
) -> snapshot.Passthrough:
    """Build the rules for forward-proxy targets that no integration covers. `trust` is the network's.

    Stored integrations cover only the host names `ca_hosts`, so that their editors cannot block other targets.
    """
    from_files = [integration for integration in integrations.values() if not integration.stored]
    stored_policies = [
        integration.policy
        for integration in integrations.values()
        if integration.stored and integration.rebuild is None
    ]
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    secrets.load()
    return snapshot.Passthrough(
        coverage=Coverage.of(integration.policy for integration in from_files if integration.rebuild is None)
        | Coverage.of(stored_policies).within(ca_hosts),
        unresolved=frozenset(integration.id for integration in from_files if integration.rebuild is not None),
        integration=snapshot.Integration(
            snapshot.NO_INTEGRATION,
            "none",
            Policy(),
            None,
            secrets,
            CredentialTraits(InjectionPoints()),
            # Callers choose these targets.
            Egress(trust, resolve_locally=True),
            pass_headers=TARGET_FIELDS,
        ),
        ports=frozenset(ports),
        awaits_store=awaits_store,
    )


def build_network(
    settings: NetworkSettings, proxy: ParentProxy | None, integrations: Iterable[Integration]
) -> NetworkRules:
    """Build the network rules. `proxy` is built from the settings, and `integrations` are those of the files."""
    choices = (proxy, *(integration.egress.proxy for integration in integrations))
    proxies = [choice.origin for choice in choices if isinstance(choice, ParentProxy)]
    return NetworkRules(
        hosts={host: tuple(addresses) for host, addresses in settings.hosts.items()},
        allow_private=tuple(settings.allow_private),
        search=settings.search,
        source_address=settings.source_address,
        proxy=proxy,
        proxies=frozenset(Authority(origin.host, origin.port) for origin in proxies),
    )


def build_snapshot(
    files: FileContent, stored: snapshot.StoredObjects | None, check_presets: PresetChecker
) -> snapshot.Snapshot:
    """Combine the content of the files and of the store."""
    settings, store = files.settings, files.store
    forward = settings.forward
    integrations = {**files.integrations, **({} if stored is None else stored.integrations)}
    callers: dict[bytes, Caller] = {**({} if stored is None else stored.callers), **files.callers}
    awaits_store = stored is not None and not stored.is_read
    passthrough = None
    if forward.unmatched == "pass":
        passthrough = build_passthrough(
            integrations, files.trust, forward.pass_ports, ca_hosts=files.ca_hosts, awaits_store=awaits_store
        )
    return snapshot.Snapshot(
        integrations=integrations,
        # With a store, the removal of the last caller must not let everybody in.
        callers=callers if callers or store is not None else None,
        unreadable_callers=files.unreadable_callers,
        presets=check_presets({**files.presets, **({} if stored is None else stored.presets)}, integrations),
        listen=files.listen,
        network=files.network,
        timeouts=Timeouts(**dict(settings.timeouts)),
        limits=Limits(**dict(settings.limits)),
        log=files.log,
        via=settings.via,
        ca=files.ca,
        store=store,
        admin=files.admin,
        stored=stored,
        passthrough=passthrough,
        matching=build_matching(integrations, files.ca_hosts) if forward.match_by_host else None,
        trust=files.trust,
        awaits_store=awaits_store,
        jwt_issuers=files.jwt_issuers,
        settings=settings,
    )


def build_matching(
    integrations: Mapping[str, snapshot.Integration], ca_hosts: frozenset[str] = frozenset()
) -> Matching:
    """Build the map from hosts to integrations, without integrations whose targets are not known yet."""
    policies = {
        integration.id: integration.policy for integration in integrations.values() if integration.rebuild is None
    }
    stored = frozenset(integration.id for integration in integrations.values() if integration.stored)
    return Matching.of(policies, HostRestriction(stored, ca_hosts))
