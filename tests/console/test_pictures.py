"""The pictures in docs/console.md, which `make pictures` takes, and their size."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import expect

from support.api import TOKENS, managed
from support.certificates import issue
from support.http_get import get
from support.png import SIGNATURE, smaller
from support.sidekey_process import HEAD
from support.ui import Console, ConsoleSetup, recording

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs" / "images"
RECORD: Final = "SIDEKEY_RECORD"
LARGEST: Final = 120_000
SCHEMES: Final = ("light", "dark")

MORE: Final = """
callers: {orders: {token: {insecure_value: the-token-of-orders}, integrations: "*"}}
integrations:
  sms:
    title: Text messages
    tags: [marketing]
    endpoint_prefix: http://sms.example/api
    auth: {type: headers, headers: {X-Key: {secret: {insecure_value: canary}}}}
presets:
  welcome:
    title: Welcome text message
    help: Sends a text message to a new customer.
    integration: sms
    url: http://sms.example/api/messages
    parameters:
      phone: {type: text, format: phone, title: Phone number, help: With the country code., example: "+447700900123"}
      name: {type: text, title: First name, max_length: 40}
    body: {json: {to: "{{phone}}", text: "Welcome, {{name}}!"}}
"""


def integrations() -> dict[str, dict[str, Any]]:
    """Build the integrations of an example company."""
    created = issue("orders.example", start=datetime.now(UTC), life=timedelta(days=12, hours=1))
    pair = {"certificate": {"inline": created.pem.decode()}, "private_key": {"value": created.key_pem.decode()}}
    token = {"Authorization": {"prefix": "Bearer ", "secret": {"value": "canary"}}}
    return {
        "bank": {
            "title": "Settlements",
            "tags": ["payments"],
            "endpoint_prefix": "https://mtls.bank.example/hooks",
            "auth": {"type": "mtls", "allow_private_ca": True, **pair},
        },
        "crm": {
            "title": "Customers",
            "tags": ["crm"],
            "endpoint_prefix": "https://secure.example.com/api/v1",
            "auth": {"type": "basic", "username": {"value": "svc"}, "password": {"value": "canary"}},
        },
        "loyalty": {
            "title": "Loyalty points",
            "tags": ["crm", "orders"],
            "endpoint_prefix": "https://api.loyalty.example/v2",
            "auth": {"type": "headers", "headers": token},
        },
        "shop": {
            "title": "Web shop",
            "tags": ["orders"],
            "endpoint_prefix": "https://api.shop.example/v1",
            "auth": {
                "type": "oauth2",
                "token_endpoint": "https://login.shop.example/token",
                "client_id": "a8Qm-orders",
                "client_secret": {"value": "canary"},
            },
            "test": {"method": "GET", "path": "/orders?limit=1"},
        },
    }


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[ConsoleSetup]:
    """Run a Sidekey with the content of the pictures."""
    with recording() as upstream:
        more = MORE.replace("sms.example", f"sms.example:{upstream.port}")
        head = HEAD.replace("network: {{", 'network: {{hosts: {{sms.example: ["127.0.0.1"]}}, ')
        with managed(tmp_path, more=more, head=head) as child:
            yield ConsoleSetup(child, upstream)


def create_token(console: Console, name: str, role: str, **grants: Any) -> str:
    """Create a token with this name."""
    body = {"name": name, "role": role, "own_token": TOKENS["admin"], **grants}
    return str(console.api("admin").post("/tokens", body)["token"])


def visit(console: Console, token: str, scheme: str, width: int) -> Any:
    """Open an empty page as the person with a token."""
    page = console.browser(None, scheme=scheme, width=width)
    console.log_in(page, token)
    return page


def take(page: Any, name: str) -> None:
    page.wait_for_load_state("networkidle")
    page.mouse.move(0, 0)
    ends = page.evaluate("[...document.querySelectorAll('main *')].map((each) => each.getBoundingClientRect().bottom)")
    size = page.viewport_size
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], int(max(ends)) + 24)}
    picture = smaller(page.screenshot(clip=clip))
    assert len(picture) <= LARGEST, name
    (FOLDER / f"{name}.png").write_bytes(picture)


@pytest.mark.skipif(os.environ.get(RECORD) != "1", reason=f"writes pictures: {RECORD}=1, as `make pictures` does")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_of_the_pictures_can_be_photographed(console: Console, shared: ConsoleSetup, scheme: str) -> None:
    mark, ann = create_token(console, "mark", "sender", presets=["welcome"]), create_token(console, "ann", "editor")
    for name, document in integrations().items():
        console.api("admin").by(ann).create("/integrations", {"id": name, **document})
    for _ in range(3):
        assert get(shared.child.proxy_port, "/i/loyalty/points", {"Sidekey-Token": "the-token-of-orders"}).status == 502

    page = visit(console, mark, scheme, 1000)
    page.goto(f"{console.base}/ui/send/welcome")
    page.get_by_label("Phone number").fill("+447700900123")
    page.get_by_label("First name").fill("Ada")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("group", name="Result").wait_for()
    take(page, f"console-send-{scheme}")

    page = visit(console, ann, scheme, 1280)
    page.goto(f"{console.base}/ui/integrations")
    page.get_by_role("link", name="Web shop").wait_for()
    take(page, f"console-integrations-{scheme}")

    page = visit(console, ann, scheme, 1000)
    page.goto(f"{console.base}/ui/integrations/shop/edit")
    expect(page.get_by_label("Client ID")).to_have_value("a8Qm-orders")
    take(page, f"console-form-{scheme}")


def test_document_shows_every_picture_and_each_is_small() -> None:
    text = (ROOT / "docs" / "console.md").read_text()
    pictures = sorted(FOLDER.glob("*.png"))
    assert sorted(set(re.findall(r"images/([\w-]+)\.png", text))) == [path.stem for path in pictures]
    for path in pictures:
        assert path.read_bytes().startswith(SIGNATURE), path
        assert path.stat().st_size <= LARGEST, path
