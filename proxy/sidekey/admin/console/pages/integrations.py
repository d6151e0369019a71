"""The list of integrations, and one of them: how it stands, how it is called, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sidekey.admin.api.integrations import IntegrationMembers
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.resources import document_in
from sidekey.admin.console.calling import ways_to_call
from sidekey.admin.console.page import Page, Redirect, View, Visit
from sidekey.admin.console.pages.browsing import listed, version_of
from sidekey.admin.console.words import DONE, STATUSES, standing_of, title_of
from sidekey.credentials.registry import KINDS
from sidekey.settings.writing import write


async def browse(visit: Visit) -> View:
    """A page of the list."""
    values = await listed(visit, "listIntegrations", "/", ("q", "tag", "kind", "status"))
    items = [_entry(visit, each) for each in values["items"]]
    kinds = {name: kind.title for name, kind in KINDS.items()}
    return View("integrations.html", {**values, "items": items, "kinds": kinds, "states": STATUSES})


def _entry(visit: Visit, item: Mapping[str, Any]) -> dict[str, Any]:
    seen = visit.service.traffic.of(item["id"]) if _is_served(visit, item) else None
    return {**item, "standing": standing_of(item, datetime.now(UTC)), "title": title_of(item["kind"]), "seen": seen}


def _is_served(visit: Visit, item: Mapping[str, Any]) -> bool:
    """Whether requests for an ID come to this one: a file and the store may have the same."""
    served = visit.service.snapshot.integrations.get(item["id"])
    return served is not None and served.stored == (item["source"] == "store")


def _path_of(found: Mapping[str, Any]) -> str:
    """A path that may be called: the test's, where there is one."""
    test = found.get("test")
    return str(test.get("path") or "/") if isinstance(test, Mapping) else "/"


async def show(visit: Visit) -> View:
    """One of them."""
    return await _shown(visit)


async def test(visit: Visit) -> View | Redirect:
    """Send its test request; the page shows what came of it."""
    try:
        await visit.backend.ask("testIntegration", visit.names)
    except ApiProblem as problem:
        return await _shown(visit, refused=problem)
    return Redirect(f"/integrations/{visit.names['id']}?done=tested")


async def explain(visit: Visit) -> View:
    """One of them, with what would become of a request, and what would be signed of it."""
    url = visit.form.get("url", "").strip()
    described = {name: visit.form[name] for name in _DESCRIBED if visit.form.get(name, "").strip()}
    try:
        asked = {"url": url, **_request_of(described)}
        explained = (await visit.backend.ask("explainIntegration", visit.names, body=asked)).value
    except ApiProblem as problem:
        return await _shown(visit, refused=problem, url=url, described=described)
    return await _shown(visit, explained=explained, url=url, described=described)


_DESCRIBED: Final = ("method", "headers", "body", "at")
"""What of a request there are fields for, beside its URL."""


def _request_of(described: Mapping[str, str]) -> dict[str, Any]:
    """A request as the API takes it. Browsers send each end of a line as CRLF (HTML, 4.10.21.8), whatever was typed."""
    found: dict[str, Any] = {name: text.strip() for name, text in described.items() if name in ("method", "at")}
    if "headers" in described:
        found["headers"] = [line.split(":", 1) for line in described["headers"].splitlines() if line.strip()]
    if "body" in described:
        found["body"] = described["body"].replace("\r\n", "\n")
    return found


async def delete(visit: Visit) -> Redirect:
    """Delete it."""
    await visit.backend.ask("deleteIntegration", visit.names, version=version_of(visit))
    return Redirect("/?done=deleted")


async def _activity(visit: Visit) -> list[Any]:
    """The last changes; none while the store cannot be asked for them: what is loaded stays readable."""
    if not visit.service.store.health.up:
        return []
    try:
        found: list[Any] = (await visit.backend.ask("listActivity", visit.names)).value["items"][:10]
    except ApiProblem as problem:
        if problem.code != "store_unavailable":
            raise
        return []
    return found


def _text_of(found: Mapping[str, Any]) -> str:
    return write({"id": found["id"], **document_in(found, IntegrationMembers)})


def _done(visit: Visit, found: Mapping[str, Any]) -> str:
    done = visit.query.get("done", "")
    return "unserved" if done in {"saved", "tried", "untested"} and found["status"] == "unusable" else done


async def _shown(visit: Visit, **more: object) -> View:
    given = await visit.backend.ask("getIntegration", visit.names)
    found = {"description": "", "tags": [], **given.value}
    may_edit = visit.may("editor") and found["source"] == "store"
    activity = None
    if found["source"] == "store":
        activity = await _activity(visit)
    served = visit.service.snapshot.integrations.get(found["id"]) if _is_served(visit, found) else None
    seen = None if served is None else visit.service.traffic.of(found["id"])
    values = {
        "it": found,
        "text": await visit.service.run(_text_of, given.value) if may_edit else "",
        "standing": standing_of(found, datetime.now(UTC)),
        "seen": seen,
        "headers": () if served is None else served.public_headers,
        "kind": title_of(found["kind"]),
        "version": given.version,
        "activity": activity,
        "calls": ways_to_call(visit.service.snapshot, visit.proxy, found["id"], _path_of(found)),
        "done": DONE.get(_done(visit, found), ""),
        "may_edit": may_edit,
        "tested": None if served is None else visit.service.last_tests.of(served),
        "explained": None,
        "described": {},
        "signs": served is not None and served.traits.signing is not None,
        "refused": None,
        "url": "",
        **more,
    }
    return View("integration.html", values)


PAGES: Final = (
    Page("GET", "/", browse),
    Page("GET", "/integrations/{id}", show),
    Page("POST", "/integrations/{id}/test", test),
    Page("POST", "/integrations/{id}/explain", explain),
    Page("POST", "/integrations/{id}/delete", delete, "editor"),
)
