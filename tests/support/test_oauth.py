"""What the tests' own OAuth client sends is what the RFC shows: fakes and tests compare with it."""

from __future__ import annotations

from base64 import b64decode

from support import oauth


def test_basic_is_form_encoded_before_base64() -> None:
    """RFC 6749 2.3.1 and its appendix B, in the spelling of a space that every server reads."""
    assert b64decode(oauth.basic("a b", "%:+").removeprefix("Basic ")) == b"a%20b:%25%3A%2B"
