"""Show a stored integration: never a secret, nor its length, a part or a hash of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sidekey.settings.stored.document import Saved, replaced, secrets_in
from sidekey.store.records import IntegrationRow

_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999."""


def shown(row: IntegrationRow) -> Any:
    """Return the document as the API shows it; sent back unchanged, it keeps all. Raises MalformedError."""
    written = Saved.load(row.document).written
    values = {
        each.place: {"set": True, "id": each.id, "set_at": instant(sealed.set_at), "set_by": sealed.set_by}
        for each in secrets_in(written)
        if (sealed := row.secrets.get(each.id)) is not None
    }
    return replaced(written, values)


def instant(seconds: float) -> str:
    """Format a time as RFC 3339, in seconds and UTC. Others can write any number to the database."""
    return f"{datetime.fromtimestamp(min(max(0, seconds), _LAST_SECOND), UTC):%Y-%m-%dT%H:%M:%SZ}"
