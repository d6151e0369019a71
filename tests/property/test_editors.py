"""Editors never read a stored secret and never redirect it, by any sequence of changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.api import TOKENS, Api, managed
from support.http_get import get
from support.nginx import Nginx
from support.sidekey_process import SidekeyProcess

SECRET = "canary-that-an-editor-wants"
KEPT = {"set": True, "id": "{id}"}
"""A secret of the integration, wherever the document has it."""
MORE = """
callers: {all: {token: {insecure_value: the-token-of-a-file}, integrations: "*"}}
integrations: {}
"""
TOKEN = {"Sidekey-Token": "the-token-of-a-file"}


@dataclass(frozen=True)
class EditorSetup:
    """A process, and an upstream that returns each request. The editor may read responses under /theirs."""

    child: SidekeyProcess
    upstream: int

    @property
    def ours(self) -> str:
        return f"http://127.0.0.1:{self.upstream}/ours"

    @property
    def theirs(self) -> str:
        return f"http://127.0.0.1:{self.upstream}/theirs"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditorSetup]:
    """One process for all examples, each with its own integration."""
    folder = tmp_path_factory.mktemp("editors")
    with Nginx(folder) as nginx, managed(folder, more=MORE) as child:
        yield EditorSetup(child, nginx.port)


def documents(at: EditorSetup) -> list[dict[str, Any]]:
    """Draw a document that an admin has entered."""
    header = {"Authorization": {"prefix": "Bearer ", "secret": {"value": SECRET}}}
    body = {"client_secret": {"value": SECRET}, "token_request": {"body": {"k": {"value": SECRET}}}}
    oauth2 = {"type": "oauth2", "token_endpoint": f"https://127.0.0.1:{at.upstream}/ours", "client_id": "id", **body}
    return [
        {"endpoint_prefix": at.ours, "auth": {"type": "headers", "headers": header}},
        {
            "endpoint_prefix": at.ours,
            "auth": {"type": "basic", "username": {"value": SECRET}, "password": {"value": SECRET}},
        },
        {"endpoint_prefix": at.ours, "redact_response": True, "auth": {"type": "headers", "headers": header}},
        {"auth": oauth2},
    ]


EDITS: list[dict[str, Any]] = [
    {"endpoint_prefix": "{theirs}"},
    {"endpoint_prefix": ["{ours}", "{theirs}"]},
    {"endpoint_prefix": ["{theirs}", "{ours}"]},
    {"endpoint_prefix": None, "allow_other_domains": True, "allowed_domains": ["http://127.0.0.1:{port}"]},
    {"endpoint_prefix": "{ours}"},
    {"redact_response": False},
    {"redact_response": None},
    {"auth": {"headers": {"Authorization": KEPT}}},
    {"auth": {"headers": {"Authorization": {"secret": KEPT, "prefix": ""}}}},
    {"auth": {"headers": {"Authorization": None, "X-Theirs": {"secret": KEPT}}}},
    {"auth": {"headers": {"X-Theirs": "public"}}},
    {"auth": {"headers": {"Authorization": "public"}}},
    {"auth": {"headers": {"Authorization": {"secret": {"value": "their-own"}}}}},
    {"auth": {"headers": {"Host": "theirs.example"}}},
    {"auth": {"username": KEPT}},
    {"auth": {"username": "theirs"}},
    {"auth": {"username": {"value": "theirs"}}},
    {"auth": {"password": {"value": "their-own"}}},
    {"auth": {"type": "basic", "username": {"value": "theirs"}, "password": KEPT, "headers": None}},
    {"auth": {"type": "headers", "headers": {"Authorization": {"secret": KEPT}}, "username": None, "password": None}},
    {"auth": {"token_endpoint": "https://127.0.0.1:{port}/theirs"}},
    {"auth": {"client_authentication": "query"}},
    {"auth": {"token_request": {"query": {"k": KEPT}}}},
    {"auth": {"token_request": {"body": {"k": None, "l": KEPT}}}},
    {"auth": {"token_request": {"method": "GET"}}},
    {"auth": {"token_placement": "query"}},
    {"auth": {"client_id": KEPT}},
    {"auth": {"client_secret": {"value": "their-own"}}},
    {"description": KEPT},
    {"tags": [KEPT]},
    {"test": {"path": "/../theirs"}},
    {"test": {"path": "/x"}},
    {"client_certificate": {"certificate": KEPT, "private_key": KEPT}},
    {"trusted_ca": KEPT},
]
"""Merge patches, which also become whole documents."""


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch, as in RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["PATCH", "PATCH", "PATCH", "PUT", "POST", "draft"]), st.sampled_from(EDITS), st.integers(0, 2)
    ),
    min_size=1,
    max_size=6,
)
_NUMBERS = count()


@given(which=st.integers(0, 3), steps=STEPS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_sequence_of_changes_reveals_or_redirects_a_secret(
    running: EditorSetup, which: int, steps: list[tuple[str, dict[str, Any], int]]
) -> None:
    """By PATCH, PUT, recreation or a draft. Secrets that the editor entered may go anywhere."""
    admin = Api(running.child.admin_port)
    editor = admin.by(TOKENS["editor"])
    name = f"wanted-{next(_NUMBERS)}"
    admin.create("/integrations", {"id": name, **documents(running)[which]})
    for way, edit, number in steps:
        shown = editor.request("GET", f"/integrations/{name}")
        ids = re.findall('"id": ?"(s_[0-9a-f]{16})"', shown.body.decode())
        text = json.dumps(edit).replace("{theirs}", running.theirs).replace("{ours}", running.ours)
        text = text.replace("{id}", ids[number % len(ids)] if ids else "s_1")
        patch = json.loads(text.replace("{port}", str(running.upstream)))
        whole = merged(shown.json, patch)
        if way == "PATCH":
            response = editor.request("PATCH", f"/integrations/{name}", patch, match=shown.etag)
        elif way == "PUT":
            response = editor.request("PUT", f"/integrations/{name}", whole, match=shown.etag)
        elif way == "POST":
            assert editor.request("DELETE", f"/integrations/{name}", match=shown.etag).status == 204
            response = editor.request("POST", "/integrations", whole)
            assert response.status == 201 or response.code in ("invalid", "reenter")
        else:
            response = editor.request("POST", "/drafts/integration/test", whole)
        responses = [
            response,
            editor.request("GET", f"/integrations/{name}"),
            editor.request("GET", f"/integrations/{name}/activity"),
        ]
        assert all(item.status < 500 and SECRET.encode() not in item.body for item in responses)
        for target in (f"/i/{name}/x", f"/i/{name}/../theirs/x", f"{running.theirs}/x"):
            sent = get(running.child.proxy_port, target, {**TOKEN, "X-Integration-Id": name}).body
            if "/theirs" in sent.partition("\n")[0]:
                assert SECRET not in sent
                assert "c3ZjOmNhbmFye" not in sent, sent
        if responses[1].status == 404:
            return
