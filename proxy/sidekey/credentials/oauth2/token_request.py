"""Token requests of the OAuth 2.0 kind: their config keys, and the credential that sends one for each token."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import Attempt, Call, CallError, Issued, Lineage, Pairs, Reply, Verdict
from sidekey.credentials.calls import MEDIA_TYPES, Format, encode_form, with_accept, with_query
from sidekey.credentials.fields import Keys, Section, refuse_keys, refuse_locations
from sidekey.credentials.header_values import CallHeaders
from sidekey.credentials.oauth2.client_authentication import Client, ClientProof
from sidekey.credentials.oauth2.grant_types import GrantType
from sidekey.credentials.oauth2.parameters import FurtherParameters, Parameters
from sidekey.credentials.oauth2.token_response import (
    STEP,
    ResponseShape,
    determines_next_token,
    read_refresh_token,
    read_response,
)
from sidekey.credentials.placement import Placement
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.parameters import ParameterNames


@dataclass(frozen=True, slots=True, repr=False)
class TokenRequest(SecretHolder):
    """The part of an integration's token requests that is always the same.

    The operator sets `body`, `query` and `headers`. The config check refuses headers that client authentication sets.
    """

    url: str
    method: Literal["POST", "GET"] = "POST"
    format: Format = "form"
    body: Parameters = ()
    query: Parameters = ()
    headers: Pairs = ()

    def __repr__(self) -> str:
        return f"TokenRequest({self.method}, {self.format}, REDACTED)"

    def build_call(self, grant_parameters: Parameters, proof: ClientProof) -> Call:
        """Build the call. GET has all parameters in the query."""
        fields = (*grant_parameters, *proof.fields, *self.body)
        query = (*proof.query, *self.query)
        headers: Pairs = (*proof.headers, *with_accept(self.headers, "application/json"))
        if self.method == "GET":
            return Call(STEP, "GET", with_query(self.url, (*fields, *query)), headers)
        text = json.dumps(dict(fields)) if self.format == "json" else encode_form(fields)
        headers = (*headers, ("Content-Type", MEDIA_TYPES[self.format]))
        return Call(STEP, "POST", with_query(self.url, query), headers, text.encode("ascii"))


class TokenRequestSettings(Section):
    """The request to the token endpoint."""

    method: Literal["POST", "GET"] = Field(
        default="POST", description="Method. With `GET`, all parameters go into the query."
    )
    format: Literal["form", "json"] = Field(default="form", description="How the body is encoded.")
    body: FurtherParameters = Field(
        default={},
        description="Further body parameters, such as `scope`: text, numbers, booleans, or secrets as references. "
        "Sidekey does not send an empty scope.",
    )
    query: FurtherParameters = Field(
        default={}, description="Further query parameters, written like `body`. None may be in both."
    )
    headers: CallHeaders = Field(
        default={},
        description="Further headers, such as an API key: a public text, or `{prefix: TEXT, secret: REFERENCE}`. "
        "Sidekey adds `Accept: application/json` if you set no `Accept`.",
    )

    @field_validator("query")
    @classmethod
    def _refuse_duplicates(cls, query: FurtherParameters, info: ValidationInfo) -> FurtherParameters:
        body = ParameterNames(info.data.get("body", ()))
        duplicates = ((name,) for name in query if body.find(name) is not None)
        refuse_locations(duplicates, "this parameter is also in the body: remove one")
        return query

    @model_validator(mode="after")
    def _check_get(self) -> Self:
        if self.method == "GET":
            keys = ("body", "format") if self.format == "json" else ("body",)
            refuse_keys(self, keys, "may not be used with GET, which has no body: write all parameters under query")
        return self

    def parameter_keys(self) -> Iterator[Keys]:
        """Yield the location of each additional parameter."""
        yield from (("body", name) for name in self.body)
        yield from (("query", name) for name in self.query)


@dataclass(frozen=True, slots=True, repr=False)
class OAuth2Credential(SecretHolder):
    """Obtains each token with one call to a token endpoint."""

    calls_a_minute: ClassVar[int | None] = None

    request: TokenRequest
    grant_type: GrantType
    client: Client
    response: ResponseShape
    placement: Placement
    lineage: Lineage

    def __repr__(self) -> str:
        return f"OAuth2Credential({self.grant_type!r}, {self.client!r})"

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Call the token endpoint. Raises CallError."""
        reply = yield self.request.build_call(self.grant_type.parameters(attempt), self.client.prove(attempt.now))
        memory = (read_refresh_token(reply) or attempt.memory) if self.grant_type.rotates else None
        try:
            token = read_response(reply, self.response)
        except CallError as error:
            # Even an unusable response may have used up the refresh token, or contain the next one.
            error.memory = memory
            error.unspent = error.unspent or determines_next_token(reply)
            raise
        return Issued(self.placement.build_grant(token.value, token.base_url), token.lifetime, memory)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Return REJECTED for 401, which means an expired, revoked or otherwise invalid token (RFC 6750 3.1)."""
        del body
        return Verdict.REJECTED if status == 401 else Verdict.GOOD
