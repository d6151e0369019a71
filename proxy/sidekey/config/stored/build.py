"""Build the content of the store for a snapshot. An integration with an error does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, partial
from typing import Final, NoReturn

from sidekey.config.addresses import ABSENT, is_local
from sidekey.config.build.builder import Builder, BuiltIntegration, Prepared
from sidekey.config.build.certificates import build_certificate_loader
from sidekey.config.build.integration import build_integration
from sidekey.config.build.snapshot import FileContent
from sidekey.config.checks import ResourceIds
from sidekey.config.errors import Finding, format_loc
from sidekey.config.load import KeysError, StoreContent
from sidekey.config.models import IntegrationSettings
from sidekey.config.profiles import Expansion
from sidekey.config.stored.document import MalformedError, SavedDocument
from sidekey.config.stored.presets import build_preset
from sidekey.config.stored.secrets import SealingKeys, StoredReader, build_purpose
from sidekey.config.stored.validate import Draft, EnteredReader
from sidekey.config.validate import Validated, validate_saved
from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy import match
from sidekey.policy.addresses import Address, NetworkOverride
from sidekey.policy.callers import Caller
from sidekey.policy.match import HostRestriction, Overlap
from sidekey.policy.targets import Policy
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Preset, Snapshot, StoredObjects, Trust
from sidekey.snapshot.status import UNVERIFIED
from sidekey.snapshot.store import StoreRules
from sidekey.store.records import CallerRow, IntegrationRow
from sidekey.store.state import State


def find_overlaps(
    policies: Mapping[str, Policy], stored: Collection[str], callers: Collection[Caller], ca_hosts: frozenset[str]
) -> Iterator[Overlap]:
    """Yield overlaps of a stored integration with any other that one caller can reach through the target's host alone.

    Callers that list a stored integration reach it at the host names `ca_hosts` and their subdomains.
    """
    if not ca_hosts or not stored:
        return

    def reaches(caller: Caller, name: str) -> bool:
        return caller.lists(name) if name in stored else caller.may_use(name)

    def share_caller(first: str, second: str) -> bool:
        if first not in stored and second not in stored:
            return False
        return any(reaches(caller, first) and reaches(caller, second) for caller in callers)

    yield from match.find_overlaps(policies, share_caller, HostRestriction(stored, ca_hosts))


def shadowed_integrations(all_overlaps: Iterator[Overlap], age: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    """Return the stored integrations that are not served because they overlap an older one, and why.

    `age` has creation time and row ID of stored integrations, by ID. An integration of a file is never shadowed.
    """
    shadowed: dict[str, str] = {}
    for overlap in sorted(all_overlaps):
        pair = {overlap.first, overlap.second} & age.keys()
        if pair and not pair & shadowed.keys():
            younger = max(pair, key=lambda name: age[name])
            other = overlap.second if younger == overlap.first else overlap.first
            shadowed[younger] = (
                f"covers {overlap.url} as integration {other} does, and one caller lists both: narrow one"
            )
    return shadowed


def first_overlap_of_integration(snapshot: Snapshot, integration: Integration) -> Overlap | None:
    """Return the first overlap that appears if an integration is saved, or None."""
    return next(iter(find_new_overlaps(snapshot, {integration.id: integration}, {})), None)


def first_overlap_of_caller(snapshot: Snapshot, caller: Caller) -> Overlap | None:
    """Return the first overlap that appears if a caller is saved, or None."""
    return next(iter(find_new_overlaps(snapshot, {}, {caller.name: caller})), None)


def find_new_overlaps(
    snapshot: Snapshot, integrations: Mapping[str, Integration], callers: Mapping[str, Caller]
) -> list[Overlap]:
    """Return the overlaps that appear if these integrations and callers are saved.

    The served integrations do not overlap, because shadowed ones are not served.
    """
    if snapshot.matching is None:
        return []
    all_integrations = {**snapshot.integrations, **integrations}
    policies = {
        name: integration.policy for name, integration in all_integrations.items() if integration.rebuild is None
    }
    stored = frozenset(name for name, integration in all_integrations.items() if integration.stored)
    current_callers = {caller.name: caller for caller in (snapshot.callers or {}).values()}
    return sorted(
        {*find_overlaps(policies, stored, {**current_callers, **callers}.values(), frozenset(snapshot.ca.hosts))}
    )


UNKNOWN_KIND = "unknown"
"""The kind of a stored integration that cannot be used."""

_RETRY: Final = 3600
"""Seconds until a load builds unusable rows again, because time may have been the reason."""


class _RowBuilder(Builder[IntegrationRow]):
    """Builds integrations from the rows of a store. With `retry` it builds unusable rows again."""

    def __init__(
        self, sealing_keys: SealingKeys, files: FileContent, allow_private: NetworkOverride, now: float, *, retry: bool
    ) -> None:
        super().__init__(
            files.trust, files.settings.limits.in_flight, _inline_trust_of, now=now, stored_networks=allow_private
        )
        self._sealing_keys = sealing_keys
        self._allow_private = allow_private
        self._retry = retry

    def is_built_from(self, entry: BuiltIntegration[IntegrationRow], source: IntegrationRow) -> bool:
        """Compare rows without their MACs, because a key rotation re-encrypts a row and changes no secret.

        An unusable row differs from every other row: it may open with another key.
        """
        built = entry.integration
        if built is None or not built.usable:
            return entry.source is source and not self._retry
        if built.egress.allow_private != self._allow_private:
            return False
        return entry.source is source or _built_content(entry.source) == _built_content(source)

    def prepare(self, source: IntegrationRow) -> Prepared:
        """Validate the document of a row. Its secrets open only for these settings."""
        if not source.verified:
            return Prepared(_invalid(UNVERIFIED), None)
        try:
            document = SavedDocument.load(source.document)
        except MalformedError as error:
            return Prepared(_invalid(f"its document {error}: save it again"), None)
        validated = validate_saved(document.content, document.from_profile)
        if validated.settings is None:
            return Prepared(validated, None)
        purpose = build_purpose(document.content, validated.expansion.table, validated.settings)
        return Prepared(validated, StoredReader(self._sealing_keys, source, purpose))


def _inline_trust_of(trust: Trust) -> tuple[Trust, None]:
    """Return the CAs of a stored integration, which cannot name a file."""
    return trust, None


def _built_content(row: IntegrationRow) -> tuple[object, ...]:
    """Return the columns that determine the integration. A new secret value has a new ID in the document."""
    return row.row_id, row.version, row.verified, row.document


def _invalid(problem: str) -> Validated:
    return Validated(None, (Finding((), problem),), (), Expansion({}, [], None))


class StoredSource(StoreContent):
    """Builds the latest state that `update` received. Not thread-safe. `check` is the check of the store's keys."""

    def __init__(self, check: Callable[[StoreRules], KeysError | None]) -> None:
        self._check = check
        self._sealing_keys: SealingKeys | None = None
        self._state: State | None = None
        self._entries: dict[str, BuiltIntegration[IntegrationRow]] = {}
        self._presets: dict[str, Preset] = {}
        self._served: Mapping[str, Integration] = {}
        self._conditions: tuple[object, ...] = ()
        """The keys, the files and the hour of the last attempt to build unusable rows."""
        self._build_unusable: Callable[[str], Integration] = partial(_unusable, Egress())
        """Builds an integration that refuses its requests, in place of an unusable one."""

    def update(self, state: State, sealing_keys: SealingKeys) -> None:
        """Set the state to build, and the keys of its secrets."""
        self._state = state
        self._sealing_keys = sealing_keys

    @property
    def ids(self) -> ResourceIds:
        """The IDs of the stored integrations and presets."""
        return (
            ResourceIds()
            if self._state is None
            else ResourceIds(self._state.integrations.keys(), self._state.presets.keys())
        )

    def check(self, rules: StoreRules) -> KeysError | None:
        """Return why the store cannot use the keys of these rules, or None."""
        return self._check(rules)

    def build(self, files: FileContent, now: float) -> StoredObjects:
        """Build the state beside the content of the files."""
        state, sealing_keys = self._state, self._sealing_keys
        allowed = NetworkOverride(() if files.store is None else files.store.allow_private)
        if state is None or sealing_keys is None:
            return StoredObjects(trust=files.trust, allow_private=allowed, is_read=False)
        conditions = sealing_keys.ring, files, now // _RETRY
        retry = conditions != self._conditions
        if retry:
            self._conditions, self._build_unusable = conditions, cache(partial(_unusable, Egress(files.trust, allowed)))
        builder, previous = _RowBuilder(sealing_keys, files, allowed, now, retry=retry), self._entries
        local = cache(is_local)
        self._entries = {
            name: builder.build(name, row, previous.get(name), row.row_id)
            for name, row in state.integrations.items()
            if name not in files.entries
        }
        problems: dict[str, str] = {}
        served: dict[str, Integration] = {}
        for name, entry in self._entries.items():
            problems[name] = _find_problem(entry, self._served.get(name), local)
            usable = None if problems[name] else entry.integration
            served[name] = self._build_unusable(name) if usable is None else usable
        callers = dict(_build_callers(state.callers, files))
        for name, problem in self._find_shadowed(files, served, callers).items():
            problems[name] = problem
            del served[name]
        self._served = served
        self._presets = {
            name: build_preset(preset, self._presets.get(name))
            for name, preset in state.presets.items()
            if name not in files.presets
        }
        return StoredObjects(state.revision, served, callers, problems, self._presets, files.trust, allowed)

    def _find_shadowed(
        self, files: FileContent, served: Mapping[str, Integration], callers: Mapping[bytes, Caller]
    ) -> dict[str, str]:
        if not files.settings.forward.match_by_host:
            return {}
        all_integrations = {**files.integrations, **served}
        policies = {
            name: integration.policy for name, integration in all_integrations.items() if integration.rebuild is None
        }
        all_callers = [*files.callers.values(), *callers.values()]
        rows = {name: self._entries[name].source for name in served}
        age = {name: (row.created_at, row.row_id) for name, row in rows.items()}
        return shadowed_integrations(find_overlaps(policies, served.keys(), all_callers, files.ca_hosts), age)


def build_draft(name: str, draft: Draft, stored: StoredObjects, now: float) -> Integration:
    """Build an integration from a draft and its new secrets, for a test request and not to be served.

    Raises SecretUnreadable if the draft keeps a stored secret.
    """
    integration = build_unserved(name, draft.settings, draft.entered, stored, now)
    for loader in (integration.secrets, integration.certificate):
        if loader is not None and loader.unreadable is not None and not integration.usable:
            raise loader.unreadable
    return integration


def build_unserved(
    name: str, settings: IntegrationSettings, entered: Mapping[str, str], stored: StoredObjects, now: float
) -> Integration:
    """Build an integration that is never served, for example to show where its credential would go."""
    reader = EnteredReader(entered)
    return build_integration(
        name,
        settings,
        stored.trust,
        reader,
        _inline_trust_of,
        certificate=build_certificate_loader(settings, reader, now),
        stored_networks=stored.allow_private,
    ).integration


def _find_problem(
    entry: BuiltIntegration[IntegrationRow], served: Integration | None, local: Callable[[Address], bool]
) -> str:
    """Return why a row cannot be used, or "".

    Do not check the source address of a `served` integration again. The machine may get the address back at any time,
    and no load would follow.
    """
    errors = (finding for kind, finding in entry.findings if kind == "error")
    reasons = [": ".join(filter(None, (format_loc(error.loc), error.message))) for error in errors]
    source = None if entry.integration is None else entry.integration.egress.source_address
    if source is not None and entry.integration is not served and not local(source):
        reasons.append(f"source_address: {ABSENT}")
    return "; ".join(reasons)


def _unusable(egress: Egress, name: str) -> Integration:
    """Build an integration that refuses its requests. Without it, callers would get "no such integration"."""
    reason = SecretUnreadable(((("store",), "the integration cannot be used; an operator must look at it"),))
    secrets = SecretLoader(partial(_refuse, reason))
    secrets.load()
    return Integration(
        name,
        UNKNOWN_KIND,
        Policy(),
        None,
        secrets,
        CredentialTraits(InjectionPoints()),
        egress,
        stored=True,
        rebuild=partial(_refuse, reason),
    )


def _refuse(reason: SecretUnreadable) -> NoReturn:
    raise SecretUnreadable(reason.reasons)


def _build_callers(rows: Mapping[str, CallerRow], files: FileContent) -> Iterator[tuple[bytes, Caller]]:
    """Yield stored callers with the digests of their tokens, unless a file has a caller of the same name or token."""
    names = {caller.name for caller in files.callers.values()}
    for name, row in rows.items():
        digest = bytes.fromhex(row.token_sha256)
        if name not in names and digest not in files.callers:
            yield digest, Caller(name, _granted_ids(row.integrations), _granted_ids(row.presets))


def _granted_ids(ids: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if ids is None else frozenset(ids)
