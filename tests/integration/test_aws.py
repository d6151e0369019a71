"""AWS end to end: boto3 with dummy keys through Sidekey, against a server that verifies signatures."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from support.moto import REGION, Moto
from support.private_ca import Authority
from support.serving import HEAD, serving
from support.workload import Cluster

PROGRAM = Path(__file__).parent / "programs" / "with_boto3.py"
HOSTS = [f"{name}.{REGION}.amazonaws.com" for name in ("s3", "mine.s3", "other.s3", "sqs", "dynamodb", "sts")]
WITH_CA = HEAD.replace("integrations:", "forward: {{match_by_host: true}}\nca: {{folder: state}}\nintegrations:")
DONE: dict[str, dict[str, Any]] = {
    "s3": {
        "create": True,
        "put": True,
        "get": True,
        "list": [True],
        "copy": True,
        "copied": True,
        "copy from another": ["403", 403],
        "another": ["403", 403],
    },
    "sqs": {"create": True, "send": True, "receive": ["work"]},
    "dynamodb": {"create": "ACTIVE", "put": True, "scan": [{"id": {"S": "\u00e9"}}]},
}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """Run a server."""
    with Moto(tmp_path_factory.mktemp("moto")) as result:
        yield result


@pytest.fixture
def moto(started: Moto, tmp_path: Path) -> Moto:
    """A server with one key, a bucket, and a secret that belongs to another user."""
    started.begin()
    (tmp_path / "id").write_text(started.key_id)
    (tmp_path / "key").write_text(started.secret)
    (tmp_path / "wrong").write_text(started.secret[::-1])
    direct = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{started.port}",
        region_name=REGION,
        aws_access_key_id=started.key_id,
        aws_secret_access_key=started.secret,
    )
    direct.create_bucket(Bucket="other", CreateBucketConfiguration={"LocationConstraint": REGION})
    direct.put_object(Bucket="other", Key="secret", Body=b"of others")
    return started


def integration(name: str, prefixes: str, more: str = "", key: str = "key") -> str:
    keys = f"access_key_id: {{file: id}}, secret_access_key: {{file: {key}}}"
    service = name.partition("-")[0]
    auth = f"{{type: aws_sigv4, region: {REGION}, service: {service}, {keys}{more}}}"
    return f"  {name}: {{endpoint_prefix: {prefixes}, auth: {auth}}}\n"


def url(name: str) -> str:
    return f"https://{name}.{REGION}.amazonaws.com"


EACH = (
    integration("s3", f"['{url('mine.s3')}', '{url('s3')}/mine']")
    + integration("sqs", url("sqs"))
    + integration("dynamodb", url("dynamodb"))
)


def run_boto(services: tuple[str, ...], **variables: str) -> dict[str, Any]:
    """Run a service with dummy keys and these variables, and return its output."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    keys = {"AWS_ACCESS_KEY_ID": "dummy", "AWS_SECRET_ACCESS_KEY": "dummy", "AWS_SESSION_TOKEN": "theirs"}
    files = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *services],
        env={**environment, **keys, **files, "AWS_DEFAULT_REGION": REGION, "AWS_MAX_ATTEMPTS": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def test_boto3_through_a_tunnel(moto: Moto, ca: Authority, tmp_path: Path) -> None:
    """With HTTPS_PROXY and a CA bundle only. Over https, boto3 sends bodies with an unsigned trailer."""
    async with moto.by_https(ca, *HOSTS) as address:
        hosts = {host: [address] for host in HOSTS}
        async with serving(EACH, tmp_path, ca, hosts=hosts, head=WITH_CA) as sidekey:
            variables = {
                "HTTPS_PROXY": f"http://127.0.0.1:{sidekey.port}",
                "AWS_CA_BUNDLE": str(tmp_path / "state" / "trust" / "bundle.pem"),
            }
            # To the host of another bucket no tunnel is opened.
            expected = {**DONE, "s3": {**DONE["s3"], "another": "ProxyConnectionError"}}
            assert await asyncio.to_thread(run_boto, tuple(DONE), **variables) == expected


async def test_boto3_through_the_forward_proxy(moto: Moto, ca: Authority, tmp_path: Path) -> None:
    """With HTTP_PROXY and http endpoints. boto3 signs the hash of each body."""
    async with moto.by_https(ca, *HOSTS) as address:
        hosts = {host: [address] for host in HOSTS}
        async with serving(EACH, tmp_path, ca, hosts=hosts, head=WITH_CA) as sidekey:
            endpoints = {f"AWS_ENDPOINT_URL_{name.upper()}": url(name).replace("https", "http") for name in DONE}
            proxy = f"http://127.0.0.1:{sidekey.port}"
            assert await asyncio.to_thread(run_boto, tuple(DONE), HTTP_PROXY=proxy, **endpoints) == DONE


async def test_wrong_key_is_refused(moto: Moto, ca: Authority, tmp_path: Path) -> None:
    """It shows that the server verifies signatures, and gets Sidekey's key."""
    text = integration("sqs", url("sqs"), key="wrong") + integration("dynamodb", url("dynamodb"), key="wrong")
    async with moto.by_https(ca, *HOSTS) as address:
        hosts = {host: [address] for host in HOSTS}
        async with serving(text, tmp_path, ca, hosts=hosts, head=WITH_CA) as sidekey:
            endpoints = {f"AWS_ENDPOINT_URL_{name.upper()}": url(name).replace("https", "http") for name in DONE}
            proxy = f"http://127.0.0.1:{sidekey.port}"
            result = await asyncio.to_thread(run_boto, ("sqs", "dynamodb"), HTTP_PROXY=proxy, **endpoints)
    assert result["sqs"]["create"][1] == result["dynamodb"]["create"][1] == 403


async def test_role_of_a_web_identity_signs_requests(moto: Moto, ca: Authority, tmp_path: Path) -> None:
    """STS returns a temporary key for the token in the file, and the service accepts the signature."""
    token = Cluster("RS256").token("sts.amazonaws.com")
    (tmp_path / "token").write_text(token)
    identity = f"{{role_arn: '{moto.create_role('jobs')}', token: {{file: token}}}}"
    moto.admit_unsigned(1)
    auth = f"{{type: aws_sigv4, region: {REGION}, service: sqs, web_identity: {identity}}}"
    async with moto.by_https(ca, *HOSTS) as address:
        text = f"  it: {{endpoint_prefix: {url('sqs')}, auth: {auth}}}\n"
        async with serving(text, tmp_path, ca, hosts={host: [address] for host in HOSTS}) as sidekey:
            form = "Content-Type: application/x-www-form-urlencoded"
            response = await sidekey.reverse("/", form, method="POST", body=b"Action=ListQueues&Version=2012-11-05")
            assert (response.status, sidekey.calls("ok")) == (200, 1), response.body
            assert b"ListQueuesResponse" in response.body
    assert token not in (tmp_path / "sidekey.log").read_text()
