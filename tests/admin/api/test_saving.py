"""admin/api/saving.py: rows of what was sent. What of it is saved and shown is in test_integrations.py."""

from __future__ import annotations

from sidekey.admin.api.saving import differing


def test_what_differs_is_told_by_pointers_alone() -> None:
    """As deep as both have objects; a list is one value."""
    before = {"a": 1, "b": {"c": [1], "d": 2}, "same": {"x": 1}}
    after = {"a": 2, "b": {"c": [2], "d": 2, "e/f": 3}, "same": {"x": 1}}
    assert list(differing(before, after)) == ["/a", "/b/c", "/b/e~1f"]
