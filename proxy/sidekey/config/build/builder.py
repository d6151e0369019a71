"""Builds the integrations of a config or a store: compares, validates, builds, and keeps what would not change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from sidekey.config import checks
from sidekey.config.build.certificates import build_certificate_loader, secret_files
from sidekey.config.build.integration import build_integration
from sidekey.config.build.trust import TrustOf
from sidekey.config.errors import Finding, Kind, LocatedMapping, Row, placed
from sidekey.config.file_stamps import StampCache
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import NotingReader, ReferenceReader, SecretReader, Stamps
from sidekey.config.validate import Validated, find_unreadable, validate
from sidekey.credentials.context import Context
from sidekey.policy.addresses import NetworkOverride
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.snapshot import Integration, Trust

S = TypeVar("S")
"""What an integration is built from: the mapping of a file, or the row of a store."""

Found = tuple[Kind, Finding]


class BuiltIntegration(NamedTuple, Generic[S]):
    """An integration, everything it was built from, and what was found.

    `integration` is None if the document is invalid. `trust` is the global trust, or None if the integration names its
    own CAs. `files` were read for it. `findings` and `kept` exclude those of the client certificate, whose loader has
    its own. If there is `kept`, `files` could not be used for these reasons, and the integration is the previous one.
    """

    source: S
    integration: Integration | None = None
    trust: Trust | None = None
    files: Stamps = ()
    findings: tuple[Found, ...] = ()
    kept: tuple[Finding, ...] = ()

    def present_findings(self) -> Iterator[Found]:
        """Yield all findings. The client certificate may have been read again since the integration was built."""
        yield from self.findings
        certificate = None if self.integration is None else self.integration.certificate
        if certificate is not None:
            yield from _marked("warning", (Finding(*each) for each in certificate.warnings))
            unreadable = certificate.unreadable
            if unreadable is not None and certificate.identity is None and not certificate.pending:
                kind: Kind = "refused" if certificate.refused else "unreadable"
                yield from _marked(kind, (Finding(*each) for each in unreadable.reasons))


class Opened(NamedTuple):
    """A document that was validated, and the reader of its secrets; None if the document is invalid."""

    validated: Validated
    read: ReferenceReader | None


class Builder(ABC, Generic[S]):
    """Builds integrations in one pass over a config or a store.

    `trust` and `in_flight` are global settings. Certificates are checked at `now`. `noting` notes the files that are
    read. Integrations of a store may dial global addresses and those in `stored`.
    """

    def __init__(
        self,
        trust: Trust,
        in_flight: int,
        trust_of: TrustOf,
        *,
        now: float,
        noting: NotingReader | None = None,
        stored: NetworkOverride | None = None,
    ) -> None:
        self.certificate_looks = StampCache()
        """The stamps of the files of client certificates, which their loaders read."""
        self._trust = trust
        self._in_flight = in_flight
        self._trust_of = trust_of
        self._now = now
        self._noting = noting
        self._looks = StampCache() if noting is None else noting.looks
        self._stored = stored

    @abstractmethod
    def is_same(self, entry: BuiltIntegration[S], source: S) -> bool:
        """Return True if an entry was built from the same document and settings, so that its secrets may be kept."""

    @abstractmethod
    def open(self, source: S) -> Opened:
        """Validate the document, and make the reader of its secrets."""

    def build(self, name: str, source: S, previous: BuiltIntegration[S] | None, row: str = "") -> BuiltIntegration[S]:
        """Build an integration, or return the previous entry if nothing it was built from has changed."""
        if previous is not None and not (self.is_same(previous, source) and self._trusts_same(previous)):
            # Nothing of it may be used: an old credential must never go to a new destination.
            previous = None
        if previous is not None and self._is_current(previous):
            return previous if previous.source is source else previous._replace(source=source)
        return self._build(name, source, previous, row)

    def _trusts_same(self, entry: BuiltIntegration[S]) -> bool:
        trust = self._trust
        return entry.trust is None or (entry.trust.source, entry.trust.path) == (trust.source, trust.path)

    def _is_current(self, entry: BuiltIntegration[S]) -> bool:
        # Every file is looked at, even after one has changed: all of them must be watched.
        changed = [path for path, known in entry.files if self._looks(path) != known]
        in_flight = 0 if entry.integration is None else entry.integration.in_flight
        return not changed and in_flight <= self._in_flight and entry.trust in (None, self._trust)

    def _build(self, name: str, source: S, previous: BuiltIntegration[S] | None, row: str) -> BuiltIntegration[S]:
        (settings, errors, warnings, expansion), read = self.open(source)
        limits = (Finding(*each) for each in checks.limit_errors(expansion.table, self._in_flight))
        wrong = (*_marked("error", errors), *_marked("error", limits))
        findings = (*wrong, *_marked("warning", warnings))
        if settings is None or read is None or (wrong and self._noting is None):
            return BuiltIntegration(source, findings=(*findings, *_marked("unreadable", self._unread(source, errors))))
        build = partial(
            build_integration,
            *(name, settings, self._trust, read, self._trust_of),
            filled=expansion.filled.entries if expansion.filled is not None else (),
            noting=self._noting,
            stored=self._stored,
            row=row,
        )
        before = None if previous is None else previous.integration
        certificate = None if before is None else before.certificate
        built = build(certificate=certificate or self._certificate(settings, read))
        if before is not None and certificate is not None and built.integration.policy != before.policy:
            # A certificate is only for the destinations for which it was read or fetched.
            built = build(certificate=self._certificate(settings, read))
        integration = built.integration
        unread = tuple(expansion.placed(Finding(placed(expansion.table, keys), text)) for keys, text in built.unread)
        files = () if self._noting is None else self._noting.noted()
        # A row is not kept: no log line would say that its previous CAs stay in use.
        if self._noting is not None and previous is not None and before is not None and _lost(before, integration):
            known = (each for each in previous.findings if each[0] == "warning")
            return previous._replace(source=source, files=files, findings=(*wrong, *known), kept=unread)
        if self._noting is not None and not expansion.errors:
            # After an error in a profile's parameters the policy contains examples.
            found = (*checks.policy_warnings(integration.policy), *checks.redaction_warnings(integration))
            findings += tuple(_marked("warning", (Finding(*each) for each in found)))
        findings += tuple(_marked("unreadable", unread))
        return BuiltIntegration(
            source, integration, self._trust if settings.trusted_ca is None else None, files, findings
        )

    def _unread(self, source: S, errors: tuple[Finding, ...]) -> Iterable[Finding]:
        """Return the references of an invalid document that cannot be read."""
        del source, errors
        return ()

    def _certificate(self, settings: IntegrationSettings, read: ReferenceReader) -> CertificateLoader | None:
        if self._noting is not None:
            self._noting.secrets.update(secret_files(settings, read))
        return build_certificate_loader(settings, read, self._now, self.certificate_looks)


class FileBuilder(Builder[LocatedMapping]):
    """Builds the integrations of config files.

    `read` reads secrets whenever they are needed later. `store` is what processes may share.
    """

    def __init__(
        self,
        read: SecretReader,
        noting: NotingReader,
        trust: Trust,
        in_flight: int,
        trust_of: TrustOf,
        *,
        now: float,
        store: checks.Store,
    ) -> None:
        super().__init__(trust, in_flight, trust_of, now=now, noting=noting)
        self._read = read
        self._find_unread = partial(find_unreadable, read=noting)
        self._store = store

    def is_same(self, entry: BuiltIntegration[LocatedMapping], source: LocatedMapping) -> bool:
        """Compare the mappings as they are written."""
        return same(entry.source, source)

    def open(self, source: LocatedMapping) -> Opened:
        """Validate the mapping in the context of a file. Files and variables are read whatever the settings are."""
        return Opened(validate(source, Context("file"), store=self._store), self._read)

    def _unread(self, source: LocatedMapping, errors: tuple[Finding, ...]) -> Iterable[Finding]:
        return self._find_unread(source, errors)


def _marked(kind: Kind, findings: Iterable[Finding]) -> Iterator[Found]:
    return ((kind, finding) for finding in findings)


def _lost(before: Integration, now: Integration) -> bool:
    """Return True if a value that could be read before cannot be read now."""
    return (before.secrets.credential is not None and now.secrets.credential is None) or (
        before.trust.usable and not now.trust.usable
    )


def same(one: Any, other: Any) -> bool:
    """Compare two values of config files, where true is not 1, and the order of keys counts."""
    if one is other:
        return True
    kind = one.__class__
    if kind is not other.__class__:
        return False
    if kind is LocatedMapping:
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if kind is Row:
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
