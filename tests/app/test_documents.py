"""Documents in the API: limits of size, and validation that does not block other requests."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest

from support.api import PREFIX, TOKENS, Api, basic, managed
from support.sidekey_process import SidekeyProcess
from support.stored import ADDED, BASIC, HEADERS, OAUTH2, SESSION, copied

PREVIEW = "/drafts/integration/preview"
UNKNOWN_KEYS = {**basic(1), **{f"key{number}": 1 for number in range(9000)}}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    """A process with a store that no test changes."""
    with managed(tmp_path_factory.mktemp("documents")) as process:
        yield process


def names(count: int, shape: str = "n{}") -> dict[str, str]:
    return {shape.format(number): "x" for number in range(count)}


def extended(document: dict[str, Any], pointer: str, section: Any) -> dict[str, Any]:
    """Copy a document with another section, list or text."""
    result: dict[str, Any] = copied(document)
    *above, last = pointer.split("/")[1:]
    container = result
    for key in above:
        container = container.setdefault(key, {})
    container[last] = section
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


@pytest.mark.parametrize(("document", "pointer", "shape"), SECTIONS, ids=lambda value: value if value is str else None)
def test_section_has_at_most_64_names(
    child: SidekeyProcess, document: dict[str, Any], pointer: str, shape: str
) -> None:
    api = Api(child.admin_port, TOKENS["editor"])
    assert api.request("POST", PREVIEW, extended(document, pointer, names(64, shape))).json["errors"] == []
    for count in (65, 400):
        preview = api.request("POST", PREVIEW, extended(document, pointer, names(count, shape))).json
        expected = [{"pointer": pointer, "detail": "must have at most 64 names: remove some"}]
        assert (preview["valid"], preview["errors"]) == (False, expected)


def test_preset_has_at_most_64_parameters(child: SidekeyProcess) -> None:
    api = Api(child.admin_port, TOKENS["editor"])
    parameters = {name: {"type": "text"} for name in names(65)}
    body = {"json": {name: f"{{{{{name}}}}}" for name in parameters}}
    preset = {"integration": "any", "url": "https://api.example.com/v1/x"}
    errors = api.request("POST", "/presets", {**preset, "id": "wide", "parameters": parameters, "body": body}).json[
        "errors"
    ]
    assert {"pointer": "/parameters", "detail": "must have at most 64 names: remove some"} in errors


LISTS = {
    "/endpoint_prefix": ("https://api.example.com/v1", "https://api.example.com/V{}"),
    "/allowed_domains": ("https://api.example.com", "https://h-{}.example.com"),
    "/methods": ("GET", "POST"),
}


@pytest.mark.parametrize("pointer", LISTS)
def test_list_has_at_most_256_entries(child: SidekeyProcess, pointer: str) -> None:
    api = Api(child.admin_port, TOKENS["editor"])
    first, shape = LISTS[pointer]
    entries = [
        first,
        *(
            shape.format(first_letter + second_letter)
            for first_letter in ascii_uppercase
            for second_letter in ascii_uppercase
        ),
    ][:257]
    wide = {**BASIC, "allow_other_domains": True, "allowed_domains": ["https://api.example.com"]}
    assert api.request("POST", PREVIEW, extended(wide, pointer, entries[:256])).json["errors"] == []
    errors = api.request("POST", PREVIEW, extended(wide, pointer, entries)).json["errors"]
    assert errors == [{"pointer": pointer, "detail": "must have at most 256 entries: remove some"}]


def test_name_url_and_path_of_keys_over_their_limits_are_errors(child: SidekeyProcess) -> None:
    api = Api(child.admin_port, TOKENS["editor"])

    def errors(document: dict[str, Any]) -> list[dict[str, str]]:
        listed: list[dict[str, str]] = api.request("POST", PREVIEW, document).json["errors"]
        return listed

    assert errors(extended(BASIC, "/add/query", {"n" * 256: "x"})) == []
    detail = "the name must have at most 256 characters"
    assert errors(extended(BASIC, "/add/query", {"n" * 257: "x"})) == [
        {"pointer": f"/add/query/{'n' * 257}", "detail": detail}
    ]
    url = "https://auth.example.com/".ljust(8000, "x")
    assert errors(extended(OAUTH2, "/auth/token_endpoint", url)) == []
    detail = "must have at most 8000 characters (RFC 9110 4.1)"
    assert errors(extended(OAUTH2, "/auth/token_endpoint", f"{url}x")) == [
        {"pointer": "/auth/token_endpoint", "detail": detail}
    ]
    detail = "must not have a value below keys of more than 1000 characters together"
    response = api.request("POST", PREVIEW, {**BASIC, "n" * 1000: {}})
    assert (response.status, response.code, response.json["detail"]) == (400, "malformed", f"the body {detail}")


def test_reasons_to_enter_secrets_again_are_limited(child: SidekeyProcess) -> None:
    api = Api(child.admin_port)
    created = api.create("/integrations", {"id": "wide-login", **session("x", {"value": "a-secret"})})
    created["auth"]["login"]["url"] = "https://evil.example.com/login"
    reasons = api.request("POST", PREVIEW, created).json["reenter"]
    assert len(reasons) == 201
    saving = api.request("PUT", "/integrations/wide-login", created, match='"1"')
    assert (saving.code, len(saving.json["errors"])) == ("reenter", 201)


def session(public: str, secret: dict[str, Any]) -> dict[str, Any]:
    """Build a login with 250 public values and 250 secrets."""
    fields = {f"{kind}{number}": value for number in range(250) for kind, value in (("p", public), ("s", secret))}
    return extended(SESSION, "/auth/login/body", fields)


def test_first_errors_are_listed_and_the_last_line_counts_more(child: SidekeyProcess) -> None:
    """Only listed errors have a suggestion."""
    api = Api(child.admin_port, TOKENS["editor"])
    preview = api.request("POST", PREVIEW, UNKNOWN_KEYS).json
    saving = api.request("POST", "/integrations", {"id": "x", **UNKNOWN_KEYS})
    assert (saving.code, saving.json["detail"]) == ("invalid", "more than 200 values are not valid: see errors")
    for errors in (preview["errors"], saving.json["errors"]):
        assert [error["pointer"] for error in errors] == [*(f"/key{number}" for number in range(200)), ""]
        assert errors[0]["detail"].startswith("unknown key; known: title, description, tags,")
        assert errors[-1]["detail"] == "there are more errors than the first 200: correct these first"


@contextmanager
def send_without_reading(port: int, path: str, document: Any) -> Iterator[socket.socket]:
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


def test_reads_and_log_in_do_not_wait_for_validations(child: SidekeyProcess) -> None:
    """Sidekey responds while it still validates earlier previews of large documents."""
    with ExitStack() as stack:
        previews = [
            stack.enter_context(send_without_reading(child.admin_port, PREVIEW, UNKNOWN_KEYS)) for _ in range(24)
        ]
        Api(child.admin_port, TOKENS["viewer"]).get("/integrations")
        token, console = {"token": TOKENS["viewer"]}, {"Sidekey-Console": "1"}
        assert Api(child.admin_port).request("POST", "/session", token, headers=console).status == 201
        finished, _, _ = select.select(previews, [], [], 0)
        assert len(finished) < len(previews)
        assert [preview.makefile("rb").readline() for preview in previews] == [b"HTTP/1.1 200 OK\r\n"] * 24


def test_patch_cannot_exceed_the_size_of_a_document(tmp_path: Path) -> None:
    with managed(tmp_path) as child:
        api, path = Api(child.admin_port, TOKENS["editor"]), "/integrations/wide"
        api.create("/integrations", {"id": "wide", **HEADERS})

        def patched(query: Any) -> Any:
            return api.request("PATCH", path, {"auth": {"query": query}}, match="*")

        assert patched({"one": "x" * 400_000}).status == 200
        response = patched({"two": "x" * 400_000})
        expected = [{"pointer": "", "detail": "must have at most 512 KiB after the patch"}]
        assert (response.status, response.code, response.json["errors"]) == (422, "invalid", expected)
        assert patched({"one": None, "two": "x" * 400_000}).status == 200
        current = api.request("GET", path)
        assert api.request("PUT", path, current.json, match=current.etag).etag == current.etag


def test_document_with_many_secrets_can_be_saved_again(tmp_path: Path) -> None:
    """Each secret counts as one of the 2000 values of a login's body."""
    with managed(tmp_path) as child:
        api, path = Api(child.admin_port, TOKENS["editor"]), "/integrations/many"
        body = {f"n{number}": {"value": f"secret {number}"} for number in range(1000)}
        api.create("/integrations", {"id": "many", **extended(SESSION, "/auth/login/body", body)})
        response = api.request("GET", path)
        assert response.json["status"] == "ok"
        assert api.request("PUT", path, response.json, match=response.etag).etag == response.etag
        assert api.request("PATCH", path, {"description": "x"}, match=response.etag).json["status"] == "ok"
