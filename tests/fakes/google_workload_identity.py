"""Google's Security Token Service, the IAM Service Account Credentials API, and an API that accepts their tokens.

https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token: a form as in RFC 8693, without a client.
https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
google-auth 2.63 sends the same fields, but with the scope https://www.googleapis.com/auth/iam in the exchange before
generateAccessToken, and accepts these responses.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fakes import oauth2
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError, read_json
from support.private_ca import Authority

PROJECT, POOL, PROVIDER = "123456789012", "kubernetes", "my-cluster"
ACCOUNT = "robot@my-project.iam.gserviceaccount.com"
NAME = f"//iam.googleapis.com/projects/{PROJECT}/locations/global/workloadIdentityPools/{POOL}/providers/{PROVIDER}"
AUDIENCE = f"https:{NAME}"
"""The audience of subject tokens that a provider accepts by default."""

STS, IAM, API = "sts.googleapis.com", "iamcredentials.googleapis.com", "storage.googleapis.com"
LOGIN = f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "audience": NAME,
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "scope": CLOUD_PLATFORM,
}


class GoogleWorkloadIdentity(Platform):
    """`async with GoogleWorkloadIdentity(ca, public) as google`: `public` verifies subject tokens.

    `tokens` are those of the token service, `account_tokens` those of the service account. The API accepts both.
    """

    def __init__(self, ca: Authority, public: RSAKey | ECKey) -> None:
        self.tokens = oauth2.Tokens(expires_in=3600)
        self.account_tokens = oauth2.Tokens(expires_in=3600)
        self._public = public
        self.sts = Host(STS, self._exchange)
        self.iam = Host(IAM, self._generate)
        self.api = Host(API, self._call)
        super().__init__(ca, self.sts, self.iam, self.api)

    @property
    def subject_tokens(self) -> list[str]:
        """Return the subject tokens that were presented."""
        return [oauth2.form(received)["subject_token"] for received in self.sts.received]

    def _exchange(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, "/v1/token")
        fields = oauth2.form(received)
        subject = fields.pop("subject_token", "")
        if fields.get("audience", NAME) != NAME:
            message = "The pool or provider is disabled or deleted, or does not exist."
            raise oauth2.error(400, "invalid_target", message)
        if received.values("authorization") or fields != EXCHANGE:
            raise oauth2.error(400, "invalid_request", "Invalid value for a field.")
        try:
            claims = jwt.decode(subject, self._public, algorithms=["RS256", "ES256"]).claims
        except (JoseError, ValueError):
            raise oauth2.error(400, "invalid_grant", "The JWT's signature is invalid.") from None
        if claims.get("aud") != AUDIENCE or not claims["iat"] <= time.time() < claims["exp"]:
            raise oauth2.error(400, "invalid_grant", "The audience or the lifetime of the JWT is invalid.")
        issued = {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        return oauth2.bearer_response(self.tokens.issue(), **issued)

    def _generate(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            raise _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if (received.method, received.path) != ("POST", LOGIN):
            raise _error(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied.")
        body = read_json(received) or {}
        if body.pop("lifetime", "3600s") != "3600s" or body != {"scope": [CLOUD_PLATFORM]}:
            raise _error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
        token = self.account_tokens.issue()
        end = datetime.fromtimestamp(int(time.time()) + self.account_tokens.expires_in, UTC)
        return FakeResponse.json(200, {"accessToken": token.value, "expireTime": f"{end:%Y-%m-%dT%H:%M:%SZ}"})

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        value = oauth2.bearer(received)
        if self.tokens.find(value) is None and self.account_tokens.find(value) is None:
            raise _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        return FakeResponse.json(200, {"items": []})


def _error(status: int, code: str, message: str) -> RefusedError:
    return RefusedError(FakeResponse.json(status, {"error": {"code": status, "message": message, "status": code}}))
