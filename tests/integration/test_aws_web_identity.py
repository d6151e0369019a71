"""AWS keys by web identity: one call to STS, a token file that changes, and forbidden targets."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from fakes.server import FakeResponse, Host, Platform, ReceivedRequest
from support.files import replace
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.serving import problem, serving

ROLE = "arn:aws:iam::123456789012:role/jobs"
API = "sqs.eu-west-1.amazonaws.com"
PAUSE = 0.02
"""Seconds between two requests where they go on until a file was read: for the machine's sake."""

STS = "sts.eu-west-1.amazonaws.com"


class Aws(Platform):
    """STS, with numbered keys that are valid for `lifetime` seconds, and an API that accepts any signature."""

    def __init__(self, ca: Authority, sts: str = STS) -> None:
        self.sts = Host(sts, self._assume)
        self.api = Host(API, lambda _: FakeResponse.json(200, {}))
        self.lifetime = 3600.0
        self.xml = False
        super().__init__(ca, self.sts, self.api)

    def _assume(self, received: ReceivedRequest) -> FakeResponse:
        number = len(self.sts.received)
        results = {
            "AccessKeyId": f"ASIA{number:04}",
            "SecretAccessKey": f"canary-secret-{number}",
            "SessionToken": f"canary-session-{number}",
        }
        if self.xml:
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lifetime))
            leaves = "".join(f"<{name}>{value}</{name}>" for name, value in {**results, "Expiration": until}.items())
            text = f"<Result><Credentials>{leaves}</Credentials></Result>"
            return FakeResponse(200, (("Content-Type", "text/xml"),), text.encode())
        credentials = {**results, "Expiration": int(time.time()) + self.lifetime}
        result = {"AssumeRoleWithWebIdentityResult": {"Credentials": credentials}}
        return FakeResponse.json(200, {"AssumeRoleWithWebIdentityResponse": result})

    @property
    def tokens(self) -> list[str]:
        """Return the presented tokens."""
        return [parse_qs(received.body.decode())["WebIdentityToken"][0] for received in self.sts.received]

    def key_of_last(self) -> tuple[str, str]:
        """Return the access key ID and the session token of the last request at the API."""
        last = self.api.received[-1]
        signature = last.value("authorization") or ""
        return signature.partition("Credential=")[2].partition("/")[0], last.value("x-amz-security-token") or ""


def config(more: str = "", prefix: str = f"https://{API}") -> str:
    identity = f"{{role_arn: '{ROLE}', token: {{file: token}}}}"
    auth = f"{{type: aws_sigv4, region: eu-west-1, service: sqs, web_identity: {identity}{more}}}"
    return f"  it: {{endpoint_prefix: {prefix}, auth: {auth}}}\n"


@pytest.mark.parametrize("xml", [False, True])
async def test_one_call_serves_many_requests(xml: bool, ca: Authority, tmp_path: Path) -> None:
    """Requests are signed and contain the session token. The key is neither returned nor logged."""
    (tmp_path / "token").write_text("canary-token\n")
    async with Aws(ca) as aws, serving(config(), tmp_path, ca, hosts=aws.hosts) as sidekey:
        aws.xml = xml
        for _ in range(3):
            assert (await sidekey.reverse("/", method="POST", body=b"Action=ListQueues")).status == 200
            assert aws.key_of_last() == ("ASIA0001", "canary-session-1")
        assert aws.tokens == ["canary-token"]
        assert sidekey.calls("ok") == 1
    assert "canary" not in (tmp_path / "sidekey.log").read_text()


async def test_token_file_is_read_for_each_call(ca: Authority, tmp_path: Path) -> None:
    """With or without a reload. Sidekey renews the key before it expires."""
    token = tmp_path / "token"
    token.write_text("first")
    async with Aws(ca) as aws, serving(config(), tmp_path, ca, hosts=aws.hosts) as sidekey:
        aws.lifetime = 2
        assert (await sidekey.reverse("/")).status == 200
        replace(token, "second")

        async with asyncio.timeout(DEADLINE):
            while aws.key_of_last()[0] == "ASIA0001":
                assert (await sidekey.reverse("/")).status == 200
                await asyncio.sleep(PAUSE)
        assert aws.tokens[:2] == ["first", "second"]


async def test_unreadable_token_is_named_by_its_location(ca: Authority, tmp_path: Path) -> None:
    """It is used as soon as it is readable."""
    async with Aws(ca) as aws, serving(config(), tmp_path, ca, hosts=aws.hosts, whole=False) as sidekey:
        response = await sidekey.reverse("/")
        assert (response.status, problem(response)["code"]) == (502, "credential_unavailable")
        assert "auth.web_identity.token: the file does not exist" in problem(response)["detail"]
        (tmp_path / "token").write_text("late")

        async with asyncio.timeout(DEADLINE):
            while (await sidekey.reverse("/")).status != 200:
                await asyncio.sleep(PAUSE)
        assert aws.tokens == ["late"]


async def test_error_of_sts_is_reported_by_its_code(ca: Authority, tmp_path: Path) -> None:
    """Without its text."""
    (tmp_path / "token").write_text("canary-token")
    error = {"Error": {"Code": "ExpiredTokenException", "Message": "canary text"}, "RequestId": "1"}
    async with Aws(ca) as aws, serving(config(), tmp_path, ca, hosts=aws.hosts) as sidekey:
        aws.sts.fail_next(400, body=json.dumps(error).encode())
        response = await sidekey.reverse("/")
        assert (response.status, problem(response)["detail"]) == (502, "AWS STS returned 400 (ExpiredTokenException)")
        assert not aws.api.received
    assert "canary" not in (tmp_path / "sidekey.log").read_text()


async def test_sts_is_never_a_target(ca: Authority, tmp_path: Path) -> None:
    """Even if a prefix covers it: it would return keys to the caller."""
    (tmp_path / "token").write_text("t")
    prefixes = f"['https://{API}', 'https://{STS}', 'https://sts.example.com']"
    async with Aws(ca) as aws, serving(config(prefix=prefixes), tmp_path, ca, hosts=aws.hosts) as sidekey:
        for url in (f"https://{STS}/", f"https://{STS}/?Action=GetSessionToken", f"https://{STS}/any/x"):
            response = await sidekey.forward(url)
            assert (response.status, problem(response)["code"]) == (403, "target_denied")
        assert not aws.sts.received


async def test_configured_endpoint_of_sts(ca: Authority, tmp_path: Path) -> None:
    """Its path is no target. Other paths of its host may be."""
    (tmp_path / "token").write_text("t")
    more = ", sts_endpoint: https://sts.example.com/sts"
    prefixes = f"['https://{API}', 'https://sts.example.com']"
    text = config(more, prefixes)
    async with Aws(ca, "sts.example.com") as aws, serving(text, tmp_path, ca, hosts=aws.hosts) as sidekey:
        assert (await sidekey.reverse("/")).status == 200
        assert [received.path for received in aws.sts.received] == ["/sts"]
        response = await sidekey.forward("https://sts.example.com/STS/")
        assert (response.status, problem(response)["code"]) == (403, "target_denied")


async def test_metadata_addresses_stay_forbidden(ca: Authority, tmp_path: Path) -> None:
    """As the endpoint of STS, too. Sidekey sends no call."""
    (tmp_path / "token").write_text("t")
    async with serving(config(), tmp_path, ca, hosts={STS: ["169.254.169.254"]}) as sidekey:
        response = await sidekey.reverse("/")
        error: dict[str, Any] = problem(response)
        assert (response.status, error["code"]) == (502, "credential_unavailable")
        assert "AWS STS" in error["detail"]
