"""Read DER (X.690) and PEM (RFC 7468), and describe data that is neither."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.json_reader import parse_json

_VERSION = 0xA0
"""The tag of a certificate's version, [0], which certificates of version 1 lack (RFC 5280 4.1)."""


def read_der(der: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the tag, the encoding and the content of each DER value. Raises ValueError if the data ends in a value."""
    position = 0
    while position < len(der):
        start, tag, length = position, der[position], int.from_bytes(der[position + 1 : position + 2])
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[position : position + size], "big")
            position += size
        if position + length > len(der):
            raise ValueError("a value of DER is cut")
        yield tag, der[start : position + length], der[position : position + length]
        position += length


def subject(certificate: bytes) -> bytes:
    """Return the content of the subject. Raises ValueError if the data is not a certificate."""
    return _field(certificate, 4)


def public_key(certificate: bytes) -> bytes:
    """Return the public key without its algorithm, which has several encodings for RSA (RFC 4055 1.2).

    Raises ValueError if the data is not a certificate.
    """
    _, (_, _, key) = read_der(_field(certificate, 5))
    return key


def _field(certificate: bytes, number: int) -> bytes:
    """Return a field by its index (RFC 5280 4.1): serial number, signature, issuer, validity, subject, public key."""
    ((_, _, body),) = read_der(certificate)
    (_, _, fields), *_ = read_der(body)
    contents = list(islice((content for tag, _, content in read_der(fields) if tag != _VERSION), number + 1))
    if len(contents) <= number:
        raise ValueError("the certificate lacks a field")
    return contents[number]


CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
KEY_LABELS = frozenset({"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY"})

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9][A-Z0-9 ]{0,63})-----")
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
_SSH_PUBLIC = (b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-", b"---- BEGIN SSH2 PUBLIC KEY")

_BLOCK_DESCRIPTIONS = {
    "OPENSSH PRIVATE KEY": "an SSH key (OpenSSH's own format), not a key for TLS",
    "CERTIFICATE REQUEST": "a certificate request, not the certificate that was issued for it",
    "NEW CERTIFICATE REQUEST": "a certificate request, not the certificate that was issued for it",
    "PUBLIC KEY": "a public key",
    "RSA PUBLIC KEY": "a public key",
    "TRUSTED CERTIFICATE": "OpenSSL's own form of a certificate: convert it with openssl x509",
    "PKCS7": "PKCS#7: extract its certificates with openssl pkcs7 -print_certs",
    "CMS": "PKCS#7: extract its certificates with openssl pkcs7 -print_certs",
    "X509 CRL": "a list of revoked certificates",
    "PGP PUBLIC KEY BLOCK": "a PGP key",
    "PGP PRIVATE KEY BLOCK": "a PGP key",
}
_DER_CERTIFICATE = "a certificate in DER, not PEM: convert it with openssl x509 -inform der"
_DER_KEY = "a private key in DER, not PEM: convert it with openssl pkey -inform der"
_PKCS12 = "PKCS#12 (.p12, .pfx), not PEM: convert it with openssl pkcs12 -noenc"


@dataclass(frozen=True, slots=True, repr=False)
class PemBlock(SecretHolder):
    """A PEM block: its label and its decoded content.

    If the block has headers that encrypt it (RFC 1421), `encrypted` is the whole block and `der` is empty.
    """

    label: str
    der: bytes
    encrypted: bytes = b""

    def __repr__(self) -> str:
        return f"PemBlock({self.label}, REDACTED)"


def parse_pem(data: bytes) -> list[PemBlock]:
    """Parse every PEM block and skip other text. Raises ValueError, which describes data without any block."""
    result = [_parse_block(label, body, encoded) for label, body, encoded in _split_blocks(data)]
    if not result:
        raise ValueError(f"this is {describe_data(data)}")
    return result


def _split_blocks(data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield the label, the body and the whole text of each block. Raises ValueError if one is cut off."""
    position = 0
    while (begin := _BEGIN.search(data, position)) is not None:
        end_line = b"-----END " + begin[1] + b"-----"
        end = data.find(end_line, begin.end())
        body = data[begin.end() : end]
        if end < 0 or b"-----BEGIN" in body:
            raise ValueError("this PEM is cut off: a block has no -----END line")
        position = end + len(end_line)
        yield begin[1].decode("ascii"), body, data[begin.start() : position]


@dataclass(frozen=True, slots=True, repr=False)
class PemParts(SecretHolder):
    """The certificates and the private keys of a PEM, and all other text. Each may be empty."""

    certificates: str
    private_keys: str
    rest: str

    def __repr__(self) -> str:
        return "PemParts(REDACTED)"


def split_pem(text: str) -> PemParts:
    """Separate certificates, private keys and other text. A PEM that is cut off is other text as a whole."""
    certificates, private_keys, rest = [], [], []
    data = text.encode("utf-8", "replace")
    position = 0
    try:
        for label, _, encoded in _split_blocks(data):
            begin = data.index(encoded, position)
            rest.append(data[position:begin])
            position = begin + len(encoded)
            if label in CERTIFICATE_LABELS:
                certificates.append(encoded)
            elif label.endswith("PRIVATE KEY"):
                private_keys.append(encoded)
            else:
                rest.append(encoded)
    except ValueError:
        return PemParts("", "", text)
    return PemParts(_concatenate(certificates), _concatenate(private_keys), b"".join([*rest, data[position:]]).decode())


def _concatenate(encoded_blocks: list[bytes]) -> str:
    return b"".join(b"%b\n" % encoded for encoded in encoded_blocks).decode()


def _parse_block(label: str, body: bytes, encoded: bytes) -> PemBlock:
    if b"\\n" in body:
        raise ValueError("this PEM has the two characters \\n where lines end: write line breaks")
    if b"Proc-Type:" in body:
        return PemBlock(label, b"", encoded + b"\n")
    try:
        return PemBlock(label, base64.b64decode(b"".join(body.split()), validate=True))
    except binascii.Error:
        raise ValueError("this PEM is damaged: a block contains what is not base64") from None


def describe_block(label: str) -> str | None:
    """Describe a block that is neither certificate nor key, or return None for labels such as EC PARAMETERS."""
    return _BLOCK_DESCRIPTIONS.get(label)


def describe_data(data: bytes) -> str:
    """Describe data that is not PEM, in words that follow "this is"."""
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text:
        return "empty"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text, not PEM: save it as plain text"
    if data.startswith((b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")):
        return "a Java keystore, not PEM: convert it with keytool -importkeystore, then openssl pkcs12"
    if text.startswith(b"PuTTY-User-Key-File-"):
        return "an SSH key (PuTTY), not a key for TLS"
    if text.startswith(_SSH_PUBLIC):
        return "the public half of an SSH key, not PEM"
    if text.startswith(b"<"):
        return "an HTML or XML page, not PEM: a download may have failed"
    return (
        _describe_json(text)
        or _describe_base64(text)
        or _describe_der(data)
        or "not PEM: no line begins with -----BEGIN"
    )


def _describe_json(text: bytes) -> str | None:
    if not text.startswith((b"{", b"[")):
        return None
    try:
        value = parse_json(text)
    except ValueError:
        return None
    if isinstance(value, dict) and "kty" in value:
        return "a JSON Web Key, not PEM"
    return "JSON, not PEM"


def _describe_base64(text: bytes) -> str | None:
    """Describe base64 without BEGIN and END lines, or of a whole PEM, as in the manifest of a Kubernetes secret."""
    if not _BASE64.fullmatch(text):
        return None
    try:
        inner = base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return None
    if inner.lstrip().startswith(b"-----BEGIN "):
        return "PEM encoded in base64 again: decode it"
    if _describe_der(inner) is not None:
        return "base64 without the lines -----BEGIN and -----END around it"
    return None


def _describe_der(data: bytes) -> str | None:
    """Describe DER by the first elements of its outer SEQUENCE (X.690), which differ for each format."""
    content = _sequence(data)
    if content is None:
        return None
    if content.startswith(b"\x02\x01\x03\x30"):  # PFX: version 3, authSafe (RFC 7292 4)
        return _PKCS12
    if content.startswith((b"\x02\x01\x00", b"\x02\x01\x01")):  # PKCS#8, PKCS#1 (RFC 5958, RFC 8017), SEC 1 (RFC 5915)
        return _DER_KEY
    if content.startswith(b"\x06"):  # ContentInfo: an object identifier (RFC 5652 3)
        return "PKCS#7, not PEM: extract its certificates with openssl pkcs7 -inform der -print_certs"
    inner = _sequence(content)
    if inner is None:
        return None
    if inner.startswith(b"\xa0"):  # TBSCertificate: [0] version (RFC 5280 4.1)
        return _DER_CERTIFICATE
    if inner.startswith(b"\x02\x01\x00\x30"):  # CertificationRequestInfo: version 0 (RFC 2986 4.1)
        return "a certificate request in DER, not the certificate that was issued for it"
    if inner.startswith(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"):  # EncryptedPrivateKeyInfo: PKCS#5 (RFC 5958 3)
        return _DER_KEY
    return "a public key in DER" if inner.startswith(b"\x06") else None


def _sequence(data: bytes) -> bytes | None:
    """Return the content of an ASN.1 SEQUENCE at the start, or None if there is none or it exceeds the data."""
    if len(data) < 2 or data[0] != 0x30:
        return None
    length, position = data[1], 2
    if length == 0x80:  # indefinite length (X.690 8.1.3.6), as in some PKCS#12 files
        return data[position:]
    if length > 0x80:
        count = length & 0x7F
        length, position = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
        if count > 4:
            return None
    return data[position : position + length] if position + length <= len(data) else None
