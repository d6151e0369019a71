"""A browser with the console: API calls with a session cookie."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPSConnection
from http.cookies import SimpleCookie
from typing import Any, Final

from support.api import Api, ApiResponse
from support.raw_connection import DEADLINE

PAGE: Final = {"Sec-Fetch-Site": "same-origin", "Sidekey-Console": "1"}
"""Headers that pages of the console send with each request."""


class ConsoleBrowser(Api):
    """A browser. `host` is the name in its address bar, with TLS. Without `trusted`, a proxy has terminated TLS."""

    def __init__(self, port: int, cookie: str = "", *, host: str = "", trusted: ssl.SSLContext | None = None) -> None:
        super().__init__(port)
        self.cookie = cookie
        self._host = host
        self._trusted = trusted
        self._name = "__Host-sidekey-ui" if host else "sidekey-ui"

    def connect(self) -> HTTPConnection:
        if self._trusted is None:
            return super().connect()
        connection = HTTPSConnection(self._host, context=self._trusted, timeout=DEADLINE)
        there = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        connection.sock = self._trusted.wrap_socket(there, server_hostname=self._host)
        return connection

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        match: str | None = None,
    ) -> ApiResponse:
        cookie = self.cookie and f"{self._name}={self.cookie}"
        fields = {"Authorization": "", "Cookie": cookie, "Host": self._host, **PAGE, **(headers or {})}
        response = super().request(method, path, body, match=match, headers=fields)
        for value in response.headers.get_all("Set-Cookie", []):
            self.cookie = SimpleCookie(value)[self._name].value
        return response

    def log_in(self, token: str) -> ApiResponse:
        response = self.request("POST", "/session", {"token": token})
        assert response.status == 201, response
        return response
