"""admin/api/catalogue.py: what forms are made of."""

from __future__ import annotations

from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
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
    assert basic["schema"]["properties"]["password"]["anyOf"][0]["$ref"] == "#/components/schemas/Secret"
    assert "Secret" in found["schemas"]


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
