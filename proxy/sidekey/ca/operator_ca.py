"""Validate the operator's own CA. Pure: the time is an argument."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from sidekey.ca.authorities import LocalAuthority
from sidekey.ca.certificates import read_bounds
from sidekey.ca.scope import Scope
from sidekey.credentials.certificates import chain, keys, pem_der

Messages = list[tuple[str, str]]
"""Pairs of a key of `ca` and a message about it."""

_MAX_SHOWN_HOSTS = 3


class OperatorCaCheck(NamedTuple):
    """The result of `check_operator_ca`. `authority` is None if the CA can sign for no host."""

    authority: LocalAuthority | None
    errors: Messages
    warnings: Messages


def check_operator_ca(
    certificate: str, private_key: str, scope: Scope, now: float, extra_roots: str = ""
) -> OperatorCaCheck:
    """Check a CA, its chain in any order, and its key, all in PEM; `now` is in seconds since the epoch.

    `extra_roots` (PEM) may complete the chain: issuers such as cert-manager deliver the root separately.
    """
    errors: Messages = []
    certificates = _read_certificates(certificate, errors)
    key = _open_key(private_key, errors)
    if not certificates or key is None:
        return OperatorCaCheck(None, errors, [])
    public = key.public_key()
    matching = [certificate for certificate in certificates if certificate.public_key() == public]
    if not matching:
        leaf = chain.name_of(chain.likely_leaf(certificates).subject)
        errors.append(("private_key", f"this private key does not belong to the certificate of {leaf}"))
        return OperatorCaCheck(None, errors, [])
    issuer = max(matching, key=lambda certificate: certificate.not_valid_after_utc)
    others = [certificate for certificate in certificates if certificate is not issuer]
    ca_chain = chain.build_chain(issuer, [*others, *_read_extra_roots(extra_roots)])
    errors += [("certificate", text) for text in _find_errors(ca_chain, now)]
    if errors:
        return OperatorCaCheck(None, errors, [])
    authority = _build_authority(ca_chain, key)
    outside = [host for host in scope.hosts() if not authority.permits(host)]
    if outside:
        shown = ", ".join(outside[:_MAX_SHOWN_HOSTS]) + (
            f" and {len(outside) - _MAX_SHOWN_HOSTS} more" if len(outside) > _MAX_SHOWN_HOSTS else ""
        )
        text = f"the name constraints of this CA must permit {shown}: issue it for the hosts of the policies as well"
        errors.append(("certificate", text))
    warnings = [
        ("certificate", text)
        for text in (*chain.unrelated_certificates(ca_chain, certificates), *_find_warnings(ca_chain))
    ]
    return OperatorCaCheck(authority, errors, warnings)


def _read_certificates(text: str, errors: Messages) -> list[x509.Certificate]:
    try:
        blocks = pem_der.parse_pem(text.encode("latin-1", "replace"))
    except ValueError as error:
        errors.append(("certificate", str(error)))
        return []
    certificates: list[x509.Certificate] = []
    for block in blocks:
        if block.label in pem_der.KEY_LABELS:
            errors.append(("certificate", "must not contain a private key, which is a secret: write it as private_key"))
            return []
        if block.label in pem_der.CERTIFICATE_LABELS:
            try:
                certificates.append(chain.read_certificate(block.der))
            except ValueError as error:
                errors.append(("certificate", f"certificate {len(certificates) + 1} of this PEM {error}"))
                return []
    if not certificates:
        content = next(filter(None, (pem_der.describe_block(block.label) for block in blocks)), None)
        errors.append(("certificate", "this PEM contains no certificate" if content is None else f"this is {content}"))
    return certificates


def _read_extra_roots(extra_roots: str) -> Iterator[x509.Certificate]:
    for block in pem_der.parse_pem(extra_roots.encode()) if extra_roots else ():
        # No chain can end in a certificate that the library cannot read.
        with contextlib.suppress(ValueError):
            yield chain.read_certificate(block.der)


def _open_key(text: str, errors: Messages) -> keys.PrivateKey | None:
    try:
        blocks = pem_der.parse_pem(text.encode("latin-1", "replace"))
    except ValueError as error:
        errors.append(("private_key", str(error)))
        return None
    key_blocks = [block for block in blocks if block.label in pem_der.KEY_LABELS]
    if len(key_blocks) != 1:
        errors.append(("private_key", f"this PEM must contain one private key, not {len(key_blocks)}"))
        return None
    if key_blocks[0].encrypted or key_blocks[0].label == "ENCRYPTED PRIVATE KEY":
        errors.append(("private_key", "this private key must not be encrypted: decrypt it with openssl pkey"))
        return None
    try:
        key = keys.open_key(key_blocks[0], None)
        keys.to_pem(key)
    except ValueError as error:
        errors.append(("private_key", str(error)))
        return None
    return key


def _find_errors(ca_chain: list[x509.Certificate], now: float) -> Iterator[str]:
    yield from chain.chain_errors(ca_chain, now)
    issuer = ca_chain[0]
    basic = chain.find_extension(issuer, x509.BasicConstraints)
    usage = chain.find_extension(issuer, x509.KeyUsage)
    if basic is None or not basic.ca:
        yield "this certificate must be that of a CA (basic constraints CA:TRUE): it may not sign others"
    elif usage is not None and not usage.key_cert_sign:
        yield "the key usage of this CA must include keyCertSign"
    for depth, certificate in enumerate(ca_chain[1:], 1):
        issuer_constraints = chain.find_extension(certificate, x509.BasicConstraints)
        if issuer_constraints is None or not issuer_constraints.ca:
            yield f"the certificate of {chain.name_of(certificate.subject)} in the chain must be that of a CA"
        elif issuer_constraints.path_length is not None and issuer_constraints.path_length < depth:
            yield f"the path length of {chain.name_of(certificate.subject)} must allow a CA below it and its leaves"
    for certificate in ca_chain[1:]:
        if certificate.not_valid_after_utc.timestamp() <= now:
            yield f"the certificate of {chain.name_of(certificate.subject)}, which is in the chain, has expired"


def _find_warnings(ca_chain: list[x509.Certificate]) -> Iterator[str]:
    issuer = ca_chain[0]
    if not chain.is_self_issued(ca_chain[-1]):
        yield "the chain does not end in a root: add it, since clients as a rule trust nothing else"
    if chain.find_extension(issuer, x509.KeyUsage) is None:
        yield "this CA has no key usage, so Python 3.13 and other strict clients refuse it"
    if chain.find_extension(issuer, x509.SubjectKeyIdentifier) is None:
        yield "this CA has no subject key identifier, so Python 3.13 and other strict clients refuse it"
    if all(chain.find_extension(certificate, x509.NameConstraints) is None for certificate in ca_chain):
        yield "this CA has no name constraints: whoever reads its key can sign for every host that callers trust it for"


def _build_authority(ca_chain: list[x509.Certificate], key: keys.PrivateKey) -> LocalAuthority:
    pems = [certificate.public_bytes(Encoding.PEM).decode() for certificate in ca_chain]
    return LocalAuthority(
        generation=0,
        bounds=tuple(map(read_bounds, ca_chain)),
        not_after=min(certificate.not_valid_after_utc for certificate in ca_chain).timestamp(),
        fingerprint=ca_chain[0].fingerprint(hashes.SHA256()).hex(),
        certificate=pems[0],
        key=keys.to_pem(key).decode(),
        trusted=pems[-1],
        # Callers have the root. If the chain has no root, they may have it from elsewhere.
        served="".join(pems[:-1] if chain.is_self_issued(ca_chain[-1]) else pems),
    )
