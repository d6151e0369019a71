"""A browser for the console's pages: cookies, forms as they are in the page, redirects, and calls of scripts."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPSConnection
from typing import Final
from urllib.parse import urlencode

from support.raw import DEADLINE

FORM: Final = "application/x-www-form-urlencoded"
YAML: Final = "application/yaml"


@dataclass
class Form:
    """A form with what a browser would send of it."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    """Every field that can be filled in."""


class _Reader(HTMLParser):
    """Finds the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open = False
        self._select = ""
        self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
            self._open = True
        if not self._open:
            return
        form, name = self.forms[-1], given.get("name", "")
        if not name:
            if tag == "option" and self._select:
                self._option(given)
            return
        form.names.add(name)
        if tag == "input":
            form.fields[name] = given.get("value", "")
        elif tag == "select":
            self._select = name
        elif tag == "textarea":
            self._area = name
            form.fields[name] = ""

    def _option(self, given: Mapping[str, str]) -> None:
        form = self.forms[-1]
        if "selected" in given or self._select not in form.fields:
            form.fields[self._select] = given.get("value", "\0")

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1].fields[self._area] += data
        if self._select and self.forms[-1].fields.get(self._select) == "\0":
            self.forms[-1].fields[self._select] = data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""


@dataclass(frozen=True)
class Seen:
    """A response. `path` is where it was found, after redirects."""

    status: int
    headers: Mapping[str, str]
    body: str
    path: str

    @property
    def forms(self) -> list[Form]:
        reader = _Reader()
        reader.feed(self.body)
        return reader.forms

    def form(self, action: str) -> Form:
        """The form that is sent there."""
        return next(each for each in self.forms if each.action == action)

    @property
    def text(self) -> str:
        """What a person reads, on one line."""
        bare = re.sub(r"<(script|style|head)\b.*?</\1>", " ", self.body, flags=re.S)
        return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


class Pages:
    """One browser on one port of 127.0.0.1."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = port
        self.host = host
        self.cookies: dict[str, str] = {}

    @property
    def origin(self) -> str:
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """What is sent as Host."""
        return f"{self.host}:{self.port}"

    def connect(self) -> HTTPConnection:
        """A connection to send one request on."""
        return HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Seen:
        """One request, as a browser sends it; redirects are not followed. Text is the body of a script's request."""
        fields = {"Host": self.authority}
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        data: bytes | None = None
        if body is not None:
            kind, data = (YAML, body.encode()) if isinstance(body, str) else (FORM, urlencode(body).encode())
            fields |= {"Content-Type": kind, "Origin": self.origin, "Sec-Fetch-Site": "same-origin"}
        fields |= headers or {}
        with closing(self.connect()) as connection:
            connection.request(method, path, data, {name: value for name, value in fields.items() if value})
            response = connection.getresponse()
            for set_cookie in response.headers.get_all("Set-Cookie", []):
                name, _, value = set_cookie.partition(";")[0].partition("=")
                self.cookies[name] = value.strip('"')
            self.cookies = {name: value for name, value in self.cookies.items() if value}
            return Seen(response.status, dict(response.headers), response.read().decode(), path)

    def get(self, path: str) -> Seen:
        """A page, wherever redirects lead."""
        seen = self.ask("GET", path)
        return self.get(seen.headers["Location"]) if seen.status == 303 else seen

    def send(
        self,
        form: Form,
        values: Mapping[str, str] | None = None,
    ) -> Seen:
        """Send a form with these values; go where that leads."""
        unknown = set(values or {}) - form.names
        assert unknown == set(), f"the form has no {unknown}"
        seen = self.ask("POST", form.action, {**form.fields, **(values or {})})
        return self.get(seen.headers["Location"]) if seen.status == 303 else seen

    def call(
        self, method: str, path: str, body: str, match: str = "", headers: Mapping[str, str] | None = None
    ) -> Seen:
        """Call the API as the script of a page does; `match` is the ETag that a change names."""
        token = self.get("/").form("/logout").fields["form_token"]
        fields = {"Sidekey-Form-Token": token, "If-Match": match, **(headers or {})}
        return self.ask(method, f"/session/api/v1{path}", body, fields)

    def log_in(self, token: str) -> Seen:
        """Log in by the form of the page."""
        page = self.get("/login")
        return self.send(page.form("/login"), {"token": token})


class SecurePages(Pages):
    """A browser that knows a host by its name alone, at the usual port of https, and trusts `trusted`.

    Its connections are to a port of 127.0.0.1.
    """

    def __init__(self, port: int, host: str, trusted: ssl.SSLContext) -> None:
        super().__init__(port, host)
        self._trusted = trusted

    @property
    def origin(self) -> str:
        return f"https://{self.authority}"

    @property
    def authority(self) -> str:
        return self.host

    def connect(self) -> HTTPConnection:
        connection = HTTPSConnection(self.host, context=self._trusted, timeout=DEADLINE)
        there = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        connection.sock = self._trusted.wrap_socket(there, server_hostname=self.host)
        return connection
