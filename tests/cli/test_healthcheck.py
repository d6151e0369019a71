"""`sidekey healthcheck`: the listener that it asks, and the result."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sidekey.cli import healthcheck
from sidekey.cli.healthcheck import NotReady, check_health
from support.caller_certificates import CallerCa
from support.commands import imported_by
from support.ports import free_port, listening_socket
from support.sidekey_process import HEAD, SidekeyProcess, run_cli, run_process
from support.single_response import respond_once

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
DRAINING = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\ndraining\n"


def config(folder: Path, text: str) -> str:
    """Write a config file with this text."""
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\n{text}")
    return str(path)


def port_of(listener: socket.socket) -> int:
    """Return the port of a socket."""
    return int(listener.getsockname()[1])


def test_readiness_is_checked_at_the_admin_listener(tmp_path: Path) -> None:
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with respond_once(listener, READY) as received:
        check_health(path)
    assert received[0].startswith(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")


def test_startup_is_checked_at_the_admin_listener(tmp_path: Path) -> None:
    """A service that waits for the start of its sidecar need not wait for the store."""
    with SidekeyProcess("", tmp_path) as child:
        result = run_cli("healthcheck", "--startup", "--config", str(child.config))
        assert (result.returncode, result.stdout) == (0, "ok\n")
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with respond_once(listener, DRAINING) as received:
        assert run_cli("healthcheck", "--startup", "--config", path).returncode == 1
    assert received[0].startswith(b"GET /startupz HTTP/1.1\r\n")


def test_proxy_listener_with_tls_does_not_change_the_check(tmp_path: Path) -> None:
    CallerCa.create(tmp_path).server()
    tls = "{certificate: {file: server.crt}, private_key: {file: server.key}, client_ca: {file: callers.crt}}"
    # Doubled braces, because the head is a template for the ports.
    head = HEAD.replace("}}", f", tls: {tls.replace('{', '{{').replace('}', '}}')}}}}}", 1)
    with SidekeyProcess("", tmp_path, head=head) as child:
        for options in ((), ("--startup",)):
            result = run_process("healthcheck", *options, "--config", str(child.config))
            assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


def test_listener_on_all_addresses_is_reached_by_loopback(tmp_path: Path) -> None:
    listener = listening_socket()
    path = config(tmp_path, f'allow_unauthenticated: true\nlisten: {{admin: "0.0.0.0:{port_of(listener)}"}}')
    with respond_once(listener, READY) as received:
        check_health(path)
    assert len(received) == 1


def test_unix_socket_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts at the folder of the config file."""
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)
    listener.bind("admin.sock")
    listener.listen()
    monkeypatch.chdir("/")
    with respond_once(listener, READY) as received:
        check_health(config(tmp_path, 'listen: {admin: "unix:admin.sock"}'))
    assert len(received) == 1


def test_metrics_listener_is_checked_if_only_its_port_is_fixed(tmp_path: Path) -> None:
    listener = listening_socket()
    listen = f'listen: {{admin: "127.0.0.1:0", metrics: "127.0.0.1:{port_of(listener)}"}}'
    with respond_once(listener, READY) as received:
        check_health(config(tmp_path, listen))
    assert len(received) == 1


def test_unready_sidekey_is_reported_with_its_reason(tmp_path: Path) -> None:
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with respond_once(listener, DRAINING), pytest.raises(NotReady, match="not ready: draining"):
        check_health(path)


@pytest.mark.parametrize("response", [b"", b"nonsense\r\n\r\n"], ids=["nothing", "no HTTP"])
def test_server_without_http_is_not_healthy(response: bytes, tmp_path: Path) -> None:
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with respond_once(listener, response), pytest.raises(NotReady, match="no response from 127"):
        check_health(path)


def test_refused_connection_is_not_healthy(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="no response from"):
        check_health(config(tmp_path, f'listen: {{admin: "127.0.0.1:{free_port()}"}}'))


def test_missing_unix_socket_is_not_healthy(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"unix:.*admin\.sock"):
        check_health(config(tmp_path, 'listen: {admin: "unix:admin.sock"}'))


def test_silent_server_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "TIMEOUT", 0.05)
    with listening_socket() as listener, pytest.raises(NotReady):
        check_health(config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}'))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("listen: {admin: nowhere}", "errors under listen"),
        ("listen: [1]", "errors under listen"),
        ('listen: {admin: "127.0.0.1:0"}', "listen.admin: with port 0 the system chooses a port at the start"),
        ("listen: {", "sidekey.yaml"),
    ],
)
def test_config_without_a_usable_listener_is_reported(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=reason):
        check_health(config(tmp_path, text))


def test_no_secret_is_read(tmp_path: Path) -> None:
    """Errors in integrations do not matter."""
    listener = listening_socket()
    listen = f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}\n'
    with respond_once(listener, READY) as received:
        check_health(config(tmp_path, listen + "integrations: {crm: {auth: {type: unheard-of}}}"))
    assert len(received) == 1


def test_health_check_imports_no_server(tmp_path: Path) -> None:
    """The health check runs every few seconds beside the service."""
    loaded = imported_by("healthcheck", "--config", config(tmp_path, "listen: {}\n"))
    assert "sidekey" in loaded
    assert loaded & {"aiohttp", "structlog", "httptools", "uvloop"} == set()


def test_healthcheck_succeeds_while_sidekey_runs(tmp_path: Path) -> None:
    with SidekeyProcess("integrations: {}\n", tmp_path) as child:
        result = run_cli("healthcheck", "--config", str(child.config))
        assert (result.returncode, result.stdout) == (0, "ok\n")
        assert child.stop() == 0
    stopped = run_cli("healthcheck", "--config", str(child.config))
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "127.0.0.1" in stopped.stderr
