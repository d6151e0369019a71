"""Parse certificates, order a chain from the leaf, and check it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import TypeVar

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from sidekey.credentials.certificates.keys import find_weakness
from sidekey.credentials.certificates.pem_der import parse_pem

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_MAX_NAME_LENGTH = 120
_WEAK = (MD5, SHA1)
_PRIVATE_CA = "write allow_private_ca: true"


def read_certificate(der: bytes) -> x509.Certificate:
    """Parse a certificate with every part that this module uses. Raises ValueError."""
    with warnings.catch_warnings():
        # The library warns of serial number 0, which old CAs have although RFC 5280 4.1.2.2 forbids it.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.extensions, certificate.subject, certificate.issuer
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except (
            ValueError,
            # From names with a bit string, or in older versions of the library with an unknown type of string.
            LookupError,
            TypeError,
            x509.DuplicateExtension,
            x509.InvalidVersion,
            x509.UnsupportedGeneralNameType,
        ):
            raise ValueError("is damaged") from None
        try:
            certificate.public_key()
            _ = certificate.signature_hash_algorithm
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("has a key or signature of a type that is not supported") from None
    return certificate


def build_chain(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Build the chain from the leaf up to the last issuer in `others`."""
    chain, remaining = [leaf], list(others)
    while not is_self_issued(chain[-1]):
        issuer = next((certificate for certificate in remaining if _may_be_issued_by(chain[-1], certificate)), None)
        if issuer is None:
            break
        remaining.remove(issuer)
        chain.append(issuer)
    return chain


def likely_leaf(certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """Guess the leaf: the first certificate that issued none of the other certificates."""
    issuers = {certificate.issuer for certificate in certificates if not is_self_issued(certificate)}
    return next((certificate for certificate in certificates if certificate.subject not in issuers), certificates[0])


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Return True if the certificate names itself as its issuer, as roots do."""
    return certificate.issuer == certificate.subject


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return True if `issuer` issued the certificate, by name and signature."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _may_be_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return True if `issuer` issued the certificate. For a weak signature, compare only the names."""
    return is_issued_by(certificate, issuer) or (
        certificate.issuer == issuer.subject and isinstance(certificate.signature_hash_algorithm, _WEAK)
    )


def chain_errors(chain: Sequence[x509.Certificate], now: float) -> Iterator[str]:
    """Yield the errors of a chain: the leaf's validity, weak keys and weak signatures."""
    leaf = chain[0]
    if leaf.not_valid_after_utc.timestamp() <= now:
        yield f"this certificate expired on {_format_time(leaf.not_valid_after_utc)}"
    if leaf.not_valid_before_utc.timestamp() > now:
        yield f"this certificate is valid only from {_format_time(leaf.not_valid_before_utc)} on"
    for certificate in chain:
        name = "this certificate" if certificate is leaf else f"the certificate of {name_of(certificate.subject)}"
        weak = find_weakness(certificate.public_key())
        if weak is not None:
            yield f"{name} is too weak: its key is {weak}"
        digest = certificate.signature_hash_algorithm
        # Nobody verifies the signature of a root.
        if isinstance(digest, _WEAK) and (certificate is leaf or not is_self_issued(certificate)):
            yield f"{name} is too weak: it is signed with {digest.name.upper()}"


def unrelated_certificates(
    chain: Sequence[x509.Certificate], certificates: Sequence[x509.Certificate]
) -> Iterator[str]:
    """Yield a warning for each certificate that is not part of the chain."""
    for certificate in certificates:
        if certificate not in chain:
            yield f"the certificate of {name_of(certificate.subject)} is not part of the chain and is not sent"


def certificate_warnings(chain: Sequence[x509.Certificate], now: float) -> Iterator[str]:
    """Yield a warning for each property of a chain for which servers may refuse it."""
    leaf = chain[0]
    constraints = find_extension(leaf, x509.BasicConstraints)
    # `openssl req -x509` makes every self-signed certificate a CA by default.
    if constraints is not None and constraints.ca and not is_self_issued(leaf):
        yield "this is the certificate of a CA, not of a client, so many servers refuse it"
    usages = find_extension(leaf, x509.ExtendedKeyUsage)
    if usages is not None and not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *usages
    }:
        yield (
            "the extended key usage lacks clientAuth, so many servers refuse this certificate; "
            "public CAs no longer issue it, private CAs do"
        )
    usage = find_extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield "the key usage lacks digitalSignature, so servers refuse this certificate (RFC 8446 4.4.2.2)"
    for certificate in chain[1:]:
        if certificate.not_valid_after_utc.timestamp() <= now:
            end = _format_time(certificate.not_valid_after_utc)
            yield f"the certificate of {name_of(certificate.subject)}, which is in the chain, expired on {end}"


def mozilla_trust_error(chain: Sequence[x509.Certificate]) -> str | None:
    """Return an error if the chain does not lead to a CA of Mozilla's bundle."""
    last = chain[-1]
    if last in mozilla_roots().get(last.subject, ()):
        return None
    if any(
        is_issued_by(certificate, root) for certificate in chain for root in mozilla_roots().get(certificate.issuer, ())
    ):
        return None
    issuer = name_of(last.issuer)
    if is_self_issued(last):
        if len(chain) == 1:
            return f"this certificate is self-signed (its issuer is {issuer}): if that is intended, {_PRIVATE_CA}"
        return (
            f"this certificate leads to {issuer}, which is not a CA of Mozilla's bundle: "
            f"if that CA is intended (banks have their own), {_PRIVATE_CA}"
        )
    if last.issuer in mozilla_roots():
        return (
            f"the issuer {issuer} has the name of a CA of Mozilla's bundle but another key: "
            f"if that issuer is intended, {_PRIVATE_CA}"
        )
    url = _issuer_url(last)
    return (
        f"the issuer {issuer} is neither in the chain nor a CA of Mozilla's bundle: add the missing intermediate "
        f"certificate after this one{f' (it is at {url})' if url else ''}, "
        f"or if the issuer is a private CA (banks have their own), {_PRIVATE_CA}"
    )


def name_of(name: x509.Name) -> str:
    """Format a name for display (RFC 4514), printable and shortened."""
    text = "".join(character if character.isprintable() else "?" for character in name.rfc4514_string())
    return f"{text[:_MAX_NAME_LENGTH]}..." if len(text) > _MAX_NAME_LENGTH else text or "(no name)"


@cache
def mozilla_roots() -> dict[x509.Name, list[x509.Certificate]]:
    """Parse the CAs of Mozilla's bundle once. Return them by name."""
    roots: dict[x509.Name, list[x509.Certificate]] = {}
    for block in parse_pem(certifi.contents().encode("ascii")):
        # The library cannot verify signatures of a CA that it cannot parse.
        with suppress(ValueError):
            certificate = read_certificate(block.der)
            roots.setdefault(certificate.subject, []).append(certificate)
    return roots


def find_extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Return the extension of this type, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _issuer_url(certificate: x509.Certificate) -> str | None:
    """Return the URL of the issuer's certificate from the authority information access (RFC 5280 4.2.2.1)."""
    for access in find_extension(certificate, x509.AuthorityInformationAccess) or ():
        location = access.access_location
        if access.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(
            location, x509.UniformResourceIdentifier
        ):
            url = location.value
            if url.isprintable() and " " not in url and len(url) <= 200:
                return url
    return None


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
