"""Responsys beyond the first 200: errors unrelated to the token, refreshes, and the rate limit of logins."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.responsys import PASSWORD, Responsys
from fakes.server import ReceivedRequest
from support.private_ca import Authority
from support.serving import problem, serving

AUTH = (
    "  it: {auth: {type: responsys, login_endpoint: 'https://login2.responsys.net', username: api_user, "
    "password: {env: PASSWORD}}}\n"
)


def served(responsys: Responsys, folder: Path, ca: Authority, auth: str = AUTH) -> object:
    return serving(auth, folder, ca, hosts=responsys.hosts, environ={"PASSWORD": PASSWORD})


def logins(responsys: Responsys) -> list[ReceivedRequest]:
    return [received for received in responsys.login.received if b"auth_type=password" in received.body]


async def test_token_goes_without_a_scheme_to_the_endpoint_only(ca: Authority, tmp_path: Path) -> None:
    """The login host receives only the login."""
    async with Responsys(ca) as responsys, served(responsys, tmp_path, ca) as sidekey:
        assert (await sidekey.forward("http://login2.responsys.net/rest/api/v1.3/campaigns")).status == 200
        assert [received.path for received in responsys.login.received] == ["/rest/api/v1.3/auth/token"]
        (call,) = responsys.api.received
        assert call.values("authorization") == responsys.issued
        assert call.values("host") == ["api2-009.responsys.net"]


@pytest.mark.parametrize(
    "code", ["API_LIMIT_EXCEEDED", "INSUFFICIENT_ACCESS", "API_DISABLED_FOR_USER", "ACCOUNT_SUSPENDED"]
)
async def test_other_refusal_passes_without_a_login(code: str, ca: Authority, tmp_path: Path) -> None:
    """Responsys returns 401 for several errors."""
    async with Responsys(ca) as responsys, served(responsys, tmp_path, ca) as sidekey:
        responsys.refuses_calls_with = code
        for _ in range(20):
            response = await sidekey.reverse("/campaigns")
            assert response.status == 401
            assert code.encode() in response.body
        assert len(responsys.login.received) == 1
        assert len(responsys.api.received) == 20


async def test_recorded_500_drops_the_token_without_a_retry(ca: Authority, tmp_path: Path) -> None:
    """The platform may have processed the request. The next request logs in."""
    async with Responsys(ca) as responsys, served(responsys, tmp_path, ca) as sidekey:
        responsys.complains_with_500 = True
        assert (await sidekey.reverse("/campaigns")).status == 200
        responsys.revoke()
        response = await sidekey.reverse("/campaigns", method="POST", body=b"{}")
        assert (response.status, b"Not a valid authentication token" in response.body) == (500, True)
        assert len(responsys.api.received) == 2
        assert (await sidekey.reverse("/campaigns")).status == 200
        assert len(logins(responsys)) == 2


async def test_at_most_five_logins_a_minute(ca: Authority, tmp_path: Path) -> None:
    """With tokens that never work, and 401 and 500 in turn. The limit of the platform is never reached."""
    async with Responsys(ca) as responsys, served(responsys, tmp_path, ca) as sidekey:
        responsys.lifetime = 0
        for number in range(40):
            responsys.complains_with_500 = bool(number % 2)
            assert (await sidekey.reverse("/campaigns")).status in (401, 500)
        assert len(responsys.login.received) <= 5


@pytest.mark.parametrize(
    "end_point",
    [
        "https://api.evil.example",
        "http://api2-009.responsys.net",
        "https://api2-009.responsys.net:8443",
        "https://user@api2-009.responsys.net",
        "https://responsys.net.evil.example",
        "https://evilresponsys.net",
        "https://api2-009.responsys.net/elsewhere",
        "",
    ],
)
async def test_endpoint_outside_the_allowed_domains_is_refused(end_point: str, ca: Authority, tmp_path: Path) -> None:
    """Neither the token nor the request is sent."""
    async with Responsys(ca) as responsys, served(responsys, tmp_path, ca) as sidekey:
        responsys.end_point = end_point
        response = await sidekey.reverse("/campaigns")
        error = problem(response)
        assert (error["code"], error["sent"]) == ("credential_unavailable", "no")
        assert "login" in error["detail"]
        assert "evil" not in error["detail"]
        assert responsys.api.received == []
        assert sidekey.calls("invalid") == 1


@pytest.mark.parametrize("end_point", ["api2-009.responsys.net", "https://api2-009.responsys.net/"])
async def test_endpoint_may_be_a_bare_host(end_point: str, ca: Authority, tmp_path: Path) -> None:
    """It means an https URL."""
    async with Responsys(ca) as responsys, served(responsys, tmp_path, ca) as sidekey:
        responsys.end_point = end_point
        assert (await sidekey.reverse("/campaigns")).status == 200


async def test_configured_domain_of_the_endpoint_is_allowed(ca: Authority, tmp_path: Path) -> None:
    auth = AUTH.replace("{auth:", "{allow_other_domains: true, allowed_domains: ['https://*.partner.example'], auth:")
    async with Responsys(ca, api="rsys.partner.example") as responsys, served(responsys, tmp_path, ca, auth) as sidekey:
        assert (await sidekey.reverse("/campaigns")).status == 200


async def test_other_targets_are_denied(ca: Authority, tmp_path: Path) -> None:
    """Another host of the platform, another version, and paths under auth in any form."""
    async with Responsys(ca) as responsys, served(responsys, tmp_path, ca) as sidekey:
        for url in (
            "http://api2-010.responsys.net/rest/api/v1.3/campaigns",
            "http://api2-009.responsys.net/rest/api/v1.1/campaigns",
            "http://api2-009.responsys.net/rest/api/ratelimit",
            "http://api2-009.responsys.net/rest/api/v1.3/auth/token",
            "http://login2.responsys.net/rest/api/v1.3/%61uth/token",
            "http://login2.responsys.net/rest/api/v1.3%2fauth%2ftoken",
        ):
            assert problem(await sidekey.forward(url, method="POST"))["code"] == "target_denied", url
        assert responsys.api.received == []
