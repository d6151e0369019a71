"""Checks and builds the integrations of a config, or finds that one has not changed since the last good load."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from sidekey.credentials.certificates.loader import CertificateLoader
from sidekey.credentials.certificates.settings import MATERIAL
from sidekey.credentials.context import Context
from sidekey.runtime.snapshot import Integration, Trust
from sidekey.settings import checks
from sidekey.settings.build import TrustOf, build_integration
from sidekey.settings.certificates import build_certificate_loader, secret_files
from sidekey.settings.config_errors import ConfigError, Finding, Table, error_at, error_of, placed
from sidekey.settings.loaded import Loaded
from sidekey.settings.memory import Entry
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.secrets import NotingReader, SecretReader
from sidekey.settings.stamps import Looks
from sidekey.settings.unread import find_unreadable
from sidekey.settings.validated import validate


class Integrations:
    """The integrations of one load; errors and warnings go into `loaded`.

    Secrets are read with `noting`, and with `read` whenever that is needed later. Certificates are checked at `now`.
    `store` is what processes may share.
    """

    def __init__(
        self,
        loaded: Loaded,
        read: SecretReader,
        noting: NotingReader,
        trust_of: TrustOf,
        now: float,
        *,
        store: checks.Store,
    ) -> None:
        self._loaded = loaded
        self._read = read
        self._noting = noting
        self._trust_of = trust_of
        self._now = now
        self._store = store
        self._looks = Looks()
        loaded.certificates = self._looks.stamps

    def take(self, name: str, raw: Table, trust: Trust, former: Entry | None) -> Entry | None:
        """The integration of this mapping, None where it has errors; `former` is the one there was, if any.

        `trust` is the network's.
        """
        if former is not None and not former.is_written(raw, trust):
            # Nothing of it may be used: an old credential must never go to a new destination.
            former = None
        if former is not None and former.is_current(trust, self._noting.looks):
            entry: Entry | None = former if former.raw is raw else former._replace(raw=raw)
        else:
            entry = self._build(name, raw, trust, former)
        if entry is not None:
            self._report(name, entry)
        return entry

    def _build(self, name: str, raw: Table, trust: Trust, former: Entry | None) -> Entry | None:
        settings, errors, warnings, expansion = validate(raw, Context("file"), store=self._store)
        self._note(self._loaded.errors, name, raw, errors)
        if settings is None:
            self._note(self._loaded.warnings, name, raw, warnings)
            self._note(self._loaded.unreadable, name, raw, find_unreadable(raw, errors, self._noting))
            return None
        build = partial(
            build_integration,
            name,
            settings,
            trust,
            self._read,
            self._trust_of,
            filled=expansion.filled.entries if expansion.filled is not None else (),
            noting=self._noting,
        )
        certificate = None if former is None else former.integration.certificate
        built = build(certificate=certificate or self._certificate(settings))
        if former is not None and certificate is not None and built.integration.policy != former.integration.policy:
            # What was fetched, or read long ago, is only for the destinations it was read for.
            built = build(certificate=self._certificate(settings))
        integration = built.integration
        read = tuple(expansion.placed(Finding(placed(expansion.table, keys), reason)) for keys, reason in built.unread)
        if not expansion.errors:
            # Otherwise the policy contains examples, which say nothing about the intended one.
            found = (*checks.policy_warnings(integration.policy), *checks.redaction_warnings(integration))
            warnings += tuple(Finding(*each) for each in found)
        entry = Entry(
            raw=raw,
            integration=integration,
            trust=trust if settings.trusted_ca is None else None,
            files=self._noting.noted(),
            warnings=warnings,
            unreadable=read,
        )
        if former is not None and _lost(former.integration, integration):
            self._loaded.failed[name] = entry.files
            return entry._replace(
                integration=former.integration,
                warnings=former.warnings,
                unreadable=(),
                kept=entry.unreadable,
            )
        return entry

    def _certificate(self, settings: IntegrationSettings) -> CertificateLoader | None:
        self._noting.secrets.update(secret_files(settings, self._read))
        return build_certificate_loader(settings, self._read, self._now, self._looks)

    def _report(self, name: str, entry: Entry) -> None:
        loaded, raw = self._loaded, entry.raw
        self._note(loaded.warnings, name, raw, entry.warnings)
        self._note(loaded.unreadable, name, raw, entry.unreadable)
        if entry.kept:
            self._note(loaded.kept.setdefault(name, []), name, raw, entry.kept)
        certificate = entry.integration.certificate
        if certificate is not None:
            self._report_certificate(certificate, name, raw)

    def _report_certificate(self, certificate: CertificateLoader, name: str, raw: Table) -> None:
        """The present state of a client certificate: it may have been read again since it was built."""
        self._note(self._loaded.warnings, name, raw, (Finding(*each) for each in certificate.warnings))
        if certificate.urls:
            self._loaded.places[name] = {
                (block, key): error_at(raw, (block, key), "", base=("integrations", name))
                for block in {place[0] for place, _ in certificate.urls}
                for key in (*MATERIAL, "key_passphrase")
            }
        unreadable = certificate.unreadable
        if unreadable is not None and certificate.identity is None and not certificate.pending:
            errors = self._loaded.refused if certificate.refused else self._loaded.unreadable
            self._note(errors, name, raw, (Finding(*each) for each in unreadable.reasons))

    def _note(self, errors: list[ConfigError], name: str, raw: Table, found: Iterable[Finding]) -> None:
        errors += [error_of(raw, finding, base=("integrations", name)) for finding in found]


def _lost(former: Integration, found: Integration) -> bool:
    """Whether something that could be read cannot be read any more."""
    return (former.secrets.credential is not None and found.secrets.credential is None) or (
        former.trust.usable and not found.trust.usable
    )
