"""ui/forms: a form changes what was changed in it, and keeps the rest of the document, of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sidekey.admin.api.openapi import document as openapi
from sidekey.admin.api.routes import ROUTES
from support.every_kind import documents_of_every_kind
from support.ui_modules import run_module

EDIT: Final = """
const { fieldsOf, isDesigned } = await import("./forms/kinds.js");
const { load, save } = await import("./forms/model.js");
return input.map((document) => {
  const fields = fieldsOf(document.auth.type, null, []);
  const values = load(fields, document);
  const titled = save(fields, document, { ...values, title: "Another name" });
  const tested = save(fields, document, { ...values, test: { method: "POST", path: "/x" } });
  return { same: save(fields, document, values), titled, tested, designed: isDesigned(document.auth.type) };
});
"""


def shown(value: Any) -> Any:
    """Return a document as the API shows it: with the secrets as they are stored."""
    if isinstance(value, dict):
        if value.keys() in ({"value"}, {"url"}):
            return {"set": True, "id": "s_0123456789abcdef", "set_at": "2026-05-03T10:00:00Z", "set_by": "ann"}
        return {key: shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list) else value


def test_a_form_changes_nothing_else(tmp_path: Path) -> None:
    """Also not secrets as they were entered, and keys that no form shows."""
    entered = [{"id": name, **each} for name, each in documents_of_every_kind(1, tmp_path).items()]
    more = {
        "description": "kept",
        "tags": ["a"],
        "endpoint_prefix": ["https://a.example/v1", "https://b.example"],
        "limits": {"in_flight": 3},
        "test": {"method": "GET", "path": "/me"},
    }
    documents = [*entered, *map(shown, entered), *({**each, **more} for each in map(shown, entered))]
    edited = run_module(EDIT, documents)
    assert {each["designed"] for each in edited} == {True, False}
    for before, after in zip(documents, edited, strict=True):
        assert after["same"] == before
        assert after["titled"] == {**before, "title": "Another name"}
        assert after["tested"] == {**before, "test": {"method": "POST", "path": "/x"}}


def test_the_read_only_members_of_an_integration_are_known() -> None:
    schema = openapi(ROUTES)["components"]["schemas"]["NewIntegration"]["properties"]
    read_only = {name for name, each in schema.items() if each.get("readOnly")}
    read_only_in_console = run_module('return (await import("./forms/document.js")).READ_ONLY;', None)
    assert {*read_only_in_console} == read_only - {"id"}
