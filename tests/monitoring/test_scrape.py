"""A scrape of Sidekey after requests with many outcomes fits the linter, the dashboard and the rules."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import ssl
from base64 import b64encode
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest
from joserfc.jwk import ECKey
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support.caller_certificates import CallerCa
from support.certificate_files import mount, require_client_certificate, valid_now
from support.http_get import get
from support.ports import free_port
from support.private_ca import Authority
from support.prometheus import documented, expressions_of, metrics_of, promtool, rules_of, without_data
from support.raw_connection import DEADLINE, RawConnection
from support.scraping import OPENMETRICS, samples
from support.sidekey_process import SidekeyProcess
from support.upstream import RawUpstream

FILES = Path(__file__).parents[2] / "helm" / "sidekey" / "files"
ALERTS = FILES / "alerts.yaml"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text("utf-8"))
HEAD = """\
version: 1
listen:
  proxy: "127.0.0.1:{proxy}"
  admin: "127.0.0.1:{admin}"
  tls: {{certificate: {{file: server.crt}}, private_key: {{file: server.key}}}}
"""
TOKEN = {"Sidekey-Token": "t0ken"}
PATHS = (
    "/i/plain/200",
    "/i/plain/401",
    "/i/plain/404",
    "/i/plain/429",
    "/i/plain/503",
    "/i/plain/%2e%2e/secret",
    "/i/stranger/200",
    "/p/hook",
    "/nowhere",
)
REQUESTS = (
    *PATHS,
    "/i/tokens/200",
    "/i/refused/200",
    "/i/bank/200",
    "/i/missing/200",
    "/i/proxied/200",
    *["/i/down/200"] * 3,
)
OPERATOR = "an-operators-token"
ISSUER_KEY = ECKey.generate_key("P-256")


@dataclass(frozen=True, slots=True)
class Process:
    """Figures of a process from /proc and prlimit(2)."""

    started: float
    processor_seconds: float
    virtual: int
    resident: int
    most_descriptors: int


@dataclass(frozen=True, slots=True)
class Scraped:
    """The metrics in both formats, the statuses of the requests before the scrape, and figures of the process."""

    page: str
    openmetrics: str
    statuses: tuple[int, ...]
    process: Process


def process(number: int) -> Process:
    """Read the figures of a process (proc(5))."""
    folder, ticks = Path(f"/proc/{number}"), os.sysconf("SC_CLK_TCK")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return Process(
        started=int(booted.split()[1]) + int(fields[19]) / ticks,
        processor_seconds=(int(fields[11]) + int(fields[12])) / ticks,
        virtual=int(fields[20]),
        resident=int(fields[21]) * resource.getpagesize(),
        most_descriptors=resource.prlimit(number, resource.RLIMIT_NOFILE)[0],
    )


async def respond(connection: RawConnection) -> None:
    """Run a provider: `/token` issues a token, `/refused` does not, other paths end in the response status."""
    while True:
        target = (await connection.request()).target.decode()
        status, body = target[-3:], {}
        if target == "/token":
            status, body = "200", {"access_token": "tok", "expires_in": 3600}
        elif target == "/keys":
            status, body = "200", {"keys": [ISSUER_KEY.as_dict(private=False)]}
        elif target == "/refused":
            status, body = "401", {"error": "invalid_client"}
        body = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        await connection.send(head.encode() + body)


def config(ca: Authority, port: int, closed: int) -> str:
    """Return a config with one integration for each outcome."""

    def oauth2(path: str) -> str:
        return (
            f"endpoint_prefix: https://up.test:{port}/api, auth: {{type: oauth2, client_id: c, "
            f"token_endpoint: https://up.test:{port}/{path}, client_secret: {{env: SECRET}}}}"
        )

    basic = "auth: {type: basic, username: u, password: {env: SECRET}}"
    files = "certificate: {file: tls.crt}, private_key: {file: tls.key}"
    command = basic.replace("{env: SECRET}", "{command: [/bin/false]}")
    return f"""\
network: {{hosts: {{up.test: ["127.0.0.1"]}}, allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {ca.bundle}}}}}
ca: {{folder: state}}
store: {{path: store.db, keys: [{{id: k1, key: {{env: STORE_KEY}}}}]}}
admin:
  tokens: {{ops: {{token: {{env: OPS}}, role: admin}}}}
  oidc:
    issuer: https://up.test:{closed}
    client_id: sidekey
    client_secret: {{env: SECRET}}
    redirect_url: http://127.0.0.1:1/ui/callback
    roles: {{claim: groups, map: {{admins: admin}}}}
jwt_issuers:
  cluster:
    issuer: https://issuer.test
    audience: sidekey
    jwks: {{url: "https://up.test:{port}/keys"}}
    trusted_ca: {{file: {ca.bundle}}}
callers: {{all: {{token: {{env: TOKEN}}, integrations: "*", presets: [hook]}}}}
presets:
  hook: {{integration: plain, url: "https://up.test:{port}/api/hook", content_type: text/plain}}
integrations:
  plain: {{endpoint_prefix: "https://up.test:{port}/api", {basic}}}
  down: {{endpoint_prefix: "https://up.test:{closed}", {basic}}}
  proxied: {{endpoint_prefix: "https://93.184.215.14", proxy: {{url: "http://127.0.0.1:9"}}, {basic}}}
  missing: {{endpoint_prefix: "https://up.test:{port}", {basic.replace("SECRET", "ABSENT")}}}
  bank: {{endpoint_prefix: "https://up.test:{port}", auth: {{type: mtls, allow_private_ca: true, {files}}}}}
  tokens: {{{oauth2("token")}}}
  refused: {{{oauth2("refused")}}}
  command: {{endpoint_prefix: "https://up.test:{port}/api", {command}}}
"""


def status_of(proxy: int, path: str, trust: ssl.SSLContext) -> int:
    """Send a request over TLS, and return its status."""
    with closing(HTTPSConnection("127.0.0.1", proxy, timeout=DEADLINE, context=trust)) as connection:
        connection.request("GET", path, headers=TOKEN)
        return connection.getresponse().status


def status_in_tunnel(proxy: int, port: int, trust: ssl.SSLContext) -> int:
    """Send a request for no target of `plain` in a tunnel without TLS of its own, and return its status."""
    with closing(HTTPSConnection("127.0.0.1", proxy, timeout=DEADLINE, context=trust)) as connection:
        connection.request("CONNECT", f"up.test:{port}", headers={"X-Integration-Id": "plain", **TOKEN})
        with HTTPResponse(connection.sock, method="CONNECT") as opened:
            opened.begin()
            assert opened.status == 200
        connection.sock.sendall(f"GET / HTTP/1.1\r\nHost: up.test:{port}\r\n\r\n".encode())
        with HTTPResponse(connection.sock) as response:
            response.begin()
            return response.status


def operate(admin: int) -> int:
    """Send an operator's request for a missing object, and return the status."""
    with closing(HTTPConnection("127.0.0.1", admin, timeout=DEADLINE)) as connection:
        connection.request(
            "DELETE", "/api/v1/callers/nobody", headers={"Authorization": f"Bearer {OPERATOR}", "If-Match": '"1"'}
        )
        return connection.getresponse().status


@pytest.fixture(scope="module")
def scraped(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Scraped:
    """Scrape a process that only these tests use."""
    return asyncio.run(scrape(ca, tmp_path_factory.mktemp("scraped")))


async def scrape(ca: Authority, folder: Path) -> Scraped:
    """Return the metrics of a process after all these requests."""
    context = require_client_certificate(ca.server_context("up.test"), mount(folder, valid_now()))
    context.verify_mode = ssl.CERT_OPTIONAL
    callers = CallerCa.create(folder)
    callers.server()
    trust = callers.context()
    async with RawUpstream(respond, ssl_context=context) as upstream:
        text = config(ca, upstream.port, free_port())
        variables = {"SECRET": "s3cret", "TOKEN": "t0ken", "STORE_KEY": b64encode(bytes(32)).decode(), "OPS": OPERATOR}
        with SidekeyProcess(text, folder, head=HEAD, arguments=["--allow-commands"], environment=variables) as child:
            statuses = [await asyncio.to_thread(status_of, child.proxy_port, path, trust) for path in REQUESTS]
            assert await asyncio.to_thread(status_in_tunnel, child.proxy_port, upstream.port, trust) == 403
            with pytest.raises((OSError, HTTPException)):
                await asyncio.to_thread(get, child.proxy_port, "/i/plain/200")
            assert await asyncio.to_thread(operate, child.admin_port) == 404
            page = (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
            figures = process(child.process.pid)
            openmetrics = (await asyncio.to_thread(get, child.admin_port, "/metrics", {"Accept": OPENMETRICS})).body
            await asyncio.to_thread(child.stop)
    return Scraped(page, openmetrics, tuple(statuses), figures)


def test_promtool_finds_nothing_in_a_live_scrape(scraped: Scraped) -> None:
    assert scraped.statuses == (200, 401, 404, 429, 503, 400, 403, 405, 404, 200, 502, 200, 502, 502, 502, 502, 502)
    assert len({line for line in scraped.page.splitlines() if line.startswith("sidekey_requests_total{")}) >= 13
    result = promtool("check", "metrics", text=scraped.page)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_live_scrape_is_valid_openmetrics(scraped: Scraped) -> None:
    """It has the families of the text format, each once."""
    names = [family.name for family in text_string_to_metric_families(scraped.openmetrics)]
    types = [line.split()[2] for line in scraped.page.splitlines() if line.startswith("# TYPE ")]
    assert names == [name.removesuffix("_total") for name in types]


def test_live_scrape_has_every_documented_family_in_order(scraped: Scraped) -> None:
    """Each has the type from docs/metrics.md, and its help text is the beginning of the meaning there."""
    lines = scraped.page.splitlines()
    types = [line.split()[2:] for line in lines if line.startswith("# TYPE sidekey_")]
    helps = [line.split(maxsplit=3)[2:] for line in lines if line.startswith("# HELP sidekey_")]
    rows = documented()
    assert types == [[name, row.type] for name, row in rows.items()]
    assert [name for name, _ in helps] == list(rows)
    assert [name for name, text in helps if not rows[name].meaning.startswith(text)] == []


def test_process_metrics_match_proc(scraped: Scraped) -> None:
    values = {name: value for (name, labels), value in samples(scraped.page).items() if not labels}
    process = scraped.process
    assert values["process_start_time_seconds"] == pytest.approx(process.started, abs=0.02)
    assert values["process_max_fds"] == process.most_descriptors
    assert 10 < values["process_open_fds"] < process.most_descriptors
    assert 0.8 < values["process_resident_memory_bytes"] / process.resident < 1.25
    assert 0.8 < values["process_virtual_memory_bytes"] / process.virtual < 1.25
    assert 0 < values["process_cpu_seconds_total"] < process.processor_seconds + 0.01


def test_every_panel_finds_data_in_a_live_scrape(scraped: Scraped, tmp_path: Path) -> None:
    expressions = [text for text in expressions_of(DASHBOARD) if "ALERTS" not in metrics_of(text)]
    assert without_data(expressions, scraped.page, tmp_path, ALERTS) == []


def test_every_recording_rule_finds_data_in_a_live_scrape(scraped: Scraped, tmp_path: Path) -> None:
    records = [rule["record"] for rule in rules_of(ALERTS) if "record" in rule]
    assert without_data(records, scraped.page, tmp_path, ALERTS) == []


def test_expression_without_data_is_detected(scraped: Scraped, tmp_path: Path) -> None:
    """This shows that the two previous tests can fail."""
    expressions = ['sidekey_requests_total{outcome="2xx"}', 'sidekey_requests_total{outcome="200"}']
    assert without_data(expressions, scraped.page, tmp_path, ALERTS) == expressions[1:]
