"""How the client authenticates to the token endpoint: by one method in one request (RFC 6749 2.3)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from sidekey.credentials.base import Pairs, Sealed
from sidekey.credentials.oauth2.parameters import Parameters

Method = Literal["header", "body", "query", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "public", "none"]
"""`public` names the client without a proof (RFC 6749 3.2.1); `none` leaves it out, as grants allow that name it.

With `tls_client_auth` the proof is the certificate of the connection.
"""

Sign = Callable[[float], str]
"""Makes a signed assertion, given the wall clock."""

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True, repr=False)
class Proof(Sealed):
    """What goes with a token request: `fields` where the grant's parameters go, `query` always in the query."""

    headers: Pairs = ()
    fields: Parameters = ()
    query: Parameters = ()

    def __repr__(self) -> str:
        return "Proof(REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class Client(Sealed):
    """A client and its method. `secret` and `sign` are what the method needs."""

    method: Method
    id: str
    secret: str = ""
    raw_basic: bool = False
    sign: Sign | None = None

    def __repr__(self) -> str:
        return f"Client({self.method}, REDACTED)"

    def prove(self, now: float) -> Proof:
        """The proof for one request, made at `now` (seconds since the epoch)."""
        named: Parameters = (("client_id", self.id),)
        if self.method == "header":
            return Proof(headers=(("Authorization", self._basic()),))
        if self.method in ("body", "query"):
            pair: Parameters = (*named, ("client_secret", self.secret))
            return Proof(fields=pair) if self.method == "body" else Proof(query=pair)
        if self.sign is not None:
            # RFC 7521 4.2 makes client_id optional; Microsoft Entra asks for it.
            signed: Parameters = (("client_assertion_type", _JWT_BEARER), ("client_assertion", self.sign(now)))
            return Proof(fields=(*named, *signed))
        # RFC 8705 2: the certificate authenticates the client that the request names by client_id.
        return Proof(fields=named) if self.method in ("public", "tls_client_auth") else Proof()

    def _basic(self) -> str:
        """RFC 6749 2.3.1: both are form-encoded (appendix B) before they become user name and password.

        A space is %20 there: who decodes forms reads that as well as a plus, and others read only that.
        """
        pair = (self.id, self.secret) if self.raw_basic else (quote(self.id, safe=""), quote(self.secret, safe=""))
        return f"Basic {b64encode(':'.join(pair).encode()).decode('ascii')}"
