"""Debian's Chromium, driven as a person would; whatever it complains of fails the test.

It is the build without windows, which needs a quarter of the CPU for each page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from support.pages import Pages
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
    """A page of a browser of its own; `complaints` are errors, refused requests and requests elsewhere.

    They are those of every page of that browser. A picture has `height` pixels, by default those of a small screen.
    """

    def __init__(
        self,
        browser: Any,
        base: str,
        *,
        scheme: str = "light",
        width: int = 1280,
        height: int = 900,
        script: bool = True,
    ) -> None:
        self.base = base
        self.complaints: list[str] = []
        self.context = browser.new_context(
            color_scheme=scheme,
            reduced_motion="reduce",
            viewport={"width": width, "height": height},
            java_script_enabled=script,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.context.set_default_timeout(30_000)
        self.context.on("console", self._hear)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.context.on("request", self._watch)
        self.page = self.context.new_page()

    def _hear(self, message: Any) -> None:
        # Chromium's own hints on forms are verbose messages, which people do not see. Whoever is quicker than the page
        # keeps the focus, which Chromium notes.
        if message.type != "verbose" and not message.text.startswith("Autofocus processing was blocked"):
            self.complaints.append(message.text)

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((f"{self.base}/", "data:")):
            self.complaints.append(f"a request for {request.url}")

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)

    def resize(self, width: int) -> None:
        self.page.set_viewport_size({"width": width, "height": self.page.viewport_size["height"]})

    def log_in(self, token: str) -> None:
        """By the form, as people do."""
        self.open("/login")
        self.type_token(token)
        self.page.click("main button")
        self.page.wait_for_selector("text=Log out")

    def type_token(self, token: str) -> None:
        """Into its field, once the page has given it the focus, as people do."""
        self.page.wait_for_selector("#token:focus")
        self.page.fill("#token", token)

    def be(self, token: str) -> None:
        """Have a session of this operator's, without the time that a browser takes for its form."""
        pages = Pages(int(self.base.rpartition(":")[2]))
        pages.log_in(token)
        self.context.add_cookies(
            [{"name": name, "value": value, "url": self.base} for name, value in pages.cookies.items()]
        )

    def meant(self, word: str) -> None:
        """Leave out what was complained of with this word in it, which must have been."""
        meant = [each for each in self.complaints if word in each]
        assert meant, f"nobody has complained of {word}"
        self.complaints[:] = [each for each in self.complaints if word not in each]

    def close(self) -> None:
        self.context.close()
