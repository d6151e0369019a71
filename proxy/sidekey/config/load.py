"""Loads a config: from a path to a snapshot, or to all errors."""

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

from sidekey.ca import trust_folder as trust
from sidekey.config import checks
from sidekey.config.addresses import ABSENT, address_warnings, is_local
from sidekey.config.build.admin import build_admin
from sidekey.config.build.builder import BuiltIntegration, FileBuilder
from sidekey.config.build.ca import build_ca
from sidekey.config.build.callers import build_callers
from sidekey.config.build.listeners import build_listen, build_log, moved, refusal
from sidekey.config.build.presets import PresetJudge, choice_errors, read_preset, written
from sidekey.config.build.snapshot import FileContent, build_snapshot
from sidekey.config.build.store import BuiltStore, build_store
from sidekey.config.build.trust import build_trust
from sidekey.config.errors import ConfigError, Kind, Loc, LocatedMapping, Row, error_at, error_of
from sidekey.config.field_types import check_name
from sidekey.config.file_stamps import StampCache
from sidekey.config.files import NAME_ONE, ConfigDocuments, read_config
from sidekey.config.load_result import Loaded, RetainedIntegration
from sidekey.config.models import GlobalSettings, IntegrationSettings
from sidekey.config.permissions import check_permissions
from sidekey.config.pydantic_errors import findings_of
from sidekey.config.secrets import NotingReader, SecretReader
from sidekey.config.validate import find_unreadable
from sidekey.credentials.context import Context
from sidekey.credentials.fields import mapping
from sidekey.snapshot import snapshot
from sidekey.snapshot.admin import AdminRules
from sidekey.snapshot.store import StoreRules

__all__ = ["Loaded", "Loader", "load"]


def load(path: str | Path, environ: Mapping[str, str] | None = None, now: float | None = None) -> Loaded:
    """Read the config at `path`, a file or a folder, and the secrets it names. Never raises for what it reads.

    Certificates are checked at `now`, in seconds since the epoch; default: the present.
    """
    return Loader(path, environ).load(now)


class KeysError(NamedTuple):
    """Why a store in use cannot continue with other keys. With `transient` the reason may pass by itself."""

    reason: str
    transient: bool


class StoreContent(ABC):
    """A store whose content is joined with that of the files. What has not changed is the same object."""

    @property
    @abstractmethod
    def known(self) -> checks.KnownIds:
        """The IDs in the store."""

    @abstractmethod
    def check(self, rules: StoreRules) -> KeysError | None:
        """Return why the store cannot continue with the keys of these rules. Blocks."""

    @abstractmethod
    def build(self, side: FileContent, now: float) -> snapshot.Stored:
        """Build the content of the store beside that of the files. Blocks; `now` is in seconds since the epoch."""


class Loader:
    """Loads one config again and again, and builds only what differs from the last load without errors.

    An integration that is the same is the same object in each snapshot. `environ` must not change.
    """

    def __init__(self, path: str | Path, environ: Mapping[str, str] | None = None) -> None:
        self._path = Path(path)
        self._environ = os.environ if environ is None else environ
        self._previous: FileContent | None = None
        self._store: StoreContent | None = None
        self._secret_files: set[Path] = set()
        self._judge_presets = PresetJudge()

    def load(self, now: float | None = None) -> Loaded:
        """Load as `load` does. Blocks; one thread at a time.

        A secret, CA file or caller's token that cannot be used now, but could at the last load without errors, stays
        what it was while the config says the same about it.
        """
        loading = _Loading(
            *(self._path, self._environ, self._previous, self._store),
            secret_files=self._secret_files,
            now=time.time() if now is None else now,
        )
        loaded = loading.run()
        if loaded.files is not None:
            self._previous = loaded.files
            loaded.snapshot = self._join(loaded.files, loading.now)
            _warn_of_addresses(loaded, loaded.files.entries, loaded.snapshot.network)
        loading.check_permissions()
        loaded.sort()
        return loaded

    def follow(self, store: StoreContent) -> None:
        """Join the files with this store from the next load on."""
        self._store = store

    def join(self, loaded: Loaded, now: float | None = None) -> snapshot.Snapshot:
        """Join the files as they were loaded, without a look at them, with the store as it is now. Blocks."""
        if loaded.files is None:
            raise ValueError("a config with errors has nothing to be joined with")
        return self._join(loaded.files, time.time() if now is None else now)

    def _join(self, side: FileContent, now: float) -> snapshot.Snapshot:
        stored = None if self._store is None else self._store.build(side, now)
        return build_snapshot(side, stored, self._judge_presets)


def _warn_of_addresses(
    loaded: Loaded, entries: Mapping[str, BuiltIntegration[LocatedMapping]], network: snapshot.NetworkRules
) -> None:
    """Add a warning for each host of an integration to which no connection is allowed."""
    for name, entry in entries.items():
        if entry.integration is not None:
            found = address_warnings(entry.integration, network)
            loaded.add("warning", (error_at(entry.source, *each, base=("integrations", name)) for each in found))


def _place_of(
    named_paths: Mapping[Path, tuple[LocatedMapping, Loc]], joined: ConfigDocuments, path: Path
) -> ConfigError:
    """Return the place of the key that names a path, else of the config file; without a message."""
    # Of the files in the trust folder only the folder is named.
    found = named_paths.get(path) or named_paths.get(path.parent)
    if found is not None:
        return error_at(*found, "")
    files = [document.file for document in joined.documents]
    file = next((file for file in files if joined.folder / Path(file).name == path), next(iter(files), str(path)))
    return ConfigError(file, 1, 1, "", "")


def _named_paths(joined: ConfigDocuments, read: SecretReader) -> dict[Path, tuple[LocatedMapping, Loc]]:
    """Return the paths in a config, each with its first place: those of {file: PATH}, and the trust folder's."""
    found: dict[Path, tuple[LocatedMapping, Loc]] = {}
    for document in joined.documents:
        pending: list[tuple[Loc, Any]] = [((), document)]
        while pending:
            loc, node = pending.pop()
            if isinstance(node, LocatedMapping):
                if isinstance(node.get("file"), str):
                    found.setdefault(read.path(node["file"]), (document, loc))
                pending += [((*loc, key), value) for key, value in reversed(node.items())]
            elif isinstance(node, Row):
                pending += [((*loc, index), value) for index, value in reversed([*enumerate(node)])]
        folder = mapping(document.get("ca")).get("trust_folder")
        if isinstance(folder, str):
            found.setdefault(read.path(folder), (document, ("ca", "trust_folder")))
    return found


class _Loading:
    """One load."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        previous: FileContent | None,
        store: StoreContent | None,
        *,
        secret_files: set[Path],
        now: float,
    ) -> None:
        looks = StampCache()
        self.now = now
        self._loaded = Loaded(stamps=looks.stamps)
        self._joined = read_config(path, looks, way_out=NAME_ONE)
        self._read = SecretReader(self._joined.folder, environ)
        self._noting = NotingReader(self._joined.folder, environ, looks, secret_files)
        self._previous = previous
        self._path = path
        self._environ = environ
        self._in_use = store
        self._trust_folder: Path | None = None
        self._invalid: set[str | int] = set()
        self._trust_of = cache(partial(build_trust, read=self._read))
        self._is_local = cache(is_local)

    def run(self) -> Loaded:
        """Load; the result has `files` if there is no error."""
        loaded, previous = self._loaded, self._previous
        loaded.add("error", self._joined.errors)
        settings = self._globals()
        loaded.log_format = settings.log.format
        trust = self._trust(settings)
        entries = self._entries(trust, settings)
        callers = build_callers(settings.callers, self._noting, {} if previous is None else previous.digests)
        self._note("unreadable", callers.unreadable)
        self._note("error", callers.twice)
        integrations = {name: each.integration for name, each in entries.items() if each.integration is not None}
        presets = self._presets(integrations, has_store=settings.store is not None)
        if settings.forward.match_by_host:
            found = checks.matching_errors(integrations, callers.found.values())
            documents = self._joined.integrations
            loaded.add("error", (error_at(documents[str(loc[1])], loc, text, key=True) for loc, text in found))
        ca = build_ca(
            settings,
            [each.policy for each in integrations.values()],
            self._noting,
            config=self._path,
            environ=self._environ,
            former=None if previous is None else (previous.settings.ca, previous.ca),
            now=self.now,
        )
        self._trust_folder = ca.rules.trust_folder
        store = self._store(settings)
        former = AdminRules() if previous is None else previous.admin
        admin = build_admin(settings.admin, self._noting, former, trust, self._trust_of)
        self._noting.noted()
        self._note("unreadable", (*ca.unreadable, *admin.unreadable))
        self._note("error", (*admin.errors, *self._changed_tls(settings)))
        log = build_log(settings.log, self._read)
        log_file = self._log_file(log.file)
        self._note("warning", ca.warnings)
        loaded.transient |= self._joined.transient or self._noting.transient
        if not loaded.errors:
            loaded.files = FileContent(
                settings,
                entries,
                integrations,
                callers.found,
                callers.digests,
                trust,
                ca.rules,
                store,
                admin.rules,
                presets,
                build_listen(settings.listen, self._read),
                log,
                log_file,
            )
        return loaded

    def check_permissions(self) -> None:
        """Add findings for what other users may do to the files of the config, of secrets and of certificates."""
        loaded, joined, secret_files = self._loaded, self._joined, self._noting.secrets
        paths = {*loaded.stamps, *loaded.certificates} - {joined.folder}
        if self._trust_folder is not None:
            paths |= {self._trust_folder, *trust.paths(self._trust_folder).values()}
        if loaded.files is not None:
            certificates = (each.certificate for each in loaded.files.integrations.values())
            paths.update(chain.from_iterable(each.files for each in certificates if each is not None))
            # An integration that is the same is not read again, so its files stay known from one load to the next.
            secret_files &= paths
        writable, readable = check_permissions(paths, secret_files)
        if writable or readable is not None:
            place_of = partial(_place_of, _named_paths(joined, self._read), joined)
            loaded.add("writable", (place_of(each.used_by)._replace(message=each.message) for each in writable))
            if readable is not None:
                loaded.add("warning", [place_of(readable.used_by)._replace(message=readable.message)])

    def _log_file(self, path: str | None) -> str | None:
        """Return the last writable log file. That one is not checked again: its folder may be closed by now."""
        previous = None if self._previous is None else self._previous.log_file
        reason = None if path is None or path == previous else refusal(Path(path))
        if reason is None:
            return path
        self._note("unwritable", [(("log", "file"), reason)])
        return previous

    def _changed_tls(self, settings: GlobalSettings) -> Iterator[tuple[Loc, str]]:
        """Refuse to start or to stop TLS or, without a store, the API on the admin listener."""
        if self._previous is not None and (self._previous.admin.certificate is None) is not (
            settings.admin.tls is None
        ):
            yield ("admin", "tls"), "needs a restart of Sidekey: listeners cannot be changed while it runs"
        previous = self._previous
        if (
            previous is not None
            and settings.store is None
            and previous.admin.has_operators is not settings.admin.has_operators
        ):
            yield ("admin",), "needs a restart of Sidekey: without operators and a store it does not serve the API"

    def _store(self, settings: GlobalSettings) -> StoreRules | None:
        """Build the rules of the store."""
        built = BuiltStore(None, [], []) if settings.store is None else build_store(settings.store, self._noting)
        self._note("error", built.errors)
        self._note("warning", built.warnings)
        rules = built.rules
        if self._previous is not None and not self._loaded.errors:
            former = self._previous.store
            same = former is rules if former is None or rules is None else former.is_at(rules)
            if not same:
                text = "needs a restart of Sidekey: a store cannot be added, moved or removed while it runs"
                self._note("error", [(("store",), text)])
            elif former is not None and rules is not None and former.keys != rules.keys:
                self._check_keys(rules)
        return rules

    def _check_keys(self, rules: StoreRules) -> None:
        """Refuse keys that the store in use is not written with: what they sign and seal would be lost with them."""
        error = None if self._in_use is None else self._in_use.check(rules)
        if error is not None:
            self._loaded.transient |= error.transient
            self._note("error", [(("store", "keys"), error.reason)])

    def _root(self, loc: Loc) -> LocatedMapping:
        owners, documents = self._joined.owners, self._joined.documents
        return owners.get(str(loc[0]), documents[0]) if loc else documents[0]

    def _note(self, kind: Kind, found: Iterable[tuple[Loc, str]]) -> None:
        self._loaded.add(kind, (error_at(self._root(loc), loc, message) for loc, message in found))

    @property
    def _stored(self) -> checks.KnownIds:
        """The IDs that the store in use has."""
        return checks.KnownIds() if self._in_use is None else self._in_use.known

    def _globals(self) -> GlobalSettings:
        """Return the global settings, with defaults in place of what is invalid, so that the rest is still checked."""
        loaded, values = self._loaded, {**self._joined.globals, "version": 1}
        if self._joined.documents:
            self._note("error", checks.global_errors(values))
            if self._joined.complete:
                files = checks.KnownIds(self._joined.integrations, self._joined.presets)
                unknown = checks.caller_errors(values, files, self._stored)
                # With a store they may be made later.
                self._note("error" if values.get("store") is None else "warning", unknown)
            self._note("warning", checks.global_warnings(values))
        if self._joined.documents and not self._joined.integrations and values.get("store") is None:
            text = "no integration is configured: every request is denied"
            self._note("warning", [(("integrations",), text)])
        try:
            settings = GlobalSettings.model_validate(values, context=Context("file"))
        except ValidationError as error:
            found = findings_of(error, GlobalSettings, self._root, Context("file"))
            loaded.add("error", (error_of(self._root(each.loc), each) for each in found))
            self._invalid |= {details["loc"][0] for details in error.errors(include_url=False, include_input=False)}
            valid = _without_invalid(values, error)
            settings = GlobalSettings.model_validate(valid, context=Context("file"))
            unread = find_unreadable(_removed(values, valid), found, self._noting)
            loaded.add("unreadable", (error_of(self._root(each.loc), each) for each in unread))
        source = settings.network.source_address
        if source is not None and not self._is_local(source):
            self._note("absent", [(("network", "source_address"), ABSENT)])
        if self._joined.documents and self._joined.complete and "listen" not in self._invalid:
            self._note("error", self._moved(settings))
        return settings

    def _moved(self, settings: GlobalSettings) -> Iterator[tuple[Loc, str]]:
        """Refuse to move a listener."""
        if self._previous is None:
            return
        for key in moved(self._previous.listen, build_listen(settings.listen, self._read)):
            yield ("listen", key), "needs a restart of Sidekey: listeners cannot be changed while it runs"

    def _trust(self, settings: GlobalSettings) -> snapshot.Trust:
        """Return the network's trust, or the previous one if it is the same or if its file cannot be used now."""
        written = settings.network.trusted_ca
        if written.path is not None:
            self._noting.note(written.path)
            self._noting.noted()
        trust, reason = self._trust_of(written)
        if reason:
            self._note("unreadable", [(("network", "trusted_ca"), reason)])
        former = None if self._previous is None else self._previous.trust
        if former is None or (former.source, former.path) != (trust.source, trust.path):
            return trust
        return former if trust == former or not trust.usable else trust

    def _entries(self, trust: snapshot.Trust, settings: GlobalSettings) -> dict[str, BuiltIntegration[LocatedMapping]]:
        store: checks.Store = "none"
        if settings.store is not None:
            store = "file" if settings.store.url is None else "database"
        in_flight = settings.limits.in_flight
        builder = FileBuilder(self._read, self._noting, trust, in_flight, self._trust_of, now=self.now, store=store)
        self._loaded.certificates = builder.certificate_looks.stamps
        previous = {} if self._previous is None else self._previous.entries
        entries: dict[str, BuiltIntegration[LocatedMapping]] = {}
        for name, document in self._joined.integrations.items():
            base = ("integrations", name)
            try:
                check_name(name)
            except ValueError as error:
                self._loaded.add("error", [error_at(document, base, str(error), key=True)])
            raw = document["integrations"][name]
            if name in IntegrationSettings.model_fields and not (isinstance(raw, LocatedMapping) and "auth" in raw):
                text = "this key belongs to an integration: indent it under the integration's ID"
                self._loaded.add("error", [error_at(document, base, text, key=True)])
                continue
            if not isinstance(raw, LocatedMapping):
                text = "must be a mapping: indent its keys, so that they are under it"
                self._loaded.add("error", [error_at(document, base, text if raw is None else "must be a mapping")])
                continue
            entries[name] = builder.build(name, raw, previous.get(name))
            self._report(name, entries[name])
        return entries

    def _report(self, name: str, entry: BuiltIntegration[LocatedMapping]) -> None:
        """Add the findings of an integration, at each load: line numbers, certificates and addresses change."""
        loaded, raw, base = self._loaded, entry.source, ("integrations", name)
        for kind, finding in entry.present_findings():
            loaded.add(kind, [error_of(raw, finding, base=base)])
        if entry.kept:
            loaded.kept[name] = RetainedIntegration(
                [error_of(raw, each, base=base) for each in entry.kept], entry.files
            )
        source = None if entry.integration is None else entry.integration.source_address
        if source is not None and not self._is_local(source):
            loaded.add("absent", [error_at(raw, ("source_address",), ABSENT, base=base)])

    def _presets(
        self, integrations: Mapping[str, snapshot.Integration], *, has_store: bool
    ) -> dict[str, snapshot.Preset]:
        """Build the presets, and check each by itself and beside the integrations of the files."""
        found: dict[str, snapshot.Preset] = {}
        for name, document in self._joined.presets.items():
            base = ("presets", name)
            try:
                check_name(name)
            except ValueError as error:
                self._loaded.add("error", [error_at(document, base, str(error), key=True)])
            raw = document["presets"][name]
            if not isinstance(raw, LocatedMapping):
                self._loaded.add("error", [error_at(document, base, "must be a mapping")])
                continue
            preset = None if self._previous is None else self._previous.presets.get(name)
            if preset is None or not _is_of(preset, raw):
                built, errors = read_preset(name, raw)
                self._loaded.add("error", (error_of(raw, each, base=base) for each in errors))
                if built is None:
                    continue
                preset = replace(built, document=written(raw))
            warnings = checks.preset_warnings(raw)
            self._loaded.add("warning", (error_at(raw, loc, message, base=base) for loc, message in warnings))
            found[name] = preset
            self._judge_preset(preset, raw, integrations, has_store=has_store)
        return found

    def _judge_preset(
        self,
        preset: snapshot.Preset,
        raw: LocatedMapping,
        integrations: Mapping[str, snapshot.Integration],
        *,
        has_store: bool,
    ) -> None:
        """Check a preset beside its integration if that may be in a file."""
        name, base = preset.rules.integration, ("presets", preset.id)
        if name in integrations:
            found = choice_errors(preset, integrations[name], self.now)
            self._loaded.add("mismatched", (error_at(raw, loc, message, base=base) for loc, message in found))
        elif name not in self._joined.integrations and self._joined.complete and name not in self._stored.integrations:
            text = "no integration has this ID"
            if has_store:
                text = "no file has an integration of this ID: it must be made in the store"
            error = error_at(raw, ("integration",), text, base=base)
            self._loaded.add("warning" if has_store else "error", [error])


def _is_of(preset: snapshot.Preset, raw: LocatedMapping) -> bool:
    """Return True if a preset was built from an equal document."""
    try:
        return preset.document == written(raw)
    except ValueError:
        # JSON has no infinite number. Building the preset finds its place.
        return False


def _removed(values: dict[str, Any], valid: dict[str, Any]) -> dict[str, Any]:
    """Return the global keys, and of `callers` the callers, that are not among the valid ones."""
    removed = {key: value for key, value in values.items() if key not in valid}
    if "callers" in valid:
        removed["callers"] = {name: each for name, each in values["callers"].items() if name not in valid["callers"]}
    return removed


def _without_invalid(values: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """The global keys that pydantic found no error in; of `callers` only the invalid ones are removed."""
    places = [details["loc"] for details in error.errors(include_url=False, include_input=False)]
    invalid = {loc[0] for loc in places if loc[:1] != ("callers",) or len(loc) == 1}
    callers = {loc[1] for loc in places if loc[:1] == ("callers",) and len(loc) > 1}
    kept = {key: value for key, value in values.items() if key not in invalid}
    if callers and "callers" in kept:
        kept["callers"] = {name: caller for name, caller in kept["callers"].items() if name not in callers}
    return kept
