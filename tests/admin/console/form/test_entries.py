"""admin/console/form/entries.py: a form with what is in it, and the document that it has sent."""

from __future__ import annotations

import pytest

from sidekey.admin.api.problems import ItemError
from sidekey.admin.console.form.entries import ID, entries_of, form_of, sent_document, without_field
from sidekey.admin.console.form.forms import form_for


def test_a_new_one_has_an_id_and_nothing_is_wrong_with_it_yet() -> None:
    form = form_for("basic")
    new = entries_of(form, {}, None)
    assert next(each.field.key for each in new.first) == "id"
    assert (new.opened, new.set) == (False, 0)
    wrong = entries_of(form, {"description": "d"}, 3, [ItemError("/tags", "x"), ItemError("/odd", "y")])
    assert (wrong.opened, wrong.set, next(each.field.key for each in wrong.first)) == (True, 1, "endpoint_prefix")
    assert without_field(form, [ItemError("/id", "a"), ItemError("/odd", "y")]) == (ItemError("/odd", "y"),)
    assert sent_document(form, {"/id": "crm"}, {}) == {"id": "crm", "auth": {"type": "basic"}}
    assert ID.required


@pytest.mark.parametrize(
    "document", [{}, {"auth": 7}, {"auth": {"type": "of-later"}}, {"auth": {"type": "oauth2", "provider": "gone"}}]
)
def test_a_document_that_no_form_can_show_has_none(document: dict[str, object]) -> None:
    assert form_of(document) is None


def test_what_the_form_has_no_field_for_stays() -> None:
    """A key of a later version, as it reads."""
    former = {"later": {"x": 1}, "version": 3, "auth": {"type": "basic"}}
    assert sent_document(form_for("basic"), {}, former)["later"] == {"x": 1}
    assert "version" not in sent_document(form_for("basic"), {}, former)
