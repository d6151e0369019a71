"""Build the content of the store beside that of the files. An error in an integration concerns that one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple, NoReturn

from sidekey.core.addresses import Only
from sidekey.core.policy import Policy
from sidekey.credentials.base import Credential, Places, Traits
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.secret_loader import SecretLoader
from sidekey.runtime.snapshot import Caller, Integration, Stored, Trust
from sidekey.runtime.standing import UNVERIFIED
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings import checks
from sidekey.settings.build import build_integration, build_trust
from sidekey.settings.certificates import build_certificate_loader
from sidekey.settings.checks import Known
from sidekey.settings.config_errors import show
from sidekey.settings.file_side import FileSide
from sidekey.settings.load import KeysError, StoreSide
from sidekey.settings.local_address import ABSENT, is_local
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.release_gradually import release_gradually
from sidekey.settings.stored.document import MalformedError, Saved
from sidekey.settings.stored.opening import StoredReader, Vault
from sidekey.settings.stored.overlaps import losers, overlaps
from sidekey.settings.stored.presets import BuiltPreset, build_preset
from sidekey.settings.stored.purposes import purpose_of
from sidekey.settings.stored.saving import Draft, EnteredReader
from sidekey.settings.validated import validate_saved
from sidekey.store.records import CallerRow, IntegrationRow
from sidekey.store.state import State

UNKNOWN = "unknown"
"""The kind of a stored integration that cannot be used."""


class _Around(NamedTuple):
    """What a stored integration is built of beside its row."""

    vault: Vault
    trust: Trust
    allow_private: Only
    in_flight: int


class _Built(NamedTuple):
    """An integration that was built from a row and its surroundings; `problem` says why the row cannot be used."""

    row: IntegrationRow
    around: _Around
    integration: Integration
    problem: str = ""

    def is_current(self, row: IntegrationRow, around: _Around) -> bool:
        """Return True if building it again would change nothing."""
        before, integration = self.around, self.integration
        if not _says_the_same(self.row, row) or before.allow_private != around.allow_private:
            return False
        if self.problem or not integration.usable or integration.in_flight > around.in_flight:
            # The cause may be a key, the time, the machine, or the rest of the config. What was opened stays so,
            # whichever key it is sealed with now.
            return False
        return before.trust == around.trust or integration.trust is not before.trust


def _says_the_same(before: IntegrationRow, row: IntegrationRow) -> bool:
    """Whether a row says what it said before: it may have been written again with another key."""
    if before is row:
        return True
    return _entered(before) == _entered(row) and replace(row, secrets=before.secrets) == before


def _entered(row: IntegrationRow) -> dict[str, tuple[int, str]]:
    """When, and by whom, each secret was entered."""
    return {secret: (each.set_at, each.set_by) for secret, each in row.secrets.items()}


class StoredSource(StoreSide):
    """The store as it is `taken`, for one thread at a time. `check` is what `StoreSide.check` does."""

    def __init__(self, check: Callable[[StoreRules], KeysError | None]) -> None:
        self._check = check
        self._vault: Vault | None = None
        self._state: State | None = None
        self._built: dict[str, _Built] = {}
        self._presets: dict[str, BuiltPreset] = {}

    def take(self, state: State, vault: Vault) -> None:
        """Build this state from now on, and open its secrets with this vault."""
        self._state = state
        if self._vault is None or self._vault.ring is not vault.ring:
            self._vault = vault

    @property
    def known(self) -> Known:
        """As `StoreSide.known`."""
        return Known() if self._state is None else Known(self._state.integrations.keys(), self._state.presets.keys())

    def check(self, rules: StoreRules) -> KeysError | None:
        """As `StoreSide.check`."""
        return self._check(rules)

    def build(self, side: FileSide, now: float) -> Stored:
        """As `StoreSide.build`."""
        state, vault = self._state, self._vault
        allowed = Only(() if side.store is None else side.store.allow_private)
        if state is None or vault is None:
            return Stored(trust=side.trust, allow_private=allowed, read=False)
        around = _Around(vault, side.trust, allowed, side.settings.limits.in_flight)
        building = _Building(side, around, now)
        before, self._built = self._built, {}
        problems: dict[str, str] = {}
        served: dict[str, Integration] = {}
        for name, row in state.integrations.items():
            if name in side.integrations:
                continue
            former = before.get(name)
            if former is not None and former.is_current(row, around):
                built = former if former.row is row else former._replace(row=row)
            else:
                built = building.build(row)
            self._built[name] = built
            problems[name], served[name] = built.problem, built.integration
        callers = dict(_callers(state.callers, side))
        for name, problem in self._overlapping(side, served, callers).items():
            problems[name] = problem
            del served[name]
        release_gradually(before)
        known, self._presets = self._presets, {}
        for name, preset in state.presets.items():
            if name not in side.presets:
                self._presets[name] = build_preset(preset, known.get(name))
        release_gradually(known)
        return Stored(
            state.revision,
            served,
            callers,
            problems,
            {name: each.preset for name, each in self._presets.items()},
            around.trust,
            around.allow_private,
        )

    def _overlapping(
        self, side: FileSide, served: Mapping[str, Integration], callers: Mapping[bytes, Caller]
    ) -> dict[str, str]:
        if not side.settings.forward.match_by_host:
            return {}
        known = {**side.integrations, **served}
        policies = {name: each.policy for name, each in known.items() if each.rebuild is None}
        every = [*side.callers.values(), *callers.values()]
        rows = {name: self._built[name].row for name in served}
        age = {name: (row.created_at, row.row) for name, row in rows.items()}
        return losers(overlaps(policies, served.keys(), every, side.stored_at), age)


def build_draft(name: str, draft: Draft, stored: Stored, now: float) -> Integration:
    """An integration of a draft, with the secrets that came with it and no others: for a trial, not to be served.

    Raises SecretUnreadable where it keeps one that is stored.
    """
    integration = build_unserved(name, draft.settings, draft.entered, stored, now)
    for held in (integration.secrets, integration.certificate):
        if held is not None and held.unreadable is not None and not integration.usable:
            raise held.unreadable
    return integration


def build_unserved(
    name: str, settings: IntegrationSettings, entered: Mapping[str, str], stored: Stored, now: float
) -> Integration:
    """An integration of valid settings that nobody may use: where its credential would go is known without secrets."""
    reader = EnteredReader(entered)
    return build_integration(
        name,
        settings,
        stored.trust,
        reader,
        lambda trust: (trust, None),
        certificate=build_certificate_loader(settings, reader, now),
        stored=stored.allow_private,
    ).integration


class _Building:
    """Builds rows of integrations in one pass."""

    def __init__(self, side: FileSide, around: _Around, now: float) -> None:
        self._around = around
        self._now = now
        self._trust_of = cache(partial(build_trust, read=side.read))
        self._is_local = cache(is_local)

    def build(self, row: IntegrationRow) -> _Built:
        """Build an integration from a row, or one that refuses its requests if the row cannot be used."""
        if not row.verified:
            return self._unusable(row, UNVERIFIED)
        try:
            saved = Saved.load(row.document)
        except MalformedError as error:
            return self._unusable(row, f"its document {error}: save it again")
        settings, errors, _, expansion = validate_saved(saved.written, saved.brought)
        found = [(each.loc, each.message) for each in errors]
        found += checks.limit_errors(saved.written, self._around.in_flight)
        if settings is not None and settings.source_address is not None and not self._is_local(settings.source_address):
            found.append((("source_address",), ABSENT))
        if settings is None or found:
            return self._unusable(row, "; ".join(f"{show(loc)}: {text}" for loc, text in found))
        around = self._around
        reader = StoredReader(around.vault, row, purpose_of(saved.written, expansion.table, settings))
        built = build_integration(
            row.id,
            settings,
            around.trust,
            reader,
            self._trust_of,
            filled=() if expansion.filled is None else expansion.filled.entries,
            certificate=build_certificate_loader(settings, reader, self._now),
            stored=around.allow_private,
            row=row.row,
        )
        return _Built(row, around, built.integration)

    def _unusable(self, row: IntegrationRow, problem: str) -> _Built:
        """Build one that refuses its requests: without it, callers would be told that there is no such integration."""
        reason = SecretUnreadable(((("store",), "the integration cannot be used; an operator must look at it"),))
        secrets = SecretLoader(partial(_refuse, reason))
        secrets.load()
        integration = Integration(
            row.id,
            UNKNOWN,
            Policy(),
            None,
            secrets,
            Traits(Places()),
            trust=self._around.trust,
            allow_private=self._around.allow_private,
            stored=True,
            rebuild=partial(_raise, reason),
        )
        return _Built(row, self._around, integration, problem)


def _refuse(reason: SecretUnreadable) -> Credential:
    raise SecretUnreadable(reason.reasons)


def _raise(reason: SecretUnreadable) -> NoReturn:
    raise SecretUnreadable(reason.reasons)


def _callers(rows: Mapping[str, CallerRow], side: FileSide) -> Iterator[tuple[bytes, Caller]]:
    """The stored callers by the digests of their tokens; a file's wins, by name and by token."""
    names = {caller.name for caller in side.callers.values()}
    for name, row in rows.items():
        digest = bytes.fromhex(row.token_sha256)
        if name not in names and digest not in side.callers:
            yield digest, Caller(name, _granted(row.integrations), _granted(row.presets))


def _granted(ids: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if ids is None else frozenset(ids)
