"""Debian's Chromium, driven as a person would; whatever it complains of fails the test.

It is the build without a display, which needs a quarter of the CPU for each page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from playwright.sync_api import sync_playwright

from support.peers import require

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


@dataclass(frozen=True, slots=True)
class Window:
    """What a window is when it is opened."""

    scheme: str = "light"
    width: int = 1280
    height: int = 900
    script: bool = True
    any_certificate: bool = False

    @property
    def size(self) -> dict[str, int]:
        return {"width": self.width, "height": self.height}


class Chromium:
    """Opens windows. One that was given back is opened again: a new one costs processes, and what they compile.

    The console stores nothing in a browser but its cookies.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._free: dict[Window, list[Any]] = {}

    def take(self, window: Window, *, new: bool = False) -> Any:
        """A page that is empty, in a context that has no cookies; with `new` in one that never had."""
        free = self._free.get(window)
        if free and not new:
            return free.pop()
        context = self._browser.new_context(
            color_scheme=window.scheme,
            reduced_motion="reduce",
            viewport=window.size,
            java_script_enabled=window.script,
            ignore_https_errors=window.any_certificate,
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(30_000)
        return context.new_page()

    def give_back(self, window: Window, page: Any) -> None:
        """Let another have it, as if it were new."""
        for each in page.context.pages:
            if each is not page:
                each.close()
        page.context.clear_cookies()
        page.emulate_media(color_scheme=window.scheme)
        page.set_viewport_size(window.size)
        self._free.setdefault(window, []).append(page)


@contextmanager
def chromium() -> Iterator[Chromium]:
    """The browser, until the end of the block."""
    binary = require("chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(ARGUMENTS))
        try:
            yield Chromium(browser)
        finally:
            browser.close()
