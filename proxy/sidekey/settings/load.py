"""Loads a config: from a path to a snapshot, or to every error there is; as often as needed."""

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

from sidekey.authority import trust
from sidekey.credentials.context import Context
from sidekey.credentials.fields import mapping
from sidekey.runtime import snapshot
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings import checks, log_file
from sidekey.settings.addresses import address_warnings
from sidekey.settings.admin import build_admin
from sidekey.settings.authority import build_ca
from sidekey.settings.build import build_callers, build_listen, build_log, build_snapshot, build_trust, moved
from sidekey.settings.config_errors import ConfigError, Loc, Row, Table, error_at, error_of
from sidekey.settings.file_side import FileSide
from sidekey.settings.integration import Integrations
from sidekey.settings.loaded import Loaded
from sidekey.settings.local_address import ABSENT, is_local
from sidekey.settings.memory import Entry, Memory, PresetEntry, release_files, same
from sidekey.settings.models import GlobalSettings, IntegrationSettings
from sidekey.settings.permissions import judge_permissions
from sidekey.settings.presets import PresetJudge, choice_errors, read_preset, written
from sidekey.settings.release_gradually import release_gradually
from sidekey.settings.secrets import NotingReader, SecretReader
from sidekey.settings.source import NAME_ONE, Files, Joined, read_config
from sidekey.settings.stamps import Looks
from sidekey.settings.store import BuiltStore, build_store
from sidekey.settings.translate import findings_of
from sidekey.settings.unread import find_unreadable
from sidekey.settings.values import check_name

__all__ = ["Loaded", "Loader", "load"]


def load(path: str | Path, environ: Mapping[str, str] | None = None, now: float | None = None) -> Loaded:
    """Read the config at `path`, a file or a folder, and the secrets it names. Never raises for what it reads.

    Certificates are checked at `now`, in seconds since the epoch; default: the present.
    """
    return Loader(path, environ).load(now)


class KeysError(NamedTuple):
    """Keys that a store in use cannot go on with. `transient` says that it may pass by itself."""

    reason: str
    transient: bool


class StoreSide(ABC):
    """What a store says, built: each time it is asked it builds only what differs from the time before."""

    @property
    @abstractmethod
    def known(self) -> checks.Known:
        """The IDs that it has."""

    @abstractmethod
    def check(self, rules: StoreRules) -> KeysError | None:
        """Why it cannot go on with the keys of these rules; None: it can. Blocks."""

    @abstractmethod
    def build(self, side: FileSide, now: float) -> snapshot.Stored:
        """What the store says now, beside what the files say. Blocks; `now` is in seconds since the epoch."""


class Loader:
    """Loads one config as often as it is asked to, and builds only what differs from the last good load.

    An integration that is the same is the same object in each snapshot. `environ` must not change.
    """

    def __init__(self, path: str | Path, environ: Mapping[str, str] | None = None) -> None:
        self._path = Path(path)
        self._environ = os.environ if environ is None else environ
        self._memory = Memory()
        self._files: Files = {}
        self._store: StoreSide | None = None
        self._secret_files: set[Path] = set()
        self._judge_presets = PresetJudge()

    def load(self, now: float | None = None) -> Loaded:
        """As `load`. Blocks; one thread at a time.

        A load with errors leaves only the documents that it parsed. A secret, CA file or caller's token that cannot be
        used now, but could at the last good load, stays what it was while the config says the same about it.
        """
        looks = Looks()
        joined = read_config(self._path, {**self._memory.files, **self._files}, looks, way_out=NAME_ONE)
        read = SecretReader(joined.folder, self._environ)
        noting = NotingReader(joined.folder, self._environ, looks, self._secret_files)
        moment = time.time() if now is None else now
        loading = _Loading(
            joined,
            read,
            noting,
            self._memory,
            path=self._path,
            environ=self._environ,
            now=moment,
            store=self._store,
        )
        memory = loading.run()
        loaded = loading.loaded
        if loaded.files is not None:
            loaded.snapshot = self._join(loaded.files, moment)
        self._keep(memory, joined.files)
        if loaded.snapshot is not None:
            self._warn_of_addresses(loaded, loaded.snapshot.network)
        paths = {*looks.stamps} - {joined.folder}
        if loading.trust_folder is not None:
            paths |= {loading.trust_folder, *trust.paths(loading.trust_folder).values()}
        self._judge_permissions(loaded, joined, read, paths)
        loaded.stamps = looks.stamps
        loaded.transient |= joined.transient or noting.transient
        loaded.sort()
        return loaded

    def _warn_of_addresses(self, loaded: Loaded, network: snapshot.NetworkRules) -> None:
        """Add a warning for each host of an integration at which no connection is allowed."""
        for name, entry in self._memory.entries.items():
            found = address_warnings(entry.integration, network)
            loaded.warnings += [error_at(entry.raw, *each, base=("integrations", name)) for each in found]

    def _judge_permissions(self, loaded: Loaded, joined: Joined, read: SecretReader, paths: set[Path]) -> None:
        """Note what other users may do to files at these paths, and to those of client certificates."""
        paths |= loaded.certificates.keys()
        if loaded.files is not None:
            certificates = (each.certificate for each in loaded.files.integrations.values())
            paths.update(chain.from_iterable(each.files for each in certificates if each is not None))
            # An integration that is the same is not read again, so its files stay known from one load to the next.
            self._secret_files &= paths
        writable, readable = judge_permissions(paths, self._secret_files)
        if writable or readable is not None:
            place_of = partial(_place_of, _named_paths(joined, read), joined)
            loaded.writable += [place_of(each.used_by)._replace(message=each.message) for each in writable]
            if readable is not None:
                loaded.warnings.append(place_of(readable.used_by)._replace(message=readable.message))

    def follow(self, store: StoreSide) -> None:
        """Join what the files say with what this store says, from the next load on."""
        self._store = store

    def join(self, loaded: Loaded, now: float | None = None) -> snapshot.Snapshot:
        """What was loaded of the files, without looking at them, with the store as it is now. Blocks, as `load`."""
        if loaded.files is None:
            raise ValueError("a config with errors has nothing to be joined with")
        return self._join(loaded.files, time.time() if now is None else now)

    def _join(self, side: FileSide, now: float) -> snapshot.Snapshot:
        stored = None if self._store is None else self._store.build(side, now)
        return build_snapshot(side, stored, self._judge_presets)

    def _keep(self, memory: Memory | None, files: Files) -> None:
        """Remember this load, and release gradually what is not needed any more."""
        before, last = self._memory, self._files
        self._files = files
        if memory is not None:
            self._memory = memory
            release_gradually(before.entries)
        for old in (last, before.files):
            release_files(old, kept=(self._files, self._memory.files))


def _place_of(named_paths: Mapping[Path, tuple[Table, Loc]], joined: Joined, path: Path) -> ConfigError:
    """Return the place of the key that names a path, else of the config file; without a message."""
    # Of the files in the trust folder only the folder is named.
    found = named_paths.get(path) or named_paths.get(path.parent)
    if found is not None:
        return error_at(*found, "")
    files = [document.file for document in joined.documents]
    file = next((file for file in files if joined.folder / Path(file).name == path), next(iter(files), str(path)))
    return ConfigError(file, 1, 1, "", "")


def _named_paths(joined: Joined, read: SecretReader) -> dict[Path, tuple[Table, Loc]]:
    """Return the paths in a config, each with its first place: those of {file: PATH}, and the trust folder's."""
    found: dict[Path, tuple[Table, Loc]] = {}
    for document in joined.documents:
        pending: list[tuple[Loc, Any]] = [((), document)]
        while pending:
            loc, node = pending.pop()
            if isinstance(node, Table):
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
        joined: Joined,
        read: SecretReader,
        noting: NotingReader,
        memory: Memory,
        *,
        path: Path,
        environ: Mapping[str, str],
        now: float,
        store: StoreSide | None,
    ) -> None:
        self.loaded = Loaded(errors=joined.errors)
        self.trust_folder: Path | None = None
        self._joined = joined
        self._read = read
        self._noting = noting
        self._memory = memory
        self._path = path
        self._environ = environ
        self._now = now
        self._in_use = store
        self._invalid: set[str | int] = set()
        self._trust_of = cache(partial(build_trust, read=read))
        self._is_local = cache(is_local)

    def run(self) -> Memory | None:
        """Load; what is to be remembered where there was no error."""
        settings = self._globals()
        self.loaded.log_format = settings.log.format
        trust = self._trust(settings)
        entries = self._entries(trust, settings)
        callers = build_callers(settings.callers, self._noting, self._memory.digests)
        self._note(self.loaded.unreadable, callers.unreadable)
        self._note(self.loaded.errors, callers.twice)
        integrations = {name: entry.integration for name, entry in entries.items()}
        presets = self._presets(integrations, has_store=settings.store is not None)
        if settings.forward.match_by_host:
            found = checks.matching_errors(integrations, callers.found.values())
            documents = self._joined.integrations
            self.loaded.errors += [error_at(documents[str(loc[1])], loc, message, key=True) for loc, message in found]
        ca = build_ca(
            settings,
            [each.policy for each in integrations.values()],
            self._noting,
            config=self._path,
            environ=self._environ,
            former=self._memory.ca,
            now=self._now,
        )
        self.trust_folder = ca.rules.trust_folder
        store = self._store(settings)
        admin = build_admin(settings.admin, self._noting, self._memory.admin)
        self._noting.noted()
        self._note(self.loaded.unreadable, (*ca.unreadable, *admin.unreadable))
        log = build_log(settings.log, self._read)
        self._note(self.loaded.errors, (*admin.errors, *self._changed_tls(settings)))
        unwritable = list(self._log_file(log.file))
        self._note(self.loaded.unwritable, unwritable)
        self._note(self.loaded.warnings, ca.warnings)
        if self.loaded.errors:
            return None
        side = FileSide(
            settings,
            integrations,
            callers.found,
            self._read,
            trust,
            ca.rules,
            store,
            admin.rules,
            {name: entry.preset for name, entry in presets.items()},
        )
        self.loaded.files = side
        written = settings.ca, ca.rules
        listen = build_listen(settings.listen, self._read)
        return Memory(
            entries,
            callers.digests,
            presets,
            trust,
            self._joined.files,
            listen,
            store,
            admin.rules,
            self._memory.log_file if unwritable else log.file,
            written,
        )

    def _log_file(self, path: str | None) -> Iterator[tuple[Loc, str]]:
        """Why nothing can be logged to the file; that which is in use may be in a folder that is closed by now."""
        if path is not None and path != self._memory.log_file:
            reason = log_file.refusal(Path(path))
            if reason is not None:
                yield ("log", "file"), reason

    def _changed_tls(self, settings: GlobalSettings) -> Iterator[tuple[Loc, str]]:
        """Whether the admin listener would begin to speak TLS, or to speak without."""
        # Without `listen` nothing was loaded before.
        former = self._memory.admin.certificate
        if self._memory.listen is not None and (former is None) is not (settings.admin.tls is None):
            yield ("admin", "tls"), "needs a restart of Sidekey: listeners cannot be changed while it runs"

    def _store(self, settings: GlobalSettings) -> StoreRules | None:
        """What the store is opened by."""
        built = BuiltStore(None, [], []) if settings.store is None else build_store(settings.store, self._noting)
        self._note(self.loaded.errors, built.errors)
        self._note(self.loaded.warnings, built.warnings)
        former, rules = self._memory.store, built.rules
        # Without `listen` nothing was loaded before.
        if self._memory.listen is not None and not self.loaded.errors:
            same = former is rules if former is None or rules is None else former.is_at(rules)
            if not same:
                text = "needs a restart of Sidekey: a store cannot be added, moved or removed while it runs"
                self._note(self.loaded.errors, [(("store",), text)])
            elif former is not None and rules is not None and former.keys != rules.keys:
                self._check_keys(rules)
        return rules

    def _check_keys(self, rules: StoreRules) -> None:
        """Refuse keys that the store in use is not written with: what they sign and seal would be lost with them."""
        error = None if self._in_use is None else self._in_use.check(rules)
        if error is not None:
            self.loaded.transient |= error.transient
            self._note(self.loaded.errors, [(("store", "keys"), error.reason)])

    def _root(self, loc: Loc) -> Table:
        owners, documents = self._joined.owners, self._joined.documents
        return owners.get(str(loc[0]), documents[0]) if loc else documents[0]

    def _note(self, errors: list[ConfigError], found: Iterable[tuple[Loc, str]]) -> None:
        errors += [error_at(self._root(loc), loc, message) for loc, message in found]

    @property
    def _stored(self) -> checks.Known:
        """The IDs that the store in use has."""
        return checks.Known() if self._in_use is None else self._in_use.known

    def _globals(self) -> GlobalSettings:
        """The global settings; the defaults instead of what is invalid, so that the rest is still checked."""
        values = {**self._joined.globals, "version": 1}
        if self._joined.documents:
            self._note(self.loaded.errors, checks.global_errors(values))
            if self._joined.complete:
                files = checks.Known(self._joined.integrations, self._joined.presets)
                unknown = checks.caller_errors(values, files, self._stored)
                # With a store they may be made later.
                self._note(self.loaded.errors if values.get("store") is None else self.loaded.warnings, unknown)
            self._note(self.loaded.warnings, checks.global_warnings(values))
        if self._joined.documents and not self._joined.integrations and values.get("store") is None:
            text = "no integration is configured: every request is denied"
            self._note(self.loaded.warnings, [(("integrations",), text)])
        try:
            settings = GlobalSettings.model_validate(values, context=Context("file"))
        except ValidationError as error:
            found = findings_of(error, GlobalSettings, self._root, Context("file"))
            self.loaded.errors += [error_of(self._root(each.loc), each) for each in found]
            self._invalid |= {details["loc"][0] for details in error.errors(include_url=False, include_input=False)}
            valid = _without_invalid(values, error)
            settings = GlobalSettings.model_validate(valid, context=Context("file"))
            unread = find_unreadable(_removed(values, valid), found, self._noting)
            self.loaded.unreadable += [error_of(self._root(each.loc), each) for each in unread]
        source = settings.network.source_address
        if source is not None and not self._is_local(source):
            self._note(self.loaded.absent, [(("network", "source_address"), ABSENT)])
        if self._joined.documents and self._joined.complete and "listen" not in self._invalid:
            self._note(self.loaded.errors, self._moved(settings))
        return settings

    def _moved(self, settings: GlobalSettings) -> Iterator[tuple[Loc, str]]:
        """The listeners whose address in the config is not where they listen."""
        current = self._memory.listen
        if current is None:
            return
        for key in moved(current, build_listen(settings.listen, self._read)):
            yield ("listen", key), "needs a restart of Sidekey: listeners cannot be changed while it runs"

    def _trust(self, settings: GlobalSettings) -> snapshot.Trust:
        """The network's; that of the last good load where it is the same, or where its file cannot be used now."""
        written, former = settings.network.trusted_ca, self._memory.trust
        if written.path is not None:
            self._noting.note(written.path)
            self._noting.noted()
        trust, reason = self._trust_of(written)
        if reason:
            self._note(self.loaded.unreadable, [(("network", "trusted_ca"), reason)])
        if former is None or (former.source, former.path) != (trust.source, trust.path):
            return trust
        return former if trust == former or not trust.usable else trust

    def _entries(self, trust: snapshot.Trust, settings: GlobalSettings) -> dict[str, Entry]:
        store: checks.Store = "none"
        if settings.store is not None:
            store = "file" if settings.store.url is None else "database"
        integrations = Integrations(self.loaded, self._read, self._noting, self._trust_of, self._now, store=store)
        entries: dict[str, Entry] = {}
        for name, document in self._joined.integrations.items():
            base = ("integrations", name)
            try:
                check_name(name)
            except ValueError as error:
                self.loaded.errors.append(error_at(document, base, str(error), key=True))
            raw = document["integrations"][name]
            if name in IntegrationSettings.model_fields and not (isinstance(raw, Table) and "auth" in raw):
                text = "this key belongs to an integration: indent it under the integration's ID"
                self.loaded.errors.append(error_at(document, base, text, key=True))
                continue
            if not isinstance(raw, Table):
                text = "must be a mapping: indent its keys, so that they are under it"
                self.loaded.errors.append(error_at(document, base, text if raw is None else "must be a mapping"))
                continue
            found = checks.limit_errors(raw, settings.limits.in_flight)
            self.loaded.errors += [error_at(raw, loc, message, base=base) for loc, message in found]
            entry = integrations.take(name, raw, trust, self._memory.entries.get(name))
            if entry is not None:
                entries[name] = entry
                # At each load, also of what has not changed: a machine's addresses do.
                source = entry.integration.source_address
                if source is not None and not self._is_local(source):
                    self.loaded.absent.append(error_at(raw, ("source_address",), ABSENT, base=base))
        return entries

    def _presets(self, integrations: Mapping[str, snapshot.Integration], *, has_store: bool) -> dict[str, PresetEntry]:
        """The presets, and what is wrong with them: by themselves, and beside the integrations of the files."""
        found: dict[str, PresetEntry] = {}
        for name, document in self._joined.presets.items():
            base = ("presets", name)
            try:
                check_name(name)
            except ValueError as error:
                self.loaded.errors.append(error_at(document, base, str(error), key=True))
            raw = document["presets"][name]
            if not isinstance(raw, Table):
                self.loaded.errors.append(error_at(document, base, "must be a mapping"))
                continue
            former = self._memory.presets.get(name)
            if former is not None and same(former.raw, raw):
                preset = former.preset
            else:
                built, errors = read_preset(name, raw)
                self.loaded.errors += [error_of(raw, each, base=base) for each in errors]
                if built is None:
                    continue
                preset = replace(built, document=written(raw))
            self.loaded.warnings += [
                error_at(raw, loc, message, base=base) for loc, message in checks.preset_warnings(raw)
            ]
            found[name] = PresetEntry(raw, preset)
            self._judge_preset(preset, raw, integrations, has_store=has_store)
        return found

    def _judge_preset(
        self,
        preset: snapshot.Preset,
        raw: Table,
        integrations: Mapping[str, snapshot.Integration],
        *,
        has_store: bool,
    ) -> None:
        """Note why a preset does not belong to its integration, as far as that is the files'."""
        name, base = preset.rules.integration, ("presets", preset.id)
        if name in integrations:
            found = choice_errors(preset, integrations[name], self._now)
            self.loaded.mismatched += [error_at(raw, loc, message, base=base) for loc, message in found]
        elif name not in self._joined.integrations and self._joined.complete and name not in self._stored.integrations:
            text = "no integration has this ID"
            if has_store:
                text = "no file has an integration of this ID: it must be made in the store"
            errors = self.loaded.warnings if has_store else self.loaded.errors
            errors.append(error_at(raw, ("integration",), text, base=base))


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
