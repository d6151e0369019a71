"""Logins of platforms end to end: what arrives at the login and at the API, and what becomes of tokens."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from fakes import tableau, toast
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import Arrived
from support.ca import Authority
from support.serving import problem, serving

TABLEAU = f"""\
  it:
    endpoint_prefix: https://10ax.online.tableau.com/api/{tableau.VERSION}
    auth:
      type: session
      login:
        url: https://10ax.online.tableau.com{tableau.SIGN_IN}
        body:
          credentials:
            personalAccessTokenName: {tableau.TOKEN_NAME}
            personalAccessTokenSecret: {{env: SECRET}}
            site: {{contentUrl: {tableau.CONTENT_URL}}}
      token: {{from: credentials.token, life: 2h}}
      placement: {{in: header, name: X-Tableau-Auth, scheme: ""}}
      single_live_token: true
"""
TOAST = f"""\
  it:
    auth:
      type: session
      login:
        url: https://ws-api.toasttab.com{toast.LOGIN}
        body: {{clientId: {CLIENT_ID}, clientSecret: {{env: SECRET}}, userAccessType: TOAST_MACHINE_CLIENT}}
      token: {{from: token.accessToken, expires_in: token.expiresIn}}
"""
WORKBOOKS = f"/sites/{tableau.SITE_ID}/workbooks?pageSize=1"


async def test_a_nested_login_brings_a_token_in_a_header_of_its_own(ca: Authority, tmp_path: Path) -> None:
    """Tableau: by both doors one sign-in, the token without a word before it, and nothing of either in the log."""
    async with (
        tableau.Tableau(ca) as fake,
        serving(TABLEAU, tmp_path, ca, hosts=fake.hosts, environ={"SECRET": tableau.TOKEN_SECRET}) as sidekey,
    ):
        assert (await sidekey.reverse(WORKBOOKS)).status == 200
        url = f"http://10ax.online.tableau.com/api/{tableau.VERSION}{WORKBOOKS}"
        assert (await sidekey.forward(url, "X-Tableau-Auth: mine")).status == 200
        login, *calls = fake.received
        assert login.body == json.dumps({"credentials": json.loads(login.body)["credentials"]}).encode()
        assert login.media_type == "application/json"
        assert [call.values("x-tableau-auth") for call in calls] == [[fake.live]] * 2
        assert [call.values("authorization") for call in calls] == [[], []]
        fake.revoke()
        assert (await sidekey.reverse(WORKBOOKS)).status == 200
        assert len(fake.issued) == 2
    text = (tmp_path / "sidekey.log").read_text()
    assert all(secret not in text for secret in (tableau.TOKEN_SECRET, *fake.issued))
