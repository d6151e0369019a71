"""All pages. A new one is a line in the table of its module, a new module a line here."""

from __future__ import annotations

from typing import Final

from sidekey.admin.console.page import Page
from sidekey.admin.console.pages import access, activity, adding, integrations, presets

PAGES: Final[tuple[Page, ...]] = (*integrations.PAGES, *adding.PAGES, *presets.PAGES, *activity.PAGES, *access.PAGES)
