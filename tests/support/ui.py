"""The console's pages in Chromium: a real Sidekey with a store, users of each role, and a recording upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any, Final

from sidekey.snapshot.admin import Role
from support.api import OF_A_FILE, PREFIX, TOKENS, Api, managed
from support.axe import violations
from support.browser import Chromium, Window
from support.sidekey_process import SidekeyProcess


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as the upstream received it."""

    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ConsoleUpstream:
    """Records requests, and responds with `status`, `headers` and `body`. With `permits`, each response takes one."""

    port: int = 0
    received: list[ReceivedRequest] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    permits: Semaphore | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget the requests, and respond 200 again."""
        self.received.clear()
        self.status, self.headers, self.body, self.permits = 200, {}, b"{}", None


@contextmanager
def recording() -> Iterator[ConsoleUpstream]:
    """Run an upstream on a free port of 127.0.0.1."""
    upstream = ConsoleUpstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream.received.append(ReceivedRequest(self.command, self.path, self.headers, body))
            if (permits := upstream.permits) is not None:
                permits.acquire()
            self.send_response(upstream.status)
            for name, value in {"Content-Length": str(len(upstream.body)), **upstream.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(upstream.body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        upstream.port = server.server_port
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join()


@dataclass
class ConsoleSetup:
    """A Sidekey with a store and its upstream, for all tests of a package."""

    child: SidekeyProcess
    upstream: ConsoleUpstream


@contextmanager
def running(folder: Path) -> Iterator[ConsoleSetup]:
    """Run a Sidekey with a store, and its upstream."""
    with recording() as upstream, managed(folder, more=OF_A_FILE) as child:
        yield ConsoleSetup(child, upstream)


class ConsoleApi(Api):
    """The API by the token of a role. Each method returns the body of a response that reports success."""

    def post(self, path: str, body: Any = None) -> Any:
        return self._succeed("POST", path, body)

    def put(self, path: str, body: Any, match: str) -> Any:
        return self._succeed("PUT", path, body, match)

    def patch(self, path: str, body: Any, match: str) -> Any:
        return self._succeed("PATCH", path, body, match)

    def remove(self, path: str, match: str) -> Any:
        return self._succeed("DELETE", path, None, match)

    def _succeed(self, method: str, path: str, body: Any, match: str | None = None) -> Any:
        response = self.request(method, path, body, match=match)
        assert 200 <= response.status < 300, response
        return response.json


HOSTILE: Final = (
    "<img src=x onerror=\"throw 'markup'\">",
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}",
    "x" * 4096,
    "\N{FAMILY}\N{WAVING WHITE FLAG}\N{VARIATION SELECTOR-16}\N{ZERO WIDTH JOINER}\N{RAINBOW}",
    "{{user}} </script> & \" ' `",
)
"""Texts that a page must show unchanged, or truncated."""

WIDTHS: Final = (390, 1280)
"""CSS pixels: a phone, and a laptop."""


class Console:
    """The console in a browser. A CSP violation or an uncaught error fails the test.

    So does a request for anything but a page or a path of the API, and any other log message of a page except for error
    responses, which pages show. The policy forbids `wait_for_function`, which evaluates text: wait for locators, or let
    `evaluate` await a promise.
    """

    def __init__(self, shared: ConsoleSetup, browser: Chromium) -> None:
        self.upstream = shared.upstream
        self.base = f"http://127.0.0.1:{shared.child.admin_port}"
        self.complaints: list[str] = []
        self.issuer = ""
        """OIDC issuer that pages may open, with any certificate."""
        self._port = shared.child.admin_port
        self._browser = browser
        self._pages: list[Any] = []

    def api(self, role: Role) -> ConsoleApi:
        """Return the API with the token of a role."""
        return ConsoleApi(self._port, TOKENS[role])

    def open(self, role: Role | None, path: str, *, width: int = 1280, script: bool = True) -> Any:
        """Open a page below /ui in a browser of its own. Without a role, no user is logged in."""
        page = self.browser(role, width=width, script=script)
        page.goto(f"{self.base}/ui{path}")
        return page

    def browser(self, role: Role | None, *, width: int = 1280, scheme: str = "light", script: bool = True) -> Any:
        """Return an empty page in a browser of its own, for `fixture` before anything is loaded."""
        window = Window(scheme=scheme, width=width, script=script, any_certificate=bool(self.issuer))
        page = self._browser.open_page(window)
        self._pages.append(page)
        page.context.on("console", self._note)
        page.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        page.context.on("request", self._watch)
        if role is not None:
            self.log_in(page, TOKENS[role])
        return page

    def log_in(self, page: Any, token: str) -> None:
        """Log in with a token in the browser of a page."""
        headers = {"Sidekey-Console": "1", "Authorization": ""}
        response = Api(self._port).request("POST", "/session", {"token": token}, headers=headers)
        assert response.status == 201, response
        name, _, value = response.headers["Set-Cookie"].partition(";")[0].partition("=")
        page.context.add_cookies([{"name": name, "value": value, "url": self.base}])

    def fixture(self, page: Any, bodies: Mapping[str, Any]) -> None:
        """Respond to calls by hand. A key is a method and a path; a value is a JSON body, or a status and a body."""

        def respond(route: Any) -> None:
            path = route.request.url.removeprefix(self.base).partition("?")[0]
            value = bodies.get(f"{route.request.method} {path}")
            if value is None:
                route.fallback()
                return
            status, body = value if isinstance(value, tuple) else (200, value)
            kind = "application/json" if status < 400 else "application/problem+json"
            route.fulfill(status=status, content_type=kind, body="" if body is None else json.dumps(body))

        page.route(f"**{PREFIX}/**", respond)

    def close(self) -> None:
        """Close the browsers, and assert that nothing complained."""
        for page in self._pages:
            page.context.close()
        assert self.complaints == [], self.complaints

    def _note(self, message: Any) -> None:
        if message.type != "verbose" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def _watch(self, request: Any) -> None:
        ours = (f"{self.base}/ui", f"{self.base}{PREFIX}/", f"{self.issuer or f'{self.base}/ui'}/")
        if not request.url.startswith(ours):
            self.complaints.append(f"a request for {request.url}")


def problem(status: int, code: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Return an error response for `Console.fixture`."""
    return status, {"code": code, "status": status, "title": code, "detail": f"Detail of {code}.", **more}


def press(page: Any, name: str) -> None:
    """Click the button with exactly this name."""
    page.get_by_role("button", name=name, exact=True).click()


def assert_accessible(page: Any) -> None:
    """Assert that a page has no axe violation, light and dark, and no horizontal overflow, at each width."""
    size = page.viewport_size
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": size["height"]})
        # The whole page is visible, with room below, so that the bar with Save covers nothing.
        height = page.evaluate("document.documentElement.scrollHeight") + 1000
        page.set_viewport_size({"width": width, "height": height})
        problems = violations(page)
        assert problems == [], f"{page.url} at {width} pixels: {problems}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} at {width} pixels"
    page.set_viewport_size(size)
