"""Texts of others in every field that a page shows: nothing of them runs, and none breaks a page."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from browser.conftest import Named, Open
from sidekey.store.audit import AuditEntry
from sidekey.store.sessions import Session
from support.api import TOKENS, Api, Running, rewritten
from support.ask import within
from support.certificates import issue
from support.stores import SqlitePlace

MARKUP: Final = (
    "\"><img src=x onerror=window.hit=1><script>window.hit=1</script>'><svg/onload=window.hit=1>"
    "</textarea></title></style><a href=javascript:window.hit=1>{{ 7 * 191 }}"
)
TURNED: Final = "\u202e\u2067" + "הזמנות של החנות " * 6 + "\u200f"
LONG: Final = "W" * 4096
ALL: Final = (MARKUP + TURNED + LONG)[:2000]
NAME: Final = "w" * 63
HEADERS: Final = ("X-'!#$%&*+.^_`|~", "X-" + "W" * 200)


def certified() -> dict[str, Any]:
    """A client certificate whose subject is a text of others."""
    parts = [MARKUP[at : at + 64] for at in range(0, len(MARKUP), 64)] + [TURNED[:40]] + ["W" * 64] * 30
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, part) for part in parts])
    made = issue(subject, start=datetime.now(UTC))
    pair = {"certificate": {"inline": made.pem.decode()}, "private_key": {"value": made.key_pem.decode()}}
    return {"type": "mtls", "allow_private_ca": True, **pair}


def note(running: Running) -> None:
    """An entry of the audit whose every text is somebody else's; no name that the API takes is like that."""

    async def write() -> None:
        async with SqlitePlace(running.child.config.parent).open(create=False) as store:
            session = Session(secrets.token_hex(32), secrets.token_hex(32), 0, 0, 1)
            texts = {"who": ALL, "action": MARKUP, "kind": "integration", "id": MARKUP, "source": TURNED}
            await store.log_in(session, AuditEntry(**texts, fields=(f"/{LONG}", MARKUP), outcome=MARKUP))

    # The browser's own loop runs in this thread.
    with ThreadPoolExecutor(1) as other:
        other.submit(asyncio.run, write()).result()


@pytest.fixture
def hostile(running: Running, api: Api, named: Named) -> Iterator[tuple[str, str, str]]:
    """Texts of others wherever one can be: two integrations of the store and one of a file, by name."""
    stored, certificate, of_file = named("hostile"), named("subject"), named("file")
    prefix = f"http://127.0.0.1:{running.upstream}/v1/{'w' * 200}"
    headers = {HEADERS[0]: MARKUP, HEADERS[1]: {"secret": {"value": "canary"}}}
    about = {"description": ALL, "tags": [MARKUP[:100], TURNED[:100], "W" * 100]}
    auth = {"type": "headers", "headers": headers}
    api.make(
        "/integrations",
        {"id": stored, **about, "endpoint_prefix": prefix, "auth": auth, "test": {"path": f"/{NAME * 5}"}},
    )
    api.make("/integrations", {"id": certificate, "endpoint_prefix": prefix, "auth": certified()})
    admin = Api(running.child.admin_port)
    admin.make("/callers", {"name": named(NAME[:50]), "integrations": [stored, certificate]})
    admin.make("/tokens", {"name": named(NAME[:50]), "role": "viewer", "own_token": TOKENS["admin"]})
    note(running)
    written = {"description": MARKUP + TURNED + LONG, "tags": [LONG, MARKUP, TURNED], "endpoint_prefix": prefix}
    written["auth"] = {"type": "headers", "headers": {HEADERS[0]: {"secret": {"insecure_value": "canary"}}}}
    more = f"  {of_file}: {json.dumps(written)}\n"
    with rewritten(running.child, running.child.config.read_text() + more):
        within(lambda: api.ask("GET", f"/integrations/{of_file}").status == 200)
        yield stored, certificate, of_file


CHECK: Final = """() => {
  for (const each of document.querySelectorAll("details")) each.open = true;
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("body *")].filter((each) => {
    const box = each.getBoundingClientRect();
    return box.width && box.right > width + 1 && !each.closest("svg, thead, .hidden");
  });
  return [
    ...wide.map((each) => `wide: ${each.outerHTML.slice(0, 120)}`),
    ...document.querySelectorAll("main :is(img, script, style, iframe, [onload], [onerror], [href^=javascript])"),
    ...(window.hit === undefined ? [] : ["it ran"]),
    ...(document.documentElement.scrollWidth > width ? ["the page is wider than the window"] : []),
  ];
}"""


def test_texts_are_inert_wherever_a_page_shows_them(
    tab: Open, running: Running, api: Api, hostile: tuple[str, str, str]
) -> None:
    """Wide and narrow; what is sent back is what was there."""
    stored = hostile[0]
    one = tab("admin")
    pages = [f"/integrations/{name}" for name in hostile]
    for path in ("/", *pages, "/activity", "/access", f"/?q={MARKUP}&tag={MARKUP}", f"/activity?before={MARKUP}"):
        for width in (1280, 360):
            one.resize(width)
            one.open(path)
            assert one.page.evaluate(CHECK) == [], (path, width)
            assert "1337" not in one.page.inner_text("main")
    one.meant("400")
    one.open(f"/integrations/{stored}")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_url("**?done=saved")
    found = api.get(f"/integrations/{stored}")
    assert (found["description"], list(found["auth"]["headers"])) == (ALL, list(HEADERS))
    assert "window.hit" in one.page.inner_text("main")


def test_a_text_that_is_refused_is_as_inert(tab: Open, running: Running, named: Named) -> None:
    """Also in the ID, which becomes part of nothing."""
    one = tab("editor", width=360)
    one.open("/add?kind=basic")
    texts = {"id": MARKUP, "description": ALL + LONG, "endpoint_prefix": MARKUP, MARKUP: MARKUP}
    document = {**texts, "auth": {"type": "basic", "username": {"value": ALL}, MARKUP: 1}}
    one.page.fill("#document", json.dumps(document, indent=1))
    for button, said in (("Save", "Not saved"), ("Check", "Cannot be saved")):
        one.press(button, said)
        assert one.page.evaluate(CHECK) == []
    one.meant("422")
