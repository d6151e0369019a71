"""Each platform: a plain request of a caller reaches the API through both proxies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

import pytest

from fakes import (
    commercetools,
    contentsquare,
    criteo,
    entra,
    issuers,
    listrak,
    marketo,
    responsys,
    salesforce,
    salesforce_marketing_cloud,
    twilio,
)
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import Platform
from support import oauth
from support.private_ca import Authority
from support.serving import RunningApp, problem, serving

SECRETS = {
    "SECRET": CLIENT_SECRET,
    "PASSWORD": responsys.PASSWORD,
    "AKENEO": issuers.PASSWORD,
    "ARIBA": issuers.APPLICATION_KEY,
}


class Case(NamedTuple):
    """A platform: its fake, the `auth` block from the docs, and an API call through each proxy."""

    make: Callable[[Authority], Platform]
    auth: str
    path: str
    url: str
    method: str = "GET"
    header: str = "authorization"
    """The field that takes the token."""


def oauth2(provider: str, parameters: str = "") -> str:
    """Build an `auth` block with the parameters of a profile and a client."""
    return (
        f"{{type: oauth2, provider: {provider}, {parameters}client_id: '{CLIENT_ID}', client_secret: {{env: SECRET}}}}"
    )


REST = f"https://{salesforce_marketing_cloud.SUBDOMAIN}.rest.marketingcloudapis.com"
CASES = {
    "microsoft-entra": Case(
        entra.Entra,
        oauth2("microsoft-entra", f"tenant: {entra.TENANT}, scope: {entra.GRAPH}/.default, "),
        "/v1.0/users?$top=1",
        "http://graph.microsoft.com/v1.0/users?$top=1",
    ),
    "microsoft-entra-vault": Case(
        entra.Entra,
        oauth2(
            "microsoft-entra", f"tenant: {entra.TENANT}, scope: {entra.VAULT}/.default, api_host: {entra.VAULT_HOST}, "
        ),
        "/secrets/db?api-version=7.4",
        f"http://{entra.VAULT_HOST}/secrets/db?api-version=7.4",
    ),
    "commercetools": Case(
        commercetools.Commercetools,
        oauth2("commercetools", f"region: {commercetools.REGION}, project_key: {commercetools.PROJECT}, "),
        f"/{commercetools.PROJECT}/orders",
        f"http://api.{commercetools.REGION}.commercetools.com/{commercetools.PROJECT}/orders",
    ),
    "commercetools-import": Case(
        commercetools.Commercetools,
        oauth2("commercetools", f"region: {commercetools.REGION}, scope: 'manage_project:{commercetools.PROJECT}', "),
        f"/{commercetools.PROJECT}/orders",
        f"http://import.{commercetools.REGION}.commercetools.com/{commercetools.PROJECT}/import-containers",
    ),
    "contentsquare": Case(
        contentsquare.Contentsquare,
        oauth2("contentsquare", "scope: data-export, "),
        "/v1/exports",
        f"http://{contentsquare.CLOUD}/v1/exports",
    ),
    "salesforce": Case(
        salesforce.Salesforce,
        oauth2("salesforce", f"domain: {salesforce.DOMAIN}, "),
        "/services/data/v66.0/query?q=1",
        f"http://{salesforce.HOST}/services/data/v66.0/query?q=1",
    ),
    "twilio": Case(
        twilio.Twilio, oauth2("twilio"), "/2010-04-01/Accounts.json", "http://messaging.twilio.com/v1/Services"
    ),
    "criteo": Case(
        criteo.Criteo, oauth2("criteo"), "/2026-01/campaigns", "http://api.criteo.com/2026-01/campaigns", "POST"
    ),
    "listrak": Case(listrak.Listrak, oauth2("listrak"), "/email/v1/List", "http://api.listrak.com/email/v1/List"),
    "salesforce-marketing-cloud": Case(
        salesforce_marketing_cloud.SalesforceMarketingCloud,
        oauth2(
            "salesforce-marketing-cloud", f"subdomain: {salesforce_marketing_cloud.SUBDOMAIN}, account_id: 7281234, "
        ),
        "/asset/v1/content/assets",
        f"{REST.replace('https', 'http')}/asset/v1/content/assets",
    ),
    "shopify": Case(
        issuers.issuing(issuers.SHOPIFY),
        oauth2("shopify", "shop: my-store, "),
        "/admin/api/2026-01/products.json",
        "http://my-store.myshopify.com/admin/api/2026-01/products.json",
        header="x-shopify-access-token",
    ),
    "infobip-oauth": Case(
        issuers.issuing(issuers.INFOBIP),
        oauth2("infobip-oauth", "base: 4ktdq1, "),
        "/sms/3/messages",
        "http://4ktdq1.api.infobip.com/sms/3/messages",
        "POST",
    ),
    "trustpilot": Case(
        issuers.issuing(issuers.TRUSTPILOT),
        oauth2("trustpilot"),
        "/v1/private/business-units/1/reviews",
        "http://api.trustpilot.com/v1/private/business-units/1/reviews",
    ),
    "ups": Case(
        issuers.issuing(issuers.UPS),
        oauth2("ups"),
        "/api/rating/v2409/Shop",
        "http://onlinetools.ups.com/api/rating/v2409/Shop",
        "POST",
    ),
    "crowdstrike": Case(
        issuers.issuing(issuers.CROWDSTRIKE),
        oauth2("crowdstrike", "host: api.eu-1.crowdstrike.com, "),
        "/devices/queries/devices/v1?limit=1",
        "http://api.eu-1.crowdstrike.com/devices/queries/devices/v1?limit=1",
    ),
    "ebay": Case(
        issuers.issuing(issuers.EBAY),
        oauth2("ebay"),
        "/buy/browse/v1/item_summary/search?q=1",
        "http://api.ebay.com/buy/browse/v1/item_summary/search?q=1",
    ),
    "zoom": Case(
        issuers.issuing(issuers.ZOOM),
        oauth2("zoom", f"account_id: {issuers.ACCOUNT_ID}, "),
        "/v2/users",
        "http://api.zoom.us/v2/users",
    ),
    "sap-ariba": Case(
        issuers.issuing(issuers.ARIBA),
        oauth2("sap-ariba", "data_center: api-eu, application_key: {env: ARIBA}, "),
        "/api/approval/v2/prod/pendingApprovables?realm=acme",
        "http://openapi-eu.ariba.com/api/approval/v2/prod/pendingApprovables?realm=acme",
    ),
    "akeneo": Case(
        issuers.issuing(issuers.AKENEO),
        oauth2(
            "akeneo", f"tenant: acme, grant: {{type: password, username: {issuers.USER}, password: {{env: AKENEO}}}}, "
        ),
        "/api/rest/v1/products",
        "http://acme.cloud.akeneo.com/api/rest/v1/products",
        "POST",
    ),
    "responsys": Case(
        responsys.Responsys,
        "{type: responsys, login_endpoint: 'https://login2.responsys.net/', username: api_user, "
        "password: {env: PASSWORD}}",
        "/campaigns?limit=1",
        "http://login2.responsys.net/rest/api/v1.3/campaigns?limit=1",
    ),
}


def served(
    case: Case, platform: Platform, folder: Path, ca: Authority, environ: dict[str, str]
) -> AbstractAsyncContextManager[RunningApp]:
    """Run a Sidekey with the integration of a case and the addresses of its fake."""
    text = f"  it: {{auth: {case.auth}}}\n"
    return serving(text, folder, ca, hosts=platform.hosts, environ=environ)


@pytest.mark.parametrize("name", CASES)
async def test_plain_request_reaches_the_platform_with_a_token(name: str, ca: Authority, tmp_path: Path) -> None:
    """One token serves both proxies. Neither the caller nor the log gets it."""
    case = CASES[name]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
        body = b"{}" if case.method == "POST" else b""
        fields = ("Content-Type: application/json",) if body else ()
        responses = [
            await sidekey.reverse(case.path, *fields, method=case.method, body=body),
            await sidekey.forward(case.url, *fields, method=case.method, body=body),
            await sidekey.reverse(case.path, *fields, method=case.method, body=body),
        ]
        assert [response.status for response in responses] == [200] * 3
        assert (sidekey.calls("ok"), len(platform.received)) == (1, 4)
        api = [received for received in platform.received if received.values("via")]
        assert len({tuple(received.values(case.header)) for received in api}) == 1
        (token,) = api[0].values(case.header)
        assert await sidekey.metric('sidekey_token_requests_total{integration="it",outcome="ok"}') == 1
        assert await sidekey.metric('sidekey_credential_expiry_timestamp_seconds{integration="it",credential="token"}')
    text = (tmp_path / "sidekey.log").read_text()
    for secret in (token.removeprefix("Bearer "), *SECRETS.values()):
        assert secret not in text


@pytest.mark.parametrize("name", CASES)
async def test_revoked_token_is_replaced(name: str, ca: Authority, tmp_path: Path) -> None:
    """The rejection causes one new token and one retry, and the caller gets 200."""
    case = CASES[name]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
        assert (await sidekey.reverse(case.path, method=case.method)).status == 200
        getattr(platform, "tokens", platform).revoke()
        assert (await sidekey.reverse(case.path, method=case.method)).status == 200
        assert sidekey.calls("ok") == 2
        assert (await sidekey.reverse(case.path, method=case.method)).status == 200
        assert len([received for received in platform.received if received.values("via")]) == 4


@pytest.mark.parametrize("name", CASES)
async def test_wrong_secret_is_reported_without_it(name: str, ca: Authority, tmp_path: Path) -> None:
    """credential_unavailable contains the step and the platform's code. Neither API nor endpoint is called again."""
    case = CASES[name]
    wrong = dict.fromkeys(SECRETS, "not-it-at-all")
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca, wrong) as sidekey:
        response = await sidekey.reverse(case.path, method=case.method)
        error = problem(response)
        assert (response.status, error["code"], error["sent"]) == (502, "credential_unavailable", "no")
        assert error["detail"].startswith("login returned 400" if name == "responsys" else "token endpoint returned 4")
        assert int(response.values(b"retry-after")[0]) >= 1
        assert (await sidekey.reverse(case.path, method=case.method)).status == 502
        assert (sidekey.calls("refused"), len(platform.received)) == (1, 1)
        assert b"not-it-at-all" not in response.body


@pytest.mark.parametrize("name", CASES)
async def test_token_endpoint_is_never_a_target(name: str, ca: Authority, tmp_path: Path) -> None:
    """Through neither proxy, in any form of the path. The endpoint is not called."""
    case = CASES[name]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
        for host, path in ENDPOINTS[name]:
            for spelled in (
                path,
                path.upper(),
                path + "/",
                path.replace("/", "//", 1),
                path[:-1] + f"%{ord(path[-1]):02x}",
            ):
                response = await sidekey.forward(f"http://{host}{spelled}", method="POST")
                assert problem(response)["code"] == "target_denied", spelled
        assert platform.received == []


ENDPOINTS = {
    "microsoft-entra": [("login.microsoftonline.com", f"/{entra.TENANT}/oauth2/v2.0/token")],
    "microsoft-entra-vault": [("login.microsoftonline.com", f"/{entra.TENANT}/oauth2/v2.0/token")],
    "commercetools": [(f"auth.{commercetools.REGION}.commercetools.com", "/oauth/token")],
    "commercetools-import": [(f"auth.{commercetools.REGION}.commercetools.com", "/oauth/token")],
    "contentsquare": [
        ("api.contentsquare.com", contentsquare.TOKEN_PATH),
        # The clouds issue tokens at the same path.
        (contentsquare.CLOUD, contentsquare.TOKEN_PATH),
    ],
    "salesforce": [(salesforce.HOST, salesforce.TOKEN_PATH)],
    "twilio": [("oauth.twilio.com", twilio.TOKEN_PATH)],
    "criteo": [("api.criteo.com", "/oauth2/token")],
    "listrak": [("auth.listrak.com", "/OAuth2/Token")],
    "salesforce-marketing-cloud": [
        (f"{salesforce_marketing_cloud.SUBDOMAIN}.auth.marketingcloudapis.com", "/v2/token")
    ],
    "shopify": [(issuers.SHOPIFY.host, issuers.SHOPIFY.token_path)],
    "infobip-oauth": [(issuers.INFOBIP.host, issuers.INFOBIP.token_path)],
    "trustpilot": [(issuers.TRUSTPILOT.host, issuers.TRUSTPILOT.token_path)],
    "ups": [(issuers.UPS.host, issuers.UPS.token_path)],
    "crowdstrike": [(issuers.CROWDSTRIKE.host, issuers.CROWDSTRIKE.token_path)],
    "ebay": [(issuers.EBAY.host, issuers.EBAY.token_path)],
    "zoom": [(issuers.ZOOM.host, issuers.ZOOM.token_path)],
    "sap-ariba": [(issuers.ARIBA.host, issuers.ARIBA.token_path)],
    "akeneo": [(issuers.AKENEO.host, issuers.AKENEO.token_path)],
    "responsys": [
        ("login2.responsys.net", "/rest/api/v1.3/auth/token"),
        ("api2-009.responsys.net", "/rest/api/v1.3/auth"),
        ("api2-009.responsys.net", "/rest/api/v1.1/auth/token"),
    ],
}


async def test_entra_token_goes_only_to_the_hosts_of_its_scope(ca: Authority, tmp_path: Path) -> None:
    """A token for a vault does not go to Graph or Azure Resource Manager, for example."""
    vault, graph = CASES["microsoft-entra-vault"], CASES["microsoft-entra"]
    for case, others in (
        (vault, (entra.GRAPH, entra.MANAGEMENT)),
        (graph, (entra.MANAGEMENT, f"https://{entra.VAULT_HOST}")),
    ):
        async with case.make(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
            for other in others:
                response = await sidekey.forward(f"{other.replace('https', 'http')}/v1.0/users")
                assert problem(response)["code"] == "target_denied"
            assert platform.received == []


async def test_entra_accepts_an_assertion_that_a_certificate_verifies(ca: Authority, tmp_path: Path) -> None:
    """As the notes of the profile describe it."""
    signer = oauth.signer()
    (tmp_path / "client.key").write_bytes(signer.private_pem)
    (tmp_path / "client.crt").write_bytes(signer.certificate_pem)
    method = "type: private_key_jwt, algorithm: PS256, private_key: {file: client.key}, certificate: {file: client.crt}"
    auth = (
        f"{{type: oauth2, provider: microsoft-entra, tenant: {entra.TENANT}, scope: {entra.GRAPH}/.default, "
        f"client_id: '{CLIENT_ID}', client_authentication: {{{method}}}}}"
    )
    async with (
        entra.Entra(ca, certificate=signer.certificate) as platform,
        serving(f"  it: {{auth: {auth}}}\n", tmp_path, ca, hosts=platform.hosts) as sidekey,
    ):
        assert (await sidekey.reverse("/v1.0/users")).status == 200


async def test_contentsquare_token_goes_only_to_its_base_url(ca: Authority, tmp_path: Path) -> None:
    """Learned before or by this request. Requests to the host of the token endpoint go to the base URL, too."""
    case = CASES["contentsquare"]
    async with contentsquare.Contentsquare(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
        for _ in range(2):
            response = await sidekey.forward(f"http://{contentsquare.OTHER}/v1/exports")
            assert problem(response)["code"] == "target_denied"
        assert (await sidekey.forward("http://api.contentsquare.com/v1/exports")).status == 200
        assert (await sidekey.forward(case.url)).status == 200
        assert (platform.other.received, len(platform.cloud.received), len(platform.auth.received)) == ([], 2, 1)


@pytest.mark.parametrize("endpoint", ["https://api.evil.example", "https://contentsquare.com.evil.example", ""])
async def test_foreign_base_url_is_refused(endpoint: str, ca: Authority, tmp_path: Path) -> None:
    """A forged token response cannot send the token elsewhere."""
    case = CASES["contentsquare"]
    async with (
        contentsquare.Contentsquare(ca, endpoint=endpoint) as platform,
        served(case, platform, tmp_path, ca, SECRETS) as sidekey,
    ):
        assert problem(await sidekey.reverse(case.path))["code"] == "credential_unavailable"
        assert platform.cloud.received == platform.other.received == []


async def test_the_soap_host_of_marketing_cloud_gets_no_token(ca: Authority, tmp_path: Path) -> None:
    """It accepts a token only in the SOAP envelope."""
    case = CASES["salesforce-marketing-cloud"]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
        url = f"http://{salesforce_marketing_cloud.SUBDOMAIN}.soap.marketingcloudapis.com/Service.asmx"
        assert problem(await sidekey.forward(url, method="POST"))["code"] == "target_denied"
        assert platform.received == []


async def test_salesforce_token_is_used_for_the_shortest_session(ca: Authority, tmp_path: Path) -> None:
    """The response contains no lifetime."""
    case = CASES["salesforce"]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
        before = time.time()
        assert (await sidekey.reverse(case.path)).status == 200
        name = 'sidekey_credential_expiry_timestamp_seconds{integration="it",credential="token"}'
        assert 895 <= await sidekey.metric(name) - before <= 900 + time.time() - before


async def test_marketo_gets_its_secret_in_the_body(ca: Authority, tmp_path: Path) -> None:
    """Proxies and servers log URLs. The token works through both proxies."""
    case = Case(
        marketo.Marketo,
        oauth2("marketo", f"munchkin_id: {marketo.MUNCHKIN_ID}, "),
        "/rest/v1/leads.json?filterType=email",
        f"http://{marketo.HOST}/rest/v1/leads.json",
    )
    async with marketo.Marketo(ca) as platform, served(case, platform, tmp_path, ca, SECRETS) as sidekey:
        for response in (await sidekey.reverse(case.path), await sidekey.forward(case.url)):
            assert (response.status, json.loads(response.body)["success"]) == (200, True)
        asked = platform.received[0]
        assert (asked.method, asked.path, asked.query) == ("POST", marketo.TOKEN_PATH, "")
        assert dict(parse_qsl(asked.body.decode())) == {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }


async def test_every_host_of_a_serving_test_is_a_fake(ca: Authority) -> None:
    """Each name has a loopback address, so no test of this file can reach a real platform."""
    for case in CASES.values():
        async with case.make(ca) as platform:
            assert all(address.startswith("127.") for result in platform.hosts.values() for address in result)
