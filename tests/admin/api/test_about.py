"""admin/api/about.py: the API describes itself to whoever may read."""

from __future__ import annotations

from sidekey.admin.api.openapi import document
from sidekey.admin.api.table import ROUTES
from support.api import Api


def test_the_document_is_served_as_it_is_made(viewer: Api) -> None:
    """To a viewer."""
    assert viewer.get("/openapi.json") == document(ROUTES)
