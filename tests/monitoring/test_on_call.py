"""The table for the person on call in docs/runbooks.md, tried with a running Sidekey and a real Prometheus.

Two callers use four integrations that fail for different reasons and one that works.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.http_get import get
from support.ports import free_port
from support.private_ca import Authority
from support.programs import require
from support.prometheus import expressions_of, metrics_of
from support.prometheus_server import SCRAPES, prometheus, query, until
from support.raw_connection import RawConnection
from support.sidekey_process import SidekeyProcess, run_cli, run_process
from support.upstream import RawUpstream

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "runbooks.md").read_text("utf-8").partition("\n## On call\n")[2].partition("\n## ")[0]
ROWS = {
    question: (re.findall("`([^`]+)`", metrics), re.findall("`([^`]+)`", log))
    for question, metrics, log in re.findall(r"^\| ([^|]+\?) \|([^|]*)\| ([^|]+) \|$", SECTION, re.M)
}
"""The expressions and commands for each question."""
DASHBOARD = json.loads((ROOT / "helm" / "sidekey" / "files" / "dashboard.json").read_text("utf-8"))
NEW = {
    "sidekey_denials_total",
    "sidekey_caller_requests_total",
    "sidekey_upstream_connects_total",
    "sidekey_phase_duration_seconds_bucket",
}
ENVIRONMENT = {"SECRET": "s3cret", "SHOP": "shop-t0ken", "BILLING": "billing-t0ken"}
FAILURES = {
    "crm": "401",
    "erp": "upstream_unreachable",
    "bank": "upstream_tls_failed",
    "mail": "credential_unavailable",
}


async def respond(connection: RawConnection) -> None:
    """Run an upstream that rejects the credential on some paths."""
    while True:
        target = (await connection.request()).target
        status = b"401 Unauthorized" if target.startswith(b"/crm") else b"200 OK"
        await connection.send(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)


def config(ca: Authority, good: int, foreign: int, closed: int) -> str:
    basic = "auth: {type: basic, username: u, password: {env: SECRET}}"
    return f"""\
network: {{hosts: {{up.test: ["127.0.0.1"]}}, allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {ca.bundle}}}}}
callers:
  shop: {{token: {{env: SHOP}}, integrations: "*"}}
  billing: {{token: {{env: BILLING}}, integrations: [crm, good]}}
integrations:
  crm: {{endpoint_prefix: "https://up.test:{good}/crm", tags: [sales], test: {{path: /whoami}}, {basic}}}
  erp: {{endpoint_prefix: "https://up.test:{closed}/erp", {basic}}}
  bank: {{endpoint_prefix: "https://up.test:{foreign}/bank", {basic}}}
  mail:
    endpoint_prefix: https://up.test:{good}/mail
    allow_other_domains: true
    allowed_domains: ["https://up.test:{good}"]
    auth: {{type: oauth2, client_id: c, client_secret: {{env: SECRET}}, token_endpoint: "https://up.test:{closed}/token"}}
  good: {{endpoint_prefix: "https://up.test:{good}/good", {basic}}}
"""


HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
"""


def send_requests(port: int) -> None:
    """Send the requests of the two callers."""
    for name in (*FAILURES, "good"):
        get(port, f"/i/{name}/orders", {"Sidekey-Token": ENVIRONMENT["SHOP"]})
    for path in ("/i/crm/orders", "/i/good/orders", "/i/bank/orders", "/i/crm/%2e%2e/mail"):
        get(port, path, {"Sidekey-Token": ENVIRONMENT["BILLING"]})


class OnCall:
    """The person on call, who queries Prometheus and filters the log."""

    def __init__(self, child: SidekeyProcess, port: int, folder: Path) -> None:
        self.child = child
        self._port = port
        self._folder = folder
        self._used = 0.0

    def find(self, expression: str) -> list[dict[str, str]]:
        """Return the labels of an expression's results as soon as it has some. NaN does not count."""

        def results() -> list[dict[str, str]] | None:
            if time.monotonic() > self._used + SCRAPES / 2:
                send_requests(self.child.proxy_port)
                self._used = time.monotonic()
            data = query(self._port, f"query?query={quote(expression)}")
            series = [] if data is None else data["result"]
            return [sample["metric"] for sample in series if sample["value"][1] != "NaN"] or None

        return until(results)

    def filter_log(self, command: str, name: str = "ID") -> str:
        """Return the output of a jq command of the table for an integration."""
        log = self._folder / "sidekey.log"
        log.write_text("".join(self.child.lines))
        require("jq")
        shell = command.replace("ID", name)
        result = subprocess.run(shell, shell=True, cwd=self._folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
async def on_call(ca: Authority, tmp_path: Path) -> Any:
    """Start Sidekey and a Prometheus that has scraped it twice."""
    closed = free_port()
    async with (
        RawUpstream(respond, ssl_context=ca.server_context("up.test")) as upstream,
        RawUpstream(respond, ssl_context=ca.server_context("other.test")) as foreign,
    ):
        text = config(ca, upstream.port, foreign.port, closed)
        with (
            SidekeyProcess(text, tmp_path, head=HEAD, environment=ENVIRONMENT) as child,
            prometheus(tmp_path, child.admin_port) as port,
        ):
            yield OnCall(child, port, tmp_path)
            await asyncio.to_thread(child.stop)


def labelled(results: list[dict[str, str]], *names: str) -> set[tuple[str, ...]]:
    return {tuple(result.get(name, "") for name in names) for result in results}


def check_table(person: OnCall) -> None:
    """Evaluate every expression of the table, and compare the result."""
    metrics, log = ROWS["Which integration fails, and how?"]
    failing = set(FAILURES.items())
    until(lambda: True if labelled(person.find(metrics[0]), "integration", "outcome") >= failing else None)
    assert "good" not in {name for name, *_ in labelled(person.find(metrics[0]), "integration")}
    lines = [json.loads(line) for line in person.filter_log(log[0]).splitlines()]
    outcomes = {(line["integration"], line["code"] or str(line["status"])) for line in lines}
    assert failing <= outcomes

    metrics, log = ROWS["Since when?"]
    alerts = {
        ("SidekeyCredentialRejected", "crm"),
        ("SidekeyUpstreamUnreachable", "erp"),
        ("SidekeyUpstreamTLSFailed", "bank"),
        ("SidekeyCredentialUnavailable", "mail"),
        ("SidekeyTokenEndpointUnreachable", "mail"),
    }
    until(lambda: True if labelled(person.find(metrics[0]), "alertname", "integration") >= alerts else None)
    for name in FAILURES:
        first = person.filter_log(log[0], name).splitlines()[0]
        # The failed token request is also in the log, before the first failed request.
        assert first <= min(line["timestamp"] for line in lines if line["integration"] == name)

    metrics, log = ROWS["Which credential, and is it still valid?"]
    assert ("mail", "oauth2") in labelled(person.find(metrics[0]), "integration", "kind")
    listed = run_cli(*log[0].split()[1:], "--config", str(person.child.config), environment=ENVIRONMENT)
    assert re.search(r"^crm +basic .*sales", listed.stdout, re.M)

    metrics, log = ROWS["Their side or ours?"]
    connects, tokens = metrics
    assert labelled(person.find(connects), "integration", "outcome") == {
        ("erp", "connection_refused"),
        ("bank", "tls_certificate_error"),
    }
    assert labelled(person.find(tokens), "integration", "outcome") == {("mail", "unreachable")}
    assert "the upstream refused the connection" in person.filter_log(log[0], "erp")
    assert "certificate" in person.filter_log(log[0], "bank")
    assert "token endpoint" in person.filter_log(log[0], "mail")
    assert set(person.filter_log(log[0], "crm").splitlines()) >= {"null"}
    assert {line["upstream"] for line in lines if line["integration"] == "erp"} == {None}
    assert None not in {line["upstream"] for line in lines if line["integration"] == "crm" and line["status"] == 401}
    test = next(line for line in log if line.startswith("sidekey test")).replace("ID", "crm").split()[1:]
    assert "401" in run_process(*test, "--config", str(person.child.config), environment=ENVIRONMENT).stdout

    metrics, log = ROWS["What do slow requests wait for?"]
    until(
        lambda: (
            True if labelled(person.find(metrics[0]), "phase") == {("grant",), ("connect",), ("first_byte",)} else None
        )
    )
    person.filter_log(log[0])

    metrics, log = ROWS["Who is affected?"]
    affected = {("shop", outcome) for outcome in FAILURES.values()} | {("billing", "401")}
    until(lambda: True if labelled(person.find(metrics[0]), "caller", "outcome") >= affected else None)
    assert set(person.filter_log(log[0], "crm").splitlines()) == {"shop", "billing"}
    assert set(person.filter_log(log[0], "erp").splitlines()) == {"shop"}

    metrics, log = ROWS["Why is it denied?"]
    assert labelled(person.find(metrics[0]), "integration", "reason") == {
        ("crm", "path_ambiguous"),
        ("unknown", "integration_unlisted"),
    }
    explanation = run_cli(
        "explain", "crm", "/%2e%2e/mail", "--config", str(person.child.config), environment=ENVIRONMENT
    )
    assert "must not contain a dot segment" in explanation.stdout

    metrics, log = ROWS["What has changed?"]
    text = person.child.config.read_text("utf-8")
    person.child.rewrite(text.replace("integrations: [crm, good]", "integrations: [crm, good, mail]"))
    person.child.process.send_signal(signal.SIGHUP)
    person.child.wait_for_line(lambda line: "config changed" in line)
    assert "billing" in person.filter_log(log[0])
    for expression in metrics:
        assert person.find(expression)

    _, log = ROWS["What became of this one request?"]
    response = get(person.child.proxy_port, "/i/erp/orders", {"Sidekey-Token": ENVIRONMENT["SHOP"]})
    name = response.headers["Sidekey-Request-Id"]
    person.child.wait_for_line(lambda line: name in line)
    (line,) = person.filter_log(log[0].replace("REQUEST", name)).splitlines()
    assert json.loads(line)["reason"] == "the upstream refused the connection"


async def test_every_row_of_the_table_finds_its_cause(on_call: OnCall) -> None:
    """The expressions and commands are those of the page. Panels with the same metrics have data too."""
    await asyncio.to_thread(check_table, on_call)
    for expression in expressions_of(DASHBOARD):
        if metrics_of(expression) & NEW:
            assert await asyncio.to_thread(on_call.find, expression), expression
