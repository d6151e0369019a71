"""admin/api/saving.py: what of a request is a document. What is saved of it is in test_integrations.py."""

from __future__ import annotations

from sidekey.admin.api.documents import ABOUT
from sidekey.admin.api.saving import document_in


def test_what_is_said_about_an_integration_is_no_part_of_its_document() -> None:
    """So that what was read can be edited and sent back."""
    sent = {**dict.fromkeys(ABOUT, "as it was read"), "description": "d", "auth": {"id": "of the kind"}}
    assert document_in(sent) == {"description": "d", "auth": {"id": "of the kind"}}
