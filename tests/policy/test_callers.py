"""Which caller the credentials of a request identify."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.callers import Caller, Callers, Unidentified, certificate_key, jwt_key
from sidekey.policy.identifiers import InvalidIdentifiers

A, B = Caller("a", None), Caller("b", frozenset())
BY_KEY = {
    hashlib.sha256(b"token-a").digest(): A,
    hashlib.sha256(b"token-b").digest(): B,
    certificate_key("dns:a"): A,
    certificate_key("spiffe://x/a"): A,
    certificate_key("dns:b"): B,
    jwt_key("i", "a"): A,
}
SUBJECTS = {b"ey.a.": jwt_key("i", "a"), b"ey.none.": jwt_key("i", "none")}
CERTIFIED = {certificate_key("dns:a"): A, certificate_key("spiffe://x/a"): A, certificate_key("dns:b"): B}
TOKENS = {b"token-a": A, b"token-b": B, b"ey.a.": A}


class Verified:
    """Has verified the JWTs in SUBJECTS. `remembers` them, or verifies them now."""

    def __init__(self, *, remembers: bool) -> None:
        self.remembers = remembers

    def find(self, digest: bytes) -> bytes | None:
        digests = {hashlib.sha256(token).digest(): key for token, key in SUBJECTS.items()}
        return digests.get(digest) if self.remembers else None

    def verify(self, token: bytes, digest: bytes) -> bytes | Unidentified:
        return SUBJECTS.get(token, Unidentified("jwt_invalid"))


KEYS = st.lists(st.sampled_from([*CERTIFIED, certificate_key("dns:c"), hashlib.sha256(b"x").digest()]), max_size=3)
REFUSED = Unidentified("certificate_invalid")


@given(
    st.none() | KEYS,
    st.sampled_from([b"", b"x", b"ey.x.", b"ey.none.", *TOKENS]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_all_credentials_must_identify_one_caller(
    keys: list[bytes] | None,
    token: bytes,
    remembers: bool,
    has_issuers: bool,
    is_refused: bool,
) -> None:
    """The fast path finds a caller only if the full decision does."""
    callers = Callers(BY_KEY, Verified(remembers=remembers) if has_issuers else None)
    if keys is not None:
        callers = callers.on_connection(keys, REFUSED if is_refused else None)
    expected = {CERTIFIED[key] for key in keys or [] if key in CERTIFIED}
    by_token = None if token.startswith(b"ey") and not has_issuers else TOKENS.get(token)
    is_valid = not token or by_token is not None
    if by_token is not None:
        expected.add(by_token)
    try:
        result = callers.authenticate(token)
    except InvalidIdentifiers:
        result = None
        assert len(expected) > 1
        assert is_valid
    if isinstance(result, Caller):
        assert expected == {result}
        assert is_valid
        assert not (is_refused and keys is not None)
        presented = {key for key in keys or [] if key in CERTIFIED}
        digest = hashlib.sha256(token).digest()
        presented |= {SUBJECTS.get(token, digest)} if token else set()
        # A WebSocket ends if a reload removes one of these.
        assert callers.keys(token) == presented
    fast = callers.find(token)
    assert fast is None or fast is result
    if isinstance(result, Caller) and (remembers or not token.startswith(b"ey")):
        assert fast is result
