"""Adding an integration: choose a kind or a provider, then fill in its document."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sidekey.admin.api.starting import starting_integration
from sidekey.admin.console.page import Page, View, Visit
from sidekey.admin.console.words import title_of
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles


class Choice(NamedTuple):
    """A kind or a provider. `by` is the parameter of its address, `aliases` are more words to find it with."""

    by: str
    name: str
    title: str
    text: str
    aliases: str = ""


async def choose(visit: Visit) -> View:
    """Kinds and providers to choose from, or the editor for one of them."""
    kind, provider = visit.query.get("kind", ""), visit.query.get("provider", "")
    profile = profiles.profile(provider) if provider in profiles.names() else None
    if profile is None and kind not in KINDS:
        return View("choose.html", await visit.service.run(_choices))
    values = {
        "title": title_of(kind) if profile is None else profile.title,
        "profile": profile,
        "text": await visit.service.run(starting_integration, kind if profile is None else profile.kind, provider),
    }
    return View("add.html", values)


def _choices() -> dict[str, Any]:
    found = [(name, profiles.profile(name)) for name in profiles.names()]
    providers = [
        Choice("provider", name, each.title, title_of(each.kind), " ".join(each.aliases))
        for name, each in sorted(found, key=lambda pair: pair[1].title.casefold())
    ]
    kinds = [Choice("kind", name, kind.title, (kind.__doc__ or "").partition("\n")[0]) for name, kind in KINDS.items()]
    return {"groups": (("Providers", providers), ("By kind of credential", kinds))}


PAGES: Final = (Page("GET", "/add", choose, "editor"),)
