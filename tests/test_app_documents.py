"""Documents that editors send: how much of one is read, and that nobody waits while others are validated."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.api import PREFIX, TOKENS, Api, basic, managed
from support.child import Child
from support.pages import Pages
from support.stored import ADDED, HEADERS, OAUTH2, copied

PREVIEW = "/drafts/integration/preview"
UNKNOWN_KEYS = {**basic(1), **{f"key{number}": 1 for number in range(9000)}}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A process with a store that no test changes."""
    with managed(tmp_path_factory.mktemp("documents")) as found:
        yield found


def names(count: int, shape: str = "n{}") -> dict[str, str]:
    return {shape.format(number): "x" for number in range(count)}


def grown(document: dict[str, Any], pointer: str, section: dict[str, str]) -> dict[str, Any]:
    """A copy with another section."""
    result: dict[str, Any] = copied(document)
    *above, last = pointer.split("/")[1:]
    place = result
    for key in above:
        place = place.setdefault(key, {})
    place[last] = section
    return result


SECTIONS = [
    (ADDED, "/add/query", "n{}"),
    (ADDED, "/add/body", "n{}"),
    (ADDED, "/add/headers", "X-N{}"),
    (HEADERS, "/auth/query", "n{}"),
    (HEADERS, "/auth/body", "n{}"),
    (HEADERS, "/auth/headers", "X-N{}"),
    (OAUTH2, "/auth/token_request/query", "n{}"),
    (OAUTH2, "/auth/token_request/body", "n{}"),
    (OAUTH2, "/auth/token_request/headers", "X-N{}"),
]


@pytest.mark.parametrize(("document", "pointer", "shape"), SECTIONS, ids=lambda each: each if each is str else None)
def test_section_has_at_most_64_names(child: Child, document: dict[str, Any], pointer: str, shape: str) -> None:
    """One more is an error at the section."""
    api = Api(child.admin_port, TOKENS["editor"])
    assert api.ask("POST", PREVIEW, grown(document, pointer, names(64, shape))).json["errors"] == []
    for count in (65, 400):
        preview = api.ask("POST", PREVIEW, grown(document, pointer, names(count, shape))).json
        expected = [{"pointer": pointer, "detail": "must have at most 64 names: remove some"}]
        assert (preview["valid"], preview["errors"]) == (False, expected)


def test_first_errors_are_listed_and_the_last_line_says_that_there_are_more(child: Child) -> None:
    """In a preview, and where the document is saved. Only a listed error has a suggestion."""
    api = Api(child.admin_port, TOKENS["editor"])
    preview = api.ask("POST", PREVIEW, UNKNOWN_KEYS).json
    saving = api.ask("POST", "/integrations", {"id": "x", **UNKNOWN_KEYS})
    assert (saving.code, saving.json["detail"]) == ("invalid", "more than 200 values are not valid: see errors")
    for errors in (preview["errors"], saving.json["errors"]):
        assert [each["pointer"] for each in errors] == [*(f"/key{number}" for number in range(200)), ""]
        assert errors[0]["detail"].startswith("unknown key; known: description, tags,")
        assert errors[-1]["detail"] == "there are more errors than the first 200: correct these first"


@contextmanager
def sent(port: int, path: str, document: Any) -> Iterator[socket.socket]:
    """Send a request and leave its response unread."""
    body = json.dumps(document).encode()
    lines = (
        f"POST {PREFIX}{path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {TOKENS['editor']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        yield connection


def test_reads_and_log_in_do_not_wait_for_validations(child: Child) -> None:
    """They are answered while previews of large documents, sent before, are still being validated."""
    with ExitStack() as stack:
        previews = [stack.enter_context(sent(child.admin_port, PREVIEW, UNKNOWN_KEYS)) for _ in range(24)]
        assert Api(child.admin_port, TOKENS["viewer"]).get("/integrations")["items"] == []
        assert Pages(child.admin_port).log_in(TOKENS["viewer"]).status == 200
        done, _, _ = select.select(previews, [], [], 0)
        assert len(done) < len(previews)
        assert [each.makefile("rb").readline() for each in previews] == [b"HTTP/1.1 200 OK\r\n"] * 24


def test_saved_documents_do_not_delay_the_start(tmp_path: Path) -> None:
    """Five documents with as many names as they may have: together less than a tenth of a second of CPU time."""
    with managed(tmp_path) as child:
        assert child.stop() == 0
    with managed(tmp_path) as child:
        without = child.cpu_time()
        api = Api(child.admin_port)
        for number in range(5):
            api.make("/integrations", {"id": f"i{number}", **grown(basic(1), "/add/body", names(64))})
        assert child.stop() == 0
    with managed(tmp_path) as child:
        assert Api(child.admin_port).get("/integrations/i4")["status"] == "ok"
        assert child.cpu_time() - without < 0.1
