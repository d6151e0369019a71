"""Reasons of denials, for problems that need one."""

from __future__ import annotations

from sidekey.errors import ALWAYS_DENIED, DENIAL_REASONS, Denial


def denial_of(code: str) -> Denial | None:
    """Return any reason of a response with this code, or None if it needs none."""
    return (
        next(reason.denial for reason in DENIAL_REASONS.values() if code in reason.codes)
        if code in ALWAYS_DENIED
        else None
    )
