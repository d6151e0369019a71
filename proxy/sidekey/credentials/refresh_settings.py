"""Config keys for the renewal of tokens, shared by kinds that call for them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from sidekey.credentials.destination import SAFE_TO_CHANGE
from sidekey.credentials.units import Duration

RENEWAL_INTERVAL = 60.0
"""Seconds between two renewals that upstream responses cause: a storm of 401s makes one call a minute."""


def _at_least_a_second(seconds: float) -> float:
    if seconds < 1:
        raise ValueError("must be at least 1s: each 401 of the upstream could make a call")
    return seconds


RenewalInterval = Annotated[
    Duration,
    AfterValidator(_at_least_a_second),
    SAFE_TO_CHANGE,
    Field(description="The shortest time between two refreshes that rejections by the upstream cause; at least `1s`."),
]

SingleLiveToken = Annotated[
    bool,
    SAFE_TO_CHANGE,
    Field(
        description="Whether a new token of the provider ends the client's previous one. Sidekey then refreshes a "
        "token only after it has expired or was rejected, and requests wait for the new token."
    ),
]

ONE_PROCESS = (
    "only one process may use this client: without a store processes do not share tokens, and each new one ends that "
    "of the other; run one replica, or add store"
)
"""The warning for `single_live_token`."""
