"""Debian's Chromium, driven as a person would; whatever it complains of fails the test.

It is the build without a display, which needs a quarter of the CPU for each page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from playwright.sync_api import sync_playwright

from support.pages import Pages
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


class Tab:
    """A page of a browser of its own; `complaints` are errors, refused requests and requests elsewhere.

    They are those of every page of that browser. A picture has `height` pixels, by default those of a small screen.
    With `new` nobody had that browser before, and nobody will: what stays in it, or is set for good, is seen by none.
    """

    def __init__(self, browser: Chromium, base: str, *, new: bool = False, **window: Any) -> None:
        self.base = base
        self.complaints: list[str] = []
        self._browser = browser
        self._window = Window(**window)
        self._new = new
        self._first = browser.take(self._window, new=new)
        self.page = self._first
        self.context = self.page.context
        self._heard = {"console": self._hear, "weberror": self._fail, "request": self._watch}
        for event, heard in self._heard.items():
            self.context.on(event, heard)

    def _fail(self, error: Any) -> None:
        self.complaints.append(str(error.error))

    def _hear(self, message: Any) -> None:
        # Chromium's own hints on forms are verbose messages, which people do not see. Whoever is quicker than the page
        # keeps the focus, which Chromium notes.
        if message.type != "verbose" and not message.text.startswith("Autofocus processing was blocked"):
            self.complaints.append(message.text)

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((f"{self.base}/", "data:", "about:")):
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

    @property
    def text(self) -> str:
        """What the editor of the page has."""
        return str(self.page.input_value("#document"))

    def edit(self, former: str, new: str) -> None:
        """Replace a part of the text in the editor, where it is first."""
        assert former in self.text
        self.page.fill("#document", self.text.replace(former, new, 1))

    def press(self, button: str, outcome: str) -> None:
        """Press a button of the page, and wait until this is said."""
        self.page.click(f"button:text-is('{button}')")
        self.page.wait_for_selector(f"[data-outcome]:has-text('{outcome}')")

    def meant(self, word: str) -> None:
        """Leave out what was complained of with this word in it, which must have been."""
        meant = [each for each in self.complaints if word in each]
        assert meant, f"nobody has complained of {word}"
        self.complaints[:] = [each for each in self.complaints if word not in each]

    def close(self) -> None:
        if self._new:
            self.context.close()
            return
        with self._first.expect_navigation():
            self._first.evaluate("location.replace('about:blank')")
        for event, heard in self._heard.items():
            self.context.remove_listener(event, heard)
        self._browser.give_back(self._window, self._first)
