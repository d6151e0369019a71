"""Real token endpoints: npm oidc-provider and Authlib's server, with every client authentication and every grant."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from base64 import b64encode
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from joserfc import jws

from fakes.server import FakeResponse, Host, ReceivedRequest
from sidekey.tokens import service
from support import authlib_server, oauth, oidc
from support.authlib_server import AuthlibServer
from support.files import replace
from support.oidc import OidcProvider
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.serving import RunningApp, problem, serving

PAUSE = 0.05
"""Seconds between two requests where they go on until tokens have ended: for the machine's sake."""

ENVIRON = {
    "OIDC_SECRET": oidc.SECRET,
    "OIDC_SIGNING_SECRET": oidc.SIGNING_SECRET,
    "AUTHLIB_SECRET": authlib_server.SECRET,
    "AUTHLIB_SIGNING_SECRET": authlib_server.SIGNING_SECRET,
}


def auth(endpoint: str, more: str) -> str:
    """Build an integration whose only allowed base URL is that of the token endpoint."""
    return f"  it: {{auth: {{type: oauth2, token_endpoint: '{endpoint}', {more}}}}}\n"


def key(folder: Path) -> str:
    """Write the client's private key to a file, and return the reference."""
    path = folder / "client.pem"
    path.write_bytes(oauth.signer().private_pem)
    return f"private_key: {{file: {path}}}"


def signed_by_key(folder: Path) -> str:
    """Build client authentication with the client's private key."""
    return f"{{type: private_key_jwt, {key(folder)}}}"


OIDC_METHODS = {
    "header": "client_id: basic, client_secret: {env: OIDC_SECRET}",
    "body": "client_id: post, client_secret: {env: OIDC_SECRET}, client_authentication: body",
    "client_secret_jwt": "client_id: hmac, client_secret: {env: OIDC_SIGNING_SECRET}, "
    "client_authentication: client_secret_jwt",
    "private_key_jwt": "client_id: jwt, client_authentication: {KEY}",
}


async def test_oidc_provider_accepts_each_client_authentication(ca: Authority, tmp_path: Path) -> None:
    """Requests succeed through both proxies, with one token."""
    with OidcProvider(tmp_path, ca.leaf("127.0.0.1")) as provider:
        for number, (method, more) in enumerate(OIDC_METHODS.items(), 1):
            client = more.replace("{KEY}", signed_by_key(tmp_path))
            text = auth(provider.token_endpoint, f"{client}, token_request: {{body: {{scope: orders}}}}")
            async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
                response = await sidekey.reverse("/api/orders")
                assert (response.status, json.loads(response.body)["scope"]) == (200, "orders"), method
                assert (await sidekey.forward(f"https://127.0.0.1:{provider.port}/api/orders")).status == 200, method
                counts = json.loads((await sidekey.reverse("/counts")).body)
                assert counts == {"issued": number, "accepted": 2 * number, "refused": 0}, method


async def test_short_lifetimes_under_load_send_no_expired_token(ca: Authority, tmp_path: Path) -> None:
    """Tokens of two seconds over several lifetimes, refreshed in the background."""
    with OidcProvider(tmp_path, ca.leaf("127.0.0.1"), lifetime=2) as provider:
        text = auth(provider.token_endpoint, OIDC_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            counts = {"issued": 0, "accepted": 0, "refused": 0}
            while counts["issued"] < 5:
                responses = await asyncio.gather(*(sidekey.reverse("/api/orders") for _ in range(8)))
                assert {response.status for response in responses} == {200}
                counts = json.loads((await sidekey.reverse("/counts")).body)
                await asyncio.sleep(PAUSE)
            assert counts["refused"] == 0


AUTHLIB_METHODS = {
    "header": "client_id: basic, client_secret: {env: AUTHLIB_SECRET}",
    "body": "client_id: post, client_secret: {env: AUTHLIB_SECRET}, client_authentication: body",
    "client_secret_jwt": "client_id: hmac, client_secret: {env: AUTHLIB_SIGNING_SECRET}, "
    "client_authentication: client_secret_jwt",
    "client_secret_jwt with a key ID": "client_id: hmac, client_secret: {env: AUTHLIB_SIGNING_SECRET}, "
    "client_authentication: {type: client_secret_jwt, algorithm: HS256, key_id: k1}",
    "private_key_jwt": "client_id: jwt, client_authentication: {KEY}",
}


@pytest.mark.parametrize("method", AUTHLIB_METHODS)
async def test_authlib_accepts_each_client_authentication(method: str, ca: Authority, tmp_path: Path) -> None:
    """Authlib refuses a client with another method, or with two methods in one request."""
    more = AUTHLIB_METHODS[method].replace("{KEY}", signed_by_key(tmp_path))
    async with AuthlibServer(ca) as server:
        async with serving(auth(server.token_endpoint, more), tmp_path, ca, environ=ENVIRON) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
        asked = server.received[0]
        fields = dict(parse_qsl(asked.body.decode()))
        assert fields["grant_type"] == "client_credentials"
        assert asked.values("accept") == ["application/json"]
        assert asked.media_type == "application/x-www-form-urlencoded"
        assert bool(asked.values("authorization")) is (method == "header")
        assert ("client_secret" in fields) is (method == "body")
        assert ("client_assertion" in fields) is ("jwt" in method)


async def test_wrong_client_authentication_is_reported_by_its_code(ca: Authority, tmp_path: Path) -> None:
    """`invalid_client` (RFC 6749 5.2), without other parts of the response."""
    more = AUTHLIB_METHODS["header"] + ", client_authentication: body"
    async with (
        AuthlibServer(ca) as server,
        serving(auth(server.token_endpoint, more), tmp_path, ca, environ=ENVIRON) as sidekey,
    ):
        response = await sidekey.reverse("/api/orders")
        assert problem(response)["detail"] == "token endpoint returned 401 invalid_client"
        assert problem(response)["code"] == "credential_unavailable"
        assert response.values(b"proxy-status") == [b"sidekey; error=proxy_configuration_error"]


async def test_assertion_is_used_once_and_expires_within_minutes(ca: Authority, tmp_path: Path) -> None:
    """RFC 7523 3, RFC 9700 2.5: jti, exp and aud. Authlib refuses a repeated jti."""
    more = AUTHLIB_METHODS["private_key_jwt"].replace("{KEY}", signed_by_key(tmp_path))
    async with AuthlibServer(ca, lifetime=2) as server:
        async with serving(auth(server.token_endpoint, more), tmp_path, ca, environ=ENVIRON) as sidekey:
            while len([received for received in server.received if received.path == "/token"]) < 2:
                assert (await sidekey.reverse("/api/orders")).status == 200
                await asyncio.sleep(PAUSE)
        asked = [received for received in server.received if received.path == "/token"]
        claims = [assertion_claims(dict(parse_qsl(received.body.decode()))["client_assertion"]) for received in asked]
        assert len({item["jti"] for item in claims}) == len(asked)
        assert all(0 < item["exp"] - item["iat"] <= 300 for item in claims)
        assert all((item["iss"], item["sub"], item["aud"]) == ("jwt", "jwt", server.token_endpoint) for item in claims)


def assertion_claims(token: str) -> dict[str, object]:
    claims: dict[str, object] = json.loads(jws.extract_compact(token.encode()).payload)
    return claims


async def test_jwt_bearer_grant_needs_no_client_secret(ca: Authority, tmp_path: Path) -> None:
    """RFC 7523 2.1. For example, Google service accounts and Salesforce."""
    more = f"client_id: jwt, grant: {{type: jwt_bearer, {key(tmp_path)}, subject: ann, claims: {{scope: orders}}}}"
    async with AuthlibServer(ca) as server:
        async with serving(auth(server.token_endpoint, more), tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
        fields = dict(parse_qsl(server.received[0].body.decode()))
        assert fields["grant_type"] == oauth.JWT_BEARER
        claims = assertion_claims(fields["assertion"])
        assert (claims["iss"], claims["sub"], claims["scope"]) == ("jwt", "ann", "orders")


@pytest.mark.parametrize("rotates", [False, True])
async def test_rotated_refresh_token_is_used(rotates: bool, ca: Authority, tmp_path: Path) -> None:
    """RFC 6749 6"""
    async with AuthlibServer(ca, lifetime=2) as server:
        environ = ENVIRON | {"REFRESH": server.refresh_token(rotates=rotates)}
        more = AUTHLIB_METHODS["header"] + ", grant: {type: refresh_token, refresh_token: {env: REFRESH}}"
        async with serving(auth(server.token_endpoint, more), tmp_path, ca, environ=environ) as sidekey:
            while sidekey.calls("ok") < 3:
                assert (await sidekey.reverse("/api/orders")).status == 200
                await asyncio.sleep(PAUSE)
            assert sidekey.calls("refused") == 0
        asked = [received for received in server.received if received.path == "/token"]
        used = [dict(parse_qsl(received.body.decode()))["refresh_token"] for received in asked]
        assert len(set(used)) == (len(used) if rotates else 1)


async def test_five_hundred_cold_requests_make_one_call(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They all wait for one attempt."""
    monkeypatch.setattr(service, "TOKEN_TIMEOUT", DEADLINE)
    async with AuthlibServer(ca) as server:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.host.delay = asyncio.Event()
            asking = [asyncio.create_task(sidekey.reverse("/api/orders")) for _ in range(500)]
            await flying(sidekey, 500)
            server.host.delay.set()
            assert {response.status for response in await asyncio.gather(*asking)} == {200}
            assert sidekey.calls("ok") == 1


async def flying(sidekey: RunningApp, count: int) -> None:
    """Wait until this many requests are in flight."""
    while sidekey.app.metrics.in_flight < count:
        await asyncio.sleep(0.01)


async def test_first_caller_that_disconnects_does_not_cancel_the_call(ca: Authority, tmp_path: Path) -> None:
    async with AuthlibServer(ca) as server:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.host.delay = asyncio.Event()
            leader = asyncio.create_task(sidekey.reverse("/api/first"))
            await flying(sidekey, 1)
            waiter = asyncio.create_task(sidekey.reverse("/api/second"))
            await flying(sidekey, 2)
            leader.cancel()
            while sidekey.app.metrics.in_flight > 1:
                await asyncio.sleep(0.01)
            server.host.delay.set()
            assert (await waiter).status == 200
            assert [received.path for received in server.received] == ["/token", "/api/second"]


async def test_endpoint_that_is_down_matters_only_without_a_valid_token(ca: Authority, tmp_path: Path) -> None:
    """Requests use the current token. Without one, the upstream is not contacted."""
    async with AuthlibServer(ca) as server, AuthlibServer(ca) as api:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"]).replace(
            "{auth:", f"{{allow_other_domains: true, allowed_domains: ['https://127.0.0.1:{api.port}'], auth:"
        )
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            await server.host.close()
            responses = await asyncio.gather(*(sidekey.reverse("/api/orders") for _ in range(50)))
            assert {problem(response)["code"] for response in responses} == {"credential_unavailable"}
            assert {problem(response)["detail"] for response in responses} == {
                "token endpoint: it refused the connection"
            }
            assert (sidekey.calls("unreachable"), api.received) == (1, [])
            await server.host.open()
            while (response := await sidekey.reverse("/api/orders")).status == 502:
                await asyncio.sleep(0.1)
            # The token is of the other server, which is what this upstream says of it.
            assert response.status == 401
            await server.host.close()
            assert (await sidekey.reverse("/api/orders")).status == 401


@pytest.mark.parametrize(("status", "outcome"), [(429, "rate_limited"), (503, "unreachable")])
async def test_retry_after_is_honoured(status: int, outcome: str, ca: Authority, tmp_path: Path) -> None:
    """Sidekey sends no earlier call, and callers get Retry-After."""
    async with AuthlibServer(ca) as server:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.host.fail_next(status, {"Retry-After": "3000"}, b"secret words")
            for _ in range(3):
                response = await sidekey.reverse("/api/orders")
                assert problem(response)["detail"] == f"token endpoint returned {status}"
                assert 2900 <= int(response.values(b"retry-after")[0]) <= 3000
            assert (sidekey.calls(outcome), len(server.received)) == (1, 1)


async def test_response_with_201_and_gzip_is_accepted(ca: Authority, tmp_path: Path) -> None:
    """Although Sidekey did not request gzip. The upstream refuses the token, which it did not issue."""
    async with AuthlibServer(ca) as server:
        token = {"access_token": "tok-created", "token_type": "Bearer", "expires_in": 3600}
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.host.fail_next(201, {"Content-Encoding": "gzip"}, gzip.compress(json.dumps(token).encode()))
            assert (await sidekey.reverse("/api/orders")).status == 200
            asked, received, *_ = server.received
            assert asked.values("accept-encoding") == ["identity"]
            assert (received.path, received.values("authorization")) == ("/api/orders", ["Bearer tok-created"])


@pytest.mark.parametrize(
    ("coding", "body", "detail"),
    [
        ("br", b"ok", "token endpoint returned a content coding other than gzip, which was not requested"),
        ("gzip", b"{}", "token endpoint returned a body that is not valid gzip"),
        ("gzip", gzip.compress(bytes(2 << 20)), "token endpoint returned more than 1024 KiB"),
    ],
    ids=["br", "no gzip", "bomb"],
)
async def test_undecodable_response_is_reported(
    coding: str, body: bytes, detail: str, ca: Authority, tmp_path: Path
) -> None:
    """Sidekey sends nothing to the upstream, and stops decoding at the size limit."""
    async with AuthlibServer(ca) as server:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.host.fail_next(200, {"Content-Encoding": coding}, body)
            assert problem(await sidekey.reverse("/api/orders"))["detail"] == detail
            assert (sidekey.calls("invalid"), len(server.received)) == (1, 1)


async def test_error_number_of_the_provider_is_in_response_and_log(ca: Authority, tmp_path: Path) -> None:
    """With the code of RFC 6749, and no other text of the provider."""
    body = {"error": "invalid_client", "error_description": "AADSTS7000222: hunter2 keys expired", "error_codes": [1]}
    async with AuthlibServer(ca) as server:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.host.fail_next(401, None, json.dumps(body).encode())
            response = await sidekey.reverse("/api/orders")
            detail = "token endpoint returned 401 invalid_client AADSTS7000222"
            assert problem(response)["detail"] == detail
            await eventually(lambda: any(detail in str(line) for line in sidekey.lines()))
        assert "hunter2" not in (tmp_path / "sidekey.log").read_text() + str(response)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_of_the_token_endpoint_is_not_followed(status: int, ca: Authority, tmp_path: Path) -> None:
    """Its target would receive the secret."""
    async with AuthlibServer(ca) as server, AuthlibServer(ca) as other:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.host.fail_next(status, {"Location": other.token_endpoint})
            assert problem(await sidekey.reverse("/api/orders"))["detail"] == f"token endpoint returned {status}"
            assert (other.received, sidekey.calls("invalid")) == ([], 1)


async def test_many_rejections_make_one_call(ca: Authority, tmp_path: Path) -> None:
    """The first rejection refreshes the token. Sidekey forwards the others for a minute."""
    async with AuthlibServer(ca) as server:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            server.tokens.expires_in = 3600
            assert (await sidekey.reverse("/api/orders")).status == 200
            for _ in range(10):
                server.tokens.revoke()
                responses = await asyncio.gather(
                    *(sidekey.reverse("/api/orders", method="POST", body=b"x") for _ in range(20))
                )
                assert {response.status for response in responses} <= {200, 401}
            assert sidekey.calls("ok") == 2


async def test_token_endpoint_in_a_late_file_is_used(ca: Authority, tmp_path: Path) -> None:
    """Until the file is mounted, the problem names the key."""
    async with AuthlibServer(ca) as server:
        late = tmp_path / "endpoint"
        text = auth("LATE", AUTHLIB_METHODS["header"]).replace("'LATE'", f"{{file: {late}}}")
        async with serving(text, tmp_path, ca, environ=ENVIRON, whole=False) as sidekey:
            error = problem(await sidekey.reverse("/api/orders"))
            assert (error["code"], error["detail"]) == (
                "credential_unavailable",
                f"auth.token_endpoint: {late} does not exist",
            )
            replace(late, server.token_endpoint + "\n")
            while (response := await sidekey.reverse("/api/orders")).status == 502:
                # Readings that failed are a second apart.
                await asyncio.sleep(0.1)
            assert response.status == 200
            assert problem(await sidekey.reverse("/token", method="POST"))["code"] == "target_denied"


async def test_rejected_token_is_withheld_during_the_refresh(ca: Authority, tmp_path: Path) -> None:
    """Requests wait for the new token."""
    async with AuthlibServer(ca) as server:
        text = auth(server.token_endpoint, AUTHLIB_METHODS["header"])
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
            server.tokens.revoke()
            server.host.delay = asyncio.Event()
            asking = [asyncio.create_task(sidekey.reverse("/api/orders"))]
            await eventually(lambda: len([item for item in server.received if item.path == "/token"]) == 2)
            asking += [asyncio.create_task(sidekey.reverse("/api/orders")) for _ in range(5)]
            await flying(sidekey, 6)
            server.host.delay.set()
            assert [response.status for response in await asyncio.gather(*asking)] == [200] * 6
        shown = [item.value("authorization") for item in server.received if item.path != "/token"]
        old, new = dict.fromkeys(shown)
        assert shown == [old] * 2 + [new] * 6


class OneToken:
    """An endpoint that returns one token until it expires, with its remaining whole seconds, and its API."""

    def __init__(self, life: float) -> None:
        self.host = Host("127.0.0.1", self._respond, address="127.0.0.1", port=0)
        self.issued = 0
        self.calls = 0
        self._life = life
        self._ends = 0.0

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        now = time.monotonic()
        if received.path == "/token":
            self.calls += 1
            if now >= self._ends:
                self._ends, self.issued = now + self._life, self.issued + 1
            return FakeResponse.json(200, {"access_token": f"t{self.issued}", "expires_in": int(self._ends - now)})
        is_valid = received.value("authorization") == f"Bearer t{self.issued}" and now < self._ends
        return FakeResponse.json(200 if is_valid else 401, {})


async def test_endpoint_that_repeats_a_token_until_it_expires_fails_no_request(ca: Authority, tmp_path: Path) -> None:
    """In the last second the endpoint reports a lifetime of 0, and requests wait for the next token."""
    server = OneToken(2.5)
    await server.host.open(ca)
    more = "client_id: basic, client_secret: {env: AUTHLIB_SECRET}, renewal_interval: 1s"
    text = auth(f"https://127.0.0.1:{server.host.port}/token", more)
    async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
        while server.issued < 4:
            assert (await sidekey.reverse("/api/orders")).status == 200
            await asyncio.sleep(PAUSE)
        assert sidekey.calls("ok") + sidekey.calls("invalid") == server.calls <= 4 * 8
    await server.host.close()


class OneLiveToken(Host):
    """An endpoint whose tokens end as soon as the next one is requested. Its response takes a while."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", self._answer, address="127.0.0.1", port=0)
        self.issued = 0
        self.refused = 0

    def _answer(self, received: ReceivedRequest) -> FakeResponse:
        if received.path == "/token":
            self.issued += 1
            return FakeResponse.json(200, {"access_token": f"t{self.issued}", "expires_in": 1})
        is_live = received.value("authorization") == f"Bearer t{self.issued}"
        self.refused += not is_live
        return FakeResponse.json(200 if is_live else 401, {})

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await super()._serve(request)
        if request.path == "/token":
            await asyncio.sleep(0.1)
        return response


async def test_single_live_token_is_not_sent_during_a_refresh(ca: Authority, tmp_path: Path) -> None:
    """`single_live_token`: Sidekey refreshes it when it ends, although requests use it."""
    server = OneLiveToken()
    await server.open(ca)
    more = "client_id: basic, client_secret: {env: AUTHLIB_SECRET}, single_live_token: true"
    async with serving(auth(f"https://127.0.0.1:{server.port}/token", more), tmp_path, ca, environ=ENVIRON) as sidekey:
        while server.issued < 4:
            assert (await sidekey.reverse("/api/orders")).status == 200
            await asyncio.sleep(PAUSE)
        assert server.refused == 0
    await server.close()


class ScriptedEndpoint:
    """A token endpoint with scripted responses, and the API for its tokens."""

    def __init__(self, status: int = 200, **response: object) -> None:
        self.host = Host("127.0.0.1", self._respond, address="127.0.0.1", port=0)
        self._answer = FakeResponse.json(status, {"access_token": "tok-1", **response})

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        if received.path.startswith("/token"):
            return self._answer
        return FakeResponse.json(200 if received.value("authorization") == "Bearer tok-1" else 401, {})


async def token_request(
    endpoint: ScriptedEndpoint, more: str, ca: Authority, folder: Path, environ: dict[str, str]
) -> tuple[ReceivedRequest, dict[str, str]]:
    """Send a request that succeeds. Return its token request, and the headers of that except default ones."""
    await endpoint.host.open(ca)
    try:
        text = auth(f"https://127.0.0.1:{endpoint.host.port}/token", more)
        async with serving(text, folder, ca, environ=environ) as sidekey:
            for _ in range(2):
                assert (await sidekey.reverse("/orders")).status == 200
            written = (folder / "sidekey.log").read_text()
    finally:
        await endpoint.host.close()
    assert all(secret not in written for secret in environ.values())
    call, *others = endpoint.host.received
    assert [item.path for item in others] == ["/orders", "/orders"]
    headers = {name.decode(): value.decode() for name, value in call.headers}
    length = str(len(call.body))
    host = f"127.0.0.1:{endpoint.host.port}"
    usual = {"Accept-Encoding": "identity", "Connection": "close", "Content-Length": length, "Host": host}
    assert headers.items() >= usual.items()
    return call, {name: value for name, value in headers.items() if name not in {*usual, "User-Agent"}}


FORM = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}


async def test_custom_grant_arrives_with_its_name(ca: Authority, tmp_path: Path) -> None:
    """For example Zoom's: with the client secret and further parameters."""
    more = (
        "grant: {type: custom, grant_type: account_credentials}, client_id: id, client_secret: {env: SECRET}, "
        "token_request: {body: {account_id: abc}, headers: {apiKey: {secret: {env: KEY}}, X-Tenant: {env: TENANT}}}"
    )
    environ = {"SECRET": "hunter2", "KEY": "k\u00e9y-of-mine", "TENANT": "acme"}
    call, headers = await token_request(
        ScriptedEndpoint(token_type="bearer", expires_in=3600), more, ca, tmp_path, environ
    )
    assert call.body == b"grant_type=account_credentials&account_id=abc"
    basic = f"Basic {b64encode(b'id:hunter2').decode()}"
    assert headers == {**FORM, "Authorization": basic, "apiKey": "k\u00e9y-of-mine", "X-Tenant": "acme"}


async def test_password_grant_of_a_public_client_in_json(ca: Authority, tmp_path: Path) -> None:
    """RFC 6749 4.3.2, in the format of Akeneo, with an Authorization header of the operator."""
    more = (
        "grant: {type: password, username: svc, password: {env: PASSWORD}}, client_id: id, "
        "token_request: {format: json, headers: {accept: application/vnd.x+json, "
        "Authorization: {prefix: 'Basic ', secret: {env: KEY}}}}"
    )
    environ = {"PASSWORD": 'pa"ss\u00e9', "KEY": "aWQ6c2VjcmV0"}
    call, headers = await token_request(ScriptedEndpoint(refresh_token="r-1"), more, ca, tmp_path, environ)
    assert json.loads(call.body) == {
        "grant_type": "password",
        "username": "svc",
        "password": environ["PASSWORD"],
        "client_id": "id",
    }
    assert headers == {
        "accept": "application/vnd.x+json",
        "Authorization": "Basic aWQ6c2VjcmV0",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    ("status", "response"),
    [
        (201, {"token_type": "bearer", "expires_in": 1799}),
        (202, {"token_type": "bearer", "expires_in": 1799}),
        (200, {"expires_in": "359999", "token_type": "BearerToken"}),
        (200, {"scope": "write_orders", "expires_in": 86399}),
    ],
    ids=["CrowdStrike", "any success", "Trustpilot", "Shopify"],
)
async def test_tolerated_deviations_of_a_token_response(
    status: int, response: dict[str, object], ca: Authority, tmp_path: Path
) -> None:
    """Another 2xx status, a lifetime as text, and no token type."""
    more = "client_id: id, client_secret: {env: SECRET}"
    call, _ = await token_request(ScriptedEndpoint(status, **response), more, ca, tmp_path, {"SECRET": "hunter2"})
    assert call.body == b"grant_type=client_credentials"
