"""The kind `oauth2`: validation, traits, destinations, and the requests of its grants."""

import sys
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from pydantic import BaseModel, ValidationError

from sidekey.config.validate import validate
from sidekey.credentials.base import Destinations
from sidekey.credentials.context import Context
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.oauth2.client_authentication import (
    ClientSecretJwtSettings,
    HeaderSettings,
    PrivateKeyJwtSettings,
)
from sidekey.credentials.oauth2.grant_types import JwtBearerSettings, RefreshTokenSettings
from sidekey.credentials.oauth2.settings import OAuth2Settings
from sidekey.credentials.oauth2.token_request import TokenRequestSettings
from sidekey.credentials.oauth2.token_response import TokenResponseSettings
from sidekey.policy.targets import Domain, Forbidden, Prefix
from sidekey.policy.urls import Origin
from support.drive_kinds import credential_of, first_call, issue, reply, settings_of
from support.oauth import JWT_BEARER
from support.stored import OAUTH2, copied, destination, harmless

AUTH: dict[str, Any] = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/oauth2/token",
    "client_id": "client-1",
    "client_secret": {"env": "SECRET"},
}
KEY = {"private_key": {"env": "KEY"}}
BY_PASSWORD = {"type": "password", "username": "svc", "password": {"env": "PASSWORD"}}
OWNER = {"grant": BY_PASSWORD}
REFRESHING = {"grant": {"type": "refresh_token", "refresh_token": {"env": "SECRET"}}}
BY_CERTIFICATE = {"client_authentication": "tls_client_auth", "client_secret": None}
BY_KEY = {"type": "private_key_jwt", **KEY}
SIGNED = {"client_authentication": BY_KEY, "client_secret": None}


def custom(name: str) -> dict[str, Any]:
    """Build a platform-specific grant."""
    return {"grant": {"type": "custom", "grant_type": name}}


def errors(**changes: Any) -> dict[str, str]:
    """Return locations and messages of the errors in a file. A key that is None is omitted."""
    auth = {key: value for key, value in {**AUTH, **changes}.items() if value is not None}
    result = validate({"client_certificate": {"pem": {"env": "PEM"}}, "auth": auth}, Context("file")).errors
    return {".".join(map(str, error.loc[1:])): error.message for error in result}


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"token_endpoint": "http://auth.example.com/t"}, "token_endpoint", "must be an https URL"),
        ({"token_endpoint": "https://a:b@auth.example.com/t"}, "token_endpoint", "the URL must not contain userinfo"),
        ({"token_endpoint": "https://auth.example.com/t#x"}, "token_endpoint", "must not contain a fragment"),
        ({"token_endpoint": "/oauth2/token"}, "token_endpoint", "must be an absolute URL"),
        ({"token_endpoint": "https://auth.example.com/t?Client_ID=x"}, "token_endpoint", "Sidekey sends"),
        ({"client_id": ""}, "client_id", "must not be empty"),
        ({"client_secret": "hunter2"}, "client_secret", "a secret may not be written inline"),
        ({"client_secret": None}, "client_secret", "this key is missing"),
        ({"client_secret": None, "client_authentication": "body"}, "client_secret", "this key is missing"),
        ({"client_authentication": "tls_client_auth"}, "client_secret", "may not be used with tls_client_auth"),
        ({"client_authentication": "none"}, "client_authentication", "must be one of header, body, query"),
        (
            {"client_authentication": {"type": "body", "form_encoded": False}},
            "client_authentication.form_encoded",
            "unknown key; known: type",
        ),
        (
            {"client_id": "a:b", "client_authentication": {"type": "header", "form_encoded": False}},
            "client_id",
            "must not contain a colon",
        ),
        ({"renewal_interval": "999ms"}, "renewal_interval", "must be at least 1s"),
        ({"renewal_interval": 60}, "renewal_interval", "the unit is missing"),
        ({"single_live_token": "yes"}, "single_live_token", "must be true or false"),
        ({"grant": "implicit"}, "grant", "must be one of client_credentials, refresh_token"),
        ({"grant": "custom"}, "grant.grant_type", "this key is missing"),
        (custom("client_credentials"), "grant.grant_type", "write type: client_credentials"),
        (custom("refresh_token"), "grant.grant_type", "write type: refresh_token"),
        (custom("password"), "grant.grant_type", "write type: password"),
        (custom(JWT_BEARER), "grant.grant_type", "write type: jwt_bearer"),
        (custom(""), "grant.grant_type", "must be visible US-ASCII"),
        (custom(" a"), "grant.grant_type", "must be visible US-ASCII"),
        (custom("a\tb"), "grant.grant_type", "must be visible US-ASCII"),
        ({"grant": {**BY_PASSWORD, "username": ""}}, "grant.username", "must not be empty"),
        ({"grant": {"type": "password", "username": "svc"}}, "grant.password", "this key is missing"),
        (
            {"grant": {**custom("x")["grant"], "password": {"env": "X"}}},
            "grant.password",
            "unknown key; known: type, grant_type",
        ),
        ({"grant": {"type": "client_credentials", "rotates": True}}, "grant.rotates", "unknown key; known: type"),
        (
            {**OWNER, "token_request": {"body": {"Password[]": "x"}}},
            "token_request.body.Password[]",
            "Sidekey sends it from username and password",
        ),
        (
            {"token_request": {"headers": {"authorization": "x"}}},
            "token_request.headers.authorization",
            "may not be set with client_authentication: header",
        ),
        ({"token_request": {"headers": {"Host": "x"}}}, "token_request.headers.Host", "may not be injected"),
        ({"token_request": {"headers": {"TE": "x"}}}, "token_request.headers.TE", "may not be injected"),
        (
            {"token_request": {"headers": {"Content_Type": "x"}}},
            "token_request.headers.Content_Type",
            "this header may not be set",
        ),
        ({"token_request": {"headers": {"X-A": "x", "x_a": "y"}}}, "token_request.headers", "are the same header"),
        (
            {"token_request": {"headers": {"X-A": {"env": "A", "prefix": "b"}}}},
            "token_request.headers.X-A",
            "secret is missing",
        ),
        ({"grant": "refresh_token"}, "grant.refresh_token", "this key is missing"),
        ({"refresh_token": {"env": "X"}}, "refresh_token", "write grant: {type: refresh_token, refresh_token: ...}"),
        ({"grant": "jwt_bearer"}, "grant.private_key", "this key is missing"),
        ({"assertion": KEY}, "assertion", "write these keys under grant"),
        ({**SIGNED, "client_authentication": "private_key_jwt"}, "client_authentication.private_key", "is missing"),
        ({**SIGNED, "client_secret": {"env": "SECRET"}}, "client_secret", "may not be used with private_key_jwt"),
        (
            {**SIGNED, "grant": {"type": "jwt_bearer", **KEY}},
            "client_authentication",
            "must not be private_key_jwt",
        ),
        (
            {**SIGNED, "client_authentication": {**BY_KEY, "subject": "x"}},
            "client_authentication.subject",
            "unknown key",
        ),
        (
            {**SIGNED, "client_authentication": {**BY_KEY, "algorithm": "HS256"}},
            "client_authentication.algorithm",
            "must be 'RS256', 'RS384'",
        ),
        (
            {"client_authentication": "body", "token_request": {"method": "GET"}},
            "token_request.method",
            "use another method or client_authentication",
        ),
        ({"token_endpoint": "https://auth.example.com/t?scope="}, "token_endpoint", "an empty scope"),
        ({"token_request": {"body": {"client_id[]": "x"}}}, "token_request.body.client_id[]", "may not be set"),
        (
            {"token_endpoint": "https://auth.example.com/t?Scope=x", "token_request": {"body": {"scope": "x"}}},
            "token_request.body.scope",
            "also in the query of token_endpoint",
        ),
        (
            {"token_endpoint": "https://auth.example.com/t?a=x", "token_request": {"query": {"a": "x"}}},
            "token_request.query.a",
            "also in the query of token_endpoint",
        ),
        (
            {"token_request": {"body": {"client_secret": "x"}}},
            "token_request.body.client_secret",
            "may not be set",
        ),
        (
            {"token_placement": {"in": "query", "scheme": "x"}},
            "token_placement.scheme",
            "may be used only with in: header",
        ),
        ({"scope": "x"}, "scope", "this is a parameter of the token request"),
    ],
)
def test_error_has_its_key(changes: dict[str, Any], place: str, message: str) -> None:
    """Two keys that contradict each other cause one error."""
    result = errors(**changes)
    assert list(result) == [place]
    assert all(message in text for text in result.values())


def test_all_errors_are_reported_at_once() -> None:
    result = errors(
        token_endpoint="http://a.example/t",
        client_id="",
        client_secret=None,
        client_authentication={"type": "header", "form_encoded": 5},
        assertion=KEY,
        token_response={"x": 1},
    )
    assert set(result) == {
        "token_endpoint",
        "client_id",
        "client_secret",
        "client_authentication.form_encoded",
        "assertion",
        "token_response.x",
    }


@pytest.mark.parametrize(
    ("environ", "place", "reason"),
    [
        ({"URL": "http://auth.example.com/t"}, "token_endpoint", "must be an https URL"),
        ({"URL": "https://auth.example.com/t?scope="}, "token_endpoint", "an empty scope"),
        ({"URL": "https://auth.example.com/t?account=1"}, "token_endpoint", "token_request contains"),
        ({"ID": "a:b"}, "client_id", "must not contain a colon"),
        ({"ID": ""}, "client_id", "must not be empty"),
    ],
)
def test_values_from_variables_follow_the_same_rules(environ: dict[str, str], place: str, reason: str) -> None:
    """A bad one makes the integration unusable."""
    auth = {**AUTH, "token_endpoint": {"env": "URL"}, "client_id": {"env": "ID"}}
    auth["client_authentication"] = {"type": "header", "form_encoded": False}
    auth["token_request"] = {"query": {"account": "2"}}
    with pytest.raises(SecretUnreadable, match=reason) as caught:
        credential_of(auth, {"URL": "https://auth.example.com/t", "ID": "a", **environ})
    assert [keys for keys, _ in caught.value.reasons] == [("auth", place)]


def test_token_endpoint_is_never_a_target() -> None:
    """Its origin is allowed, and is the default base of the reverse proxy."""
    settings = settings_of({**AUTH, "token_endpoint": "https://auth.example.com:8443/oauth2/token?p=q"})
    origin = Origin("https", "auth.example.com", 8443)
    values = {("token_endpoint",): "https://auth.example.com:8443/oauth2/token?p=q"}
    assert settings.destinations(values) == Destinations(
        domains=(Domain(origin),),
        forbidden=(Forbidden(origin, "/oauth2/token"),),
        base=Prefix(origin, ""),
    )
    assert settings.destinations({}) is None
    assert not settings.needs_prefix


def test_pinned_base_url_replaces_the_token_endpoints_host() -> None:
    """The path of the token endpoint is then forbidden on every host."""
    settings = settings_of({**AUTH, "token_response": {"base_url": "endpoint", "pin_base_url": True}})
    origin = Origin("https", "auth.example.com", 443)
    assert settings.destinations({("token_endpoint",): "https://auth.example.com/oauth2/token"}) == Destinations(
        domains=(Domain(origin),),
        forbidden=(Forbidden(None, "/oauth2/token"),),
        base=Prefix(origin, ""),
        placeholder_origin=origin,
    )


@pytest.mark.parametrize("scope", [{"body": {"scope": ""}}, {"query": {"Scope": " "}}, {}])
def test_empty_scope_is_never_sent(scope: dict[str, Any]) -> None:
    """Neither in the body nor in the query."""
    call = first_call(credential_of({**AUTH, "token_request": scope}))
    assert call.body == b"grant_type=client_credentials"
    assert call.url == AUTH["token_endpoint"]


def test_additional_parameters_may_be_secrets() -> None:
    """In body and query."""
    request = {"body": {"key": {"env": "SECRET"}}, "query": {"k": {"insecure_value": "q/"}}}
    call = first_call(credential_of({**AUTH, "token_request": request}))
    assert call.body == b"grant_type=client_credentials&key=s3cret%2F%2B+%26%3D%25%3A%7E".replace(b"%7E", b"~")
    assert call.url == f"{AUTH['token_endpoint']}?k=q%2F"


@pytest.mark.parametrize("place", ["body", "query"])
def test_id_and_secret_are_sent_once(place: str) -> None:
    """Without an additional Authorization."""
    call = first_call(credential_of({**AUTH, "client_authentication": place}))
    assert "Authorization" not in dict(call.headers)
    assert ("client_secret=" in call.url) is (place == "query")
    assert (b"client_secret=" in call.body) is (place == "body")


@pytest.mark.parametrize("grant", [{}, REFRESHING], ids=["client", "refresh"])
def test_client_with_a_certificate_sends_its_id(grant: dict[str, Any]) -> None:
    """RFC 8705 2: the connection's certificate is the only proof."""
    auth = {key: value for key, value in {**AUTH, **BY_CERTIFICATE, **grant}.items() if value is not None}
    call = first_call(credential_of(auth))
    assert "Authorization" not in dict(call.headers)
    assert call.body.endswith(b"&client_id=client-1")
    assert b"client_secret" not in call.body


def test_client_without_a_secret_sends_its_id_to_refresh() -> None:
    """RFC 6749 3.2.1."""
    auth = {**AUTH, **REFRESHING}
    del auth["client_secret"]
    call = first_call(credential_of(auth))
    assert "Authorization" not in dict(call.headers)
    assert call.body.endswith(b"&client_id=client-1")


@pytest.mark.parametrize(
    ("auth", "keys"),
    [
        ({"grant": "refresh_token"}, ["grant.refresh_token"]),
        ({"grant": {"type": "refresh_token"}}, ["grant.refresh_token"]),
        ({"grant": {"type": "refresh_token", "rotates": True}}, ["grant.refresh_token"]),
        ({"grant": {"type": "refresh_token", "rotates": False}}, []),
        ({"single_live_token": True}, ["single_live_token"]),
        ({"grant": "refresh_token", "single_live_token": True}, ["grant.refresh_token", "single_live_token"]),
        ({"single_live_token": False}, []),
        ({"single_live_token": "true"}, []),
        ({"grant": "jwt_bearer"}, []),
        ({}, []),
    ],
)
def test_single_process_values_are_warnings(auth: dict[str, object], keys: list[str]) -> None:
    """Without a store, a second process would revoke the tokens of the first."""
    result = list(OAuth2Settings.find_single_process({"auth": {"type": "oauth2", **auth}}))
    assert [".".join(place) for place, _ in result] == [f"auth.{key}" for key in keys]
    assert all(text.startswith("only one process may use this") and "run one replica" in text for _, text in result)


QUERY = (("auth", "token_placement"), "a token in the query appears in the logs of servers (RFC 6750 2.3)")
BODY = (("test",), "the test request has an empty body, into which no token can be put: the test fails")


@pytest.mark.parametrize(
    ("placement", "test", "warnings"),
    [
        ("query", None, [QUERY]),
        ({"in": "query", "name": "key"}, {}, [QUERY]),
        ("body", {"path": "/whoami"}, [BODY]),
        ({"in": "body"}, {"path": "/whoami"}, [BODY]),
        ("body", None, []),
        ("header", {}, []),
        ({"in": "header", "name": "X-Query"}, {}, []),
        (None, {}, []),
        (["query"], {}, []),
    ],
)
def test_placement_with_disadvantages_is_a_warning(placement: object, test: object, warnings: list[object]) -> None:
    """Servers log queries, and a token in the body needs a body."""
    raw = {"auth": {"type": "oauth2", "token_placement": placement}, "test": test}
    assert list(OAuth2Settings.find_warnings(raw)) == warnings


@pytest.mark.parametrize(
    ("raw", "places"),
    [
        ({"auth": {"client_authentication": "tls_client_auth"}}, [("auth", "client_authentication")]),
        ({"auth": {"client_authentication": {"type": "tls_client_auth"}}}, [("auth", "client_authentication")]),
        ({"auth": {"client_authentication": "tls_client_auth"}, "client_certificate": {}}, []),
        ({"auth": {"client_authentication": "header", "client_secret": {}}}, []),
    ],
)
def test_tls_client_auth_needs_a_client_certificate(raw: dict[str, dict[str, object]], places: list[object]) -> None:
    identified = {**raw, "auth": {"client_id": "id", **raw["auth"]}}
    assert [place for place, _ in OAuth2Settings.find_errors(identified)] == places


EXCHANGE = {"type": "token_exchange", "subject_token": {"file": "token"}}
CLIENT_ID = ("auth", "client_id")


@pytest.mark.parametrize(
    ("auth", "places"),
    [
        ({"grant": EXCHANGE}, []),
        ({"grant": EXCHANGE, "client_id": "id"}, []),
        ({"grant": EXCHANGE, "client_secret": {}}, [CLIENT_ID]),
        ({"grant": EXCHANGE, "client_authentication": "body"}, [CLIENT_ID]),
        ({"grant": EXCHANGE, "client_authentication": {"type": "assertion"}}, [CLIENT_ID]),
        ({"grant": "client_credentials", "client_secret": {}}, [CLIENT_ID]),
        ({"grant": {"type": "jwt_bearer"}}, [CLIENT_ID]),
    ],
)
def test_only_a_token_may_replace_the_client_id(auth: dict[str, object], places: list[object]) -> None:
    assert [place for place, _ in OAuth2Settings.find_errors({"auth": auth})] == places


def test_token_request_parameter_under_auth_gets_a_hint() -> None:
    assert OAuth2Settings.hint("scope").endswith("write token_request: {body: {scope: ...}}")
    assert OAuth2Settings.hint("colour") == ""


@pytest.mark.parametrize(
    ("response", "learns"), [({"base_url": "url"}, True), ({}, False), ({"base_url": None}, False), (None, False)]
)
def test_base_url_is_discovered_if_a_field_is_named(response: object, learns: bool) -> None:
    """Known before the block is valid."""
    assert OAuth2Settings.discovers_base_url({"token_response": response}) is learns


def test_safe_keys_do_not_change_the_destination() -> None:
    """Client authentication, token request and placement count: they could put a secret into a URL."""
    assert harmless(OAuth2Settings) == {
        "provider",
        "client_id",
        "token_lifetime",
        "renewal_interval",
        "single_live_token",
    }
    document = copied(OAUTH2)
    document["auth"]["token_placement"] = "query"
    assert destination(document)["auth"]["token_placement"] == ["query", "access_token", ""]  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("auth", "rotates", "needs_lease"),
    [
        ({}, False, False),
        ({"single_live_token": True}, False, True),
        (REFRESHING, True, True),
        ({"grant": {**REFRESHING["grant"], "rotates": False}}, False, False),
    ],
)
def test_rotating_refresh_token_is_used_one_at_a_time(
    auth: dict[str, object], rotates: bool, needs_lease: bool
) -> None:
    """A single live token too."""
    base = {"type": "oauth2", "token_endpoint": "https://a.example.com/t", "client_id": "c"}
    traits = settings_of({**base, "client_secret": {"env": "SECRET"}, **auth}).traits()
    assert (traits.rotates, traits.needs_lease) == (rotates, needs_lease)


@pytest.mark.parametrize("secret", [True, False])
def test_custom_grant_is_sent_with_its_name(secret: bool) -> None:
    """RFC 6749 4.5. A client without a secret sends its ID (3.2.1)."""
    further = {"token_request": {"body": {"account_id": "abc"}}}
    auth = {**AUTH, **custom("account_credentials"), **further}
    call = first_call(credential_of(auth if secret else {k: v for k, v in auth.items() if k != "client_secret"}))
    named = b"" if secret else b"&client_id=client-1"
    assert call.body == b"grant_type=account_credentials" + named + b"&account_id=abc"
    assert ("Authorization" in dict(call.headers)) is secret


def test_refresh_token_of_a_repeatable_grant_is_ignored() -> None:
    """The same request returns the next token (RFC 6749 4.4.3)."""
    response = reply({"access_token": "tok-1", "refresh_token": "r-1", "expires_in": 60})
    for more in ({}, custom("openapi_2lo"), OWNER):
        issued, _ = issue(credential_of({**AUTH, **more}, {"PASSWORD": "x"}), response)
        assert issued.memory is None
        assert not settings_of({**AUTH, **more}).traits().rotates


@pytest.mark.parametrize("client", [b"", b"&client_id=client-1"])
def test_password_grant_works_with_and_without_a_client_secret(client: bytes) -> None:
    """RFC 6749 4.3.2, with characters that forms encode."""
    auth = {key: value for key, value in {**AUTH, **OWNER}.items() if key != "client_secret" or not client}
    call = first_call(credential_of(auth, {"PASSWORD": "pa ss&=\u00e9"}))
    assert call.body == b"grant_type=password&username=svc&password=pa+ss%26%3D%C3%A9" + client


def test_additional_headers_are_sent_with_the_token_request() -> None:
    """A configured Accept replaces the default."""
    headers = {"X-Tenant": "acme", "apiKey": {"prefix": "k ", "secret": {"env": "KEY"}}, "accept": "text/json"}
    call = first_call(credential_of({**AUTH, "token_request": {"headers": headers}}, {"KEY": "hunter2"}))
    assert call.headers[1:] == (
        ("X-Tenant", "acme"),
        ("apiKey", "k hunter2"),
        ("accept", "text/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    )
    assert call.headers[0][0] == "Authorization"


def test_authorization_header_is_allowed_with_other_client_authentication() -> None:
    """Some platforms require a fixed one for their own grant."""
    key = {"Authorization": {"prefix": "Basic ", "secret": {"env": "KEY"}}}
    own = {**custom("own"), "client_secret": None}
    for more in ({"client_authentication": "body"}, own):
        auth = {**AUTH, **more, "token_request": {"headers": key}}
        auth = {name: value for name, value in auth.items() if value is not None}
        call = first_call(credential_of(auth, {"KEY": "YQ=="}))
        assert [value for name, value in call.headers if name == "Authorization"] == ["Basic YQ=="]


def test_unusable_header_is_named_when_it_is_read() -> None:
    headers = {"X-A": {"secret": {"env": "KEY"}}}
    with pytest.raises(SecretUnreadable, match="must not begin or end with a space") as caught:
        credential_of({**AUTH, "token_request": {"headers": headers}}, {"KEY": " x"})
    assert caught.value.reasons[0][0] == ("auth", "token_request", "headers", "X-A", "secret")


BY_SECRET: dict[str, Any] = {"client_authentication": "client_secret_jwt", "client_secret": {"env": "LONG"}}


def by_secret(**more: object) -> dict[str, Any]:
    """Build a client that signs with its secret."""
    return {**BY_SECRET, "client_authentication": {"type": "client_secret_jwt", **more}} if more else BY_SECRET


LONG = "a secret of 64 characters, which signs by any of the algorithms!"


@pytest.mark.parametrize("algorithm", [None, "HS256", "HS384", "HS512"])
def test_secret_signs_the_client_assertion(algorithm: str | None) -> None:
    """RFC 7523 2.2: the secret itself is not sent."""
    more = {} if algorithm is None else {"algorithm": algorithm, "key_id": "k", "claims": {"a": 1}}
    credential = credential_of({**AUTH, **by_secret(**more)}, {"LONG": LONG})
    call = first_call(credential)
    fields = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
    assert LONG not in str(fields) + str(call.headers)
    used = algorithm or "HS256"
    result = jwt.decode(
        fields["client_assertion"],
        LONG,
        algorithms=[used],
        audience=AUTH["token_endpoint"],
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (result["iss"], result["sub"]) == (AUTH["client_id"], AUTH["client_id"])
    assert result.get("a") == (None if algorithm is None else 1)
    assert jwt.get_unverified_header(fields["client_assertion"]).get("kid") == (None if algorithm is None else "k")


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"client_secret": None}, "client_secret", "this key is missing"),
        ({"client_secret": None, **REFRESHING}, "client_secret", "this key is missing"),
        ({"grant": {"type": "jwt_bearer", **KEY}}, "client_authentication", "must not be client_secret_jwt"),
        (by_secret(algorithm="ES256"), "client_authentication.algorithm", "must be 'HS256', 'HS384' or 'HS512'"),
        (by_secret(**KEY), "client_authentication.private_key", "unknown key"),
        (by_secret(issuer="x"), "client_authentication.issuer", "unknown key"),
    ],
)
def test_client_secret_jwt_has_its_own_rules(changes: dict[str, Any], place: str, message: str) -> None:
    result = errors(**{**BY_SECRET, **changes})
    assert list(result) == [place]
    assert message in result[place]


def test_short_signing_secret_is_unusable() -> None:
    """An assertion would let its reader guess the secret."""
    with pytest.raises(SecretUnreadable) as caught:
        credential_of({**AUTH, **by_secret(algorithm="HS512")}, {"LONG": LONG[:63]})
    ((place, reason),) = caught.value.reasons
    assert place == ("auth", "client_secret")
    assert reason.startswith("must have at least 64 bytes for HS512")


PRIVATE_KEY_JWT = {"type": "private_key_jwt", "private_key": {"env": "KEY"}}


def section_errors(model: type[BaseModel], raw: object) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(raw, context=Context("file"))
    return {error["loc"]: str(error["msg"]) for error in caught.value.errors()}


def test_get_allows_neither_body_nor_format() -> None:
    """Each error has its key."""
    result = section_errors(TokenRequestSettings, {"method": "GET", "format": "json", "body": {"a": "b"}})
    assert set(result) == {("body",), ("format",)}
    assert (
        TokenRequestSettings.model_validate({"method": "GET", "query": {"a": "b"}}, context=Context("file")).method
        == "GET"
    )
    assert (
        TokenRequestSettings.model_validate({"method": "GET", "format": "form"}, context=Context("file")).format
        == "form"
    )


def test_reserved_parameter_is_an_error_at_its_key() -> None:
    """In the body and in the query."""
    result = section_errors(TokenRequestSettings, {"body": {"Client_ID": "x"}, "query": {"assertion": "x"}})
    assert set(result) == {("body", "Client_ID", "[key]"), ("query", "assertion", "[key]")}


def test_parameter_in_body_and_query_is_an_error() -> None:
    """In any spelling. The error is at the query's."""
    result = section_errors(
        TokenRequestSettings, {"body": {"scope": "x", "a": "b"}, "query": {"Scope": "x", "a": 1, "b": "c"}}
    )
    assert result == dict.fromkeys(
        [("query", "Scope"), ("query", "a")], "Value error, this parameter is also in the body: remove one"
    )


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", ".a"])
def test_path_cannot_have_an_empty_name(path: str) -> None:
    assert set(section_errors(TokenResponseSettings, {"base_url": path})) == {("base_url",)}


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"])
def test_reserved_claim_is_an_error_at_its_key(claim: str) -> None:
    result = section_errors(PrivateKeyJwtSettings, {**PRIVATE_KEY_JWT, "claims": {claim: "x", "scope": "x"}})
    assert set(result) == {("claims", claim, "[key]")}


def test_error_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    (message,) = section_errors(PrivateKeyJwtSettings, PRIVATE_KEY_JWT).values()
    assert message.endswith("signed assertions need joserfc: install from the checkout with the extra jwt")


@pytest.mark.parametrize("algorithm", ["none", "rs256", "Ed448", "HS1"])
def test_algorithm_none_is_an_error(algorithm: str) -> None:
    assert set(section_errors(PrivateKeyJwtSettings, {**PRIVATE_KEY_JWT, "algorithm": algorithm})) == {("algorithm",)}


def test_only_key_id_certificate_and_lifetime_are_safe_to_change() -> None:
    """The certificate is tied to the key."""
    for model in (PrivateKeyJwtSettings, JwtBearerSettings):
        assert harmless(model) == {"key_id", "certificate"}
    assert harmless(ClientSecretJwtSettings) == {"key_id"}
    assert harmless(HeaderSettings) == {"form_encoded"}
    assert harmless(RefreshTokenSettings) == {"rotates"}
    assert harmless(TokenResponseSettings) == {"expires_in"}
    assert harmless(TokenRequestSettings) == set()


@pytest.mark.parametrize(
    "auth",
    [{"grant": EXCHANGE}, {"client_id": "id", "client_authentication": {"type": "assertion"}}],
)
def test_token_of_a_file_is_sent_over_tls_only(auth: dict[str, object]) -> None:
    """Any user of the machine may open a loopback port first."""
    raw = {"auth": {"token_endpoint": "http://127.0.0.1:8080/token", **auth}}
    assert [place for place, _ in OAuth2Settings.find_errors(raw)] == [("auth", "token_endpoint")]
