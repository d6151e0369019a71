"""The fake Tableau takes the documented sign-in, and has one session for a personal access token."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.client import Client
from fakes.tableau import CONTENT_URL, SIGN_IN, SITE_ID, TOKEN_NAME, TOKEN_SECRET, VERSION, Tableau
from support.ca import Authority

HOST = "https://10ax.online.tableau.com"
RIGHT: dict[str, Any] = {
    "personalAccessTokenName": TOKEN_NAME,
    "personalAccessTokenSecret": TOKEN_SECRET,
    "site": {"contentUrl": CONTENT_URL},
}
JSON = {"Accept": "application/json"}
WORKBOOKS = f"{HOST}/api/{VERSION}/sites/{SITE_ID}/workbooks"


async def test_a_new_session_ends_the_one_before(ca: Authority) -> None:
    """The documented request and response."""
    async with Tableau(ca) as fake, Client(ca, fake.server) as client:
        for _ in range(2):
            reply = await client.json(f"{HOST}{SIGN_IN}", {"credentials": RIGHT}, **JSON)
            assert (reply.status, reply.body["credentials"]["token"]) == (200, fake.live)
        for token, status in zip(fake.issued, (401, 200), strict=True):
            assert (await client.get(WORKBOOKS, **{"X-Tableau-Auth": token})).status == status
        fake.revoke()
        assert (await client.get(WORKBOOKS, **{"X-Tableau-Auth": fake.issued[-1]})).status == 401


@pytest.mark.parametrize("change", [{"personalAccessTokenSecret": "x"}, {"site": {}}, {"isUat": False}])
async def test_other_sign_ins_are_refused(change: dict[str, Any], ca: Authority) -> None:
    """With its own code."""
    async with Tableau(ca) as fake, Client(ca, fake.server) as client:
        reply = await client.json(f"{HOST}{SIGN_IN}", {"credentials": {**RIGHT, **change}}, **JSON)
        assert (reply.status, reply.body["error"]["code"]) == (401, "401001")
        assert (await client.json(f"{HOST}{SIGN_IN}", {"credentials": RIGHT})).status == 406
