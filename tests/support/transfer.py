"""Documents of every kind for export and import, with secrets of any text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sidekey.config.secrets import SecretReader
from sidekey.config.stored.document import value_at
from sidekey.config.stored.transfer import PLACEHOLDER_URL, Exported, ImportedDocument, read_references
from sidekey.config.validate import validate
from sidekey.config.yaml_reader import parse
from sidekey.config.yaml_writer import write
from sidekey.credentials.context import Context
from support.certificates import NOW, Chain, issue
from support.stored import BASIC, CANARY, OAUTH2, PREFIX, chain, documents

URL = f"https://files.example.com/{CANARY}.pem"


def every_kind(held: Chain | None = None) -> dict[str, dict[str, Any]]:
    """Build a document of every kind, and with every kind of secret, certificate or CA."""
    held = held or chain()
    leaf = held.leaf
    both = leaf.pem.decode() + leaf.key_as().decode()
    encrypted = leaf.key_as(passphrase=f"{CANARY}-pass").decode()
    private = {"allow_private_ca": True}
    certificate = {"certificate": {"inline": held.pem.decode()}}
    refresh = {"grant": {"type": "refresh_token", "refresh_token": {"value": f"{CANARY}-refresh"}}}
    odd = {"body": {"a/b~c": {"value": f"{CANARY}-odd"}, "é" * 60: {"value": f"{CANARY}-long"}, "n": 1.5, "t": "1"}}
    pair = {**certificate, "private_key": {"value": leaf.key_as().decode()}, **private}
    return {
        **documents(),
        "mtls": {**PREFIX, "auth": {"type": "mtls", **pair}},
        "beside": {**BASIC, "client_certificate": pair},
        "joined": {**PREFIX, "auth": {"type": "mtls", "pem": {"value": both}, **private}},
        "encrypted": {
            **PREFIX,
            "auth": {
                "type": "mtls",
                **certificate,
                "private_key": {"value": encrypted},
                "key_passphrase": {"value": f"{CANARY}-pass"},
                **private,
            },
        },
        "by_url": {
            **BASIC,
            "client_certificate": {"certificate": {"url": URL}, "private_key": {"url": URL}, "refresh": "2h"},
        },
        "refreshing": {"auth": {**OAUTH2["auth"], **refresh}},
        "odd": {"auth": {**OAUTH2["auth"], "token_request": odd}},
        "trusting": {
            **BASIC,
            "trusted_ca": {"inline": held.root.pem.decode()},
            "description": "yes: 0660 # *",
            "tags": ["off", "1"],
            "limits": {"in_flight": 5},
            "test": {"method": "GET", "path": "/x"},
            "redact_response": True,
        },
    }


def lasting_chain() -> Chain:
    """Create a CA with a client's certificate, valid at `NOW` and at the current time."""
    start, lifetime = min(NOW, datetime.now(UTC)) - timedelta(days=1), timedelta(days=20 * 365)
    root = issue("Root CA", authority=True, start=start, life=lifetime)
    between = issue("Client CA", root, authority=True, start=start, life=lifetime)
    return Chain(root, between, issue("client.example", between, start=start, life=lifetime))


def fill(text: str, folder: Path, values: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """Write secrets, by pointer, to the files of an exported config. Return the config's text with its URLs."""
    for location, value in values.items():
        container = value_at(config, location)
        if isinstance(container, str):
            assert container.startswith(PLACEHOLDER_URL)
            text = text.replace(container, value)
        else:
            path = folder / container["file"]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(value.encode())
    return text


def import_exported(exported: Exported, folder: Path, values: Mapping[str, str], name: str = "crm") -> ImportedDocument:
    """Import an exported integration, after its secrets are written to its files."""
    text = write({"version": 1, "integrations": {name: exported.config}})
    assert CANARY not in text
    document, errors = parse("x.yaml", fill(text, folder, values, exported.config).encode())
    assert errors == []
    return import_integration(document["integrations"][name], folder)


def import_integration(
    raw: Mapping[str, Any], folder: Path, environ: Mapping[str, str] | None = None
) -> ImportedDocument:
    """Import an integration from a config file in this folder."""
    validated = validate(raw, Context("file"))
    assert validated.errors == ()
    assert validated.settings is not None
    return read_references(raw, validated.settings, SecretReader(folder, environ or {}), validated.expansion.source_loc)
