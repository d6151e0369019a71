"""AWS keys by web identity: one call to STS, a token file that changes, and forbidden targets."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from fakes.server import Answer, Arrived, Host, Platform
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
    """STS, whose keys live for `life` seconds and are numbered, and an API that takes any signature."""

    def __init__(self, ca: Authority, sts: str = STS) -> None:
        self.sts = Host(sts, self._assume)
        self.api = Host(API, lambda _: Answer.json(200, {}))
        self.life = 3600.0
        self.xml = False
        super().__init__(ca, self.sts, self.api)

    def _assume(self, arrived: Arrived) -> Answer:
        number = len(self.sts.received)
        found = {
            "AccessKeyId": f"ASIA{number:04}",
            "SecretAccessKey": f"canary-secret-{number}",
            "SessionToken": f"canary-session-{number}",
        }
        if self.xml:
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.life))
            leaves = "".join(f"<{name}>{value}</{name}>" for name, value in {**found, "Expiration": until}.items())
            text = f"<Result><Credentials>{leaves}</Credentials></Result>"
            return Answer(200, (("Content-Type", "text/xml"),), text.encode())
        credentials = {**found, "Expiration": int(time.time()) + self.life}
        result = {"AssumeRoleWithWebIdentityResult": {"Credentials": credentials}}
        return Answer.json(200, {"AssumeRoleWithWebIdentityResponse": result})

    @property
    def tokens(self) -> list[str]:
        """What was presented."""
        return [parse_qs(arrived.body.decode())["WebIdentityToken"][0] for arrived in self.sts.received]

    def key_of_last(self) -> tuple[str, str]:
        """The access key's ID and the session token of the last request at the API."""
        last = self.api.received[-1]
        signature = last.value("authorization") or ""
        return signature.partition("Credential=")[2].partition("/")[0], last.value("x-amz-security-token") or ""


def config(more: str = "", prefix: str = f"https://{API}") -> str:
    identity = f"{{role_arn: '{ROLE}', token: {{file: token}}}}"
    auth = f"{{type: aws_sigv4, region: eu-west-1, service: sqs, web_identity: {identity}{more}}}"
    return f"  it: {{endpoint_prefix: {prefix}, auth: {auth}}}\n"


@pytest.mark.parametrize("xml", [False, True])
async def test_one_call_serves_many_requests(xml: bool, ca: Authority, tmp_path: Path) -> None:
    """Requests are signed and have the session token; the key is neither shown nor logged."""
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
    """With or without a reload; the key is renewed before it expires."""
    token = tmp_path / "token"
    token.write_text("first")
    async with Aws(ca) as aws, serving(config(), tmp_path, ca, hosts=aws.hosts) as sidekey:
        aws.life = 2
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
        answer = await sidekey.reverse("/")
        assert (answer.status, problem(answer)["code"]) == (502, "credential_unavailable")
        assert "auth.web_identity.token: the file does not exist" in problem(answer)["detail"]
        (tmp_path / "token").write_text("late")

        async with asyncio.timeout(DEADLINE):
            while (await sidekey.reverse("/")).status != 200:
                await asyncio.sleep(PAUSE)
        assert aws.tokens == ["late"]


async def test_error_of_sts_is_reported_by_its_code(ca: Authority, tmp_path: Path) -> None:
    """Never by its text."""
    (tmp_path / "token").write_text("canary-token")
    error = {"Error": {"Code": "ExpiredTokenException", "Message": "canary text"}, "RequestId": "1"}
    async with Aws(ca) as aws, serving(config(), tmp_path, ca, hosts=aws.hosts) as sidekey:
        aws.sts.fail_next(400, body=json.dumps(error).encode())
        answer = await sidekey.reverse("/")
        assert (answer.status, problem(answer)["detail"]) == (502, "AWS STS returned 400 (ExpiredTokenException)")
        assert not aws.api.received
    assert "canary" not in (tmp_path / "sidekey.log").read_text()


async def test_sts_is_never_a_target(ca: Authority, tmp_path: Path) -> None:
    """Even if a prefix names it: it would return keys to the caller."""
    (tmp_path / "token").write_text("t")
    prefixes = f"['https://{API}', 'https://{STS}', 'https://sts.example.com']"
    async with Aws(ca) as aws, serving(config(prefix=prefixes), tmp_path, ca, hosts=aws.hosts) as sidekey:
        for url in (f"https://{STS}/", f"https://{STS}/?Action=GetSessionToken", f"https://{STS}/any/x"):
            answer = await sidekey.forward(url)
            assert (answer.status, problem(answer)["code"]) == (403, "target_denied")
        assert not aws.sts.received


async def test_configured_endpoint_of_sts(ca: Authority, tmp_path: Path) -> None:
    """Its path is no target; the rest of its host may be."""
    (tmp_path / "token").write_text("t")
    more = ", sts_endpoint: https://sts.example.com/sts"
    prefixes = f"['https://{API}', 'https://sts.example.com']"
    text = config(more, prefixes)
    async with Aws(ca, "sts.example.com") as aws, serving(text, tmp_path, ca, hosts=aws.hosts) as sidekey:
        assert (await sidekey.reverse("/")).status == 200
        assert [arrived.path for arrived in aws.sts.received] == ["/sts"]
        answer = await sidekey.forward("https://sts.example.com/STS/")
        assert (answer.status, problem(answer)["code"]) == (403, "target_denied")


async def test_metadata_addresses_stay_forbidden(ca: Authority, tmp_path: Path) -> None:
    """If the endpoint of STS is one, nothing is called."""
    (tmp_path / "token").write_text("t")
    async with serving(config(), tmp_path, ca, hosts={STS: ["169.254.169.254"]}) as sidekey:
        answer = await sidekey.reverse("/")
        said: dict[str, Any] = problem(answer)
        assert (answer.status, said["code"]) == (502, "credential_unavailable")
        assert "AWS STS" in said["detail"]
