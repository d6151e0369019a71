"""`/presets/{id}/preview` and `/test`, and of drafts: the request that a preset makes, to be looked at or sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from sidekey.admin.api.answer import YAML, Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.named import name_in
from sidekey.admin.api.preset_documents import ABOUT
from sidekey.admin.api.problems import ItemError, invalid, not_found
from sidekey.admin.api.route import JSON, Route
from sidekey.admin.api.saving import document_in
from sidekey.admin.api.service import Service
from sidekey.admin.api.trials import timed
from sidekey.core.parameters import FORM
from sidekey.core.templates import essence_of
from sidekey.credentials.fields import mapping
from sidekey.errors import Problem
from sidekey.observe.metrics import UNKNOWN
from sidekey.preset_preview import Preview, made
from sidekey.preset_preview import preview as preview_of
from sidekey.runtime.snapshot import Preset, Snapshot
from sidekey.settings.presets import read_preset
from sidekey.settings.stored.presets import PresetDraft, prepare_preset
from sidekey.settings.stored.saving import Invalid
from sidekey.settings.values import check_content_type

_KEYS: Final = ("parameters", "payload", "content_type")


async def preview(service: Service, ask: Ask) -> Answer:
    """Show what a preset makes of parameters, or of a payload."""
    preset = _served(service, ask)
    _, shown = await service.validate(_looked_at, service.snapshot, preset, ask.document)
    return Answer.of(_shown(preset.id, shown))


async def test(service: Service, ask: Ask) -> Answer:
    """Send it."""
    preset = _served(service, ask)
    sent, _ = await service.validate(_looked_at, service.snapshot, preset, ask.document)
    service.admit_test(ask.operator)
    begun = await service.begin_test(ask, "preset", preset.id, preset.row)
    began = time.perf_counter()
    result = timed(await service.probe_preset(preset, sent.data, sent.content_type, False), began)
    service.last_preset_tests.note(preset, ask.operator.name, result)
    await service.end_test(begun, result)
    return Answer.of(result)


async def preview_draft(service: Service, ask: Ask) -> Answer:
    """Show the request of a preset that is not saved. Without a sample, examples are filled in."""
    # One snapshot for both: in the next one its integration may be gone.
    snapshot = service.snapshot
    draft = await service.validate(_draft_in, snapshot, {"sample": sample_of(ask.document), **ask.document})
    _, shown = await service.validate(_looked_at, snapshot, draft.preset, draft.sample, "/sample")
    return Answer.of(_shown(draft.name or None, shown))


async def test_draft(service: Service, ask: Ask) -> Answer:
    """Send that, with the credential of the integration that it names."""
    snapshot = service.snapshot
    draft = await service.validate(_draft_in, snapshot, ask.document)
    sent, _ = await service.validate(_looked_at, snapshot, draft.preset, draft.sample, "/sample")
    service.admit_test(ask.operator)
    row = snapshot.integrations[draft.preset.rules.integration].row
    begun = await service.begin_test(ask, "preset", draft.name, row)
    began = time.perf_counter()
    result = timed(await service.probe_preset(draft.preset, sent.data, sent.content_type, True), began)
    await service.end_test(begun, result)
    return Answer.of(result)


def _served(service: Service, ask: Ask) -> Preset:
    found = service.snapshot.presets.get(ask.names["id"])
    if found is None:
        raise not_found()
    return found


class _Draft(NamedTuple):
    """A preset that is not saved, its future ID, if any, and the sample of what a caller would send."""

    preset: Preset
    name: str
    sample: Mapping[str, Any]


def _draft_in(snapshot: Snapshot, document: Mapping[str, Any]) -> _Draft:
    """Raises ApiProblem with all that is wrong with the draft and its sample."""
    sample = document.get("sample", {})
    if not isinstance(sample, Mapping):
        raise invalid([ItemError("/sample", "must be an object: what a caller would send")])
    name, errors = name_in(document, "id") if document.get("id") is not None else ("", [])
    written = document_in(document, {*ABOUT, "sample"})
    # What counts requests by presets knows none that is not served.
    found = prepare_preset(UNKNOWN, written, snapshot.integrations, time.time(), require_fetched=True)
    if isinstance(found, PresetDraft) and not errors:
        return _Draft(found.preset, name, sample)
    errors += [ItemError(*each) for each in (found.errors if isinstance(found, Invalid) else ())]
    # What would be taken is known where the document is well by itself.
    preset = read_preset(UNKNOWN, written).preset
    sent, wrong = _sent(sample, preset) if preset is not None else (None, [*_key_errors(sample)])
    if preset is not None and sent is not None:
        wrong += _parameter_errors(made(snapshot, preset, *sent))
    raise invalid([*errors, *_below("/sample", wrong)])


def _below(where: str, errors: Iterable[ItemError]) -> list[ItemError]:
    return [ItemError(f"{where}{each.pointer}", each.detail) for each in errors]


class _Sent(NamedTuple):
    """What a caller would send: the bytes, and their Content-Type; empty: the one that the preset asks for."""

    data: bytes
    content_type: str


def _looked_at(snapshot: Snapshot, preset: Preset, sample: Mapping[str, Any], where: str = "") -> tuple[_Sent, Preview]:
    """What a caller would send, and what comes of it. Raises ApiProblem with all that is wrong with the sample.

    `where` is the pointer of the sample in the body.
    """
    sent, errors = _sent(sample, preset)
    if sent is None:
        raise invalid(_below(where, errors))
    shown = preview_of(snapshot, preset, *sent)
    if wrong := _parameter_errors(shown.problem):
        raise invalid(_below(where, wrong))
    return sent, shown


def _parameter_errors(found: object) -> list[ItemError]:
    if not isinstance(found, Problem) or found.code != "parameters_invalid":
        return []
    return [ItemError(f"/parameters{where}", detail) for where, detail in found.errors]


def _sent(document: Mapping[str, Any], preset: Preset) -> tuple[_Sent | None, list[ItemError]]:
    errors = list(_key_errors(document))
    if preset.rules.has_body:
        text = "must be left out: the preset has a body, which is filled with parameters"
        errors += [ItemError(f"/{key}", text) for key in ("payload", "content_type") if key in document]
        data = json.dumps(document.get("parameters", {}), ensure_ascii=False)
    else:
        if "parameters" in document:
            text = "must be left out: the preset has no body to be filled, so that callers send a payload"
            errors.append(ItemError("/parameters", text))
        data = str(document.get("payload", ""))
    if errors:
        return None, errors
    return _Sent(data.encode(), document.get("content_type", "")), []


def _key_errors(document: Mapping[str, Any]) -> Iterator[ItemError]:
    """What is wrong with a sample, whatever the preset takes."""
    if not document.keys() <= set(_KEYS):
        yield ItemError("", f"must have no other keys than {', '.join(_KEYS)}")
    if not isinstance(document.get("parameters", {}), Mapping):
        yield ItemError("/parameters", "must be an object of parameters by name")
    if not isinstance(document.get("payload", ""), str):
        yield ItemError("/payload", "must be a text, which is sent in UTF-8")
    content_type = document.get("content_type")
    try:
        check_content_type(
            content_type if isinstance(content_type, str) else "" if "content_type" in document else "a/b"
        )
    except ValueError as error:
        yield ItemError("/content_type", str(error))


def sample_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Make an example of what a caller would send to the preset of a document, which may be invalid."""
    if document.get("body") is None:
        return {"payload": _PAYLOADS.get(essence_of(str(document.get("content_type") or JSON)), "example")}
    declared = mapping(document.get("parameters"))
    return {"parameters": {name: _example(name, mapping(each)) for name, each in declared.items()}}


_PAYLOADS: Final = {
    JSON: '{"event": "example"}',
    FORM: "event=example",
    "application/xml": "<event>example</event>",
}


def _example(name: str, parameter: Mapping[str, Any]) -> Any:
    """Return the example, the default or an allowed value of a parameter, else a value of its type."""
    enum, length = parameter.get("enum"), parameter.get("max_length")
    for key in ("example", "default"):
        if parameter.get(key) is not None:
            return parameter[key]
    if isinstance(enum, list) and enum:
        return enum[0]
    examples: dict[Any, Any] = {"number": 1.5, "boolean": True}
    return examples.get(str(parameter.get("type")), name[:length] if isinstance(length, int) else name)


def _shown(name: str | None, shown: Preview) -> dict[str, Any]:
    """The request, or why none would be made; of what the credential is, only where it goes."""
    found = shown.as_json()
    return {"preset": name, **{key: found.get(key) for key in _TOLD}}


_TOLD: Final = ("integration", "request", "credential", "code", "reason")


_TRIAL: Final = partial(Route, method="POST", body="PresetTrial", codes=("not_found", "invalid"))
_DRAFT: Final = partial(
    Route, method="POST", role="editor", body="PresetDraftTrial", accepts=(JSON, YAML), codes=("invalid",)
)

ROUTES: Final = (
    _TRIAL(
        path="/presets/{id}/preview",
        name="previewPreset",
        summary="Show the request that a preset makes from parameters or a payload, without sending it.",
        role="viewer",
        handle=preview,
        gives="PresetPreview",
    ),
    _TRIAL(
        path="/presets/{id}/test",
        name="testPreset",
        summary="Send the request of a preset, on which the upstream may act. Any 2xx is success.",
        role="editor",
        handle=test,
        gives="TestResult",
        codes=("not_found", "invalid", "too_many"),
    ),
    _DRAFT(
        path="/drafts/preset/preview",
        name="previewPresetDraft",
        summary="Show the request of an unsaved preset, without sending it. Without `sample`, examples are filled in.",
        handle=preview_draft,
        gives="PresetPreview",
    ),
    _DRAFT(
        path="/drafts/preset/test",
        name="testPresetDraft",
        summary="Send the request of an unsaved preset, on which the upstream may act, with its integration's "
        "credential.",
        handle=test_draft,
        gives="TestResult",
        codes=("invalid", "too_many"),
    ),
)
