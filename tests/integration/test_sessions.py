"""Logins of platforms: requests to login and API, and replaced tokens."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from fakes import github_app, tableau, toast
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest
from support.files import replace
from support.http_get import get
from support.oauth import signer
from support.plane import eventually
from support.private_ca import Authority
from support.serving import RunningApp, problem, serving
from support.sidekey_process import SidekeyProcess

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
      token: {{from: credentials.token, lifetime: 2h}}
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
GITHUB = f"""\
  it:
    auth:
      type: session
      login:
        url: https://api.github.com{github_app.LOGIN}
        headers: {{Accept: application/vnd.github+json, X-GitHub-Api-Version: "2022-11-28"}}
        auth: {{type: jwt, algorithm: RS256, private_key: {{env: KEY}}, claims: {{iss: {github_app.CLIENT_ID}}}}}
      token: {{from: token, expires_at: expires_at}}
"""


def github(ca: Authority) -> Platform:
    """Build a fake that knows the app's key."""
    return github_app.GitHubApp(ca, RSAKey.import_key(signer().public_jwk))


class Case(NamedTuple):
    """A platform: its fake, the integration from the docs, and an API call through each proxy."""

    make: Callable[[Authority], Platform]
    text: str
    secret: dict[str, str]
    login: str
    path: str
    url: str
    fields: tuple[str, ...] = ()
    header: str = "authorization"


WORKBOOKS = f"/sites/{tableau.SITE_ID}/workbooks?pageSize=1"
CASES = {
    "tableau": Case(
        tableau.Tableau,
        TABLEAU,
        {"SECRET": tableau.TOKEN_SECRET},
        f"10ax.online.tableau.com{tableau.SIGN_IN}",
        WORKBOOKS,
        f"10ax.online.tableau.com/api/{tableau.VERSION}{WORKBOOKS}",
        header="x-tableau-auth",
    ),
    "toast": Case(
        toast.Toast,
        TOAST,
        {"SECRET": CLIENT_SECRET},
        f"ws-api.toasttab.com{toast.LOGIN}",
        "/orders/v2/ordersBulk",
        "ws-api.toasttab.com/orders/v2/ordersBulk",
        (f"Toast-Restaurant-External-ID: {toast.RESTAURANT}",),
    ),
    "github-app": Case(
        github,
        GITHUB,
        {"KEY": signer().private_pem.decode()},
        f"api.github.com{github_app.LOGIN}",
        "/installation/repositories",
        "api.github.com/installation/repositories",
        ("User-Agent: test",),
    ),
}


def served(case: Case, platform: Platform, folder: Path, ca: Authority) -> AbstractAsyncContextManager[RunningApp]:
    """Run a Sidekey with the integration of a case and the addresses of its fake."""
    return serving(case.text, folder, ca, hosts=platform.hosts, environ=case.secret)


@pytest.mark.parametrize("name", CASES)
async def test_plain_request_reaches_the_platform_with_a_token(name: str, ca: Authority, tmp_path: Path) -> None:
    """One login serves both proxies. Tokens of the caller are removed, and the log has none."""
    case = CASES[name]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca) as sidekey:
        responses = [
            await sidekey.reverse(case.path, *case.fields),
            await sidekey.forward(f"http://{case.url}", *case.fields, f"{case.header}: mine"),
        ]
        assert [response.status for response in responses] == [200] * 2
        login, *calls = platform.received
        assert f"{login.host}{login.path}" == case.login
        assert (sidekey.calls("ok"), len(calls)) == (1, 2)
        (token,) = {value for call in calls for value in call.values(case.header)}
        assert all(len(call.values(case.header)) == 1 for call in calls)
        assert await sidekey.metric('sidekey_credential_expiry_timestamp_seconds{integration="it",credential="token"}')
    text = (tmp_path / "sidekey.log").read_text()
    for secret in (token.removeprefix("Bearer "), *case.secret.values(), *login.values("authorization")):
        assert secret not in text
        assert json.dumps(secret) not in text


@pytest.mark.parametrize("name", CASES)
async def test_revoked_token_is_replaced(name: str, ca: Authority, tmp_path: Path) -> None:
    """The 401 causes one login and one retry, and the caller gets 200."""
    case = CASES[name]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca) as sidekey:
        assert (await sidekey.reverse(case.path, *case.fields)).status == 200
        getattr(platform, "tokens", platform).revoke()
        assert (await sidekey.reverse(case.path, *case.fields)).status == 200
        assert (sidekey.calls("ok"), len(platform.received)) == (2, 5)


@pytest.mark.parametrize("name", CASES)
async def test_login_is_never_a_target(name: str, ca: Authority, tmp_path: Path) -> None:
    """In any form of the path. The login is not called."""
    case = CASES[name]
    host, _, path = case.login.partition("/")
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca) as sidekey:
        for spelled in (path, path.upper(), f"{path}/", f"/{path}", f"{path[:-1]}%{ord(path[-1]):02x}"):
            response = await sidekey.forward(f"http://{host}/{spelled}", method="POST")
            assert problem(response)["code"] == "target_denied", spelled
        assert platform.received == []


async def test_github_app_logs_in_with_a_new_jwt(ca: Authority, tmp_path: Path) -> None:
    """POST without a body, with the headers of the config. Each login has a new JWT."""
    case = CASES["github-app"]
    async with case.make(ca) as platform, served(case, platform, tmp_path, ca) as sidekey:
        assert (await sidekey.reverse(case.path, *case.fields)).status == 200
        login = platform.received[0]
        assert (login.method, login.body) == ("POST", b"")
        assert login.values("content-length") == ["0"]
        assert login.values("content-type") == []
        assert login.values("accept") == ["application/vnd.github+json"]
        assert login.values("x-github-api-version") == ["2022-11-28"]
        scheme, _, token = (login.value("authorization") or "").partition(" ")
        claims = jwt.decode(token, RSAKey.import_key(signer().public_jwk), algorithms=["RS256"]).claims
        assert (scheme, claims["iss"], claims["exp"] - claims["iat"]) == ("Bearer", github_app.CLIENT_ID, 300)


@dataclass
class Login:
    """A login with scripted responses, and an API that accepts one token in one place."""

    answer: FakeResponse
    accepts: Callable[[ReceivedRequest], bool]
    refusal: int = 401

    def __post_init__(self) -> None:
        self.host = Host("127.0.0.1", self._respond, address="127.0.0.1", port=0)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        if received.path == "/login":
            return self.answer
        return FakeResponse.json(200 if self.accepts(received) else self.refusal, {})

    @property
    def logins(self) -> list[ReceivedRequest]:
        """Return every login request."""
        return [received for received in self.host.received if received.path == "/login"]


@asynccontextmanager
async def logging_in(
    login: Login, auth: str, ca: Authority, folder: Path, environ: dict[str, str] | None = None
) -> AsyncIterator[RunningApp]:
    """Run a Sidekey with a session. `{port}` in the block is that of the login."""
    await login.host.open(ca)
    try:
        text = f"  it: {{auth: {{type: session, {auth.replace('{port}', str(login.host.port))}}}}}\n"
        async with serving(text, folder, ca, environ=environ or {}) as sidekey:
            yield sidekey
    finally:
        await login.host.close()


def sent(received: ReceivedRequest) -> dict[str, str]:
    """Return the headers of a call without its default headers."""
    usual = {"Host", "Content-Length", "Accept-Encoding", "User-Agent", "Connection"}
    return {key.decode(): value.decode() for key, value in received.headers if key.decode() not in usual}


URL = "url: 'https://127.0.0.1:{port}/login'"


async def test_token_from_a_header_goes_into_the_query(ca: Authority, tmp_path: Path) -> None:
    """The login has a form and a query, and its response has no body."""
    response = FakeResponse(204, (("X-Auth-Token", "tok-1"),))
    login = Login(response, lambda received: received.query == "a=b&session=tok-1")
    auth = (
        f"login: {{{URL}, format: form, query: {{tenant: a b, n: 5}}, body: {{user: svc, password: {{env: PASSWORD}}, "
        "remember: true}}, token: {from: 'header:x-auth-token', lifetime: 1h}, placement: {in: query, name: session}"
    )
    async with logging_in(login, auth, ca, tmp_path, {"PASSWORD": "pä ss&"}) as sidekey:
        assert (await sidekey.reverse("/orders?a=b")).status == 200
        assert (await sidekey.reverse("/orders?session=mine")).status == 400
        assert "tok-1" not in sidekey.log.read_text()
    (received,) = login.logins
    assert (received.method, received.query) == ("POST", "tenant=a%20b&n=5")
    assert received.body == b"user=svc&password=p%C3%A4+ss%26&remember=true"
    assert sent(received) == {"Accept": "*/*", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("body", [b"tok-1", b'"tok-1"', b" tok-1\r\n", b'\xef\xbb\xbf"tok-1"'])
async def test_token_from_a_whole_body_goes_into_the_body(body: bytes, ca: Authority, tmp_path: Path) -> None:
    """The login uses GET and HTTP Basic. The token is text, or a JSON string."""
    login = Login(
        FakeResponse(200, (("Content-Type", "text/plain"),), body), lambda item: item.body == b'{"a":1,"key":"tok-1"}'
    )
    auth = (
        f"login: {{{URL}, method: GET, headers: {{X-App: {{secret: {{env: APP}}}}}}, "
        "auth: {type: basic, username: svc, password: {env: PASSWORD}}}, "
        "token: {from: body}, placement: {in: body, name: key}"
    )
    environ = {"PASSWORD": "hunter2", "APP": "app-key"}
    async with logging_in(login, auth, ca, tmp_path, environ) as sidekey:
        response = await sidekey.reverse("/orders", "Content-Type: application/json", method="POST", body=b'{"a":1}')
        assert response.status == 200, login.host.received[-1]
        assert all(secret not in sidekey.log.read_text() for secret in ("tok-1", *environ.values()))
    (received,) = login.logins
    assert (received.method, received.body) == ("GET", b"")
    basic = f"Basic {b64encode(b'svc:hunter2').decode()}"
    assert sent(received) == {"Authorization": basic, "Accept": "*/*", "X-App": "app-key"}


@pytest.mark.parametrize("status", [401, 403, 419, 440, 498])
async def test_configured_statuses_reject_a_token(status: int, ca: Authority, tmp_path: Path) -> None:
    """One login, and one retry with the same body. Other statuses pass without a login."""
    login = Login(
        FakeResponse.json(200, {"t": "tok-1"}), lambda item: item.value("x-s") == "Token tok-2", refusal=status
    )
    auth = (
        f"login: {{{URL}}}, token: {{from: t}}, placement: {{in: header, name: X-S, prefix: 'Token '}}, "
        f"rejected: [{status}], renewal_interval: 1s"
    )
    async with logging_in(login, auth, ca, tmp_path) as sidekey:
        login.refusal = 404
        assert (await sidekey.reverse("/orders")).status == 404
        assert len(login.logins) == 1
        login.refusal, login.answer = status, FakeResponse.json(200, {"t": "tok-2"})
        assert (await sidekey.reverse("/orders", method="POST", body=b"once")).status == 200
        assert len(login.logins) == 2
        calls = [(item.body, item.value("x-s")) for item in login.host.received if item.path != "/login"]
        assert calls[1:] == [(b"once", "Token tok-1"), (b"once", "Token tok-2")]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (FakeResponse.json(401, {"error": "hunter2"}), "login returned 401"),
        (FakeResponse(302, (("Location", "https://evil.example/hunter2"),)), "login returned 302"),
        (FakeResponse.json(200, {"error": "hunter2"}), "login did not return a usable token under t"),
        (FakeResponse.json(200, {"t": "hunter2 x"}), "login did not return a usable token under t"),
        (FakeResponse(200, (), b"hunter2"), "login did not return a JSON object"),
    ],
)
async def test_failed_login_is_reported_without_its_text(
    reply: FakeResponse, reason: str, ca: Authority, tmp_path: Path
) -> None:
    """Nothing is sent to the API, and the next login is delayed."""
    login = Login(reply, lambda _: True)
    async with logging_in(login, f"login: {{{URL}}}, token: {{from: t}}", ca, tmp_path) as sidekey:
        response = await sidekey.reverse("/orders")
        error = problem(response)
        assert (response.status, error["code"], error["detail"], error["sent"]) == (
            502,
            "credential_unavailable",
            reason,
            "no",
        )
        assert response.values(b"retry-after")
        assert (await sidekey.reverse("/orders")).status == 502
        assert [item.path for item in login.host.received] == ["/login"]
        assert "hunter2" not in sidekey.log.read_text()


async def test_reload_does_not_lift_the_limit_of_logins(ca: Authority, tmp_path: Path) -> None:
    """The API rejects each token at once. After two logins in a minute there are no more."""
    login = Login(FakeResponse.json(200, {"t": "tok"}), lambda _: False)
    auth = f"login: {{{URL}}}, token: {{from: t, lifetime: 1s}}, renewal_interval: 1s, logins_a_minute: 2"
    async with logging_in(login, auth, ca, tmp_path) as sidekey:
        while (response := await sidekey.reverse("/orders")).status != 502:
            assert response.status == 401
            await asyncio.sleep(0.05)
        assert problem(response)["detail"] == "login skipped: limit of 2 calls a minute reached"
        assert len(login.logins) == 2
        config = tmp_path / "sidekey.yaml"
        replace(config, config.read_text().replace("logins_a_minute: 2", "logins_a_minute: 1"))
        sidekey.hang_up()
        await sidekey.logged("config reloaded")
        assert problem(await sidekey.reverse("/orders"))["detail"].startswith("login skipped: limit of ")
        assert len(login.logins) == 2


async def test_session_is_kept_over_an_unrelated_reload(ca: Authority, tmp_path: Path) -> None:
    """After a change of description and status. Another user in the body causes a login."""
    login = Login(FakeResponse.json(200, {"t": "tok-1"}), lambda item: item.value("authorization") == "Bearer tok-1")
    auth = f"login: {{{URL}, body: {{user: ann}}}}, token: {{from: t, lifetime: 1h}}"
    async with logging_in(login, auth, ca, tmp_path) as sidekey:
        config = tmp_path / "sidekey.yaml"

        async def change(one: str, other: str) -> None:
            count = sum(line["event"] == "config reloaded" for line in sidekey.lines())
            replace(config, config.read_text().replace(one, other))
            sidekey.hang_up()
            await eventually(lambda: sum(line["event"] == "config reloaded" for line in sidekey.lines()) > count)

        assert (await sidekey.reverse("/orders")).status == 200
        await change("token: {from: t", "rejected: [401, 403], logins_a_minute: 9, token: {from: t")
        assert (await sidekey.reverse("/orders")).status == 200
        assert len(login.logins) == 1
        await change("user: ann", "user: ben")
        assert (await sidekey.reverse("/orders")).status == 200
        assert [json.loads(item.body) for item in login.logins] == [{"user": "ann"}, {"user": "ben"}]


async def test_many_cold_requests_make_one_login(ca: Authority, tmp_path: Path) -> None:
    login = Login(FakeResponse.json(201, {"t": "tok-1"}), lambda item: item.value("authorization") == "Bearer tok-1")
    async with logging_in(login, f"login: {{{URL}}}, token: {{from: 'json:t'}}", ca, tmp_path) as sidekey:
        responses = await asyncio.gather(*(sidekey.reverse("/orders") for _ in range(50)))
        assert {response.status for response in responses} == {200}
        assert len(login.logins) == 1


async def test_processes_share_the_session_of_a_user(ca: Authority, tmp_path: Path) -> None:
    """With one store, the second process uses the session of the first, and does not end it."""
    (tmp_path / "key").write_text(b64encode(bytes(range(32))).decode())
    async with tableau.Tableau(ca) as fake:
        network = {"allow_private": ["127.0.0.0/8"], "hosts": fake.hosts, "trusted_ca": {"file": str(ca.bundle)}}
        text = f"""\
network: {json.dumps(network)}
store: {{path: {tmp_path}/store.db, keys: [{{id: k1, key: {{file: {tmp_path}/key}}}}]}}
callers: {{all: {{token: {{insecure_value: caller}}, integrations: "*"}}}}
integrations:
{TABLEAU}"""
        secret = {"SECRET": tableau.TOKEN_SECRET}

        def send(child: SidekeyProcess) -> int:
            return get(child.proxy_port, f"/i/it{WORKBOOKS}", {"Sidekey-Token": "caller"}).status

        def both() -> list[int]:
            folders = [tmp_path / name for name in ("one", "two")]
            for folder in folders:
                folder.mkdir()
            children = [SidekeyProcess(text, folder, head=OF_CHILDREN, environment=secret) for folder in folders]
            with children[0] as one, children[1] as two:
                statuses = [send(child) for child in (one, two, one, two)]
                fake.revoke()
                with ThreadPoolExecutor(2) as pool:
                    statuses += pool.map(send, (one, two))
                return statuses

        assert await asyncio.to_thread(both) == [200] * 6
        assert len(fake.issued) == 2
        tokens = [call.value("x-tableau-auth") for call in fake.received if call.path != tableau.SIGN_IN]
        assert set(tokens[:4]) == {fake.issued[0]}


OF_CHILDREN = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
"""
