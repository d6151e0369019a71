"""admin/console/form/filled.py: what a form shows, which is never a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from admin.console.form.test_document import DOCUMENTS, READ, page_of
from sidekey.admin.api.problems import ItemError
from sidekey.admin.console.form.entries import form_of
from sidekey.admin.console.form.filled import fill, unplaced
from sidekey.admin.console.form.forms import form_for


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_page_has_a_secret_that_was_refused(name: str) -> None:
    """What was typed is not sent back, whatever is wrong with it."""

    def typed(value: Any) -> Any:
        if isinstance(value, Mapping):
            if value == READ:
                return {"value": "canary-secret"}
            return {key: typed(each) for key, each in value.items()}
        return value

    document = typed(DOCUMENTS[name])
    form = form_of(document)
    assert form is not None
    assert "canary" not in str(page_of(form, document).fields)


def test_an_error_stands_beside_the_nearest_field() -> None:
    """In a group beside its part; what has no field is told apart."""
    form = form_for("oauth2")
    errors = (
        ItemError("/auth/client_id", "must not be empty"),
        ItemError("/auth/token_request/body/scope", "must be text"),
        ItemError("/auth/assertion", "is missing"),
        ItemError("/odd", "is not known"),
    )
    filled = {each.field.key: each for each in fill(form.fields, {}, errors)}
    assert filled["client_id"].errors == ("must not be empty",)
    assert filled["assertion"].errors == ("is missing",)
    request = filled["token_request"]
    assert (request.errors, request.is_wrong) == ((), True)
    assert next(each for each in request.parts if each.field.key == "body").errors == ("must be text",)
    assert unplaced(form.fields, errors) == [errors[3]]
