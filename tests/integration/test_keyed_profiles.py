"""Profiles of static keys: only a key, and the request from the platform's documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.keyed import KEY, KEYED, KeyPlatform
from support.private_ca import Authority
from support.serving import serving

PROFILES = {
    "klaviyo": "{type: headers, provider: klaviyo, key: {env: KEY}}",
    "mailchimp": "{type: basic, provider: mailchimp, dc: us6, key: {env: KEY}}",
    "bigcommerce": "{type: headers, provider: bigcommerce, hash: hpj4hvw2bb, token: {env: KEY}}",
    "algolia": "{type: headers, provider: algolia, app: ERBSOWZO32, key: {env: KEY}}",
    "segment": "{type: basic, provider: segment, host: events.eu1.segmentapis.com, write_key: {env: KEY}}",
    "mandrill": "{type: headers, provider: mandrill, key: {env: KEY}}",
}
SENT = b'{"data": 1}'
JSON = ("Content-Type: application/json", "Authorization: Bearer of-the-caller", "X-Auth-Token: mine")


@pytest.mark.parametrize("name", PROFILES)
async def test_key_gives_access_to_the_api(name: str, ca: Authority, tmp_path: Path) -> None:
    """Through both proxies, with any headers of the caller. Response and log do not contain the key."""
    keyed = KEYED[name]
    key = "writekey" if name == "segment" else KEY
    async with (
        KeyPlatform(ca, keyed) as fake,
        serving(f"  it: {{auth: {PROFILES[name]}}}\n", tmp_path, ca, hosts=fake.hosts, environ={"KEY": key}) as sidekey,
    ):
        url = f"http://{keyed.host}{keyed.api}"
        base = {"bigcommerce": "/stores/hpj4hvw2bb", "mandrill": "/api"}.get(name, "")
        for response in (
            await sidekey.reverse(keyed.api.removeprefix(base), *JSON, method="POST", body=SENT),
            await sidekey.forward(url, *JSON, method="POST", body=SENT),
        ):
            assert response.status == 200
        assert len(fake.received) == 2
        for received in fake.received:
            assert {field: received.values(field) for field in keyed.headers} == {
                field: [value] for field, value in keyed.headers.items()
            }
            assert json.loads(received.body) == {**json.loads(SENT), **keyed.body}
    assert key not in (tmp_path / "sidekey.log").read_text()


@pytest.mark.parametrize("name", PROFILES)
async def test_wrong_key_gets_the_error_of_the_platform(name: str, ca: Authority, tmp_path: Path) -> None:
    keyed = KEYED[name]
    text = f"  it: {{auth: {PROFILES[name]}}}\n"
    async with (
        KeyPlatform(ca, keyed) as fake,
        serving(text, tmp_path, ca, hosts=fake.hosts, environ={"KEY": "not-it-at-all"}) as sidekey,
    ):
        response = await sidekey.forward(f"http://{keyed.host}{keyed.api}", *JSON, method="POST", body=SENT)
        assert (response.status, json.loads(response.body)) == keyed.denied
        assert response.values(b"proxy-status") == []


async def test_key_goes_to_no_other_store_of_a_shared_host(ca: Authority, tmp_path: Path) -> None:
    """The prefix of BigCommerce contains the store."""
    keyed = KEYED["bigcommerce"]
    text = f"  it: {{auth: {PROFILES['bigcommerce']}}}\n"
    async with (
        KeyPlatform(ca, keyed) as fake,
        serving(text, tmp_path, ca, hosts=fake.hosts, environ={"KEY": KEY}) as sidekey,
    ):
        for path in ("/stores/other/v3/orders", "/stores/hpj4hvw2bb/../other/v3/orders", "/stores/hpj4hvw2bbx"):
            assert (await sidekey.forward(f"http://{keyed.host}{path}")).status in (400, 403)
        assert fake.received == []
