"""commercetools: token and API on different host names of a region, and client authentication only with HTTP Basic.

https://docs.commercetools.com/api/authorization
"""

from __future__ import annotations

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

TOKEN_PATH = "/oauth/token"
REGION = "europe-west1.gcp"
PROJECT = "shop-1"


class Commercetools(Platform):
    """The APIs are under `/{PROJECT}/`, with a separate host for imports: `async with Commercetools(ca) as shop`.

    `scopes` are those of the API client in the console. A request without scopes gets all of them.
    """

    def __init__(self, ca: Authority, *, scopes: str = f"manage_project:{PROJECT}") -> None:
        self.scopes = scopes
        self.tokens = oauth2.Tokens(expires_in=172_800)
        self.auth = Host(f"auth.{REGION}.commercetools.com", self._token)
        self.api = Host(f"api.{REGION}.commercetools.com", self._call)
        self.imports = Host(f"import.{REGION}.commercetools.com", self._call)
        super().__init__(ca, self.auth, self.api, self.imports)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, TOKEN_PATH)
        if oauth2.basic(received) != (CLIENT_ID, CLIENT_SECRET):
            message = "Please provide valid client credentials using HTTP Basic Authentication."
            raise _fault(401, "invalid_client", message, 'Basic realm="commercetools"')
        fields = oauth2.form(received)
        if "client_secret" in fields:
            raise _fault(400, "invalid_request", "more than one way of client authentication")
        oauth2.expect_grant(fields)
        # `scope` is optional: without it the token has every scope of the API client.
        scope = fields.get("scope", self.scopes)
        if not set(scope.split()) <= set(self.scopes.split()):
            raise _fault(400, "invalid_scope", f"The client does not have permission for the scope '{scope}'.")
        return oauth2.bearer_response(self.tokens.issue(scope), scope=scope)

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        token = self.tokens.find(oauth2.bearer(received))
        if token is None:
            # A token can be revoked before its two days are over.
            raise _fault(401, "invalid_token", "invalid_token", 'Bearer realm="commercetools", error="invalid_token"')
        project = received.path.split("/")[1]
        if f"manage_project:{project}" not in token.scope.split():
            raise _fault(403, "insufficient_scope", f"Insufficient scope. Missing: 'manage_project:{project}'.")
        return FakeResponse.json(200, {"limit": 20, "offset": 0, "count": 0, "results": []})


def _fault(status: int, code: str, message: str, challenge: str = "") -> RefusedError:
    """commercetools' errors carry their own fields and those of RFC 6749 5.2."""
    body = {
        "statusCode": status,
        "message": message,
        "errors": [{"code": code, "message": message}],
        "error": code,
        "error_description": message,
    }
    return RefusedError(FakeResponse.json(status, body, {"WWW-Authenticate": challenge} if challenge else None))
