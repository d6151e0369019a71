"""A running Sidekey: unreadable secrets, logs, file descriptors, listeners and leaks."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from base64 import b64encode
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support import programs
from support.files import replace
from support.http_get import get, wait_until
from support.nginx import Nginx
from support.ports import free_port
from support.scraping import value_of
from support.sidekey_process import HEAD, SidekeyProcess, descriptors, run_cli, run_code
from support.upstream import RawUpstream, respond_with


def integration(name: str, port: int, secret: str = "{insecure_value: secret}", more: str = "") -> str:
    """Build an integration of kind basic at an upstream on this port of 127.0.0.1."""
    return f"""\
  {name}:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {secret}}}
{more}"""


def config(*integrations: str, more: str = "") -> str:
    """Build the config below the head that `SidekeyProcess` writes."""
    return f"{more}\nintegrations:\n{''.join(integrations)}" if integrations else f"{more}\nintegrations: {{}}\n"


def metric(child: SidekeyProcess, name: str) -> float:
    """Return the value of a metric without labels."""
    return value_of(get(child.admin_port, "/metrics").body, name)


def events(child: SidekeyProcess, event: str) -> list[dict[str, object]]:
    """Return the log lines of an event. Every line must be a JSON object."""
    return [entry for line in child.lines if (entry := json.loads(line))["event"] == event]


def test_unreadable_secret_disables_only_its_integration_until_it_is_readable(tmp_path: Path) -> None:
    """Sidekey logs the error at the start."""
    with Nginx(tmp_path) as nginx:
        text = config(integration("one", nginx.port), integration("two", nginx.port, "{file: late}"))
        with SidekeyProcess(text, tmp_path) as child:
            assert get(child.proxy_port, "/i/one/x").status == 200
            denied = get(child.proxy_port, "/i/two/x")
            assert (denied.status, json.loads(denied.body)["code"]) == (502, "credential_unavailable")
            replace(tmp_path / "late", "secret\n")
            while (response := get(child.proxy_port, "/i/two/x")).status == 502:
                # Sidekey retries a failed read after a second.
                continue
            assert "authorization: Basic c3ZjOnNlY3JldA==" in response.body
            assert child.stop() == 0
    (line,) = events(child, "secret or CA file cannot be read; what needs it is unavailable")
    assert ": integrations.two.auth.password: the file does not exist" in str(line["place"])


def test_warnings_of_the_config_are_logged(tmp_path: Path) -> None:
    """The warnings are a secret in the config, and a credential over plain HTTP."""
    with SidekeyProcess(config(integration("one", 1)), tmp_path) as child:
        assert child.stop() == 0
    (line,) = events(child, "the config has warnings; run `sidekey check` to list them")
    assert line["count"] == 2
    places = [str(event["place"]) for event in events(child, "config warning")]
    assert len(places) == 2
    assert all(place.startswith(f"{child.config}:") for place in places)


@pytest.mark.parametrize(("mode", "logged"), [("off", []), ("errors", [404]), ("all", [200, 404])])
def test_access_log_has_no_requests_or_failed_ones_or_all(mode: str, logged: list[int], tmp_path: Path) -> None:
    snippet = 'location /missing { return 404 "no"; } location / { return 200 "yes"; }'
    with Nginx(tmp_path, snippet) as nginx:
        text = config(integration("one", nginx.port), more=f"log: {{access: {mode}}}")
        with SidekeyProcess(text, tmp_path) as child:
            assert get(child.proxy_port, "/i/one/x").status == 200
            assert get(child.proxy_port, "/i/one/missing").status == 404
            assert child.stop() == 0
    assert [line["status"] for line in events(child, "request")] == logged


@pytest.mark.parametrize("path", ["true", "false"])
def test_paths_and_queries_are_logged_only_if_configured(path: str, tmp_path: Path) -> None:
    """A path may be private."""
    with Nginx(tmp_path) as nginx:
        text = config(integration("one", nginx.port), more=f"log: {{access: all, path: {path}}}")
        with SidekeyProcess(text, tmp_path) as child:
            get(child.proxy_port, "/i/one/private?name=jane")
            assert child.stop() == 0
    assert any("private?name=jane" in line for line in child.lines) is (path == "true")


async def test_no_log_line_contains_a_secret(tmp_path: Path) -> None:
    """At level debug, upstreams refuse, disconnect, send no TLS and echo the credential."""
    secret, token = "not-to-be-seen-4711", "nor-this-token-4712"
    encoded = b64encode(f"svc:{secret}".encode())
    echoes = {
        "cut": b"HTTP/1.1 200 %b\r\nX: %b\r\nContent-Length: 3\r\n\r\n%b" % (encoded, encoded, encoded),
        "malformed": b"HTTP/1.1 200 OK\r\nBad Header %b\r\n\r\n" % encoded,
        "challenge": b"HTTP/1.1 407 no\r\nProxy-Authenticate: %b\r\nContent-Length: 0\r\n\r\n" % encoded,
        "nonsense": encoded + b"\r\n\r\n",
    }
    async with AsyncExitStack() as stack:
        ports = {"refused": free_port()}
        for name, response in echoes.items():
            ports[name] = (await stack.enter_async_context(RawUpstream(respond_with(response)))).port
        stanzas = [integration(name, port, "{file: password}") for name, port in ports.items()]
        stanzas.append(integration("tls", ports["nonsense"], "{file: password}").replace("http:", "https:"))
        (tmp_path / "password").write_text(secret)
        callers = f"callers: {{svc: {{token: {{insecure_value: {token}}}, integrations: '*'}}}}"
        text = config(*stanzas, more=f"{callers}\ntimeouts: {{connect: 500ms}}\nlog: {{level: debug, access: all}}")
        with SidekeyProcess(text, tmp_path) as child:
            for name in (*ports, "tls", secret):
                target = f"/i/{name}/x?key={secret}"
                await asyncio.to_thread(get, child.proxy_port, target, {"Sidekey-Token": token})
            assert await asyncio.to_thread(child.stop) == 0
    assert len(events(child, "request")) == 7
    log = "\n".join(child.lines)
    for word in (secret, encoded.decode(), token):
        assert word not in log


def test_too_few_descriptors_lower_the_limit_with_a_warning(tmp_path: Path) -> None:
    """A hard NOFILE of 256 allows 40 exchanges."""
    with SidekeyProcess(config(), tmp_path, wrapper=descriptors(256)) as child:
        assert metric(child, "sidekey_in_flight_limit") == 40
        assert child.stop() == 0
    (line,) = events(child, "limits.in_flight is lowered: too few file descriptors (NOFILE)")
    assert [line[key] for key in ("level", "in_flight", "wanted", "nofile")] == ["warning", 40, 10_000, 256]


def test_enough_descriptors_do_not_lower_the_limit(tmp_path: Path) -> None:
    """A hard NOFILE of 8,192 allows some 2,900 exchanges."""
    with SidekeyProcess(config(more="limits: {in_flight: 2000}"), tmp_path, wrapper=descriptors(8192)) as child:
        assert child.stop() == 0
    assert events(child, "limits.in_flight is lowered: too few file descriptors (NOFILE)") == []


def test_ten_thousand_integrations_are_served(tmp_path: Path) -> None:
    count = 10_000
    with Nginx(tmp_path) as nginx:
        stanzas = [integration(f"i{number}", nginx.port) for number in range(count)]
        with SidekeyProcess(config(*stanzas), tmp_path) as child:
            for name in ("i0", f"i{count - 1}"):
                assert get(child.proxy_port, f"/i/{name}/x").status == 200
            assert child.stop() == 0
    (line,) = events(child, "listening")
    assert line["integrations"] == count


def test_own_listeners_are_refused_as_targets(tmp_path: Path) -> None:
    """Sidekey refuses its listeners even if loopback addresses are allowed."""
    auth = "auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}"
    stanzas = [f'{name}: {{{{endpoint_prefix: "http://127.0.0.1:{{{name}}}", {auth}}}}}' for name in ("proxy", "admin")]
    head = f"{HEAD}integrations: {{{{{', '.join(stanzas)}}}}}\n"
    with SidekeyProcess("", tmp_path, head=head) as child:
        for name in ("proxy", "admin"):
            response = get(child.proxy_port, f"/i/{name}/readyz")
            assert (response.status, json.loads(response.body)["code"]) == (403, "destination_denied")


def test_listeners_may_be_unix_sockets(tmp_path: Path) -> None:
    """The paths are relative to the folder of the config file. Sidekey removes the sockets at its exit."""
    curl = programs.require("curl")
    head = HEAD.replace('"127.0.0.1:{proxy}"', "unix:proxy.sock").replace("}}\n", ', metrics: "unix:m.sock"}}\n', 1)
    with Nginx(tmp_path) as nginx, SidekeyProcess(config(integration("one", nginx.port)), tmp_path, head=head) as child:
        sockets = [tmp_path / "proxy.sock", tmp_path / "m.sock"]
        assert [oct(path.stat().st_mode & 0o777) for path in sockets] == ["0o600", "0o600"]
        command = [curl, "-s", "--unix-socket", str(sockets[0]), "http://localhost/i/one/x"]
        response = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "authorization: Basic c3ZjOnNlY3JldA==" in response
        assert run_cli("healthcheck", "--config", str(child.config)).returncode == 0
        assert child.stop() == 0
    assert not any(path.exists() for path in sockets)


SWITCH_INTERVAL = """\
import sys, threading, time
from sidekey.cli import main

def report():
    default = sys.getswitchinterval()
    while sys.getswitchinterval() == default:
        time.sleep(0.01)
    print("interval", sys.getswitchinterval(), flush=True)

threading.Thread(target=report, daemon=True).start()
main(prog_name="sidekey")
"""
"""Code of a Sidekey in which a thread reports the switch interval once it is no longer Python's default."""


def test_switch_interval_of_threads_is_half_a_millisecond(tmp_path: Path) -> None:
    """Scrapes and reloads run in threads, and must not delay the event loop."""
    with SidekeyProcess("integrations: {}\n", tmp_path, code=SWITCH_INTERVAL) as child:
        line = child.wait_for_line(lambda line: line.startswith("interval "))
    assert float(line.split()[1]) == pytest.approx(0.0005)


def test_metrics_listener_accepts_any_host_name(tmp_path: Path) -> None:
    port = free_port()
    head = HEAD.replace("}}\n", f', metrics: "127.0.0.1:{port}"}}}}\n', 1)
    with SidekeyProcess(config(), tmp_path, head=head) as child:
        response = get(port, "/metrics", {"Host": "sidekey.prod.example"})
        assert (response.status, "sidekey_build_info{" in response.body) == (200, True)
        assert get(child.admin_port, "/metrics", {"Host": "sidekey.prod.example"}).status == 421


def test_long_run_leaks_nothing(tmp_path: Path) -> None:
    """At least 5,000 requests on kept and new connections."""
    wrk = programs.require("wrk")
    with Nginx(tmp_path) as nginx, SidekeyProcess(config(integration("one", nginx.port)), tmp_path) as child:

        def load(*arguments: str) -> int:
            url = f"http://127.0.0.1:{child.proxy_port}/i/one/x"
            command = [wrk, "-t1", "-c32", "-d1s", *arguments, url]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert "Non-2xx" not in out
            assert "Socket errors" not in out
            return int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]

        load()
        load("-H", "Connection: close")
        descriptors, memory = metric(child, "process_open_fds"), metric(child, "process_resident_memory_bytes")
        result = load("-H", "Connection: close")
        while result < 5_000:
            result += load()
        # Sidekey closes the connections of a caller that has just left a moment later.
        wait_until(lambda: metric(child, "process_open_fds") <= descriptors + 32)
        assert metric(child, "process_resident_memory_bytes") < memory * 1.1
        assert metric(child, "sidekey_requests_in_flight") == 0
        assert child.stop() == 0


def test_defect_at_the_start_is_logged_without_its_text(tmp_path: Path) -> None:
    """The log has the type and location of the exception, but not its message."""
    code = (
        "from sidekey import app\n"
        "from sidekey.config.load import Loader\n"
        "async def fail(self, inherited):\n    raise RuntimeError('not-to-be-seen-4711')\n"
        "app.App.start = fail\n"
        f"loader = Loader({str(tmp_path / 'sidekey.yaml')!r})\n"
        "app.run(loader, loader.load(), strict=False)\n"
    )
    (tmp_path / "sidekey.yaml").write_text("version: 1\nintegrations: {}\n")
    result = run_code(code)
    assert (result.returncode, result.stdout) == (1, "")
    last = json.loads(result.stderr.splitlines()[-1])
    assert (last["level"], last["event"], last["error"]) == ("critical", "uncaught exception", ["RuntimeError"])
    assert "not-to-be-seen-4711" not in result.stderr
