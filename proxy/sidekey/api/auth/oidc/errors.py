"""Errors of log-ins. Reasons continue a sentence, and contain no byte of a response or token."""

from __future__ import annotations


class LoginError(Exception):
    """Base of all errors of a log-in."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LoginRefused(LoginError):
    """The browser or the issuer sent an invalid or unexpected message."""


class NoRole(LoginError):
    """The maps of `admin.oidc` give an authenticated person no role or no presets."""


class IssuerUnavailable(LoginError):
    """The issuer cannot be reached, or its responses cannot be used."""


class TooManyLogins(LoginError):
    """Too many log-ins from one address. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many log-ins from this address")
        self.retry_after = retry_after
