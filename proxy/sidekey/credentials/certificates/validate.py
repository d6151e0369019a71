"""Makes a `ClientIdentity` of bytes, or reports all their errors. Pure: the time is an argument."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sidekey.credentials.certificates import chain as chains
from sidekey.credentials.certificates import encoding, keys
from sidekey.credentials.certificates.encoding import Block
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.keys import PrivateKey
from sidekey.credentials.secret_holder import SecretHolder

Found = tuple[tuple[str, str], ...]
"""Keys of the config's block, with a message for each."""


@dataclass(frozen=True, slots=True, repr=False)
class CertificateInput(SecretHolder):
    """What was read for a client certificate. A half is None where it could not be read, and is then ignored.

    `joined`: both halves are the same `pem`.
    """

    certificate: bytes | None
    private_key: bytes | None
    passphrase: str | None = None
    joined: bool = False

    def __repr__(self) -> str:
        return "Material(REDACTED)"


@dataclass(frozen=True, slots=True)
class CertificateCheck:
    """An identity where there is no error (and both halves were read); warnings in any case.

    `ends_at` is when the certificate ends, in seconds since the epoch; None: there is none that can be read.
    """

    identity: ClientIdentity | None = None
    errors: Found = ()
    warnings: Found = ()
    ends_at: float | None = None


def examine(material: CertificateInput, now: float, *, allow_private_ca: bool = False) -> CertificateCheck:
    """Check a client certificate; `now` is in seconds since the epoch."""
    return _Examination(material).result(now, allow_private_ca=allow_private_ca)


def leaf_of(data: bytes) -> x509.Certificate:
    """The certificate that a valid PEM with its chain is about; without its key the likeliest."""
    return chains.likely_leaf([chains.read_certificate(each.der) for each in encoding.blocks(data)])


class _Examination(SecretHolder):
    """One material under examination, and the errors found so far."""

    __slots__ = ("_errors", "_material", "_of_certificate", "_of_key")

    def __init__(self, material: CertificateInput) -> None:
        self._material = material
        self._of_certificate, self._of_key = ("pem", "pem") if material.joined else ("certificate", "private_key")
        self._errors: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return f"_Examination({self._material!r})"

    def result(self, now: float, *, allow_private_ca: bool) -> CertificateCheck:
        certificate_blocks, key_blocks = self._blocks()
        certificates = self._certificates(certificate_blocks)
        key = self._key(key_blocks)
        if not certificates:
            return CertificateCheck(None, tuple(self._errors))
        chain = self._chain(certificates, key)
        found = list(chains.errors(chain, now))
        reason = None if allow_private_ca else chains.mozilla_trust_error(chain)
        found += [] if reason is None else [reason]
        self._errors += [(self._of_certificate, error) for error in found]
        found_warnings = (*chains.unrelated_certificates(chain, certificates), *chains.certificate_warnings(chain, now))
        warnings = tuple((self._of_certificate, text) for text in found_warnings)
        identity = None if self._errors or key is None else self._identity(chain, key)
        return CertificateCheck(identity, tuple(self._errors), warnings, chain[0].not_valid_after_utc.timestamp())

    def _blocks(self) -> tuple[list[Block] | None, list[Block] | None]:
        """The blocks of each half; None where it was not read, or its error is reported already."""
        material = self._material
        if material.joined:
            both = self._split(material.certificate, self._of_certificate)
            return both, None if material.private_key is None else both
        certificate = self._split(material.certificate, self._of_certificate)
        key = self._split(material.private_key, self._of_key)
        kinds = _kinds(certificate or ()), _kinds(key or ())
        swapped = ": certificate and private_key are swapped" if kinds == ({"key"}, {"certificate"}) else ""
        if "key" in kinds[0]:
            beside = "this contains a private key beside the certificate: write pem, which takes both"
            alone = f"must be a certificate, but is a private key{swapped}"
            self._error(self._of_certificate, beside if "certificate" in kinds[0] else alone)
            certificate = None
        if "certificate" in kinds[1]:
            beside = "this contains a certificate beside the private key: write pem, which takes both"
            alone = f"must be a private key, but is a certificate{swapped}"
            self._error(self._of_key, beside if "key" in kinds[1] else alone)
            key = None
        return certificate, key

    def _split(self, data: bytes | None, place: str) -> list[Block] | None:
        if data is None:
            return None
        try:
            return encoding.blocks(data)
        except ValueError as error:
            self._error(place, str(error))
            return None

    def _certificates(self, blocks: list[Block] | None) -> list[x509.Certificate]:
        """Each certificate once; none where one of them cannot be read."""
        if blocks is None:
            return []
        wanted = dict.fromkeys(block.der for block in blocks if block.label in encoding.CERTIFICATES)
        if not wanted:
            self._error(self._of_certificate, _instead(blocks, "this PEM contains no certificate"))
        certificates = []
        for number, der in enumerate(wanted, 1):
            try:
                certificates.append(chains.read_certificate(der))
            except ValueError as error:
                which = "this certificate" if len(wanted) == 1 else f"certificate {number} of this PEM"
                self._error(self._of_certificate, f"{which} {error}")
        return certificates if len(certificates) == len(wanted) else []

    def _key(self, blocks: list[Block] | None) -> PrivateKey | None:
        if blocks is None:
            return None
        wanted = [block for block in blocks if block.label in encoding.KEYS]
        if len(wanted) != 1:
            none = _instead(blocks, "this PEM contains no private key")
            self._error(self._of_key, "this PEM must contain only one private key" if wanted else none)
            return None
        try:
            key = keys.open_key(wanted[0], self._material.passphrase)
            keys.written(key)
        except keys.PassphraseError as error:
            self._error("key_passphrase", str(error))
        except ValueError as error:
            self._error(self._of_key, str(error))
        else:
            return key
        return None

    def _chain(self, certificates: list[x509.Certificate], key: PrivateKey | None) -> list[x509.Certificate]:
        """The chain from the certificate of this key on; of the likeliest, where none is."""
        leaf = chains.likely_leaf(certificates)
        if key is not None:
            public = key.public_key()
            fitting = [each for each in certificates if each.public_key() == public]
            if fitting:
                # A renewed certificate of the same key may be beside the old one.
                leaf = max(fitting, key=lambda each: each.not_valid_after_utc)
            else:
                reason = f"this private key does not belong to the certificate of {chains.name_of(leaf.subject)}"
                self._error(self._of_key, reason)
        return chains.ordered(leaf, [each for each in certificates if each is not leaf])

    def _identity(self, chain: Sequence[x509.Certificate], key: PrivateKey) -> ClientIdentity:
        leaf = chain[0]
        certificates = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
        private = keys.written(key)
        return ClientIdentity(
            chain=certificates,
            key=private,
            fingerprint=hashlib.sha256(certificates + private).hexdigest(),
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            subject=chains.name_of(leaf.subject),
            issuer=chains.name_of(leaf.issuer),
        )

    def _error(self, place: str, reason: str) -> None:
        self._errors.append((place, reason))


def _kinds(blocks: Sequence[Block]) -> set[str]:
    """Which of certificate and key are among the blocks."""
    labels = {block.label for block in blocks}
    return {kind for kind, known in (("certificate", encoding.CERTIFICATES), ("key", encoding.KEYS)) if labels & known}


def _instead(blocks: Sequence[Block], otherwise: str) -> str:
    """What is there instead of what is missing."""
    known = next(filter(None, (encoding.other(block.label) for block in blocks)), None)
    return otherwise if known is None else f"this is {known}"
