"""`/kinds` and `/providers`: the data that the console builds forms from."""

from __future__ import annotations

import gzip
from urllib.parse import urlencode

import pytest

from sidekey.config import profiles
from sidekey.credentials.registry import KINDS
from support.api import Api


def test_every_kind_is_listed_with_its_schema(viewer: Api) -> None:
    """Kinds are in the order of the registry."""
    body = viewer.get("/kinds")
    assert [item["kind"] for item in body["items"]] == list(KINDS)
    basic = next(item for item in body["items"] if item["kind"] == "basic")
    assert (basic["needs_endpoint_prefix"], basic["brings_certificate"], basic["providers"]) == (
        True,
        False,
        list(profiles.provider_names_of("basic")),
    )
    schemas = viewer.get("/openapi.json")["components"]["schemas"]
    assert schemas[basic["component"]]["properties"]["password"]["anyOf"][0]["$ref"] == "#/components/schemas/Secret"


def test_only_kinds_and_providers_are_compressed(viewer: Api) -> None:
    """These lists contain no secret. The size of a compressed response reveals parts of its content."""
    for path, compressed in {
        "/kinds": True,
        "/providers": True,
        "/providers?q=shop": True,
        "/integrations": False,
    }.items():
        plain, packed = (viewer.request("GET", path, headers={"Accept-Encoding": coding}) for coding in ("br", "gzip"))
        assert plain.headers["Content-Encoding"] is None, path
        assert packed.headers["Content-Encoding"] == ("gzip" if compressed else None), path
        assert packed.headers["Vary"] == plain.headers["Vary"] == ("Accept-Encoding" if compressed else None), path
        assert (gzip.decompress(packed.body) if compressed else packed.body) == plain.body, path
        head = viewer.request("HEAD", path, headers={"Accept-Encoding": "gzip"})
        assert (head.body, head.headers["Content-Length"]) == (b"", packed.headers["Content-Length"]), path


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Authentication", list(KINDS)),
        ("bearer", ["headers"]),
        ("Bearer token", ["headers"]),
        ("API key", ["headers"]),
        ("http", ["basic", "headers", "signature"]),
        ("certificate", ["mtls"]),
        ("login", ["basic", "responsys", "session"]),
        ("oauth2 authentication", ["oauth2"]),
        ("nowhere", []),
    ],
)
def test_search_finds_kinds_by_common_words(viewer: Api, text: str, kinds: list[str]) -> None:
    assert [item["kind"] for item in viewer.get(f"/kinds?{urlencode({'q': text})}")["items"]] == kinds


def test_kind_has_a_title_and_a_summary(viewer: Api) -> None:
    shown = {item["kind"]: (item["title"], item["summary"]) for item in viewer.get("/kinds")["items"]}
    assert shown["headers"] == ("Custom headers", "A bearer token or an API key")
    assert all(title and summary for title, summary in shown.values())


def test_known_values_of_a_parameter_are_suggested(viewer: Api) -> None:
    """The most common value comes first: a form preselects it."""
    by_name = {
        (item["provider"], parameter["name"]): parameter["suggestions"]
        for item in viewer.get("/providers")["items"]
        for parameter in item["parameters"]
    }
    assert by_name["microsoft-entra", "scope"][0] == "https://graph.microsoft.com/.default"
    assert by_name["sendgrid", "host"] == ["api.sendgrid.com", "api.eu.sendgrid.com"]
    assert (by_name["microsoft-entra", "tenant"], by_name["auth0", "audience"]) == ([], [])


def test_every_profile_is_listed_with_parameters_and_secrets(viewer: Api) -> None:
    """A form can validate values with these patterns before it sends them. Those that need a file are left out."""
    by_name = {item["provider"]: item for item in viewer.get("/providers")["items"]}
    only_in_files = {"google-service-account-impersonation", "google-workload-identity"}
    assert list(by_name) == [name for name in profiles.provider_names() if name not in only_in_files]
    region = by_name["commercetools"]["parameters"][0]
    assert (region["name"], region["required"]) == ("region", True)
    assert region["pattern"]
    klaviyo = by_name["klaviyo"]
    assert [secret["name"] for secret in klaviyo["secrets"]] == ["key"]
    assert (klaviyo["kind"], len(klaviyo["sources"]), klaviyo["unconfirmed"]) == ("headers", 2, {})
    assert by_name["sap-ariba"]["unconfirmed"] == {"The hosts of the data centers.": "one source"}
    criteo = by_name["criteo"]
    assert (criteo["category"], criteo["popular"], criteo["unconfirmed"]) == ("advertising", True, {})
    assert "Criteo Marketing" in criteo["aliases"]
    assert criteo["test"] == {"method": "GET", "path": "/2026-07/advertisers/me"}
    assert (by_name["ups"]["popular"], by_name["ups"]["test"]) == (False, None)


@pytest.mark.parametrize(
    ("text", "providers"),
    [
        ("azure", ["microsoft-entra"]),
        ("Azure Graph", ["microsoft-entra"]),
        ("Criteo Marketing", ["criteo"]),
        ("twilio SMS", ["sendgrid", "twilio", "twilio-api-key"]),
        ("EXACTTARGET", ["salesforce-marketing-cloud"]),
        ("okta", ["okta", "okta-api-token"]),
        ("composable com", ["commercetools"]),
        ("nowhere", []),
    ],
)
def test_search_finds_profiles_by_name_title_and_alias(viewer: Api, text: str, providers: list[str]) -> None:
    """Search ignores case and matches each word by itself."""
    body = viewer.get(f"/providers?{urlencode({'q': text})}")
    assert [item["provider"] for item in body["items"]] == providers
