"""What signs a text, which it takes in pieces; here by a keyed hash."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

from sidekey.credentials.secret_holder import SecretHolder

HmacAlgorithm = Literal["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"]

_HASHES: Mapping[str, Callable[[bytes], hashlib._Hash]] = MappingProxyType(
    {
        "hmac-sha1": hashlib.sha1,
        "hmac-sha256": hashlib.sha256,
        "hmac-sha384": hashlib.sha384,
        "hmac-sha512": hashlib.sha512,
    }
)
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class SigningKey(SecretHolder, ABC):
    """A key that signs. It is not shown.

    `asymmetric` says that whoever verifies has another one, and `slow` that a signature takes long.
    """

    __slots__ = ()

    asymmetric = False
    slow = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(REDACTED)"

    @abstractmethod
    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """The signature over the pieces, one behind the other."""


class Hmac(SigningKey):
    """HMAC (RFC 2104) by one of `HmacAlgorithm`.

    What the key alone decides is computed once (section 4), which halves what a short text costs.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, algorithm: str) -> None:
        new = _HASHES[algorithm]
        size = new(b"").block_size
        padded = (new(key).digest() if len(key) > size else key).ljust(size, b"\0")
        self._inner = new(padded.translate(_INNER))
        self._outer = new(padded.translate(_OUTER))

    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """The code, whole."""
        inner, outer = self._inner.copy(), self._outer.copy()
        for piece in pieces:
            inner.update(piece)
        outer.update(inner.digest())
        return outer.digest()
