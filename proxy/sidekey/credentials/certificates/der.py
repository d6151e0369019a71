"""Reads DER (X.690), such as parts of a certificate, where importing cryptography would cost more than all the rest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

_VERSION = 0xA0
"""The tag of a certificate's version, [0], which only the first one lacks (RFC 5280 4.1)."""


def items(der: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The DER values in a row: tag, whole and content. Raises ValueError where the last one is cut."""
    at = 0
    while at < len(der):
        start, tag, length = at, der[at], int.from_bytes(der[at + 1 : at + 2])
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        if at + length > len(der):
            raise ValueError("a value of DER is cut")
        yield tag, der[start : at + length], der[at : at + length]
        at += length


def subject(certificate: bytes) -> bytes:
    """The content of its subject. Raises ValueError where this is no certificate."""
    return _field(certificate, 4)


def public_key(certificate: bytes) -> bytes:
    """Its public key, without the algorithm: that of one RSA key can be written in several ways (RFC 4055 1.2).

    Raises ValueError where this is no certificate.
    """
    _, (_, _, key) = items(_field(certificate, 5))
    return key


def _field(certificate: bytes, number: int) -> bytes:
    """The content of a field (RFC 5280 4.1): serial number, signature, issuer, validity, subject, public key."""
    ((_, _, body),) = items(certificate)
    (_, _, fields), *_ = items(body)
    found = list(islice((content for tag, _, content in items(fields) if tag != _VERSION), number + 1))
    if len(found) <= number:
        raise ValueError("a certificate has more fields")
    return found[number]
