"""Keyed hashes: they are those of the standard library, and are not shown."""

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
def test_a_keyed_hash_is_that_of_the_standard_library(key: bytes, body: list[bytes], algorithm: HmacAlgorithm) -> None:
    """With keys shorter than a block, as long and longer, and whatever the pieces; and a second time as the first."""
    signer = Hmac(key, algorithm)
    expected = hmac.digest(key, b"".join(body), HASHES[algorithm])
    assert signer.sign(body) == signer.sign(body) == expected


@pytest.mark.parametrize("size", [63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("algorithm", HASHES)
def test_keys_about_the_size_of_a_block(size: int, algorithm: HmacAlgorithm) -> None:
    """RFC 2104 2: longer ones are hashed first."""
    key = bytes(range(size))
    assert Hmac(key, algorithm).sign([b"x"]) == hmac.new(key, b"x", HASHES[algorithm]).digest()


def test_a_key_is_not_shown_and_not_pickled() -> None:
    key = Hmac(b"hunter2", "hmac-sha256")
    assert repr(key) == str(key) == "Hmac(REDACTED)"
    assert not key.asymmetric
    assert not key.slow
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
