"""Config keys for the renewal of tokens."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from sidekey.credentials.destination import keys_of
from sidekey.credentials.refresh_settings import RenewalInterval
from sidekey.credentials.registry import KINDS


@pytest.mark.parametrize(("written", "seconds"), [("1s", 1.0), ("1000ms", 1.0), ("90s", 90.0), ("1h", 3600.0)])
def test_interval_is_a_duration_of_at_least_a_second(written: str, seconds: float) -> None:
    assert TypeAdapter(RenewalInterval).validate_python(written) == seconds


@pytest.mark.parametrize("written", ["0s", "999ms", "60", 60, None])
def test_shorter_interval_or_bare_number_is_an_error(written: object) -> None:
    """Each response could make a call."""
    with pytest.raises(ValidationError):
        TypeAdapter(RenewalInterval).validate_python(written)


def test_renewal_keys_are_safe_to_change() -> None:
    keys = {key.name: key.safe_to_change for kind in KINDS.values() for key in keys_of(kind)}
    assert (keys["renewal_interval"], keys["single_live_token"]) == (True, True)
