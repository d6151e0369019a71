"""Responses of token endpoints: tokens, errors and lifetimes."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.base import CallError, Reply
from sidekey.credentials.oauth2.token_response import DEFAULT_LIFETIME, ResponseShape, read_refresh_token, read_response
from support.drive_kinds import reply

GOOD = {"access_token": "tok-1", "token_type": "Bearer", "expires_in": 3600}
CODES = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
]
SHAPE = ResponseShape(base_url="api.url")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)
KEYS = st.sampled_from(["access_token", "token_type", "expires_in", "refresh_token", "api", "error", "url"])
STRANGE = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON) | st.sampled_from(["tok", "bearer", *CODES]))


def error_of(response: Reply, shape: ResponseShape | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        read_response(response, shape or ResponseShape())
    return caught.value


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("status", [400, 401])
def test_error_code_of_the_rfc_is_repeated(status: int, code: str) -> None:
    """RFC 6749 5.2 and RFC 8693 2.2.2. The description is not repeated. Only a config change helps."""
    error = error_of(reply({"error": code, "error_description": "hunter2"}, status))
    assert (error.outcome, error.reason) == ("refused", f"token endpoint returned {status} {code}")
    assert error.needs_config_change


@pytest.mark.parametrize(
    ("description", "number"),
    [
        ("AADSTS7000215: Invalid client secret provided. hunter2", "AADSTS7000215"),
        ("AADSTS7000222: hunter2", "AADSTS7000222"),
        ("AADSTS1", "AADSTS1"),
        ("AADSTS123456789 hunter2", "AADSTS123456789"),
    ],
)
def test_entra_error_number_is_repeated(description: str, number: str) -> None:
    """It distinguishes a wrong secret from an expired one."""
    error = error_of(reply({"error": "invalid_client", "error_description": description}, 401))
    assert (error.reason, error.needs_config_change) == (f"token endpoint returned 401 invalid_client {number}", True)
    error = error_of(reply({"error": "hunter2", "error_description": description}, 400))
    assert (error.reason, error.outcome, error.needs_config_change) == (
        f"token endpoint returned 400 {number}",
        "refused",
        True,
    )
    assert error_of(reply({"error": "invalid_grant", "error_description": description})).reason.endswith(number)


@pytest.mark.parametrize(
    "description",
    [
        "AADSTS: hunter2",
        "AADSTSx7000215",
        "aadsts7000215",
        "hunter2 AADSTS7000215",
        "AADSTS1234567890",
        "AADSTS70002\u0661",
        "AADSTS7000215hunter2",
        "AADSTS\u0667\u0660",
        "",
        7000215,
        ["AADSTS7000215"],
        None,
    ],
    ids=ascii,
)
def test_other_descriptions_are_not_repeated(description: object) -> None:
    error = error_of(reply({"error": "invalid_client", "error_description": description}, 401))
    assert error.reason == "token endpoint returned 401 invalid_client"


@pytest.mark.parametrize(
    "error", ["hunter2", "invalid_client hunter2", ["invalid_client"], {"code": "hunter2"}, 5, None]
)
def test_unknown_code_is_not_repeated(error: object) -> None:
    error = error_of(reply({"error": error}, 401))
    assert (error.reason, error.needs_config_change) == ("token endpoint returned 401", True)


@pytest.mark.parametrize(
    ("status", "outcome", "needs_config_change"),
    [
        (302, "invalid", False),
        (400, "refused", True),
        (403, "refused", True),
        (404, "refused", False),
        (429, "rate_limited", False),
        (500, "unreachable", False),
        (503, "unreachable", False),
    ],
)
def test_status_determines_the_outcome(status: int, outcome: str, needs_config_change: bool) -> None:
    """Redirects are not followed."""
    error = error_of(reply(GOOD, status))
    assert (error.outcome, error.needs_config_change) == (outcome, needs_config_change)
    assert error.reason == f"token endpoint returned {status}"


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 299])
def test_any_success_may_return_a_token(status: int) -> None:
    """RFC 6749 5.1 requires 200. An error in it is still an error."""
    assert read_response(reply(GOOD, status), ResponseShape()).value == "tok-1"
    assert read_refresh_token(reply({**GOOD, "refresh_token": "r-2"}, status)) == "r-2"
    error = error_of(reply({"error": "invalid_client"}, status))
    assert (error.outcome, error.needs_config_change) == ("refused", True)
    assert error.reason == f"token endpoint returned {status} invalid_client"


def test_success_without_a_body_is_an_error() -> None:
    """RFC 9110 15.3.5."""
    assert error_of(Reply(204, {}, b"")).reason == "token endpoint did not return a JSON object"


def test_retry_after_is_kept() -> None:
    """RFC 9110 10.2.3, in seconds."""
    assert error_of(reply({}, 503, {"retry-after": "17"})).retry_after == 17


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"tok", b"{", b"\xff{}", b"[" * 100_000, b'{"a":' * 100_000])
def test_anything_but_a_json_object_is_an_error(body: bytes) -> None:
    assert error_of(reply(body)).reason == "token endpoint did not return a JSON object"


@pytest.mark.parametrize("token", [None, "", 5, True, ["tok"], "a b", "tok\r\nX: y", "t\u00f6k", "tok\x7f", " tok"])
def test_token_that_is_invalid_in_a_header_is_refused(token: object) -> None:
    """RFC 6749 A.12, without the space."""
    error = error_of(reply({**GOOD, "access_token": token}))
    assert (error.outcome, error.reason) == (
        "invalid",
        "token endpoint did not return a usable token under access_token",
    )


@pytest.mark.parametrize("token", ["00D50!AQ4.~+/=", "eyJ.x-_.y", "123|abc"])
def test_tokens_of_real_platforms_are_accepted(token: str) -> None:
    """b64token (RFC 6750 2.1) would exclude some of them."""
    assert read_response(reply({**GOOD, "access_token": token}), ResponseShape()).value == token


@pytest.mark.parametrize(
    "token_type", ["bearer", "BEARER", "Bearer", "BearerToken", "Application Access Token", "User Access Token", None]
)
def test_case_of_the_token_type_is_ignored(token_type: object) -> None:
    """RFC 6749 5.1. Apigee and eBay have types of their own."""
    assert read_response(reply({**GOOD, "token_type": token_type}), ResponseShape()).value == "tok-1"


@pytest.mark.parametrize("token_type", ["mac", "DPoP", "", 5, ["bearer"]])
def test_token_of_another_type_is_refused(token_type: object) -> None:
    """RFC 6749 7.1, unless the config sets another scheme."""
    response = reply({**GOOD, "token_type": token_type})
    assert error_of(response).reason == "token endpoint returned a token that is not a bearer token"
    assert read_response(response, ResponseShape(bearer=False)).value == "tok-1"


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [(3600, 3600), ("3599", 3599), (1, 1), (1.5, 1.5), (366 * 86400, 366 * 86400)],
)
def test_lifetime_is_a_number_or_digits(expires_in: object, lifetime: float) -> None:
    """Microsoft Entra v1 returns a string."""
    assert read_response(reply({**GOOD, "expires_in": expires_in}), ResponseShape()).lifetime == lifetime


@pytest.mark.parametrize(
    "expires_in",
    [
        None,
        True,
        "soon",
        "",
        "-",
        "--5",
        "+5",
        "-1234567890",
        "1e3",
        "9" * 20,
        366 * 86400 + 1,
        10**400,
        float("nan"),
        float("inf"),
        [60],
        {},
    ],
)
def test_invalid_lifetime_is_replaced_by_the_default(expires_in: object) -> None:
    response = reply({**GOOD, "expires_in": expires_in})
    assert read_response(response, ResponseShape()).lifetime == DEFAULT_LIFETIME
    assert read_response(response, ResponseShape(default_lifetime=900.0)).lifetime == 900


@pytest.mark.parametrize("expires_in", [0, "0", "00", 0.0, -0.0, 0.999, -1, -5, "-5", -0.5, -(10**400)])
def test_token_with_less_than_a_second_has_expired(expires_in: object) -> None:
    """A platform that returns one token until it expires sends 0 or less at its end, and then another token."""
    error = error_of(reply({**GOOD, "expires_in": expires_in}))
    assert (error.outcome, error.reason) == ("invalid", "token endpoint returned a token that has expired")
    assert error.expired
    assert (error.retry_after, error.needs_config_change) == (1, False)


@pytest.mark.parametrize(
    ("response", "result"),
    [
        (reply({**GOOD, "refresh_token": "r-2"}), "r-2"),
        (reply({"refresh_token": "r-2", "access_token": None}), "r-2"),
        (reply(GOOD), None),
        (reply({**GOOD, "refresh_token": "r 2"}), None),
        (reply({**GOOD, "refresh_token": ["r-2"]}), None),
        (reply({"refresh_token": "r-2"}, 400), None),
        (reply(b"r-2"), None),
    ],
)
def test_refresh_token_is_read_from_any_success(response: Reply, result: str | None) -> None:
    """Only if it can be sent."""
    assert read_refresh_token(response) == result


def test_field_names_are_paths() -> None:
    response = {"data": {"accessToken": "tok-2", "meta": {"life": 60}}, "api": {"url": "https://x.example.com"}}
    token = read_response(reply(response), ResponseShape("data.accessToken", "data.meta.life", "api.url"))
    assert (token.value, token.lifetime, token.base_url) == ("tok-2", 60, "https://x.example.com")
    assert "tok-2" not in repr(token)


@pytest.mark.parametrize("url", [None, "", 5, ["https://x.example.com"], {"url": "https://x.example.com"}])
def test_missing_base_url_is_named_by_the_configured_path(url: object) -> None:
    error = error_of(reply({**GOOD, "api": {"url": url}}), SHAPE)
    assert (error.outcome, error.reason) == ("invalid", "token endpoint did not return a base URL under api.url")


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | STRANGE.map(lambda v: json.dumps(v).encode()))
def test_any_response_is_a_token_or_a_call_error(body: bytes) -> None:
    """No word of the response gets into a reason."""
    for shape in (ResponseShape(), SHAPE, ResponseShape(bearer=False)):
        try:
            token: Any = read_response(reply(body), shape)
        except CallError as error:
            assert error.reason.removeprefix("token endpoint ") in {
                "did not return a JSON object",
                "did not return a usable token under access_token",
                "returned a token that is not a bearer token",
                "returned a token that has expired",
                "did not return a base URL under api.url",
                *(f"returned 200 {code}" for code in CODES),
            }
        else:
            assert token.value.isascii()
            assert 1 <= token.lifetime <= 366 * 86400


@given(st.text(st.characters(), max_size=40) | st.from_regex(r"AADSTS[0-9]{0,12}.?", fullmatch=True))
def test_only_the_number_of_a_description_is_repeated(description: str) -> None:
    error = error_of(reply({"error": "invalid_client", "error_description": description}, 401))
    rest = error.reason.removeprefix("token endpoint returned 401 invalid_client")
    assert re.fullmatch(r"(?: AADSTS[0-9]{1,9})?", rest, re.ASCII)


@given(st.integers(300, 599), st.binary(), st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text()))
def test_any_other_status_is_an_error(status: int, body: bytes, headers: dict[str, str]) -> None:
    error = error_of(Reply(status, headers, body))
    assert error.reason == f"token endpoint returned {status}"
    assert error.retry_after is None or error.retry_after >= 0
