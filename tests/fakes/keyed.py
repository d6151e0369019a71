"""Platforms with static keys: each accepts its key in another place, and has its own error for a wrong one.

Sources: https://developers.klaviyo.com, https://mailchimp.com/developer, https://developer.bigcommerce.com,
https://www.twilio.com/docs/segment, https://www.algolia.com/doc/rest-api,
https://mailchimp.com/developer/transactional.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

KEY = "pk_0123456789abcdef:+/="
"""It has what a careless client would encode."""


@dataclass(frozen=True, slots=True)
class KeyProvider:
    """The data of one platform: its host, the exact values that it expects, and its response to any other."""

    host: str
    api: str
    headers: Mapping[str, str]
    denied: tuple[int, object]
    body: Mapping[str, str] = field(default_factory=dict)


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


KEYED = {
    "klaviyo": KeyProvider(
        "a.klaviyo.com",
        "/api/events",
        {"authorization": f"Klaviyo-API-Key {KEY}"},
        (401, {"errors": [{"status": 401, "code": "authentication_failed", "detail": "Incorrect authentication."}]}),
    ),
    "mailchimp": KeyProvider(
        "us6.api.mailchimp.com",
        "/3.0/lists",
        {"authorization": _basic("sidekey", KEY)},
        (401, {"title": "API Key Invalid", "status": 401, "detail": "Your API key may be invalid."}),
    ),
    "bigcommerce": KeyProvider(
        "api.bigcommerce.com",
        "/stores/hpj4hvw2bb/v3/catalog/products",
        {"x-auth-token": KEY},
        (401, {"status": 401, "title": "X-Auth-Token header is required"}),
    ),
    "algolia": KeyProvider(
        "erbsowzo32.algolia.net",
        "/1/indexes/products/query",
        {"x-algolia-application-id": "ERBSOWZO32", "x-algolia-api-key": KEY},
        (403, {"message": "Invalid Application-ID or API key", "status": 403}),
    ),
    "segment": KeyProvider(
        "events.eu1.segmentapis.com",
        "/v1/track",
        {"authorization": _basic("writekey", "")},
        (401, {"success": False, "message": "Invalid write key"}),
    ),
    "mandrill": KeyProvider(
        "mandrillapp.com",
        "/api/1.3/messages/send",
        {},
        (401, {"status": "error", "code": -1, "name": "Invalid_Key", "message": "Invalid API key"}),
        body={"key": KEY},
    ),
}


class KeyPlatform(Platform):
    """`async with KeyPlatform(ca, KEYED["klaviyo"]) as klaviyo`."""

    def __init__(self, ca: Authority, keyed: KeyProvider) -> None:
        self.keyed = keyed
        self.host = Host(keyed.host, self._respond)
        super().__init__(ca, self.host)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        keyed = self.keyed
        error = json.loads(received.body) if keyed.body else {}
        wrong = any(received.value(name) != value for name, value in keyed.headers.items())
        if wrong or any(error.get(name) != value for name, value in keyed.body.items()):
            status, body = keyed.denied
            raise RefusedError(FakeResponse.json(status, body))
        if received.path != keyed.api:
            raise RefusedError(FakeResponse.json(404, {"status": 404}))
        return FakeResponse.json(200, {"data": []})
