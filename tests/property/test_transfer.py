"""What is exported and imported again, with its secrets in their places, is what was stored."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.settings.stored.document import found_at, merge_patch, replaced
from sidekey.settings.stored.exporting import exported_integration
from support.examples import examples
from support.stored import CANARY, draft, former, opened, stored
from support.transfer import every_kind, imported

SECRETS = (
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
    .map(lambda text: f"{CANARY}{text}x")
    .filter(lambda text: text == text.strip(" "))
)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
EDITS = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        "tags": st.lists(TEXTS | st.sampled_from(["off", "0660", "1.5", "~", "2001-01-01"]), max_size=3),
        # One has a test that sends GET.
        "methods": st.lists(st.sampled_from(["POST", "PUT"]), max_size=2).map(lambda each: ["GET", *each]),
        "limits": st.just({"in_flight": 7}),
        "trusted_ca": st.sampled_from(["mozilla", "system"]),
        "redact_response": st.booleans(),
    },
)
KINDS = every_kind()


def entered(data: st.DataObject, document: dict[str, Any]) -> Any:
    """The document with other secrets, where any text is one."""
    values = {
        where: data.draw(SECRETS)
        for where, value in draft(document).entered.items()
        if CANARY in value and not where.endswith(("/url", "/key_passphrase"))
    }
    return replaced(document, {where: {"value": value} for where, value in values.items()})


@settings(max_examples=examples(120), deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(KINDS)), edits=EDITS)
def test_an_export_that_is_imported_is_what_was_stored(name: str, edits: dict[str, Any], data: st.DataObject) -> None:
    """Every kind, whatever its secrets and public values are; so is the profile, and where each secret may go."""
    row = stored(entered(data, merge_patch(KINDS[name], edits)))
    values = opened(row).values
    assert values.keys() == row.secrets.keys()
    exported = exported_integration(row)
    assert exported == exported_integration(row)
    with tempfile.TemporaryDirectory() as folder:
        found = imported(exported, Path(folder), values)
    assert found.errors == found.warnings == ()
    again = draft(found.document)
    assert again.saved.text() == row.document
    assert again.entered == values
    assert again.destination == draft(found.document, former(row)).destination
    assert all(found_at(found.document, where) is not None for where in values)
