"""An export with its secrets in place can be imported without a difference."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidekey.config.stored.document import merge_patch, with_values
from sidekey.config.stored.presets import PresetDraft, prepare_preset
from sidekey.config.stored.rows import has_content_of
from sidekey.config.stored.transfer import export_integration, export_preset, loc_of_pointer
from sidekey.config.stored.validate import InvalidPreset
from sidekey.config.yaml_reader import parse
from sidekey.config.yaml_writer import Inexpressible, write
from sidekey.store.records import PresetRow
from support.plane import integration
from support.stored import CANARY, VAULT, draft, entered_values, ids, open_secrets, previous_row, stored
from support.transfer import every_kind, import_exported

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
        "methods": st.lists(st.sampled_from(["POST", "PUT"]), max_size=2).map(lambda item: ["GET", *item]),
        "limits": st.just({"in_flight": 7}),
        "trusted_ca": st.sampled_from(["mozilla", "system"]),
        "redact_response": st.booleans(),
    },
)
KINDS = every_kind()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS.filter(lambda key: "{{" not in key), inner, max_size=3)
    ),
    max_leaves=8,
)
ID = re.compile(r"s_[0-9a-f]{16}")
PLACEHOLDERS = st.sampled_from(["{{a}}", "x {{a}} y", "{{{{", "'{{a}}'", "{{a}}: # |"])


def with_secrets(data: st.DataObject, document: dict[str, Any]) -> Any:
    """Replace the secrets of a document, if any text is one."""
    values = {
        loc_of_pointer(document, where): {"value": data.draw(SECRETS)}
        for where, value in entered_values(draft(document)).items()
        if CANARY in value
        and not where.endswith(("/url", "/username", "/key_passphrase", "/session_token", "/secret_access_key"))
    }
    return with_values(document, values)


@given(data=st.data(), name=st.sampled_from(sorted(KINDS)), edits=EDITS)
def test_imported_export_equals_the_stored_integration(name: str, edits: dict[str, Any], data: st.DataObject) -> None:
    """Every kind, with any secrets and values, its profile and its destinations."""
    row = stored(with_secrets(data, merge_patch(KINDS[name], edits)))
    values = open_secrets(row).values
    assert values.keys() == ids(row).keys()
    exported = export_integration(row)
    assert exported == export_integration(row)
    with tempfile.TemporaryDirectory() as folder:
        result = import_exported(exported, Path(folder), values)
    assert result.errors == result.warnings == ()
    again = draft(result.document)
    text = again.saved.text()
    # Secrets have new IDs, in the order of the former ones.
    new = dict(zip(ID.findall(text), ID.findall(row.document), strict=True))
    assert ID.sub(lambda result: new[result[0]], text) == row.document
    assert entered_values(again) == values
    before = previous_row(row).purpose
    assert before is not None
    assert again.purpose.destinations == before.destinations
    assert has_content_of(VAULT, row, again)


@given(body=VALUES, text=PLACEHOLDERS, description=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_imported_export_equals_the_stored_preset(body: Any, text: str, description: str) -> None:
    """Every value of a body, with its type and the order of its keys, unless the export reports it."""
    document = {
        "description": description,
        "integration": "crm",
        "url": "https://api.example.com/v1/x",
        "parameters": {"a": {"type": "text", "default": text}},
        "body": {"json": {"text": text, "more": body}},
    }
    result = prepare_preset("hook", document, {"crm": integration("crm", "https://api.example.com/v1")}, 0.0)
    if isinstance(result, InvalidPreset):
        # Texts in it may hold {{ by chance.
        assert {item.pointer.split("/")[1] for item in result.errors if item.pointer} <= {"body", "parameters"}
        return
    row = PresetRow(row_id="r", id="hook", document=result.text)
    try:
        text = write({"version": 1, "presets": {"hook": export_preset(row).config}})
    except Inexpressible:
        return
    read, errors = parse("x.yaml", text.encode())
    assert errors == []
    integrations = {"crm": integration("crm", "https://api.example.com/v1")}
    again = prepare_preset("hook", read["presets"]["hook"], integrations, 0.0)
    assert isinstance(again, PresetDraft)
    assert again.text == row.document
