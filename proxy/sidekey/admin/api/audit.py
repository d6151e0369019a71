"""`/audit`, and what of it is an integration's own: who did what, when, to which fields, and never a value."""

from __future__ import annotations

from typing import Any, Final

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.problems import ApiProblem, not_found
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service, unavailable
from sidekey.settings.stored.reading import instant
from sidekey.store.audit import AuditEntry, AuditPage
from sidekey.store.errors import StoreRefused, StoreUnavailable

_MOST = 1 << 62


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of all that was done, the newest first."""
    page = await _page(service, ask, None)
    return await service.answer(_listed, page, True)


async def activity(service: Service, ask: Ask) -> Answer:
    """A page of what was done to one integration."""
    row = service.store.state.integrations.get(ask.names["id"])
    if row is None:
        raise not_found()
    page = await _page(service, ask, row.row)
    return await service.answer(_listed, page, False)


async def _page(service: Service, ask: Ask, row: str | None) -> AuditPage:
    before = ask.query.get("before")
    if before is not None and (not before.isascii() or not before.isdecimal() or not 0 < int(before) < _MOST):
        raise ApiProblem("malformed", "before must be the next of the page before")
    try:
        return await service.store.audit_page(before=None if before is None else int(before), row=row)
    except (StoreUnavailable, StoreRefused) as error:
        raise unavailable(error) from None


def _listed(page: AuditPage, whole: bool) -> dict[str, Any]:
    """A page; `whole` with what it was done to, and from where."""
    return {
        "items": [{**_shown(*each), **(_whole(each[1]) if whole else {})} for each in page.entries],
        "next": None if page.next is None else str(page.next),
    }


def _shown(number: int, entry: AuditEntry) -> dict[str, Any]:
    return {
        "number": number,
        "at": instant(entry.at),
        "who": entry.who,
        "action": entry.action,
        "fields": list(entry.fields),
        "outcome": entry.outcome,
    }


def _whole(entry: AuditEntry) -> dict[str, Any]:
    return {"object": entry.kind, "name": entry.id, "from": entry.source}


_BEFORE: Final = {"before": {"type": "string", "pattern": "^[0-9]{1,18}$", "description": "`next` of the page before."}}

ROUTES: Final = (
    Route(
        method="GET",
        path="/audit",
        name="listAudit",
        summary="List the actions of operators, newest first.",
        role="admin",
        handle=browse,
        query=_BEFORE,
        gives="Audit",
    ),
    Route(
        method="GET",
        path="/integrations/{id}/activity",
        name="listActivity",
        summary="List the actions on one integration, newest first.",
        role="viewer",
        handle=activity,
        query=_BEFORE,
        gives="Activity",
        codes=("not_found",),
    ),
)
