"""The kind `responsys`: login, refresh, verdicts and destinations."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sidekey.credentials.base import Attempt, CallError, Destinations, Grant, Reply, Verdict
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.refresh_settings import ONE_PROCESS
from sidekey.credentials.responsys import ResponsysSettings
from sidekey.policy.targets import Policy, Prefix, judge_url
from sidekey.policy.urls import Origin
from support.drive_kinds import NOW, credential_of, first_call, issue, reply, settings_of
from support.stored import RESPONSYS, copied, destination, harmless

AUTH: dict[str, Any] = {
    "type": "responsys",
    "login_endpoint": "https://login2.responsys.net/",
    "username": "api user",
    "password": {"env": "SECRET"},
}
URL = "https://login2.responsys.net/rest/api/v1.3/auth/token"
TOKEN = {"authToken": "E1vz!_.Q=", "issuedAt": 1397142123123, "endPoint": "https://api5-009.responsys.net"}
LOGIN_PATH = "/rest/api/v1.3/auth/token"
AGAIN = Attempt(NOW, memory="old-token")


def error(code: str, detail: str = "", title: str = "hunter2") -> bytes:
    return json.dumps({"type": "", "title": title, "errorCode": code, "detail": detail, "errorDetails": []}).encode()


def error_of(*replies: Reply, attempt: Attempt | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        issue(credential_of(AUTH), *replies, attempt=attempt)
    return caught.value


def test_login_is_a_form_without_secrets_in_its_url() -> None:
    call = first_call(credential_of(AUTH))
    assert (call.step, call.method, call.url) == ("login", "POST", URL)
    assert dict(call.headers) == {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    assert call.body == b"user_name=api+user&password=s3cret%2F%2B+%26%3D%25%3A~&auth_type=password"


def test_token_is_sent_without_a_scheme_to_the_end_point() -> None:
    """The base URL is `endPoint` and the path prefix. The lifetime is well under two hours."""
    issued, _ = issue(credential_of(AUTH), reply(TOKEN))
    assert issued.grant == Grant(
        headers=(("Authorization", "E1vz!_.Q="),),
        base_url="https://api5-009.responsys.net/rest/api/v1.3",
        secrets=(b"E1vz!_.Q=",),
    )
    assert issued.lifetime == 90 * 60
    assert issued.memory == "E1vz!_.Q="


@pytest.mark.parametrize(
    ("end_point", "base"),
    [
        ("api5-009.responsys.net", "https://api5-009.responsys.net"),
        ("https://api5-009.responsys.net/", "https://api5-009.responsys.net"),
        ("HTTPS://API5.responsys.net:443", "https://api5.responsys.net"),
        # Whether it may be used is for the policy to say.
        ("https://api.example.com:8443", "https://api.example.com:8443"),
    ],
)
def test_bare_host_means_https(end_point: str, base: str) -> None:
    issued, _ = issue(credential_of(AUTH), reply({**TOKEN, "endPoint": end_point}))
    assert issued.grant.base_url == f"{base}/rest/api/v1.3"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"authToken": None}, "did not return a usable authToken"),
        ({"authToken": ""}, "did not return a usable authToken"),
        ({"authToken": "a\r\nb"}, "did not return a usable authToken"),
        ({"endPoint": None}, "did not return an endPoint"),
        ({"endPoint": ""}, "did not return an endPoint"),
        ({"endPoint": 5}, "did not return an endPoint"),
        ({"endPoint": "http://api5-009.responsys.net"}, "returned an endPoint that is not an https URL"),
        ({"endPoint": "https://a:b@api5-009.responsys.net"}, "returned an endPoint that is not an https URL"),
        ({"endPoint": "api5 009"}, "returned an endPoint that is not an https URL"),
        ({"endPoint": "https://api5-009.responsys.net/x"}, "returned an endPoint with a path or query"),
        ({"endPoint": "https://api5-009.responsys.net?x"}, "returned an endPoint with a path or query"),
    ],
)
def test_unusable_response_is_an_error(change: dict[str, object], reason: str) -> None:
    """It names the field, and repeats nothing of its value."""
    error = error_of(reply({**TOKEN, **change}))
    assert (error.outcome, error.reason) == ("invalid", f"login {reason}")


def test_last_token_is_refreshed() -> None:
    """At the same URL, with the token in Authorization, without user name and password."""
    issued, (call,) = issue(credential_of(AUTH), reply({**TOKEN, "authToken": "new"}), attempt=AGAIN)
    assert (call.step, call.url, call.body) == ("token refresh", URL, b"auth_type=token")
    assert dict(call.headers)["Authorization"] == "old-token"
    assert issued.memory == "new"


def test_rejected_token_is_not_refreshed() -> None:
    """The first call is a login."""
    call = first_call(credential_of(AUTH), Attempt(NOW, memory="old-token", rejected=True))
    assert call.step == "login"
    assert "Authorization" not in dict(call.headers)


@pytest.mark.parametrize(
    ("response", "previous"),
    [
        (reply(error("INVALID_TOKEN"), 401), "refused"),
        (reply(error("TOKEN_EXPIRED"), 401), "refused"),
        (reply(error("UNEXPECTED_EXCEPTION", "Not a valid authentication token"), 500), "unreachable"),
        (reply(b"<html>", 200), "invalid"),
    ],
)
def test_login_follows_a_refused_refresh(response: Reply, previous: str) -> None:
    """The login has the outcome of the refresh."""
    issued, calls = issue(credential_of(AUTH), response, reply(TOKEN), attempt=AGAIN)
    assert [(call.step, call.previous_outcome) for call in calls] == [("token refresh", "ok"), ("login", previous)]
    assert issued.memory == TOKEN["authToken"]


def test_login_follows_a_refresh_without_a_response() -> None:
    """Unless the refresh exceeded the rate limit."""
    flow = credential_of(AUTH).obtain(AGAIN)
    assert next(flow).step == "token refresh"
    login = flow.throw(CallError("timeout", "token refresh did not respond in time"))
    assert (login.step, login.previous_outcome) == ("login", "timeout")
    with pytest.raises(StopIteration):
        flow.send(reply(TOKEN))
    flow = credential_of(AUTH).obtain(AGAIN)
    next(flow)
    with pytest.raises(CallError, match="too many"):
        flow.throw(CallError("rate_limited", "too many calls"))


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("/rest/api/v1.3", "/rest/api/v1.3/auth/token"),
        ("/rest/api/v1.3/campaigns/", "/rest/api/v1.3/auth/token"),
        ("/rest/api/v2/lists", "/rest/api/v2/auth/token"),
        ("/rest/api", "/rest/api/v1.3/auth/token"),
        ("/rest/api/v1x", "/rest/api/v1.3/auth/token"),
        ("/rest", "/rest/api/v1.3/auth/token"),
        ("/x/rest/api/v2", "/rest/api/v1.3/auth/token"),
    ],
)
def test_login_is_below_the_version_of_the_api(prefix: str, path: str) -> None:
    """A longer path prefix changes the base URL, not the login."""
    credential = credential_of({**AUTH, "path_prefix": prefix})
    issued, (call,) = issue(credential, reply(TOKEN))
    assert call.url == f"https://login2.responsys.net{path}"
    assert issued.grant.base_url == f"https://api5-009.responsys.net{prefix.rstrip('/')}"


@pytest.mark.parametrize("response", [reply({}, 429), reply(error("API_LIMIT_EXCEEDED"), 401)])
def test_no_login_follows_a_rate_limited_refresh(response: Reply) -> None:
    assert error_of(response, attempt=AGAIN).outcome == "rate_limited"


@pytest.mark.parametrize(
    ("response", "outcome", "reason", "settings"),
    [
        (
            reply(error("INVALID_USER_NAME_PASSWORD"), 400),
            "refused",
            "login returned 400 (wrong user name or password)",
            True,
        ),
        (reply(error("ACCOUNT_SUSPENDED"), 401), "refused", "login returned 401 (the account is suspended)", True),
        (reply(error("SOMETHING_NEW"), 401), "refused", "login returned 401", True),
        (reply(error("API_LIMIT_EXCEEDED"), 401), "rate_limited", "login returned 401: too many calls", False),
        (reply({}, 429), "rate_limited", "login returned 429", False),
        (reply({}, 404), "refused", "login returned 404", False),
        (reply({}, 302), "invalid", "login returned 302", False),
        (reply(error("UNEXPECTED_EXCEPTION"), 500), "unreachable", "login returned 500", False),
        (reply(b"<html>hunter2"), "invalid", "login did not return a usable authToken", False),
        (reply([TOKEN]), "invalid", "login did not return a usable authToken", False),
    ],
)
def test_failed_login_is_reported_without_the_servers_text(
    response: Reply, outcome: str, reason: str, settings: bool
) -> None:
    error = error_of(response)
    assert (error.outcome, error.reason, error.needs_config_change) == (outcome, reason, settings)


def test_retry_after_of_a_rate_limit_is_kept() -> None:
    """With the status 429 and with Responsys' own code."""
    for content, status in (({}, 429), (error("API_LIMIT_EXCEEDED"), 401)):
        assert error_of(reply(content, status, {"retry-after": "30"})).retry_after == 30


def test_rate_limit_without_retry_after_waits_a_minute() -> None:
    """Responsys counts logins by the minute, and would count earlier ones as well."""
    assert error_of(reply(error("API_LIMIT_EXCEEDED"), 401)).retry_after == 60
    assert error_of(reply(error("API_LIMIT_EXCEEDED"), 401, {"retry-after": "0"})).retry_after == 0


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (401, error("INVALID_TOKEN"), Verdict.REJECTED),
        (401, error("TOKEN_EXPIRED"), Verdict.REJECTED),
        (401, error("API_LIMIT_EXCEEDED"), Verdict.GOOD),
        (401, error("INSUFFICIENT_ACCESS"), Verdict.GOOD),
        (401, error("API_DISABLED_FOR_USER"), Verdict.GOOD),
        (401, error("ACCOUNT_SUSPENDED"), Verdict.GOOD),
        (401, b'{"errorCode": ["INVALID_TOKEN"]}', Verdict.GOOD),
        (401, b"INVALID_TOKEN", Verdict.GOOD),
        (401, b"", Verdict.GOOD),
        (401, None, Verdict.GOOD),
        (403, error("INVALID_TOKEN"), Verdict.GOOD),
        (500, error("UNEXPECTED_EXCEPTION", "Not a valid authentication token"), Verdict.SPENT),
        (500, error("UNEXPECTED_EXCEPTION", "", "Not a valid authentication token"), Verdict.SPENT),
        (500, error("UNEXPECTED_EXCEPTION", "Out of memory"), Verdict.GOOD),
        (500, error("INVALID_TOKEN"), Verdict.GOOD),
        (500, b'{"errorCode": "UNEXPECTED_EXCEPTION", "detail": 5}', Verdict.GOOD),
        (500, None, Verdict.GOOD),
    ],
)
def test_code_in_the_body_decides_the_verdict(status: int, body: bytes | None, verdict: Verdict) -> None:
    """A login for each 401 would exceed the limit. After a 500 the request may have been processed."""
    assert credential_of(AUTH).verdict(status, body) is verdict


@given(st.sampled_from([200, 400, 401, 429, 500]), st.binary(), st.sampled_from([None, AGAIN]))
def test_any_response_is_a_token_or_an_error(status: int, body: bytes, attempt: Attempt | None) -> None:
    """Every response of the upstream has a verdict."""
    credential = credential_of(AUTH)
    assert credential.verdict(status, body) is Verdict.GOOD
    flow = credential.obtain(attempt or Attempt(NOW))
    next(flow)
    with pytest.raises((CallError, StopIteration)):
        for _ in range(3):
            flow.send(Reply(status, {}, body))


def places(**changes: Any) -> Destinations:
    settings = settings_of({**AUTH, **changes})
    result = settings.destinations({part.key: part.reference.value for part in settings.inputs()})
    assert result is not None
    return result


def test_login_origin_is_the_placeholder_of_the_end_point() -> None:
    """The base URL is the login's host and the path prefix, until an `endPoint` replaces the host."""
    result = places()
    origin = Origin("https", "login2.responsys.net", 443)
    assert (result.placeholder_origin, result.path, result.base) == (
        origin,
        "/rest/api/v1.3",
        Prefix(origin, "/rest/api/v1.3"),
    )
    hosts = {"responsys.net", "rsys8.net", "rsys9.net", "responsys.ocs.oraclecloud.com"}
    assert {domain.origin.host for domain in result.domains if domain.wildcard} == hosts
    assert [domain.origin for domain in result.domains if not domain.wildcard] == [origin]


@pytest.mark.parametrize(
    ("prefix", "path", "allowed"),
    [
        ("/rest/api/v1.3", "/rest/api/v1.3/campaigns", True),
        ("/rest/api/v1.3", "/rest/api/v1.3", True),
        ("/rest/api/v1.3", LOGIN_PATH, False),
        ("/rest/api/v1.3", "/rest/api/v1.3/auth", False),
        ("/rest/api/v1.3", "/rest/api/v1.3/AUTH/token/", False),
        ("/rest/api/v1.3", "/rest/api/v1.3/%61uth/token", False),
        ("/rest/api/v1.3", "/rest/api/ratelimit", False),
        ("/rest/api", "/rest/api/ratelimit", True),
        ("/rest/api", "/rest/api/v9/auth/token", False),
        ("/rest/api", "/rest/api/auth/token", False),
        ("/proxy/rsys/", "/proxy/rsys/auth/token", False),
        ("/proxy/rsys/", "/proxy/rsys/campaigns", True),
    ],
)
def test_login_is_never_a_target(prefix: str, path: str, allowed: bool) -> None:
    """On any host, in any spelling."""
    result = places(path_prefix=prefix)
    policy = Policy(domains=result.domains, forbidden=result.forbidden, path=result.path)
    for host in ("login2.responsys.net", "api5-009.responsys.net"):
        assert judge_url(policy, "GET", f"https://{host}{path}").allowed is allowed


def test_traits_watch_401_and_500() -> None:
    """A 500 may reject the token, too."""
    traits = settings_of(AUTH).traits()
    assert (traits.injection_points.headers, traits.calls, traits.discovers_base_url) == (
        ("Authorization",),
        True,
        True,
    )
    assert traits.watched == {401, 500}
    assert (traits.renewal_interval, traits.single_live_token) == (60.0, False)
    changed = settings_of({**AUTH, "renewal_interval": "5m", "single_live_token": True}).traits()
    assert (changed.renewal_interval, changed.single_live_token) == (300.0, True)
    assert credential_of(AUTH).calls_a_minute == 5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("login_endpoint", "http://login2.responsys.net", "must be an https URL"),
        ("login_endpoint", "https://login2.responsys.net/rest", "write the path as path_prefix"),
        ("login_endpoint", "https://login2.responsys.net/?x", "write the path as path_prefix"),
        ("username", "", "must not be empty"),
        ("password", "hunter2", "a secret may not be written inline"),
        ("path_prefix", "rest/api/v1.3", "begins with a slash"),
        ("path_prefix", "/", "at least one segment"),
        ("path_prefix", "/rest?x", "begins with a slash"),
        ("path_prefix", "/rest/../api", "must not contain a dot segment"),
        ("path_prefix", "/rest//api", "must not contain empty segments"),
        ("path_prefix", "/rest#api", "must not contain a fragment"),
    ],
)
def test_error_has_its_key(key: str, value: str, message: str) -> None:
    """An invalid value from a variable makes the integration unusable."""
    with pytest.raises(ValidationError, match=message) as caught:
        settings_of({**AUTH, key: value})
    assert [error["loc"] for error in caught.value.errors()] == [("responsys", key)]
    if key not in ("password", "username"):
        with pytest.raises(SecretUnreadable, match=message):
            credential_of({**AUTH, key: {"env": "VALUE"}}, {"VALUE": value})


def test_missing_login_or_path_means_no_destination() -> None:
    settings = settings_of(AUTH)
    assert settings.destinations({("login_endpoint",): "https://login2.responsys.net"}) is None
    assert settings.destinations({("path_prefix",): "/rest"}) is None


def test_base_url_is_always_discovered() -> None:
    """Known before the block is valid."""
    assert ResponsysSettings.discovers_base_url({})


def test_single_live_token_is_a_warning() -> None:
    """A second process would revoke it."""
    (result,) = ResponsysSettings.find_single_process({"auth": {"type": "responsys", "single_live_token": True}})
    assert result == (("auth", "single_live_token"), ONE_PROCESS)
    assert (
        list(ResponsysSettings.find_single_process({"auth": {"type": "responsys", "single_live_token": False}})) == []
    )


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, set()),
        ({"password": {"insecure_value": "another"}}, {"proof"}),
        ({"path_prefix": "/rest/api/v1.3/campaigns"}, {"token"}),
        ({"path_prefix": "/rest/api/v1.4"}, {"client", "token"}),
        ({"username": "another"}, {"client"}),
        ({"login_endpoint": "https://login5.responsys.net"}, {"client"}),
    ],
)
def test_password_is_the_proof_in_the_lineage(changes: dict[str, Any], parts: set[str]) -> None:
    """Another path prefix needs another base URL, which a refresh returns without a login."""
    first, second = credential_of(AUTH).lineage, credential_of({**AUTH, **changes}).lineage
    assert {part for part in ("client", "token", "proof") if getattr(first, part) != getattr(second, part)} == parts


def test_login_and_path_are_the_destination_in_canonical_form() -> None:
    assert harmless(ResponsysSettings) == {"renewal_interval", "single_live_token"}
    document = copied(RESPONSYS)
    document["auth"] |= {"login_endpoint": "https://LOGIN2.responsys.net:443/", "path_prefix": "/rest/api/v1.3/"}
    assert destination(document) == destination(RESPONSYS)
    document["auth"]["path_prefix"] = "/rest/api/v1.3/lists"
    assert destination(document)["auth"] == {
        "type": "responsys",
        "login_endpoint": "https://login2.responsys.net",
        "path_prefix": "/rest/api/v1.3/lists",
    }
