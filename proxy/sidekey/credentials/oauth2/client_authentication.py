"""OAuth 2.0 client authentication (RFC 6749 2.3): the key `client_authentication`, and the proof in token requests."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

from pydantic import BeforeValidator, Field

from sidekey.credentials.base import Pairs, SecretInput
from sidekey.credentials.destination import SAFE_TO_CHANGE
from sidekey.credentials.fields import Keys, Section, expand_tag
from sidekey.credentials.jws_algorithms import SecretAlgorithm
from sidekey.credentials.oauth2.assertion import AssertionSettings, KeyAssertionSettings
from sidekey.credentials.oauth2.parameters import Parameters
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.token_file import FileToken, TokenFile, needs_file, token_check

# joserfc comes with the extra `jwt`. Without it `check_library` refuses every key that needs it.
with suppress(ImportError):
    from sidekey.credentials import jose

Method = Literal[
    "header",
    "body",
    "query",
    "client_secret_jwt",
    "private_key_jwt",
    "assertion",
    "tls_client_auth",
    "public",
    "none",
]
"""The method. `public` sends only the `client_id` (RFC 6749 3.2.1). `none` omits it if a token names the client.

With `tls_client_auth`, the connection's certificate is the proof. With `assertion`, `secret` is from a file.
"""

Sign = Callable[[float], str]
"""Returns a signed assertion for a wall clock time."""

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True, repr=False)
class ClientProof(SecretHolder):
    """The client's part of a token request. `fields` join those of the grant type. `query` is always in the query."""

    headers: Pairs = ()
    fields: Parameters = ()
    query: Parameters = ()

    def __repr__(self) -> str:
        return "ClientProof(REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Client(SecretHolder):
    """A client and its authentication method, which uses `secret` or `sign`."""

    method: Method
    id: str
    secret: str = ""
    form_encoded: bool = True
    sign: Sign | None = None

    def __repr__(self) -> str:
        return f"Client({self.method}, REDACTED)"

    def prove(self, now: float) -> ClientProof:
        """Build the proof for a request at `now` (seconds since the epoch)."""
        client_id: Parameters = (("client_id", self.id),)
        if self.method == "header":
            return ClientProof(headers=(("Authorization", self._basic_header()),))
        if self.method in ("body", "query"):
            pair: Parameters = (*client_id, ("client_secret", self.secret))
            return ClientProof(fields=pair) if self.method == "body" else ClientProof(query=pair)
        if self.method == "assertion" or self.sign is not None:
            assertion = self.secret if self.sign is None else self.sign(now)
            # RFC 7521 4.2 makes client_id optional, but Microsoft Entra requires it.
            signed: Parameters = (("client_assertion_type", _JWT_BEARER), ("client_assertion", assertion))
            return ClientProof(fields=(*client_id, *signed))
        # RFC 8705 2: the certificate authenticates the client in client_id.
        return ClientProof(fields=client_id) if self.method in ("public", "tls_client_auth") else ClientProof()

    def _basic_header(self) -> str:
        """Build the value of `Authorization`. RFC 6749 2.3.1 form-encodes ID and secret first (appendix B).

        A space becomes %20, not a plus: servers that do not decode forms understand only %20.
        """
        pair = (quote(self.id, safe=""), quote(self.secret, safe="")) if self.form_encoded else (self.id, self.secret)
        return f"Basic {b64encode(':'.join(pair).encode()).decode('ascii')}"


class HeaderSettings(Section):
    """ID and secret as HTTP Basic (RFC 6749 2.3.1)."""

    # The name in OAuth 2.0's registry (RFC 7591 2), here and below.
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"client_secret_basic"})

    type: Literal["header"]
    form_encoded: Annotated[bool, SAFE_TO_CHANGE] = Field(
        default=True,
        description="Whether ID and secret are form-encoded before base64. Set it to `false` for servers that ignore "
        "RFC 6749 2.3.1.",
    )


class SimpleMethodSettings(Section):
    """ID and secret in the body or the query, or the integration's `client_certificate` (RFC 8705 2)."""

    mistaken_types: ClassVar[frozenset[str]] = frozenset({"client_secret_post"})

    type: Literal["body", "query", "tls_client_auth"]


class PrivateKeyJwtSettings(KeyAssertionSettings):
    """An assertion signed with a private key (RFC 7523 2.2)."""

    SECTION: ClassVar[str] = "client_authentication"

    type: Literal["private_key_jwt"]


class ClientSecretJwtSettings(AssertionSettings):
    """An assertion signed with the client's secret (RFC 7523 2.2)."""

    SECTION: ClassVar[str] = "client_authentication"

    type: Literal["client_secret_jwt"]
    algorithm: SecretAlgorithm = Field(default="HS256", description="The signature algorithm (RFC 7518 3.1).")

    def check_secret(self, text: str) -> None:
        """Raise ValueError for a secret that is too short for the algorithm."""
        jose.load_secret(text, "text", self.algorithm)


class AssertionFileSettings(Section):
    """A signed assertion that another program writes to a file (RFC 7523 2.2), such as the token of a pod."""

    KEY: ClassVar[Keys] = ("client_authentication", "assertion")

    type: Literal["assertion"]
    assertion: Annotated[TokenFile, needs_file("use another method, or write the integration in a file")] = Field(
        description="The file with the assertion, as `{file: PATH}`. Sidekey reads it before each call."
    )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the file."""
        yield SecretInput(self.KEY, self.assertion, token_check(self.assertion))

    def token(self, values: Mapping[Keys, str]) -> FileToken:
        """Return the assertion."""
        return FileToken(self.assertion.value, values[self.KEY])


_AnyMethod = Annotated[
    HeaderSettings | SimpleMethodSettings | PrivateKeyJwtSettings | ClientSecretJwtSettings | AssertionFileSettings,
    Field(discriminator="type"),
]
_MethodName = Literal["header", "body", "query", "client_secret_jwt", "tls_client_auth"]
ClientAuthenticationSettings = Annotated[
    _AnyMethod, BeforeValidator(expand_tag, json_schema_input_type=_MethodName | _AnyMethod)
]
"""The key `client_authentication`."""
