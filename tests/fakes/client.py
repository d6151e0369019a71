"""A client for the fakes' own tests: aiohttp, which finds each host name of a platform where its fake listens."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import ClientSession, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from fakes.server import Host
from support.ca import Authority


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, read whole. `body` is its JSON value, or None where it has no body."""

    status: int
    headers: Mapping[str, str]
    body: Any


class _Hosts(AbstractResolver):
    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self._addresses[host]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is open."""


class Client:
    """`async with Client(ca, *hosts) as client`; redirects are not followed."""

    def __init__(self, ca: Authority, *hosts: Host) -> None:
        self._addresses = {host.name: host.address for host in hosts}
        self._ca = ca
        self._session: ClientSession

    async def __aenter__(self) -> Self:
        connector = TCPConnector(resolver=_Hosts(self._addresses), ssl=self._ca.client_context())
        self._session = ClientSession(connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, url: str, authorization: str | None = None, **headers: str) -> Reply:
        """GET with an Authorization header, if one is given; `headers` are further ones."""
        return await self._ask("GET", url, _fields(authorization) | headers)

    async def form(self, url: str, fields: Mapping[str, str], authorization: str | None = None) -> Reply:
        """POST a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | _fields(authorization)
        return await self._ask("POST", url, headers, urlencode(fields).encode())

    async def json(self, url: str, value: Mapping[str, Any], authorization: str | None = None, **headers: str) -> Reply:
        """POST a JSON object; `headers` as for `get`."""
        fields = {"Content-Type": "application/json"} | _fields(authorization) | headers
        return await self._ask("POST", url, fields, json.dumps(value).encode())

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        async with self._session.request(method, url, headers=headers, data=body, allow_redirects=False) as answer:
            text = await answer.read()
            return Reply(answer.status, answer.headers, json.loads(text) if text else None)


def _fields(authorization: str | None) -> dict[str, str]:
    return {} if authorization is None else {"Authorization": authorization}
