"""`/presets/{id}/sends` and `/sends`: send a preset, and read outcomes. No response repeats a submitted value."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, WithJsonSchema

from sidekey.api.auth.operators import Operator
from sidekey.api.errors import FORBIDDEN, ApiProblem, ItemError, invalid, not_found
from sidekey.api.handlers.audit import Before
from sidekey.api.handlers.preset_tests import Content, PresetTrial, fill
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body, Instant, OneOf, Page
from sidekey.api.route import Route
from sidekey.api.sender import FilledPreset, SendResult, SubmittedSend, limits_of, new_send
from sidekey.api.service import ApiServices
from sidekey.config.field_types import Name
from sidekey.errors import Problem
from sidekey.snapshot.snapshot import Preset, Snapshot
from sidekey.store.audit import AuditEntry
from sidekey.store.sends import OUTCOMES, NewSend, SendPage, csv_row_number
from sidekey.store.sends import Send as StoredSend

_BATCH: Final = "[0-9a-f]{32}"
_MAX_ROWS: Final = 1000
_MISCONFIGURED: Final = "proxy_configuration_error"


def _check_batch_id(text: str) -> str:
    if not re.fullmatch(_BATCH, text):
        raise ValueError("must be 32 hexadecimal digits, in lower case")
    return text


def _check_who(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must have no control character")
    return text


class NewBatch(Body):
    """The CSV file that a send is a row of. Its Idempotency-Key must be `ID-N`, with N the number of the row.

    A batch begins with its first row, and takes rows for 24 hours.
    """

    id: Annotated[
        str, AfterValidator(_check_batch_id), WithJsonSchema({"type": "string", "pattern": f"^{_BATCH}$"})
    ] = Field(description="A random ID: 32 hexadecimal digits.")
    rows: Annotated[int, Field(ge=1, le=_MAX_ROWS)] = Field(description="The number of the last row to send.")


class SendRequest(Content):
    """The content of a send. A sender sends parameters only."""

    batch: NewBatch | None = Field(default=None, description="The CSV file that it is a row of.")


class BatchRow(Body):
    """The place of a send in a CSV file."""

    id: str
    row: int
    rows: int


class Send(Body):
    """A send and its outcome."""

    key: str
    at: Instant
    who: str = Field(description="The name of the operator's token.")
    label: str = Field(description="A name for people, if it differs. Anybody may choose it.")
    preset: str | None = Field(description="The ID of the preset; null: it was not saved.")
    integration: str = Field(default="", description="The ID of the integration. Absent for a sender.")
    batch: BatchRow | None
    outcome: Annotated[str, OneOf(OUTCOMES)] = Field(
        description="`accepted`: 2xx. `refused`: 3xx or 4xx. `failed`: another status, and the upstream may have acted."
        " `not_sent`: nothing was sent. `unknown`: it may have been sent. `sending`: it is under way."
    )
    status: int | None = Field(description="The status of the upstream's response.")
    code: str | None = Field(description="Sidekey's own code, if it refused or failed.")
    host: str | None = Field(description="The host of the request; null if Sidekey refused it first.")
    milliseconds: int
    request_id: str | None
    retry_after: int | None = Field(
        default=None,
        description="Seconds to wait before the next send, from `Retry-After`. Only the response to the send has it.",
    )


class Sends(Page[Send]):
    """A page of sends, the newest first, with one row for each batch. It may be empty although there is a next one."""


class SendFilter(Before):
    """The query of the list of sends."""

    preset: Name = Field(default="", description="The ID of a preset: lists its sends by everybody, or a sender's own.")
    who: Annotated[str, AfterValidator(_check_who)] = Field(
        default="", description="The name of a person. Not for senders."
    )


@partial(
    Route,
    "POST",
    "/presets/{id}/sends",
    "sendPreset",
    permission="send",
    body=SendRequest,
    response=Send,
    needs_idempotency_key=True,
    exact=True,
    codes=("sending", "invalid", "key_reused", "too_many", "send_limit", "stopping"),
)
async def send(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Send a preset, at most once for each key. The response is 200 for every outcome."""
    body = await service.parse_body(SendRequest, request)
    operator, name, snapshot = request.operator, request.path_parameters["id"], service.snapshot
    await check_grant(service, request)
    parameters = body.model_dump(include={"parameters", "payload"})
    # The parsed body has decimals instead of floats. A list marks a decimal, because 1.5 must differ from "1.5".
    content = json.dumps([operator.identity, name, parameters], sort_keys=True, default=lambda number: [str(number)])
    # Look the key up before the preset, which may have changed since the first request with this key.
    existing = await service.sender.find_completed(operator.identity, request.idempotency_key, content)
    if existing is not None:
        return ApiResult.of(describe_send(existing, operator))
    preset = await find_preset(service, request, snapshot)
    _check_batch(body.batch, request.idempotency_key)

    async def fill_preset() -> FilledPreset:
        return await service.run_validation(fill_send, snapshot, preset, body, operator.presets is not None)

    def build_row(filled: FilledPreset) -> tuple[NewSend, AuditEntry]:
        new, entry = new_send(request, filled, request.idempotency_key, content)
        return (new, entry) if body.batch is None else _add_to_batch(new, entry, body.batch)

    result = await service.sender.send(SubmittedSend(operator.identity, limits_of(operator), fill_preset, build_row))
    if isinstance(result, SendResult):
        return ApiResult.of(describe_send(result.send, operator, result.outcome.retry_after))
    return ApiResult.of(describe_send(result, operator))


async def find_preset(service: ApiServices, request: ApiRequest, snapshot: Snapshot) -> Preset:
    """Return the preset of a request. If it is unknown, raises the same ApiProblem as `check_grant`."""
    preset = snapshot.presets.get(request.path_parameters["id"])
    if preset is None:
        raise await _forbidden(service, request)
    return preset


async def check_grant(service: ApiServices, request: ApiRequest) -> None:
    """Raise ApiProblem for a sender who was not granted the preset."""
    granted = request.operator.presets
    if granted is not None and request.path_parameters["id"] not in granted:
        raise await _forbidden(service, request)


async def _forbidden(service: ApiServices, request: ApiRequest) -> ApiProblem:
    """Audit the refusal, and return 403."""
    await service.audit_refusal(replace(request, action="send", resource="preset"), "forbidden")
    return ApiProblem("forbidden", FORBIDDEN)


def _check_batch(batch: NewBatch | None, key: str) -> None:
    if batch is None:
        return
    if not re.fullmatch(f"{batch.id}-[1-9][0-9]{{0,3}}", key) or csv_row_number(key) > batch.rows:
        text = "the Idempotency-Key must be the ID, `-` and the number of the row, from 1 to `rows`"
        raise invalid([ItemError("/batch", text)])


def _add_to_batch(new: NewSend, entry: AuditEntry, batch: NewBatch) -> tuple[NewSend, AuditEntry]:
    """Add the batch to a send. Its audit entry says that the batch started: the store writes only that of one send."""
    fields = (f"batch:{batch.id}", f"rows:{csv_row_number(new.key)}-{batch.rows}")
    entry = replace(entry, action="send batch", fields=fields, outcome="started")
    return replace(new, batch=batch.id, batch_rows=batch.rows), entry


def fill_send(snapshot: Snapshot, preset: Preset, body: SendRequest, is_sender: bool) -> FilledPreset:
    """Fill a preset with the content of a request. Raises ApiProblem with all errors."""
    if preset.invalid:
        return FilledPreset(preset, b"", "", Problem("credential_unavailable", preset.invalid, error=_MISCONFIGURED))
    if is_sender and not preset.rules.has_body:
        raise invalid([ItemError("", "the preset has no body to fill in, so that a sender cannot send it")])
    trial = PresetTrial(**body.model_dump(include={"parameters", "payload"}, exclude_unset=True))
    submitted, preview = fill(snapshot, preset, trial)
    return FilledPreset(preset, submitted.data, submitted.content_type, preview.problem)


@partial(Route, "GET", "/sends/{key}", "getSend", permission="sends", response=Send, codes=("not_found",))
async def read(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read the operator's own send of a key."""
    stored = await service.store.get_send(request.operator.identity, request.path_parameters["key"])
    if stored is None:
        raise not_found()
    return ApiResult.of(describe_send(stored, request.operator))


@partial(Route, "GET", "/sends", "listSends", permission="sends", query=SendFilter, response=Sends)
async def browse(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List the operator's own sends, or those of a preset or person, newest first."""
    operator, query = request.operator, request.query
    sees_all = operator.may("viewer")
    if query.who and not sees_all:
        raise ApiProblem("forbidden", "a sender can read only their own sends: omit `who`")
    only_own = not sees_all or not (query.preset or query.who)
    page = await service.store.send_page(
        identity=operator.identity if only_own else "", preset=query.preset, who=query.who, before=query.before
    )
    return await service.respond(_page, page, operator)


def _page(page: SendPage, operator: Operator) -> Sends:
    items = [describe_send(send, operator) for send in page.sends]
    return Sends(items=items, next=None if page.next is None else str(page.next))


def describe_send(send: StoredSend, operator: Operator, retry_after: int | None = None) -> Send:
    """Build the response for a send. `retry_after` is from the upstream, if this request caused the send."""
    optional: dict[str, Any] = {"integration": send.integration} if operator.may("viewer") else {}
    if retry_after is not None:
        optional["retry_after"] = retry_after
    return Send(
        **optional,
        key=send.key,
        at=send.at / 1000,
        who=send.who,
        label=send.label,
        preset=send.preset or None,
        batch=BatchRow(id=send.batch, row=send.csv_row, rows=send.batch_rows) if send.batch else None,
        outcome=send.outcome,
        status=send.status or None,
        code=send.code or None,
        host=send.host or None,
        milliseconds=send.ms,
        request_id=send.request_id or None,
    )


ROUTES: Final = (send, browse, read)
