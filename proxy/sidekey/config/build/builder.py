"""Build the integrations of a config or a store. Reuse those of the previous pass that have not changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from sidekey.config import checks
from sidekey.config.build.certificates import build_certificate_loader, secret_files
from sidekey.config.build.integration import build_integration
from sidekey.config.build.trust import TrustOf
from sidekey.config.errors import Finding, FindingKind, LocatedList, LocatedMapping, loc_of
from sidekey.config.file_stamps import StampCache
from sidekey.config.models import IntegrationSettings, ProxySettings
from sidekey.config.secrets import (
    Recorded,
    RecordingReader,
    ReferenceReader,
    SecretReader,
    Stamps,
    Versions,
    kind_of,
)
from sidekey.config.validate import Validated, find_unreadable, validate
from sidekey.credentials.commands import Command
from sidekey.credentials.context import Context
from sidekey.credentials.destination import references_in
from sidekey.policy.addresses import NetworkOverride
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.snapshot import Integration, Trust

S = TypeVar("S")
"""The source of an integration: a mapping of a file, or a row of the store."""

KindAndFinding = tuple[FindingKind, Finding]


class BuiltIntegration(NamedTuple, Generic[S]):
    """An integration with its source, the files and commands that were read for it, and its findings.

    `integration` is None if the document is invalid. `trust` is the global trust, or None if the integration names all
    its CAs itself. If there are reasons in `retained_for`, the changed `files` could not be used, and the integration
    is the previous one. `rejected` are the commands whose last secret it cannot use. The client certificate's loader
    has its own findings, which are not in these fields.
    """

    source: S
    integration: Integration | None = None
    trust: Trust | None = None
    files: Stamps = ()
    commands: Versions = ()
    findings: tuple[KindAndFinding, ...] = ()
    retained_for: tuple[Finding, ...] = ()
    rejected: tuple[Command, ...] = ()

    def current_findings(self) -> Iterator[KindAndFinding]:
        """Yield all findings, with those of the client certificate as it was read last."""
        yield from self.findings
        certificate = None if self.integration is None else self.integration.certificate
        if certificate is not None:
            yield from _with_kind("warning", (Finding(*warning) for warning in certificate.warnings))
            unreadable = certificate.unreadable
            # An earlier certificate stays in use despite this error. The first fetch from a URL may still succeed.
            if unreadable is not None and certificate.identity is None and not certificate.pending:
                kind: FindingKind = "refused" if certificate.refused_reason else "unreadable"
                yield from _with_kind(kind, (Finding(*reason) for reason in unreadable.reasons))


class Prepared(NamedTuple):
    """A validated document and the reader of its secrets, which is None if the document is invalid."""

    validated: Validated
    read: ReferenceReader | None


class Builder(ABC, Generic[S]):
    """Builds integrations in one pass over a config or a store.

    `trust` is the global one, and `in_flight` the global limit of requests. Certificates are validated at `now`. For
    files, `recorder` reads the secrets and records their files. For a store, it is None, and `stored_networks` are the
    networks to which stored integrations may connect, besides global addresses.
    """

    def __init__(
        self,
        trust: Trust,
        in_flight: int,
        trust_of: TrustOf,
        *,
        now: float,
        recorder: RecordingReader | None = None,
        stored_networks: NetworkOverride | None = None,
    ) -> None:
        self.certificate_stamps = StampCache()
        """Stamps of client certificates' files, which their loaders read."""
        self._trust = trust
        self._in_flight = in_flight
        self._trust_of = trust_of
        self._now = now
        self._recorder = recorder
        self._stamp_of = StampCache() if recorder is None else recorder.stamp_of
        self._stored_networks = stored_networks

    @abstractmethod
    def is_built_from(self, entry: BuiltIntegration[S], source: S) -> bool:
        """Return True if an entry was built from an equal document and equal settings, and may keep its secrets."""

    @abstractmethod
    def prepare(self, source: S) -> Prepared:
        """Validate the document, and build the reader of its secrets."""

    def build(
        self, name: str, source: S, previous: BuiltIntegration[S] | None, row_id: str = ""
    ) -> BuiltIntegration[S]:
        """Build an integration, or return the previous entry if its source, files and settings have not changed.

        `row_id` is empty for an integration of a file.
        """
        if previous is not None and not (self.is_built_from(previous, source) and self._has_same_ca_source(previous)):
            # Discard it: an old credential must never go to a new destination.
            previous = None
        if previous is not None and self._is_current(previous):
            return previous if previous.source is source else previous._replace(source=source)
        return self._build(name, source, previous, row_id)

    def _has_same_ca_source(self, entry: BuiltIntegration[S]) -> bool:
        """Return True if the entry has its own CAs, or if the global ones still come from the same source."""
        trust = self._trust
        return entry.trust is None or (entry.trust.source, entry.trust.path) == (trust.source, trust.path)

    def _is_current(self, entry: BuiltIntegration[S]) -> bool:
        """Return True if an entry of the same document needs no new build: files, limit and CAs still fit."""
        # Stamp every file, even after one has changed: the reloader watches those that have a stamp.
        changed = [path for path, stamp in entry.files if self._stamp_of(path) != stamp]
        in_flight = 0 if entry.integration is None else entry.integration.in_flight
        return (
            not changed
            and in_flight <= self._in_flight
            and entry.trust in (None, self._trust)
            and (self._recorder is None or self._recorder.is_current(entry.commands))
        )

    def _build(self, name: str, source: S, previous: BuiltIntegration[S] | None, row_id: str) -> BuiltIntegration[S]:
        (settings, errors, warnings, expansion), read = self.prepare(source)
        limit_errors = (Finding(*error) for error in checks.limit_errors(expansion.table, self._in_flight))
        error_findings = (*_with_kind("error", errors), *_with_kind("error", limit_errors))
        findings = (*error_findings, *_with_kind("warning", warnings))
        # Build a file's integration despite errors, to report its unreadable values too.
        if settings is None or read is None or (error_findings and self._recorder is None):
            findings += tuple(_with_kind("unreadable", self._find_unreadable(source, errors)))
            return BuiltIntegration(source, findings=findings)
        build = partial(
            build_integration,
            *(name, settings, self._trust, read, self._trust_of),
            profile_entries=expansion.summary.entries if expansion.summary is not None else (),
            recorder=self._recorder,
            stored_networks=self._stored_networks,
            row_id=row_id,
        )
        old = None if previous is None else previous.integration
        certificate = None if old is None else old.certificate
        built = build(certificate=certificate or self._certificate(settings, read))
        if old is not None and certificate is not None and built.integration.policy != old.policy:
            # A certificate is only for the destinations for which it was read or fetched.
            built = build(certificate=self._certificate(settings, read))
        integration = built.integration
        unreadable = tuple(
            expansion.locate(Finding(loc_of(expansion.table, keys), text)) for keys, text in built.unreadable
        )
        recorded = Recorded() if self._recorder is None else self._recorder.pop_recorded()
        unreadable_keys = {keys for keys, _ in built.unreadable}
        rejected = tuple(
            reference.command
            for loc, reference in (references_in(settings) if unreadable_keys and recorded.commands else ())
            if reference.command is not None and tuple(map(str, loc)) in unreadable_keys
        )
        # A stored integration is not retained: no log line would say that its previous CAs stay in use.
        if (
            self._recorder is not None
            and previous is not None
            and old is not None
            and not recorded.has_expired
            and _lost_credential_or_trust(old, integration)
        ):
            old_warnings = (finding for finding in previous.findings if finding[0] == "warning")
            return previous._replace(
                source=source,
                files=recorded.files,
                commands=recorded.commands,
                rejected=rejected,
                findings=(*error_findings, *old_warnings),
                retained_for=unreadable,
            )
        if self._recorder is not None and not expansion.errors:
            # After an error in a profile's parameters the policy contains examples.
            policy_warnings = (*checks.uncovered_prefixes(integration.policy), *checks.redaction_warnings(integration))
            findings += tuple(_with_kind("warning", (Finding(*warning) for warning in policy_warnings)))
        findings += tuple((kind_of(finding.message), finding) for finding in unreadable)
        return BuiltIntegration(
            source,
            integration,
            self._trust if _uses_global_trust(settings) else None,
            recorded.files,
            recorded.commands,
            findings,
            rejected=rejected,
        )

    def _find_unreadable(self, source: S, errors: tuple[Finding, ...]) -> Iterable[Finding]:
        """Return findings for the references of an invalid document that cannot be read."""
        del source, errors
        return ()

    def _certificate(self, settings: IntegrationSettings, read: ReferenceReader) -> CertificateLoader | None:
        if self._recorder is not None:
            self._recorder.secrets.update(secret_files(settings, read))
        return build_certificate_loader(settings, read, self._now, self.certificate_stamps)


class FileBuilder(Builder[LocatedMapping]):
    """Builds the integrations of config files.

    `read` reads secrets after the load. `store` is the kind of store through which processes share state.
    """

    def __init__(
        self,
        read: SecretReader,
        recorder: RecordingReader,
        trust: Trust,
        in_flight: int,
        trust_of: TrustOf,
        *,
        now: float,
        store: checks.StoreKind,
    ) -> None:
        super().__init__(trust, in_flight, trust_of, now=now, recorder=recorder)
        self._read = read
        self._find = partial(find_unreadable, read=recorder)
        self._store = store

    def is_built_from(self, entry: BuiltIntegration[LocatedMapping], source: LocatedMapping) -> bool:
        """Compare the mappings of the file, without the keys that a profile adds."""
        return equal_values(entry.source, source)

    def prepare(self, source: LocatedMapping) -> Prepared:
        """Validate the mapping in the context of a file. The reader is set even if the mapping is invalid."""
        return Prepared(validate(source, Context("file"), store=self._store), self._read)

    def _find_unreadable(self, source: LocatedMapping, errors: tuple[Finding, ...]) -> Iterable[Finding]:
        return self._find(source, errors)


def _with_kind(kind: FindingKind, findings: Iterable[Finding]) -> Iterator[KindAndFinding]:
    return ((kind, finding) for finding in findings)


def _lost_credential_or_trust(old: Integration, new: Integration) -> bool:
    """Return True if the new integration cannot read its credential, CAs or parent proxy, and the old one could."""
    return (
        (old.secrets.credential is not None and new.secrets.credential is None)
        or (old.egress.trust.usable and not new.egress.trust.usable)
        or (_has_usable_proxy(old) and not _has_usable_proxy(new))
    )


def _has_usable_proxy(integration: Integration) -> bool:
    proxy = integration.egress.proxy
    return not (isinstance(proxy, ParentProxy) and proxy.problem)


def _uses_global_trust(settings: IntegrationSettings) -> bool:
    proxy = settings.proxy
    return settings.trusted_ca is None or (isinstance(proxy, ProxySettings) and proxy.trusted_ca is None)


def equal_values(one: Any, other: Any) -> bool:
    """Compare two values of config files. true is not 1, and the order of keys counts."""
    if one is other:
        return True
    kind = one.__class__
    if kind is not other.__class__:
        return False
    if kind is LocatedMapping:
        return list(one) == list(other) and all(map(equal_values, one.values(), other.values()))
    if kind is LocatedList:
        return len(one) == len(other) and all(map(equal_values, one, other))
    return bool(one == other)
