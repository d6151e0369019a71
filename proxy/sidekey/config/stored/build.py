"""Build the content of the store beside that of the files. An error in an integration concerns that one alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, partial
from typing import Final, NoReturn

from sidekey.config.addresses import ABSENT, is_local
from sidekey.config.build.builder import Builder, BuiltIntegration, Opened
from sidekey.config.build.certificates import build_certificate_loader
from sidekey.config.build.integration import build_integration
from sidekey.config.build.snapshot import FileContent
from sidekey.config.checks import KnownIds
from sidekey.config.errors import Finding, show
from sidekey.config.load import KeysError, StoreContent
from sidekey.config.models import IntegrationSettings
from sidekey.config.profiles import Expansion
from sidekey.config.stored.document import MalformedError, Saved
from sidekey.config.stored.presets import build_preset
from sidekey.config.stored.secrets import SealingKeys, StoredReader, purpose_of
from sidekey.config.stored.validate import Draft, EnteredReader
from sidekey.config.validate import Validated, validate_saved
from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy import match
from sidekey.policy.addresses import Address, NetworkOverride
from sidekey.policy.callers import Caller
from sidekey.policy.match import HostRestriction, Overlap
from sidekey.policy.targets import Policy
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Preset, Snapshot, Stored, Trust
from sidekey.snapshot.status import UNVERIFIED
from sidekey.snapshot.store import StoreRules
from sidekey.store.records import CallerRow, IntegrationRow
from sidekey.store.state import State


def overlaps(
    policies: Mapping[str, Policy], stored: Collection[str], callers: Collection[Caller], stored_at: frozenset[str]
) -> Iterator[Overlap]:
    """Pairs of which one at least is `stored`, and which both count for one caller by the hosts of targets alone.

    A stored one counts at the host names `stored_at` and under them, for the callers that list it.
    """
    if not stored_at or not stored:
        return

    def counts(caller: Caller, name: str) -> bool:
        return caller.lists(name) if name in stored else caller.may_use(name)

    def together(first: str, second: str) -> bool:
        if first not in stored and second not in stored:
            return False
        return any(counts(caller, first) and counts(caller, second) for caller in callers)

    yield from match.overlaps(policies, together, HostRestriction(stored, stored_at))


def losers(found: Iterator[Overlap], age: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    """Return the stored integrations that are not served because of these, and why: of two, the younger one.

    `age` has the creation time and row ID of stored ones, by ID; one of a file is served in any case.
    """
    lost: dict[str, str] = {}
    for overlap in sorted(found):
        pair = [name for name in (overlap.first, overlap.second) if name in age and name not in lost]
        whole = len(pair) == len({overlap.first, overlap.second} & age.keys())
        if pair and whole:
            later = max(pair, key=lambda name: age[name])
            other = overlap.second if later == overlap.first else overlap.first
            lost[later] = f"covers {overlap.where} as integration {other} does, and one caller lists both: narrow one"
    return lost


def overlap_of(snapshot: Snapshot, integration: Integration) -> Overlap | None:
    """Return where an integration, once it is saved, would cover what another does."""
    return next(iter(overlaps_beside(snapshot, {integration.id: integration}, {})), None)


def overlap_for(snapshot: Snapshot, caller: Caller) -> Overlap | None:
    """Return which two integrations, once a caller is saved, would cover the same target for it."""
    return next(iter(overlaps_beside(snapshot, {}, {caller.name: caller})), None)


def overlaps_beside(
    snapshot: Snapshot, integrations: Mapping[str, Integration], callers: Mapping[str, Caller]
) -> list[Overlap]:
    """Return what these integrations and callers, once all of them are saved, would cover twice.

    Nothing is covered twice now: the losers are not served.
    """
    if snapshot.matching is None:
        return []
    known = {**snapshot.integrations, **integrations}
    policies = {name: each.policy for name, each in known.items() if each.rebuild is None}
    stored = frozenset(name for name, each in known.items() if each.stored)
    present = {each.name: each for each in (snapshot.callers or {}).values()}
    return sorted({*overlaps(policies, stored, {**present, **callers}.values(), frozenset(snapshot.ca.hosts))})


UNKNOWN = "unknown"
"""The kind of a stored integration that cannot be used."""

_RETRY: Final = 3600
"""Seconds after which an edit builds rows again that could not be used: the time may have been the reason."""


class _RowBuilder(Builder[IntegrationRow]):
    """Builds the integrations of a store's rows, and opens their secrets with the vault.

    With `retry` it builds rows again that could not be used.
    """

    def __init__(
        self, vault: SealingKeys, side: FileContent, allow_private: NetworkOverride, now: float, *, retry: bool
    ) -> None:
        super().__init__(side.trust, side.settings.limits.in_flight, _trust_of, now=now, stored=allow_private)
        self._vault = vault
        self._allow_private = allow_private
        self._retry = retry

    def is_same(self, entry: BuiltIntegration[IntegrationRow], source: IntegrationRow) -> bool:
        """Compare what two rows say, and not their MACs: a rotation of keys seals a row again and changes no secret.

        But a row that could not be used may open with another key.
        """
        built = entry.integration
        if built is None or not built.usable:
            return entry.source is source and not self._retry
        if built.allow_private != self._allow_private:
            return False
        return entry.source is source or _content(entry.source) == _content(source)

    def open(self, source: IntegrationRow) -> Opened:
        """Validate the document in the context of a row; its secrets open for these settings alone."""
        if not source.verified:
            return Opened(_invalid(UNVERIFIED), None)
        try:
            saved = Saved.load(source.document)
        except MalformedError as error:
            return Opened(_invalid(f"its document {error}: save it again"), None)
        validated = validate_saved(saved.written, saved.brought)
        if validated.settings is None:
            return Opened(validated, None)
        purpose = purpose_of(saved.written, validated.expansion.table, validated.settings)
        return Opened(validated, StoredReader(self._vault, source, purpose))


def _trust_of(trust: Trust) -> tuple[Trust, None]:
    """Return the CAs of a document, which names no file."""
    return trust, None


def _content(row: IntegrationRow) -> tuple[object, ...]:
    """Return what an integration is built from. A secret with another value has another ID in the document."""
    return row.row, row.version, row.verified, row.document


def _invalid(problem: str) -> Validated:
    return Validated(None, (Finding((), problem),), (), Expansion({}, [], None))


class StoredSource(StoreContent):
    """The rows that a store had when they were taken. One thread at a time. `check` implements `StoreSide.check`."""

    def __init__(self, check: Callable[[StoreRules], KeysError | None]) -> None:
        self._check = check
        self._vault: SealingKeys | None = None
        self._state: State | None = None
        self._entries: dict[str, BuiltIntegration[IntegrationRow]] = {}
        self._presets: dict[str, Preset] = {}
        self._served: Mapping[str, Integration] = {}
        self._circumstances: tuple[object, ...] = ()
        """The keys, the files and the hour with which rows were built that could not be used."""
        self._refusing: Callable[[str], Integration] = partial(_unusable, Trust(), NetworkOverride())
        """Makes the integrations in place of those that cannot be used."""

    def take(self, state: State, vault: SealingKeys) -> None:
        """Build this state from now on, and open its secrets with this vault."""
        self._state = state
        self._vault = vault

    @property
    def known(self) -> KnownIds:
        """As `StoreSide.known`."""
        return (
            KnownIds() if self._state is None else KnownIds(self._state.integrations.keys(), self._state.presets.keys())
        )

    def check(self, rules: StoreRules) -> KeysError | None:
        """As `StoreSide.check`."""
        return self._check(rules)

    def build(self, side: FileContent, now: float) -> Stored:
        """Build the state that was taken, as `StoreSide.build`."""
        state, vault = self._state, self._vault
        allowed = NetworkOverride(() if side.store is None else side.store.allow_private)
        if state is None or vault is None:
            return Stored(trust=side.trust, allow_private=allowed, read=False)
        circumstances = vault.ring, side, now // _RETRY
        retry = circumstances != self._circumstances
        if retry:
            self._circumstances, self._refusing = circumstances, cache(partial(_unusable, side.trust, allowed))
        builder, previous = _RowBuilder(vault, side, allowed, now, retry=retry), self._entries
        local = cache(is_local)
        self._entries = {
            name: builder.build(name, row, previous.get(name), row.row)
            for name, row in state.integrations.items()
            if name not in side.entries
        }
        problems: dict[str, str] = {}
        served: dict[str, Integration] = {}
        for name, entry in self._entries.items():
            problems[name] = _problem(entry, self._served.get(name), local)
            usable = None if problems[name] else entry.integration
            served[name] = self._refusing(name) if usable is None else usable
        callers = dict(_callers(state.callers, side))
        for name, problem in self._overlapping(side, served, callers).items():
            problems[name] = problem
            del served[name]
        self._served = served
        self._presets = {
            name: build_preset(preset, self._presets.get(name))
            for name, preset in state.presets.items()
            if name not in side.presets
        }
        return Stored(state.revision, served, callers, problems, self._presets, side.trust, allowed)

    def _overlapping(
        self, side: FileContent, served: Mapping[str, Integration], callers: Mapping[bytes, Caller]
    ) -> dict[str, str]:
        if not side.settings.forward.match_by_host:
            return {}
        known = {**side.integrations, **served}
        policies = {name: each.policy for name, each in known.items() if each.rebuild is None}
        every = [*side.callers.values(), *callers.values()]
        rows = {name: self._entries[name].source for name in served}
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
        _trust_of,
        certificate=build_certificate_loader(settings, reader, now),
        stored=stored.allow_private,
    ).integration


def _problem(
    entry: BuiltIntegration[IntegrationRow], served: Integration | None, local: Callable[[Address], bool]
) -> str:
    """Return why a row cannot be used, or an empty text.

    The source address of an integration that is `served` is not checked again: the machine may have it back at any
    time, and no edit would follow.
    """
    errors = (finding for kind, finding in entry.findings if kind == "error")
    reasons = [": ".join(filter(None, (show(each.loc), each.message))) for each in errors]
    source = None if entry.integration is None else entry.integration.source_address
    if source is not None and entry.integration is not served and not local(source):
        reasons.append(f"source_address: {ABSENT}")
    return "; ".join(reasons)


def _unusable(trust: Trust, allow_private: NetworkOverride, name: str) -> Integration:
    """Build an integration that refuses its requests: without it, callers would read that there is no integration."""
    reason = SecretUnreadable(((("store",), "the integration cannot be used; an operator must look at it"),))
    secrets = SecretLoader(partial(_refuse, reason))
    secrets.load()
    return Integration(
        name,
        UNKNOWN,
        Policy(),
        None,
        secrets,
        CredentialTraits(InjectionPoints()),
        trust=trust,
        allow_private=allow_private,
        stored=True,
        rebuild=partial(_refuse, reason),
    )


def _refuse(reason: SecretUnreadable) -> NoReturn:
    raise SecretUnreadable(reason.reasons)


def _callers(rows: Mapping[str, CallerRow], side: FileContent) -> Iterator[tuple[bytes, Caller]]:
    """The stored callers by the digests of their tokens; a file's wins, by name and by token."""
    names = {caller.name for caller in side.callers.values()}
    for name, row in rows.items():
        digest = bytes.fromhex(row.token_sha256)
        if name not in names and digest not in side.callers:
            yield digest, Caller(name, _granted(row.integrations), _granted(row.presets))


def _granted(ids: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if ids is None else frozenset(ids)
