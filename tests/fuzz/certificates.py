"""PEM: client certificates and keys as operators paste them."""

from __future__ import annotations

import ssl
from typing import Final

from fuzz.target import Target
from sidekey.credentials.certificates import pem_der
from sidekey.credentials.certificates.validate import (
    CertificateCheck,
    CertificateInput,
    check_client_certificate,
    leaf_of,
)
from support.certificates import issue

_NOW: Final = 1_800_000_000.0
_ISSUED: Final = issue("client.example")


def parse(data: bytes) -> CertificateCheck:
    """Examine the bytes as a certificate with its key in one PEM.

    An encrypted key is not decrypted: deriving its key is slow on purpose, within a bound of its own on the rounds.
    """
    return check_client_certificate(CertificateInput(data, data, combined=True), _NOW)


def check(data: bytes) -> None:
    """Require an identity or an error, and that a certificate alone is parsed or refused with ValueError."""
    for result in (
        parse(data),
        check_client_certificate(CertificateInput(data, data, "passphrase", combined=True), _NOW),
    ):
        assert (result.identity is None) is bool(result.errors)
    try:
        pem_der.parse_pem(data)
        leaf_of(data)
    except ValueError:
        return


TARGET: Final = Target(
    (
        _ISSUED.pem + _ISSUED.key_pem,
        _ISSUED.key_pem + _ISSUED.pem + _ISSUED.pem,
        _ISSUED.key_as(passphrase="passphrase"),
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"
        b"AAAA\n-----END RSA PRIVATE KEY-----",
        b"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----",
        b"words\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN",
        _ISSUED.der,
        ssl.DER_cert_to_PEM_cert(_ISSUED.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03")).encode(),
        b'{"kty": "EC"}',
    ),
    parse,
    check,
    (b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"-----BEGIN PRIVATE KEY-----\n", b"\n"),
)
