"""The service manager is notified of start, reload and stop (sd_notify(3))."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess

CONFIG = """\
integrations:
  it: {endpoint_prefix: "http://127.0.0.2:9/a", auth: {type: headers, headers: {X-Public: "1"}}}
"""


@contextmanager
def service_manager(address: str) -> Iterator[socket.socket]:
    """Listen on a unix socket at this address, as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(DEADLINE)
        receiver.bind(address)
        yield receiver


def status(child: SidekeyProcess, integration: str) -> int:
    """Send a request for an integration, and return the status."""
    with closing(HTTPConnection("127.0.0.1", child.proxy_port, timeout=DEADLINE)) as connection:
        connection.request("GET", f"/i/{integration}/x")
        return connection.getresponse().status


@pytest.mark.parametrize("abstract", [False, True])
def test_service_manager_is_notified_of_start_and_stop(abstract: bool, tmp_path: Path) -> None:
    """After READY=1, Sidekey serves requests."""
    name = str(tmp_path / "notify")
    child = SidekeyProcess(CONFIG, tmp_path, environment={"NOTIFY_SOCKET": f"@{name}" if abstract else name})
    with service_manager(f"\0{name}" if abstract else name) as manager:
        child.start()
        assert manager.recv(4096) == b"READY=1"
        assert status(child, "it") == 502
        assert child.stop() == 0
        assert manager.recv(4096) == b"STOPPING=1"


def test_service_manager_is_notified_of_the_end_of_a_reload(tmp_path: Path) -> None:
    """The reload also ends if nothing changed or the config has an error."""
    name = str(tmp_path / "notify")
    with (
        service_manager(name) as manager,
        SidekeyProcess(CONFIG, tmp_path, environment={"NOTIFY_SOCKET": name}) as child,
    ):
        assert manager.recv(4096) == b"READY=1"
        text = child.config.read_text()
        for config, expected in ((text, 403), (text.replace("it:", "new:"), 502), ("version: 2\n", 502)):
            child.rewrite(config)
            start = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
            child.process.send_signal(signal.SIGHUP)
            reloading, _, microseconds = manager.recv(4096).decode().partition("\nMONOTONIC_USEC=")
            assert reloading == "RELOADING=1"
            assert start <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
            assert manager.recv(4096) == b"READY=1"
            assert status(child, "new") == expected


def test_unreachable_service_manager_is_an_error_in_the_log(tmp_path: Path) -> None:
    with SidekeyProcess(CONFIG, tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "none")}) as child:
        assert status(child, "it") == 502
        assert child.stop() == 0
    lines = [json.loads(line) for line in child.lines if "service manager" in line]
    assert [line["event"] for line in lines] == ["the service manager cannot be notified"] * 2
    assert {(line["level"], line["reason"]) for line in lines} == {("error", os.strerror(2))}
