"""api/handlers/kinds.py: what forms are made of."""

from __future__ import annotations

import gzip
from urllib.parse import urlencode

import pytest

from sidekey.config import profiles
from sidekey.credentials.registry import KINDS
from support.api import Api


def test_every_kind_is_listed_with_its_schema(viewer: Api) -> None:
    """In the registry's order; what it refers to comes with it."""
    found = viewer.get("/kinds")
    assert [each["kind"] for each in found["items"]] == list(KINDS)
    basic = next(each for each in found["items"] if each["kind"] == "basic")
    assert (basic["needs_endpoint_prefix"], basic["brings_certificate"], basic["providers"]) == (
        True,
        False,
        list(profiles.names_of("basic")),
    )
    schemas = viewer.get("/openapi.json")["components"]["schemas"]
    assert schemas[basic["component"]]["properties"]["password"]["anyOf"][0]["$ref"] == "#/components/schemas/Secret"


def test_only_the_catalogue_is_compressed(viewer: Api) -> None:
    """Its responses contain no secret: the size of a compressed response tells about its content."""
    for path, compressed in {
        "/kinds": True,
        "/providers": True,
        "/providers?q=shop": True,
        "/integrations": False,
    }.items():
        plain, packed = (viewer.ask("GET", path, headers={"Accept-Encoding": each}) for each in ("br", "gzip"))
        assert plain.headers["Content-Encoding"] is None, path
        assert packed.headers["Content-Encoding"] == ("gzip" if compressed else None), path
        assert packed.headers["Vary"] == plain.headers["Vary"] == ("Accept-Encoding" if compressed else None), path
        assert (gzip.decompress(packed.body) if compressed else packed.body) == plain.body, path
        head = viewer.ask("HEAD", path, headers={"Accept-Encoding": "gzip"})
        assert (head.body, head.headers["Content-Length"]) == (b"", packed.headers["Content-Length"]), path


@pytest.mark.parametrize(
    ("text", "found"),
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
def test_kinds_are_found_by_the_words_people_use(viewer: Api, text: str, found: list[str]) -> None:
    assert [each["kind"] for each in viewer.get(f"/kinds?{urlencode({'q': text})}")["items"]] == found


def test_a_kind_has_a_title_and_a_summary(viewer: Api) -> None:
    shown = {each["kind"]: (each["title"], each["summary"]) for each in viewer.get("/kinds")["items"]}
    assert shown["headers"] == ("Custom headers", "A bearer token or an API key")
    assert all(title and summary for title, summary in shown.values())


def test_known_values_of_a_parameter_are_suggested(viewer: Api) -> None:
    """The most common value first: a form begins with it."""
    found = {
        (each["provider"], parameter["name"]): parameter["suggestions"]
        for each in viewer.get("/providers")["items"]
        for parameter in each["parameters"]
    }
    assert found["microsoft-entra", "scope"][0] == "https://graph.microsoft.com/.default"
    assert found["sendgrid", "host"] == ["api.sendgrid.com", "api.eu.sendgrid.com"]
    assert (found["microsoft-entra", "tenant"], found["auth0", "audience"]) == ([], [])


def test_every_profile_is_listed_with_what_it_asks_for(viewer: Api) -> None:
    """So that a form can check a value before it is sent."""
    found = {each["provider"]: each for each in viewer.get("/providers")["items"]}
    assert list(found) == list(profiles.names())
    region = found["commercetools"]["parameters"][0]
    assert (region["name"], region["required"]) == ("region", True)
    assert region["pattern"]
    klaviyo = found["klaviyo"]
    assert [each["name"] for each in klaviyo["secrets"]] == ["key"]
    assert (klaviyo["kind"], len(klaviyo["sources"]), klaviyo["unconfirmed"]) == ("headers", 2, {})
    assert found["sap-ariba"]["unconfirmed"] == {"The hosts of the data centers.": "one source"}
    criteo = found["criteo"]
    assert (criteo["category"], criteo["popular"], criteo["unconfirmed"]) == ("advertising", True, {})
    assert "Criteo Marketing" in criteo["aliases"]
    assert criteo["test"] == {"method": "GET", "path": "/2026-07/advertisers/me"}
    assert (found["ups"]["popular"], found["ups"]["test"]) == (False, None)


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
def test_profiles_are_found_by_name_title_and_alias(viewer: Api, text: str, providers: list[str]) -> None:
    """In any case, each word by itself."""
    found = viewer.get(f"/providers?{urlencode({'q': text})}")
    assert [each["provider"] for each in found["items"]] == providers
