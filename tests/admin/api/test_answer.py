"""admin/api/answer.py: JSON, and the fields that go with it."""

from __future__ import annotations

from sidekey.admin.api.answer import Answer, etag


def test_a_version_is_an_entity_tag() -> None:
    """A strong one, in quotes (RFC 9110 8.8.3)."""
    assert etag(7) == '"7"'
    assert Answer.of({}, version=7).headers == {"ETag": '"7"'}


def test_json_is_compact_and_utf_8() -> None:
    """With where the thing is, if it was made."""
    answer = Answer.of({"a": ["é", None]}, status=201, location="/x")
    assert (answer.status, answer.body, answer.headers) == (201, '{"a":["é",null]}'.encode(), {"Location": "/x"})


def test_an_answer_does_not_show_its_body() -> None:
    """It may hold a new token."""
    assert "sidekey_secret" not in repr(Answer.of({"token": "sidekey_secret"}))
