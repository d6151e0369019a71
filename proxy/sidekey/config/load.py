"""Load a config: read the files, validate them, and return a snapshot or all errors."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from sidekey.ca import trust_folder
from sidekey.config import checks
from sidekey.config.addresses import ABSENT, address_warnings, is_local, proxy_findings
from sidekey.config.build.admin import build_admin
from sidekey.config.build.builder import BuiltIntegration, FileBuilder
from sidekey.config.build.ca import build_ca
from sidekey.config.build.callers import build_callers
from sidekey.config.build.jwt_issuers import build_jwt_issuers
from sidekey.config.build.last_load import NETWORK_CAS, LastLoad
from sidekey.config.build.listeners import build_listen, build_log, log_file_error, moved_keys
from sidekey.config.build.presets import PresetChecker, document_json, pairing_errors, parse_preset
from sidekey.config.build.proxy import build_proxy
from sidekey.config.build.server_certificate import find_warnings, read_listen_tls
from sidekey.config.build.snapshot import FileContent, build_network, build_snapshot
from sidekey.config.build.store import BuiltStore, build_store
from sidekey.config.build.trust import build_trust
from sidekey.config.commands import Commands
from sidekey.config.errors import ConfigError, FindingKind, Loc, LocatedList, LocatedMapping, error_at, error_of
from sidekey.config.field_types import check_name
from sidekey.config.file_stamps import StampCache
from sidekey.config.files import MISSING_CONFIG_REMEDY, ConfigDocuments, read_config
from sidekey.config.load_result import Loaded, RetainedIntegration
from sidekey.config.models import GlobalSettings, IntegrationSettings
from sidekey.config.permissions import check_permissions
from sidekey.config.pydantic_errors import findings_of
from sidekey.config.secrets import RecordingReader, SecretReader
from sidekey.config.validate import find_unreadable
from sidekey.credentials.commands import Command
from sidekey.credentials.context import Context
from sidekey.credentials.fields import mapping
from sidekey.snapshot import snapshot
from sidekey.snapshot.admin import AdminRules
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.store import StoreRules

__all__ = ["Loaded", "Loader", "load"]


def load(path: str | Path, environ: Mapping[str, str] | None = None, now: float | None = None) -> Loaded:
    """Read the config at `path`, a file or a folder, and its secrets. Errors in them are in the result, never raised.

    Certificates are validated at `now`, in seconds since the epoch. Default: the current time.
    """
    return Loader(path, environ).load(now)


class KeysError(NamedTuple):
    """The store in use cannot continue with new keys. If `transient`, a later load may accept them.

    `reason` is the message of a finding at `store.keys`.
    """

    reason: str
    transient: bool


class StoreContent(ABC):
    """Builds the store's part of a snapshot. An unchanged item is the same object in each."""

    @property
    @abstractmethod
    def ids(self) -> checks.ResourceIds:
        """The IDs in the store."""

    @abstractmethod
    def check(self, rules: StoreRules) -> KeysError | None:
        """Return an error if the store cannot continue with the keys of these rules. Blocks."""

    @abstractmethod
    def build(self, files: FileContent, now: float) -> snapshot.StoredObjects:
        """Build the store's integrations, presets and callers. `files` have precedence for IDs and targets. Blocks.

        `now` is in seconds since the epoch.
        """


class Loader:
    """Loads one config repeatedly, and builds only what differs from the last load without errors.

    An unchanged integration is the same object in each snapshot. `environ` must not change. Without `commands`, the
    config must not have secrets that commands write.
    """

    def __init__(
        self, path: str | Path, environ: Mapping[str, str] | None = None, commands: Commands | None = None
    ) -> None:
        self.commands = commands
        self._path = Path(path)
        self._environ = os.environ if environ is None else environ
        self._previous: FileContent | None = None
        self._store: StoreContent | None = None
        self._secret_files: set[Path] = set()
        self._check_presets = PresetChecker()

    def load(self, now: float | None = None) -> Loaded:
        """Load the config, as the function `load` does. Blocks; one thread at a time.

        A secret, CA file or caller's token that has become unusable keeps the value of the last load without errors, as
        long as the config names it in the same way.
        """
        loaded = self._load(now)
        if self.commands is not None:
            # The first pass has found the new commands, which run all at once, unless the config is not used. The
            # second pass builds only what needs them. A test does not need the permissions of other integrations.
            is_test = self.commands.integration is not None
            if loaded.files is None or (not is_test and loaded.blocking(strict=False)):
                self.commands.forget_new()
            elif self.commands.run_new(_commands(loaded)):
                loaded = self._load(now)
        return loaded

    def _load(self, now: float | None) -> Loaded:
        if self.commands is not None:
            self.commands.begin_load()
        loading = _Loading(
            *(self._path, self._environ, self._previous, self._store),
            secret_files=self._secret_files,
            now=time.time() if now is None else now,
            commands=self.commands,
        )
        loaded = loading.run()
        if loaded.files is not None:
            self._previous = loaded.files
            loaded.snapshot = self._combine(loaded.files, loading.now)
            _warn_of_addresses(loaded, loaded.files.entries, loaded.snapshot.network)
        loading.check_permissions()
        loaded.sort()
        return loaded

    def retain_commands(self, loaded: Loaded) -> None:
        """Forget the commands that a load in use does not name."""
        if self.commands is not None and loaded.files is not None:
            entries = loaded.files.entries.items()
            rejected = ((name, command) for name, entry in entries for command in entry.rejected)
            self.commands.retain(_commands(loaded), rejected)

    def use_store(self, store: StoreContent) -> None:
        """From the next load on, combine the files with this store."""
        self._store = store

    def combine(self, loaded: Loaded, now: float | None = None) -> snapshot.Snapshot:
        """Combine files that were loaded before with the store's current content, without reading files. Blocks."""
        if loaded.files is None:
            raise ValueError("a config with errors has no files to combine with the store")
        return self._combine(loaded.files, time.time() if now is None else now)

    def _combine(self, files: FileContent, now: float) -> snapshot.Snapshot:
        stored = None if self._store is None else self._store.build(files, now)
        return build_snapshot(files, stored, self._check_presets)


def _commands(loaded: Loaded) -> Iterator[tuple[str, Command]]:
    """List the commands of a load, with the integrations that use them."""
    if loaded.files is not None:
        for name, entry in loaded.files.entries.items():
            yield from ((name, command) for command, _ in entry.commands)


def _warn_of_addresses(
    loaded: Loaded, entries: Mapping[str, BuiltIntegration[LocatedMapping]], network: snapshot.NetworkRules
) -> None:
    """Add a warning for each host of an integration to which no connection is allowed."""
    for name, entry in entries.items():
        if entry.integration is not None:
            warnings = address_warnings(entry.integration, network)
            loaded.add(
                "warning", (error_at(entry.source, *warning, base=("integrations", name)) for warning in warnings)
            )


class _Loading:
    """One load: reads the documents, then builds each section, and collects findings in a `Loaded`."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        previous: FileContent | None,
        store: StoreContent | None,
        *,
        secret_files: set[Path],
        now: float,
        commands: Commands | None,
    ) -> None:
        stamps = StampCache()
        self.now = now
        self._loaded = Loaded(stamps=stamps.stamps)
        self._documents = read_config(path, stamps, remedy=MISSING_CONFIG_REMEDY)
        # Objects that outlive this load may refer to `_read`, but not to `_recorder`.
        self._read = SecretReader(self._documents.folder, environ, commands)
        self._recorder = RecordingReader(self._documents.folder, environ, stamps, secret_files, commands)
        self._previous = previous
        self._path = path
        self._environ = environ
        self._stored_content = store
        self._trust_folder: Path | None = None
        self._invalid_keys: set[str | int] = set()
        self._trust_of = cache(partial(build_trust, read=self._read))
        self._is_local = cache(is_local)

    def run(self) -> Loaded:
        """Load the config. The result has `files` if there is no error."""
        loaded, previous = self._loaded, self._previous
        loaded.add("error", self._documents.errors)
        settings = self._validate_globals()
        loaded.log_format = settings.log.format
        last = LastLoad(None if previous is None else previous.settings, settings)
        trust = self._build_trust(settings, last)
        proxy = self._build_proxy(settings, trust, last)
        entries = self._build_integrations(trust, settings)
        callers = build_callers(
            settings.callers,
            self._recorder,
            {} if previous is None else previous.token_digests,
            last,
            is_local=checks.is_local_listener(settings.listen.proxy),
        )
        issuers, issuer_warnings = build_jwt_issuers(
            settings.jwt_issuers,
            self._recorder,
            {} if previous is None else previous.jwt_issuers,
            last,
            trust=trust,
            trust_of=self._trust_of,
        )
        self._add("warning", (*callers.warnings, *issuer_warnings))
        self._add("error", callers.errors)
        integrations = {name: entry.integration for name, entry in entries.items() if entry.integration is not None}
        presets = self._build_presets(integrations, has_store=settings.store is not None)
        if settings.forward.match_by_host:
            errors = checks.matching_errors(integrations, callers.by_key.values())
            documents = self._documents.integrations
            loaded.add("error", (error_at(documents[str(loc[1])], loc, text, at_key=True) for loc, text in errors))
        ca = build_ca(
            settings,
            [integration.policy for integration in integrations.values()],
            self._recorder,
            config=self._path,
            environ=self._environ,
            previous=None if previous is None else previous.ca,
            last=last,
            now=self.now,
        )
        self._trust_folder = ca.rules.trust_folder
        store = self._build_store(settings)
        previous_admin = AdminRules() if previous is None else previous.admin
        admin, admin_errors = build_admin(
            settings.admin, self._recorder, previous_admin, last, trust=trust, trust_of=self._trust_of
        )
        self._add("error", (*admin_errors, *self._admin_change_errors(settings)))
        network = build_network(settings.network, proxy, integrations.values())
        listen = self._build_listen(settings, last)
        self._check_proxies(network, listen, entries)
        log = build_log(settings.log, self._read)
        log_file = self._log_file(log.file)
        self._add("warning", ca.warnings)
        for kind, loc, reason in last.findings:
            self._add(kind, [(loc, reason)])
        loaded.transient |= self._documents.transient or self._recorder.transient
        if not loaded.errors:
            loaded.files = FileContent(
                settings,
                entries,
                integrations,
                callers.by_key,
                callers.token_digests,
                callers.unreadable,
                issuers,
                trust,
                network,
                ca.rules,
                store,
                admin,
                presets,
                listen,
                log,
                log_file,
            )
        return loaded

    def check_permissions(self) -> None:
        """Add findings of config files, secrets and certificates that other users can change or read."""
        loaded, documents, secret_files = self._loaded, self._documents, self._recorder.secrets
        paths = {*loaded.stamps, *loaded.certificate_stamps} - {documents.folder}
        if self._trust_folder is not None:
            paths |= {self._trust_folder, *trust_folder.paths(self._trust_folder).values()}
        if loaded.files is not None:
            integrations = loaded.files.integrations.values()
            loaders = chain.from_iterable((item.certificate, item.secrets) for item in integrations)
            paths.update(chain.from_iterable(loader.files for loader in loaders if loader is not None))
            # This changes the `Loader`'s own set. It must keep the files of earlier loads that are still in use: this
            # load did not read the secrets of unchanged integrations.
            secret_files &= paths
        writable, readable = check_permissions(paths, secret_files)
        if writable or readable is not None:
            at_path = partial(_error_at_path, _named_paths(documents, self._read), documents)
            loaded.add("writable", (at_path(file.used_by)._replace(message=file.message) for file in writable))
            if readable is not None:
                loaded.add("warning", [at_path(readable.used_by)._replace(message=readable.message)])

    def _log_file(self, path: str | None) -> str | None:
        """Return the log file if it is writable, else the previous one.

        The previous file is not checked again: the process has it open, but may have lost access to its folder.
        """
        previous = None if self._previous is None else self._previous.log_file
        reason = None if path is None or path == previous else log_file_error(Path(path))
        if reason is None:
            return path
        self._add("unwritable", [(("log", "file"), reason)])
        return previous

    def _admin_change_errors(self, settings: GlobalSettings) -> Iterator[tuple[Loc, str]]:
        """Refuse a reload that would start or stop TLS or, without a store, the API on the admin listener."""
        previous = self._previous
        if previous is None:
            return
        if (previous.admin.certificate is None) is not (settings.admin.tls is None):
            yield ("admin", "tls"), "needs a restart of Sidekey: listeners cannot be changed while it runs"
        if settings.store is None and previous.admin.has_operators is not settings.admin.has_operators:
            yield ("admin",), "needs a restart of Sidekey: without operators and a store it does not serve the API"

    def _build_store(self, settings: GlobalSettings) -> StoreRules | None:
        """Build the rules of the store, and refuse a reload that would move it."""
        built = BuiltStore(None, [], []) if settings.store is None else build_store(settings.store, self._recorder)
        self._add("error", built.errors)
        self._add("warning", built.warnings)
        rules = built.rules
        if self._previous is not None and not self._loaded.errors:
            previous = self._previous.store
            is_same = previous is rules if previous is None or rules is None else previous.is_at(rules)
            if not is_same:
                text = "needs a restart of Sidekey: a store cannot be added, moved or removed while it runs"
                self._add("error", [(("store",), text)])
            elif previous is not None and rules is not None and previous.keys != rules.keys:
                self._check_keys(rules)
        return rules

    def _check_keys(self, rules: StoreRules) -> None:
        """Refuse keys that cannot open the content of the store in use, which would be lost."""
        error = None if self._stored_content is None else self._stored_content.check(rules)
        if error is not None:
            self._loaded.transient |= error.transient
            self._add("error", [(("store", "keys"), error.reason)])

    def _document_of(self, loc: Loc) -> LocatedMapping:
        """Return the document that has a global key, else the first document."""
        owners, documents = self._documents.owners, self._documents.documents
        return owners.get(str(loc[0]), documents[0]) if loc else documents[0]

    def _add(self, kind: FindingKind, findings: Iterable[tuple[Loc, str]]) -> None:
        """Add findings of global keys."""
        self._loaded.add(kind, (error_at(self._document_of(loc), loc, message) for loc, message in findings))

    @property
    def _stored_ids(self) -> checks.ResourceIds:
        return checks.ResourceIds() if self._stored_content is None else self._stored_content.ids

    def _validate_globals(self) -> GlobalSettings:
        """Return the global settings, with defaults for invalid keys, so that the rest is still checked."""
        loaded, values = self._loaded, {**self._documents.globals, "version": 1}
        if self._documents.documents:
            self._add("error", checks.global_errors(values))
            if self._documents.complete:
                files = checks.ResourceIds(self._documents.integrations, self._documents.presets)
                unknown = checks.caller_errors(values, files, self._stored_ids)
                # With a store, operators may create the integrations and presets later.
                self._add("error" if values.get("store") is None else "warning", unknown)
            self._add("warning", checks.global_warnings(values))
        if self._documents.documents and not self._documents.integrations and values.get("store") is None:
            forward = values.get("forward")
            passes = isinstance(forward, Mapping) and forward.get("unmatched") == "pass"
            effect = (
                "requests pass without a credential, by `forward.unmatched`" if passes else "every request is denied"
            )
            text = f"no integration is configured: {effect}"
            self._add("warning", [(("integrations",), text)])
        try:
            settings = GlobalSettings.model_validate(values, context=Context("file"))
        except ValidationError as error:
            findings = findings_of(error, GlobalSettings, self._document_of, Context("file"))
            loaded.add("error", (error_of(self._document_of(finding.loc), finding) for finding in findings))
            self._invalid_keys |= {
                details["loc"][0] for details in error.errors(include_url=False, include_input=False)
            }
            valid = _without_invalid(values, error)
            settings = GlobalSettings.model_validate(valid, context=Context("file"))
            unreadable = find_unreadable(_removed(values, valid), findings, self._recorder)
            loaded.add("unreadable", (error_of(self._document_of(finding.loc), finding) for finding in unreadable))
        source = settings.network.source_address
        if source is not None and not self._is_local(source):
            self._add("absent", [(("network", "source_address"), ABSENT)])
        if self._documents.documents and self._documents.complete and "listen" not in self._invalid_keys:
            self._add("error", self._moved_listener_errors(settings))
        return settings

    def _moved_listener_errors(self, settings: GlobalSettings) -> Iterator[tuple[Loc, str]]:
        """Refuse a reload that would move a listener."""
        if self._previous is None:
            return
        keys = [*moved_keys(self._previous.listen, build_listen(settings.listen, self._read))]
        if (self._previous.listen.tls is None) is not (settings.listen.tls is None):
            keys.append("tls")
        for key in keys:
            yield ("listen", key), "needs a restart of Sidekey: listeners cannot be changed while it runs"

    def _build_listen(self, settings: GlobalSettings, last: LastLoad) -> snapshot.Listen:
        """Return the listeners. TLS files that are unusable, and not kept from the last load, are an error.

        Without them, credentials would travel in the clear, or nothing would verify callers.
        """
        listen = build_listen(settings.listen, self._read)
        if settings.listen.tls is None:
            return listen
        previous = None if self._previous is None else self._previous.listen.tls
        tls = read_listen_tls(settings.listen.tls, self._recorder, previous, last)
        if tls is not None:
            self._add("warning", find_warnings(tls, self.now))
        return replace(listen, tls=tls)

    def _build_trust(self, settings: GlobalSettings, last: LastLoad) -> snapshot.Trust:
        """Return the network's trust, or the previous object if it is equal, or if `last` keeps it."""
        setting = settings.network.trusted_ca
        if setting.path is not None:
            self._recorder.record(setting.path)
            self._recorder.pop_recorded()  # so that it does not count as a file of the first integration
        trust, reason = self._trust_of(setting)
        previous = None if self._previous is None else self._previous.trust
        if reason is not None:
            usable = previous if previous is not None and previous.usable else None
            return last.keep(usable, NETWORK_CAS, loc=NETWORK_CAS, reason=reason) or trust
        return previous if previous is not None and trust == previous else trust

    def _build_proxy(self, settings: GlobalSettings, trust: snapshot.Trust, last: LastLoad) -> ParentProxy | None:
        """Return the network's parent proxy, or the previous object if a value is unreadable and `last` keeps it."""
        setting = settings.network.proxy
        if setting is None:
            return None
        proxy, reasons = build_proxy(setting, trust, self._recorder, self._trust_of)
        self._recorder.pop_recorded()  # so that it does not count as a file of the first integration
        base = ("network", "proxy")
        kept = None if self._previous is None else self._previous.network.proxy
        if kept is not None and kept.problem:
            kept = None
        for keys, reason in reasons:
            kept = last.keep(kept, base, NETWORK_CAS, loc=(*base, *keys), reason=reason)
        return (kept or proxy) if reasons else proxy

    def _check_proxies(
        self,
        network: snapshot.NetworkRules,
        listen: snapshot.Listen,
        entries: Mapping[str, BuiltIntegration[LocatedMapping]],
    ) -> None:
        """Refuse parent proxies that are a listener of Sidekey, and warn of those at an address that is not allowed."""
        for kind, message in proxy_findings(Egress(), network, listen):
            self._add(kind, [(("network", "proxy", "url"), message)])
        for name, entry in entries.items():
            egress = Egress() if entry.integration is None else entry.integration.egress
            if isinstance(egress.proxy, ParentProxy):
                for kind, message in proxy_findings(egress, network, listen):
                    error = error_at(entry.source, ("proxy", "url"), message, base=("integrations", name))
                    self._loaded.add(kind, [error])

    def _build_integrations(
        self, trust: snapshot.Trust, settings: GlobalSettings
    ) -> dict[str, BuiltIntegration[LocatedMapping]]:
        """Build the integrations of the files, and add their findings. Omit those that are not mappings."""
        store: checks.StoreKind = "none"
        if settings.store is not None:
            store = "file" if settings.store.url is None else "database"
        in_flight = settings.limits.in_flight
        builder = FileBuilder(self._read, self._recorder, trust, in_flight, self._trust_of, now=self.now, store=store)
        self._loaded.certificate_stamps = builder.certificate_stamps.stamps
        previous = {} if self._previous is None else self._previous.entries
        entries: dict[str, BuiltIntegration[LocatedMapping]] = {}
        for name, document in self._documents.integrations.items():
            base = ("integrations", name)
            try:
                check_name(name)
            except ValueError as error:
                self._loaded.add("error", [error_at(document, base, str(error), at_key=True)])
            raw = document["integrations"][name]
            if name in IntegrationSettings.model_fields and not (isinstance(raw, LocatedMapping) and "auth" in raw):
                text = "this key belongs to an integration: indent it under the integration's ID"
                self._loaded.add("error", [error_at(document, base, text, at_key=True)])
                continue
            if not isinstance(raw, LocatedMapping):
                text = "must be a mapping: indent its keys, so that they are under it"
                self._loaded.add("error", [error_at(document, base, text if raw is None else "must be a mapping")])
                continue
            entries[name] = builder.build(name, raw, previous.get(name))
            self._report(name, entries[name])
        return entries

    def _report(self, name: str, entry: BuiltIntegration[LocatedMapping]) -> None:
        """Add the findings of an integration, also of an unchanged one.

        Its lines, its certificates and the addresses of the machine may differ from the last load.
        """
        loaded, raw, base = self._loaded, entry.source, ("integrations", name)
        for kind, finding in entry.current_findings():
            loaded.add(kind, [error_of(raw, finding, base=base)])
        if entry.retained_for:
            loaded.retained[name] = RetainedIntegration(
                [error_of(raw, finding, base=base) for finding in entry.retained_for], entry.files
            )
        source = None if entry.integration is None else entry.integration.egress.source_address
        if source is not None and not self._is_local(source):
            loaded.add("absent", [error_at(raw, ("source_address",), ABSENT, base=base)])

    def _build_presets(
        self, integrations: Mapping[str, snapshot.Integration], *, has_store: bool
    ) -> dict[str, snapshot.Preset]:
        """Build the presets, and check that they fit the integrations of the files."""
        presets: dict[str, snapshot.Preset] = {}
        for name, document in self._documents.presets.items():
            base = ("presets", name)
            try:
                check_name(name)
            except ValueError as error:
                self._loaded.add("error", [error_at(document, base, str(error), at_key=True)])
            raw = document["presets"][name]
            if not isinstance(raw, LocatedMapping):
                self._loaded.add("error", [error_at(document, base, "must be a mapping")])
                continue
            preset = None if self._previous is None else self._previous.presets.get(name)
            if preset is None or not _is_built_from(preset, raw):
                built, errors = parse_preset(name, raw)
                self._loaded.add("error", (error_of(raw, finding, base=base) for finding in errors))
                if built is None:
                    continue
                preset = replace(built, document=document_json(raw))
            warnings = checks.preset_warnings(raw)
            self._loaded.add("warning", (error_at(raw, loc, message, base=base) for loc, message in warnings))
            presets[name] = preset
            self._check_preset(preset, raw, integrations, has_store=has_store)
        return presets

    def _check_preset(
        self,
        preset: snapshot.Preset,
        raw: LocatedMapping,
        integrations: Mapping[str, snapshot.Integration],
        *,
        has_store: bool,
    ) -> None:
        """Check that a preset fits its integration, and that the integration exists."""
        name, base = preset.rules.integration, ("presets", preset.id)
        if name in integrations:
            errors = pairing_errors(preset, integrations[name], self.now)
            self._loaded.add("mismatched", (error_at(raw, loc, message, base=base) for loc, message in errors))
        elif (
            name not in self._documents.integrations
            and self._documents.complete
            and name not in self._stored_ids.integrations
        ):
            text = "no integration has this ID"
            if has_store:
                text = "no file has an integration with this ID: create it in the store"
            error = error_at(raw, ("integration",), text, base=base)
            self._loaded.add("warning" if has_store else "error", [error])


def _error_at_path(
    named_paths: Mapping[Path, tuple[LocatedMapping, Loc]], documents: ConfigDocuments, path: Path
) -> ConfigError:
    """Return an error without a message at the key that names a path, else at the config file."""
    # The config names the trust folder, not the files in it.
    key = named_paths.get(path) or named_paths.get(path.parent)
    if key is not None:
        return error_at(*key, "")
    files = [document.file for document in documents.documents]
    file = next((file for file in files if documents.folder / Path(file).name == path), next(iter(files), str(path)))
    return ConfigError(file, 1, 1, "", "")


def _named_paths(documents: ConfigDocuments, read: SecretReader) -> dict[Path, tuple[LocatedMapping, Loc]]:
    """Map each path that a config names, as {file: PATH} or as the trust folder, to its first location."""
    locations: dict[Path, tuple[LocatedMapping, Loc]] = {}
    for document in documents.documents:
        pending: list[tuple[Loc, Any]] = [((), document)]
        while pending:
            loc, node = pending.pop()
            if isinstance(node, LocatedMapping):
                if isinstance(node.get("file"), str):
                    locations.setdefault(read.path(node["file"]), (document, loc))
                pending += [((*loc, key), value) for key, value in reversed(node.items())]
            elif isinstance(node, LocatedList):
                pending += [((*loc, index), value) for index, value in reversed([*enumerate(node)])]
        folder = mapping(document.get("ca")).get("trust_folder")
        if isinstance(folder, str):
            locations.setdefault(read.path(folder), (document, ("ca", "trust_folder")))
    return locations


def _is_built_from(preset: snapshot.Preset, raw: LocatedMapping) -> bool:
    """Return True if a preset was built from an equal document."""
    try:
        return preset.document == document_json(raw)
    except ValueError:
        # JSON has no infinite number. Building the preset reports it.
        return False


def _removed(values: dict[str, Any], valid: dict[str, Any]) -> dict[str, Any]:
    """Return the global keys and the callers that are not in `valid`."""
    removed = {key: value for key, value in values.items() if key not in valid}
    if "callers" in valid:
        removed["callers"] = {
            name: caller for name, caller in values["callers"].items() if name not in valid["callers"]
        }
    return removed


def _without_invalid(values: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """Return the global keys without those that are invalid. Of `callers`, remove only the invalid ones."""
    locs = [details["loc"] for details in error.errors(include_url=False, include_input=False)]
    invalid = {loc[0] for loc in locs if loc[:1] != ("callers",) or len(loc) == 1}
    callers = {loc[1] for loc in locs if loc[:1] == ("callers",) and len(loc) > 1}
    valid = {key: value for key, value in values.items() if key not in invalid}
    if callers and "callers" in valid:
        valid["callers"] = {name: caller for name, caller in valid["callers"].items() if name not in callers}
    return valid
