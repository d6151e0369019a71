"""Builds what the store says beside what the files say. An error in one integration takes down that one alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from typing import Final, NamedTuple, NoReturn

from sidekey.core.addresses import Only
from sidekey.core.policy import Policy
from sidekey.credentials.base import Credential, Places, Traits
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.secret_loader import SecretLoader
from sidekey.runtime.snapshot import ALTERED, Caller, Integration, Judgement, Stored, Trust
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
from sidekey.settings.stored.hiding import Hiding
from sidekey.settings.stored.opening import StoredReader, Vault
from sidekey.settings.stored.overlaps import hidden_by, overlaps
from sidekey.settings.stored.presets import BuiltPreset, build_preset
from sidekey.settings.stored.saving import Draft, EnteredReader
from sidekey.settings.validated import validate_saved
from sidekey.store.records import CallerRow, DocumentRow, IntegrationRow
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
    """A row that was built. `around` is what it was built of."""

    row: IntegrationRow
    around: _Around
    integration: Integration
    judgement: Judgement

    def is_current(self, row: IntegrationRow, around: _Around) -> bool:
        """Whether it is still what would be built."""
        before, integration, state = self.around, self.integration, self.judgement.state
        if not _says_the_same(self.row, row) or before.allow_private != around.allow_private:
            return False
        if state != "ok" and (self.row is not row or before.vault is not around.vault):
            # Another key may open it. What was opened stays so, whichever key it is sealed with now.
            return False
        if state == "invalid" or integration.in_flight > around.in_flight:
            # What is wrong may be the machine's, or the rest of the config's.
            return False
        return before.trust == around.trust or integration.trust is not before.trust


def _says_the_same(before: IntegrationRow, row: IntegrationRow) -> bool:
    """Whether a row says what it said before: it may have been written again with another key."""
    if before is row:
        return True
    return _entered(before) == _entered(row) and replace(row, secrets=before.secrets) == before


def _entered(row: IntegrationRow) -> dict[str, tuple[int, str]]:
    """When, and by whom, each secret was entered."""
    return {where: (each.updated_at, each.updated_by) for where, each in row.secrets.items()}


class StoredSource(StoreSide):
    """The store as it is `taken`, for one thread at a time. `check` is what `StoreSide.check` does."""

    def __init__(self, check: Callable[[StoreRules], KeysError | None]) -> None:
        self._check = check
        self._vault: Vault | None = None
        self._state: State | None = None
        self._built: dict[str, _Built] = {}
        self._presets: dict[str, BuiltPreset] = {}
        self.hiding: Final = Hiding()

    def take(self, state: State, vault: Vault) -> None:
        """Build this state from now on, and open its secrets with this vault."""
        self._state = state
        self.hiding.take(_rows(state))
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
        judgements: dict[str, Judgement] = {}
        served: dict[str, Integration] = {}
        for name, row in state.integrations.items():
            hidden = self.hiding.judge(row, side.integrations)
            if hidden is not None:
                judgements[name] = hidden
                continue
            former = before.get(name)
            if former is not None and former.is_current(row, around):
                built = former if former.row is row else former._replace(row=row)
            else:
                built = building.build(row)
            self._built[name] = built
            judgements[name], served[name] = built.judgement, built.integration
        callers = dict(_callers(state.callers, side))
        for name, reason in self._overlapping(side, served, callers).items():
            judgements[name] = Judgement("hidden", reason)
            del served[name]
        release_gradually(before)
        presets = self._build_presets(state, side)
        return Stored(
            state.revision,
            served,
            callers,
            judgements,
            {name: each.preset for name, each in self._presets.items()},
            presets,
            tuple(self._unsaid(state, side)),
            around.trust,
            around.allow_private,
        )

    def _build_presets(self, state: State, side: FileSide) -> dict[str, Judgement]:
        """Build the presets that are served; how all of them stand by themselves."""
        before, self._presets = self._presets, {}
        judgements: dict[str, Judgement] = {}
        for name, row in state.presets.items():
            hidden = self.hiding.judge(row, side.presets)
            if hidden is None:
                built = self._presets[name] = build_preset(row, before.get(name))
                judgements[name] = built.judgement
            else:
                judgements[name] = hidden
        release_gradually(before)
        return judgements

    def _unsaid(self, state: State, side: FileSide) -> Iterator[tuple[str, str]]:
        files: dict[str, Container[str]] = {"integration": side.integrations, "preset": side.presets}
        return ((row.kind, row.id) for row in _rows(state) if self.hiding.is_unsaid(row, files[row.kind]))

    def in_use(self, stored: Stored) -> None:
        """What was built is in use: what a file has hidden stays hidden, also where its row does not say so yet."""
        state = self._state
        if state is not None:
            rows = (state.documents(kind).get(name) for kind, name in stored.newly_hidden)
            self.hiding.note(row for row in rows if row is not None)

    def _overlapping(
        self, side: FileSide, served: Mapping[str, Integration], callers: Mapping[bytes, Caller]
    ) -> dict[str, str]:
        if not side.settings.forward.match_by_host:
            return {}
        known = {**side.integrations, **served}
        policies = {name: each.policy for name, each in known.items() if each.rebuild is None}
        every = [*side.callers.values(), *callers.values()]
        rows = {name: self._built[name].row for name in served}
        age = {name: (row.updated_at, name) for name, row in rows.items()}
        return hidden_by(overlaps(policies, served.keys(), every, side.stored_at), age)


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


def _rows(state: State) -> Iterator[DocumentRow]:
    """What files may hide."""
    return chain(state.integrations.values(), state.presets.values())


class _Building:
    """Builds rows of integrations in one pass."""

    def __init__(self, side: FileSide, around: _Around, now: float) -> None:
        self._around = around
        self._now = now
        self._trust_of = cache(partial(build_trust, read=side.read))
        self._is_local = cache(is_local)

    def build(self, row: IntegrationRow) -> _Built:
        """An integration of a row, or what answers for one that cannot be used."""
        if row.state == "altered":
            return self._unusable(row, ALTERED)
        try:
            saved = Saved.load(row.document)
        except MalformedError as error:
            return self._unusable(row, Judgement("invalid", f"its document {error}"))
        settings, errors, _, expansion = validate_saved(saved.written, saved.brought)
        found = [(each.loc, each.message) for each in errors]
        found += checks.limit_errors(saved.written, self._around.in_flight)
        if settings is not None and settings.source_address is not None and not self._is_local(settings.source_address):
            found.append((("source_address",), ABSENT))
        if settings is None or found:
            return self._unusable(row, Judgement("invalid", "; ".join(f"{show(loc)}: {text}" for loc, text in found)))
        around = self._around
        reader = StoredReader(around.vault, row, settings)
        certificate = build_certificate_loader(settings, reader, self._now)
        built = build_integration(
            row.id,
            settings,
            around.trust,
            reader,
            self._trust_of,
            filled=() if expansion.filled is None else expansion.filled.entries,
            certificate=certificate,
            stored=around.allow_private,
            row=row.row,
        )
        return _Built(row, around, built.integration, self._judged(built.integration, reader))

    def _judged(self, integration: Integration, reader: StoredReader) -> Judgement:
        """What is to be said of one whose document is valid.

        A secret that is not there, and a certificate that has ended, are told by how it stands (`runtime.standing`).
        """
        certificate = integration.certificate
        ends = None if certificate is None else certificate.ends_at
        apart = reader.missing or (ends is not None and ends <= self._now)
        if integration.usable or (apart and not reader.refused):
            return Judgement("ok")
        held = (integration.secrets, certificate)
        reasons = [str(each.unreadable) for each in held if each is not None and each.unreadable is not None]
        return Judgement("sealed" if reader.refused else "invalid", "; ".join(reasons))

    def _unusable(self, row: IntegrationRow, judgement: Judgement) -> _Built:
        """What responds in its place: without it, its callers would be told that there is no such integration."""
        reason = SecretUnreadable(((("store",), f"the integration is {judgement.state}; an operator must look at it"),))
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
        return _Built(row, self._around, integration, judgement)


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
