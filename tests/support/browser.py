"""Debian's Chromium, driven as a person would; whatever it complains of fails the test.

It is the build without windows, which needs a quarter of the CPU for each page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from support.peers import require

ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, until the end of the block."""
    binary = require("chromium-headless-shell")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page of a browser of its own; `complaints` are errors, refused requests and requests elsewhere."""

    def __init__(
        self, browser: Any, base: str, *, scheme: str = "light", width: int = 1280, script: bool = True
    ) -> None:
        self.base = base
        self.complaints: list[str] = []
        self._context = browser.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._watch)

    def _hear(self, message: Any) -> None:
        # Chromium's own hints on forms are verbose messages, which people do not see.
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.complaints.append(f"a request for {request.url}")

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)

    def log_in(self, token: str) -> None:
        self.open("/login")
        self.page.fill("#token", token)
        self.page.click("main button")
        self.page.wait_for_selector("text=Log out")

    def close(self) -> None:
        self._context.close()
