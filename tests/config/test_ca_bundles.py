"""PEM of CAs that are trusted."""

from __future__ import annotations

import pytest

from sidekey.ca.authorities import MARK
from sidekey.config.ca_bundles import check_bundle, check_no_local_ca
from support.certificates import issue, private_chain

PEM = private_chain().root.pem.decode()


def test_certificates_are_a_bundle() -> None:
    """Whatever stands around them."""
    check_bundle(f"words\n{PEM}{PEM}")
    check_no_local_ca(PEM.encode())


@pytest.mark.parametrize("text", ["", "words", PEM.replace("MII", "!!!", 1), PEM.replace("CERTIFICATE", "PRIVATE KEY")])
def test_anything_else_is_none(text: str) -> None:
    """Nothing would be verified by it."""
    with pytest.raises(ValueError, match="certificate"):
        check_bundle(text)


def test_a_local_ca_verifies_no_upstream() -> None:
    """Whoever reads its key could pose as one."""
    local = issue(MARK, authority=True).pem
    with pytest.raises(ValueError, match="local CA of Sidekey"):
        check_no_local_ca(PEM.encode() + local)
