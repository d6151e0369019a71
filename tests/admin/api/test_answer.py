"""admin/api/answer.py: JSON, and the fields that go with it."""

from __future__ import annotations

from sidekey.admin.api.answer import Answer, etag, version_in


def test_a_version_is_an_entity_tag() -> None:
    """A strong one, in quotes (RFC 9110 8.8.3)."""
    assert etag(7, {}) == '"7"'
    assert Answer.of({}, version=7).headers == {"ETag": '"7"'}


def test_what_is_observed_is_in_the_entity_tag() -> None:
    """So that a client that asks for changes is told of them; a change of the document needs the version alone."""
    tags = [
        etag(7, {"status": "ok", "usable": True, "problem": None}),
        etag(7, {"status": "failing", "problem": "3 failures"}),
        etag(7, {"status": "failing", "problem": "4 failures"}),
        etag(7, {"status": "ok", "expires_at": "2030-01-01T00:00:00Z"}),
    ]
    assert len(set(tags)) == 4
    assert [version_in(tag) for tag in tags] == [7] * 4
    assert [version_in(tag) for tag in ("7", 'W/"7"', '"07"', '"7-"', '"x"', "*")] == [None] * 6


def test_json_is_compact_and_utf_8() -> None:
    """With where the thing is, if it was made."""
    answer = Answer.of({"a": ["é", None]}, status=201, location="/x")
    assert (answer.status, answer.body, answer.headers) == (201, '{"a":["é",null]}'.encode(), {"Location": "/x"})


def test_an_answer_does_not_show_its_body() -> None:
    """It may hold a new token."""
    assert "sidekey_secret" not in repr(Answer.of({"token": "sidekey_secret"}))
