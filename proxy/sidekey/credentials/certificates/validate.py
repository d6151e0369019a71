"""Build a `ClientIdentity` from bytes, or report all their errors. Pure: the time is an argument."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sidekey.credentials.certificates import keys, pem_der
from sidekey.credentials.certificates.chain import (
    build_chain,
    certificate_warnings,
    chain_errors,
    likely_leaf,
    mozilla_trust_error,
    name_of,
    read_certificate,
    unrelated_certificates,
)
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.keys import PrivateKey
from sidekey.credentials.certificates.pem_der import PemBlock
from sidekey.credentials.secret_holder import SecretHolder

Messages = tuple[tuple[str, str], ...]
"""Pairs of a key of the config section and a message about it."""


@dataclass(frozen=True, slots=True, repr=False)
class CertificateInput(SecretHolder):
    """The content of a client certificate and its key. A part that could not be read is None: the loader reports that.

    If `combined` is true, both parts are the same `pem`.
    """

    certificate: bytes | None
    private_key: bytes | None
    passphrase: str | None = None
    combined: bool = False

    def __repr__(self) -> str:
        return "CertificateInput(REDACTED)"


@dataclass(frozen=True, slots=True)
class CertificateCheck:
    """Result of `check_client_certificate`, with an identity if both parts were read and have no error.

    `not_after` is when the certificate expires, in seconds since the epoch, or None without a readable certificate.
    """

    identity: ClientIdentity | None = None
    errors: Messages = ()
    warnings: Messages = ()
    not_after: float | None = None


def check_client_certificate(
    material: CertificateInput, now: float, *, allow_private_ca: bool = False
) -> CertificateCheck:
    """Check a client certificate; `now` is in seconds since the epoch."""
    return _Checker(material).check(now, allow_private_ca=allow_private_ca)


def leaf_of(data: bytes) -> x509.Certificate:
    """Return the likely leaf among the certificates of a valid PEM."""
    return likely_leaf([read_certificate(block.der) for block in pem_der.parse_pem(data)])


class _Checker(SecretHolder):
    """Checks one certificate and collects the errors."""

    __slots__ = ("_certificate_field", "_errors", "_key_field", "_material")

    def __init__(self, material: CertificateInput) -> None:
        self._material = material
        # The fields of the config that errors name.
        self._certificate_field, self._key_field = (
            ("pem", "pem") if material.combined else ("certificate", "private_key")
        )
        self._errors: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return f"_Checker({self._material!r})"

    def check(self, now: float, *, allow_private_ca: bool) -> CertificateCheck:
        certificate_blocks, key_blocks = self._parse_blocks()
        certificates = self._read_certificates(certificate_blocks)
        key = self._open_key(key_blocks)
        if not certificates:
            return CertificateCheck(None, tuple(self._errors))
        chain = self._build_chain(certificates, key)
        for error in chain_errors(chain, now):
            self._add_error(self._certificate_field, error)
        trust_error = None if allow_private_ca else mozilla_trust_error(chain)
        if trust_error is not None:
            self._add_error(self._certificate_field, trust_error)
        warning_texts = (*unrelated_certificates(chain, certificates), *certificate_warnings(chain, now))
        warnings = tuple((self._certificate_field, text) for text in warning_texts)
        identity = None if self._errors or key is None else self._build_identity(chain, key)
        return CertificateCheck(identity, tuple(self._errors), warnings, chain[0].not_valid_after_utc.timestamp())

    def _parse_blocks(self) -> tuple[list[PemBlock] | None, list[PemBlock] | None]:
        """Parse the blocks of certificate and key. A part is None if it was not read or has an error."""
        material = self._material
        if material.combined:
            both = self._parse_pem(material.certificate, self._certificate_field)
            return both, None if material.private_key is None else both
        certificate = self._parse_pem(material.certificate, self._certificate_field)
        key = self._parse_pem(material.private_key, self._key_field)
        kinds = _find_kinds(certificate or ()), _find_kinds(key or ())
        swapped = ": certificate and private_key are swapped" if kinds == ({"key"}, {"certificate"}) else ""
        if "key" in kinds[0]:
            beside = "this contains a private key beside the certificate: write pem, which takes both"
            alone = f"must be a certificate, but is a private key{swapped}"
            self._add_error(self._certificate_field, beside if "certificate" in kinds[0] else alone)
            certificate = None
        if "certificate" in kinds[1]:
            beside = "this contains a certificate beside the private key: write pem, which takes both"
            alone = f"must be a private key, but is a certificate{swapped}"
            self._add_error(self._key_field, beside if "key" in kinds[1] else alone)
            key = None
        return certificate, key

    def _parse_pem(self, data: bytes | None, field: str) -> list[PemBlock] | None:
        if data is None:
            return None
        try:
            return pem_der.parse_pem(data)
        except ValueError as error:
            self._add_error(field, str(error))
            return None

    def _read_certificates(self, blocks: list[PemBlock] | None) -> list[x509.Certificate]:
        """Parse the certificates without duplicates. Return an empty list if a certificate is unreadable."""
        if blocks is None:
            return []
        ders = dict.fromkeys(block.der for block in blocks if block.label in pem_der.CERTIFICATE_LABELS)
        if not ders:
            self._add_error(self._certificate_field, _describe_content(blocks, "this PEM contains no certificate"))
        certificates = []
        for number, der in enumerate(ders, 1):
            try:
                certificates.append(read_certificate(der))
            except ValueError as error:
                name = "this certificate" if len(ders) == 1 else f"certificate {number} of this PEM"
                self._add_error(self._certificate_field, f"{name} {error}")
        return certificates if len(certificates) == len(ders) else []

    def _open_key(self, blocks: list[PemBlock] | None) -> PrivateKey | None:
        if blocks is None:
            return None
        key_blocks = [block for block in blocks if block.label in pem_der.KEY_LABELS]
        if len(key_blocks) != 1:
            missing = _describe_content(blocks, "this PEM contains no private key")
            self._add_error(self._key_field, "this PEM must contain only one private key" if key_blocks else missing)
            return None
        try:
            key = keys.open_key(key_blocks[0], self._material.passphrase)
            keys.to_pem(key)
        except keys.PassphraseError as error:
            self._add_error("key_passphrase", str(error))
        except ValueError as error:
            self._add_error(self._key_field, str(error))
        else:
            return key
        return None

    def _build_chain(self, certificates: list[x509.Certificate], key: PrivateKey | None) -> list[x509.Certificate]:
        """Build the chain from the certificate of this key, or from the likely leaf if no certificate matches."""
        leaf = likely_leaf(certificates)
        if key is not None:
            public = key.public_key()
            matching = [certificate for certificate in certificates if certificate.public_key() == public]
            if matching:
                # The PEM may contain a renewed certificate and the old one, for the same key.
                leaf = max(matching, key=lambda certificate: certificate.not_valid_after_utc)
            else:
                reason = f"this private key does not belong to the certificate of {name_of(leaf.subject)}"
                self._add_error(self._key_field, reason)
        return build_chain(leaf, [certificate for certificate in certificates if certificate is not leaf])

    def _build_identity(self, chain: Sequence[x509.Certificate], key: PrivateKey) -> ClientIdentity:
        leaf = chain[0]
        certificates = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
        private = keys.to_pem(key)
        return ClientIdentity(
            chain=certificates,
            key=private,
            fingerprint=hashlib.sha256(certificates + private).hexdigest(),
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            subject=name_of(leaf.subject),
            issuer=name_of(leaf.issuer),
        )

    def _add_error(self, field: str, reason: str) -> None:
        self._errors.append((field, reason))


def _find_kinds(blocks: Sequence[PemBlock]) -> set[str]:
    """Return "certificate" if a block is a certificate, and "key" if a block is a private key."""
    labels = {block.label for block in blocks}
    return {
        kind
        for kind, names in (("certificate", pem_der.CERTIFICATE_LABELS), ("key", pem_der.KEY_LABELS))
        if labels & names
    }


def _describe_content(blocks: Sequence[PemBlock], default: str) -> str:
    """Describe the first block that is neither certificate nor key, or return the default."""
    content = next(filter(None, (pem_der.describe_block(block.label) for block in blocks)), None)
    return default if content is None else f"this is {content}"
