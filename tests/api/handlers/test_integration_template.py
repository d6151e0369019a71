"""`/kinds/{kind}/template`: the template of a document is valid once its values are filled in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidekey.api.handlers.integration_template import PEM
from sidekey.config import profiles
from sidekey.credentials.registry import KINDS
from support.api import Api
from support.certificates import issue

ENTERED: Final[dict[str, Any]] = {
    "endpoint_prefix": "https://api.example.com/v1",
    "region": "eu-west-1",
    "service": "s3",
    "token_endpoint": "https://login.example.com/token",
    "login_endpoint": "https://login2.responsys.net",
    "url": "https://login.example.com/login",
    "from": "token",
    "value": "0123456789abcdef" * 4,
    "client_id": "the-client",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
}
"""The value to enter for a key without an example in its profile."""


def key(provider: str) -> str:
    created = (
        ec.generate_private_key(ec.SECP256R1())
        if provider == "app-store-connect"
        else rsa.generate_private_key(65537, 2048)
    )
    return created.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def filled(node: dict[str, Any], examples: dict[str, Any], pem: Iterator[str]) -> dict[str, Any]:
    """Fill in all fields of a document."""
    values: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            values[name] = filled(value, examples, pem)
        elif value == PEM:
            values[name] = next(pem)
        elif value == "":
            values[name] = examples.get(name, ENTERED.get(name, f"the-{name}"))
        else:
            values[name] = value
    return values


def yaml_of(api: Api, kind: str, provider: str = "") -> str:
    """Return the YAML of a template."""
    return str(api.get(f"/kinds/{kind}/template" + (f"?provider={provider}" if provider else ""))["text"])


AS_YAML: Final = {"Content-Type": "application/yaml"}
CASES: Final = [(kind, "") for kind in KINDS] + [
    (kind, name) for kind in KINDS for name in profiles.stored_provider_names_of(kind)
]


@pytest.mark.parametrize(("kind", "provider"), CASES)
def test_template_of_each_kind_and_provider_is_valid_once_filled_in(api: Api, kind: str, provider: str) -> None:
    text = yaml_of(api, kind, provider)
    start = yaml.safe_load(text)
    parameters = profiles.profile(provider).parameters if provider else {}
    examples: dict[str, Any] = {name: parameter.example for name, parameter in parameters.items()}
    if kind == "signature":
        examples["value"] = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    if kind == "mtls":
        issued = issue("client.example", start=datetime.now(UTC), life=timedelta(days=60))
        start["auth"]["allow_private_ca"] = True
        pem = iter([issued.pem.decode(), issued.key_pem.decode()])
    else:
        pem = iter([key(provider)])
    document = filled({**start, "id": "filled-in"}, examples, pem)
    body = api.request("POST", "/drafts/integration/preview", document).json
    assert (body["errors"], body["valid"]) == ([], True)
    unchanged = api.request("POST", "/drafts/integration/preview", text.encode(), headers=AS_YAML).json
    assert unchanged["valid"] is False
    assert all(error["line"] for error in unchanged["errors"])


def test_template_describes_required_keys_and_shows_the_form_of_secrets(api: Api) -> None:
    text = yaml_of(api, "responsys")
    assert "  # The user's password.\n  password:\n    value: ''\n" in text
    okta = yaml_of(api, "oauth2", "okta")
    assert "  domain: ''\n" in okta
    assert "# The org's domain, without `-admin`. Such as acme.okta.com.\n" in okta
    assert max(map(len, text.splitlines())) <= 104


def test_fields_of_a_template_are_the_values_to_fill_in(editor: Api, viewer: Api) -> None:
    body = editor.get("/kinds/oauth2/template?provider=docusign")
    assert [(field["path"], field["type"]) for field in body["fields"]] == [
        (["auth", "user_id"], "text"),
        (["auth", "site"], "text"),
        (["auth", "grant", "private_key"], "pem"),
        (["auth", "client_id"], "text"),
    ]
    by_name = {field["path"][-1]: field for field in editor.get("/kinds/signature/template")["fields"]}
    assert by_name["secret"]["type"] == "secret"
    assert "stripe" in by_name["scheme"]["values"]
    assert [field["type"] for field in editor.get("/kinds/mtls/template")["fields"]] == ["text", "certificate", "pem"]
    for path in (
        "/kinds/nonsense/template",
        "/kinds/basic/template?provider=docusign",
        "/kinds/oauth2/template?provider=google-workload-identity",
    ):
        assert editor.request("GET", path).status == 404
    assert viewer.request("GET", "/kinds/basic/template").status == 403
