"""The fakes of platforms of static keys take their key in its place alone."""

from __future__ import annotations

import pytest

from fakes.client import Client
from fakes.keyed import KEY, KEYED, Keys
from support.ca import Authority


@pytest.mark.parametrize("name", sorted(KEYED))
async def test_whatever_lacks_the_key_gets_the_platform_s_error(name: str, ca: Authority) -> None:
    """Also a key under another scheme."""
    keyed = KEYED[name]
    async with Keys(ca, keyed) as fake, Client(ca, fake.host) as client:
        url = f"https://{keyed.host}{keyed.api}"
        for authorization in (None, "Bearer wrong", f"ApiKey {KEY}"):
            reply = await client.json(url, {}, authorization)
            assert (reply.status, reply.body) == keyed.denied


async def test_the_key_opens_the_api_and_no_other_path(ca: Authority) -> None:
    """Of Klaviyo, whose scheme is its own."""
    async with Keys(ca, KEYED["klaviyo"]) as fake, Client(ca, fake.host) as client:
        assert (await client.json("https://a.klaviyo.com/api/events", {}, f"Klaviyo-API-Key {KEY}")).status == 200
        assert (await client.json("https://a.klaviyo.com/other", {}, f"Klaviyo-API-Key {KEY}")).status == 404
