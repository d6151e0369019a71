"""All routes of the API. A new one is a line in the table of its module, a new module a line here."""

from __future__ import annotations

from typing import Final

from sidekey.admin.api import (
    about,
    audit,
    callers,
    catalogue,
    integrations,
    preset_trials,
    presets,
    previews,
    tokens,
    trials,
)
from sidekey.admin.api.route import Route

ROUTES: Final[tuple[Route, ...]] = (
    *integrations.ROUTES,
    *trials.ROUTES,
    *previews.ROUTES,
    *presets.ROUTES,
    *preset_trials.ROUTES,
    *callers.ROUTES,
    *catalogue.ROUTES,
    *tokens.ROUTES,
    *audit.ROUTES,
    *about.ROUTES,
)
