"""Why nobody is logged in. Each reason continues a sentence, and repeats no byte of a response or a token."""

from __future__ import annotations


class LoginError(Exception):
    """A log-in did not succeed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LoginRefused(LoginError):
    """What the browser or the issuer sent does not log anybody in."""


class NoRole(LoginError):
    """The issuer knows the person, and the maps of `admin.oidc` give them nothing."""


class IssuerUnavailable(LoginError):
    """The issuer cannot be reached, or does not work."""


class TooManyLogins(LoginError):
    """Too many log-ins from one address. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many log-ins from this address")
        self.retry_after = retry_after
