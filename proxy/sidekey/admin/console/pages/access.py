"""Access, for admins: operators' tokens, and the callers that send requests; each token is shown once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sidekey.admin.api.problems import ApiProblem, ItemError
from sidekey.admin.console.page import Page, Redirect, View, Visit
from sidekey.admin.console.pages.browsing import version_of
from sidekey.admin.console.words import DONE

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_GRANTED: Final = ("integrations", "presets")
"""What callers may use, as forms and the API call it."""


async def browse(visit: Visit) -> View:
    """Both lists, with forms to make more."""
    return await _shown(visit)


async def make_token(visit: Visit) -> View:
    """Make an operator's token, and show it."""
    day = visit.form.get("expires", "").strip()
    body = {
        "name": visit.form.get("name", "").strip(),
        "role": visit.form.get("role", ""),
        "own_token": visit.form.get("own_token", "").strip(),
        "expires_at": (f"{day}T23:59:59Z" if _DAY.fullmatch(day) else day) or None,
    }
    try:
        made = (await visit.backend.ask("createToken", body=body)).value
    except ApiProblem as error:
        # The operator may: only the token that was typed is another's.
        wrong = [ItemError("/own_token", _OWN)] if error.code == "forbidden" else error.errors
        problem = ApiProblem("invalid", "the token is not made: see what is wrong", errors=wrong)
        return await _shown(visit, token_form=_again(problem, "name", "role", "expires", sent=visit.form))
    return await _shown(visit, made={"of": f"operator {made['name']}", "token": made["token"]})


async def revoke_token(visit: Visit) -> Redirect:
    """End an operator's token, and every session that was begun with it."""
    await visit.backend.ask("revokeToken", visit.names, version=version_of(visit))
    return Redirect("/access?done=revoked")


async def make_caller(visit: Visit) -> View:
    """Make a caller, and show its token."""
    body = {"name": visit.form.get("name", "").strip(), **_granted(visit)}
    try:
        made = (await visit.backend.ask("createCaller", body=body)).value
    except ApiProblem as problem:
        return await _shown(visit, caller_form=_again(problem, "name", *_GRANTED, sent=visit.form))
    return await _shown(visit, made={"of": f"caller {made['name']}", "token": made["token"]})


async def change_caller(visit: Visit) -> View | Redirect:
    """Change what a caller may use."""
    try:
        await visit.backend.ask("patchCaller", visit.names, body=_granted(visit), version=version_of(visit))
    except ApiProblem as problem:
        return await _shown(visit, refused=problem)
    return Redirect("/access?done=changed")


async def delete_caller(visit: Visit) -> Redirect:
    """Let a caller in no more."""
    await visit.backend.ask("deleteCaller", visit.names, version=version_of(visit))
    return Redirect("/access?done=removed")


def _granted(visit: Visit) -> dict[str, Any]:
    """What was typed into the lists of IDs; `*` alone is all of them."""
    typed = {key: visit.form.get(key, "").replace(",", " ").split() for key in _GRANTED}
    return {key: "*" if names == ["*"] else names for key, names in typed.items()}


def _again(problem: ApiProblem, *names: str, sent: Mapping[str, str]) -> dict[str, Any]:
    """A form with what was typed into it, less tokens, and what is wrong with it."""
    keys = {"/own_token": "own_token", "/expires_at": "expires", "/role": "role", "/name": "name"}
    errors: dict[str, str] = {}
    for each in problem.errors:
        top = each.pointer.split("/")[1:2]
        errors[keys.get(each.pointer, "presets" if top == ["presets"] else "integrations")] = each.detail
    return {"values": {name: sent.get(name, "") for name in names}, "errors": errors, "detail": problem.detail}


_OWN: Final = "must be your own token: type it again"
_EMPTY: Final[Mapping[str, Any]] = {"values": {}, "errors": {}, "detail": ""}


async def _shown(visit: Visit, **more: Any) -> View:
    after = visit.query.get("tokens", ""), visit.query.get("callers", "")
    tokens = (await visit.backend.ask("listTokens", query={"after": after[0]} if after[0] else {})).value
    callers = (await visit.backend.ask("listCallers", query={"after": after[1]} if after[1] else {})).value
    values = {
        "tokens": tokens,
        "callers": callers,
        "roles": ("viewer", "editor", "admin"),
        "made": None,
        "refused": None,
        "token_form": _EMPTY,
        "caller_form": _EMPTY,
        "done": DONE.get(visit.query.get("done", ""), ""),
        **more,
    }
    return View("access.html", values)


PAGES: Final = (
    Page("GET", "/access", browse, "admin"),
    Page("POST", "/access/tokens", make_token, "admin"),
    Page("POST", "/access/tokens/{name}/revoke", revoke_token, "admin"),
    Page("POST", "/access/callers", make_caller, "admin"),
    Page("POST", "/access/callers/{name}", change_caller, "admin"),
    Page("POST", "/access/callers/{name}/delete", delete_caller, "admin"),
)
