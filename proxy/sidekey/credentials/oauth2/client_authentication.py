"""Client authentication: the keys of `client_authentication`, and what proves the client (RFC 6749 2.3)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

from pydantic import BeforeValidator, Field

from sidekey.credentials.base import Pairs
from sidekey.credentials.destination import SAFE_TO_CHANGE
from sidekey.credentials.fields import Section, expand_tag
from sidekey.credentials.jose import SecretAlgorithm
from sidekey.credentials.oauth2.assertion import AssertionSettings, KeyAssertionSettings
from sidekey.credentials.oauth2.parameters import Parameters
from sidekey.credentials.secret_holder import SecretHolder

# joserfc comes with the extra `jwt`. Without it `check_library` refuses every key that needs it.
with suppress(ImportError):
    from sidekey.credentials import jose

Method = Literal["header", "body", "query", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "public", "none"]
"""`public` names the client without a proof (RFC 6749 3.2.1); `none` leaves it out, as grants allow that name it.

With `tls_client_auth` the proof is the certificate of the connection.
"""

Sign = Callable[[float], str]
"""Makes a signed assertion, given the wall clock."""

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True, repr=False)
class ClientProof(SecretHolder):
    """What goes with a token request: `fields` where the grant's parameters go, `query` always in the query."""

    headers: Pairs = ()
    fields: Parameters = ()
    query: Parameters = ()

    def __repr__(self) -> str:
        return "Proof(REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Client(SecretHolder):
    """A client and its method. `secret` and `sign` are what the method needs."""

    method: Method
    id: str
    secret: str = ""
    form_encoded: bool = True
    sign: Sign | None = None

    def __repr__(self) -> str:
        return f"Client({self.method}, REDACTED)"

    def prove(self, now: float) -> ClientProof:
        """The proof for one request, made at `now` (seconds since the epoch)."""
        named: Parameters = (("client_id", self.id),)
        if self.method == "header":
            return ClientProof(headers=(("Authorization", self._basic()),))
        if self.method in ("body", "query"):
            pair: Parameters = (*named, ("client_secret", self.secret))
            return ClientProof(fields=pair) if self.method == "body" else ClientProof(query=pair)
        if self.sign is not None:
            # RFC 7521 4.2 makes client_id optional; Microsoft Entra asks for it.
            signed: Parameters = (("client_assertion_type", _JWT_BEARER), ("client_assertion", self.sign(now)))
            return ClientProof(fields=(*named, *signed))
        # RFC 8705 2: the certificate authenticates the client that the request names by client_id.
        return ClientProof(fields=named) if self.method in ("public", "tls_client_auth") else ClientProof()

    def _basic(self) -> str:
        """RFC 6749 2.3.1: both are form-encoded (appendix B) before they become user name and password.

        A space becomes %20: servers that decode forms read it like a plus, and all other servers read only %20.
        """
        pair = (quote(self.id, safe=""), quote(self.secret, safe="")) if self.form_encoded else (self.id, self.secret)
        return f"Basic {b64encode(':'.join(pair).encode()).decode('ascii')}"


class HeaderSettings(Section):
    """ID and secret as HTTP Basic (RFC 6749 2.3.1)."""

    # Here and below: its name in OAuth 2.0's registry (RFC 7591 2).
    also_called: ClassVar[frozenset[str]] = frozenset({"client_secret_basic"})

    type: Literal["header"]
    form_encoded: Annotated[bool, SAFE_TO_CHANGE] = Field(
        default=True,
        description="Whether ID and secret are form-encoded before base64. Set it to `false` for servers that ignore "
        "RFC 6749 2.3.1.",
    )


class PlainSettings(Section):
    """ID and secret in the body or the query, or the integration's `client_certificate` (RFC 8705 2)."""

    also_called: ClassVar[frozenset[str]] = frozenset({"client_secret_post"})

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


_Method = Annotated[
    HeaderSettings | PlainSettings | PrivateKeyJwtSettings | ClientSecretJwtSettings, Field(discriminator="type")
]
_Word = Literal["header", "body", "query", "client_secret_jwt", "tls_client_auth"]
ClientAuthenticationSettings = Annotated[_Method, BeforeValidator(expand_tag, json_schema_input_type=_Word | _Method)]
"""The key `client_authentication`."""
