"""Loads a config: from a path to a snapshot, or to every fault there is."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sidekey.credentials.certificates.settings import MATERIAL
from sidekey.settings import checks, snapshot
from sidekey.settings.build import build_callers, build_integration, build_snapshot, build_trust
from sidekey.settings.certificates import build_ring
from sidekey.settings.faults import Fault, Loc, Table, fault_at
from sidekey.settings.models import GlobalSettings, IntegrationSettings
from sidekey.settings.profiles import expand
from sidekey.settings.secrets import SecretReader
from sidekey.settings.source import Joined, read_config
from sidekey.settings.translate import faults_of
from sidekey.settings.values import check_name


@dataclass(slots=True)
class Loaded:
    """A config that was read. `snapshot` is None where there are `faults`.

    `unreadable` are secrets and CA files that could not be read: faults for `check` and `run --strict`, while `run`
    goes on without what needs them. All three lists are in the order of file, line and column.

    `places` are those of the client certificates that come by {url}, by integration: nothing is said of them before
    they are fetched (`fetched`).
    """

    snapshot: snapshot.Snapshot | None = None
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    unreadable: list[Fault] = field(default_factory=list)
    places: dict[str, dict[Loc, Fault]] = field(default_factory=dict)

    def fetched(self, name: str) -> tuple[list[Fault], list[Fault]]:
        """Faults and warnings of such a certificate, after its ring's `refresh`."""
        ring = None if self.snapshot is None else self.snapshot.integrations[name].certificate
        if ring is None:
            return [], []
        places, reasons = self.places[name], () if ring.unreadable is None else ring.unreadable.reasons
        faults, warnings = (
            [places[loc]._replace(message=message) for loc, message in found] for found in (reasons, ring.warnings)
        )
        return faults, warnings


def load(path: str | Path, environ: Mapping[str, str] | None = None, now: float | None = None) -> Loaded:
    """Read the config at `path`, a file or a folder, and the secrets it names. Never raises for what it reads.

    Certificates are judged at `now`, in seconds since the epoch; left out, the present.
    """
    with _without_collector():
        joined = read_config(Path(path))
        read = SecretReader(joined.folder, os.environ if environ is None else environ)
        loader = _Loader(joined, read, time.time() if now is None else now)
        loader.run()
    loaded = loader.loaded
    for faults in (loaded.faults, loaded.warnings, loaded.unreadable):
        faults[:] = sorted(set(faults))
    return loaded


@contextmanager
def _without_collector() -> Iterator[None]:
    """Loading makes many objects and no cycles: collections in between only cost time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Loader:
    def __init__(self, joined: Joined, read: SecretReader, now: float) -> None:
        self.loaded = Loaded(faults=joined.faults)
        self._joined = joined
        self._read = read
        self._now = now
        self._trust_of = cache(partial(build_trust, read=read))

    def run(self) -> None:
        settings = self._globals()
        trust = self._trust(settings)
        integrations = self._integrations(trust)
        callers, unreadable, twice = build_callers(settings.callers, self._read)
        self._note(self.loaded.unreadable, unreadable)
        self._note(self.loaded.faults, twice)
        if not self.loaded.faults:
            self.loaded.snapshot = build_snapshot(settings, integrations, callers, self._read)

    def _root(self, loc: Loc) -> Table:
        owners, documents = self._joined.owners, self._joined.documents
        return owners.get(str(loc[0]), documents[0]) if loc else documents[0]

    def _note(self, faults: list[Fault], found: Iterable[tuple[Loc, str]]) -> None:
        faults += [fault_at(self._root(loc), loc, message) for loc, message in found]

    def _globals(self) -> GlobalSettings:
        """The global settings; the defaults instead of what is faulty, so that the rest is still judged."""
        values = {**self._joined.globals, "version": 1}
        if self._joined.documents:
            self._note(self.loaded.faults, checks.global_faults(values))
            if self._joined.complete:
                self._note(self.loaded.faults, checks.caller_faults(values, self._joined.integrations))
            self._note(self.loaded.warnings, checks.global_warnings(values))
        if self._joined.documents and not self._joined.integrations:
            self._note(self.loaded.warnings, [(("integrations",), "there are none: every request is denied")])
        try:
            return GlobalSettings.model_validate(values)
        except ValidationError as error:
            self.loaded.faults += faults_of(error, GlobalSettings, self._root, ())
            return GlobalSettings.model_validate(_without_faulty(values, error))

    def _trust(self, settings: GlobalSettings) -> snapshot.Trust:
        trust, reason = self._trust_of(settings.network.trusted_ca)
        if reason:
            self._note(self.loaded.unreadable, [(("network", "trusted_ca"), reason)])
        return trust

    def _integrations(self, trust: snapshot.Trust) -> dict[str, snapshot.Integration]:
        built: dict[str, snapshot.Integration] = {}
        for name, document in self._joined.integrations.items():
            base = ("integrations", name)
            try:
                check_name(name)
            except ValueError as fault:
                self.loaded.faults.append(fault_at(document, base, str(fault), key=True))
            raw = document["integrations"][name]
            if not isinstance(raw, Table):
                self.loaded.faults.append(fault_at(document, base, "a mapping is expected"))
                continue
            integration = self._integration(name, raw, trust)
            if integration is not None:
                built[name] = integration
        return built

    def _integration(self, name: str, raw: Table, trust: snapshot.Trust) -> snapshot.Integration | None:
        base: Loc = ("integrations", name)

        def note(faults: list[Fault], found: Iterable[tuple[Loc, str]]) -> None:
            faults += [fault_at(raw, loc, message, base=base) for loc, message in found]

        expansion = expand(raw)
        note(self.loaded.faults, expansion.faults)
        table = expansion.table
        note(self.loaded.faults, checks.integration_faults(table))
        note(self.loaded.warnings, checks.integration_warnings(table))
        try:
            settings = IntegrationSettings.model_validate(table)
        except ValidationError as error:
            self.loaded.faults += faults_of(error, IntegrationSettings, lambda _: table, base)
            return None
        entries = expansion.filled.entries if expansion.filled is not None else ()
        ring = build_ring(settings, self._read, self._now)
        if ring is not None:
            note(self.loaded.warnings, ring.warnings)
            if ring.pending:
                self.loaded.places[name] = {
                    (block, key): fault_at(raw, (block, key), "", base=base)
                    for block in {place[0] for place, _ in ring.urls}
                    for key in (*MATERIAL, "key_passphrase")
                }
            elif ring.unreadable is not None:
                note(self.loaded.unreadable, ring.unreadable.reasons)
        integration, unreadable = build_integration(
            name, settings, trust, self._read, self._trust_of, filled=entries, certificate=ring
        )
        note(self.loaded.unreadable, unreadable)
        if not expansion.faults:
            # Examples stand in the policy otherwise, and say nothing of what was meant.
            note(self.loaded.warnings, checks.policy_warnings(integration.policy))
        return integration


def _without_faulty(values: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """The global keys that pydantic found no error in; of `callers` only the faulty ones go."""
    places = [details["loc"] for details in error.errors(include_url=False, include_input=False)]
    faulty = {loc[0] for loc in places if loc[:1] != ("callers",) or len(loc) == 1}
    callers = {loc[1] for loc in places if loc[:1] == ("callers",) and len(loc) > 1}
    kept = {key: value for key, value in values.items() if key not in faulty}
    if callers and "callers" in kept:
        kept["callers"] = {name: caller for name, caller in kept["callers"].items() if name not in callers}
    return kept
