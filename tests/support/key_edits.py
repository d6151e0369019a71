"""An edit of each key of a stored integration: keys that decide about a secret's destination, and others."""

from __future__ import annotations

from typing import Any

from support.certificates import private_chain
from support.oauth import signer
from support.stored import (
    ADDED,
    AWS_SIGV4,
    BASIC,
    CANARY,
    HEADERS,
    JWT,
    OAUTH2,
    PREFIX,
    RESPONSYS,
    SESSION,
    SIGNATURE,
    jwt_bearer,
    message,
)
from support.transfer import every_kind, lasting_chain

BY_KEY: dict[str, Any] = {
    "auth": {
        **{key: value for key, value in OAUTH2["auth"].items() if key != "client_secret"},
        "client_authentication": {
            "type": "private_key_jwt",
            "private_key": {"value": signer().private_pem.decode()},
        },
    }
}
"""A client that a private key authenticates."""


def login(auth: dict[str, Any]) -> dict[str, Any]:
    """Build a session with this client authentication at the login."""
    return {"auth": {**SESSION["auth"], "login": {**SESSION["auth"]["login"], "auth": auth}}}


def of_login(edit: dict[str, Any]) -> dict[str, Any]:
    """Build an edit of the authentication of a login."""
    return {"auth": {"login": {"auth": edit}}}


LOGIN_HEADERS = login({"type": "headers", "headers": {"X-Tenant": "acme", "X-Key": {"secret": {"value": CANARY}}}})
LOGIN_JWT = login({"type": "jwt", "algorithm": "HS256", "secret": {"value": "ab" * 48}, "claims": {"iss": "team"}})
REFRESHING: dict[str, Any] = {
    "auth": {**OAUTH2["auth"], "grant": {"type": "refresh_token", "refresh_token": {"value": CANARY}}}
}
CUSTOM: dict[str, Any] = {
    **PREFIX,
    "auth": {
        "type": "signature",
        "scheme": "custom",
        "secret": {"value": "ab" * 32},
        "signed": "{timestamp}.{body}",
        "headers": {"X-Signature": "t={timestamp},{signatures}"},
    },
}
MESSAGE = message()
_KINDS = every_kind(lasting_chain())
MTLS, BESIDE = _KINDS["mtls"], _KINDS["beside"]
_URLS = {key: {"url": f"https://vault.example.com/{key}"} for key in ("certificate", "private_key")}
MTLS_OF_URLS: dict[str, Any] = {**PREFIX, "auth": {"type": "mtls", **_URLS}}
BESIDE_OF_URLS: dict[str, Any] = {**BASIC, "client_certificate": _URLS}

_CA = {"inline": private_chain("one.example").root.pem.decode()}
EDITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "endpoint_prefix": (BASIC, {"endpoint_prefix": "https://evil.example.com/v1"}),
    "allow_other_domains": (BASIC, {"allow_other_domains": True, "allowed_domains": ["https://*.example.com"]}),
    "allowed_domains": (
        {**BASIC, "allow_other_domains": True, "allowed_domains": ["https://api.example.com"]},
        {"allowed_domains": ["https://api.example.com", "https://evil.example.com"]},
    ),
    "trusted_ca": (BASIC, {"trusted_ca": _CA}),
    "source_address": (BASIC, {"source_address": "127.0.0.1"}),
    "redact_response": ({**BASIC, "redact_response": True}, {"redact_response": False}),
    "add.headers": (ADDED, {"add": {"headers": {"X-Tenant": "other"}}}),
    "add.query": (ADDED, {"add": {"query": {"more": {"secret": {"value": "x"}}}}}),
    "add.body": (ADDED, {"add": {"body": {"mode": False}}}),
    "aws_sigv4.type": (AWS_SIGV4, {"auth": {"type": "basic"}}),
    "aws_sigv4.region": (AWS_SIGV4, {"auth": {"region": "eu-west-2"}}),
    "aws_sigv4.service": (AWS_SIGV4, {"auth": {"service": "sts"}}),
    "basic.type": (BASIC, {"auth": {"type": "responsys", "login_endpoint": "https://login2.responsys.net"}}),
    "headers.type": (HEADERS, {"auth": {"type": "mtls"}}),
    "headers.headers": (HEADERS, {"auth": {"headers": {"X-Rewrite-URL": "/admin"}}}),
    "jwt.type": (JWT, {"auth": {"type": "headers"}}),
    "jwt.algorithm": (
        {**JWT, "auth": {**JWT["auth"], "secret": {"value": "ab" * 32}}},
        {"auth": {"algorithm": "HS384"}},
    ),
    "jwt.secret_encoding": (
        {**JWT, "auth": {**JWT["auth"], "secret": {"value": "ab" * 32}}},
        {"auth": {"secret_encoding": "hex"}},
    ),
    "jwt.claims": (JWT, {"auth": {"claims": {"user": {"name": "root"}}}}),
    "jwt.token_placement": (JWT, {"auth": {"token_placement": {"in": "header", "prefix": "Token token="}}}),
    "mtls.type": (MTLS, {"auth": {"type": "headers"}}),
    "oauth2.type": (OAUTH2, {"auth": {"type": "basic"}}),
    "oauth2.token_endpoint": (OAUTH2, {"auth": {"token_endpoint": "https://evil.example.com/token"}}),
    "oauth2.grant": (
        OAUTH2,
        {"auth": {"grant": {"type": "refresh_token", "refresh_token": {"value": "x"}}}},
    ),
    "oauth2.grant.grant_type": (
        {"auth": {**OAUTH2["auth"], "grant": {"type": "custom", "grant_type": "own"}}},
        {"auth": {"grant": {"grant_type": "openapi_2lo"}}},
    ),
    "oauth2.token_request.headers": (OAUTH2, {"auth": {"token_request": {"headers": {"X-Redirect": "evil"}}}}),
    "oauth2.client_authentication": (OAUTH2, {"auth": {"client_authentication": "query"}}),
    "oauth2.token_placement": (OAUTH2, {"auth": {"token_placement": "query"}}),
    "oauth2.grant.algorithm": (jwt_bearer(), {"auth": {"grant": {"algorithm": "PS512"}}}),
    "oauth2.grant.audience": (jwt_bearer(), {"auth": {"grant": {"audience": "https://evil.example.com"}}}),
    "oauth2.grant.issuer": (jwt_bearer(), {"auth": {"grant": {"issuer": "other"}}}),
    "oauth2.grant.subject": (jwt_bearer(), {"auth": {"grant": {"subject": "root@example.com"}}}),
    "oauth2.grant.claims": (jwt_bearer(), {"auth": {"grant": {"claims": {"scope": "everything"}}}}),
    "oauth2.client_authentication.algorithm": (BY_KEY, {"auth": {"client_authentication": {"algorithm": "PS512"}}}),
    "oauth2.client_authentication.audience": (
        BY_KEY,
        {"auth": {"client_authentication": {"audience": "https://evil.example.com"}}},
    ),
    "oauth2.client_authentication.claims": (
        BY_KEY,
        {"auth": {"client_authentication": {"claims": {"scope": "everything"}}}},
    ),
    "oauth2.token_request.method": (
        {"auth": {**OAUTH2["auth"], "token_request": {"query": {"key": {"value": "x"}}}}},
        {"auth": {"token_request": {"method": "GET"}}},
    ),
    "oauth2.token_request.format": (OAUTH2, {"auth": {"token_request": {"format": "json"}}}),
    "oauth2.token_request.body": (OAUTH2, {"auth": {"token_request": {"body": {"scope": "everything"}}}}),
    "oauth2.token_request.query": (
        OAUTH2,
        {"auth": {"token_request": {"query": {"redirect": "https://evil.example.com"}}}},
    ),
    "oauth2.token_response.access_token": (OAUTH2, {"auth": {"token_response": {"access_token": "refresh_token"}}}),
    "oauth2.token_response.base_url": (OAUTH2, {"auth": {"token_response": {"base_url": "url"}}}),
    "oauth2.token_response.pin_base_url": (
        {"auth": {**OAUTH2["auth"], "token_response": {"base_url": "url", "pin_base_url": True}}},
        {"auth": {"token_response": {"pin_base_url": False}}},
    ),
    "signature.type": (SIGNATURE, {"auth": {"type": "headers"}}),
    "responsys.type": (RESPONSYS, {"endpoint_prefix": "https://login2.responsys.net", "auth": {"type": "basic"}}),
    "responsys.login_endpoint": (RESPONSYS, {"auth": {"login_endpoint": "https://login5.responsys.net"}}),
    "session.type": (SESSION, {"endpoint_prefix": "https://ws.example.com", "auth": {"type": "mtls"}}),
    "session.login.url": (SESSION, {"auth": {"login": {"url": "https://evil.example.com/login"}}}),
    "session.login.method": (SESSION, {"auth": {"login": {"method": "PUT"}}}),
    "session.login.format": (
        {"auth": {**SESSION["auth"], "login": {**SESSION["auth"]["login"], "body": {"key": {"value": "x"}}}}},
        {"auth": {"login": {"format": "form"}}},
    ),
    "session.login.headers": (SESSION, {"auth": {"login": {"headers": {"X-Redirect": "evil"}}}}),
    "session.login.query": (SESSION, {"auth": {"login": {"query": {"redirect": "evil"}}}}),
    "session.login.body": (SESSION, {"auth": {"login": {"body": {"redirect": "evil"}}}}),
    "session.login.auth.headers": (LOGIN_HEADERS, of_login({"headers": {"X-To": "evil"}})),
    "session.login.auth.algorithm": (LOGIN_JWT, of_login({"algorithm": "HS384"})),
    "session.login.auth.secret_encoding": (LOGIN_JWT, of_login({"secret_encoding": "hex"})),
    "session.login.auth.claims": (LOGIN_JWT, of_login({"claims": {"iss": "root"}})),
    "session.login.auth.token_placement": (LOGIN_JWT, of_login({"token_placement": {"in": "header", "name": "X-T"}})),
    "session.login.auth": (SESSION, {"auth": {"login": {"auth": {"type": "headers", "headers": {"X-To": "evil"}}}}}),
    "session.token.from": (SESSION, {"auth": {"token": {"from": "user.password"}}}),
    "session.placement": (SESSION, {"auth": {"placement": "query"}}),
    "responsys.path_prefix": (RESPONSYS, {"auth": {"path_prefix": "/rest/api/v1.3/lists"}}),
}
"""For each key that decides where a secret may go: a document, and a patch of that key alone."""


def of_auth(document: dict[str, Any], **edit: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build an edit of a kind's keys."""
    return document, {"auth": edit}


HARMLESS_EDITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "title": (BASIC, {"title": "Ours"}),
    "description": (BASIC, {"description": "ours"}),
    "tags": (BASIC, {"tags": ["crm"]}),
    "methods": (BASIC, {"methods": ["GET", "PUT"]}),
    "upgrade": (BASIC, {"upgrade": ["websocket"]}),
    "limits.in_flight": (BASIC, {"limits": {"in_flight": 7}}),
    "test.method": ({**BASIC, "test": {"path": "/x"}}, {"test": {"method": "HEAD"}}),
    "test.path": (BASIC, {"test": {"path": "/x"}}),
    "client_certificate.allow_private_ca": (BESIDE_OF_URLS, {"client_certificate": {"allow_private_ca": True}}),
    "client_certificate.refresh": (BESIDE_OF_URLS, {"client_certificate": {"refresh": "2h"}}),
    "aws_sigv4.access_key_id": of_auth(AWS_SIGV4, access_key_id="AKIAOTHER"),
    "aws_sigv4.payload": of_auth(
        {**PREFIX, "auth": {**AWS_SIGV4["auth"], "service": "s3"}},
        payload="unsigned",
    ),
    "headers.query": of_auth(HEADERS, query={"tenant": "acme"}),
    "headers.body": of_auth(HEADERS, body={"tenant": "acme", "live": True}),
    "jwt.jti": of_auth(JWT, jti=True),
    "jwt.key_id": of_auth(JWT, key_id="ours"),
    "jwt.lifetime": of_auth(JWT, lifetime="20m"),
    "jwt.renewal_interval": of_auth(JWT, renewal_interval="1m"),
    "mtls.allow_private_ca": of_auth(MTLS_OF_URLS, allow_private_ca=True),
    "mtls.refresh": of_auth(MTLS_OF_URLS, refresh="2h"),
    "oauth2.client_authentication.form_encoded": of_auth(
        OAUTH2, client_authentication={"type": "header", "form_encoded": False}
    ),
    "oauth2.client_authentication.key_id": of_auth(BY_KEY, client_authentication={"key_id": "ours"}),
    "oauth2.client_id": of_auth(OAUTH2, client_id="other"),
    "oauth2.grant.key_id": of_auth(jwt_bearer(), grant={"key_id": "ours"}),
    "oauth2.grant.rotates": of_auth(REFRESHING, grant={"rotates": False}),
    "oauth2.renewal_interval": of_auth(OAUTH2, renewal_interval="1m"),
    "oauth2.single_live_token": of_auth(OAUTH2, single_live_token=True),
    "oauth2.token_lifetime": of_auth(OAUTH2, token_lifetime="10s"),
    "oauth2.token_response.expires_in": of_auth(OAUTH2, token_response={"expires_in": "life"}),
    "responsys.renewal_interval": of_auth(RESPONSYS, renewal_interval="1m"),
    "responsys.single_live_token": of_auth(RESPONSYS, single_live_token=True),
    "session.logins_a_minute": of_auth(SESSION, logins_a_minute=5),
    "session.rejected": of_auth(SESSION, rejected=[401, 403]),
    "session.renewal_interval": of_auth(SESSION, renewal_interval="1m"),
    "session.single_live_token": of_auth(SESSION, single_live_token=True),
    "session.token.expires_at": of_auth(SESSION, token={"expires_at": "end"}),
    "session.token.expires_in": of_auth(SESSION, token={"expires_in": "life"}),
    "session.token.lifetime": of_auth(SESSION, token={"lifetime": "2h"}),
    "session.login.auth.jti": (LOGIN_JWT, of_login({"jti": True})),
    "session.login.auth.key_id": (LOGIN_JWT, of_login({"key_id": "ours"})),
    "session.login.auth.lifetime": (LOGIN_JWT, of_login({"lifetime": "20m"})),
    "signature.algorithm": of_auth(CUSTOM, algorithm="hmac-sha512"),
    "signature.components": of_auth(MESSAGE, components=["@method", "@path"]),
    "signature.each": of_auth(CUSTOM, each="v1={signature}"),
    "signature.encoding": of_auth(CUSTOM, encoding="base64"),
    "signature.expires": of_auth(MESSAGE, expires="60s"),
    "signature.headers": of_auth(CUSTOM, headers={"X-Signature": "{signatures};t={timestamp}"}),
    "signature.join": of_auth(CUSTOM, join=";"),
    "signature.key_id": of_auth(MESSAGE, key_id="other"),
    "signature.label": of_auth(MESSAGE, label="mine"),
    "signature.nonce": of_auth(MESSAGE, nonce=True),
    "signature.scheme": of_auth(SIGNATURE, scheme="convoy"),
    "signature.secret_encoding": of_auth(CUSTOM, secret_encoding="hex"),
    "signature.signed": of_auth(CUSTOM, signed="{timestamp}:{body}"),
    "signature.tag": of_auth(MESSAGE, tag="ours"),
}
"""For each key that moves no secret: a document, and a patch of that key alone."""
