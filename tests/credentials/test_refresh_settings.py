"""credentials/refresh_settings.py: the keys that say how tokens may be renewed."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from sidekey.credentials.destination import keys_of
from sidekey.credentials.refresh_settings import RenewalInterval
from sidekey.credentials.registry import KINDS


@pytest.mark.parametrize(("written", "seconds"), [("1s", 1.0), ("1000ms", 1.0), ("90s", 90.0), ("1h", 3600.0)])
def test_the_interval_is_at_least_a_second(written: str, seconds: float) -> None:
    """A duration as everywhere in the config."""
    assert TypeAdapter(RenewalInterval).validate_python(written) == seconds


@pytest.mark.parametrize("written", ["0s", "999ms", "60", 60, None])
def test_less_than_a_second_would_let_each_response_make_a_call(written: object) -> None:
    """And so would a number without its unit, by mistake."""
    with pytest.raises(ValidationError):
        TypeAdapter(RenewalInterval).validate_python(written)


def test_how_a_token_is_renewed_moves_no_stored_secret() -> None:
    """In whichever kind has these keys."""
    keys = {key.name: key.safe_to_change for kind in KINDS.values() for key in keys_of(kind)}
    assert (keys["renewal_interval"], keys["single_live_token"]) == (True, True)
