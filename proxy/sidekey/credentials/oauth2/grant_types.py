"""OAuth 2.0 grant types: the key `grant` in the config, and the parameters that each type adds to the token request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, Field

from sidekey.credentials.base import Attempt, SecretInput
from sidekey.credentials.context import FileOnly
from sidekey.credentials.destination import SAFE_TO_CHANGE
from sidekey.credentials.fields import (
    Keys,
    Reference,
    Secret,
    SecretOrText,
    Section,
    Text,
    check_not_empty,
    expand_tag,
    literal_check,
)
from sidekey.credentials.oauth2.assertion import KeyAssertionSettings
from sidekey.credentials.oauth2.client_authentication import Sign
from sidekey.credentials.oauth2.parameters import Parameters
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.token_file import FileToken, TokenFile, needs_file, token_check

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
JWT_TYPE: Final = "urn:ietf:params:oauth:token-type:jwt"
"""The identifier of JWTs (RFC 8693 3)."""

ONLY_WITH_TOKEN: Final = FileOnly("may be used only with subject_token")
"""Marks a key that has no meaning without `subject_token`, which only a config file may set."""


class GrantType(Protocol):
    """A grant type with the values that its token requests need."""

    @property
    def rotates(self) -> bool:
        """Return True if the next token request sends the refresh token of the last response (RFC 6749 6)."""
        ...

    def parameters(self, attempt: Attempt) -> Parameters:
        """Return the parameters of the token request, starting with `grant_type`."""
        ...


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The client's own credentials (RFC 6749 4.4). With another `grant_type`, a `custom` grant type (4.5).

    It ignores a refresh token in the response (4.4.3), because a repeated request returns the next token.
    """

    rotates: ClassVar[bool] = False

    grant_type: str = "client_credentials"

    def parameters(self, attempt: Attempt) -> Parameters:
        """Return the type alone: `token_request` has any other parameters."""
        del attempt
        return (("grant_type", self.grant_type),)


@dataclass(frozen=True, slots=True, repr=False)
class Password(SecretHolder):
    """Resource owner's password (RFC 6749 4.3). It ignores a refresh token in the response."""

    rotates: ClassVar[bool] = False

    username: str
    password: str

    def __repr__(self) -> str:
        return "Password(REDACTED)"

    def parameters(self, attempt: Attempt) -> Parameters:
        """Return user name and password of the resource owner."""
        del attempt
        return (("grant_type", "password"), ("username", self.username), ("password", self.password))


@dataclass(frozen=True, slots=True, repr=False)
class RefreshToken(SecretHolder):
    """Refresh token (RFC 6749 6). With `rotates`, the newest refresh token of a response replaces `token`."""

    token: str
    rotates: bool = True

    def __repr__(self) -> str:
        return "RefreshToken(REDACTED)"

    def parameters(self, attempt: Attempt) -> Parameters:
        """Return the newest refresh token."""
        newest = attempt.memory if self.rotates else None
        return (("grant_type", "refresh_token"), ("refresh_token", newest or self.token))


@dataclass(frozen=True, slots=True, repr=False)
class JwtBearer(SecretHolder):
    """Signed assertion as the grant (RFC 7523 2.1)."""

    rotates: ClassVar[bool] = False

    sign: Sign

    def __repr__(self) -> str:
        return "JwtBearer(REDACTED)"

    def parameters(self, attempt: Attempt) -> Parameters:
        """Sign a new assertion."""
        return (
            ("grant_type", JWT_BEARER),
            ("assertion", self.sign(attempt.now)),
        )


@dataclass(frozen=True, slots=True, repr=False)
class TokenExchange(SecretHolder):
    """Exchange of a token of another issuer (RFC 8693 2.1). It ignores a refresh token in the response."""

    rotates: ClassVar[bool] = False

    subject_token: FileToken
    subject_token_type: str

    def __repr__(self) -> str:
        return f"TokenExchange({self.subject_token!r})"

    def parameters(self, attempt: Attempt) -> Parameters:
        """Return the token and its type: `token_request` has the audience and the scope."""
        del attempt
        return (
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", self.subject_token.text),
            ("subject_token_type", self.subject_token_type),
        )


_GRANT_TYPE = re.compile(r"[!-~]([ -~]*[!-~])?")
_TOKEN_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")


def _check_grant_type(name: str) -> str:
    tag = "jwt_bearer" if name == JWT_BEARER else name
    if tag in ("client_credentials", "refresh_token", "password", "jwt_bearer"):
        raise ValueError(f"write type: {tag}, which has this name, instead of type: custom")
    if not _GRANT_TYPE.fullmatch(name):
        raise ValueError("must be visible US-ASCII without spaces at its ends, and not empty (RFC 6749 A.10)")
    return name


class ClientCredentialsSettings(Section):
    """The client's own credentials (RFC 6749 4.4)."""

    type: Literal["client_credentials"]

    def inputs(self) -> Iterator[SecretInput]:
        """Yield no input."""
        yield from ()

    def build_grant_type(self, values: Mapping[Keys, str]) -> GrantType:
        """Build the grant type."""
        del values
        return ClientCredentials()


class RefreshTokenSettings(Section):
    """A refresh token (RFC 6749 6)."""

    type: Literal["refresh_token"]
    refresh_token: Secret = Field(
        description="The refresh token, as a reference. If a response contains a new one, Sidekey uses the new one, "
        "without a store only until the next start. See `rotates`."
    )
    rotates: Annotated[bool, SAFE_TO_CHANGE] = Field(
        default=True,
        description="Whether a response may replace the refresh token. If `true`, only one process may use the "
        "refresh token, or processes that share a store. If `false`, Sidekey always uses the one in the config.",
    )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the refresh token."""
        yield SecretInput(("grant", "refresh_token"), self.refresh_token)

    def build_grant_type(self, values: Mapping[Keys, str]) -> GrantType:
        """Build the grant type."""
        return RefreshToken(values["grant", "refresh_token"], self.rotates)


class PasswordSettings(Section):
    """User name and password of the resource owner (RFC 6749 4.3)."""

    type: Literal["password"]
    username: Annotated[SecretOrText, literal_check(check_not_empty)] = Field(
        description="The user name: a secret, or in a file also plain text."
    )
    password: Secret = Field(description="The user's password, as a reference.")

    def inputs(self) -> Iterator[SecretInput]:
        """Yield user name and password."""
        yield SecretInput(("grant", "username"), self.username, check_not_empty)
        yield SecretInput(("grant", "password"), self.password)

    def build_grant_type(self, values: Mapping[Keys, str]) -> GrantType:
        """Build the grant type."""
        return Password(values["grant", "username"], values["grant", "password"])


class JwtBearerSettings(KeyAssertionSettings):
    """A signed assertion as the grant (RFC 7523 2.1), as for Google service accounts and Salesforce."""

    SECTION: ClassVar[str] = "grant"

    type: Literal["jwt_bearer"]
    issuer: Annotated[Text, literal_check(check_not_empty)] | None = Field(
        default=None, description="The issuer (claim `iss`); default: the `client_id`."
    )
    subject: Annotated[Text, literal_check(check_not_empty)] | None = Field(
        default=None, description="The subject (claim `sub`)."
    )

    def texts(self) -> dict[str, Reference | None]:
        """Return the public texts by key, including issuer and subject."""
        return {**super().texts(), "issuer": self.issuer, "subject": self.subject}

    def build_grant_type(self, values: Mapping[Keys, str]) -> GrantType:
        """Build the grant type."""
        return JwtBearer(self.build_assertion(values, "").sign)


def _check_token_type(uri: str) -> str:
    if not _TOKEN_TYPE.fullmatch(uri):
        raise ValueError(f"must be a URI, such as {JWT_TYPE}")
    return uri


class TokenExchangeSettings(Section):
    """A token of another issuer, which a program writes to a file (RFC 8693)."""

    KEY: ClassVar[Keys] = ("grant", "subject_token")

    type: Literal["token_exchange"]
    subject_token: Annotated[TokenFile, needs_file("use another grant, or write the integration in a file")] = Field(
        description="The file with the token, as `{file: PATH}`. Sidekey reads it before each call."
    )
    subject_token_type: Annotated[str, AfterValidator(_check_token_type), ONLY_WITH_TOKEN] = Field(
        default=JWT_TYPE, description="The URI of the token's type (RFC 8693 3); default: a JWT."
    )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the file."""
        yield SecretInput(self.KEY, self.subject_token, token_check(self.subject_token))

    def build_grant_type(self, values: Mapping[Keys, str]) -> GrantType:
        """Build the grant type."""
        return TokenExchange(self.token(values), self.subject_token_type)

    def token(self, values: Mapping[Keys, str]) -> FileToken:
        """Return the subject token."""
        return FileToken(self.subject_token.value, values[self.KEY])


class CustomGrantSettings(Section):
    """A platform-specific grant (RFC 6749 4.5). Put its parameters into `token_request`."""

    type: Literal["custom"]
    grant_type: Annotated[str, AfterValidator(_check_grant_type)] = Field(
        description="The name of the grant, such as Zoom's `account_credentials`."
    )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield no input."""
        yield from ()

    def build_grant_type(self, values: Mapping[Keys, str]) -> GrantType:
        """Build the grant type. Its request is that of client credentials, except for the name."""
        del values
        return ClientCredentials(self.grant_type)


_Grant = Annotated[
    ClientCredentialsSettings
    | RefreshTokenSettings
    | PasswordSettings
    | JwtBearerSettings
    | TokenExchangeSettings
    | CustomGrantSettings,
    Field(discriminator="type"),
]
GrantSettings = Annotated[
    _Grant, BeforeValidator(expand_tag, json_schema_input_type=Literal["client_credentials"] | _Grant)
]
"""The key `grant`."""
