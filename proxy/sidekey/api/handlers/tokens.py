"""`/tokens` and `/whoami`: operators' tokens. Only the response that creates a token contains it."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema

from sidekey.api.auth.operators import Confirmation, Operator, require_confirmation
from sidekey.api.errors import ApiProblem, ItemError, invalid, not_found
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import (
    ALTERED,
    After,
    Body,
    Instant,
    Key,
    Members,
    Named,
    Page,
    altered_headers,
    build_page,
    read_body,
    read_name,
    sort_keys,
    stored_problem,
)
from sidekey.api.route import MERGE_PATCH, PREFIX, Route
from sidekey.api.service import ApiServices, missing_problem, require_version
from sidekey.config.build.admin import grant_errors, preset_errors
from sidekey.config.field_types import Name
from sidekey.config.models import OperatorGrants, SenderGrants
from sidekey.snapshot.admin import PERMISSIONS, AdminToken, Role
from sidekey.snapshot.snapshot import Snapshot
from sidekey.store.records import TokenRow, new_row_id, new_token
from sidekey.store.state import Delete, Put, State

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def _parse_end(raw: object) -> int | None:
    """Parse a future time in UTC (RFC 3339), or None. Raises ValueError."""
    if raw is None:
        return None
    end = 0
    if isinstance(raw, str) and _INSTANT.fullmatch(raw):
        with suppress(ValueError):
            end = int(datetime.strptime(raw, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    if end <= time.time():
        raise ValueError("must be a future time, such as 2030-01-31T00:00:00Z, or null")
    return end


class Token(Members, Named):
    """An operator's token, without the token itself."""

    role: Role
    presets: list[str] | None = Field(description="IDs of the presets that a sender may send; null for other roles.")
    per_minute: int | None = Field(description="Sends in a minute; null for a viewer.")
    per_day: int | None = Field(description="Sends in 24 hours; null for a viewer.")
    expires_at: Instant | None
    created_by: str | None
    last_used_at: Instant | None


class TokenWithToken(Token):
    """An operator's new token."""

    token: str = Field(description="The token. Only this response contains it.")


class Tokens(Page[Token]):
    """A page of operators' tokens."""


class TokenFilter(After):
    """The query of the list of tokens."""

    preset: Name = Field(default="", description="The ID of a preset: lists the senders that may send it.")


class NewToken(Confirmation, OperatorGrants):
    """An operator's token to create."""

    name: Name
    expires_at: Annotated[
        int | None,
        PlainValidator(_parse_end),
        WithJsonSchema({"type": ["string", "null"], "format": "date-time"}),
    ] = Field(default=None, description="In UTC, such as `2030-01-31T00:00:00Z`; null: never.")


class TokenPatch(Confirmation, SenderGrants):
    """A change of the grants of a sender. Omitted keys stay."""


class WhoAmI(Body):
    """The operator of a request."""

    name: str = Field(description="The name of the token; for a company log-in, the identity.")
    identity: str = Field(description="A lasting ID of the operator, which no other operator has.")
    label: str = Field(description="A name to show, if it differs from `name`.")
    role: Role
    source: Literal["file", "store", "oidc"]
    presets: list[str] | None = Field(description="IDs of the presets that a sender may send; null for other roles.")
    per_minute: int | None = Field(description="Sends in a minute; null for a viewer.")
    per_day: int | None = Field(description="Sends in 24 hours; null for a viewer.")
    expires_at: Instant | None
    session_ends_at: Instant | None = Field(description="When the session ends; null for a request with a token.")


@partial(Route, "GET", "/whoami", "whoAmI", permission="self", response=WhoAmI, needs_store=False)
async def whoami(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Describe the operator of this request."""
    del service
    return ApiResult.of(describe(request.operator))


def describe(operator: Operator) -> WhoAmI:
    """Describe an operator."""
    return WhoAmI(
        name=operator.name,
        identity=operator.identity,
        label=operator.label,
        role=operator.role,
        source="oidc" if operator.auth_at is not None else "store" if operator.row else "file",
        presets=None if operator.presets is None else sorted(operator.presets),
        per_minute=operator.per_minute,
        per_day=operator.per_day,
        expires_at=operator.expires_at,
        session_ends_at=operator.session_ends_at,
    )


@partial(Route, "GET", "/tokens", "listTokens", permission="admin", query=TokenFilter, response=Tokens)
async def browse(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List operators' tokens, by name."""
    uses = await service.store.last_uses()
    return await service.respond(_page, service.snapshot.admin.tokens, service.store.state, uses, request.query)


@partial(
    Route,
    "POST",
    "/tokens",
    "createToken",
    permission="admin",
    body=NewToken,
    response=TokenWithToken,
    status=201,
    codes=("exists", "invalid"),
    writes="token",
    action="create",
)
async def create(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Create an operator's token. Only this response contains it."""
    name, name_errors = read_name(request.document, "name")
    # A valid placeholder replaces an invalid name, so that the grants are validated too.
    try:
        sent = await service.run_validation(read_body, NewToken, {**request.document, "name": name or "new"})
    except ApiProblem as problem:
        raise invalid([*name_errors, *problem.errors]) from None
    conflict = ""
    if name in service.snapshot.admin.tokens:
        conflict = "admin.tokens of the config has this name: choose another"
    elif name in (await service.store.refresh()).tokens:
        conflict = "another token has this name: choose another name, or revoke that token first"
    errors = [ItemError(f"/{key}", text) for key, text in grant_errors(sent)]
    errors += _preset_errors(sent, service.snapshot)
    if name_errors or errors:
        raise invalid([*name_errors, *([ItemError("/name", conflict)] if conflict else []), *errors])
    if conflict:
        raise ApiProblem("exists", conflict)
    require_confirmation(request.operator, sent)
    token, digest = new_token()
    row = TokenRow(
        row_id=new_row_id(),
        id=sent.name,
        role=sent.role,
        presets=tuple(sent.presets),
        per_minute=sent.per_minute,
        per_day=sent.per_day,
        token_sha256=digest,
        expires_at=sent.expires_at,
        created_at=int(time.time()),
        created_by=request.operator.name,
    )
    granted = ("presets", "per_minute", "per_day") if row.role == "sender" else ()
    state = await service.commit(request, [Put(row, None)], ("role", *granted, "expires_at", "token"))
    return _result(service, state.tokens[row.id], None, token, status=201)


def _preset_errors(sent: SenderGrants, snapshot: Snapshot, granted: Collection[str] = ()) -> list[ItemError]:
    found = preset_errors(sent.presets, snapshot, granted)
    return [ItemError(f"/presets/{index}", text) for index, text in found]


@partial(Route, "GET", "/tokens/{name}", "getToken", permission="admin", response=Token, codes=("not_found",))
async def read(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read the description of an operator's token."""
    # If both a file and the store have the name, respond with the stored token, which can be revoked.
    name = request.path_parameters["name"]
    configured = service.snapshot.admin.tokens.get(name)
    row = _rows(service.store.state).get(name)
    if row is not None:
        return _result(service, row, await service.store.last_uses())
    if configured is None:
        raise not_found()
    return ApiResult.of(_describe_file_token(name, configured))


@partial(
    Route,
    "PATCH",
    "/tokens/{name}",
    "patchToken",
    permission="admin",
    body=TokenPatch,
    accepts=(MERGE_PATCH,),
    response=Token,
    conditional=True,
    codes=("read_only", "not_found", "invalid"),
    writes="token",
    action="update",
)
async def patch(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Change the grants of a sender. Omitted keys stay."""
    row = await _find_row_to_change(service, request)
    sent = await service.parse_body(TokenPatch, request)
    changes: dict[str, Any] = {
        key: value
        for key in SenderGrants.model_fields
        if key in sent.model_fields_set and (value := _frozen(getattr(sent, key))) != getattr(row, key)
    }
    errors = _preset_errors(sent, service.snapshot, row.presets)
    if row.role != "sender":
        sent_keys = SenderGrants.model_fields.keys() & sent.model_fields_set
        errors = [
            ItemError(f"/{key}", f"only a sender has this key: {row.id} is {row.role}") for key in sorted(sent_keys)
        ]
    elif changes.get("presets") == ():
        errors.append(ItemError("/presets", "must list a preset: to remove all, revoke the token"))
    if errors:
        raise invalid(errors)
    require_confirmation(request.operator, sent)
    if changes:
        state = await service.commit(request, [Put(replace(row, **changes), row.version)], changes)
        row = state.tokens[row.id]
    return _result(service, row, await service.store.last_uses())


def _result(
    service: ApiServices, row: TokenRow, uses: Mapping[str, int] | None, token: str = "", status: int = 200
) -> ApiResult:
    """Describe a stored token. `uses` has the last use of every token by row, or is None for a new token."""
    description = _describe_stored_token(
        row, row.id in service.snapshot.admin.tokens, None if uses is None else uses.get(row.row_id)
    )
    location = f"{PREFIX}/tokens/{row.id}" if status == 201 else ""
    body = TokenWithToken(**dict(description), token=token) if token else description
    return ApiResult.of(body, status=status, version=row.version, location=location)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@partial(
    Route,
    "POST",
    "/tokens/{name}/rotate",
    "rotateToken",
    permission="admin",
    body=Confirmation,
    response=TokenWithToken,
    conditional=True,
    codes=("read_only", "not_found", "invalid"),
    writes="token",
    action="rotate",
)
async def rotate(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Replace an operator's token. Only this response contains the new one."""
    # The row stays, and with it limits and history. The previous token and its sessions end at once.
    row = await _find_row_to_change(service, request)
    require_confirmation(request.operator, await service.parse_body(Confirmation, request))
    if row.expires_at is not None and row.expires_at <= time.time():
        raise ApiProblem("invalid", "it has expired, and so would the new token: revoke it, and create another")
    token, digest = new_token()
    state = await service.commit(request, [Put(replace(row, token_sha256=digest), row.version)], ("token",))
    return _result(service, state.tokens[row.id], None, token)


@partial(
    Route,
    "DELETE",
    "/tokens/{name}",
    "revokeToken",
    permission="admin",
    status=204,
    conditional=True,
    codes=("read_only", "not_found"),
    writes="token",
    action="revoke",
)
async def delete(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Revoke an operator's token."""
    row = await _find_row_to_change(service, request, altered=True)
    await service.commit(request, [Delete(row, row.version)])
    return ApiResult(204)


async def _find_row_to_change(service: ApiServices, request: ApiRequest, *, altered: bool = False) -> TokenRow:
    """Return the row to change. Raises ApiProblem if there is none, or if its MAC does not verify and not `altered`."""
    name = request.path_parameters["name"]
    row = _rows(await service.store.refresh()).get(name)
    if row is not None:
        require_version(row, request.condition)
        if not row.token_sha256 and not altered:
            raise ApiProblem("read_only", ALTERED)
        return row
    if name in service.snapshot.admin.tokens:
        raise ApiProblem("read_only", "it is written in a config file: change it there")
    raise missing_problem(request.condition)


def _rows(state: State) -> dict[str, TokenRow]:
    """Return the stored tokens by name. A token whose MAC does not verify becomes a viewer without a digest."""
    altered = {
        header.id: TokenRow(row_id=header.row_id, id=header.id, version=header.version, role="viewer", token_sha256="")
        for header in altered_headers(state, TokenRow.kind).values()
    }
    return {**altered, **state.tokens}


def _page(configured: Mapping[str, AdminToken], state: State, uses: Mapping[str, int], query: TokenFilter) -> BaseModel:
    stored = _rows(state)

    def build_item(key: Key) -> Token | None:
        token = configured[key.name] if key.source == "file" else stored[key.name]
        if query.preset and query.preset not in token.presets:
            return None
        if isinstance(token, AdminToken):
            return _describe_file_token(key.name, token)
        row = token
        return _describe_stored_token(row, key.name in configured, uses.get(row.row_id))

    items, next_page = build_page(sort_keys(configured, stored), query.after, build_item)
    return Tokens(items=items, next=next_page)


def _describe_stored_token(row: TokenRow, in_file: bool, used: int | None) -> Token:
    altered = not row.token_sha256
    problem = stored_problem("token", altered=altered, in_file=in_file)
    return Token(
        name=row.id,
        source="store",
        version=row.version,
        status="unusable" if problem else "ok",
        problem=problem or None,
        role=row.role,
        **_grants(row),
        expires_at=row.expires_at,
        created_at=None if altered else row.created_at,
        created_by=row.created_by or None,
        last_used_at=used,
    )


def _grants(token: TokenRow | AdminToken) -> dict[str, Any]:
    may_send = "send" in PERMISSIONS[token.role]
    return {
        "presets": list(token.presets) if token.role == "sender" else None,
        "per_minute": token.per_minute if may_send else None,
        "per_day": token.per_day if may_send else None,
    }


def _describe_file_token(name: str, token: AdminToken) -> Token:
    return Token(
        name=name,
        source="file",
        version=None,
        status="ok",
        problem=None,
        role=token.role,
        **_grants(token),
        expires_at=None,
        created_at=None,
        created_by=None,
        last_used_at=None,
    )


ROUTES: Final = (whoami, browse, create, read, patch, rotate, delete)
