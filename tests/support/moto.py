"""moto's server with authentication: it verifies signatures as AWS does, and checks permissions of IAM."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Self

import boto3

from fakes.server import listen
from support import programs
from support.ports import free_port
from support.private_ca import Authority
from support.raw_connection import DEADLINE

REGION = "eu-west-1"
_EVERYTHING = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
_UNJUDGED = 3
"""Requests before authentication is on: those that make the first user."""


class Moto:
    """`with Moto(folder) as moto`: listens on `port`, without TLS.

    `begin` resets it, with one access key that has all permissions.
    """

    def __init__(self, folder: Path) -> None:
        self._binary = programs.require("moto_server")
        self._log = folder / "moto.log"
        self.port = free_port()
        self.key_id = ""
        self.secret = ""
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_UNJUDGED)}
        command = [self._binary, "-H", "127.0.0.1", "-p", str(self.port)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(timeout=DEADLINE)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
            with suppress(ConnectionError):
                connection.request("GET", "/moto-api/")
                connection.getresponse().read()
                return
            connection.close()
            time.sleep(0.05)
        raise TimeoutError(f"moto_server is not ready: {self._log.read_text()}")

    def begin(self) -> None:
        """Reset the server, and create a new access key."""
        self._control("reset", "")
        self.admit_unsigned(_UNJUDGED)
        iam = boto3.client(
            "iam",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id="nobody",
            aws_secret_access_key="nobody",
        )
        iam.create_user(UserName="sidekey")
        key = iam.create_access_key(UserName="sidekey")["AccessKey"]
        iam.put_user_policy(UserName="sidekey", PolicyName="everything", PolicyDocument=_EVERYTHING)
        self.key_id, self.secret = key["AccessKeyId"], key["SecretAccessKey"]

    def admit_unsigned(self, count: int) -> None:
        """Check no signature of the next requests. AWS itself takes AssumeRoleWithWebIdentity without one."""
        self._control("reset-auth", str(count))

    def _control(self, path: str, body: str) -> None:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)) as connection:
            connection.request("POST", f"/moto-api/{path}", body)
            assert connection.getresponse().status == 200

    def create_role(self, name: str) -> str:
        """Create a role with all permissions that any web identity may assume. Return its ARN."""
        iam = boto3.client(
            "iam",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
        )
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_EVERYTHING)["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="everything", PolicyDocument=_EVERYTHING)
        return arn

    @asynccontextmanager
    async def by_https(self, ca: Authority, *names: str) -> AsyncIterator[str]:
        """Terminate TLS for these hosts on port 443 of a loopback address, and return the address."""
        context: ssl.SSLContext = ca.server_context(*names)
        server = await asyncio.start_server(self._relay, sock=listen(), ssl=context)
        async with server:
            address: str = server.sockets[0].getsockname()[0]
            yield address

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.port)
        with suppress(ConnectionError, ssl.SSLError):
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, forth))
                group.create_task(_pump(back, writer))
        forth.close()
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
