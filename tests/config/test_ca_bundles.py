"""PEM bundles of trusted CAs."""

from __future__ import annotations

import pytest

from sidekey.ca.authorities import MARK
from sidekey.config.ca_bundles import check_bundle, check_no_local_ca
from support.certificates import issue, private_chain

PEM = private_chain().root.pem.decode()


def test_certificates_with_text_around_them_are_a_bundle() -> None:
    check_bundle(f"words\n{PEM}{PEM}")
    check_no_local_ca(PEM.encode())


@pytest.mark.parametrize("text", ["", "words", PEM.replace("MII", "!!!", 1), PEM.replace("CERTIFICATE", "PRIVATE KEY")])
def test_bundle_without_a_readable_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        check_bundle(text)


def test_bundle_with_a_local_ca_is_refused() -> None:
    """Somebody who reads the CA's key could pose as an upstream."""
    local = issue(MARK, authority=True).pem
    with pytest.raises(ValueError, match="local CA of Sidekey"):
        check_no_local_ca(PEM.encode() + local)
