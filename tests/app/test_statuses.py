"""Integrations with every status: API, metric and commands agree."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sidekey.snapshot.status import STATUSES
from support.api import Api, basic, managed
from support.certificates import IssuedCertificate, issue
from support.http_get import get, wait_until
from support.nginx import ECHO, Nginx
from support.scraping import series
from support.sidekey_process import SidekeyProcess, run_cli

SNIPPET = f"""{ECHO}
        location /refusing/well {{ return 200; }}
        location /refusing {{ if ($http_authorization != "Basic c3ZjOnJpZ2h0") {{ return 401; }} return 200; }}
"""
CALLER = {"Sidekey-Token": "of-a-caller"}
LAPSING = timedelta(seconds=6)
"""The remaining lifetime of a certificate that must still be valid when it is saved."""


def certificate(lifetime: timedelta) -> IssuedCertificate:
    """Create a client certificate with this remaining lifetime."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=30)
    return issue(start=start, life=timedelta(days=30) + lifetime)


def of_files(folder: Path, port: int) -> str:
    """Build an integration of a file for each status."""
    for name, lifetime in (("expiring", timedelta(days=3, hours=1)), ("expired", timedelta(days=-2))):
        issued = certificate(lifetime)
        (folder / f"{name}.crt").write_bytes(issued.pem)
        (folder / f"{name}.key").write_bytes(issued.key_pem)

    def bank(name: str) -> str:
        files = f"certificate: {{file: {name}.crt}}, private_key: {{file: {name}.key}}"
        auth = f"auth: {{type: mtls, allow_private_ca: true, {files}}}"
        return f"  f-{name}: {{endpoint_prefix: https://127.0.0.1:{port}, {auth}}}\n"

    def by_url(name: str) -> str:
        auth = "auth: {type: mtls, pem: {url: https://127.0.0.1:1/pem}}"
        return f"  f-{name}: {{endpoint_prefix: https://127.0.0.1:{port}, {auth}}}\n"

    def plain(name: str, path: str, password: str) -> str:
        auth = f"auth: {{type: basic, username: svc, password: {password}}}"
        return f"  f-{name}: {{endpoint_prefix: 'http://127.0.0.1:{port}{path}', {auth}}}\n"

    integrations = [
        plain("ok", "/", "{insecure_value: right}"),
        plain("failing", "/refusing", "{insecure_value: wrong}"),
        by_url("not_fetched"),
        plain("secret_missing", "/", "{file: not-there}"),
        bank("expiring"),
        bank("expired"),
    ]
    callers = 'callers: {all: {token: {insecure_value: of-a-caller}, integrations: "*"}}\n'
    return f"{callers}integrations:\n{''.join(integrations)}"


def with_certificate(port: int, lifetime: timedelta) -> dict[str, Any]:
    """Build a document with a client certificate of its own."""
    issued = certificate(lifetime)
    pair = {"certificate": {"inline": issued.pem.decode()}, "private_key": {"value": issued.key_pem.decode()}}
    return {
        "endpoint_prefix": f"https://127.0.0.1:{port}",
        "auth": {"type": "mtls", "allow_private_ca": True, **pair},
    }


@dataclass(frozen=True)
class Statuses:
    """A process with integrations of every status, each named for its status, and the port of their upstream."""

    child: SidekeyProcess
    api: Api
    port: int

    def ids_of(self, query: str) -> list[str]:
        return [item["id"] for item in self.api.get(f"/integrations?{query}")["items"]]

    def status(self, name: str) -> str:
        return str(self.api.get(f"/integrations/{name}")["status"])

    def fail(self, name: str, times: int = 3) -> None:
        for _ in range(times):
            assert get(self.child.proxy_port, f"/i/{name}/x", CALLER).status == 401

    def counts(self) -> Counter[str]:
        """Return the counts of a scrape by status."""
        page = get(self.child.admin_port, "/metrics").body
        samples = series(page, "sidekey_store_integrations")
        assert [labels["state"] for labels, _ in samples] == list(STATUSES)
        return +Counter({labels["state"]: int(count) for labels, count in samples})

    def listed(self) -> Counter[str]:
        """Return the IDs of stored integrations in the API by status."""
        items = self.api.get("/integrations")["items"]
        return Counter(item["status"] for item in items if item["source"] == "store")


@pytest.fixture
def statuses(tmp_path: Path) -> Iterator[Statuses]:
    with Nginx(tmp_path, SNIPPET) as nginx, managed(tmp_path, more=of_files(tmp_path, nginx.port)) as child:
        yield Statuses(child, Api(child.admin_port), nginx.port)


def test_every_status_is_listed_and_counted(statuses: Statuses, tmp_path: Path) -> None:
    """The metric counts stored integrations by the status in the list."""
    api, child, port = statuses.api, statuses.child, statuses.port
    api.create("/integrations", {"id": "expired", **with_certificate(port, LAPSING)})
    api.create("/integrations", {"id": "ok", **basic(port, "right")})
    api.create("/integrations", {"id": "failing", **basic(port, "wrong", "/refusing")})
    api.create("/integrations", {"id": "expiring", **with_certificate(port, timedelta(days=3, hours=1))})
    api.create("/integrations", {"id": "covered", **basic(port)})
    texts = {"title": "The CRM", "description": "Ours", "tags": ["a"]}
    api.create("/integrations", {"id": "invalid", **basic(port), "limits": {"in_flight": 500}, **texts})
    original = api.create("/integrations", {"id": "altered", **basic(port)})
    statuses.fail("failing")
    statuses.fail("f-failing")
    file_integration = (
        f"  covered: {{endpoint_prefix: 'http://127.0.0.1:{port}', auth: {{type: headers, headers: {{X-A: b}}}}}}\n"
    )
    child.rewrite(f"{child.config.read_text()}{file_integration}limits: {{in_flight: 100}}\n")
    alter(tmp_path / "store.db", "altered")
    stored = {"expired", "expiring", "failing", "covered", "invalid", "altered", "ok"}
    ids_by_status: Mapping[str, list[str]] = {
        "ok": ["covered", "f-ok", "ok"],
        "expiring": ["expiring", "f-expiring"],
        "failing": ["f-failing", "failing"],
        "unusable": [
            "altered",
            "covered",
            "expired",
            "f-expired",
            "f-not_fetched",
            "f-secret_missing",
            "invalid",
        ],
    }
    assert list(ids_by_status) == list(STATUSES)
    wait_until(lambda: {status: sorted(statuses.ids_of(f"status={status}")) for status in STATUSES} == ids_by_status)

    # The metric omits the stored integration whose ID a file has.
    counts = Counter({"ok": 1, "expiring": 1, "failing": 1, "unusable": 3})
    assert (statuses.counts(), statuses.listed()) == (counts, counts + Counter({"unusable": 1}))
    items = {item["id"]: item for item in api.get("/integrations?q=ir")["items"]}
    for name in ("expiring", "f-expiring", "expired", "f-expired"):
        assert datetime.fromisoformat(items[name]["expires_at"]), name
    problems = {
        "f-secret_missing": "auth.password: ",
        "f-not_fetched": "its client certificate was not fetched yet: ",
        "expired": "its client certificate expired on ",
        "covered": "a config file has the same integration ID",
        "invalid": "limits.in_flight: ",
        "altered": "something other than Sidekey changed its row",
    }
    assert {name: api.get(f"/integrations/{name}")["problem"].startswith(text) for name, text in problems.items()} == (
        dict.fromkeys(problems, True)
    )
    assert api.get("/integrations/failing")["failing_since"] is not None
    assert (api.get("/integrations/ok")["failing_since"], api.get("/integrations/ok")["problem"]) == (None, None)
    listed = json.loads(run_cli("list", "--json", "--config", str(child.config)).stdout)
    by_command = {item["id"]: (item["status"], item["problem"]) for item in listed}
    expected = {name: word for word, names in ids_by_status.items() for name in names}
    assert {name: word for name, (word, _) in by_command.items()} == {**expected, "covered": "ok"}
    for name in ("failing", "f-failing", *(stored - {"ok", "expiring", "covered"})):
        assert by_command[name][1] == api.get(f"/integrations/{name}")["problem"]
    # The API shows and finds the document of an integration that is not served.
    assert api.get("/integrations/invalid")["auth"]["password"]["set"] is True
    (item,) = api.get("/integrations?q=ours+HTTP+crm&tag=a&kind=basic&status=unusable")["items"]
    assert (item["id"], item["hosts"]) == ("invalid", [f"127.0.0.1:{port}"])
    # It does not show an altered document, which an editor can only replace completely.
    altered = api.get("/integrations/altered")
    assert (altered["version"], altered["kind"], "auth" in altered) == (1, None, False)
    patch = api.request("PATCH", "/integrations/altered", {"description": "x"}, match='"1"')
    assert (patch.status, "send the complete document with PUT" in patch.json["detail"]) == (422, True)
    refused = api.request("PUT", "/integrations/altered", original, match='"1"')
    assert (refused.status, refused.pointers) == (422, {"/auth/username", "/auth/password"})
    assert api.request("PUT", "/integrations/altered", basic(port), match='"1"').json["status"] == "ok"


def alter(database: Path, name: str) -> None:
    """Change a row by SQL."""
    with closing(sqlite3.connect(database)) as connection, connection:
        (body,) = connection.execute("SELECT body FROM sidekey_rows WHERE id = ?", (name,)).fetchone()
        document = {**json.loads(body), "updated_by": "somebody else"}
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        connection.execute("UPDATE sidekey_rows SET body = ?, revision = revision + 99 WHERE id = ?", (text, name))


def test_failing_integration_is_ok_after_a_new_secret_and_a_test(statuses: Statuses) -> None:
    """A test counts like a caller's request."""
    api = statuses.api
    api.create("/integrations", {"id": "it", **basic(statuses.port, "wrong", "/refusing")})
    statuses.fail("it", 2)
    assert statuses.status("it") == "ok"
    known = {"If-None-Match": api.request("GET", "/integrations/it").etag}
    assert api.request("GET", "/integrations/it", headers=known).status == 304
    assert api.request("POST", "/integrations/it/test").json["status"] == 401
    # The status is new although the stored row has not changed.
    assert api.request("GET", "/integrations/it", headers=known).json["status"] == "failing"
    assert statuses.ids_of("status=failing") == ["it"]
    assert statuses.counts() == Counter({"failing": 1})
    # A new secret resets the status, whether it is right or wrong.
    for password, word in (("wrong again", "failing"), ("right", "ok")):
        tag = api.request("GET", "/integrations/it").etag
        response = api.request("PATCH", "/integrations/it", {"auth": {"password": {"value": password}}}, match=tag)
        assert (response.status, response.json["status"], response.json["failing_since"]) == (200, "ok", None)
        if word == "failing":
            statuses.fail("it")
        else:
            wait_until(lambda: api.request("POST", "/integrations/it/test").status == 200)
        assert statuses.status("it") == word
    assert statuses.counts() == Counter({"ok": 1})
