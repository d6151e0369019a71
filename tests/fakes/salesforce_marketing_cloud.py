"""Salesforce Marketing Cloud: JSON token requests with a rate limit, and an API host that only the response names.

https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/access-token-s2s.html
"""

from __future__ import annotations

from typing import Any

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, MinuteLimit, Platform, ReceivedRequest, RefusedError, read_json
from support.private_ca import Authority

TOKEN_PATH = "/v2/token"
SUBDOMAIN = "mc563885gzs27c5t9-63k636ttgm"
ACCOUNT_ID = 7_281_234
"""The MID of the business unit; without `account_id` it is the package's own."""


class SalesforceMarketingCloud(Platform):
    """`async with SalesforceMarketingCloud(ca) as cloud`. `scopes` are those of the installed package.

    `rest_subdomain` is the host of the API in the response. It may differ from that of the token endpoint.
    """

    def __init__(
        self, ca: Authority, *, scopes: str = "email_read email_send", rest_subdomain: str = SUBDOMAIN
    ) -> None:
        self.scopes = scopes
        self.tokens = oauth2.Tokens(expires_in=1079)
        self.requests = MinuteLimit(5)
        """Token requests; the guidance is one per 20 minutes."""
        self.auth = Host(f"{SUBDOMAIN}.auth.marketingcloudapis.com", self._token)
        self.rest = Host(f"{rest_subdomain}.rest.marketingcloudapis.com", self._call)
        self._soap_instance_url = f"https://{rest_subdomain}.soap.marketingcloudapis.com/"
        super().__init__(ca, self.auth, self.rest)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, TOKEN_PATH)
        if not self.requests.admits():
            error = {"error": "rate_limit_exceeded", "error_description": "Too many token requests."}
            raise RefusedError(FakeResponse.json(429, error, {"Retry-After": "60"}))
        # The parameters are documented as a JSON payload.
        fields = read_json(received)
        if fields is None:
            raise _refusal(400, "invalid_request", "The request body must be application/json.")
        if fields.get("grant_type") != "client_credentials":
            raise _refusal(400, "unsupported_grant_type", "Grant type is invalid.")
        if received.values("authorization"):
            raise _refusal(400, "invalid_request", "More than one way of client authentication.")
        if fields.get("client_id") != CLIENT_ID:
            message = "Invalid client ID. Use the client ID in Marketing Cloud Installed Packages."
            raise _refusal(401, "invalid_client", message)
        if fields.get("client_secret") != CLIENT_SECRET:
            message = "Invalid client secret. Use the client secret in Marketing Cloud Installed Packages."
            raise _refusal(401, "invalid_client", message)
        _check_account(fields)
        scope = self._scope(fields)
        # The REST and SOAP base URIs of the tenant; both end with a slash.
        instances = {"soap_instance_url": self._soap_instance_url, "rest_instance_url": f"https://{self.rest.name}/"}
        return oauth2.bearer_response(self.tokens.issue(scope), scope=scope, **instances)

    def _scope(self, fields: dict[str, Any]) -> str:
        # "If scope isn't specified, the token has the scopes of the installed package"; an empty one asks for none.
        scope = fields.get("scope", self.scopes)
        if not isinstance(scope, str) or not set(scope.split()) <= set(self.scopes.split()):
            raise _refusal(400, "invalid_scope", "The requested scope is invalid.")
        return scope

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        token = self.tokens.find(oauth2.bearer(received))
        if token is None:
            error = {"message": "Not Authorized", "errorcode": 1, "documentation": ""}
            raise RefusedError(FakeResponse.json(401, error, {"WWW-Authenticate": 'Bearer error="invalid_token"'}))
        if not token.scope:
            message = "Insufficient privileges to make this call."
            raise RefusedError(FakeResponse.json(403, {"message": message, "errorcode": 20001, "documentation": ""}))
        return FakeResponse.json(200, {"count": 0, "page": 1, "pageSize": 50, "items": []})


def _check_account(fields: dict[str, Any]) -> None:
    """`account_id` is typed as a number; public examples also send it as a string, which works as well."""
    account_id = fields.get("account_id", ACCOUNT_ID)
    if isinstance(account_id, bool) or account_id not in (ACCOUNT_ID, str(ACCOUNT_ID)):
        raise _refusal(400, "invalid_request", "The client doesn't have access to the account.")


def _refusal(status: int, code: str, message: str) -> RefusedError:
    """Build the recorded form of an error: RFC 6749 5.2 with an error_uri."""
    body = {"error": code, "error_description": message, "error_uri": "https://developer.salesforce.com/docs"}
    return RefusedError(FakeResponse.json(status, body))
