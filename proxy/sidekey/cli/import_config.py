"""`sidekey import`: import integrations, presets and callers of config files into the store, with their secrets."""

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

from sidekey.cli.config import AUDIT_WHO, audit_source, create_loader, load_with_store
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_json
from sidekey.config.build.admin import MIN_TOKEN_LENGTH
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
from sidekey.config.secrets import RecordingReader, SecretReader
from sidekey.config.stored.build import build_draft, build_unserved, find_new_overlaps
from sidekey.config.stored.document import MAX_SIZE, MalformedError, check_limits
from sidekey.config.stored.presets import PresetDraft, prepare_preset
from sidekey.config.stored.rows import (
    build_integration_row,
    build_preset_row,
    caller_fields,
    has_content_of,
    previous_integration,
)
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.transfer import loc_of_pointer, read_references
from sidekey.config.stored.validate import Draft, PreviousIntegration, assess, text_errors
from sidekey.config.validate import validate
from sidekey.credentials.context import Context, file_only_keys
from sidekey.credentials.fields import Reference, mapping
from sidekey.errors import StartError
from sidekey.policy.callers import Caller
from sidekey.snapshot.snapshot import Integration, Snapshot, StoredObjects
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreError
from sidekey.store.records import CallerRow, DocumentRow, IntegrationRow, PresetRow, Record, digest_of, new_row_id
from sidekey.store.state import Put, State
from sidekey.store.store import Store
from sidekey.store_manager import StoreManager

R = TypeVar("R", bound=DocumentRow)
D = TypeVar("D", Draft, PresetDraft)

Kind = Literal["integration", "preset", "caller"]
Outcome = Literal["made", "changed", "kept", "refused"]

_DIFFERS: Final = "is in the store already and differs: use --replace to overwrite it"
_NOT_IMPORTED: Final = "is not imported: only integrations, presets and callers are"


class ImportFailed(Exception):
    """Nothing was imported. The message says why and what to do."""


class ImportItem(NamedTuple):
    """What the import did, or would do, with an integration, preset or caller."""

    kind: Kind
    id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import, or of a dry run if `done` is False. With `errors`, nothing was imported."""

    items: tuple[ImportItem, ...]
    errors: tuple[ConfigError, ...]
    warnings: tuple[ConfigError, ...]
    done: bool


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of `sidekey import`. `environ` has the variables that the config at `path` references.

    `replace` overwrites stored objects that differ, `dry_run` changes nothing.
    """

    path: Path
    environ: Mapping[str, str] = field(repr=False)
    replace: bool = False
    dry_run: bool = False


def import_config(loader: Loader, loaded: Loaded, options: ImportOptions) -> ImportResult:
    """Import integrations, presets and callers of a config into the store of the config in use.

    `loader` has loaded the config in use as `loaded`. Raises StoreError, StartError, ImportFailed.
    """
    files = loaded.files
    if files is None or files.store is None:
        raise ValueError("a config with a store is needed")
    rules = files.store

    def target(state: State, sealing_keys: SealingKeys | None) -> _Target:
        return _Target(files, state, loader.combine(loaded), sealing_keys, loaded.stamps)

    if options.dry_run and rules.path is not None and not rules.path.exists():
        # The first import creates the store.
        return _Plan(target(State(), None), options).result(done=False)

    async def main() -> ImportResult:
        manager = await StoreManager.open(rules, loader, create=not options.dry_run)
        try:
            return await _import(
                manager.store, target(manager.store.state, manager.sealing_keys), manager.sealing_keys, options
            )
        finally:
            await manager.close()

    return asyncio.run(main())


async def _import(store: Store, target: _Target, sealing_keys: SealingKeys, options: ImportOptions) -> ImportResult:
    plan = _Plan(target, options)
    if options.dry_run or plan.errors:
        return plan.result(done=False)
    changes, entries = plan.changes(sealing_keys)
    if changes:
        try:
            await store.commit(changes, *entries)
        except (Changed, Exists) as error:
            raise ImportFailed(f"nothing was imported: meanwhile {error}; run it again") from None
    return plan.result(done=True)


class _Target(NamedTuple):
    """The store to import into, and the config in use. `paths` has its files.

    `sealing_keys` is None if there is no store yet.
    """

    files: FileContent
    state: State
    snapshot: Snapshot
    sealing_keys: SealingKeys | None
    paths: Container[Path]


@dataclass(frozen=True, slots=True)
class _IntegrationChange:
    """A validated draft of an integration, and the stored integration that it replaces."""

    draft: Draft = field(repr=False)
    row: IntegrationRow | None
    previous: PreviousIntegration | None


class _Subject(NamedTuple):
    """An integration or a preset to import. `in_file` is True if a config file in use has its ID, which then wins."""

    kind: Literal["integration", "preset"]
    id: str
    in_file: bool

    @property
    def loc(self) -> Loc:
        """Its location in a config."""
        return f"{self.kind}s", self.id


class _Plan:
    """Validates the config and plans the changes. Collects every error before anything is written."""

    def __init__(self, target: _Target, options: ImportOptions) -> None:
        self.errors: list[ConfigError] = []
        self._target = target
        self._replace = options.replace
        self._warnings: list[ConfigError] = []
        self._outcomes: dict[tuple[Kind, str], Outcome] = {}
        self._integrations: dict[str, _IntegrationChange] = {}
        self._presets: dict[str, tuple[PresetDraft, PresetRow | None]] = {}
        self._callers: dict[str, tuple[CallerRow, CallerRow | None]] = {}
        self._now = time.time()
        documents = read_config(options.path)
        self.errors += documents.errors
        reader = SecretReader(documents.folder, options.environ)
        recorder = RecordingReader(documents.folder, options.environ, StampCache())
        for name, document in documents.integrations.items():
            self._plan_integration(name, document, reader, recorder)
        self._plan_presets(documents)
        self._check_globals(documents)
        self._plan_callers(documents, reader)
        self._check_overlaps(documents)

    def result(self, *, done: bool) -> ImportResult:
        """Return the result. `done` is True if the changes were committed."""
        items = tuple(ImportItem(kind, name, outcome) for (kind, name), outcome in sorted(self._outcomes.items()))
        return ImportResult(items, _sorted(self.errors), _sorted(self._warnings), done)

    def changes(self, sealing_keys: SealingKeys) -> tuple[list[Put], list[AuditEntry]]:
        """Seal the rows to write, and build an audit entry for each."""
        changes: list[Put] = []
        entries: list[AuditEntry] = []
        now = int(self._now)

        def put(record: Record, previous_row: Record | None, fields: tuple[str, ...]) -> None:
            changes.append(Put(record, None if previous_row is None else previous_row.version))
            entries.append(
                AuditEntry(
                    who=AUDIT_WHO,
                    action="import",
                    kind=record.kind,
                    id=record.id,
                    row_id=record.row_id,
                    fields=fields,
                    source=audit_source(),
                )
            )

        for name, change in self._integrations.items():
            integration = build_integration_row(
                sealing_keys, name, change.draft, change.row, change.previous, by=AUDIT_WHO, now=now
            )
            put(integration.row, change.row, integration.fields)
        for name, (draft, row) in self._presets.items():
            preset = build_preset_row(name, draft, row, by=AUDIT_WHO, now=now)
            put(preset.row, row, preset.fields)
        for caller, previous_caller in self._callers.values():
            put(caller, previous_caller, caller_fields(caller, previous_caller))
        return changes, entries

    def _plan_integration(
        self, name: str, document: LocatedMapping, reader: SecretReader, recorder: RecordingReader
    ) -> None:
        row = self._target.state.integrations.get(name)
        previous = previous_integration(row)

        def assess_raw(raw: LocatedMapping) -> Draft | list[ConfigError]:
            return self._assess(name, raw, previous, reader, recorder)

        in_file = name in self._target.files.integrations
        draft = self._accept(_Subject("integration", name, in_file), document, row, assess_raw, self._is_stored)
        if draft is not None:
            self._integrations[name] = _IntegrationChange(draft, row, previous)

    def _accept(
        self,
        subject: _Subject,
        document: LocatedMapping,
        row: R | None,
        assess_raw: Callable[[LocatedMapping], D | list[ConfigError]],
        is_stored: Callable[[R, D], bool],
    ) -> D | None:
        """Return the draft to save, or None if it is stored already or has errors. Add the errors to `errors`.

        `is_stored` returns True if a row has the content of a draft.
        """
        loc = subject.loc
        raw = document[f"{subject.kind}s"][subject.id]
        try:
            check_name(subject.id)
        except ValueError as error:
            # Never repeat the ID: it may be a misplaced secret.
            self.errors.append(error_at(document, loc, str(error), at_key=True))
            return None
        result = assess_raw(raw) if isinstance(raw, LocatedMapping) else [error_at(document, loc, "must be a mapping")]
        outcome: Outcome = "made" if row is None else "changed"
        if row is not None and not isinstance(result, list):
            if is_stored(row, result):
                outcome = "kept"
            elif not self._replace:
                result = [error_at(document, loc, _DIFFERS, at_key=True)]
        if isinstance(result, list):
            self.errors += result
            self._outcomes[subject.kind, subject.id] = "refused"
            return None
        self._outcomes[subject.kind, subject.id] = outcome
        if subject.in_file:
            text = "a config file in use has this ID too: the imported one is used once you remove it from the file"
            self._warn(document, subject.loc, text)
        return None if outcome == "kept" else result

    def _plan_presets(self, documents: ConfigDocuments) -> None:
        """Validate imported presets, and presets in use, against the integrations after the import."""
        stored = self._target.snapshot.stored or StoredObjects()
        # The drafts have all their secrets, so the validation of presets is complete.
        saved = {
            name: build_unserved(name, change.draft.settings, change.draft.entered, stored, self._now)
            for name, change in self._integrations.items()
            if name not in self._target.files.integrations
        }
        integrations = {**self._target.snapshot.integrations, **saved}
        for name, document in documents.presets.items():
            self._plan_preset(name, document, integrations)
        others = {
            name: preset for name, preset in self._target.snapshot.presets.items() if name not in documents.presets
        }
        for name, integration in saved.items():
            for preset, reasons in broken_presets(integration, others).items():
                text = f"preset {preset} uses it and would become invalid: {'; '.join(reasons)}"
                self.errors.append(error_at(documents.integrations[name], ("integrations", name), text, at_key=True))
                self._outcomes["integration", name] = "refused"

    def _plan_preset(self, name: str, document: LocatedMapping, integrations: Mapping[str, Integration]) -> None:
        row = self._target.state.presets.get(name)

        def assess_raw(raw: LocatedMapping) -> PresetDraft | list[ConfigError]:
            result = prepare_preset(name, raw, integrations, self._now)
            if isinstance(result, PresetDraft):
                return result
            # The errors of a refused integration are reported with the integration.
            refused = self._outcomes.get(("integration", str(raw.get("integration")))) == "refused"
            errors = [error for error in result.errors if not refused or error.pointer != "/integration"]
            base: Loc = ("presets", name)
            return [error_at(raw, loc_of_pointer(raw, error.pointer), error.detail, base=base) for error in errors]

        def is_stored(row: PresetRow, draft: PresetDraft) -> bool:
            return row.verified and row.document == draft.text

        in_file = name in self._target.files.presets
        draft = self._accept(_Subject("preset", name, in_file), document, row, assess_raw, is_stored)
        if draft is not None:
            self._presets[name] = draft, row

    def _assess(
        self,
        name: str,
        raw: LocatedMapping,
        previous: PreviousIntegration | None,
        reader: SecretReader,
        recorder: RecordingReader,
    ) -> Draft | list[ConfigError]:
        """Return the draft of an integration, or all of its errors."""
        base: Loc = ("integrations", name)
        in_flight = self._target.snapshot.limits.in_flight
        # First build it as `sidekey run` would, so that the errors use the keys and values of a config file.
        trust_of = partial(build_trust, read=reader)
        trust = self._target.files.trust
        builder = FileBuilder(reader, recorder, trust, in_flight, trust_of, now=self._now, store="database")
        findings = builder.build(name, raw, None).current_findings()
        errors = [error_of(raw, finding, base=base) for kind, finding in findings if kind != "warning"]
        file_only = file_only_keys(IntegrationSettings).items()
        store_errors = chain(
            (((key,), reason) for key, reason in file_only if key in raw),
            text_errors(raw),
        )
        errors += [error_at(raw, loc, message, base=base) for loc, message in store_errors]
        validated = validate(raw, Context("file"))
        settings = validated.settings
        if settings is None:
            return errors
        document, unread, warnings = read_references(raw, settings, reader, validated.expansion.source_loc)
        reported = {error.message for error in errors}
        errors += [error_of(raw, finding, base=base) for finding in unread if finding.message not in reported]
        if errors:
            return errors
        try:
            check_limits(document)
        except MalformedError as error:
            return [error_at(raw, (), str(error), base=base)]
        assessed = assess(document, previous, in_flight=in_flight, now=self._now)
        draft = assessed.draft
        if draft is None:
            return [
                error_at(raw, loc_of_pointer(raw, error.pointer), error.detail, base=base) for error in assessed.errors
            ]
        if len(draft.saved.text().encode()) > MAX_SIZE:
            text = f"must have at most {MAX_SIZE >> 10} KiB in the store, with its CA and certificates"
            return [error_at(raw, (), text, base=base)]
        self._warnings += [error_of(raw, warning, base=base) for warning in warnings]
        self._warnings += [
            error_at(raw, loc_of_pointer(raw, warning.pointer), warning.detail, base=base) for warning in draft.warnings
        ]
        return draft

    def _is_stored(self, row: IntegrationRow, draft: Draft) -> bool:
        """Return True if the draft equals the stored integration, secrets included."""
        sealing_keys = self._target.sealing_keys
        return sealing_keys is not None and has_content_of(sealing_keys, row, draft)

    def _check_globals(self, documents: ConfigDocuments) -> None:
        """Report unknown global keys as errors and known ones as not imported."""
        for key, document in documents.owners.items():
            if key not in GlobalSettings.model_fields:
                self._check_values({key: documents.globals[key]}, documents)
            elif key not in ("version", "callers") and Path(document.file).absolute() not in self._target.paths:
                self._warn(document, (key,), _NOT_IMPORTED)
        rules = self._target.files.store
        store_allowed = set() if rules is None else set(map(str, rules.allow_private))
        file_allowed = mapping(documents.globals.get("network")).get("allow_private")
        if isinstance(file_allowed, list) and not set(map(str, file_allowed)) <= store_allowed:
            text = "does not apply to stored integrations, which may reach global addresses and store.allow_private"
            self._warn(documents.owners["network"], ("network", "allow_private"), text)

    def _check_values(self, values: Mapping[str, Any], documents: ConfigDocuments) -> None:
        """Add the errors of global keys."""

        def root(loc: Loc) -> LocatedMapping:
            return documents.owners.get(str(loc[0]), documents.documents[0]) if loc else documents.documents[0]

        context = Context("file")
        try:
            GlobalSettings.model_validate({"version": 1, **values}, context=context)
        except ValidationError as error:
            findings = findings_of(error, GlobalSettings, root, context)
            self.errors += [error_of(root(finding.loc), finding) for finding in findings]

    def _plan_callers(self, documents: ConfigDocuments, reader: SecretReader) -> None:
        if "callers" not in documents.globals:
            return
        callers, root = documents.globals["callers"], documents.owners["callers"]
        self._check_values({"callers": callers}, documents)
        snapshot, state = self._target.snapshot, self._target.state
        known = {
            "integrations": {*snapshot.integrations, *state.integrations, *documents.integrations},
            "presets": {*snapshot.presets, *state.presets, *documents.presets},
        }
        owners: dict[str, str] = dict(self._token_owners())
        for name, raw in mapping(callers).items():
            try:
                check_name(name)
            except ValueError:
                # `_check_values` has reported this error, and the next, without repeating the name.
                continue
            try:
                settings = CallerSettings.model_validate(raw, context=Context("file"))
            except ValueError:
                self._outcomes["caller", name] = "refused"
                continue
            findings = list(self._plan_caller(name, settings, reader, owners))
            self.errors += [error_of(root, finding) for finding in findings]
            if findings:
                self._outcomes["caller", name] = "refused"
                self._callers.pop(name, None)
                continue
            loc: Loc = ("callers", name)
            if any(caller.name == name for caller in self._target.files.callers.values()):
                text = "a config file in use has this caller too: the imported one is used once you remove it there"
                self._warn(root, loc, text)
            for key, ids in (("integrations", settings.integrations), ("presets", settings.presets)):
                for index, item in enumerate(ids or ()):
                    if item not in known[key]:
                        self._warn(root, (*loc, key, index), f"no {key[:-1]} has this ID yet", key=False)

    def _token_owners(self) -> Iterator[tuple[str, str]]:
        """Yield the SHA-256 of each caller's token, with the caller's name."""
        for digest, caller in self._target.files.callers.items():
            yield digest.hex(), caller.name
        for row in self._target.state.callers.values():
            yield row.token_sha256, row.id

    def _plan_caller(
        self, name: str, settings: CallerSettings, reader: SecretReader, owners: dict[str, str]
    ) -> Iterator[Finding]:
        """Plan the change of a caller, and yield its errors."""
        loc: Loc = ("callers", name)
        if ("caller", name) in self._target.state.altered:
            yield Finding(loc, "its row in the store was altered: delete it there first", at_key=True)
        for key in ("certificate", "jwt"):
            if getattr(settings, key) is not None:
                yield Finding((*loc, key), "only a caller in a file has this key: leave the caller in its file")
        if settings.token is None:
            return
        try:
            token = _read_token(settings.token, reader)
        except ValueError as error:
            yield Finding((*loc, "token"), str(error))
            return
        digest = digest_of(token)
        owner = owners.setdefault(digest, name)
        if owner != name:
            yield Finding((*loc, "token"), f"must differ from the token of caller {owner}")
        integrations, presets = _distinct(settings.integrations), _distinct(settings.presets)
        previous, now = self._target.state.callers.get(name), int(self._now)
        if previous is None:
            row = CallerRow(
                row_id=new_row_id(),
                id=name,
                token_sha256=digest,
                integrations=integrations,
                presets=presets,
                created_at=now,
            )
        elif (previous.token_sha256, previous.integrations, previous.presets) == (digest, integrations, presets):
            self._outcomes["caller", name] = "kept"
            return
        else:
            row = replace(previous, token_sha256=digest, integrations=integrations, presets=presets)
            if not self._replace:
                yield Finding(loc, _DIFFERS, at_key=True)
        self._outcomes["caller", name] = "made" if previous is None else "changed"
        self._callers[name] = replace(row, updated_at=now, updated_by=AUDIT_WHO), previous

    def _check_overlaps(self, documents: ConfigDocuments) -> None:
        """Report integrations of one caller that would cover the same target, if requests are matched by host."""
        snapshot = self._target.snapshot
        if snapshot.matching is None:
            return
        stored = snapshot.stored or StoredObjects()
        saved = {
            name: build_draft(name, change.draft, stored, self._now) for name, change in self._integrations.items()
        }
        callers = {
            name: Caller(name, None if row.integrations is None else frozenset(row.integrations))
            for name, (row, _) in self._callers.items()
        }
        for overlap in find_new_overlaps(snapshot, saved, callers):
            pair = f"integrations {overlap.first} and {overlap.second}"
            text = f"{pair} would both cover {overlap.url}, and one caller lists both: narrow one"
            imported = [name for name in (overlap.second, overlap.first) if name in saved]
            listing = [
                name for name, caller in callers.items() if all(map(caller.lists, (overlap.first, overlap.second)))
            ]
            if imported:
                loc: Loc = ("integrations", imported[0])
                self._outcomes["integration", imported[0]] = "refused"
                root = documents.integrations[imported[0]]
            else:
                loc = ("callers", listing[0])
                self._outcomes["caller", listing[0]] = "refused"
                root = documents.owners["callers"]
            self.errors.append(error_at(root, loc, text, at_key=True))

    def _warn(self, root: LocatedMapping, loc: Loc, text: str, *, key: bool = True) -> None:
        self._warnings.append(error_at(root, loc, text, at_key=key))


def _distinct(ids: Iterable[str] | None) -> tuple[str, ...] | None:
    """Drop duplicate IDs. None, which allows all, stays None."""
    return None if ids is None else tuple(dict.fromkeys(ids))


def _read_token(reference: Reference, reader: SecretReader) -> str:
    """Read a caller's token. Raises ValueError."""
    token = reader(reference)
    if len(token) < MIN_TOKEN_LENGTH:
        reason = "anyone with a copy of the store can try to guess it"
        raise ValueError(f"must have at least {MIN_TOKEN_LENGTH} characters in the store: {reason}")
    return token


def lines(result: ImportResult, *, dry_run: bool) -> list[str]:
    """Format the result of an import as text."""
    refused = bool(result.errors)
    if not result.items and not refused:
        return ["nothing to import: it has no integrations, no presets and no callers"]
    shown = [item for item in result.items if dry_run or item.outcome == "refused" or not refused]
    return [
        *(f"{item.outcome:<9}{item.kind} {item.id}" for item in shown),
        *map(str, result.errors),
        *(f"warning: {warning}" for warning in result.warnings),
        *(["dry run: nothing was changed"] if dry_run else ["nothing was imported"] if refused else []),
    ]


def describe(result: ImportResult) -> dict[str, Any]:
    """Build the JSON of the result."""
    return {
        "ok": not result.errors,
        "done": result.done,
        "items": [item._asdict() for item in result.items],
        "faults": [error._asdict() for error in result.errors],
        "warnings": [warning._asdict() for warning in result.warnings],
    }


def _sorted(errors: list[ConfigError]) -> tuple[ConfigError, ...]:
    return tuple(sorted(dict.fromkeys(errors)))


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
    loader = create_loader(config)
    loaded, _ = load_with_store(loader)
    try:
        options = ImportOptions(Path(path), os.environ, replace=replace, dry_run=dry_run)
        result = import_config(loader, loaded, options)
    except (StartError, StoreError) as error:
        fail(f"store: {error}")
    except ImportFailed as error:
        fail(error)
    if as_json:
        print_json(describe(result))
    else:
        for line in lines(result, dry_run=dry_run):
            click.echo(line)
    raise SystemExit(1 if result.errors else 0)
