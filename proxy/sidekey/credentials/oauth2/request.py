"""The token request as it is sent: where each parameter goes, and how it is encoded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from sidekey.credentials.base import Call, Pairs, Sealed
from sidekey.credentials.oauth2.clients import Proof
from sidekey.credentials.oauth2.parameters import Parameters, Scalar
from sidekey.credentials.oauth2.token_response import STEP

_TYPES = {"form": "application/x-www-form-urlencoded", "json": "application/json"}
_ACCEPT = ("Accept", "application/json")


def accepting(headers: Pairs) -> Pairs:
    """Further headers of a call, with `Accept` where they do not have it."""
    return headers if any(name.lower() == "accept" for name, _ in headers) else (_ACCEPT, *headers)


@dataclass(frozen=True, slots=True, repr=False)
class TokenRequest(Sealed):
    """What all token requests of an integration have in common; `body` and `query` are its further parameters.

    `headers` are further ones, none of which client authentication sets.
    """

    url: str
    method: Literal["POST", "GET"] = "POST"
    format: Literal["form", "json"] = "form"
    body: Parameters = ()
    query: Parameters = ()
    headers: Pairs = ()

    def __repr__(self) -> str:
        return f"TokenRequest({self.method}, {self.format}, REDACTED)"

    def call(self, granted: Parameters, proof: Proof, *, once: bool = False) -> Call:
        """One request with the grant's parameters and the client's proof. GET has everything in the query.

        `once`: one of the two may be presented only once.
        """
        fields = (*granted, *proof.fields, *self.body)
        query = (*proof.query, *self.query)
        headers: Pairs = (*proof.headers, *accepting(self.headers))
        if self.method == "GET":
            return Call(STEP, "GET", self._with_query((*fields, *query)), headers, own_connection=once)
        text = json.dumps(dict(fields)) if self.format == "json" else urlencode(_texts(fields))
        headers = (*headers, ("Content-Type", _TYPES[self.format]))
        return Call(STEP, "POST", self._with_query(query), headers, text.encode("ascii"), own_connection=once)

    def _with_query(self, parameters: Parameters) -> str:
        if not parameters:
            return self.url
        mark = "?" if "?" not in self.url else "" if self.url[-1] in "?&" else "&"
        # %20, not "+": only forms read a plus as a space.
        return f"{self.url}{mark}{urlencode(_texts(parameters), quote_via=quote)}"


def _texts(parameters: Parameters) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in parameters]


def _text(value: Scalar) -> str:
    """A value in a form or query: true and false as the config writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
