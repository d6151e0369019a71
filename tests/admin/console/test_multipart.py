"""admin/console/multipart.py: what browsers send where a form has files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.admin.console.multipart import fields_of
from support.pages import multipart

NAMES = st.from_regex(r"/[a-z#/_~0-9]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@given(st.dictionaries(NAMES, TEXTS, max_size=6))
def test_fields_come_as_they_were_sent(fields: dict[str, str]) -> None:
    """With their line breaks, and empty ones."""
    kind, body = multipart(fields, {})
    assert fields_of(body, kind.partition("boundary=")[2], 100) == fields


def test_a_file_is_its_content_and_what_is_no_text_has_a_character_for_each_byte() -> None:
    kind, body = multipart({"a": "x"}, {"b": b"-----BEGIN\r\n", "c": b"\x30\x82\xff\r\n\r\n", "d": b""})
    found = fields_of(body, kind.partition("boundary=")[2], 100)
    assert found == {"a": "x", "b": "-----BEGIN\r\n", "c": "\x30\x82\xff\r\n\r\n", "d": ""}


def test_a_form_may_have_no_field() -> None:
    assert fields_of(b"--x--", "x", 9) == {}


def test_of_a_name_that_comes_twice_the_first_counts() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a%22b"\r\n\r\n%d\r\n'
    assert fields_of(part.replace(b"%d", b"1") + part.replace(b"%d", b"2") + b"--x--", "x", 9) == {'a"b': "1"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n\r\n1\r\n--x--",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1',
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n1\r\n--x--',
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--',
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 10 + b"--x--",
        b'--x\r\nContent-Disposition: form-data; name="a"' + b" " * 5000 + b"\r\n\r\n1\r\n--x--",
    ],
)
def test_what_no_browser_sends_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"part|boundary|too many|decode"):
        fields_of(body, "x", 9)


@pytest.mark.parametrize("boundary", ["", "x" * 71, "a\r\nb", "\u00e9", "x "])
def test_a_boundary_must_be_one(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        fields_of(b"--x--", boundary, 9)


@given(st.binary(max_size=300))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    """And nothing else is raised."""
    try:
        found = fields_of(body, "x", 5)
    except ValueError:
        return
    assert len(found) <= 5
