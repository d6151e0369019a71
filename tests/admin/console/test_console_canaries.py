"""A secret of each kind is in no page: not where it is stored, and not where it was typed into what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from admin.conftest import Named
from admin.console.conftest import LogIn
from support.api import TOKENS, Api, Running
from support.every_kind import documents_of_every_kind
from test_app_canaries import looked_for, secrets_in

KINDS = (
    "basic",
    "headers",
    "mtls",
    "pem",
    "urls",
    "oauth2",
    "refresh",
    "password",
    "assertion",
    "responsys",
    "session",
    "beside",
)


def shows(text: str, secrets: list[str]) -> list[str]:
    """The secrets that are in a page, in any form."""
    page = text.encode()
    return [secret[:40] for secret in secrets for form in looked_for(secret) if form in page]


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_has_a_secret(log_in: LogIn, running: Running, named: Named, tmp_path: Path, kind: str) -> None:
    """Neither a list, nor the editor, nor the response to a document that is refused or checked."""
    admin = Api(running.child.admin_port, TOKENS["admin"])
    document: dict[str, Any] = documents_of_every_kind(running.upstream, tmp_path)[kind]
    secrets = list(secrets_in(document))
    assert secrets
    name = named(f"canary-{kind}")
    path = f"/integrations/{name}"
    admin.make("/integrations", {"id": name, **document})
    pages = log_in("admin")
    seen = [pages.get(each) for each in ("/", path, "/activity", "/access")]
    assert f"id: {name}" in seen[1].body
    wrong = {"id": name, **document, "endpoint_prefix": "nonsense", "description": "x" * 3000}
    # JSON is YAML.
    refused = pages.call("PUT", path, json.dumps(wrong), '"1"')
    check = pages.call("POST", "/drafts/integration/preview", json.dumps(wrong))
    assert (refused.status, check.status) == (422, 200)
    for each in (*seen, refused, check):
        assert shows(each.body, secrets) == []
    assert admin.get(path)["version"] == 1
