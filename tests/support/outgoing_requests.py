"""Requests for signers, and what to give them beside."""

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
    """A request to https://api.example.com with these field lines, each without its line end."""
    every = [b"Host: api.example.com", *lines]
    return OutgoingRequest(method, b"https", b"api.example.com", target, [b"\r\n" + line for line in every])


def written(lines: Iterable[bytes]) -> dict[str, str]:
    """The fields that a signer has written, by their names as they are spelled."""
    found = {}
    for line in lines:
        assert line.startswith(b"\r\n"), line
        assert line.count(b"\r") == line.count(b"\n") == 1, line
        name, value = line[2:].decode("ascii").split(": ", 1)
        assert name not in found
        found[name] = value
    return found


def pieces(body: bytes, *, size: int) -> Sequence[bytes]:
    """A body in pieces of this size."""
    return [body[start : start + size] for start in range(0, len(body), size)]


@cache
def private_key(algorithm: str) -> tuple[str, Any]:
    """A private key for an algorithm of RFC 9421 in PEM, and its public one in PEM."""
    key = keys.private_key(algorithm)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode(), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
