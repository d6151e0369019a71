"""A CA of the operator's: what was read for it, checked. Pure: the time is an argument."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from sidekey.ca.authorities import LocalAuthority
from sidekey.ca.certificates import bounds_of, key_pem
from sidekey.ca.scope import Scope
from sidekey.credentials.certificates import chain as chains
from sidekey.credentials.certificates import encoding, keys

Found = list[tuple[str, str]]
"""Keys of `ca`, with a message for each."""

_SHOWN = 3


class Examined(NamedTuple):
    """A CA where it can be used at all; errors and warnings in any case."""

    authority: LocalAuthority | None
    errors: Found
    warnings: Found


def examine(certificate: str, private_key: str, scope: Scope, now: float, extra_roots: str = "") -> Examined:
    """Check a CA with its chain, in any order, and its key; both are PEM. `now` is in seconds since the epoch.

    What callers trust beside it, `extra_roots` (PEM), may complete the chain: issuers such as cert-manager keep the
    root apart from what it has signed.
    """
    errors: Found = []
    certificates = _certificates(certificate, errors)
    key = _key(private_key, errors)
    if not certificates or key is None:
        return Examined(None, errors, [])
    public = key.public_key()
    fitting = [each for each in certificates if each.public_key() == public]
    if not fitting:
        leaf = chains.name_of(chains.likely_leaf(certificates).subject)
        errors.append(("private_key", f"this private key does not belong to the certificate of {leaf}"))
        return Examined(None, errors, [])
    issuer = max(fitting, key=lambda each: each.not_valid_after_utc)
    others = [each for each in certificates if each is not issuer]
    chain = chains.ordered(issuer, [*others, *_readable(extra_roots)])
    errors += [("certificate", text) for text in _errors(chain, now)]
    if errors:
        return Examined(None, errors, [])
    authority = _authority(chain, key)
    outside = [host for host in scope.hosts() if not authority.permits(host)]
    if outside:
        shown = ", ".join(outside[:_SHOWN]) + (f" and {len(outside) - _SHOWN} more" if len(outside) > _SHOWN else "")
        text = f"the name constraints of this CA must permit {shown}: issue it for the hosts of the policies as well"
        errors.append(("certificate", text))
    warnings = [
        ("certificate", text) for text in (*chains.unrelated_certificates(chain, certificates), *_remarks(chain))
    ]
    return Examined(authority, errors, warnings)


def _certificates(text: str, errors: Found) -> list[x509.Certificate]:
    try:
        blocks = encoding.blocks(text.encode("latin-1", "replace"))
    except ValueError as error:
        errors.append(("certificate", str(error)))
        return []
    found = []
    for block in blocks:
        if block.label in encoding.KEYS:
            errors.append(("certificate", "must not contain a private key, which is a secret: write it as private_key"))
            return []
        if block.label in encoding.CERTIFICATES:
            try:
                found.append(chains.read_certificate(block.der))
            except ValueError as error:
                errors.append(("certificate", f"certificate {len(found) + 1} of this PEM {error}"))
                return []
    if not found:
        known = next(filter(None, (encoding.other(block.label) for block in blocks)), None)
        errors.append(("certificate", "this PEM contains no certificate" if known is None else f"this is {known}"))
    return found


def _readable(extra_roots: str) -> Iterator[x509.Certificate]:
    for block in encoding.blocks(extra_roots.encode()) if extra_roots else ():
        # One that the library does not read is none that a chain could end in.
        with contextlib.suppress(ValueError):
            yield chains.read_certificate(block.der)


def _key(text: str, errors: Found) -> keys.PrivateKey | None:
    try:
        wanted = [block for block in encoding.blocks(text.encode("latin-1", "replace")) if block.label in encoding.KEYS]
    except ValueError as error:
        errors.append(("private_key", str(error)))
        return None
    if len(wanted) != 1:
        errors.append(("private_key", f"this PEM must contain one private key, not {len(wanted)}"))
        return None
    if wanted[0].encrypted or wanted[0].label == "ENCRYPTED PRIVATE KEY":
        errors.append(("private_key", "this private key must not be encrypted: decrypt it with openssl pkey"))
        return None
    try:
        key = keys.open_key(wanted[0], None)
        keys.written(key)
    except ValueError as error:
        errors.append(("private_key", str(error)))
        return None
    return key


def _errors(chain: list[x509.Certificate], now: float) -> Iterator[str]:
    yield from chains.errors(chain, now)
    issuer = chain[0]
    basic = chains.extension(issuer, x509.BasicConstraints)
    usage = chains.extension(issuer, x509.KeyUsage)
    if basic is None or not basic.ca:
        yield "this certificate must be that of a CA (basic constraints CA:TRUE): it may not sign others"
    elif usage is not None and not usage.key_cert_sign:
        yield "the key usage of this CA must include keyCertSign"
    for above, certificate in enumerate(chain[1:], 1):
        path = chains.extension(certificate, x509.BasicConstraints)
        if path is None or not path.ca:
            yield f"the certificate of {chains.name_of(certificate.subject)} in the chain must be that of a CA"
        elif path.path_length is not None and path.path_length < above:
            yield f"the path length of {chains.name_of(certificate.subject)} must allow a CA below it and its leaves"
    for certificate in chain[1:]:
        if certificate.not_valid_after_utc.timestamp() <= now:
            yield f"the certificate of {chains.name_of(certificate.subject)}, which is in the chain, has expired"


def _remarks(chain: list[x509.Certificate]) -> Iterator[str]:
    issuer = chain[0]
    if not chains.self_issued(chain[-1]):
        yield "the chain does not end in a root: add it, since clients as a rule trust nothing else"
    if chains.extension(issuer, x509.KeyUsage) is None:
        yield "this CA has no key usage, so Python 3.13 and other strict clients refuse it"
    if chains.extension(issuer, x509.SubjectKeyIdentifier) is None:
        yield "this CA has no subject key identifier, so Python 3.13 and other strict clients refuse it"
    if all(chains.extension(each, x509.NameConstraints) is None for each in chain):
        yield "this CA has no name constraints: whoever reads its key can sign for every host that callers trust it for"


def _authority(chain: list[x509.Certificate], key: keys.PrivateKey) -> LocalAuthority:
    written = [each.public_bytes(Encoding.PEM).decode() for each in chain]
    return LocalAuthority(
        generation=0,
        bounds=tuple(map(bounds_of, chain)),
        not_after=min(each.not_valid_after_utc for each in chain).timestamp(),
        fingerprint=chain[0].fingerprint(hashes.SHA256()).hex(),
        certificate=written[0],
        key=key_pem(key),
        trusted=written[-1],
        # A root is what callers have; where there is none they may have it from elsewhere.
        served="".join(written[:-1] if chains.self_issued(chain[-1]) else written),
    )
