"""Debian's Chromium, controlled by tests. Any error that it logs fails the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from playwright.sync_api import ProxySettings, expect, sync_playwright

from support.programs import require

ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Pages are small, and left before another thread could make what they run any faster.
    "--js-flags=--single-threaded",
)

TIMEOUT: Final = 30_000
"""Milliseconds to wait for what a page shows, also on a busy machine."""

expect.set_options(timeout=TIMEOUT)


@dataclass(frozen=True, slots=True)
class Window:
    """Settings of a new window."""

    scheme: str = "light"
    width: int = 1280
    height: int = 900
    script: bool = True
    any_certificate: bool = False

    @property
    def size(self) -> dict[str, int]:
        return {"width": self.width, "height": self.height}


class Chromium:
    """Opens windows."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    def open_page(self, window: Window) -> Any:
        """Return an empty page in a context of its own."""
        context = self._browser.new_context(
            color_scheme=window.scheme,
            reduced_motion="reduce",
            viewport=window.size,
            java_script_enabled=window.script,
            ignore_https_errors=window.any_certificate,
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(TIMEOUT)
        return context.new_page()


@contextmanager
def chromium(proxy: ProxySettings | None = None) -> Iterator[Chromium]:
    """Run the browser for the block. `proxy` has its server, username and password."""
    binary = require("chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(ARGUMENTS), proxy=proxy)
        try:
            yield Chromium(browser)
        finally:
            browser.close()
