"""Roots that may verify upstreams."""

from __future__ import annotations

import ssl

from sidekey.ca.certificates import LeafSigner, create_key
from sidekey.ca.roots import certificates, is_local, upstream_roots
from support.certificates import issue
from support.local_cas import NOW, authority_of

LOCAL = authority_of("https://a.test")
OTHER = issue("Public root", authority=True)


def test_local_ca_and_its_leaves_are_recognised() -> None:
    """CAs of another Sidekey count, too."""
    assert is_local(ssl.PEM_cert_to_DER_cert(LOCAL.certificate))
    leaf, _ = LeafSigner(LOCAL, create_key()).issue("a.test", NOW)
    assert all(map(is_local, certificates(leaf.encode())))
    assert not is_local(OTHER.der)


def test_local_ca_is_not_usable() -> None:
    pem = LOCAL.certificate.encode() + OTHER.pem
    assert list(upstream_roots(pem)) == [OTHER.der]
    assert list(upstream_roots(pem + OTHER.pem)) == [OTHER.der]


def test_pem_is_read_like_openssl() -> None:
    """OpenSSL accepts text between blocks, old labels and CRLF. It skips damaged blocks."""
    old = OTHER.pem.replace(b"CERTIFICATE", b"X509 CERTIFICATE").replace(b"\n", b"\r\n")
    damaged = b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"
    assert list(upstream_roots(b"# \xfc\n" + damaged + old + b"\n")) == [OTHER.der]
    assert list(upstream_roots(b"")) == []
