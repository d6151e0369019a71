"""What is presented to the token endpoint for a token: one small class for each grant type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from sidekey.credentials.base import Attempt, Sealed
from sidekey.credentials.oauth2.clients import Sign
from sidekey.credentials.oauth2.parameters import Parameters

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class GrantType(Protocol):
    """A grant type."""

    @property
    def rotates(self) -> bool:
        """Whether the refresh token of a response is what the next request presents (RFC 6749 6)."""
        ...

    def parameters(self, attempt: Attempt) -> Parameters:
        """The parameters of the request; `grant_type` goes first."""
        ...


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """RFC 6749 4.4, or by the same request a `grant_type` of the platform's own (4.5).

    A refresh token in the response is ignored (4.4.3): the same request brings the next token.
    """

    rotates: ClassVar[bool] = False

    grant_type: str = "client_credentials"

    def parameters(self, attempt: Attempt) -> Parameters:
        """Nothing but the type: what else the platform takes is in the config."""
        del attempt
        return (("grant_type", self.grant_type),)


@dataclass(frozen=True, slots=True, repr=False)
class Password(Sealed):
    """RFC 6749 4.3. A refresh token in the response is ignored: the password brings the next token."""

    rotates: ClassVar[bool] = False

    username: str
    password: str

    def __repr__(self) -> str:
        return "Password(REDACTED)"

    def parameters(self, attempt: Attempt) -> Parameters:
        """User name and password of the resource owner."""
        del attempt
        return (("grant_type", "password"), ("username", self.username), ("password", self.password))


@dataclass(frozen=True, slots=True, repr=False)
class RefreshToken(Sealed):
    """RFC 6749 6, with the config's `token`: where it `rotates`, until a response brings another."""

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

    sign: Sign

    def __repr__(self) -> str:
        return "JwtBearer(REDACTED)"

    def parameters(self, attempt: Attempt) -> Parameters:
        """A fresh assertion."""
        return (
            ("grant_type", JWT_BEARER),
            ("assertion", self.sign(attempt.now)),
        )
