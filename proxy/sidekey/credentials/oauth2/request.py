"""The token request as it is sent: where each parameter goes, and how it is encoded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from sidekey.credentials.base import Call, Pairs, Sealed
from sidekey.credentials.calls import MEDIA_TYPES, Format, accepting, form, with_query
from sidekey.credentials.oauth2.clients import Proof
from sidekey.credentials.oauth2.parameters import Parameters
from sidekey.credentials.oauth2.token_response import STEP


@dataclass(frozen=True, slots=True, repr=False)
class TokenRequest(Sealed):
    """What all token requests of an integration have in common; `body` and `query` are its further parameters.

    `headers` are further ones, none of which client authentication sets.
    """

    url: str
    method: Literal["POST", "GET"] = "POST"
    format: Format = "form"
    body: Parameters = ()
    query: Parameters = ()
    headers: Pairs = ()

    def __repr__(self) -> str:
        return f"TokenRequest({self.method}, {self.format}, REDACTED)"

    def call(self, granted: Parameters, proof: Proof) -> Call:
        """One request with the grant's parameters and the client's proof. GET has everything in the query."""
        fields = (*granted, *proof.fields, *self.body)
        query = (*proof.query, *self.query)
        headers: Pairs = (*proof.headers, *accepting(self.headers, "application/json"))
        if self.method == "GET":
            return Call(STEP, "GET", with_query(self.url, (*fields, *query)), headers)
        text = json.dumps(dict(fields)) if self.format == "json" else form(fields)
        headers = (*headers, ("Content-Type", MEDIA_TYPES[self.format]))
        return Call(STEP, "POST", with_query(self.url, query), headers, text.encode("ascii"))
