"""`sidekey list`: integrations of files and of the store."""

from __future__ import annotations

import json
import os
import pty
import termios
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from sidekey.cli.list import describe, lines, list_integrations
from sidekey.cli.running_status import RunningStatus, read_running_status
from sidekey.snapshot.snapshot import Address, Listen, Snapshot, StoredObjects
from sidekey.snapshot.status import FAILING_AFTER
from support.certificates import issue
from support.commands import GOOD, SECRET, TOKENS, write_config
from support.http_get import get
from support.nginx import Nginx
from support.plane import integration
from support.ports import free_port, listening_socket
from support.sidekey_process import SidekeyProcess, run_cli, run_process
from support.single_response import respond_once
from support.statuses import with_certificate, with_unreadable_secrets

NOW = 1_800_000_000.0
RUNNING = RunningStatus(
    statuses={
        "file": ("ok", ""),
        "saved": ("ok", ""),
        "sealed": ("unusable", "unreadable"),
        "lost": ("unusable", "invalid"),
        "ended": ("unusable", "certificate_expired"),
        "ending": ("expiring", "certificate_expires"),
        "unread": ("unusable", "unreadable"),
    }
)
UNKNOWN = RunningStatus(reason="not running")

FILE = replace(integration("file", "https://file.test/x"), description="of a file", tags=("a", "b"))
SAVED = replace(integration("saved", "https://saved.test"), stored=True)
SEALED = with_unreadable_secrets(replace(SAVED, id="sealed", base=None), "auth.password: it cannot be opened here")
OVERLAP = "covers https://saved.test as saved does: narrow one"
PUBLIC = f"""\
version: 1
integrations:
  crm:
    description: CRM send API
    tags: [crm, eu]
    endpoint_prefix: https://crm.example.com/api
    auth: {{type: basic, username: svc, password: {{insecure_value: {SECRET}}}}}
    add: {{headers: {{X-Tenant: acme, X-Other: {{secret: {{insecure_value: {SECRET}}}}}, Api-Key: {SECRET}}}}}
  sms:
    endpoint_prefix: https://sms.example.com
    auth:
      type: headers
      headers:
        X-Key: {{prefix: "Key ", secret: {{file: sms-key}}}}
        X-Region: eu-west
        X-Mail: {{file: sms-key}}
        X-Version: "3"
"""

SNAPSHOT = Snapshot(
    MappingProxyType({"file": FILE, "saved": SAVED, "sealed": SEALED}),
    stored=StoredObjects(problems={"saved": "", "sealed": "", "lost": OVERLAP}),
)


def test_each_id_is_listed_once_with_its_problem() -> None:
    """The list has stored integrations that are not served."""
    assert lines(list_integrations(SNAPSHOT, RUNNING, now=NOW, usable=False), UNKNOWN) == [
        "ID      KIND   BASE                 STATUS    TAGS  PROBLEM" + 46 * " " + "DESCRIPTION",
        "file    basic  https://file.test/x  ok        a, b" + 55 * " " + "of a file",
        f"lost    -      -                    unusable        {OVERLAP}",
        "saved   basic  https://saved.test   ok",
        "sealed  basic  -                    unusable        auth.password: it cannot be opened here",
    ]


def test_long_texts_go_below_the_row_on_a_narrow_terminal() -> None:
    """On a wide terminal and in a pipe, each integration has one line."""
    items = list_integrations(SNAPSHOT, RUNNING, now=NOW, usable=False)
    assert lines(items, UNKNOWN, 128) == lines(items, UNKNOWN)
    assert lines(items, UNKNOWN, 64) == [
        "ID      KIND   BASE                 STATUS    TAGS",
        "file    basic  https://file.test/x  ok        a, b",
        "    of a file",
        "lost    -      -                    unusable",
        f"    {OVERLAP}",
        "saved   basic  https://saved.test   ok",
        "sealed  basic  -                    unusable",
        "    auth.password: it cannot be opened here",
    ]


def test_metrics_of_a_running_process_are_listed() -> None:
    """An integration without a series has 0 requests."""
    running = replace(RUNNING, request_counts={"file": 7}, token_expiries={"saved": NOW + 60})
    table = lines(list_integrations(SNAPSHOT, running, now=NOW, usable=True), running)
    assert table == [
        "ID     KIND   BASE                 STATUS  EXPIRES (UTC)           TAGS  REQUESTS  DESCRIPTION",
        "file   basic  https://file.test/x  ok                              a, b  7         of a file",
        "saved  basic  https://saved.test   ok      token 2027-01-15 08:01        0",
    ]
    items = [
        describe(integration, running) for integration in list_integrations(SNAPSHOT, running, now=NOW, usable=True)
    ]
    assert [(item["requests"], item["token_expires_at"]) for item in items] == [(7, None), (0, "2027-01-15T08:01:00Z")]


def test_tags_filter_the_list() -> None:
    def ids(*tags: str) -> list[str]:
        return [
            integration.id for integration in list_integrations(SNAPSHOT, RUNNING, now=NOW, usable=False, tags=tags)
        ]

    assert (ids("a"), ids("a", "b"), ids("a", "c")) == (["file"], ["file"], [])


def test_json_has_the_same_content() -> None:
    items = {
        integration.id: describe(integration, UNKNOWN)
        for integration in list_integrations(SNAPSHOT, RUNNING, now=NOW, usable=False)
    }
    assert {name: (item["source"], item["status"]) for name, item in items.items()} == {
        "file": ("file", "ok"),
        "lost": ("store", "unusable"),
        "saved": ("store", "ok"),
        "sealed": ("store", "unusable"),
    }
    assert items["lost"] == {
        "id": "lost",
        "kind": None,
        "source": "store",
        "status": "unusable",
        "problem": OVERLAP,
        "base": None,
        "description": "",
        "tags": [],
        "headers": {},
        "usable": False,
        "expires_at": None,
        "token_expires_at": None,
        "requests": None,
    }


def test_control_characters_are_escaped() -> None:
    """Other people may have written these texts."""
    hostile = replace(FILE, description="\x1b[2Jgone \u202eevil\u2066\n  crm", tags=("\x9b1m",))
    _, line = lines(
        list_integrations(Snapshot(MappingProxyType({"file": hostile})), RUNNING, now=NOW, usable=False), UNKNOWN
    )
    assert line.endswith(r"ok      \x9b1m  \x1b[2Jgone \u202eevil\u2066\n  crm")


def test_status_of_certificates_and_secrets_is_listed() -> None:
    integrations = {
        "ended": with_certificate(FILE, NOW - 1),
        "ending": with_certificate(FILE, NOW + 86_400),
        "unread": with_unreadable_secrets(SAVED, "auth.password: /run/crm does not exist"),
    }
    stored = StoredObjects(problems={"unread": ""})
    snapshot = Snapshot({name: replace(item, id=name) for name, item in integrations.items()}, stored=stored)
    assert [(item["id"], item["status"], item["usable"], item["expires_at"]) for item in _describe_all(snapshot)] == [
        ("ended", "unusable", False, "2027-01-15T07:59:59Z"),
        ("ending", "expiring", True, "2027-01-16T08:00:00Z"),
        ("unread", "unusable", False, None),
    ]
    assert [integration.id for integration in list_integrations(snapshot, RUNNING, now=NOW, usable=True)] == ["ending"]
    expired, expiring, unreadable = lines(list_integrations(snapshot, RUNNING, now=NOW, usable=False), UNKNOWN)[1:]
    assert " unusable  certificate 2027-01-15 07:59 " in expired
    assert " expiring  certificate 2027-01-16 08:00 " in expiring
    assert "unusable" in unreadable


def _describe_all(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [
        describe(integration, UNKNOWN) for integration in list_integrations(snapshot, RUNNING, now=NOW, usable=False)
    ]


def test_list_shows_each_integration_in_one_line(tmp_path: Path) -> None:
    """A note explains why there are no metrics."""
    text = PUBLIC + f'listen: {{admin: "127.0.0.1:{free_port()}"}}\n'
    result = run_cli("list", "--config", write_config(tmp_path, text), environment={"COLUMNS": "40"})
    assert result.stdout.splitlines() == [
        "ID   KIND     BASE                         STATUS   TAGS     HEADERS                          DESCRIPTION",
        "crm  basic    https://crm.example.com/api  unknown  crm, eu  X-Tenant: acme                   CRM send API",
        "sms  headers  https://sms.example.com      unknown           X-Region: eu-west, X-Version: 3",
    ]
    note = "note: status `unknown`, no request counts and no token expiry: no response from 127.0.0.1:"
    assert result.stderr.startswith(note)
    assert SECRET not in result.stdout + result.stderr


def test_list_reads_metrics_of_a_running_process(tmp_path: Path) -> None:
    config = "endpoint_prefix: 'http://127.0.0.1:1/x', auth: {type: headers, headers: {X: y}}"
    with SidekeyProcess(f"integrations: {{crm: {{{config}}}}}\n", tmp_path) as child:
        for _ in range(3):
            assert get(child.proxy_port, "/i/crm/x").status == 502
        result = run_cli("list", "--config", str(child.config), "--json")
        assert child.stop() == 0
    (item,) = json.loads(result.stdout)
    assert (result.stderr, item["requests"], item["headers"]) == ("", 3, {"X": "y"})


def test_list_shows_failing_integrations_without_a_store(tmp_path: Path) -> None:
    snippet = "location /open { return 200; } location / { return 401; }"
    with Nginx(tmp_path, snippet) as nginx:
        prefixes = {
            "rejected": f"http://127.0.0.1:{nginx.port}/x",
            "refused": f"http://127.0.0.1:{free_port()}",
            "nameless": "http://nowhere.invalid",
            "well": f"http://127.0.0.1:{nginx.port}/open",
        }
        auth = "auth: {type: headers, headers: {X: y}}"
        entries = "".join(f"  {name}: {{endpoint_prefix: '{url}', {auth}}}\n" for name, url in prefixes.items())
        with SidekeyProcess(f"integrations:\n{entries}", tmp_path) as child:
            for name in prefixes:
                for _ in range(FAILING_AFTER):
                    get(child.proxy_port, f"/i/{name}/")
            running = json.loads(run_cli("list", "--json", "--config", str(child.config)).stdout)
            table = run_cli("list", "--config", str(child.config)).stdout
            assert child.stop() == 0
            stopped = json.loads(run_cli("list", "--json", "--config", str(child.config)).stdout)
    failing = {"rejected": "failing", "refused": "failing", "nameless": "failing"}
    assert {item["id"]: item["status"] for item in running} == {**failing, "well": "ok"}
    assert all("requests have failed" in item["problem"] for item in running if item["id"] != "well")
    assert [line.split()[3] for line in table.splitlines()[1:]] == ["failing", "failing", "failing", "ok"]
    assert {item["status"] for item in stopped} == {"unknown"}
    assert all("Sidekey is not running there" in item["problem"] for item in stopped)


def test_expired_certificate_and_missing_secret_are_listed_without_a_running_process(tmp_path: Path) -> None:
    issued = issue(start=datetime(2026, 1, 1, tzinfo=UTC), life=timedelta(days=31))
    (tmp_path / "tls.crt").write_bytes(issued.pem)
    (tmp_path / "tls.key").write_bytes(issued.key_pem)
    files = "certificate: {file: tls.crt}, private_key: {file: tls.key}"
    bank = f"  bank: {{endpoint_prefix: 'https://bank.example.com', auth: {{type: mtls, {files}}}}}\n"
    path = write_config(tmp_path, f"{GOOD}{bank}listen: {{admin: '127.0.0.1:{free_port()}'}}\n", sms_key=None)
    items = json.loads(run_cli("list", "--json", "--config", path).stdout)
    assert {item["id"]: item["status"] for item in items} == {
        "bank": "unusable",
        "crm": "unknown",
        "sms": "unusable",
    }


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nup\n", "is not Sidekey"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "requires an operator's token"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsidekey_build_info", "no response from"),
    ],
    ids=["another program", "a store", "cut"],
)
def test_missing_metrics_are_reported(response: bytes, reason: str) -> None:
    listener = listening_socket()
    address = Address(port=listener.getsockname()[1])
    with respond_once(listener, response) as received:
        running = read_running_status(Snapshot({}, listen=Listen(admin=address)))
    assert received[0].startswith(b"GET /metrics HTTP/1.1\r\n")
    assert reason in running.reason
    assert running.requests("crm") is None
    assert "port 0" in read_running_status(Snapshot({}, listen=Listen(admin=Address()))).reason


def test_metrics_are_parsed() -> None:
    """Request counts are sums of outcomes. Invalid numbers are ignored."""
    text = (
        b'sidekey_build_info{version="1"} 1\n'
        b'sidekey_requests_total{integration="crm",outcome="2xx"} 1.000004e+06\n'
        b'sidekey_requests_total{integration="crm",outcome="upstream_timeout"} 2.0\n'
        b'sidekey_requests_total{integration="sms",outcome="2xx"} 1e999\n'
        b'sidekey_requests_total{integration="sms",outcome="on\ntwo lines"} 7\n'
        b'sidekey_credential_expiry_timestamp_seconds{credential="token",integration="crm"} 1.8000000005e+09\n'
        b'sidekey_credential_expiry_timestamp_seconds{credential="certificate",integration="sms"} 1.8e+09\n'
        b'sidekey_integration_failing_since_timestamp_seconds{integration="sms"} 1.8e+09\n'
        b'sidekey_integration_failing_since_timestamp_seconds{integration="crm"} NaN\n'
        b'sidekey_integration_status{integration="crm",reason="",status="ok"} 1.0\n'
        b'sidekey_integration_status{integration="sms",reason="requests_failed",status="failing"} 1.0\n'
        b'sidekey_integration_status{integration="new",reason="later",status="resting"} 1.0\n'
    )
    listener = listening_socket()
    address = Address(port=listener.getsockname()[1])
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    with respond_once(listener, head + text):
        running = read_running_status(Snapshot({}, listen=Listen(admin=Address(), metrics=address)))
    assert running == RunningStatus(
        {"crm": 1_000_006},
        {"crm": 1_800_000_000.5},
        {"sms": 1_800_000_000},
        {"sms": 1_800_000_000.0},
        {"crm": ("ok", ""), "sms": ("failing", "requests_failed")},
    )


def test_list_fits_the_terminal(tmp_path: Path) -> None:
    path = write_config(tmp_path, PUBLIC + "listen: {admin: '127.0.0.1:0'}\n")
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 60))
    assert run_process("list", "--config", path, output=Path(os.ttyname(terminal))).returncode == 0
    os.close(terminal)
    text = os.read(controller, 4096).decode()
    os.close(controller)
    assert text.splitlines() == [
        "ID   KIND     BASE                         STATUS   TAGS",
        "crm  basic    https://crm.example.com/api  unknown  crm, eu",
        "    X-Tenant: acme",
        "    CRM send API",
        "sms  headers  https://sms.example.com      unknown",
        "    X-Region: eu-west, X-Version: 3",
    ]


def test_usable_omits_integrations_without_a_secret(tmp_path: Path) -> None:
    admin = f"127.0.0.1:{free_port()}"
    path = write_config(tmp_path, f"{GOOD}listen: {{admin: '{admin}'}}\n", sms_key=None)
    assert [line.split()[0] for line in run_cli("list", "--config", path).stdout.splitlines()] == ["ID", "crm", "sms"]
    usable = run_cli("list", "--usable", "--json", "--config", path)
    assert json.loads(usable.stdout) == [
        {
            "id": "crm",
            "kind": "basic",
            "source": "file",
            "status": "unknown",
            "problem": f"no response from {admin}: Sidekey is not running there, or it is stuck",
            "base": "https://crm.example.com/api",
            "description": "CRM send API",
            "tags": ["crm", "eu"],
            "headers": {},
            "usable": True,
            "expires_at": None,
            "token_expires_at": None,
            "requests": None,
        }
    ]


def test_list_shows_oauth2_integrations_with_their_base_url(tmp_path: Path) -> None:
    """The command requests no token: an integration with readable secrets is usable."""
    path = write_config(tmp_path, TOKENS)
    campaigns = "campaigns  responsys  https://login2.responsys.net/rest/api/v1.3  unknown  Triggered messages"
    assert run_cli("list", "--usable", "--config", path).stdout.splitlines()[1:] == [campaigns]
    (tmp_path / "shop-secret").write_text(SECRET)
    usable = json.loads(run_cli("list", "--usable", "--json", "--config", path).stdout)
    assert [(item["id"], item["kind"], item["base"]) for item in usable] == [
        ("campaigns", "responsys", "https://login2.responsys.net/rest/api/v1.3"),
        ("shop", "oauth2", "https://api.europe-west1.gcp.commercetools.com"),
    ]
