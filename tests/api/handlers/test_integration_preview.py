"""`/drafts/integration/preview`: the result of saving a document, without saving it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api import Api, ApiSetup, basic
from support.certificates import IssuedCertificate, issue

Named = Callable[[str], str]
PATH = "/drafts/integration/preview"
CANARY = "canary-that-is-in-no-response"


def preview_of(api: Api, document: Any) -> Any:
    """Return the preview of a document."""
    response = api.request("POST", PATH, document)
    assert response.status == 200, response
    assert CANARY.encode() not in response.body
    assert b"PRIVATE KEY" not in response.body
    return response.json


def mtls(certificate: str, key: str, **more: Any) -> dict[str, Any]:
    auth = {"type": "mtls", "certificate": {"inline": certificate}, "private_key": {"value": key}, **more}
    return {"endpoint_prefix": "https://bank.example/v1", "auth": auth}


def test_preview_of_a_valid_document_shows_its_destination(editor: Api, running: ApiSetup) -> None:
    """A preview saves nothing."""
    document = basic(running.upstream, CANARY)
    preview = preview_of(editor, {"id": "only-seen", **document})
    base = f"http://127.0.0.1:{running.upstream}/v1"
    assert (preview["valid"], preview["version"], preview["errors"], preview["reenter"]) == (True, None, [], [])
    assert preview["destination"] == {
        "base": base,
        "allowed": [base],
        "learns": False,
        "places": {"headers": ["Authorization"], "query": [], "body": []},
    }
    assert editor.request("GET", "/integrations/only-seen").status == 404
    assert preview_of(editor, document)["valid"] is True


def test_preview_has_the_errors_of_saving(editor: Api, running: ApiSetup, named: Named) -> None:
    """A preview has the pointers and details of the response to saving."""
    document = {"id": "Not an ID", **basic(running.upstream, CANARY)}
    document["auth"]["username"] = {"value": "a:b"}
    document["test"] = {"path": "no-slash"}
    response = editor.request("POST", "/integrations", document)
    assert response.status == 422
    assert preview_of(editor, document)["errors"] == response.json["errors"]
    preview = preview_of(editor, {"id": "of-a-file", **basic(running.upstream)})
    assert [(error["pointer"], preview["valid"]) for error in preview["errors"]] == [("/id", False)]


@pytest.mark.parametrize("change", [{"endpoint_prefix": "https://elsewhere.example"}, {"trusted_ca": "system"}])
def test_changed_destination_lists_the_secrets_to_enter_again(
    editor: Api, running: ApiSetup, named: Named, change: dict[str, Any]
) -> None:
    name = named("moved")
    shown = editor.create("/integrations", {"id": name, **basic(running.upstream, CANARY)})
    assert preview_of(editor, shown)["valid"] is True
    preview = preview_of(editor, {**shown, **change})
    detail = f"must be sent again, since {next(iter(change))} has changed"
    pointers = ["/auth/username", "/auth/password"]
    assert preview["reenter"] == [{"pointer": pointer, "detail": detail} for pointer in pointers]
    assert (preview["valid"], preview["errors"], preview["version"]) == (False, [], 1)
    assert preview["destination"]["allowed"] == [change.get("endpoint_prefix", shown["endpoint_prefix"])]
    entered = {
        **shown,
        **change,
        "auth": {**shown["auth"], "username": {"value": "svc"}, "password": {"value": CANARY}},
    }
    assert preview_of(editor, entered)["valid"] is True
    assert editor.get(f"/integrations/{name}")["version"] == 1


def test_parameter_of_a_provider_changes_the_destination(editor: Api, named: Named) -> None:
    auth = {"type": "oauth2", "provider": "commercetools", "region": "europe-west1.gcp", "client_id": "c"}
    shown = editor.create("/integrations", {"id": named("shop"), "auth": {**auth, "client_secret": {"value": CANARY}}})
    preview = preview_of(editor, {**shown, "auth": {**shown["auth"], "region": "us-central1.gcp"}})
    assert [error["pointer"] for error in preview["reenter"]] == ["/auth/client_secret"]
    assert "https://api.us-central1.gcp.commercetools.com" in preview["destination"]["allowed"]


LOGIN, API = "https://login.example.com", "https://api.example.com"


@pytest.mark.parametrize(
    ("document", "allowed"),
    [
        ({}, [LOGIN]),
        ({"allowed_domains": [API]}, [API, LOGIN]),
        ({"endpoint_prefix": f"{LOGIN}/v1"}, [f"{LOGIN}/v1"]),
    ],
)
def test_destination_lists_the_urls_that_the_policy_allows(
    editor: Api, document: dict[str, Any], allowed: list[str]
) -> None:
    auth = {"type": "oauth2", "token_endpoint": f"{LOGIN}/token", "client_id": "c", "client_secret": {"value": CANARY}}
    more = {"allow_other_domains": True} if "allowed_domains" in document else {}
    preview = preview_of(editor, {**document, **more, "auth": auth})
    assert preview["destination"]["allowed"] == allowed


@pytest.mark.parametrize(
    ("prefix", "path"),
    [(None, "/rest/api/v1.3"), ("/rest/api/v1.3/lists", "/rest/api/v1.3/lists"), ("/rest", "/rest/api/v1.3")],
)
def test_host_of_the_login_is_limited_by_domains_and_paths(editor: Api, prefix: str | None, path: str) -> None:
    login = "https://login2.responsys.net"
    auth = {"type": "responsys", "login_endpoint": login, "username": {"value": "u"}, "password": {"value": CANARY}}
    document = {"auth": auth} if prefix is None else {"auth": auth, "endpoint_prefix": f"{login}{prefix}"}
    destination = preview_of(editor, document)["destination"]
    assert destination["learns"]
    assert destination["allowed"][:2] == [f"{login}{path}", f"https://*.responsys.net{path}"]


def expiring_in(days: float, **more: Any) -> IssuedCertificate:
    """Issue a certificate that expires in this many days."""
    return issue(start=datetime.now(UTC) - timedelta(days=30), life=timedelta(days=30 + days), **more)


def test_each_problem_of_a_certificate_has_a_detail(editor: Api) -> None:
    good, other = expiring_in(60), expiring_in(60)
    pem, key = good.pem.decode(), good.key_pem.decode()
    private = {"allow_private_ca": True}
    cases: list[tuple[dict[str, Any], str, str]] = [
        (mtls(pem, key), "/auth/certificate", "self-signed"),
        (mtls(pem, other.key_pem.decode(), **private), "/auth/private_key", "does not belong to the certificate"),
        (mtls(expiring_in(-3).pem.decode(), key, **private), "/auth/certificate", "expired on"),
        (mtls(pem, good.key_as(passphrase="x").decode(), **private), "/auth/private_key", "is encrypted"),
        (mtls("hello", key, **private), "/auth/certificate", "PEM: no line"),
        (mtls(pem, "hello", **private), "/auth/private_key", "PEM: no line"),
        (mtls(key.replace("PRIVATE KEY", "CERTIFICATE"), key), "/auth/certificate", "damaged"),
        (
            mtls(issue(start=datetime.now(UTC) + timedelta(days=2)).pem.decode(), key, **private),
            "/auth/certificate",
            "valid only from",
        ),
    ]
    for document, pointer, text in cases:
        errors = preview_of(editor, document)["errors"]
        assert [error for error in errors if error["pointer"] == pointer and text in error["detail"]], (text, errors)


def test_certificate_is_described_without_its_key(editor: Api) -> None:
    issued = expiring_in(60)
    preview = preview_of(editor, {"auth": {"type": "mtls", "certificate": {"inline": issued.pem.decode()}}})
    assert preview["certificate"]["not_after"] == f"{issued.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert preview["valid"] is False
