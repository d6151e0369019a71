"""The credential of the OAuth 2.0 kind: one request to the token endpoint for each token."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from sidekey.credentials.base import Attempt, Call, CallFault, Issued, Lineage, Reply, Verdict
from sidekey.credentials.oauth2.clients import Client
from sidekey.credentials.oauth2.grants import GrantType
from sidekey.credentials.oauth2.request import TokenRequest
from sidekey.credentials.oauth2.token_response import ResponseShape, names_successor, read_refresh_token, read_response
from sidekey.credentials.placement import Placement
from sidekey.credentials.secret_holder import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class OAuth2Credential(SecretHolder):
    """What a token request is made of, and how its response is read."""

    calls_a_minute: ClassVar[int | None] = None

    request: TokenRequest
    grant: GrantType
    client: Client
    response: ResponseShape
    placement: Placement
    lineage: Lineage

    def __repr__(self) -> str:
        return f"OAuth2Credential({self.grant!r}, {self.client!r})"

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """One call. Raises CallFault."""
        reply = yield self.request.call(self.grant.parameters(attempt), self.client.prove(attempt.now))
        memory = (read_refresh_token(reply) or attempt.memory) if self.grant.rotates else None
        try:
            token = read_response(reply, self.response)
        except CallFault as error:
            # With the response the refresh token that was sent may have ended, whatever is wrong with the rest.
            error.memory = memory
            error.unspent = error.unspent or names_successor(reply)
            raise
        return Issued(self.placement.grant(token.value, token.base_url), token.life, memory)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """RFC 6750 3.1: 401 says that the token is expired, revoked or otherwise invalid."""
        del body
        return Verdict.REJECTED if status == 401 else Verdict.GOOD
