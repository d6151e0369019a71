"""Builds the snapshot of a whole config from its files and its store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sidekey.ca.authorities import CaRules
from sidekey.config.build.builder import BuiltIntegration
from sidekey.config.build.callers import Digests
from sidekey.config.build.presets import PresetJudge
from sidekey.config.errors import LocatedMapping
from sidekey.config.models import GlobalSettings
from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.policy.callers import Caller
from sidekey.policy.headers import TARGET_FIELDS
from sidekey.policy.match import Coverage, HostRestriction, Matching
from sidekey.policy.targets import Policy
from sidekey.snapshot import snapshot
from sidekey.snapshot.admin import AdminRules
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Listen, Log, Preset, Trust
from sidekey.snapshot.store import StoreRules


@dataclass(frozen=True, slots=True, eq=False)
class FileContent:
    """The result of a load without errors, with which the next load compares.

    `integrations` are those of `entries`. `callers` are by the SHA-256 of their tokens, `digests` by their names.
    `trust` is the network's. `log_file` is the last one that was found writable. Presets are not checked beside their
    integrations yet, some of which may be in the store.
    """

    settings: GlobalSettings
    entries: Mapping[str, BuiltIntegration[LocatedMapping]]
    integrations: Mapping[str, Integration]
    callers: Mapping[bytes, Caller]
    digests: Digests
    trust: Trust
    ca: CaRules
    store: StoreRules | None
    admin: AdminRules
    presets: Mapping[str, Preset]
    listen: Listen
    log: Log
    log_file: str | None

    @property
    def stored_at(self) -> frozenset[str]:
        """The host names at and under which stored integrations are matched."""
        return frozenset(self.settings.ca.hosts)


def build_passing(
    integrations: Mapping[str, snapshot.Integration],
    trust: snapshot.Trust,
    ports: Iterable[int],
    *,
    stored_at: frozenset[str] = frozenset(),
    awaits_store: bool = False,
) -> snapshot.Passthrough:
    """How a target that none of these integrations covers is forwarded; `trust` is the network's.

    Stored ones cover nothing beyond the host names `stored_at`: their editors must not keep anything else from passing.
    """
    own = [each for each in integrations.values() if not each.stored]
    known = [each.policy for each in integrations.values() if each.stored and each.rebuild is None]
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    secrets.load()
    return snapshot.Passthrough(
        coverage=Coverage.of(each.policy for each in own if each.rebuild is None)
        | Coverage.of(known).within(stored_at),
        unresolved=frozenset(each.id for each in own if each.rebuild is not None),
        nobody=snapshot.Integration(
            snapshot.NOBODY,
            "none",
            Policy(),
            None,
            secrets,
            CredentialTraits(InjectionPoints()),
            trust,
            pass_headers=TARGET_FIELDS,
        ),
        ports=frozenset(ports),
        awaits_store=awaits_store,
    )


def build_snapshot(side: FileContent, stored: snapshot.Stored | None, judge: PresetJudge) -> snapshot.Snapshot:
    """Join the content of the files and of the store. `judge` checks each preset beside its integration."""
    settings, store = side.settings, side.store
    network, forward = settings.network, settings.forward
    integrations = {**side.integrations, **({} if stored is None else stored.integrations)}
    callers: dict[bytes, Caller] = {**({} if stored is None else stored.callers), **side.callers}
    awaits_store = stored is not None and not stored.read
    passing = None
    if forward.unmatched == "pass":
        passing = build_passing(
            integrations, side.trust, forward.pass_ports, stored_at=side.stored_at, awaits_store=awaits_store
        )
    return snapshot.Snapshot(
        integrations=integrations,
        # With a store the last caller may be removed, which must not let everybody in.
        callers=callers if callers or store is not None else None,
        presets=judge({**side.presets, **({} if stored is None else stored.presets)}, integrations),
        listen=side.listen,
        network=snapshot.NetworkRules(
            hosts={host: tuple(addresses) for host, addresses in network.hosts.items()},
            allow_private=tuple(network.allow_private),
            search=network.search,
            source_address=network.source_address,
        ),
        timeouts=Timeouts(**dict(settings.timeouts)),
        limits=Limits(**dict(settings.limits)),
        log=side.log,
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
    """Match hosts to integrations, without those whose targets are not known yet."""
    known = {each.id: each.policy for each in integrations.values() if each.rebuild is None}
    stored = frozenset(each.id for each in integrations.values() if each.stored)
    return Matching.of(known, HostRestriction(stored, stored_at))
