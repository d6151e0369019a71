"""The kind `headers`: fixed values in headers, query and body."""

from typing import Any

import pytest

from sidekey.credentials.base import FixedCredential, Grant
from sidekey.credentials.context import Context
from sidekey.credentials.headers import HeadersSettings
from support.stored import HEADERS, copied, destination, harmless

SECRET = {"secret": {"insecure_value": "hunter2"}}
WRITTEN: dict[str, Any] = {
    "headers": {"X-Tenant": "a", "x_key": SECRET},
    "query": {"key": SECRET},
    "body": {"on": True},
}


def settings_of(**written: object) -> HeadersSettings:
    return HeadersSettings.model_validate({"type": "headers", **written}, context=Context("file"))


def test_values_become_a_fixed_grant() -> None:
    settings = settings_of(**WRITTEN)
    values, reasons = settings.read(lambda reference: reference.value, {})
    assert reasons == ()
    credential = settings.credential(values)
    assert isinstance(credential, FixedCredential)
    headers, query, body = (("X-Tenant", "a"), ("x_key", "hunter2")), (("key", "hunter2"),), (("on", True),)
    assert credential.grant == Grant(headers, query, body, secrets=(b"hunter2", b"hunter2"))


@pytest.mark.parametrize(
    ("written", "place", "reason"),
    [
        ({}, ("auth",), "needs headers, query or body"),
        ({"query": {"key": "a"}, "body": {"Key": "b"}}, ("auth", "body", "Key"), "are the same parameter"),
    ],
)
def test_missing_or_duplicate_values_are_errors(written: dict[str, Any], place: tuple[str, ...], reason: str) -> None:
    ((result, message),) = HeadersSettings.find_errors({"auth": {"type": "headers", **written}})
    assert result == place
    assert reason in message


def test_only_public_values_that_decide_the_target_change_the_destination() -> None:
    """A server may choose the target by headers that no caller may send."""
    assert harmless(HeadersSettings) == {"provider", "query", "body"}
    document = copied(HEADERS)
    document["auth"] |= {"query": {"a": "b"}, "body": {"c": 5}}
    headers = document["auth"]["headers"]
    headers |= {"X-Other": "public", "Authorization": {"prefix": "Token ", "secret": {"value": "x"}}}
    assert destination(document) == destination(HEADERS) == {**destination(HEADERS), "auth": {"type": "headers"}}
    headers |= {"x_original_url": "/a", "X-HTTP-Method-Override": "PUT"}
    assert destination(document)["auth"] == {
        "type": "headers",
        "headers": {"x-original-url": "/a", "x-http-method-override": "PUT"},
    }
