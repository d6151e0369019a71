"""`sidekey import`: puts integrations, presets and callers of config files into the store, with their secrets."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import click
from pydantic import ValidationError

from sidekey.cli.config import WHO, load_with_store, loader_of, user
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_json
from sidekey.config.build.admin import SHORTEST_TOKEN
from sidekey.config.build.builder import FileBuilder
from sidekey.config.build.presets import broken_presets
from sidekey.config.build.snapshot import FileContent
from sidekey.config.build.trust import build_trust
from sidekey.config.errors import ConfigError, Finding, Loc, LocatedMapping, error_at, error_of
from sidekey.config.field_types import check_name
from sidekey.config.file_stamps import StampCache
from sidekey.config.files import ConfigDocuments, read_config
from sidekey.config.load import Loader
from sidekey.config.load_result import Loaded
from sidekey.config.models import CallerSettings, GlobalSettings, IntegrationSettings
from sidekey.config.pydantic_errors import findings_of
from sidekey.config.secrets import NotingReader, SecretReader
from sidekey.config.stored.build import build_draft, build_unserved, overlaps_beside
from sidekey.config.stored.document import MAX_SIZE, MalformedError, check
from sidekey.config.stored.presets import PresetDraft, prepare_preset
from sidekey.config.stored.rows import (
    build_integration_row,
    build_preset_row,
    caller_fields,
    has_content_of,
    previous_integration,
)
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.transfer import locate, read_references
from sidekey.config.stored.validate import Draft, PreviousIntegration, assess, text_errors
from sidekey.config.validate import validate
from sidekey.credentials.context import Context, file_only_keys
from sidekey.credentials.fields import mapping
from sidekey.errors import StartError
from sidekey.policy.callers import Caller
from sidekey.snapshot.snapshot import Integration, Snapshot, Stored
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreError
from sidekey.store.records import CallerRow, DocumentRow, IntegrationRow, PresetRow, Record, digest_of, new_row
from sidekey.store.state import Put, State
from sidekey.store.store import Store
from sidekey.store_manager import StoreManager

R = TypeVar("R", bound=DocumentRow)
D = TypeVar("D", Draft, PresetDraft)

Kind = Literal["integration", "preset", "caller"]
Outcome = Literal["made", "changed", "kept", "refused"]

_EXISTS: Final = "is in the store already, and differs: say --replace to write over it"
_NOTICE: Final = "is not imported: only integrations, presets and callers are"


class ImportFailed(Exception):
    """Why nothing was imported, and what to do."""


class ImportItem(NamedTuple):
    """What becomes of one ID."""

    kind: Kind
    id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import has done, or with `done` false would do. Where there are `errors` it does nothing at all."""

    items: tuple[ImportItem, ...]
    errors: tuple[ConfigError, ...]
    warnings: tuple[ConfigError, ...]
    done: bool


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is asked for: the config at `path`, whose variables are in `environ`.

    `replace` writes over what is in the store and differs, `dry_run` changes nothing.
    """

    path: Path
    environ: Mapping[str, str] = field(repr=False)
    replace: bool = False
    dry_run: bool = False


def import_config(loader: Loader, loaded: Loaded, wanted: ImportOptions) -> ImportResult:
    """Put integrations, presets and callers of a config into the store of another, or of the same.

    `loaded` is what the `loader` has loaded of the config in use, which has a store. Raises StoreError, StartError,
    ImportFailed.
    """
    side = loaded.files
    if side is None or side.store is None:
        raise ValueError("a config with a store is needed")
    rules = side.store

    def target(state: State, vault: SealingKeys | None) -> _Target:
        return _Target(side, state, loader.join(loaded), vault, loaded.stamps)

    if wanted.dry_run and rules.path is not None and not rules.path.exists():
        # The first import would make it.
        return _Planning(target(State(), None), wanted).result(done=False)

    async def main() -> ImportResult:
        managed = await StoreManager.open(rules, loader, create=not wanted.dry_run)
        try:
            return await _import(
                managed.store, target(managed.store.state, managed.sealing_keys), managed.sealing_keys, wanted
            )
        finally:
            await managed.close()

    return asyncio.run(main())


async def _import(store: Store, target: _Target, vault: SealingKeys, wanted: ImportOptions) -> ImportResult:
    planning = _Planning(target, wanted)
    if wanted.dry_run or planning.errors:
        return planning.result(done=False)
    changes, entries = planning.changes(vault)
    if changes:
        try:
            await store.commit(changes, *entries)
        except (Changed, Exists) as error:
            raise ImportFailed(f"nothing was imported: meanwhile {error}; run it again") from None
    return planning.result(done=True)


class _Target(NamedTuple):
    """The store as it is, and the config in use with its `files`; without a `vault` there is no store yet."""

    side: FileContent
    state: State
    snapshot: Snapshot
    vault: SealingKeys | None
    files: Container[Path]


@dataclass(frozen=True, slots=True)
class _Saving:
    """An integration that is to be saved."""

    draft: Draft = field(repr=False)
    before: IntegrationRow | None
    former: PreviousIntegration | None


class _Named(NamedTuple):
    """An integration or a preset of a config. `of_file`: a file in use has one of its ID, which counts."""

    kind: Literal["integration", "preset"]
    id: str
    of_file: bool

    @property
    def place(self) -> Loc:
        """Where it stands in a config."""
        return f"{self.kind}s", self.id


class _Planning:
    """Finds out what an import does: every error there is, before anything is written."""

    def __init__(self, target: _Target, wanted: ImportOptions) -> None:
        self.errors: list[ConfigError] = []
        self._target = target
        self._replace = wanted.replace
        self._warnings: list[ConfigError] = []
        self._outcomes: dict[tuple[Kind, str], Outcome] = {}
        self._savings: dict[str, _Saving] = {}
        self._presets: dict[str, tuple[PresetDraft, PresetRow | None]] = {}
        self._callers: dict[str, tuple[CallerRow, CallerRow | None]] = {}
        self._now = time.time()
        joined = read_config(wanted.path)
        self.errors += joined.errors
        reader = SecretReader(joined.folder, wanted.environ)
        noting = NotingReader(joined.folder, wanted.environ, StampCache())
        for name, document in joined.integrations.items():
            self._integration(name, document, reader, noting)
        self._every_preset(joined)
        self._globals(joined)
        self._every_caller(joined, reader)
        self._overlaps(joined)

    def result(self, *, done: bool) -> ImportResult:
        """What was found, and whether it was done."""
        items = tuple(ImportItem(kind, name, outcome) for (kind, name), outcome in sorted(self._outcomes.items()))
        return ImportResult(items, _sorted(self.errors), _sorted(self._warnings), done)

    def changes(self, vault: SealingKeys) -> tuple[list[Put], list[AuditEntry]]:
        """What is to be written, sealed now, with an entry of the audit for each."""
        changes: list[Put] = []
        entries: list[AuditEntry] = []
        now = int(self._now)

        def put(record: Record, before: Record | None, fields: tuple[str, ...]) -> None:
            changes.append(Put(record, None if before is None else before.version))
            entries.append(
                AuditEntry(
                    who=WHO,
                    action="import",
                    kind=record.kind,
                    id=record.id,
                    row=record.row,
                    fields=fields,
                    source=user(),
                )
            )

        for name, saving in self._savings.items():
            new = build_integration_row(vault, name, saving.draft, saving.before, saving.former, by=WHO, now=now)
            put(new.row, saving.before, new.fields)
        for name, (preset, present) in self._presets.items():
            made = build_preset_row(name, preset, present, by=WHO, now=now)
            put(made.row, present, made.fields)
        for caller, former in self._callers.values():
            put(caller, former, caller_fields(caller, former))
        return changes, entries

    def _integration(self, name: str, document: LocatedMapping, reader: SecretReader, noting: NotingReader) -> None:
        row = self._target.state.integrations.get(name)
        former = previous_integration(row)

        def judge(raw: LocatedMapping) -> Draft | list[ConfigError]:
            return self._judged(name, raw, former, reader, noting)

        of_file = name in self._target.side.integrations
        draft = self._take(_Named("integration", name, of_file), document, row, judge, self._is_stored)
        if draft is not None:
            self._savings[name] = _Saving(draft, row, former)

    def _take(
        self,
        named: _Named,
        document: LocatedMapping,
        row: R | None,
        judge: Callable[[LocatedMapping], D | list[ConfigError]],
        is_stored: Callable[[R, D], bool],
    ) -> D | None:
        """The draft of what is to be saved; None where it is stored already, or has errors, which are noted."""
        base = named.place
        raw = document[f"{named.kind}s"][named.id]
        try:
            check_name(named.id)
        except ValueError as error:
            # What is no ID may be a secret that slipped, and is not repeated.
            self.errors.append(error_at(document, base, str(error), key=True))
            return None
        judged = judge(raw) if isinstance(raw, LocatedMapping) else [error_at(document, base, "must be a mapping")]
        outcome: Outcome = "made" if row is None else "changed"
        if row is not None and not isinstance(judged, list):
            if is_stored(row, judged):
                outcome = "kept"
            elif not self._replace:
                judged = [error_at(document, base, _EXISTS, key=True)]
        if isinstance(judged, list):
            self.errors += judged
            self._outcomes[named.kind, named.id] = "refused"
            return None
        self._outcomes[named.kind, named.id] = outcome
        if named.of_file:
            text = "a config file in use has this ID too: what is imported is used once the file's is removed"
            self._warn(document, named.place, text)
        return None if outcome == "kept" else judged

    def _every_preset(self, joined: ConfigDocuments) -> None:
        """Judge the presets, beside the integrations that there will be, and those that use what is imported."""
        stored = self._target.snapshot.stored or Stored()
        # Of each all secrets are there, so that it can be told whether it can be used.
        saved = {
            name: build_unserved(name, saving.draft.settings, saving.draft.entered, stored, self._now)
            for name, saving in self._savings.items()
            if name not in self._target.side.integrations
        }
        integrations = {**self._target.snapshot.integrations, **saved}
        for name, document in joined.presets.items():
            self._preset(name, document, integrations)
        others = {name: each for name, each in self._target.snapshot.presets.items() if name not in joined.presets}
        for name, integration in saved.items():
            for preset, reasons in broken_presets(integration, others).items():
                text = f"preset {preset} uses it, and could not any more: {'; '.join(reasons)}"
                self.errors.append(error_at(joined.integrations[name], ("integrations", name), text, key=True))
                self._outcomes["integration", name] = "refused"

    def _preset(self, name: str, document: LocatedMapping, integrations: Mapping[str, Integration]) -> None:
        row = self._target.state.presets.get(name)

        def judge(raw: LocatedMapping) -> PresetDraft | list[ConfigError]:
            judged = prepare_preset(name, raw, integrations, self._now)
            if isinstance(judged, PresetDraft):
                return judged
            # What is wrong with an integration beside it is told there.
            refused = self._outcomes.get(("integration", str(raw.get("integration")))) == "refused"
            errors = [each for each in judged.errors if not refused or each.pointer != "/integration"]
            return [error_at(raw, locate(raw, each.pointer), each.detail, base=("presets", name)) for each in errors]

        def is_stored(before: PresetRow, draft: PresetDraft) -> bool:
            return before.verified and before.document == draft.text

        of_file = name in self._target.side.presets
        draft = self._take(_Named("preset", name, of_file), document, row, judge, is_stored)
        if draft is not None:
            self._presets[name] = draft, row

    def _judged(
        self,
        name: str,
        raw: LocatedMapping,
        former: PreviousIntegration | None,
        reader: SecretReader,
        noting: NotingReader,
    ) -> Draft | list[ConfigError]:
        """The draft of an integration, or everything that keeps it from the store."""
        base: Loc = ("integrations", name)
        in_flight = self._target.snapshot.limits.in_flight
        # As a run would: what a file may not say, or names in vain, is told in a file's words.
        trust_of = partial(build_trust, read=reader)
        trust = self._target.side.trust
        builder = FileBuilder(reader, noting, trust, in_flight, trust_of, now=self._now, store="database")
        found_in_file = builder.build(name, raw, None).current_findings()
        errors = [error_of(raw, each, base=base) for kind, each in found_in_file if kind != "warning"]
        file_only = file_only_keys(IntegrationSettings).items()
        further = chain(
            (((key,), reason) for key, reason in file_only if key in raw),
            text_errors(raw),
        )
        errors += [error_at(raw, loc, message, base=base) for loc, message in further]
        validated = validate(raw, Context("file"))
        settings = validated.settings
        if settings is None:
            return errors
        document, unread, warnings = read_references(raw, settings, reader, validated.expansion.source_loc)
        told = {error.message for error in errors}
        errors += [error_of(raw, each, base=base) for each in unread if each.message not in told]
        if errors:
            return errors
        try:
            check(document)
        except MalformedError as error:
            return [error_at(raw, (), str(error), base=base)]
        assessed = assess(document, former, in_flight=in_flight, now=self._now)
        # All of its secrets are there, so that none must be entered again.
        found = assessed.draft
        if found is None:
            return [error_at(raw, locate(raw, each.pointer), each.detail, base=base) for each in assessed.errors]
        if len(found.saved.text().encode()) > MAX_SIZE:
            text = f"must have at most {MAX_SIZE >> 10} KiB in the store, with its CA and certificates"
            return [error_at(raw, (), text, base=base)]
        self._warnings += [error_of(raw, each, base=base) for each in warnings]
        self._warnings += [error_at(raw, locate(raw, each.pointer), each.detail, base=base) for each in found.warnings]
        return found

    def _is_stored(self, row: IntegrationRow, draft: Draft) -> bool:
        """Whether a draft is what is stored, to the last secret."""
        vault = self._target.vault
        return vault is not None and has_content_of(vault, row, draft)

    def _globals(self, joined: ConfigDocuments) -> None:
        """Other keys: what does not exist is an error, and of what does it is told that it is not imported."""
        for key, document in joined.owners.items():
            if key not in GlobalSettings.model_fields:
                self._validated({key: joined.globals[key]}, joined)
            elif key not in ("version", "callers") and Path(document.file).absolute() not in self._target.files:
                self._warn(document, (key,), _NOTICE)
        rules = self._target.side.store
        allowed = set() if rules is None else set(map(str, rules.allow_private))
        written = mapping(joined.globals.get("network")).get("allow_private")
        if isinstance(written, list) and not set(map(str, written)) <= allowed:
            text = "does not count for stored integrations, which dial global addresses and store.allow_private"
            self._warn(joined.owners["network"], ("network", "allow_private"), text)

    def _validated(self, values: Mapping[str, Any], joined: ConfigDocuments) -> None:
        """Report what is wrong with global keys."""

        def root(loc: Loc) -> LocatedMapping:
            return joined.owners.get(str(loc[0]), joined.documents[0]) if loc else joined.documents[0]

        context = Context("file")
        try:
            GlobalSettings.model_validate({"version": 1, **values}, context=context)
        except ValidationError as error:
            found = findings_of(error, GlobalSettings, root, context)
            self.errors += [error_of(root(each.loc), each) for each in found]

    def _every_caller(self, joined: ConfigDocuments, reader: SecretReader) -> None:
        if "callers" not in joined.globals:
            return
        written, root = joined.globals["callers"], joined.owners["callers"]
        self._validated({"callers": written}, joined)
        snapshot, state = self._target.snapshot, self._target.state
        known = {
            "integrations": {*snapshot.integrations, *state.integrations, *joined.integrations},
            "presets": {*snapshot.presets, *state.presets, *joined.presets},
        }
        digests: dict[str, str] = dict(self._digests())
        for name, raw in mapping(written).items():
            try:
                check_name(name)
            except ValueError:
                # Reported with all others, here and below; what is no name is not repeated.
                continue
            try:
                settings = CallerSettings.model_validate(raw, context=Context("file"))
            except ValueError:
                self._outcomes["caller", name] = "refused"
                continue
            found = list(self._caller(name, settings, reader, digests))
            self.errors += [error_of(root, each) for each in found]
            if found:
                self._outcomes["caller", name] = "refused"
                self._callers.pop(name, None)
                continue
            place: Loc = ("callers", name)
            if any(caller.name == name for caller in self._target.side.callers.values()):
                text = "a config file in use has a caller of this name, which counts until it is removed there"
                self._warn(root, place, text)
            for key, ids in (("integrations", settings.integrations), ("presets", settings.presets)):
                for index, each in enumerate(ids or ()):
                    if each not in known[key]:
                        self._warn(root, (*place, key, index), f"no {key[:-1]} has this ID yet", key=False)

    def _digests(self) -> Iterator[tuple[str, str]]:
        """Who has which token, by its SHA-256."""
        for digest, caller in self._target.side.callers.items():
            yield digest.hex(), caller.name
        for row in self._target.state.callers.values():
            yield row.token_sha256, row.id

    def _caller(
        self, name: str, settings: CallerSettings, reader: SecretReader, digests: dict[str, str]
    ) -> Iterator[Finding]:
        """Judge a caller: what keeps it from the store."""
        place: Loc = ("callers", name)
        if ("caller", name) in self._target.state.altered:
            yield Finding(place, "its row in the store was altered: delete it there first", key=True)
        try:
            token = _token(settings, reader)
        except ValueError as error:
            yield Finding((*place, "token"), str(error))
            return
        digest = digest_of(token)
        owner = digests.setdefault(digest, name)
        if owner != name:
            yield Finding((*place, "token"), f"must differ from the token of caller {owner}")
        granted, presets = _granted(settings.integrations), _granted(settings.presets)
        before, now = self._target.state.callers.get(name), int(self._now)
        if before is None:
            row = CallerRow(
                row=new_row(), id=name, token_sha256=digest, integrations=granted, presets=presets, created_at=now
            )
        elif (before.token_sha256, before.integrations, before.presets) == (digest, granted, presets):
            self._outcomes["caller", name] = "kept"
            return
        else:
            row = replace(before, token_sha256=digest, integrations=granted, presets=presets)
            if not self._replace:
                yield Finding(place, _EXISTS, key=True)
        self._outcomes["caller", name] = "made" if before is None else "changed"
        self._callers[name] = replace(row, updated_at=now, updated_by=WHO), before

    def _overlaps(self, joined: ConfigDocuments) -> None:
        """Targets that two integrations of one caller would cover, where it alone must tell whose a request is."""
        snapshot = self._target.snapshot
        if snapshot.matching is None:
            return
        stored = snapshot.stored or Stored()
        saved = {name: build_draft(name, each.draft, stored, self._now) for name, each in self._savings.items()}
        callers = {
            name: Caller(name, None if row.integrations is None else frozenset(row.integrations))
            for name, (row, _) in self._callers.items()
        }
        for found in overlaps_beside(snapshot, saved, callers):
            pair = f"integrations {found.first} and {found.second}"
            text = f"{pair} would both cover {found.where}, and one caller lists both: narrow one"
            mine = [name for name in (found.second, found.first) if name in saved]
            lists = [name for name, caller in callers.items() if all(map(caller.lists, (found.first, found.second)))]
            if mine:
                place: Loc = ("integrations", mine[0])
                self._outcomes["integration", mine[0]] = "refused"
                root = joined.integrations[mine[0]]
            else:
                place = ("callers", lists[0])
                self._outcomes["caller", lists[0]] = "refused"
                root = joined.owners["callers"]
            self.errors.append(error_at(root, place, text, key=True))

    def _warn(self, root: LocatedMapping, place: Loc, text: str, *, key: bool = True) -> None:
        self._warnings.append(error_at(root, place, text, key=key))


def _granted(ids: Iterable[str] | None) -> tuple[str, ...] | None:
    """What a caller may use, each once; None: all."""
    return None if ids is None else tuple(dict.fromkeys(ids))


def _token(settings: CallerSettings, reader: SecretReader) -> str:
    """A caller's token. Raises ValueError."""
    token = reader(settings.token)
    if len(token) < SHORTEST_TOKEN:
        way_out = "whoever has a copy of the store may guess as long as they like"
        raise ValueError(f"must have at least {SHORTEST_TOKEN} characters in the store: {way_out}")
    return token


def lines(imported: ImportResult, *, dry_run: bool) -> list[str]:
    """What came of an import, for people."""
    refused = bool(imported.errors)
    if not imported.items and not refused:
        return ["nothing to import: it has no integrations, no presets and no callers"]
    shown = [each for each in imported.items if dry_run or each.outcome == "refused" or not refused]
    return [
        *(f"{each.outcome:<9}{each.kind} {each.id}" for each in shown),
        *map(str, imported.errors),
        *(f"warning: {each}" for each in imported.warnings),
        *(["dry run: nothing was changed"] if dry_run else ["nothing was imported"] if refused else []),
    ]


def described(imported: ImportResult) -> dict[str, Any]:
    """The same for machines."""
    return {
        "ok": not imported.errors,
        "done": imported.done,
        "items": [each._asdict() for each in imported.items],
        "faults": [each._asdict() for each in imported.errors],
        "warnings": [each._asdict() for each in imported.warnings],
    }


def _sorted(found: list[ConfigError]) -> tuple[ConfigError, ...]:
    return tuple(sorted(dict.fromkeys(found)))


@click.command()
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show the result for each ID, with every error, and change nothing.")
@click.option("--replace", is_flag=True, help="Overwrite objects in the store that differ, which otherwise are errors.")
@click.argument("path", metavar="PATH")
def command(config: str | None, as_json: bool, dry_run: bool, replace: bool, path: str) -> None:
    """Import config files into the store.

    The command imports all integrations, presets and callers, or none. PATH is a file or a folder, read as
    `sidekey run` reads it. The command reads and seals the secrets that the config names, and stores CAs and
    certificates inline. A running Sidekey uses the result within two seconds.
    """
    loader = loader_of(config)
    loaded, _ = load_with_store(loader)
    try:
        wanted = ImportOptions(Path(path), os.environ, replace=replace, dry_run=dry_run)
        imported = import_config(loader, loaded, wanted)
    except (StartError, StoreError) as error:
        fail(f"store: {error}")
    except ImportFailed as error:
        fail(error)
    if as_json:
        print_json(described(imported))
    else:
        for line in lines(imported, dry_run=dry_run):
            click.echo(line)
    raise SystemExit(1 if imported.errors else 0)
