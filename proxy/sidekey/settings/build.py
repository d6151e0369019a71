"""Builds the snapshot of a whole config from its files and its store."""

from __future__ import annotations

from collections.abc import Mapping

from sidekey.core.callers import Caller
from sidekey.core.matching import Matching, Narrowed
from sidekey.runtime import snapshot
from sidekey.runtime.rules import Limits, Timeouts
from sidekey.settings.file_side import FileSide
from sidekey.settings.passing import build_passing
from sidekey.settings.presets import PresetJudge


def build_snapshot(side: FileSide, stored: snapshot.Stored | None, judge: PresetJudge) -> snapshot.Snapshot:
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
    return Matching.of(known, Narrowed(stored, stored_at))
