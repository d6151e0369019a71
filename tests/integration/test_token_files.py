"""OAuth without a secret: a token in a file authenticates the client or is exchanged, and the file changes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

import pytest

from fakes import entra, google_workload_identity
from fakes.google_workload_identity import AUDIENCE, GoogleWorkloadIdentity
from fakes.oauth2 import CLIENT_ID
from sidekey.config.load import Loader
from support.authlib_server import AuthlibServer
from support.configmap_mount import ConfigMapMount
from support.files import replace
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.serving import RunningApp, problem, serving
from support.workload import Cluster

PAUSE = 0.02
"""Seconds between two requests where they go on until a file was read."""

ASSERTION = "client_id: workload, client_authentication: {type: assertion, assertion: {file: token}}"
EXCHANGE = (
    "client_id: basic, client_secret: {insecure_value: 's3cret/+ &=%:~'}, "
    "grant: {type: token_exchange, subject_token: {file: token}}"
)


def auth(endpoint: str, more: str = ASSERTION) -> str:
    """Build an integration whose only allowed base URL is that of the token endpoint."""
    return f"  it: {{auth: {{type: oauth2, token_endpoint: '{endpoint}', {more}}}}}\n"


def asked(server: AuthlibServer) -> list[dict[str, str]]:
    """Return the form of each token request."""
    calls = [received for received in server.received if received.path == "/token"]
    return [dict(parse_qsl(received.body.decode())) for received in calls]


async def until_200(sidekey: RunningApp, path: str = "/api/orders") -> None:
    """Send requests until one succeeds."""
    async with asyncio.timeout(DEADLINE):
        while (await sidekey.reverse(path)).status != 200:
            await asyncio.sleep(PAUSE)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_file_authenticates_the_client(
    algorithm: Literal["RS256", "ES256"], ca: Authority, tmp_path: Path
) -> None:
    """RFC 7523 2.2: Authlib verifies the signature, issuer, audience and lifetime. Nothing logs the token."""
    cluster = Cluster(algorithm)
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        token = cluster.token(server.token_endpoint, subject="workload")
        (tmp_path / "token").write_text(token + "\n")
        async with serving(auth(server.token_endpoint), tmp_path, ca) as sidekey:
            for _ in range(2):
                assert (await sidekey.reverse("/api/orders")).status == 200
        assert asked(server) == [
            {
                "grant_type": "client_credentials",
                "client_id": "workload",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": token,
            }
        ]
        assert not server.received[0].values("authorization")
    assert token not in (tmp_path / "sidekey.log").read_text()


async def test_file_is_exchanged_for_a_token(ca: Authority, tmp_path: Path) -> None:
    """RFC 8693 2.1, by a client that authenticates."""
    cluster = Cluster()
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        token = cluster.token(server.token_endpoint)
        (tmp_path / "token").write_text(token)
        more = f"{EXCHANGE}, token_request: {{body: {{audience: orders, resource: 'https://a.example'}}}}"
        async with serving(auth(server.token_endpoint, more), tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
        assert asked(server) == [
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": token,
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "audience": "orders",
                "resource": "https://a.example",
            }
        ]
    assert token not in (tmp_path / "sidekey.log").read_text()


async def test_token_of_another_issuer_is_refused_by_its_code(ca: Authority, tmp_path: Path) -> None:
    async with AuthlibServer(ca, workload_key=Cluster().public) as server:
        (tmp_path / "token").write_text(Cluster().token(server.token_endpoint, subject="workload"))
        async with serving(auth(server.token_endpoint), tmp_path, ca) as sidekey:
            response = await sidekey.reverse("/api/orders")
            assert (response.status, problem(response)["code"]) == (502, "credential_unavailable")
            assert problem(response)["detail"].startswith("token endpoint returned 4")
            assert sidekey.calls("refused") == 1


async def test_rotated_file_is_used_for_the_next_call_without_a_reload(ca: Authority, tmp_path: Path) -> None:
    """The token in use stays in use, as the kubelet replaces the file every hour."""
    cluster = Cluster()
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        tokens = [cluster.token(server.token_endpoint, subject="workload") for _ in range(2)]
        mount = ConfigMapMount(tmp_path / "mount", {"token": tokens[0]})
        text = auth(server.token_endpoint, ASSERTION.replace("file: token", "file: mount/token"))
        async with serving(text, tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
            mount.update({"token": tokens[1]})
            sidekey.hang_up()
            await sidekey.logged("config reloaded")
            assert (await sidekey.reverse("/api/orders")).status == 200
            assert [form["client_assertion"] for form in asked(server)] == tokens[:1]

            server.tokens.revoke()
            assert (await sidekey.reverse("/api/orders")).status == 200
            assert [form["client_assertion"] for form in asked(server)] == tokens
            reloads = [line for line in sidekey.lines() if line["event"] == "config reloaded"]
            assert [line["changed"] for line in reloads] == [0]


async def test_another_path_obtains_a_token_at_once(ca: Authority, tmp_path: Path) -> None:
    """It may be another identity, as another client secret is."""
    cluster = Cluster()
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        for name in ("token", "other"):
            (tmp_path / name).write_text(cluster.token(server.token_endpoint, subject="workload"))
        async with serving(auth(server.token_endpoint), tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
            config = tmp_path / "sidekey.yaml"
            replace(config, config.read_text().replace("{file: token}", "{file: other}"))
            await sidekey.logged("config reloaded")
            assert (await sidekey.reverse("/api/orders")).status == 200
            assert asked(server)[1]["client_assertion"] == (tmp_path / "other").read_text()


@pytest.mark.parametrize(
    ("more", "key"), [(ASSERTION, "client_authentication.assertion"), (EXCHANGE, "grant.subject_token")]
)
async def test_expired_token_is_reported_before_the_call(more: str, key: str, ca: Authority, tmp_path: Path) -> None:
    """The new file is used without a reload. The log has each reason once, and the metric each attempt."""
    cluster = Cluster()
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        token = tmp_path / "token"
        token.write_text(cluster.token(server.token_endpoint, subject="workload", lifetime=-180))
        async with serving(auth(server.token_endpoint, more), tmp_path, ca) as sidekey:
            async with asyncio.timeout(DEADLINE):
                while sidekey.calls("unreadable") < 2:
                    response = await sidekey.reverse("/api/orders")
                    assert (response.status, problem(response)["code"]) == (502, "credential_unavailable")
                    assert problem(response)["detail"].startswith(f"auth.{key}: the token in token expired on 20")
                    assert problem(response)["detail"].endswith(" UTC: is the file still refreshed?")
                    await asyncio.sleep(PAUSE)
            assert not server.received
            assert await sidekey.metric('sidekey_token_requests_total{integration="it",outcome="unreadable"}') >= 2
            replace(token, cluster.token(server.token_endpoint, subject="workload"))
            await until_200(sidekey)
            await sidekey.logged("tokens can be obtained again")
            failures = [line for line in sidekey.lines() if line["event"] == "no token could be obtained"]
            assert [line["outcome"] for line in failures] == ["unreadable"]


async def test_token_in_use_survives_a_missing_file(ca: Authority, tmp_path: Path) -> None:
    """Until it expires. Then the response names the key."""
    cluster = Cluster()
    async with AuthlibServer(ca, lifetime=2, workload_key=cluster.public) as server:
        token = tmp_path / "token"
        token.write_text(cluster.token(server.token_endpoint, subject="workload"))
        async with serving(auth(server.token_endpoint), tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
            token.unlink()
            assert (await sidekey.reverse("/api/orders")).status == 200
            async with asyncio.timeout(DEADLINE):
                while (response := await sidekey.reverse("/api/orders")).status == 200:
                    await asyncio.sleep(PAUSE)
            text = "auth.client_authentication.assertion: the file does not exist"
            assert problem(response)["detail"].startswith(text)
            assert len(asked(server)) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must not be empty"),
        (b"two words", "token must be a token: visible ASCII characters only"),
        (b"\xc3\xa9", "must be a token: visible ASCII characters only"),
        (b"\xff", "must be UTF-8"),
        (b"a\nb", "must not contain a control character"),
        (b"x" * 65_537, "must be at most 64 KiB"),
        (None, "must be a regular file"),
    ],
)
async def test_unusable_file_is_reported_without_its_content(
    content: bytes | None, reason: str, ca: Authority, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    if content is None:
        os.mkfifo(token)
    else:
        token.write_bytes(content)
    async with AuthlibServer(ca) as server:
        async with serving(auth(server.token_endpoint), tmp_path, ca, whole=False) as sidekey:
            detail = problem(await sidekey.reverse("/api/orders"))["detail"]
            assert detail.startswith("auth.client_authentication.assertion: ")
            assert reason in detail
        assert not server.received


ENTRA = (
    f"type: oauth2, provider: microsoft-entra, tenant: {entra.TENANT}, scope: {entra.GRAPH}/.default, "
    f"client_id: '{CLIENT_ID}', client_authentication: {{type: assertion, assertion: {{file: token}}}}"
)


async def test_entra_accepts_the_token_of_a_pod(ca: Authority, tmp_path: Path) -> None:
    """With the profile, and one more key."""
    cluster = Cluster("RS256")
    async with (
        entra.Entra(ca, federated=cluster.public) as platform,
        serving(f"  it: {{auth: {{{ENTRA}}}}}\n", tmp_path, ca, hosts=platform.hosts, whole=False) as sidekey,
    ):
        (tmp_path / "token").write_text(cluster.token(entra.FEDERATED_AUDIENCE))
        assert (await sidekey.reverse("/v1.0/users")).status == 200
        replace(tmp_path / "token", cluster.token("another audience"))
        platform.tokens.revoke()
        assert (await sidekey.reverse("/v1.0/users")).status == 401
        failure = await sidekey.logged("no token could be obtained")
        assert failure["reason"] == "token endpoint returned 401 invalid_client AADSTS700212"


GOOGLE = (
    f"project_number: '{google_workload_identity.PROJECT}', pool: {google_workload_identity.POOL}, "
    f"pool_provider: {google_workload_identity.PROVIDER}, api: storage, subject_token: {{file: token}}"
)
DIRECT = f"type: oauth2, provider: google-workload-identity, {GOOGLE}"
IMPERSONATION = (
    "type: session, provider: google-service-account-impersonation, "
    f"service_account: {google_workload_identity.ACCOUNT}, {GOOGLE}"
)


@pytest.mark.parametrize("written", [DIRECT, IMPERSONATION])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_google_accepts_the_token_of_a_pod(
    algorithm: Literal["RS256", "ES256"], written: str, ca: Authority, tmp_path: Path
) -> None:
    """Requests have the token of the last call. After a rejection, the present file is exchanged."""
    cluster = Cluster(algorithm)
    first, second = cluster.token(AUDIENCE), cluster.token(AUDIENCE)
    (tmp_path / "token").write_text(first)
    async with (
        GoogleWorkloadIdentity(ca, cluster.public) as google,
        serving(f"  it: {{auth: {{{written}}}}}\n", tmp_path, ca, hosts=google.hosts) as sidekey,
    ):
        issued = google.account_tokens if written == IMPERSONATION else google.tokens
        for _ in range(2):
            assert (await sidekey.reverse("/storage/v1/b")).status == 200
        assert google.api.received[-1].values("authorization") == [f"Bearer {issued.issued[0].value}"]
        replace(tmp_path / "token", second)
        google.tokens.revoke()
        google.account_tokens.revoke()
        assert (await sidekey.reverse("/storage/v1/b")).status == 200
        assert google.subject_tokens == [first, second]
        assert len(google.iam.received) == (2 if written == IMPERSONATION else 0)
        assert sidekey.calls("ok") == (4 if written == IMPERSONATION else 2)
        series = 'sidekey_credential_expiry_timestamp_seconds{integration="it",credential="token"}'
        expiry = await sidekey.metric(series)
        assert 3500 < expiry - (tmp_path / "token").stat().st_mtime < 3700
    text = (tmp_path / "sidekey.log").read_text()
    assert not [token for token in (first, second) if token in text]


@pytest.mark.parametrize("written", [DIRECT, IMPERSONATION])
async def test_google_hosts_that_issue_tokens_are_no_targets(written: str, ca: Authority, tmp_path: Path) -> None:
    """A caller could otherwise have a token returned to it, in a way that the forbidden path does not name."""
    (tmp_path / "token").write_text("opaque")
    async with (
        GoogleWorkloadIdentity(ca, Cluster().public) as google,
        serving(f"  it: {{auth: {{{written}}}}}\n", tmp_path, ca, hosts=google.hosts) as sidekey,
    ):
        for url in (
            f"http://{google_workload_identity.STS}/v1/token",
            f"http://{google_workload_identity.STS}/v1/oauthtoken",
            f"http://{google_workload_identity.IAM}{google_workload_identity.LOGIN}",
            f"http://{google_workload_identity.IAM}/v1/projects/-/serviceAccounts/1:generateAccessToken",
        ):
            assert problem(await sidekey.forward(url, method="POST"))["code"] == "target_denied", url
        assert not google.received


async def test_error_of_each_google_call_is_reported(ca: Authority, tmp_path: Path) -> None:
    """The step and the status, and no text of the response."""
    cluster = Cluster()
    (tmp_path / "token").write_text(cluster.token("another audience"))
    async with (
        GoogleWorkloadIdentity(ca, cluster.public) as google,
        serving(f"  it: {{auth: {{{IMPERSONATION}}}}}\n", tmp_path, ca, hosts=google.hosts) as sidekey,
    ):
        response = await sidekey.reverse("/storage/v1/b")
        assert problem(response)["detail"] == "token endpoint returned 400 invalid_grant"
        assert not google.iam.received
    other = IMPERSONATION.replace(f"pool: {google_workload_identity.POOL}", "pool: another-pool")
    async with (
        GoogleWorkloadIdentity(ca, cluster.public) as google,
        serving(f"  it: {{auth: {{{other}}}}}\n", tmp_path, ca, hosts=google.hosts) as sidekey,
    ):
        response = await sidekey.reverse("/storage/v1/b")
        assert problem(response)["detail"] == "token endpoint returned 400 invalid_target"
    replace(tmp_path / "token", cluster.token(AUDIENCE))
    async with (
        GoogleWorkloadIdentity(ca, cluster.public) as google,
        serving(f"  it: {{auth: {{{IMPERSONATION}}}}}\n", tmp_path, ca, hosts=google.hosts) as sidekey,
    ):
        google.iam.fail_next(403, body=b"canary")
        response = await sidekey.reverse("/storage/v1/b")
        assert problem(response)["detail"] == "login returned 403"
        assert not google.api.received


async def test_unreadable_file_does_not_block_later_reloads(ca: Authority, tmp_path: Path) -> None:
    """Once the file is there, the finding of the first load is gone."""
    cluster = Cluster()
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        async with serving(auth(server.token_endpoint), tmp_path, ca, whole=False) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 502
            replace(tmp_path / "token", cluster.token(server.token_endpoint, subject="workload"))
            await until_200(sidekey)
            await sidekey.logged("config reloaded")
        loader = Loader(tmp_path / "sidekey.yaml", {})
        (tmp_path / "token").unlink()
        assert len(loader.load().of("unreadable")) == 1
        replace(tmp_path / "token", "opaque")
        assert loader.load().of("unreadable") == []
        replace(tmp_path / "token", "two words")
        assert loader.load().of("unreadable") == []


async def test_reload_with_an_expired_file_keeps_the_token(ca: Authority, tmp_path: Path) -> None:
    """Only the next call needs the file."""
    cluster = Cluster()
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        token, config = tmp_path / "token", tmp_path / "sidekey.yaml"
        token.write_text(cluster.token(server.token_endpoint, subject="workload"))
        async with serving(auth(server.token_endpoint), tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/api/orders")).status == 200
            replace(token, cluster.token(server.token_endpoint, subject="workload", lifetime=-180))
            replace(config, config.read_text().replace("it: {", "it: {title: Ours, "))
            await sidekey.logged("config reloaded")
            assert (await sidekey.reverse("/api/orders")).status == 200
            assert len(asked(server)) == 1


async def test_token_of_the_clusters_api_server_is_never_sent(ca: Authority, tmp_path: Path) -> None:
    """Whoever receives it could act in the cluster. It may also replace the right one later."""
    cluster = Cluster()
    async with AuthlibServer(ca, workload_key=cluster.public) as server:
        token = tmp_path / "token"
        token.write_text(cluster.token("https://kubernetes.default.svc.cluster.local", subject="workload"))
        async with serving(auth(server.token_endpoint), tmp_path, ca, whole=False) as sidekey:
            detail = problem(await sidekey.reverse("/api/orders"))["detail"]
            assert detail.startswith(
                "auth.client_authentication.assertion: token must not be a token for the Kubernetes API server"
            )
        assert not server.received


async def test_session_without_the_profile_forbids_both_hosts(ca: Authority, tmp_path: Path) -> None:
    """Even if a wildcard covers them."""
    (tmp_path / "token").write_text("opaque")
    sts, iam = google_workload_identity.STS, google_workload_identity.IAM
    exchange = f"{{type: token_exchange, token_endpoint: 'https://{sts}/v1/token', subject_token: {{file: token}}}}"
    session = f"{{type: session, token: {{from: accessToken}}, login: {{url: 'https://{iam}/v1/x', auth: {exchange}}}}}"
    written = f"{{allow_other_domains: true, allowed_domains: ['https://*.googleapis.com'], auth: {session}}}"
    async with (
        GoogleWorkloadIdentity(ca, Cluster().public) as google,
        serving(f"  it: {written}\n", tmp_path, ca, hosts=google.hosts) as sidekey,
    ):
        for host in (sts, iam):
            response = await sidekey.forward(f"http://{host}/v1/other", method="POST")
            assert problem(response)["code"] == "target_denied"
        assert not google.received


async def test_exchange_that_returns_no_bearer_token_fails(ca: Authority, tmp_path: Path) -> None:
    """RFC 8693 2.2.1: the type `N_A` is that of a token that is no access token."""
    (tmp_path / "token").write_text("opaque")
    body = b'{"access_token": "canary", "token_type": "N_A", "issued_token_type": "urn:x", "expires_in": 60}'
    for written in (DIRECT, IMPERSONATION):
        async with (
            GoogleWorkloadIdentity(ca, Cluster().public) as google,
            serving(f"  it: {{auth: {{{written}}}}}\n", tmp_path, ca, hosts=google.hosts) as sidekey,
        ):
            google.sts.fail_next(200, {"Content-Type": "application/json"}, body)
            detail = problem(await sidekey.reverse("/storage/v1/b"))["detail"]
            assert detail == "token endpoint returned a token that is not a bearer token"
            assert not google.iam.received
