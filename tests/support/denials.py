"""What a problem that stands for a denial needs."""

from __future__ import annotations

from sidekey.errors import ALWAYS_DENIED, DENIAL_REASONS, Denial


def denial_of(code: str) -> Denial | None:
    """Some reason of a response of this code; None where it needs none."""
    return (
        next(reason.denial for reason in DENIAL_REASONS.values() if code in reason.codes)
        if code in ALWAYS_DENIED
        else None
    )
