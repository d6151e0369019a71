"""api/handlers/integration_preview.py: the result of saving a document, without saving it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api import Api, Running, basic
from support.certificates import Issued, issue

Named = Callable[[str], str]
PATH = "/drafts/integration/preview"
CANARY = "canary-that-is-in-no-response"


def of(api: Api, document: Any) -> Any:
    """The preview of a document."""
    said = api.ask("POST", PATH, document)
    assert said.status == 200, said
    assert CANARY.encode() not in said.body
    assert b"PRIVATE KEY" not in said.body
    return said.json


def mtls(certificate: str, key: str, **more: Any) -> dict[str, Any]:
    auth = {"type": "mtls", "certificate": {"inline": certificate}, "private_key": {"value": key}, **more}
    return {"endpoint_prefix": "https://bank.example/v1", "auth": auth}


def test_a_document_that_may_be_saved_says_where_its_credential_goes(editor: Api, running: Running) -> None:
    """And is not saved."""
    document = basic(running.upstream, CANARY)
    found = of(editor, {"id": "only-seen", **document})
    base = f"http://127.0.0.1:{running.upstream}/v1"
    assert (found["valid"], found["version"], found["errors"], found["reenter"]) == (True, None, [], [])
    assert found["destination"] == {
        "base": base,
        "allowed": [base],
        "learns": False,
        "places": {"headers": ["Authorization"], "query": [], "body": []},
    }
    assert editor.ask("GET", "/integrations/only-seen").status == 404
    assert of(editor, document)["valid"] is True


def test_all_errors_are_a_result_and_those_that_saving_has(editor: Api, running: Running, named: Named) -> None:
    """By the same pointers, in the same words; also the overlap with what a caller may use as well."""
    document = {"id": "Not an ID", **basic(running.upstream, CANARY)}
    document["auth"]["username"] = {"value": "a:b"}
    document["test"] = {"path": "no-slash"}
    said = editor.ask("POST", "/integrations", document)
    assert said.status == 422
    assert of(editor, document)["errors"] == said.json["errors"]
    found = of(editor, {"id": "of-a-file", **basic(running.upstream)})
    assert [(each["pointer"], found["valid"]) for each in found["errors"]] == [("/id", False)]


@pytest.mark.parametrize("change", [{"endpoint_prefix": "https://elsewhere.example"}, {"trusted_ca": "system"}])
def test_a_changed_destination_names_the_secrets(
    editor: Api, running: Running, named: Named, change: dict[str, Any]
) -> None:
    name = named("moved")
    shown = editor.make("/integrations", {"id": name, **basic(running.upstream, CANARY)})
    assert of(editor, shown)["valid"] is True
    found = of(editor, {**shown, **change})
    detail = f"must be sent again, since {next(iter(change))} has changed"
    pointers = ["/auth/username", "/auth/password"]
    assert found["reenter"] == [{"pointer": each, "detail": detail} for each in pointers]
    assert (found["valid"], found["errors"], found["version"]) == (False, [], 1)
    assert found["destination"]["allowed"] == [change.get("endpoint_prefix", shown["endpoint_prefix"])]
    entered = {
        **shown,
        **change,
        "auth": {**shown["auth"], "username": {"value": "svc"}, "password": {"value": CANARY}},
    }
    assert of(editor, entered)["valid"] is True
    assert editor.get(f"/integrations/{name}")["version"] == 1


def test_a_parameter_of_a_provider_moves_its_endpoint(editor: Api, named: Named) -> None:
    auth = {"type": "oauth2", "provider": "commercetools", "region": "europe-west1.gcp", "client_id": "c"}
    shown = editor.make("/integrations", {"id": named("shop"), "auth": {**auth, "client_secret": {"value": CANARY}}})
    found = of(editor, {**shown, "auth": {**shown["auth"], "region": "us-central1.gcp"}})
    assert [each["pointer"] for each in found["reenter"]] == ["/auth/client_secret"]
    assert "https://api.us-central1.gcp.commercetools.com" in found["destination"]["allowed"]


LOGIN, API = "https://login.example.com", "https://api.example.com"


@pytest.mark.parametrize(
    ("document", "allowed"),
    [
        ({}, [LOGIN]),
        ({"allowed_domains": [API]}, [API, LOGIN]),
        ({"endpoint_prefix": f"{LOGIN}/v1"}, [f"{LOGIN}/v1"]),
        # A prefix outside the domains allows nothing.
        ({"endpoint_prefix": [f"{LOGIN}/v1", f"{API}/v1"]}, [f"{LOGIN}/v1"]),
    ],
)
def test_where_a_token_goes_is_what_the_policy_allows(
    editor: Api, document: dict[str, Any], allowed: list[str]
) -> None:
    auth = {"type": "oauth2", "token_endpoint": f"{LOGIN}/token", "client_id": "c", "client_secret": {"value": CANARY}}
    more = {"allow_other_domains": True} if "allowed_domains" in document else {}
    found = of(editor, {**document, **more, "auth": auth})
    assert found["destination"]["allowed"] == allowed


@pytest.mark.parametrize(
    ("prefix", "path"),
    [(None, "/rest/api/v1.3"), ("/rest/api/v1.3/lists", "/rest/api/v1.3/lists"), ("/rest", "/rest/api/v1.3")],
)
def test_a_host_that_the_login_names_is_limited_by_domains_and_paths(
    editor: Api, prefix: str | None, path: str
) -> None:
    login = "https://login2.responsys.net"
    auth = {"type": "responsys", "login_endpoint": login, "username": {"value": "u"}, "password": {"value": CANARY}}
    document = {"auth": auth} if prefix is None else {"auth": auth, "endpoint_prefix": f"{login}{prefix}"}
    destination = of(editor, document)["destination"]
    assert destination["learns"]
    assert destination["allowed"][:2] == [f"{login}{path}", f"https://*.responsys.net{path}"]


def soon(days: float, **more: Any) -> Issued:
    """A certificate of now that ends in so many days."""
    return issue(start=datetime.now(UTC) - timedelta(days=30), life=timedelta(days=30 + days), **more)


def test_each_problem_of_a_certificate_has_its_own_words(editor: Api) -> None:
    good, other = soon(60), soon(60)
    pem, key = good.pem.decode(), good.key_pem.decode()
    private = {"allow_private_ca": True}
    cases: list[tuple[dict[str, Any], str, str]] = [
        (mtls(pem, key), "/auth/certificate", "self-signed"),
        (mtls(pem, other.key_pem.decode(), **private), "/auth/private_key", "does not belong to the certificate"),
        (mtls(soon(-3).pem.decode(), key, **private), "/auth/certificate", "expired on"),
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
    for document, where, words in cases:
        found = of(editor, document)
        assert [each["detail"] for each in found["errors"] if each["pointer"] == where and words in each["detail"]], (
            words,
            found["errors"],
        )


def test_a_certificate_is_described_before_its_key_is_there(editor: Api) -> None:
    issued = soon(60)
    found = of(editor, {"auth": {"type": "mtls", "certificate": {"inline": issued.pem.decode()}}})
    assert found["certificate"]["not_after"] == f"{issued.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert found["valid"] is False
