"""What `sidekey list` says of integrations of files and of the store."""

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

from sidekey.cli.list import RunningStatus, ask, described, lines, listed
from sidekey.snapshot.snapshot import Address, Listen, Snapshot, Stored
from sidekey.snapshot.status import FAILING
from support.certificates import issue
from support.child import Child, run_cli, run_process
from support.commands import GOOD, SECRET, TOKENS, write_config
from support.http_get import get
from support.nginx import Nginx
from support.plane import integration
from support.ports import free_port, listening_socket
from support.single_response import answering_once
from support.statuses import certified, unread

NOW = 1_800_000_000.0
RUNNING = RunningStatus()
UNKNOWN = RunningStatus(reason="nobody was asked")

FILE = replace(integration("file", "https://file.test/x"), description="of a file", tags=("a", "b"))
SAVED = replace(integration("saved", "https://saved.test"), stored=True)
SEALED = unread(replace(SAVED, id="sealed", base=None), "auth.password: it cannot be opened here")
LOST = "covers https://saved.test as saved does: narrow one"
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
    stored=Stored(problems={"saved": "", "sealed": "", "lost": LOST}),
)


def test_each_id_is_there_once_with_what_is_wrong_with_it() -> None:
    """Also one of the store that is not served."""
    assert lines(listed(SNAPSHOT, RUNNING, now=NOW, usable=False), UNKNOWN) == [
        "ID      KIND   BASE                 STATUS    TAGS  PROBLEM" + 46 * " " + "DESCRIPTION",
        "file    basic  https://file.test/x  ok        a, b" + 55 * " " + "of a file",
        f"lost    -      -                    unusable        {LOST}",
        "saved   basic  https://saved.test   ok",
        "sealed  basic  -                    unusable        auth.password: it cannot be opened here",
    ]


def test_on_a_narrow_terminal_long_texts_go_below() -> None:
    """Piped, and where there is room, each integration is one line."""
    found = listed(SNAPSHOT, RUNNING, now=NOW, usable=False)
    assert lines(found, UNKNOWN, 128) == lines(found, UNKNOWN)
    assert lines(found, UNKNOWN, 64) == [
        "ID      KIND   BASE                 STATUS    TAGS",
        "file    basic  https://file.test/x  ok        a, b",
        "    of a file",
        "lost    -      -                    unusable",
        f"    {LOST}",
        "saved   basic  https://saved.test   ok",
        "sealed  basic  -                    unusable",
        "    auth.password: it cannot be opened here",
    ]


def test_what_a_running_process_says_is_beside_it() -> None:
    """Requests of all outcomes; an ID without a series has had none. Of a token it alone knows the end."""
    running = RunningStatus({"file": 7}, {"saved": NOW + 60})
    table = lines(listed(SNAPSHOT, running, now=NOW, usable=True), running)
    assert table == [
        "ID     KIND   BASE                 STATUS  EXPIRES (UTC)           TAGS  REQUESTS  DESCRIPTION",
        "file   basic  https://file.test/x  ok                              a, b  7         of a file",
        "saved  basic  https://saved.test   ok      token 2027-01-15 08:01        0",
    ]
    found = [described(each, running) for each in listed(SNAPSHOT, running, now=NOW, usable=True)]
    assert [(each["requests"], each["token_expires_at"]) for each in found] == [(7, None), (0, "2027-01-15T08:01:00Z")]


def test_only_those_with_every_tag_are_listed() -> None:
    def ids(*tags: str) -> list[str]:
        return [each.id for each in listed(SNAPSHOT, RUNNING, now=NOW, usable=False, tags=tags)]

    assert (ids("a"), ids("a", "b"), ids("a", "c")) == (["file"], ["file"], [])


def test_the_same_is_there_for_machines() -> None:
    found = {each.id: described(each, UNKNOWN) for each in listed(SNAPSHOT, RUNNING, now=NOW, usable=False)}
    assert {name: (each["source"], each["status"]) for name, each in found.items()} == {
        "file": ("file", "ok"),
        "lost": ("store", "unusable"),
        "saved": ("store", "ok"),
        "sealed": ("store", "unusable"),
    }
    assert found["lost"] == {
        "id": "lost",
        "kind": None,
        "source": "store",
        "status": "unusable",
        "problem": LOST,
        "base": None,
        "description": "",
        "tags": [],
        "headers": {},
        "usable": False,
        "expires_at": None,
        "token_expires_at": None,
        "requests": None,
    }


def test_what_is_not_served_is_not_usable() -> None:
    assert "lost" not in [each.id for each in listed(SNAPSHOT, RUNNING, now=NOW, usable=True)]


def test_without_a_store_there_are_those_of_files() -> None:
    assert [each.id for each in listed(replace(SNAPSHOT, stored=None), RUNNING, now=NOW, usable=False)] == [
        "file",
        "saved",
        "sealed",
    ]
    assert lines([], UNKNOWN) == []


def test_texts_of_others_command_no_terminal() -> None:
    """A description, a tag or a reason may be anybody's."""
    hostile = replace(FILE, description="\x1b[2Jgone \u202eevil\u2066\n  crm", tags=("\x9b1m",))
    _, line = lines(listed(Snapshot(MappingProxyType({"file": hostile})), RUNNING, now=NOW, usable=False), UNKNOWN)
    assert line.endswith(r"ok      \x9b1m  \x1b[2Jgone \u202eevil\u2066\n  crm")


def test_certificates_and_secrets_are_told_as_the_api_tells_them() -> None:
    """Nothing is known here of requests."""
    integrations = {
        "ended": certified(FILE, NOW - 1),
        "ending": certified(FILE, NOW + 86_400),
        "unread": unread(SAVED, "auth.password: /run/crm does not exist"),
    }
    stored = Stored(problems={"unread": ""})
    snapshot = Snapshot({name: replace(each, id=name) for name, each in integrations.items()}, stored=stored)
    assert [(each["id"], each["status"], each["usable"], each["expires_at"]) for each in _described(snapshot)] == [
        ("ended", "unusable", False, "2027-01-15T07:59:59Z"),
        ("ending", "expiring", True, "2027-01-16T08:00:00Z"),
        ("unread", "unusable", False, None),
    ]
    assert [each.id for each in listed(snapshot, RUNNING, now=NOW, usable=True)] == ["ending"]
    ended, ending, without = lines(listed(snapshot, RUNNING, now=NOW, usable=False), UNKNOWN)[1:]
    assert " unusable  certificate 2027-01-15 07:59 " in ended
    assert " expiring  certificate 2027-01-16 08:00 " in ending
    assert without.endswith("auth.password: /run/crm does not exist               of a file") or "unusable" in without


def _described(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [described(each, UNKNOWN) for each in listed(snapshot, RUNNING, now=NOW, usable=False)]


def test_list_shows_each_integration_in_one_line(tmp_path: Path) -> None:
    """In columns, and whole, as nobody's terminal is written to; a note says what could not be asked."""
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


def test_list_asks_a_running_process(tmp_path: Path) -> None:
    """For what has come since it started, by the listener that the config names."""
    config = "endpoint_prefix: 'http://127.0.0.1:1/x', auth: {type: headers, headers: {X: y}}"
    with Child(f"integrations: {{crm: {{{config}}}}}\n", tmp_path) as child:
        for _ in range(3):
            assert get(child.proxy_port, "/i/crm/x").status == 502
        result = run_cli("list", "--config", str(child.config), "--json")
        assert child.stop() == 0
    (found,) = json.loads(result.stdout)
    assert (result.stderr, found["requests"], found["headers"]) == ("", 3, {"X": "y"})


def test_list_says_failing_where_every_request_fails_and_no_store_is_there(tmp_path: Path) -> None:
    """Rejected with 401, refused by the host, or without DNS."""
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
        with Child(f"integrations:\n{entries}", tmp_path) as child:
            for name in prefixes:
                for _ in range(FAILING):
                    get(child.proxy_port, f"/i/{name}/")
            running = json.loads(run_cli("list", "--json", "--config", str(child.config)).stdout)
            table = run_cli("list", "--config", str(child.config)).stdout
            assert child.stop() == 0
            stopped = json.loads(run_cli("list", "--json", "--config", str(child.config)).stdout)
    failing = {"rejected": "failing", "refused": "failing", "nameless": "failing"}
    assert {each["id"]: each["status"] for each in running} == {**failing, "well": "ok"}
    assert all("requests have failed" in each["problem"] for each in running if each["id"] != "well")
    assert [line.split()[3] for line in table.splitlines()[1:]] == ["failing", "failing", "failing", "ok"]
    assert {each["status"] for each in stopped} == {"unknown"}
    assert all("Sidekey is not running there" in each["problem"] for each in stopped)


def test_expired_certificate_and_missing_secret_need_no_running_process(tmp_path: Path) -> None:
    """The config alone makes them certain."""
    issued = issue(start=datetime(2026, 1, 1, tzinfo=UTC), life=timedelta(days=31))
    (tmp_path / "tls.crt").write_bytes(issued.pem)
    (tmp_path / "tls.key").write_bytes(issued.key_pem)
    files = "certificate: {file: tls.crt}, private_key: {file: tls.key}"
    bank = f"  bank: {{endpoint_prefix: 'https://bank.example.com', auth: {{type: mtls, {files}}}}}\n"
    path = write_config(tmp_path, f"{GOOD}{bank}listen: {{admin: '127.0.0.1:{free_port()}'}}\n", sms_key=None)
    found = json.loads(run_cli("list", "--json", "--config", path).stdout)
    assert {each["id"]: each["status"] for each in found} == {
        "bank": "unusable",
        "crm": "unknown",
        "sms": "unusable",
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nup\n", "is not Sidekey"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "asks for an operator's token"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsidekey_build_info", "no response from"),
    ],
    ids=["another program", "a store", "cut"],
)
def test_what_cannot_be_asked_is_told(answer: bytes, reason: str) -> None:
    """And nothing is shown for it."""
    listener = listening_socket()
    where = Address(port=listener.getsockname()[1])
    with answering_once(listener, answer) as received:
        found = ask(Snapshot({}, listen=Listen(admin=where)))
    assert received[0].startswith(b"GET /metrics HTTP/1.1\r\n")
    assert reason in found.reason
    assert found.requests("crm") is None
    assert "port 0" in ask(Snapshot({}, listen=Listen(admin=Address()))).reason


def test_numbers_of_metrics_are_read() -> None:
    """Sums of outcomes; what is no number of ours is left out."""
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
    )
    listener = listening_socket()
    where = Address(port=listener.getsockname()[1])
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    with answering_once(listener, head + text):
        found = ask(Snapshot({}, listen=Listen(admin=Address(), metrics=where)))
    assert found == RunningStatus(
        {"crm": 1_000_006}, {"crm": 1_800_000_000.5}, {"sms": 1_800_000_000}, {"sms": 1_800_000_000.0}
    )


def test_list_fits_the_terminal_that_it_writes_to(tmp_path: Path) -> None:
    """Below each row is what has no room beside it; nothing is cut."""
    path = write_config(tmp_path, PUBLIC + "listen: {admin: '127.0.0.1:0'}\n")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    assert run_process("list", "--config", path, output=Path(os.ttyname(theirs))).returncode == 0
    os.close(theirs)
    text = os.read(ours, 4096).decode()
    os.close(ours)
    assert text.splitlines() == [
        "ID   KIND     BASE                         STATUS   TAGS",
        "crm  basic    https://crm.example.com/api  unknown  crm, eu",
        "    X-Tenant: acme",
        "    CRM send API",
        "sms  headers  https://sms.example.com      unknown",
        "    X-Region: eu-west, X-Version: 3",
    ]


def test_list_usable_leaves_out_what_has_no_secret(tmp_path: Path) -> None:
    """An integration whose secret cannot be read would answer credential_unavailable."""
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


def test_list_shows_kinds_that_call_and_where_their_reverse_door_leads(tmp_path: Path) -> None:
    """An integration is usable as soon as its secrets can be read: listing calls nobody for a token."""
    path = write_config(tmp_path, TOKENS)
    campaigns = "campaigns  responsys  https://login2.responsys.net/rest/api/v1.3  unknown  Triggered messages"
    assert run_cli("list", "--usable", "--config", path).stdout.splitlines()[1:] == [campaigns]
    (tmp_path / "shop-secret").write_text(SECRET)
    usable = json.loads(run_cli("list", "--usable", "--json", "--config", path).stdout)
    assert [(each["id"], each["kind"], each["base"]) for each in usable] == [
        ("campaigns", "responsys", "https://login2.responsys.net/rest/api/v1.3"),
        ("shop", "oauth2", "https://api.europe-west1.gcp.commercetools.com"),
    ]
