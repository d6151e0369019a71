"""Pages of other sites in the browser of a logged-in person: they may only link to pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support.ui import Console

FORM = """<form method=post action="{base}/api/v1/callers" enctype="text/plain">
<input name='{{"name": "planted", "presets": [' value='"x"]}}'></form>
<form method=post action="{base}/api/v1/session"><input name=token value=x></form>
<form method=post action="{base}/ui/login"><input name=token value=x></form>"""

LOADS = """<img src="{base}/ui/"><img src="{base}/ui/assets/{hash}/icon.svg">
<link rel=stylesheet href="{base}/ui/assets/{hash}/console.css"><script src="{base}/ui/assets/{hash}/main.js"></script>
<iframe src="{base}/ui/integrations"></iframe><object data="{base}/"></object>
<script>
const headers = {{ "Sidekey-Console": "1" }};
const asked = ["/api/v1/session", "/api/v1/callers", "/metrics", "/ui/"].flatMap((path) => [
  fetch("{base}" + path, {{ credentials: "include" }}),
  fetch("{base}" + path, {{ credentials: "include", headers }}),
  fetch("{base}" + path, {{ credentials: "include", method: "POST", body: "{{}}" }}),
]);
const loaded = new Promise((done) => window.addEventListener("load", done));
window.outcomes = Promise.allSettled(asked).then((all) => loaded.then(() => all.map((each) => each.status)));
</script>"""


@contextmanager
def site(pages: Mapping[str, str]) -> Iterator[int]:
    """Serve HTML by path on a port of 127.0.0.1, and as `localhost`, which is another site."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path, "").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_other_sites_can_only_link_to_pages(console: Console, host: str) -> None:
    """The browser sends the cookie to another port of the same host, but not to another host."""
    page = console.open("admin", "/integrations")
    page.get_by_role("heading", name="Integrations").wait_for()
    script = page.locator("script[src]").get_attribute("src")
    addresses = {"base": console.base, "hash": script.split("/")[3]}
    link = f'<a href="{console.base}/">a message</a>'
    with site({"/form": FORM.format(**addresses), "/loads": LOADS.format(**addresses), "/link": link}) as port:
        other = f"http://{host}:{port}"
        for number in range(3):
            page.goto(f"{other}/form")
            with page.expect_navigation() as navigation:
                page.evaluate(f"document.forms[{number}].submit()")
            assert (navigation.value.request.method, navigation.value.status) == ("POST", 403)
        statuses: dict[str, int] = {}

        def record_response(response: Any) -> None:
            if response.url.startswith(console.base):
                statuses[response.url.removeprefix(console.base)] = response.status

        page.on("response", record_response)
        page.goto(f"{other}/loads")
        assert page.evaluate("window.outcomes") == ["rejected"] * 12
        assert set(statuses.values()) == {403}
        assert statuses.keys() >= {"/", "/ui/integrations"}
        assert "Integrations" not in page.frames[1].content()
        page.goto(f"{other}/link")
        page.get_by_text("a message").click()
        # The cookie is not sent with the link, but with the calls of the page.
        page.get_by_role("heading", name="Integrations").wait_for()
        assert page.url.startswith(f"{console.base}/ui/")
    assert console.api("admin").request("GET", "/callers/planted").status == 404
    # The browser reports the requests that it refused, and the fixture the requests to the other site.
    console.complaints.clear()
