"""The keys by which a config says how a kind that calls for its tokens may renew them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from sidekey.credentials.destination import HARMLESS
from sidekey.credentials.quantities import Duration

RENEWAL_INTERVAL = 60.0
"""Seconds between two renewals that upstream responses force: a storm of 401s makes one call a minute."""


def _at_least_a_second(seconds: float) -> float:
    if seconds < 1:
        raise ValueError("must be at least 1s: each 401 of the upstream could make a call")
    return seconds


RenewalInterval = Annotated[
    Duration,
    AfterValidator(_at_least_a_second),
    HARMLESS,
    Field(
        description="The least time between two renewals that the upstream forces by rejecting the token before its "
        "end; at least `1s`."
    ),
]

SingleLiveToken = Annotated[
    bool,
    HARMLESS,
    Field(
        description="Whether the provider keeps one valid token for each client, so that a new one ends the one "
        "before. A token is then renewed only once it ends or is rejected, and from that moment requests wait for the "
        "new one."
    ),
]

ONE_PROCESS = (
    "only one process may use this client: without a store processes do not share tokens, and each new one ends that "
    "of the other; run one replica, or add store"
)
"""The warning where a token is a single live one."""
