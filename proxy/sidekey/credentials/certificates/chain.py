"""Certificates: reads them, puts a chain in order, leaf first, and checks it."""

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

from sidekey.credentials.certificates.encoding import blocks
from sidekey.credentials.certificates.keys import weakness

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_MAX_NAME_LENGTH = 120
_WEAK = (MD5, SHA1)
_PRIVATE_CA = "write allow_private_ca: true"


def read_certificate(der: bytes) -> x509.Certificate:
    """A certificate of which every part that is checked here can be read. Raises ValueError."""
    with warnings.catch_warnings():
        # Serial number 0, which RFC 5280 4.1.2.2 forbids and old CAs have, is no matter for who shows a certificate.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.extensions, certificate.subject, certificate.issuer
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
            raise ValueError("is damaged") from None
        try:
            certificate.public_key()
            _ = certificate.signature_hash_algorithm
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("has a key or signature of a type that is not supported") from None
    return certificate


def ordered(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The chain from the leaf on, as far as `others` lead."""
    chain, left = [leaf], list(others)
    while not self_issued(chain[-1]):
        issuer = next((each for each in left if _follows(chain[-1], each)), None)
        if issuer is None:
            break
        left.remove(issuer)
        chain.append(issuer)
    return chain


def likely_leaf(certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """The first that issued no other; where the key is unknown that is all there is to go by."""
    issuers = {each.issuer for each in certificates if not self_issued(each)}
    return next((each for each in certificates if each.subject not in issuers), certificates[0])


def self_issued(certificate: x509.Certificate) -> bool:
    """Whether it names itself as its issuer, as roots do."""
    return certificate.issuer == certificate.subject


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """By name and by signature."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _follows(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """As `issued_by`; of a signature that is too weak to be looked at, which is an error anyway, by name alone."""
    return issued_by(certificate, issuer) or (
        certificate.issuer == issuer.subject and isinstance(certificate.signature_hash_algorithm, _WEAK)
    )


def errors(chain: Sequence[x509.Certificate], now: float) -> Iterator[str]:
    """What keeps a chain from being used: the leaf's time, weak keys, weak signatures."""
    leaf = chain[0]
    if leaf.not_valid_after_utc.timestamp() <= now:
        yield f"this certificate expired on {_day(leaf.not_valid_after_utc)}"
    if leaf.not_valid_before_utc.timestamp() > now:
        yield f"this certificate is valid only from {_day(leaf.not_valid_before_utc)} on"
    for certificate in chain:
        which = "this certificate" if certificate is leaf else f"the certificate of {name_of(certificate.subject)}"
        weak = weakness(certificate.public_key())
        if weak is not None:
            yield f"{which} is too weak: its key is {weak}"
        digest = certificate.signature_hash_algorithm
        # A root is trusted for what it is: nobody looks at its signature.
        if isinstance(digest, _WEAK) and (certificate is leaf or not self_issued(certificate)):
            yield f"{which} is too weak: it is signed with {digest.name.upper()}"


def unrelated_certificates(
    chain: Sequence[x509.Certificate], certificates: Sequence[x509.Certificate]
) -> Iterator[str]:
    """Certificates that are given and not part of the chain."""
    for certificate in certificates:
        if certificate not in chain:
            yield f"the certificate of {name_of(certificate.subject)} is not part of the chain and is not sent"


def certificate_warnings(chain: Sequence[x509.Certificate], now: float) -> Iterator[str]:
    """What servers may refuse, and many do not."""
    leaf = chain[0]
    limits = extension(leaf, x509.BasicConstraints)
    # What signs itself may say so by default, as `openssl req -x509` does.
    if limits is not None and limits.ca and not self_issued(leaf):
        yield "this is the certificate of a CA, not of a client, so many servers refuse it"
    usages = extension(leaf, x509.ExtendedKeyUsage)
    if usages is not None and not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *usages
    }:
        yield (
            "the extended key usage lacks clientAuth, so many servers refuse this certificate; "
            "public CAs no longer issue it, private CAs do"
        )
    usage = extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield "the key usage lacks digitalSignature, so servers refuse this certificate (RFC 8446 4.4.2.2)"
    for certificate in chain[1:]:
        if certificate.not_valid_after_utc.timestamp() <= now:
            end = _day(certificate.not_valid_after_utc)
            yield f"the certificate of {name_of(certificate.subject)}, which is in the chain, expired on {end}"


def mozilla_trust_error(chain: Sequence[x509.Certificate]) -> str | None:
    """Why a chain leads to no CA of Mozilla's bundle; None where it does."""
    last = chain[-1]
    if last in mozilla().get(last.subject, ()):
        return None
    if any(issued_by(each, root) for each in chain for root in mozilla().get(each.issuer, ())):
        return None
    issuer = name_of(last.issuer)
    if self_issued(last):
        if len(chain) == 1:
            return f"this certificate is self-signed (its issuer is {issuer}): if that is intended, {_PRIVATE_CA}"
        return (
            f"this certificate leads to {issuer}, which is not a CA of Mozilla's bundle: "
            f"if that CA is intended (banks have their own), {_PRIVATE_CA}"
        )
    if last.issuer in mozilla():
        return (
            f"the issuer {issuer} has the name of a CA of Mozilla's bundle but another key: "
            f"if that issuer is intended, {_PRIVATE_CA}"
        )
    where = _issuers_url(last)
    return (
        f"the issuer {issuer} is neither in the chain nor a CA of Mozilla's bundle: add the missing intermediate "
        f"certificate after this one{f' (it is at {where})' if where else ''}, "
        f"or if the issuer is a private CA (banks have their own), {_PRIVATE_CA}"
    )


def name_of(name: x509.Name) -> str:
    """A name for people (RFC 4514): printable, not long."""
    text = "".join(each if each.isprintable() else "?" for each in name.rfc4514_string())
    return f"{text[:_MAX_NAME_LENGTH]}..." if len(text) > _MAX_NAME_LENGTH else text or "(no name)"


@cache
def mozilla() -> dict[x509.Name, list[x509.Certificate]]:
    """Mozilla's CAs by their names; read where a chain must lead to one."""
    roots: dict[x509.Name, list[x509.Certificate]] = {}
    for block in blocks(certifi.contents().encode("ascii")):
        # One that the library does not read is none that it could find a signature good for.
        with suppress(ValueError):
            certificate = read_certificate(block.der)
            roots.setdefault(certificate.subject, []).append(certificate)
    return roots


def extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """The extension of this kind; None where the certificate has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _issuers_url(certificate: x509.Certificate) -> str | None:
    """Where the issuer's certificate is, as the certificate itself says (RFC 5280 4.2.2.1)."""
    for access in extension(certificate, x509.AuthorityInformationAccess) or ():
        location = access.access_location
        if access.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(
            location, x509.UniformResourceIdentifier
        ):
            url = location.value
            if url.isprintable() and " " not in url and len(url) <= 200:
                return url
    return None


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
