"""The ring of keys: the first key seals and makes MACs, every key opens and verifies.

A key is never used directly: HKDF-SHA-256 (RFC 5869) derives a key for each purpose and for each value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidekey.credentials.secret_holder import SecretHolder

KEY_BYTES: Final = 32


class KeyMissing(Exception):
    """The ring lacks the key with this ID."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key} is missing in store.keys")
        self.key = key


class KeyRing(SecretHolder):
    """Keys by ID, in the order of the config. The `first` one seals."""

    __slots__ = ("_keys", "first")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Raises ValueError if there is no key, or if one does not have 32 bytes."""
        if not keys:
            raise ValueError("a ring must hold a key")
        for name, key in keys.items():
            if len(key) != KEY_BYTES:
                raise ValueError(f"key {name} must be {KEY_BYTES} bytes")
        self.first: Final = next(iter(keys))
        self._keys: Final = dict(keys)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    @property
    def ids(self) -> tuple[str, ...]:
        """The IDs of the keys, in the order of the config."""
        return tuple(self._keys)

    def derive(self, key: str, salt: bytes, info: bytes) -> bytes:
        """Derive 32 bytes from the key of this ID for one purpose (`info`). Raises KeyMissing."""
        found = self._keys.get(key)
        if found is None:
            raise KeyMissing(key)
        return HKDF(SHA256(), KEY_BYTES, salt, info).derive(found)
