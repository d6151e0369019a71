"""What is presented to the token endpoint for a token: one small class for each grant type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from sidekey.credentials.base import Attempt, Sealed
from sidekey.credentials.oauth2.clients import Sign
from sidekey.credentials.oauth2.parameters import Parameters


class GrantType(Protocol):
    """A grant type. `once`: the server may refuse its parameters when it sees them again."""

    once: ClassVar[bool]

    @property
    def rotates(self) -> bool:
        """Whether the refresh token of a response is what the next request presents (RFC 6749 6)."""
        ...

    def parameters(self, attempt: Attempt) -> Parameters:
        """The parameters of the request; `grant_type` goes first."""
        ...


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """RFC 6749 4.4; a refresh token in the response is ignored (4.4.3)."""

    rotates: ClassVar[bool] = False
    once: ClassVar[bool] = False

    def parameters(self, attempt: Attempt) -> Parameters:
        """Nothing but the type."""
        del attempt
        return (("grant_type", "client_credentials"),)


@dataclass(frozen=True, slots=True, repr=False)
class RefreshToken(Sealed):
    """RFC 6749 6, with the config's `token`: where it `rotates`, until a response brings another."""

    once: ClassVar[bool] = True

    token: str
    rotates: bool = True

    def __repr__(self) -> str:
        return "RefreshToken(REDACTED)"

    def parameters(self, attempt: Attempt) -> Parameters:
        """The newest refresh token."""
        newest = attempt.memory if self.rotates else None
        return (("grant_type", "refresh_token"), ("refresh_token", newest or self.token))


@dataclass(frozen=True, slots=True, repr=False)
class JwtBearer(Sealed):
    """RFC 7523 2.1: a signed assertion says who asks for whom."""

    rotates: ClassVar[bool] = False
    once: ClassVar[bool] = True

    sign: Sign

    def __repr__(self) -> str:
        return "JwtBearer(REDACTED)"

    def parameters(self, attempt: Attempt) -> Parameters:
        """A fresh assertion."""
        return (
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", self.sign(attempt.now)),
        )
