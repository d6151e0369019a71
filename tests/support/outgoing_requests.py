"""Requests for signers, and private keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sidekey.credentials.signing import OutgoingRequest, RandomIds
from support import keys

NOW: Final = 1614265330.75
UNIQUE: Final = RandomIds(bytes(range(16)), bytes(range(16, 32)))
NEW_ID: Final = b"msg_000102030405060708090a0b0c0d0e0f"
NONCE: Final = b"101112131415161718191a1b1c1d1e1f"


def outgoing(*lines: bytes, method: bytes = b"POST", target: bytes = b"/v1/mails?a=b") -> OutgoingRequest:
    """Build a request to https://api.example.com with these field lines, without line ends."""
    every = [b"Host: api.example.com", *lines]
    return OutgoingRequest(method, b"https", b"api.example.com", target, [b"\r\n" + line for line in every])


def written(lines: Iterable[bytes]) -> dict[str, str]:
    """Return the fields that a signer has added, by name."""
    fields = {}
    for line in lines:
        assert line.startswith(b"\r\n"), line
        assert line.count(b"\r") == line.count(b"\n") == 1, line
        name, value = line[2:].decode("ascii").split(": ", 1)
        assert name not in fields
        fields[name] = value
    return fields


def pieces(body: bytes, *, size: int) -> Sequence[bytes]:
    """Split a body into pieces of this size."""
    return [body[start : start + size] for start in range(0, len(body), size)]


@cache
def private_key(algorithm: str) -> tuple[str, Any]:
    """Create a private key for an algorithm of RFC 9421, and return it and its public key in PEM."""
    key = keys.private_key(algorithm)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode(), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
