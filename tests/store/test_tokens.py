"""store/tokens.py: tokens that nobody guesses."""

from __future__ import annotations

import hashlib
import re

from sidekey.store.tokens import digest_of, new_token


def test_a_token_is_32_random_bytes_behind_a_word_that_scanners_find() -> None:
    """Only its SHA-256 is kept."""
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    for token, digest in made:
        assert re.fullmatch("sidekey_[A-Za-z0-9_-]{43}", token)
        assert digest == digest_of(token) == hashlib.sha256(token.encode()).hexdigest()


def test_what_is_no_text_has_a_digest_as_well() -> None:
    """A header may hold any byte."""
    assert digest_of("\udcff") == hashlib.sha256(b"\xff").hexdigest()
