"""`/presets/{id}/check` and `/batches`: check the rows of a CSV file, and read the outcomes of its sends."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Annotated, Any, Final

from pydantic import Field

from sidekey.api.errors import ApiProblem, not_found
from sidekey.api.handlers.sends import SendRequest, check_grant, fill_send, find_preset
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body, Instant
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.snapshot.snapshot import Preset, Snapshot
from sidekey.store.sends import ACCEPTED
from sidekey.store.sends import Send as StoredSend


class CheckRequest(Body):
    """Rows to check."""

    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)] = Field(
        description="The parameters of each row."
    )


class RowError(Body):
    """An error of a row."""

    row: int = Field(description="The index of the row in the request, from 0.")
    pointer: str = Field(description="A JSON pointer (RFC 6901) into the parameters.")
    detail: str


class Checked(Body):
    """All errors of the rows."""

    errors: list[RowError]


class OtherRow(Body):
    """A row that was not accepted."""

    row: int
    outcome: str
    status: int | None


class Batch(Body):
    """The sends of a CSV file."""

    id: str
    preset: str
    who: str
    label: str
    begun_at: Instant
    ended_at: Instant = Field(description="When the last row was sent.")
    rows: int = Field(description="The number of the last row to send.")
    last_row: int = Field(description="The highest number of a row that was sent.")
    outcomes: dict[str, int] = Field(description="How many rows have each outcome.")
    others: list[OtherRow] = Field(description="The rows that were not accepted.")


@partial(
    Route,
    "POST",
    "/presets/{id}/check",
    "checkSends",
    permission="send",
    body=CheckRequest,
    response=Checked,
    exact=True,
    codes=("invalid", "too_many", "stopping"),
)
async def check(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Check rows of parameters for a preset without sending them."""
    sent = await service.parse_body(CheckRequest, request)
    snapshot, operator = service.snapshot, request.operator
    await check_grant(service, request)
    preset = await find_preset(service, request, snapshot)
    errors: list[RowError] = []
    with service.sender.count_running(operator.identity):
        for number, row in enumerate(sent.rows):
            # One call for each row, so that other requests can use the thread in between.
            errors += await service.run_validation(
                _errors_of, snapshot, preset, number, SendRequest(parameters=row), operator.presets is not None
            )
    return await service.respond(lambda: Checked(errors=errors))


def _errors_of(snapshot: Snapshot, preset: Preset, number: int, sent: SendRequest, is_sender: bool) -> list[RowError]:
    try:
        refusal = fill_send(snapshot, preset, sent, is_sender).problem
    except ApiProblem as problem:
        return [
            RowError(row=number, pointer=error.pointer.removeprefix("/parameters"), detail=error.detail)
            for error in problem.errors
        ]
    if refusal is None:
        return []
    # No detail of the refusal: a sender must not learn where the preset sends requests.
    return [RowError(row=number, pointer="", detail=f"Sidekey refuses this request ({refusal.code})")]


@partial(Route, "GET", "/batches/{id}", "getBatch", permission="sends", response=Batch, codes=("not_found",))
async def read(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read the outcomes of the rows of a CSV file."""
    operator = request.operator
    sends = await service.store.get_batch(request.path_parameters["id"])
    if not sends or not (operator.may("viewer") or sends[0].identity == operator.identity):
        raise not_found()
    return await service.respond(_batch, sends)


def _batch(sends: tuple[StoredSend, ...]) -> Batch:
    first, last = sends[0], sends[-1]
    others = sorted((send for send in sends if send.outcome != ACCEPTED), key=lambda send: send.csv_row)
    return Batch(
        id=first.batch,
        preset=first.preset,
        who=first.who,
        label=first.label,
        begun_at=first.at / 1000,
        ended_at=(last.at + last.ms) / 1000,
        rows=first.batch_rows,
        last_row=max(send.csv_row for send in sends),
        outcomes=Counter(send.outcome for send in sends),
        others=[OtherRow(row=send.csv_row, outcome=send.outcome, status=send.status or None) for send in others],
    )


ROUTES: Final = (check, read)
