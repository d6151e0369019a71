"""admin/console/form/preview.py: what saving a form would do, in words beside its fields."""

from __future__ import annotations

from typing import Any

import pytest

from sidekey.admin.api.problems import ItemError
from sidekey.admin.console.form.forms import form_for
from sidekey.admin.console.form.preview import NOTHING, name_at, preview_of, worded

MTLS, HEADERS, SHOP = form_for("mtls"), form_for("headers"), form_for("oauth2", "commercetools")
NOTHING_SAID: dict[str, Any] = {
    "version": 1,
    "errors": [],
    "warnings": [],
    "reenter": [],
    "destination": None,
    "certificates": [],
}


def certificate(days: int, *, belongs: bool | None = True, chain: int = 1) -> dict[str, Any]:
    return {
        "pointer": "/auth/certificate",
        "subject": "CN=me",
        "issuer": "CN=bank",
        "not_after": "2027-01-31T00:00:00Z",
        "days_left": days,
        "chain": chain,
        "key_belongs": belongs,
    }


def test_what_must_be_entered_again_is_said_with_the_way_back() -> None:
    """By the names that the form has, of rows by theirs."""
    said = {**NOTHING_SAID, "reenter": [{"pointer": "/auth/client_secret", "because": ["/auth/region"]}]}
    found = preview_of(SHOP, said, (), new=False)
    assert (found.again, found.moving, found.mood) == (("/auth/client_secret",), ("/auth/region",), "warning")
    assert "Enter again: Client secret; or put Region back." in found.summary
    rows = [{"pointer": "/auth/headers/X~1Key/secret", "because": ["/endpoint_prefix"]}]
    assert "Enter again: X/Key;" in preview_of(HEADERS, {**NOTHING_SAID, "reenter": rows}, (), new=False).summary
    pair = [{"pointer": "/auth/private_key", "because": ["/auth/certificate"]}]
    assert "are changed together" in preview_of(MTLS, {**NOTHING_SAID, "reenter": pair}, (), new=False).summary
    gone = [{"pointer": "/auth/private_key", "because": []}]
    assert "not valid any more" in preview_of(MTLS, {**NOTHING_SAID, "reenter": gone}, (), new=False).summary


@pytest.mark.parametrize(
    ("days", "mood", "text"),
    [(88, "good", "88 days left"), (12, "warning", "12 days left"), (1, "warning", "1 day left")],
)
def test_a_certificate_is_told_in_a_sentence(days: int, mood: str, text: str) -> None:
    said = {**NOTHING_SAID, "certificates": [certificate(days, chain=3)]}
    notes = preview_of(MTLS, said, (), new=True).notes
    assert notes["/auth/certificate"].mood == mood
    assert notes["/auth/certificate"].text == (
        f"CN=me, issued by CN=bank, until 31 January 2027: {text}. With 2 of its chain."
    )
    assert notes["/auth/private_key"] == ("good", "It is the key of CN=me.")


def test_a_problem_comes_first_and_what_is_not_there_yet_is_none() -> None:
    """Whoever has just begun is not told that everything is missing."""
    errors = [{"pointer": "/auth/certificate", "detail": "this certificate expired on 2026-01-01"}]
    missing = [{"pointer": "/auth/private_key", "detail": "this key is missing"}]
    said = {**NOTHING_SAID, "errors": errors + missing, "certificates": [certificate(-3, belongs=None)]}
    found = preview_of(MTLS, said, (), new=True)
    assert found.notes["/auth/certificate"].mood == "bad"
    assert found.notes["/auth/certificate"].text.startswith("This certificate expired on 2026-01-01. CN=me")
    assert "over for 3 days" in found.notes["/auth/certificate"].text
    assert "/auth/private_key" not in found.notes


def test_a_file_that_is_none_is_said_in_place_of_what_is_missing() -> None:
    wrong = (ItemError("/auth/private_key", "this file is PKCS#12"),)
    missing = [{"pointer": "/auth/private_key", "detail": "this key is missing"}]
    found = preview_of(MTLS, {**NOTHING_SAID, "errors": missing}, wrong, new=True)
    assert found.notes["/auth/private_key"] == ("bad", "This file is PKCS#12.")
    assert [each.detail for each in found.errors if each.pointer == "/auth/private_key"] == ["this file is PKCS#12"]


def test_where_the_credential_goes_is_said_once_the_document_is_whole() -> None:
    goes = {"base": None, "prefixes": ["https://a.example/v1"], "domains": [], "learns": False}
    found = preview_of(MTLS, {**NOTHING_SAID, "destination": goes}, (), new=False)
    assert found.summary == "The credential goes to https://a.example/v1, and nowhere else."
    many = {**goes, "prefixes": [], "domains": [f"https://{n}.example" for n in range(5)], "learns": True}
    found = preview_of(MTLS, {**NOTHING_SAID, "destination": many}, (), new=False)
    assert found.summary.endswith("within https://0.example, https://1.example, https://2.example and 2 more.")


def test_an_id_that_another_has_is_told_while_it_is_typed() -> None:
    assert preview_of(MTLS, NOTHING_SAID, (), new=True).errors[0].pointer == "/id"
    assert preview_of(MTLS, {**NOTHING_SAID, "version": None}, (), new=True).errors == ()


def test_errors_name_fields_as_the_form_does() -> None:
    error = ItemError("/auth/certificate", "if that is intended, write allow_private_ca: true")
    assert worded(MTLS, [error])[0].detail == "if that is intended, tick \u201cAllow private CA\u201d"
    error = ItemError("/auth/private_key", "write its passphrase as key_passphrase, of_nothing: true")
    assert worded(MTLS, [error])[0].detail == "write its passphrase as \u201cKey passphrase\u201d, of_nothing: true"
    assert (name_at(MTLS, "/auth/private_key"), name_at(MTLS, "/gone/x"), name_at(MTLS, "")) == (
        "Private key",
        "gone x",
        "everything",
    )


def test_nothing_is_said_before_anything_is_known() -> None:
    assert (NOTHING.summary, NOTHING.again, NOTHING.notes) == ("", (), {})
