"""`/presets/{id}/preview` and `/drafts/preset/…`: preview the request of a preset, and test a draft."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from pydantic import Field

from sidekey.api.errors import ApiProblem, ItemError, invalid, not_found
from sidekey.api.handlers.integration_tests import Places, TestResult
from sidekey.api.handlers.presets import PresetDocument, PresetMembers
from sidekey.api.messages import JSON, YAML, ApiRequest, ApiResult
from sidekey.api.models import Body, read_body, read_name, strip_read_only
from sidekey.api.route import Route
from sidekey.api.sender import FilledPreset, SendResult, SubmittedSend, limits_of, new_send
from sidekey.api.service import ApiServices
from sidekey.config.build.presets import parse_preset
from sidekey.config.field_types import ContentType
from sidekey.config.stored.presets import PresetDraft, prepare_preset
from sidekey.config.stored.validate import InvalidPreset
from sidekey.credentials.fields import mapping
from sidekey.diagnostics.preview import Preview, fill_preset
from sidekey.diagnostics.preview import preview as preview_of
from sidekey.errors import Problem
from sidekey.observe.metrics import UNKNOWN
from sidekey.policy.parameters import FORM
from sidekey.presets.template import essence_of
from sidekey.snapshot.snapshot import Preset, Snapshot
from sidekey.store.audit import AuditEntry
from sidekey.store.sends import NewSend


class Content(Body):
    """The content of a request to a preset."""

    parameters: dict[str, Any] = Field(default={}, description="For a preset with a body.")
    payload: str = Field(default="", description="For a preset without a body: the payload, as text.")


class PresetTrial(Content):
    """The content of a request, with the type of a payload."""

    content_type: ContentType = Field(default="", description="The type of the payload. Default: that of the preset.")


class PresetDraftTrial(PresetDocument):
    """The document of a preset, and the content of a request."""

    sample: PresetTrial = PresetTrial()


class PresetRequest(Body):
    """The request that the upstream would get."""

    method: str
    url: str
    headers: list[list[str]] = Field(
        description="Names and values, in order; `[credential]` is in the place of the credential."
    )
    body: str


class PresetPreview(Body):
    """The request of a preset, or why Sidekey would refuse it."""

    preset: str | None = Field(description="Its ID; null: a draft without one.")
    integration: str
    request: PresetRequest | None = Field(description="Null: nothing would be sent.")
    credential: Places | None
    code: str | None = Field(description="Sidekey's own code, if it would refuse the request.")
    reason: str | None


@partial(
    Route,
    "POST",
    "/presets/{id}/preview",
    "previewPreset",
    permission="viewer",
    body=PresetTrial,
    response=PresetPreview,
    codes=("not_found", "invalid"),
)
async def preview(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Show the request that a preset makes from parameters or a payload, without sending it."""
    preset = service.snapshot.presets.get(request.path_parameters["id"])
    if preset is None:
        raise not_found()
    sample = await service.parse_body(PresetTrial, request)
    _, result = await service.run_validation(fill, service.snapshot, preset, sample)
    return ApiResult.of(_describe_preview(preset.id, result))


@partial(
    Route,
    "POST",
    "/drafts/preset/preview",
    "previewPresetDraft",
    permission="editor",
    body=PresetDraftTrial,
    accepts=(JSON, YAML),
    response=PresetPreview,
    codes=("invalid",),
)
async def preview_draft(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Show the request of an unsaved preset, without sending it. Without `sample`, examples are filled in."""
    # Use one snapshot: the next one may lack the integration.
    snapshot = service.snapshot
    body = {"sample": build_sample(request.document), **request.document}
    draft = await service.run_validation(_read_draft, snapshot, body)
    _, result = await service.run_validation(fill, snapshot, draft.preset, draft.sample, "/sample")
    return ApiResult.of(_describe_preview(draft.name or None, result))


@partial(
    Route,
    "POST",
    "/drafts/preset/test",
    "testPresetDraft",
    permission="editor",
    body=PresetDraftTrial,
    accepts=(JSON, YAML),
    response=TestResult,
    codes=("invalid", "too_many", "send_limit", "stopping"),
)
async def test_draft(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Send the request of an unsaved preset, on which the upstream may act, with its integration's credential."""
    snapshot = service.snapshot
    draft = await service.run_validation(_read_draft, snapshot, request.document)
    submitted, draft_preview = await service.run_validation(fill, snapshot, draft.preset, draft.sample, "/sample")
    filled = FilledPreset(draft.preset, submitted.data, submitted.content_type, draft_preview.problem)
    # A draft has no row: the audit entry names the row of its integration.
    row = snapshot.integrations[draft.preset.rules.integration].row

    async def fill_draft() -> FilledPreset:
        return filled

    def build_row(filled: FilledPreset) -> tuple[NewSend, AuditEntry]:
        new, entry = new_send(request, filled, f"draft-{secrets.token_hex(16)}", "")
        return replace(new, preset=""), replace(entry, action="test", id=draft.name, row_id=row)

    operator = request.operator
    service.admit_test(operator)
    started = time.perf_counter()
    result = await service.sender.send(SubmittedSend(operator.identity, limits_of(operator), fill_draft, build_row))
    assert isinstance(result, SendResult)  # noqa: S101  for mypy: the key is random, so no earlier send has it
    return ApiResult.of(TestResult.of(result.outcome, started))


class _Draft(NamedTuple):
    """An unsaved preset, its ID (empty if the document has none), and the content of a request."""

    preset: Preset
    name: str
    sample: PresetTrial


def _read_draft(snapshot: Snapshot, body: Mapping[str, Any]) -> _Draft:
    """Validate a draft and its sample. Raises ApiProblem with all errors."""
    name, errors = read_name(body, "id") if body.get("id") is not None else ("", [])
    document = strip_read_only(body, PresetMembers)
    raw = document.pop("sample", {})
    if not isinstance(raw, Mapping):
        raise invalid([ItemError("/sample", "must be an object: the content of a request")])
    sample: PresetTrial | None = None
    sample_errors: list[ItemError] = []
    try:
        sample = read_body(PresetTrial, raw)
    except ApiProblem as problem:
        sample_errors += problem.errors
    # `UNKNOWN`: the metrics must not get a label for each draft.
    draft = prepare_preset(UNKNOWN, document, snapshot.integrations, time.time(), require_fetched=True)
    if isinstance(draft, PresetDraft) and sample is not None and not errors:
        return _Draft(draft.preset, name, sample)
    errors += [ItemError(*error) for error in (draft.errors if isinstance(draft, InvalidPreset) else ())]
    preset = parse_preset(UNKNOWN, document).preset
    if preset is not None and sample is not None:
        # The document is valid by itself, so it can validate the sample.
        submitted, member_errors = _build_body(sample, preset)
        sample_errors += member_errors or _parameter_errors(fill_preset(snapshot, preset, *submitted))
    raise invalid([*errors, *_prefix_pointers("/sample", sample_errors)])


def _prefix_pointers(pointer: str, errors: Iterable[ItemError]) -> list[ItemError]:
    return [ItemError(f"{pointer}{error.pointer}", error.detail) for error in errors]


class SubmittedBody(NamedTuple):
    """The body that a caller would send to the preset. An empty Content-Type means that of the preset."""

    data: bytes
    content_type: str


def fill(snapshot: Snapshot, preset: Preset, sample: PresetTrial, pointer: str = "") -> tuple[SubmittedBody, Preview]:
    """Fill a preset with the sample at `pointer` of the body. Raises ApiProblem with all errors of the sample."""
    submitted, errors = _build_body(sample, preset)
    if errors:
        raise invalid(_prefix_pointers(pointer, errors))
    preview = preview_of(snapshot, preset, *submitted)
    if errors := _parameter_errors(preview.problem):
        raise invalid(_prefix_pointers(pointer, errors))
    return submitted, preview


def _parameter_errors(problem: object) -> list[ItemError]:
    if not isinstance(problem, Problem) or problem.code != "parameters_invalid":
        return []
    return [ItemError(f"/parameters{pointer}", detail) for pointer, detail in problem.errors]


def _build_body(sample: PresetTrial, preset: Preset) -> tuple[SubmittedBody, list[ItemError]]:
    """Convert a sample to the body that a caller would send, and report members that the preset does not accept."""
    if preset.rules.has_body:
        text = "the preset has a body, which is filled with parameters"
        unknown = {"payload", "content_type"}
        data = _dumps(sample.parameters)
    else:
        text = "the preset has no body to fill in, so callers send a payload"
        unknown = {"parameters"}
        data = sample.payload
    errors = [ItemError(f"/{key}", f"must be left out: {text}") for key in sorted(unknown & sample.model_fields_set)]
    return SubmittedBody(data.encode(), sample.content_type), errors


def _dumps(parameters: Mapping[str, Any]) -> str:
    """Serialize parameters as JSON, in which decimals keep their digits."""
    # A decimal inside a list or object becomes a string: no parameter accepts such a value anyway.
    dumps = partial(json.dumps, ensure_ascii=False, default=str)
    members = [
        f"{dumps(name)}:{value if isinstance(value, Decimal) else dumps(value)}" for name, value in parameters.items()
    ]
    return f"{{{','.join(members)}}}"


def build_sample(document: Mapping[str, Any]) -> dict[str, Any]:
    """Build example content for the preset in a document, which may be invalid."""
    if document.get("body") is None:
        return {"payload": _PAYLOADS.get(essence_of(str(document.get("content_type") or JSON)), "example")}
    declared = mapping(document.get("parameters"))
    return {"parameters": {name: _example(name, mapping(parameter)) for name, parameter in declared.items()}}


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


def _describe_preview(name: str | None, preview: Preview) -> PresetPreview:
    members = {"request": None, "credential": None, "code": None, "reason": None, **preview.as_json(), "preset": name}
    members.pop("errors", None)
    return PresetPreview.model_validate(members)


ROUTES: Final = (preview, preview_draft, test_draft)
