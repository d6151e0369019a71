"""URLs of token endpoints and logins."""

import pytest

from sidekey.credentials.endpoint import check_endpoint, parse_endpoint
from sidekey.policy.urls import Origin, Target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://auth.example.com/t", Target(Origin("https", "auth.example.com", 443), "/t", None)),
        ("HTTPS://Auth.example.com:8443", Target(Origin("https", "auth.example.com", 8443), "/", None)),
        ("https://[2001:db8::1]/t?p=q", Target(Origin("https", "2001:db8::1", 443), "/t", "p=q")),
        ("https://127.0.0.1/a%20b/", Target(Origin("https", "127.0.0.1", 443), "/a%20b/", None)),
    ],
)
def test_endpoint_is_an_absolute_https_url(text: str, target: Target) -> None:
    """It may have a query: some platforms select the tenant with it."""
    assert parse_endpoint(text) == target


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be an absolute URL"),
        ("auth.example.com/t", "must be an absolute URL"),
        ("http://auth.example.com/t", "must be an https URL"),
        ("ftp://auth.example.com/t", "must be http or https"),
        ("https://user:hunter2@auth.example.com/t", "userinfo"),
        ("https://auth.example.com/t#hunter2", "must not contain a fragment"),
        ("https://auth.example.com./t", "end in a dot"),
        ("https://auth.example.com:0/t", "port must be 1 to 65535"),
        ("https://0x7f.1/t", "the address must be written as 127.0.0.1"),
        ("https://auth.example.com/a/../t", "must not contain a dot segment"),
        ("https://auth.example.com/a/%2e%2E/t", "must not contain a dot segment"),
        ("https://auth.example.com/%00", "control character"),
        ("https://auth.example.com/a b", "must be percent-encoded"),
        ("https://m\u00fcller.example/t", "must be percent-encoded"),
    ],
)
def test_other_urls_are_refused_without_repeating_them(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        check_endpoint(text)
    assert "hunter2" not in str(caught.value)
    assert "target" not in str(caught.value)
