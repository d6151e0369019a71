"""An edit of every key that decides where a stored secret may go."""

from __future__ import annotations

from typing import Any

from support.certificates import private_chain
from support.oauth import signer
from support.stored import (
    ADDED,
    AWS_SIGV4,
    BASIC,
    HEADERS,
    JWT,
    OAUTH2,
    RESPONSYS,
    SESSION,
    SIGNATURE,
    jwt_bearer,
    mtls,
)

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
    "jwt.algorithm": (JWT, {"auth": {"algorithm": "HS384"}}),
    "jwt.secret_encoding": (
        {**JWT, "auth": {**JWT["auth"], "secret": {"value": "ab" * 32}}},
        {"auth": {"secret_encoding": "hex"}},
    ),
    "jwt.claims": (JWT, {"auth": {"claims": {"user": {"name": "root"}}}}),
    "jwt.token_placement": (JWT, {"auth": {"token_placement": {"in": "header", "prefix": "Token token="}}}),
    "mtls.type": (mtls(), {"auth": {"type": "headers"}}),
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
    "session.login.auth": (SESSION, {"auth": {"login": {"auth": {"type": "headers", "headers": {"X-To": "evil"}}}}}),
    "session.token.from": (SESSION, {"auth": {"token": {"from": "user.password"}}}),
    "session.placement": (SESSION, {"auth": {"placement": "query"}}),
    "responsys.path_prefix": (RESPONSYS, {"auth": {"path_prefix": "/rest/api/v1.3/lists"}}),
}
"""For each key that decides where a secret may go: a document, and a patch of that key alone."""
