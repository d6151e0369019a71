"""HMAC keys, compared with the standard library."""

from __future__ import annotations

import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.signatures.keys import Hmac, HmacAlgorithm

HASHES: dict[HmacAlgorithm, str] = {
    "hmac-sha1": "sha1",
    "hmac-sha256": "sha256",
    "hmac-sha384": "sha384",
    "hmac-sha512": "sha512",
}


@given(
    key=st.binary(max_size=300),
    body=st.lists(st.binary(max_size=200), max_size=5),
    algorithm=st.sampled_from(sorted(HASHES)),
)
def test_hmac_equals_the_standard_library(key: bytes, body: list[bytes], algorithm: HmacAlgorithm) -> None:
    """For keys shorter and longer than a block, any pieces, and the second use of a key."""
    signer = Hmac(key, algorithm)
    expected = hmac.digest(key, b"".join(body), HASHES[algorithm])
    assert signer.sign(body) == signer.sign(body) == expected


@pytest.mark.parametrize("size", [63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("algorithm", HASHES)
def test_hmac_with_keys_of_about_a_block(size: int, algorithm: HmacAlgorithm) -> None:
    """RFC 2104 2: longer keys are hashed first."""
    key = bytes(range(size))
    assert Hmac(key, algorithm).sign([b"x"]) == hmac.new(key, b"x", HASHES[algorithm]).digest()


def test_key_is_redacted_and_not_pickled() -> None:
    key = Hmac(b"hunter2", "hmac-sha256")
    assert repr(key) == str(key) == "Hmac(REDACTED)"
    assert not key.asymmetric
    assert not key.slow
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
