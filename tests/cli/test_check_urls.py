"""fetched.py: `sidekey check` of certificates at URLs, with the place of each error."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidekey.cli.check_urls import check_urls
from sidekey.settings.load import Loaded, load
from support.ca import Authority
from support.certificates import SERVER_AUTH, issue
from support.child import run_process
from support.mounted import current
from support.raw import RawConnection
from support.upstream import RawUpstream, Script


def config(folder: Path, ca: Authority, port: int) -> Path:
    """Three integrations whose certificates lie at URLs; the keys of the last are in a file."""
    path = folder / "sidekey.yaml"
    head = 'hosts: {up.test: ["127.0.0.1"]}, allow_private: ["127.0.0.0/8"]'
    mtls = "type: mtls, allow_private_ca: true"
    path.write_text(f"""\
version: 1
network: {{{head}, trusted_ca: {{file: {ca.bundle}}}}}
integrations:
  good:
    endpoint_prefix: https://api.example.com
    auth: {{{mtls}, pem: {{url: "https://up.test:{port}/good"}}}}
  old:
    endpoint_prefix: https://api.example.com
    auth: {{{mtls}, pem: {{url: "https://up.test:{port}/old"}}}}
  gone:
    endpoint_prefix: https://api.example.com
    auth: {{{mtls}, certificate: {{url: "https://up.test:{port}/gone?k=not-to-be-seen"}}, private_key: {{file: key}}}}
""")
    return path


def serving() -> Script:
    good = current()
    old = issue(start=datetime(2026, 1, 1, tzinfo=UTC), life=timedelta(days=31))
    bodies = {b"/good": good.pem + good.key_pem, b"/old": old.pem + old.key_pem}

    async def script(connection: RawConnection) -> None:
        body = bodies.get((await connection.request()).target, b"")
        status = b"200" if body else b"410"
        await connection.send(b"HTTP/1.1 %b x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    return script


async def test_check_fetches_every_certificate_and_names_all_errors(ca: Authority, tmp_path: Path) -> None:
    """At once, with file, line and column; nothing of a URL's query."""
    async with RawUpstream(serving(), ssl_context=ca.server_context("up.test")) as upstream:
        path = config(tmp_path, ca, upstream.port)
        result = await asyncio.to_thread(run_process, "check", "--config", str(path))
        as_json = await asyncio.to_thread(run_process, "check", "--json", "--config", str(path))
        assert len(upstream.connections) == 6
    assert (result.returncode, result.stderr) == (1, "")
    places = [line.removeprefix(f"{path}:") for line in result.stdout.splitlines()]
    assert places == [
        "9:53: integrations.old.auth.pem: this certificate expired on 2026-02-01 00:00 UTC",
        "12:61: integrations.gone.auth.certificate: the server returned 410",
        "12:128: integrations.gone.auth.private_key: the file does not exist; "
        "a relative path starts at the config file's folder",
    ]
    assert [error["line"] for error in json.loads(as_json.stdout)["faults"]] == [9, 12, 12]
    assert "not-to-be-seen" not in result.stdout + as_json.stdout


async def test_check_tells_the_remarks_on_what_was_fetched(ca: Authority, tmp_path: Path) -> None:
    """An extended key usage without clientAuth is a warning, and the config is good."""
    issued = issue(start=datetime.now(UTC) - timedelta(days=1), usages=[SERVER_AUTH])
    body = issued.pem + issued.key_pem

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with RawUpstream(script, ssl_context=ca.server_context("up.test")) as upstream:
        path = config(tmp_path, ca, upstream.port)
        path.write_text(path.read_text().partition("  old:")[0])
        result = await asyncio.to_thread(run_process, "check", "--config", str(path))
    assert result.returncode == 0
    warning, last = result.stdout.splitlines()
    assert warning.startswith(f"warning: {path}:6:53: integrations.good.auth.pem: the extended key usage lacks")
    assert last == "ok: 1 integration"


def test_a_config_with_errors_is_not_fetched_for() -> None:
    """It has no snapshot to say by what rules."""
    with pytest.raises(ValueError, match="errors"):
        check_urls(Loaded())


def test_what_has_no_error_but_is_not_fetched_yet_counts_as_usable(ca: Authority, tmp_path: Path) -> None:
    """`list --usable` calls nobody, and a strict start does not wait for a server."""
    loaded = load(config(tmp_path, ca, 1))
    assert loaded.snapshot is not None
    assert loaded.of("unreadable") == []
    assert all(integration.usable for integration in loaded.snapshot.integrations.values())
