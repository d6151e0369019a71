"""Stored integrations: documents of every kind, sealing keys, and rows of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.document import SavedDocument, merge_patch, pointer, secrets_in
from sidekey.config.stored.rows import build_integration_row, previous_integration
from sidekey.config.stored.secrets import SealingKeys, StoredReader, build_purpose
from sidekey.config.stored.validate import Assessment, Draft, PreviousIntegration, assess
from sidekey.config.validate import validate_saved
from sidekey.credentials.destination import Json, is_stored, keys_of, references_in
from sidekey.store.records import IntegrationRow
from sidekey.store.sealing import KeyRing
from support.certificates import NOW, Chain, private_chain
from support.oauth import signer

VAULT = SealingKeys("store-of-tests", KeyRing({"k1": b"1" * 32}))
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
"""A secret under a key of the profile."""
PROFILE_SESSION: dict[str, Any] = {
    "auth": {"type": "session", "provider": "yotpo", "store_id": "a" * 40, "api_secret": {"value": CANARY}}
}
"""A secret of the profile, in the body of a login."""
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
    """Return a client certificate of a CA of its own."""
    return private_chain()


def mtls() -> dict[str, Any]:
    """Build a client certificate as the only credential."""
    return {**PREFIX, "auth": {"type": "mtls", **_pair()}}


def beside() -> dict[str, Any]:
    """Build a client certificate beside another credential."""
    return {**BASIC, "client_certificate": _pair()}


def jwt_bearer() -> dict[str, Any]:
    """Build a signed assertion as the grant."""
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
    """Build a signature with a private key."""
    auth = {"type": "signature", "scheme": "rfc9421", "algorithm": "rsa-pss-sha512", "key_id": "ours"}
    return {**PREFIX, "auth": {**auth, "key": {"value": signer().private_pem.decode()}}}


def _pair() -> dict[str, Any]:
    return {
        "certificate": {"inline": chain().leaf.pem.decode()},
        "private_key": {"value": chain().leaf.key_as().decode()},
        "allow_private_ca": True,
    }


def documents() -> dict[str, dict[str, Any]]:
    """Build a document of every kind, and with every kind of secret."""
    documents_by_kind = {
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
    return {**documents_by_kind, "mtls": mtls(), "beside": beside(), "jwt_bearer": jwt_bearer(), "message": message()}


def copied(document: Mapping[str, Any]) -> Any:
    """Copy a document for changes."""
    return json.loads(json.dumps(document))


def assessed(document: Mapping[str, Any], previous: PreviousIntegration | None = None) -> Assessment:
    """Assess a document."""
    return assess(document, previous, in_flight=10_000, now=PRESENT)


def in_a_row(value: Any) -> Any:
    """Return a part of a document as in a row, where secrets are not in plain text."""
    if isinstance(value, dict):
        if [*value] == ["value"]:
            return {"set": True, "id": "s_of-nobody"}
        return {key: in_a_row(item) for key, item in value.items()}
    return [*map(in_a_row, value)] if isinstance(value, list) else value


def patched(document: str, patch: Any) -> str:
    """Patch the document of a row, as an attacker with access to the database could."""
    saved = json.loads(document)
    return json.dumps({**saved, "integration": merge_patch(saved["integration"], in_a_row(patch))})


def draft(document: Mapping[str, Any], previous: PreviousIntegration | None = None) -> Draft:
    """Build the draft of a valid document."""
    assessment = assessed(document, previous)
    assert assessment.draft is not None, assessment
    return assessment.draft


def errors(document: Mapping[str, Any], previous: PreviousIntegration | None = None) -> dict[str, str]:
    """Return the errors of a document by pointer."""
    problems = assessed(document, previous).errors
    assert problems
    assert len({item.pointer for item in problems}) == len(problems)
    return {item.pointer: item.detail for item in problems}


def secrets_required(document: Mapping[str, Any], previous: PreviousIntegration) -> dict[str, str]:
    """Return the reasons why secrets must be entered again, by pointer."""
    assessment = assessed(document, previous)
    assert assessment.errors == ()
    assert assessment.reenter
    return {item.pointer: item.detail for item in assessment.reenter}


def entered_values(draft: Draft) -> dict[str, str]:
    """Return the values to seal, by pointer."""
    secrets = secrets_in(draft.saved.content)
    return {pointer(secret.loc): draft.entered[secret.id] for secret in secrets if secret.id in draft.entered}


def kept_pointers(draft: Draft) -> set[str]:
    """Return the pointers of the secrets that a draft keeps."""
    return {pointer(secret.loc) for secret in secrets_in(draft.saved.content) if secret.id in draft.kept}


def stored(document: Mapping[str, Any], name: str = "crm", before: IntegrationRow | None = None) -> IntegrationRow:
    """Build the row of a saved document, in place of the previous row."""
    previous = before or IntegrationRow(row_id=f"row-of-{name}", id=name, verified=False)
    return saved(VAULT, name, document, previous).with_version(previous.version + 1)


def saved(
    vault: SealingKeys, name: str, document: Mapping[str, Any], before: IntegrationRow | None = None
) -> IntegrationRow:
    """Build the row of a document for any store."""
    previous = previous_integration(before)
    return build_integration_row(vault, name, draft(document, previous), before, previous, by="ann", now=1).row


def previous_row(row: IntegrationRow) -> PreviousIntegration:
    """Build the previous integration of a change."""
    return PreviousIntegration.load(row)


def ids(row: IntegrationRow) -> dict[str, str]:
    """Return the IDs of a row's secrets, by pointer."""
    secrets = secrets_in(SavedDocument.load(row.document).content)
    return {pointer(secret.loc): secret.id for secret in secrets if secret.id in row.secrets}


def settings_in(document: str) -> IntegrationSettings:
    """Validate a saved document, and return its settings."""
    saved = SavedDocument.load(document)
    validated = validate_saved(saved.content, saved.from_profile)
    assert validated.settings is not None, validated.errors
    return validated.settings


def reader_of(row: IntegrationRow, vault: SealingKeys = VAULT) -> StoredReader:
    """Build the reader of a row's secrets, for the settings of its current document."""
    saved = SavedDocument.load(row.document)
    validated = validate_saved(saved.content, saved.from_profile)
    assert validated.settings is not None, validated.errors
    purpose = build_purpose(saved.content, validated.expansion.table, validated.settings)
    return StoredReader(vault, row, purpose)


@dataclass(frozen=True)
class OpenedSecrets:
    """The opened secrets of a row, and the reasons for others, by pointer."""

    values: dict[str, str]
    refused: dict[str, str]


def open_secrets(row: IntegrationRow, vault: SealingKeys = VAULT) -> OpenedSecrets:
    """Open all secrets of a row, for the settings of its current document."""
    reader = reader_of(row, vault)
    references = {secret.value: secret for _, secret in references_in(settings_in(row.document)) if is_stored(secret)}
    result = OpenedSecrets({}, {})
    for secret in secrets_in(SavedDocument.load(row.document).content):
        if secret.id in references:
            subject = pointer(secret.loc)
            try:
                result.values[subject] = reader(references[secret.id])
            except ValueError as error:
                result.refused[subject] = str(error)
    return result


def destination(document: Mapping[str, Any]) -> Mapping[str, Json]:
    """Return the destination for which the secrets of a document are sealed."""
    return draft(document).purpose.destinations[0]


def harmless(model: type[BaseModel]) -> set[str]:
    """Return the keys of a model that are declared harmless."""
    return {key.name for key in keys_of(model) if key.safe_to_change}
