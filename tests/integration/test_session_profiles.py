"""Profiles of logins: only parameters and secrets, against the platforms' fakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from joserfc.jwk import RSAKey

from fakes import github_app, tableau, toast, yotpo
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import Platform
from support.oauth import signer, stranger
from support.private_ca import Authority
from support.serving import problem, serving


class Case(NamedTuple):
    """A platform: its fake, the `auth` block, the value of its reference, and an API call."""

    make: Callable[[Authority], Platform]
    auth: str
    secret: str
    wrong: str
    path: str
    fields: tuple[str, ...] = ()


CASES = {
    "tableau": Case(
        tableau.Tableau,
        f"{{type: session, provider: tableau, pod: 10ax, site: {tableau.CONTENT_URL}, "
        f"token_name: {tableau.TOKEN_NAME}, token_secret: {{env: SECRET}}}}",
        tableau.TOKEN_SECRET,
        "not-it-at-all",
        f"/sites/{tableau.SITE_ID}/workbooks",
    ),
    "toast": Case(
        toast.Toast,
        f"{{type: session, provider: toast, api: ws-api, toast_client_id: {CLIENT_ID}, "
        "toast_client_secret: {env: SECRET}}",
        CLIENT_SECRET,
        "not-it-at-all",
        "/orders/v2/ordersBulk",
        (f"Toast-Restaurant-External-ID: {toast.RESTAURANT}",),
    ),
    "yotpo": Case(
        yotpo.Yotpo,
        f"{{type: session, provider: yotpo, store_id: {yotpo.STORE_ID}, api_secret: {{env: SECRET}}}}",
        yotpo.API_SECRET,
        "not-it-at-all",
        f"{yotpo.STORE}/orders",
    ),
    "github-app": Case(
        lambda ca: github_app.GitHubApp(ca, RSAKey.import_key(signer().public_jwk)),
        f"{{type: session, provider: github-app, app_client_id: {github_app.CLIENT_ID}, "
        f"installation_id: '{github_app.INSTALLATION}', app_private_key: {{env: SECRET}}}}",
        signer().private_pem.decode(),
        stranger().private_pem.decode(),
        "/installation/repositories",
        ("User-Agent: tests",),
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_login_of_a_profile_gives_access_to_the_api(name: str, ca: Authority, tmp_path: Path) -> None:
    """One login for two calls."""
    case = CASES[name]
    async with (
        case.make(ca) as fake,
        serving(
            f"  it: {{auth: {case.auth}}}\n", tmp_path, ca, hosts=fake.hosts, environ={"SECRET": case.secret}
        ) as sidekey,
    ):
        assert [(await sidekey.reverse(case.path, *case.fields)).status for _ in range(2)] == [200, 200]
        assert (sidekey.calls("ok"), len(fake.received)) == (1, 3)
    assert case.secret not in (tmp_path / "sidekey.log").read_text()


@pytest.mark.parametrize("name", CASES)
async def test_login_with_a_wrong_secret_is_refused(name: str, ca: Authority, tmp_path: Path) -> None:
    """Nothing reaches the API."""
    case = CASES[name]
    async with (
        case.make(ca) as fake,
        serving(
            f"  it: {{auth: {case.auth}}}\n", tmp_path, ca, hosts=fake.hosts, environ={"SECRET": case.wrong}
        ) as sidekey,
    ):
        response = await sidekey.reverse(case.path, *case.fields)
        assert (response.status, problem(response)["code"]) == (502, "credential_unavailable")
        assert (sidekey.calls("refused"), len(fake.received)) == (1, 1)
