"""References to secrets and texts, and the rules for injected names and values."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sidekey.credentials import fields
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Reference, SecretUnreadable

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]


def test_control_character_in_a_secret_is_an_error() -> None:
    """CR, LF and NUL would end a header early."""
    for control in CONTROLS:
        with pytest.raises(ValueError, match="control character") as caught:
            fields.clean_secret(f"hunter{control}2")
        assert "hunter" not in str(caught.value), ascii(control)


@pytest.mark.parametrize("text", ["hunter2\ud800", "\udc00"])
def test_lone_surrogate_is_an_error(text: str) -> None:
    """YAML can write one, but nothing can send it."""
    with pytest.raises(ValueError, match="lone surrogate"):
        fields.clean(text)


PEM = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("text", [PEM, PEM.replace("\n", "\r\n"), PEM.rstrip(), f"Key of crm\n{PEM}\n"])
def test_pem_keeps_its_lines_and_leading_text(text: str) -> None:
    """RFC 7468 2."""
    assert fields.clean_pem(text).strip() == text.replace("\r\n", "\n").strip()
    assert fields.parse_secret({"insecure_value": text}, Context("file"), pem=True).pem
    assert fields.parse_text(text.replace("PRIVATE KEY", "CERTIFICATE"), Context("file"), pem=True).pem
    with pytest.raises(ValueError, match="must not contain a private key"):
        fields.parse_text(text, Context("file"), pem=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must not be empty"),
        ("\n\n", "must not be empty"),
        ("hunter2\n", "must be PEM"),
        (f"{PEM}\0", "control"),
        (f"\t{PEM}", "control"),
    ],
)
def test_invalid_pem_is_an_error_that_repeats_nothing(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        fields.clean_pem(text)
    assert "hunter2" not in str(caught.value)


def test_literal_value_is_checked_at_once() -> None:
    """Other values are checked when they are read."""
    judge = fields.literal_check(fields.check_not_empty).func
    for reference in (Reference("text", ""), Reference("insecure_value", "")):
        with pytest.raises(ValueError, match="must not be empty"):
            judge(reference)  # type: ignore[call-arg]
    for reference in (Reference("text", "a"), Reference("env", ""), Reference("file", "")):
        assert judge(reference) is reference  # type: ignore[call-arg]


def test_text_may_be_empty() -> None:
    """RFC 7617 allows an empty user name."""
    assert fields.parse_text("", Context("file")) == Reference("text", "")


@pytest.mark.parametrize(
    ("raw", "reference"),
    [
        ({"file": "/run/secrets/crm"}, Reference("file", "/run/secrets/crm")),
        ({"env": "CRM_2"}, Reference("env", "CRM_2")),
        ({"insecure_value": "hunter2\n"}, Reference("insecure_value", "hunter2")),
    ],
)
def test_secret_is_one_of_three_references(raw: object, reference: Reference) -> None:
    assert fields.parse_secret(raw, Context("file")) == reference


@pytest.mark.parametrize(
    "name", ["X-Api-Key", "authorization", "Proxy-Authorization", "x_tenant", "!#$%&'*+-.^_`|~0aZ"]
)
def test_every_token_is_a_header_name(name: str) -> None:
    """RFC 9110 5.6.2. Proxy-Authorization may be injected."""
    assert fields.check_header_name(name) == name


@given(st.text())
def test_header_name_is_a_token_or_an_error(name: str) -> None:
    allowed = set(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
    try:
        fields.check_header_name(name)
    except ValueError:
        return
    assert name
    assert set(name) <= allowed


@pytest.mark.parametrize("name", [*sorted(fields.NOT_INJECTED), "sidekey-token", "sidekey-anything"])
def test_connection_header_names_are_refused_in_every_spelling(name: str) -> None:
    """Case is ignored, and an underscore counts as a hyphen."""
    for spelled in (name, name.upper(), name.title(), name.replace("-", "_")):
        with pytest.raises(ValueError, match="may not be injected"):
            fields.check_header_name(spelled)


@pytest.mark.parametrize("value", [" a", "a ", " "])
def test_spaces_at_the_ends_of_a_header_value_are_an_error(value: str) -> None:
    """Recipients drop them, which would change the secret."""
    with pytest.raises(ValueError, match="a space"):
        fields.check_header_value(value)


@given(st.text())
def test_header_value_is_sent_as_utf_8(value: str) -> None:
    """One Latin-1 character a byte."""
    try:
        value = fields.clean(value)
        value.encode()
    except ValueError:
        return
    travelling = fields.encode_header_value(value)
    assert travelling.encode("latin-1").decode() == value
    assert not set(travelling) & set("\r\n\0")


@pytest.mark.parametrize(("source", "shown"), [("text", "/rest"), ("env", "REDACTED"), ("file", "REDACTED")])
def test_literal_public_text_is_shown(source: fields.Source, shown: str) -> None:
    """Names of files and variables are redacted."""
    adapter = TypeAdapter(fields.PublicText)
    assert adapter.dump_python(Reference(source, "/rest")) == shown


def test_unreadable_secrets_are_listed_in_one_message() -> None:
    error = SecretUnreadable(
        ((("auth", "username"), "the file must not be empty"), (("auth", "password"), "it is not set"))
    )
    assert str(error) == "auth.username: the file must not be empty; auth.password: it is not set"


@pytest.mark.parametrize("raw", [None, 1, "text", ["key"]])
def test_value_that_is_not_a_mapping_counts_as_an_empty_one(raw: object) -> None:
    assert fields.mapping(raw) == {}
    assert fields.mapping({"key": raw}) == {"key": raw}


@pytest.mark.parametrize(
    ("form", "stored"),
    [
        ("value", {"value": "x"}),
        ("text", "x"),
        ("inline", {"inline": "x"}),
        ("secret", {"secret": {"value": "x"}}),
    ],
)
def test_each_form_of_a_reference_has_a_stored_form(form: fields.StoredForm, stored: object) -> None:
    assert fields.write_stored(form, "x") == stored
    assert fields.parse_secret({"file": "f"}, Context("file")).form == "value"
    assert fields.parse_text({"file": "f"}, Context("file")).form == "text"
    assert fields.parse_text({"file": "f"}, Context("file")) == fields.parse_secret({"file": "f"}, Context("file"))
