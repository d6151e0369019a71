"""Validate the operator's own CA. Pure: the time is an argument."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from sidekey.ca.authorities import LocalAuthority
from sidekey.ca.certificates import bounds_of
from sidekey.ca.scope import Scope
from sidekey.credentials.certificates import chain, keys, pem_der

Messages = list[tuple[str, str]]
"""Pairs of a key of `ca` and a message about it."""

_SHOWN = 3


class OperatorCaCheck(NamedTuple):
    """The CA if it is usable for any host, with errors and warnings."""

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
    certificates = _certificates(certificate, errors)
    key = _key(private_key, errors)
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
    path = chain.build_chain(issuer, [*others, *_readable(extra_roots)])
    errors += [("certificate", text) for text in _errors(path, now)]
    if errors:
        return OperatorCaCheck(None, errors, [])
    authority = _authority(path, key)
    outside = [host for host in scope.hosts() if not authority.permits(host)]
    if outside:
        shown = ", ".join(outside[:_SHOWN]) + (f" and {len(outside) - _SHOWN} more" if len(outside) > _SHOWN else "")
        text = f"the name constraints of this CA must permit {shown}: issue it for the hosts of the policies as well"
        errors.append(("certificate", text))
    warnings = [("certificate", text) for text in (*chain.unrelated_certificates(path, certificates), *_warnings(path))]
    return OperatorCaCheck(authority, errors, warnings)


def _certificates(text: str, errors: Messages) -> list[x509.Certificate]:
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


def _readable(extra_roots: str) -> Iterator[x509.Certificate]:
    for block in pem_der.parse_pem(extra_roots.encode()) if extra_roots else ():
        # No chain can end in a certificate that the library cannot read.
        with contextlib.suppress(ValueError):
            yield chain.read_certificate(block.der)


def _key(text: str, errors: Messages) -> keys.PrivateKey | None:
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


def _errors(path: list[x509.Certificate], now: float) -> Iterator[str]:
    yield from chain.chain_errors(path, now)
    issuer = path[0]
    basic = chain.find_extension(issuer, x509.BasicConstraints)
    usage = chain.find_extension(issuer, x509.KeyUsage)
    if basic is None or not basic.ca:
        yield "this certificate must be that of a CA (basic constraints CA:TRUE): it may not sign others"
    elif usage is not None and not usage.key_cert_sign:
        yield "the key usage of this CA must include keyCertSign"
    for depth, certificate in enumerate(path[1:], 1):
        issuer_constraints = chain.find_extension(certificate, x509.BasicConstraints)
        if issuer_constraints is None or not issuer_constraints.ca:
            yield f"the certificate of {chain.name_of(certificate.subject)} in the chain must be that of a CA"
        elif issuer_constraints.path_length is not None and issuer_constraints.path_length < depth:
            yield f"the path length of {chain.name_of(certificate.subject)} must allow a CA below it and its leaves"
    for certificate in path[1:]:
        if certificate.not_valid_after_utc.timestamp() <= now:
            yield f"the certificate of {chain.name_of(certificate.subject)}, which is in the chain, has expired"


def _warnings(path: list[x509.Certificate]) -> Iterator[str]:
    issuer = path[0]
    if not chain.is_self_issued(path[-1]):
        yield "the chain does not end in a root: add it, since clients as a rule trust nothing else"
    if chain.find_extension(issuer, x509.KeyUsage) is None:
        yield "this CA has no key usage, so Python 3.13 and other strict clients refuse it"
    if chain.find_extension(issuer, x509.SubjectKeyIdentifier) is None:
        yield "this CA has no subject key identifier, so Python 3.13 and other strict clients refuse it"
    if all(chain.find_extension(certificate, x509.NameConstraints) is None for certificate in path):
        yield "this CA has no name constraints: whoever reads its key can sign for every host that callers trust it for"


def _authority(path: list[x509.Certificate], key: keys.PrivateKey) -> LocalAuthority:
    pems = [certificate.public_bytes(Encoding.PEM).decode() for certificate in path]
    return LocalAuthority(
        generation=0,
        bounds=tuple(map(bounds_of, path)),
        not_after=min(certificate.not_valid_after_utc for certificate in path).timestamp(),
        fingerprint=path[0].fingerprint(hashes.SHA256()).hex(),
        certificate=pems[0],
        key=keys.to_pem(key).decode(),
        trusted=pems[-1],
        # Callers have the root. If the chain has no root, they may have it from elsewhere.
        served="".join(pems[:-1] if chain.is_self_issued(path[-1]) else pems),
    )
