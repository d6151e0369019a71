"""Stored integrations for tests: documents of every kind, a vault, and rows as the store holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from sidekey.credentials.destination import Json, keys_of
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.stored.document import Saved
from sidekey.settings.stored.opening import StoredReader, Vault, sealed_fields
from sidekey.settings.stored.saving import Draft, Former, Invalid, Reenter, prepare
from sidekey.settings.validated import validate_saved
from sidekey.store.records import IntegrationRow
from sidekey.store.ring import KeyRing
from support.certificates import NOW, Chain, private_chain
from support.oauth import signer

VAULT = Vault("store-of-tests", KeyRing({"k1": b"1" * 32}))
PRESENT = NOW.timestamp()
CANARY = "canary-of-the-tests-of-at-least-32-bytes"

PREFIX = {"endpoint_prefix": "https://api.example.com/v1"}
BASIC: dict[str, Any] = {
    **PREFIX,
    "auth": {"type": "basic", "username": {"value": "svc"}, "password": {"value": CANARY}},
}
HEADERS: dict[str, Any] = {
    **PREFIX,
    "auth": {
        "type": "headers",
        "headers": {"X-Tenant": "acme", "Authorization": {"prefix": "Bearer ", "secret": {"value": CANARY}}},
    },
}
ADDED: dict[str, Any] = {
    **BASIC,
    "add": {
        "headers": {"X-Tenant": "acme", "X-Key": {"prefix": "Key ", "secret": {"value": f"{CANARY}-header"}}},
        "query": {"key": {"secret": {"value": f"{CANARY}-query"}}},
        "body": {"mode": True, "key2": {"secret": {"value": f"{CANARY}-body"}}},
    },
}
OAUTH2: dict[str, Any] = {
    "auth": {
        "type": "oauth2",
        "token_endpoint": "https://auth.example.com/token",
        "client_id": "id",
        "client_secret": {"value": CANARY},
        "token_request": {"body": {"scope": "read", "key": {"value": f"{CANARY}-key"}}},
    }
}
PROFILE: dict[str, Any] = {
    "auth": {
        "type": "oauth2",
        "provider": "commercetools",
        "region": "europe-west1.gcp",
        "client_id": "id",
        "client_secret": {"value": CANARY},
    }
}
PROFILE_KEY: dict[str, Any] = {"auth": {"type": "headers", "provider": "klaviyo", "key": {"value": CANARY}}}
"""The secret has the profile's name for it."""
PROFILE_SESSION: dict[str, Any] = {
    "auth": {"type": "session", "provider": "yotpo", "store_id": "a" * 40, "api_secret": {"value": CANARY}}
}
"""And its place is in a login's body."""
SECRET_NAME: dict[str, Any] = {**PREFIX, "auth": {"type": "basic", "username": {"value": CANARY}}}
RESPONSYS: dict[str, Any] = {
    "auth": {
        "type": "responsys",
        "login_endpoint": "https://login2.responsys.net",
        "username": {"value": "api"},
        "password": {"value": CANARY},
    }
}
SESSION: dict[str, Any] = {
    "auth": {
        "type": "session",
        "login": {
            "url": "https://ws.example.com/login",
            "body": {"user": {"name": "svc", "key": {"value": CANARY}}},
        },
        "token": {"from": "data.token"},
    }
}
SIGNATURE: dict[str, Any] = {
    **PREFIX,
    "auth": {"type": "signature", "scheme": "stripe", "secret": [{"value": f"{CANARY}-new"}, {"value": CANARY}]},
}
AWS_SIGV4: dict[str, Any] = {
    "endpoint_prefix": "https://sqs.eu-west-1.amazonaws.com",
    "auth": {
        "type": "aws_sigv4",
        "region": "eu-west-1",
        "service": "sqs",
        "access_key_id": "AKIAEXAMPLE",
        "secret_access_key": {"value": CANARY},
        "session_token": {"value": f"{CANARY}-token"},
    },
}
SIGNED: dict[str, Any] = {
    **BASIC,
    "signature": {"scheme": "github", "secret": {"value": f"{CANARY}-beside"}},
}


@cache
def chain() -> Chain:
    """A client certificate of a CA that is nobody else's."""
    return private_chain()


def mtls() -> dict[str, Any]:
    """A client certificate as the whole credential."""
    return {**PREFIX, "auth": {"type": "mtls", **_pair()}}


def beside() -> dict[str, Any]:
    """A client certificate beside another credential."""
    return {**BASIC, "client_certificate": _pair()}


def jwt_bearer() -> dict[str, Any]:
    """A signed assertion as the grant."""
    pair = {"private_key": {"value": signer().private_pem.decode()}, "certificate": signer().certificate_pem.decode()}
    auth = {"type": "oauth2", "token_endpoint": "https://auth.example.com/token", "client_id": "id"}
    return {"auth": {**auth, "grant": {"type": "jwt_bearer", **pair, "subject": "ann@example.com"}}}


JWT: dict[str, Any] = {
    **PREFIX,
    "auth": {
        "type": "jwt",
        "algorithm": "HS256",
        "secret": {"value": CANARY},
        "claims": {"iss": "team", "scopes": ["read", 1], "user": {"key": {"value": f"{CANARY}-claim"}}},
    },
}


def message() -> dict[str, Any]:
    """A signature by a private key."""
    auth = {"type": "signature", "scheme": "rfc9421", "algorithm": "rsa-pss-sha512", "key_id": "ours"}
    return {**PREFIX, "auth": {**auth, "key": {"value": signer().private_pem.decode()}}}


def _pair() -> dict[str, Any]:
    return {
        "certificate": {"inline": chain().leaf.pem.decode()},
        "private_key": {"value": chain().leaf.key_as().decode()},
        "allow_private_ca": True,
    }


def documents() -> dict[str, dict[str, Any]]:
    """One of every kind, and of every way to have a secret."""
    found = {
        "added": ADDED,
        "aws_sigv4": AWS_SIGV4,
        "basic": BASIC,
        "headers": HEADERS,
        "jwt": JWT,
        "oauth2": OAUTH2,
        "profile": PROFILE,
        "profile_key": PROFILE_KEY,
        "profile_session": PROFILE_SESSION,
        "responsys": RESPONSYS,
        "secret_name": SECRET_NAME,
        "session": SESSION,
        "signature": SIGNATURE,
        "signed": SIGNED,
    }
    return {**found, "mtls": mtls(), "beside": beside(), "jwt_bearer": jwt_bearer(), "message": message()}


def copied(document: Mapping[str, Any]) -> Any:
    """A document that may be changed."""
    return json.loads(json.dumps(document))


def judged(document: Mapping[str, Any], former: Former | None = None) -> Draft | Invalid | Reenter:
    """What becomes of a document."""
    return prepare(document, former, in_flight=10_000, now=PRESENT)


def in_a_row(value: Any) -> Any:
    """Return a part of a document as a row has it, where no secret is in the open."""
    if isinstance(value, dict):
        return {"set": True} if [*value] == ["value"] else {key: in_a_row(each) for key, each in value.items()}
    return value


def draft(document: Mapping[str, Any], former: Former | None = None) -> Draft:
    """A document that may be saved."""
    found = judged(document, former)
    assert isinstance(found, Draft), found
    return found


def errors(document: Mapping[str, Any], former: Former | None = None) -> dict[str, str]:
    """What is wrong with a document, by pointer."""
    found = judged(document, former)
    assert isinstance(found, Invalid), found
    assert len({each.pointer for each in found.errors}) == len(found.errors)
    return {each.pointer: each.detail for each in found.errors}


def reenter(document: Mapping[str, Any], former: Former) -> tuple[str, ...]:
    """What must be entered again."""
    found = judged(document, former)
    assert isinstance(found, Reenter), found
    return found.pointers


def stored(document: Mapping[str, Any], name: str = "crm", before: IntegrationRow | None = None) -> IntegrationRow:
    """The row that a document is saved in, in place of the one before."""
    made = draft(document, None if before is None else former(before))
    row = f"row-of-{name}"
    fields = sealed_fields(VAULT, row, name, made, {} if before is None else before.secrets, by="ann", now=1)
    return IntegrationRow(
        row=row,
        id=name,
        version=1 if before is None else before.version + 1,
        document=made.saved.text(),
        secrets=fields,
        created_at=1,
        updated_at=1,
        updated_by="ann",
    )


def former(row: IntegrationRow) -> Former:
    """What is stored, as a change sees it."""
    return Former.load(row.document, row.secrets)


def settings_in(document: str) -> IntegrationSettings:
    """The settings of a document as it is saved."""
    saved = Saved.load(document)
    validated = validate_saved(saved.written, saved.brought)
    assert validated.settings is not None, validated.errors
    return validated.settings


@dataclass(frozen=True)
class Opened:
    """What opened of a row, and why the rest did not, by pointers."""

    values: dict[str, str]
    refused: dict[str, str]


def opened(row: IntegrationRow, vault: Vault = VAULT) -> Opened:
    """Open all of a row's secrets for the settings that its document says now."""
    settings = settings_in(row.document)
    reader = StoredReader(vault, row, settings)
    result = Opened({}, {})
    for reference in former(row).references():
        try:
            result.values[reference.value] = reader(reference)
        except ValueError as error:
            result.refused[reference.value] = str(error)
    return result


def destination(document: Mapping[str, Any]) -> Mapping[str, Json]:
    """What the secrets of a document are sealed for."""
    return draft(document).destination


def harmless(model: type[BaseModel]) -> set[str]:
    """The keys of a model that are declared harmless."""
    return {key.name for key in keys_of(model) if key.harmless}
