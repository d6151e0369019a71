"""Somebody who uses the console of a running Sidekey: logs in as a browser does, and reads pages, also at a pace."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from benchmarks.probe import TOKEN
from benchmarks.processes import MeasureFailed

_SECONDS = 30.0
_FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')
_STATIC = re.compile(r'(?:href|src)="(/static/[^"]+)"')


class Visitor:
    """Reads pages over one kept connection, compressed, with the cookies that Sidekey sets."""

    def __init__(self, admin_port: int) -> None:
        self._origin = f"http://127.0.0.1:{admin_port}"
        self._connection = HTTPConnection("127.0.0.1", admin_port, timeout=_SECONDS)
        self._cookies: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def log_in(self) -> int:
        """Visit for the first time and log in: bytes of all that a browser gets for it. Raises MeasureFailed."""
        form = self._ask("GET", "/login")
        page = gzip.decompress(form).decode()
        token = _FORM_TOKEN.search(page)
        if token is None:
            raise MeasureFailed("the page of the log-in has no form")
        self._ask("POST", "/login", {"form_token": token[1], "token": TOKEN}, status=303)
        first = self._ask("GET", "/")
        named = set(_STATIC.findall(page + gzip.decompress(first).decode()))
        return len(form) + len(first) + sum(len(self._ask("GET", path)) for path in named)

    def page(self, path: str) -> float:
        """Read a page; seconds. Raises MeasureFailed."""
        began = time.perf_counter()
        self._ask("GET", path)
        return time.perf_counter() - began

    def _ask(self, method: str, path: str, form: Mapping[str, str] | None = None, *, status: int = 200) -> bytes:
        fields = {
            "Accept-Encoding": "gzip",
            "Cookie": "; ".join(f"{key}={self._cookies[key]}" for key in self._cookies),
        }
        if form is not None:
            fields |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self._origin}
        try:
            self._connection.request(method, path, None if form is None else urlencode(form), fields)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise MeasureFailed(f"{method} {path} failed: {error!r}") from error
        if response.status != status:
            raise MeasureFailed(f"{method} {path} responded {response.status}: {body[:300]!r}")
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return body


class Round:
    """Reads pages in turn, so many a second, each when it is due: `next` waits for that."""

    def __init__(self, visitor: Visitor, paths: tuple[str, ...], rate: float) -> None:
        self._visitor = visitor
        self._paths = paths
        self._rate = rate
        self._began = time.perf_counter()
        self._count = 0

    def next(self) -> float:
        """Seconds of the next page, since it was due. Raises MeasureFailed."""
        due = self._began + self._count / self._rate
        path = self._paths[self._count % len(self._paths)]
        self._count += 1
        time.sleep(max(0.0, due - time.perf_counter()))
        self._visitor.page(path)
        return time.perf_counter() - due
