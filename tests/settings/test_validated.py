"""One validation for both sources."""

from __future__ import annotations

import pytest

from sidekey.credentials.context import Context
from sidekey.settings.config_errors import Finding
from sidekey.settings.document import parse
from sidekey.settings.stored.document import merge_patch, with_new_ids
from sidekey.settings.validated import validate, validate_saved
from support.stored import BASIC, PROFILE, copied


def test_a_file_and_a_stored_document_have_the_same_errors() -> None:
    """Where they may say the same; a bare text has another way out."""
    document = {
        "endpoint_prefix": "x",
        "methods": ["get"],
        "test": 1,
        "auth": {"type": "headers", "headers": {"X Y": "a"}},
    }
    text = "endpoint_prefix: x\nmethods: [get]\ntest: 1\nauth: {type: headers, headers: {X Y: a}}\n"
    of_file = validate(parse("c.yaml", text.encode())[0], Context("file"))
    assert of_file.errors == validate(with_new_ids(document), Context("body")).errors
    assert len(of_file.errors) == 4
    assert of_file.settings is None


@pytest.mark.parametrize(("stored", "way_out"), [(False, "use {file: PATH}"), (True, "send {value: SECRET}")])
def test_the_way_out_is_that_of_the_source(stored: bool, way_out: str) -> None:
    """A stored document has no files."""
    document = copied(BASIC)
    document["auth"] = {"type": "basic", "username": {"value" if stored else "env": "USER"}, "password": "hunter2"}
    raw, context = (with_new_ids(document), Context("body")) if stored else (document, Context("file"))
    (error,) = validate(raw, context).errors
    assert error.loc == ("auth", "password")
    assert way_out in error.message


def test_what_a_profile_filled_in_is_wrong_where_it_is_named() -> None:
    """The document has no other place for it."""
    document = with_new_ids({**PROFILE, "allow_other_domains": True, "allowed_domains": []})
    assert validate(document, Context("body")).errors == (
        Finding(
            ("allow_other_domains",),
            "needs allowed_domains: list the domains, or remove this key",
            written=("allow_other_domains",),
        ),
    )
    missing = validate(with_new_ids({"auth": {"type": "oauth2", "provider": "commercetools"}}), Context("body"))
    assert [each.place for each in missing.errors] == [
        ("auth", "region"),
        ("auth", "client_id"),
        ("auth", "client_secret"),
    ]


def test_a_saved_document_is_validated_with_what_its_profile_brought_then() -> None:
    """Also where that profile is gone."""
    saved = merge_patch(PROFILE, {"auth": {"client_secret": {"value": None, "set": True, "id": "s_1"}}})
    validated = validate(saved, Context("row"))
    assert validated.expansion.brought is not None
    brought = validated.expansion.brought._replace(provider="gone")
    again = validate_saved(saved, brought)
    assert again.errors == ()
    assert again.settings == validated.settings
    assert again.expansion.table == validated.expansion.table
