"""`/tokens` and `/whoami`: operators' tokens, each shown once, when it is made."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.named import AFTER, Key, about, altered_in, keys, name_in, page_of
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid, not_found
from sidekey.admin.api.route import PREFIX, Route
from sidekey.admin.api.service import Service, expect, not_there, unavailable
from sidekey.runtime.admin_rules import ROLES, AdminToken, Role
from sidekey.settings.stored.reading import instant
from sidekey.store.errors import StoreRefused, StoreUnavailable
from sidekey.store.records import TokenRow, new_row
from sidekey.store.state import Delete, Put, State
from sidekey.store.tokens import new_token

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_KEYS: Final = frozenset({"name", "role", "expires_at", "own_token"})


async def whoami(service: Service, ask: Ask) -> Answer:
    """Describe the operator of this request's token."""
    del service
    operator = ask.operator
    source = "store" if operator.row else "file"
    return Answer.of(
        {
            "name": operator.name,
            "role": operator.role,
            "source": source,
            "expires_at": None if operator.expires_at is None else instant(operator.expires_at),
        }
    )


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    uses = await _uses(service)
    after, configured = ask.query.get("after", ""), service.snapshot.admin.tokens
    return await service.answer(_page, configured, service.store.state, uses, after)


async def _uses(service: Service) -> Mapping[str, int]:
    try:
        return await service.store.last_uses()
    except (StoreUnavailable, StoreRefused) as error:
        raise unavailable(error) from None


async def create(service: Service, ask: Ask) -> Answer:
    """Save a new one; the response is the only one that shows it."""
    document = ask.document
    now = int(time.time())
    wanted = await service.run(_wanted, document, now)
    if not ask.operator.owns(wanted.own_token):
        raise ApiProblem("forbidden", "own_token must be the token that this request is sent with")
    if wanted.name in service.snapshot.admin.tokens:
        raise ApiProblem("exists", "admin.tokens of the config has this name: choose another")
    token, digest = new_token()
    row = TokenRow(
        row=new_row(),
        id=wanted.name,
        role=wanted.role,
        token_sha256=digest,
        expires_at=wanted.expires_at,
        created_at=now,
        created_by=ask.operator.name,
    )
    state = await service.commit(ask, [Put(row, None)], ("role", "expires_at", "token"))
    saved = state.tokens[row.id]
    shown = {**_shown(saved, saved.id in service.snapshot.admin.tokens, None), "token": token}
    return Answer.of(shown, status=201, version=saved.version, location=f"{PREFIX}/tokens/{saved.id}")


async def read(service: Service, ask: Ask) -> Answer:
    """One of them: where a file has its name as well, the stored one, as it can be revoked."""
    name = ask.names["name"]
    configured = service.snapshot.admin.tokens.get(name)
    row = _found(service.store.state, name)
    if row is not None:
        used = (await _uses(service)).get(row.row)
        return Answer.of(_shown(row, configured is not None, used), version=row.version)
    if configured is None:
        raise not_found()
    return Answer.of(_shown_of_file(name, configured))


async def delete(service: Service, ask: Ask) -> Answer:
    """Revoke it."""
    name = ask.names["name"]
    row = _found(await service.now(), name)
    if row is not None:
        await service.commit(ask, [Delete(row, expect(row, ask.condition))])
        return Answer(204)
    if name in service.snapshot.admin.tokens:
        raise ApiProblem("read_only", "it is written in a config file: remove it there")
    raise not_there(ask.condition)


def _found(state: State, name: str) -> TokenRow | None:
    row = state.tokens.get(name)
    return _altered(state).get(name) if row is None else row


def _altered(state: State) -> dict[str, TokenRow]:
    """In place of rows that are not to be relied upon: tokens that nobody has, and that may do the least."""
    lines = altered_in(state, TokenRow.kind).values()
    return {
        each.id: TokenRow(row=each.row, id=each.id, version=each.version, role="viewer", token_sha256="")
        for each in lines
    }


class _Wanted(NamedTuple):
    """A token that is to be made. `own_token` is what its maker sends as theirs."""

    name: str
    role: Role
    expires_at: int | None
    own_token: str


def _wanted(document: Mapping[str, Any], now: int) -> _Wanted:
    """What was sent. Raises ApiProblem with all that is wrong with it."""
    name, errors = name_in(document, "name")
    role = next((each for each in ROLES if each == document.get("role")), None)
    if role is None:
        errors.append(ItemError("/role", f"must be one of {', '.join(ROLES)}"))
    expires_at = None
    if document.get("expires_at") is not None:
        expires_at = _moment(document["expires_at"])
        if expires_at is None or expires_at <= now:
            text = "must be a time to come, such as 2030-01-31T00:00:00Z, or null"
            errors.append(ItemError("/expires_at", text))
    own = document.get("own_token")
    if not isinstance(own, str):
        errors.append(ItemError("/own_token", "must be the token of this request, again"))
    if not document.keys() <= _KEYS:
        errors.append(ItemError("", "must have no other keys than name, role, expires_at and own_token"))
    if errors or role is None or not isinstance(own, str):
        raise invalid(errors)
    return _Wanted(name, role, expires_at, own)


def _moment(raw: object) -> int | None:
    """Seconds since the epoch of a time in UTC (RFC 3339); None where it is none."""
    if not isinstance(raw, str) or not _INSTANT.fullmatch(raw):
        return None
    try:
        return int(datetime.strptime(raw, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _page(configured: Mapping[str, AdminToken], state: State, uses: Mapping[str, int], after: str) -> dict[str, Any]:
    stored = {**_altered(state), **state.tokens}

    def item(key: Key) -> dict[str, Any]:
        if key.source == "file":
            return _shown_of_file(key.name, configured[key.name])
        row = stored[key.name]
        return _shown(row, key.name in configured, uses.get(row.row))

    return page_of(keys(configured, stored), after, item)


def _shown(row: TokenRow, of_file: bool, used: int | None) -> dict[str, Any]:
    """Show a stored one; `of_file`: a file has its name."""
    altered = not row.token_sha256
    return {
        "name": row.id,
        "source": "store",
        "version": row.version,
        **about(altered=altered, file=of_file, kind="token"),
        "role": row.role,
        "expires_at": None if row.expires_at is None else instant(row.expires_at),
        "created_at": None if altered else instant(row.created_at),
        "created_by": row.created_by or None,
        "last_used_at": None if used is None else instant(used),
    }


def _shown_of_file(name: str, token: AdminToken) -> dict[str, Any]:
    return {
        "name": name,
        "source": "file",
        "version": None,
        "status": "ok",
        "problem": None,
        "role": token.role,
        "expires_at": None,
        "created_at": None,
        "created_by": None,
        "last_used_at": None,
    }


_ALL: Final = partial(Route, path="/tokens", role="admin")
_ONE: Final = partial(Route, path="/tokens/{name}", role="admin")

ROUTES: Final = (
    Route(
        method="GET",
        path="/whoami",
        name="whoAmI",
        summary="Describe the operator of this request's token.",
        role="viewer",
        handle=whoami,
        gives="WhoAmI",
        needs_store=False,
    ),
    _ALL(
        method="GET",
        name="listTokens",
        summary="List operators' tokens, by name.",
        handle=browse,
        query={"after": AFTER},
        gives="Tokens",
    ),
    _ALL(
        method="POST",
        name="createToken",
        summary="Create an operator's token. Only this response contains it.",
        handle=create,
        body="NewToken",
        gives="TokenWithToken",
        status=201,
        codes=("exists", "invalid"),
        writes="token",
        action="create",
    ),
    _ONE(
        method="GET",
        name="getToken",
        summary="Read the description of an operator's token.",
        handle=read,
        gives="Token",
        codes=("not_found",),
    ),
    _ONE(
        method="DELETE",
        name="revokeToken",
        summary="Revoke an operator's token.",
        handle=delete,
        status=204,
        conditional=True,
        codes=("read_only", "not_found"),
        writes="token",
        action="revoke",
    ),
)
