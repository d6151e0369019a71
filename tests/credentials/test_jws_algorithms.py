"""Minimum secret sizes, and the error for a missing joserfc."""

import sys

import pytest

from sidekey.credentials.jws_algorithms import SECRET_ALGORITHMS, check_library, min_secret_size


def test_minimum_secret_is_as_long_as_the_hash() -> None:
    """RFC 7518 3.2."""
    assert {name: min_secret_size(name) for name in SECRET_ALGORITHMS} == {"HS256": 32, "HS384": 48, "HS512": 64}


def test_error_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check_library("tokens")
    monkeypatch.setitem(sys.modules, "joserfc", None)
    with pytest.raises(ValueError, match=r"^tokens need joserfc: install from the checkout with the extra jwt$"):
        check_library("tokens")
