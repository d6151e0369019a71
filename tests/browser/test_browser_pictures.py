"""The pictures in the docs: made of what the product shows, and small; `make pictures` takes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from support.api import TOKENS, Api, managed
from support.ask import get
from support.browser import Chromium, Tab
from support.certificates import issue
from support.child import Child
from support.png import SIGNATURE, smaller

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs" / "images"
RECORD: Final = "SIDEKEY_RECORD"
LARGEST: Final = 120_000

NAMES: Final = {
    "console-list-light-1280": ("/", "light", 1280),
    "console-list-dark-1280": ("/", "dark", 1280),
    "console-editor-light-1280": ("/integrations/shop", "light", 1280),
    "console-editor-dark-1280": ("/integrations/shop", "dark", 1280),
    "console-list-light-360": ("/", "light", 360),
}
"""What each picture shows: a page, by the system's colours, in a window of so many pixels."""


def certified() -> dict[str, Any]:
    made = issue("orders.example", start=datetime.now(UTC), life=timedelta(days=12, hours=1))
    pair = {"certificate": {"inline": made.pem.decode()}, "private_key": {"value": made.key_pem.decode()}}
    return {"type": "mtls", "allow_private_ca": True, **pair}


def integrations() -> dict[str, dict[str, Any]]:
    """What somebody might have."""
    token = {"Authorization": {"prefix": "Bearer ", "secret": {"value": "canary"}}}
    basic = {"type": "basic", "username": {"value": "svc"}, "password": {"value": "canary"}}
    shop = {"type": "oauth2", "provider": "commercetools", "region": "europe-west1.gcp", "client_id": "a8Qm-orders"}
    return {
        "bank": {
            "description": "Settlement notices to the bank",
            "tags": ["payments"],
            "endpoint_prefix": "https://mtls.bank.example/hooks",
            "auth": certified(),
        },
        "crm": {
            "description": "CRM send API",
            "tags": ["crm"],
            "endpoint_prefix": "https://secure.example.com/api/v1",
            "auth": basic,
        },
        "loyalty": {
            "description": "Points for orders",
            "tags": ["crm", "orders"],
            "endpoint_prefix": "https://api.loyalty.example/v2",
            "auth": {"type": "headers", "headers": token},
        },
        "shop": {
            "description": "Orders of the web shop",
            "tags": ["orders"],
            "auth": {**shop, "client_secret": {"value": "canary"}},
            "test": {"method": "GET", "path": "/my-project/orders?limit=1"},
        },
    }


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """A Sidekey with what the pictures show."""
    more = """
callers: {orders: {token: {insecure_value: the-token-of-orders}, integrations: "*"}}
integrations:
  sms:
    description: Text messages
    tags: [marketing]
    endpoint_prefix: https://sms.example/api
    auth: {type: headers, headers: {X-Key: {secret: {insecure_value: canary}}}}
"""
    with managed(tmp_path, more=more) as found:
        admin = Api(found.admin_port)
        ops = admin.make("/tokens", {"name": "ops", "role": "editor", "own_token": TOKENS["admin"]})["token"]
        for name, document in integrations().items():
            admin.by(ops).make("/integrations", {"id": name, **document})
        for _ in range(3):
            assert get(found.proxy_port, "/i/loyalty/points", {"Sidekey-Token": "the-token-of-orders"}).status == 502
        (tmp_path / "ops").write_text(ops)
        yield found


FIXED: Final = """() => {
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    texts.currentNode.data = texts.currentNode.data
      .replace(/127\\.0\\.0\\.1:\\d+/g, "127.0.0.1:8080")
      .replace(/\\d+ [A-Z][a-z]+ 20\\d\\d/g, "3 November 2026")
      .replace(/since \\d\\d:\\d\\d/g, "since 09:42")
      .replace(/\\b\\d+ s ago/g, "3 s ago");
  }
}"""
"""What is different each time: ports and times."""


@pytest.mark.skipif(os.environ.get(RECORD) != "1", reason=f"writes pictures: {RECORD}=1, as `make pictures` does")
def test_pictures_are_made(browser: Chromium, tabs: list[Tab], child: Child, tmp_path: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (path, scheme, width) in NAMES.items():
        one = Tab(browser, f"http://127.0.0.1:{child.admin_port}", scheme=scheme, width=width)
        tabs.append(one)
        one.be((tmp_path / "ops").read_text())
        one.open(path)
        one.page.evaluate(FIXED)
        height = min(one.page.evaluate("document.documentElement.scrollHeight"), 1000)
        taken = one.page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True)
        picture = smaller(taken)
        assert len(picture) <= LARGEST, name
        (FOLDER / f"{name}.png").write_bytes(picture)


def test_readers_are_shown_every_picture_and_each_is_small() -> None:
    text = (ROOT / "docs" / "console.md").read_text()
    pictures = [*FOLDER.glob("*.png")]
    assert set(re.findall(r"images/([\w-]+)\.png", text)) == set(NAMES)
    assert {path.stem for path in pictures} == set(NAMES)
    for path in pictures:
        assert path.read_bytes().startswith(SIGNATURE), path
        assert path.stat().st_size <= LARGEST, path
