"""What `sidekey healthcheck` asks, and what it makes of the responses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sidekey.cli import healthcheck
from sidekey.cli.healthcheck import NotReady, ask
from support.child import Child, run_cli
from support.commands import imported_by
from support.ports import free_port, listening_socket
from support.single_response import answering_once

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
DRAINING = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\ndraining\n"


def config(folder: Path, text: str) -> str:
    """The path of a config file with this text."""
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\n{text}")
    return str(path)


def port_of(listener: socket.socket) -> int:
    """The port a socket listens on."""
    return int(listener.getsockname()[1])


def test_readiness_is_asked_of_the_admin_listener(tmp_path: Path) -> None:
    """200 to GET /readyz is all it takes."""
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with answering_once(listener, READY) as received:
        ask(path)
    assert received[0].startswith(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")


def test_startup_is_asked_of_the_admin_listener(tmp_path: Path) -> None:
    """A service that only waits for its sidecar's start need not wait for the store."""
    with Child("", tmp_path) as child:
        done = run_cli("healthcheck", "--startup", "--config", str(child.config))
        assert (done.returncode, done.stdout) == (0, "ok\n")
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with answering_once(listener, DRAINING) as received:
        assert run_cli("healthcheck", "--startup", "--config", path).returncode == 1
    assert received[0].startswith(b"GET /startupz HTTP/1.1\r\n")


def test_a_listener_on_all_addresses_is_asked_by_loopback(tmp_path: Path) -> None:
    """0.0.0.0 is where it listens, not where it is asked."""
    listener = listening_socket()
    path = config(tmp_path, f'allow_unauthenticated: true\nlisten: {{admin: "0.0.0.0:{port_of(listener)}"}}')
    with answering_once(listener, READY) as received:
        ask(path)
    assert len(received) == 1


def test_a_unix_socket_is_asked_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts at the config file's folder, wherever the command runs."""
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)
    listener.bind("admin.sock")
    listener.listen()
    monkeypatch.chdir("/")
    with answering_once(listener, READY) as received:
        ask(config(tmp_path, 'listen: {admin: "unix:admin.sock"}'))
    assert len(received) == 1


def test_the_metrics_listener_is_asked_where_only_its_port_is_known(tmp_path: Path) -> None:
    """It answers /readyz, too."""
    listener = listening_socket()
    listen = f'listen: {{admin: "127.0.0.1:0", metrics: "127.0.0.1:{port_of(listener)}"}}'
    with answering_once(listener, READY) as received:
        ask(config(tmp_path, listen))
    assert len(received) == 1


def test_what_is_not_ready_is_reported_in_its_own_words(tmp_path: Path) -> None:
    """A drain shows as such."""
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with answering_once(listener, DRAINING), pytest.raises(NotReady, match="not ready: draining"):
        ask(path)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"], ids=["nothing", "no HTTP"])
def test_what_does_not_speak_http_is_not_healthy(answer: bytes, tmp_path: Path) -> None:
    """Whatever listens there is not Sidekey."""
    listener = listening_socket()
    path = config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}')
    with answering_once(listener, answer), pytest.raises(NotReady, match="no response from 127"):
        ask(path)


def test_what_does_not_listen_is_not_healthy(tmp_path: Path) -> None:
    """A refused connection."""
    with pytest.raises(NotReady, match="no response from"):
        ask(config(tmp_path, f'listen: {{admin: "127.0.0.1:{free_port()}"}}'))


def test_a_unix_socket_that_is_not_there_is_not_healthy(tmp_path: Path) -> None:
    """As with a refused connection."""
    with pytest.raises(NotReady, match=r"unix:.*admin\.sock"):
        ask(config(tmp_path, 'listen: {admin: "unix:admin.sock"}'))


def test_what_never_responds_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs is not healthy."""
    monkeypatch.setattr(healthcheck, "TIMEOUT", 0.05)
    with listening_socket() as listener, pytest.raises(NotReady):
        ask(config(tmp_path, f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}'))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("listen: {admin: nowhere}", "errors under listen"),
        ("listen: [1]", "errors under listen"),
        ('listen: {admin: "127.0.0.1:0"}', "listen.admin: port 0 is chosen at start"),
        ("listen: {", "sidekey.yaml"),
    ],
)
def test_a_config_that_names_no_place_is_reported(text: str, reason: str, tmp_path: Path) -> None:
    """The message says what is wrong with the config."""
    with pytest.raises(NotReady, match=reason):
        ask(config(tmp_path, text))


def test_no_secret_is_read(tmp_path: Path) -> None:
    """Integrations are not looked at: neither errors nor secrets of theirs matter here."""
    listener = listening_socket()
    listen = f'listen: {{admin: "127.0.0.1:{port_of(listener)}"}}\n'
    with answering_once(listener, READY) as received:
        ask(config(tmp_path, listen + "integrations: {crm: {auth: {type: unheard-of}}}"))
    assert len(received) == 1


def test_a_health_check_loads_no_server(tmp_path: Path) -> None:
    """It runs every few seconds beside the real process."""
    loaded = imported_by("healthcheck", "--config", config(tmp_path, "listen: {}\n"))
    assert "sidekey" in loaded
    assert loaded & {"aiohttp", "structlog", "httptools", "uvloop"} == set()


def test_healthcheck_says_whether_a_running_sidekey_is_ready(tmp_path: Path) -> None:
    """Exit 0 while it serves, 1 once it has ended."""
    with Child("integrations: {}\n", tmp_path) as child:
        result = run_cli("healthcheck", "--config", str(child.config))
        assert (result.returncode, result.stdout) == (0, "ok\n")
        assert child.stop() == 0
    gone = run_cli("healthcheck", "--config", str(child.config))
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "127.0.0.1" in gone.stderr
