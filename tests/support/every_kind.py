"""An integration of each kind, and with each kind of secret, for a whole process with an upstream."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from support.api import basic
from support.client_files import ClientAuthority
from support.oauth import signer

PASSPHRASE: Final = "canary-passphrase"
USER: Final = "canary-of-a-user-name"


def documents_of_every_kind(port: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Build a document of each kind, and with each kind of secret. Each has a canary or a private key."""
    base = f"http://127.0.0.1:{port}/v1"
    prefix = {"endpoint_prefix": base}

    def basic_of(password: str) -> dict[str, Any]:
        documents = basic(port, password)
        documents["auth"]["username"] = {"value": USER}
        return documents

    authority = ClientAuthority(folder)
    plain, combined = authority.issue("client.example"), authority.issue("joined.example")
    signing = authority.issue("signing.example").key_pem.decode()
    pair = {
        "certificate": {"inline": plain.pem.decode()},
        "private_key": {"value": plain.key_pem.decode()},
        "allow_private_ca": True,
    }
    pem = {
        "pem": {"value": (combined.pem + combined.key_as(passphrase=PASSPHRASE)).decode()},
        "key_passphrase": {"value": PASSPHRASE},
        "allow_private_ca": True,
    }
    urls = {key: {"url": f"https://127.0.0.1:{port}/canary-url-{key}"} for key in ("certificate", "private_key")}
    oauth2 = {"type": "oauth2", "token_endpoint": f"https://127.0.0.1:{port}/token", "client_id": "id"}
    key = {"prefix": "Key ", "secret": {"value": "canary-of-a-call"}}
    body = {"token_request": {"body": {"key": {"value": "canary-of-a-body"}}, "headers": {"X-Key": key}}}
    assertion = {"private_key": {"value": signing}}
    login = {
        "type": "responsys",
        "login_endpoint": f"https://127.0.0.1:{port}",
        "username": {"value": "canary-api-user"},
    }
    header = {"Authorization": {"prefix": "Bearer ", "secret": {"value": "canary-of-a-header"}}}
    new, old = {"value": "canary-of-a-signature"}, {"value": "canary-of-an-old-signature"}
    aside = {"value": "canary-of-a-signature-beside"}
    message = {"type": "signature", "scheme": "rfc9421", "algorithm": "rsa-pss-sha512"}
    refresh = {"grant": {"type": "refresh_token", "refresh_token": {"value": "canary-to-refresh"}}}
    claims = {"iss": "svc", "deep": [{"key": {"value": "canary-of-a-claim"}}]}
    secret = {"secret": {"value": "canary-of-a-signature-of-32-bytes"}, "claims": claims}
    session = {
        "type": "session",
        "login": {
            "url": f"https://127.0.0.1:{port}/login",
            "headers": {"X-Key": {"secret": {"value": "canary-of-a-login"}}},
            "query": {"key": {"value": "canary-of-its-query"}},
            "body": {"user": {"name": "svc", "key": {"value": "canary-of-its-body"}}},
            "auth": {
                "type": "basic",
                "username": {"value": "canary-who-logs-in"},
                "password": {"value": "canary-of-its-user"},
            },
        },
        "token": {"from": "t"},
    }

    def logging_in(**signed: Any) -> dict[str, Any]:
        login = {"url": f"https://127.0.0.1:{port}/login", "auth": {"type": "jwt", "claims": {"iss": "svc"}, **signed}}
        return {"auth": {"type": "session", "login": login, "token": {"from": "t"}}}

    user = {"username": {"value": "canary-user-name"}, "password": {"value": "canary-of-a-user"}}
    owner = {"grant": {"type": "password", **user}}
    aws = {"type": "aws_sigv4", "region": "eu-west-1", "service": "s3", "access_key_id": "AKIAEXAMPLE"}
    keys = {"secret_access_key": {"value": "canary-of-aws"}, "session_token": {"value": "canary-of-a-session"}}
    added = {
        "headers": {"X-Key": {"prefix": "Key ", "secret": {"value": "canary-added-as-a-header"}}},
        "query": {"key": {"secret": {"value": "canary-added-to-the-query"}}},
    }
    field = {"body": {"key": {"secret": {"value": "canary-added-to-a-body"}}}}
    return {
        "aws": {**prefix, "auth": {**aws, **keys}},
        "basic": basic_of("canary-of-basic"),
        "headers": {**prefix, "auth": {"type": "headers", "headers": header}},
        "mtls": {**prefix, "auth": {"type": "mtls", **pair}},
        "pem": {**prefix, "auth": {"type": "mtls", **pem}},
        "urls": {**prefix, "auth": {"type": "mtls", **urls}},
        "oauth2": {"auth": {**oauth2, "client_secret": {"value": "canary-of-oauth2"}, **body}},
        "refresh": {"auth": {**oauth2, "client_secret": {"value": "canary-of-a-client"}, **refresh}},
        "password": {"auth": {**oauth2, **owner}},
        "assertion": {"auth": {**oauth2, "grant": {"type": "jwt_bearer", **assertion, "algorithm": "ES256"}}},
        "jwt": {**prefix, "auth": {"type": "jwt", "algorithm": "HS256", **secret}},
        "signed": {**prefix, "auth": {"type": "jwt", "algorithm": "ES256", **assertion}},
        "by_secret": {
            "auth": {
                **oauth2,
                "client_authentication": "client_secret_jwt",
                "client_secret": {"value": "canary-of-a-client-that-signs-by-it"},
            }
        },
        "responsys": {"auth": {**login, "password": {"value": "canary-of-responsys"}}},
        "session": {"auth": session},
        "signature": {**prefix, "auth": {"type": "signature", "scheme": "stripe", "secret": [new, old]}},
        "message": {**prefix, "auth": {**message, "key": {"value": signer().private_pem.decode()}}},
        "signed_beside": {**basic_of("canary-that-is-signed"), "signature": {"scheme": "github", "secret": aside}},
        "beside": {**basic_of("canary-beside-it"), "client_certificate": pair},
        "pem_beside": {**basic_of("canary-beside-a-pem"), "client_certificate": pem},
        "by_key": {
            "auth": {**oauth2, "client_authentication": {"type": "private_key_jwt", **assertion, "algorithm": "ES256"}}
        },
        "login_secret": logging_in(algorithm="HS256", secret={"value": "canary-of-a-login-that-is-signed-by-it"}),
        "login_key": logging_in(algorithm="ES256", **assertion),
        "query": {**prefix, "auth": {"type": "headers", "query": {"key": {"secret": {"value": "canary-of-a-query"}}}}},
        "added": {**basic_of("canary-below-it"), "add": added},
        "field": {**basic_of("canary-beside-a-field"), "add": field},
    }
