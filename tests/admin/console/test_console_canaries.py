"""A secret of each kind is in no page: not where it is stored, and not where it was typed into what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin.conftest import Named
from admin.console.conftest import LogIn
from support.api import TOKENS, Api, Running
from support.pages import Form, Pages
from test_app_canaries import documents, looked_for, secrets_in

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


def typed(form: Form, secrets: list[str]) -> dict[str, str]:
    """A form with a secret in everything that takes one, and something that is not valid."""
    sealed = [name for name in form.names if f"{name}#do" in form.names and not name.endswith("/certificate")]
    values = dict.fromkeys(sealed, secrets[0])
    values |= {name: "replace" for name in form.names if name.endswith("#do")}
    return {**values, "/endpoint_prefix": "nonsense", "/description": "x" * 3000}


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_has_a_secret(log_in: LogIn, running: Running, named: Named, tmp_path: Path, kind: str) -> None:
    """Neither the list, nor its page, nor activity; nor a save that is refused, by a page made again or by a script."""
    admin = Api(running.child.admin_port, TOKENS["admin"])
    document: dict[str, Any] = documents(running.upstream, tmp_path)[kind]
    secrets = list(secrets_in(document))
    assert secrets
    name = named(f"canary-{kind}")
    path = f"/integrations/{name}"
    admin.make("/integrations", {"id": name, **document})
    pages: Pages = log_in("admin")
    form = pages.get(path).form(path)
    values = {**form.fields, **typed(form, secrets)}
    seen = [pages.get(each).body for each in ("/", path, "/activity", "/access")]
    refused = pages.ask("POST", path, values)
    by_script = pages.ask("POST", path, values, {"Accept": "application/json"})
    check = pages.ask("POST", path, {**values, "then": "check"}, {"Accept": "application/json"})
    assert {refused.status, by_script.status, check.status} == {200}
    assert "invalid" in by_script.body
    for body in (*seen, refused.body, by_script.body, check.body):
        assert shows(body, secrets) == []
    assert admin.get(path)["version"] == 1
