"""Encrypt (seal) each value with AES-256-GCM and a separate key, bound to its location and destination.

A sealed value has the form `1:KEY:DATA`, where KEY is the ID of the key of the ring and DATA is base64url without
padding of 16 bytes of salt, 12 of nonce, the ciphertext and its tag. The key of the value is HKDF-SHA-256(key of the
ring, salt, "sidekey value v1").

The associated data name the value, its location and its destination. Tests pin their bytes. A value does not open for
another row, ID, location or destination (NIST SP 800-38D 5.2.2).
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.store.canonical_json import Json, canonical

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
        """Derive 32 bytes from the key of this ID for one `info`. Raises KeyMissing."""
        secret = self._keys.get(key)
        if secret is None:
            raise KeyMissing(key)
        return HKDF(SHA256(), KEY_BYTES, salt, info).derive(secret)


VERSION: Final = 1
"""Version of the associated data and of the form of a sealed value."""

_INFO: Final = b"sidekey value v1"
_SALT: Final = 16
_NONCE: Final = 12
_TAG: Final = 16


@dataclass(frozen=True, slots=True)
class Binding:
    """The associated data of a value.

    `store` is the ID of the store, `row_id` the permanent ID of the row, `id` the row's name, `secret` the ID of the
    value in the row, `destination` where Sidekey may send the value, and `location` the config keys that lead to the
    value. A lease has no location.
    """

    store: str
    row_id: str
    id: str
    secret: str
    destination: Json
    location: Json = None


class Purpose(NamedTuple):
    """The permitted use of an integration's secrets: the `location` of each `Binding.secret`, and the destinations.

    New secrets are sealed for the first destination. Secrets open if they were sealed for any of the destinations.
    """

    locations: Mapping[str, Mapping[str, Json]]
    destinations: Sequence[Mapping[str, Json]]

    def bindings(self, store: str, row_id: str, name: str, secret: str) -> list[Binding]:
        """Return the bindings of a secret, in the order of the destinations."""
        location = self.locations.get(secret)
        return [Binding(store, row_id, name, secret, destination, location) for destination in self.destinations]


class NotOpened(Exception):
    """A sealed value does not open. The message says why, and contains no value."""


def associated_data(binding: Binding, key: str) -> bytes:
    """Build the AEAD associated data of a value that this key seals."""
    return canonical(
        {
            "id": binding.id,
            "key": key,
            "place": binding.location,
            "row": binding.row_id,
            "secret": binding.secret,
            "store": binding.store,
            "to": binding.destination,
            "v": VERSION,
        }
    ).encode()


def seal(ring: KeyRing, text: str, binding: Binding) -> str:
    """Seal a text with the first key. Raises ValueError for a lone surrogate, which UTF-8 cannot encode."""
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    cipher = AESGCM(ring.derive(ring.first, salt, _INFO))
    ciphertext = cipher.encrypt(nonce, text.encode(), associated_data(binding, ring.first))
    return f"{VERSION}:{ring.first}:{_encode(salt + nonce + ciphertext)}"


def open_sealed(ring: KeyRing, sealed: str, binding: Binding) -> str:
    """Open a value that was sealed with the same binding. Raises NotOpened."""
    key, data = _parse(sealed)
    salt, nonce, ciphertext = data[:_SALT], data[_SALT : _SALT + _NONCE], data[_SALT + _NONCE :]
    try:
        cipher = AESGCM(ring.derive(key, salt, _INFO))
        return cipher.decrypt(nonce, ciphertext, associated_data(binding, key)).decode()
    except KeyMissing as error:
        raise NotOpened(str(error)) from None
    except InvalidTag:
        reason = "it was entered for another place or destination, or was altered: enter it again"
        raise NotOpened(reason) from None


def _parse(sealed: str) -> tuple[str, bytes]:
    version, _, rest = sealed.partition(":")
    key, _, text = rest.partition(":")
    try:
        data = urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}".encode("ascii"))
    except ValueError:
        data = b""
    # Accept only the canonical encoding. Python ignores characters outside base64, and bits after the last byte.
    if version != str(VERSION) or len(data) < _SALT + _NONCE + _TAG or _encode(data) != text:
        raise NotOpened("it is not a sealed value of this version of Sidekey")
    return key, data


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
