"""Real servers that repeat the credential, and real clients: server-sent events, and gzip."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest
import requests

from support import programs
from support.nginx import Nginx
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess

SECRET = "not-to-be-seen/4711"
PAIR = "c3ZjOm5vdC10by1iZS1zZWVuLzQ3MTE="
CONFIG = """
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}/v1
    redact_response: true
    auth: {{type: basic, username: svc, password: {{insecure_value: {secret}}}}}
"""


def config(port: int) -> str:
    return CONFIG.format(port=port, secret=SECRET)


class Events(BaseHTTPRequestHandler):
    """Sends each text from a queue as an event, after the credential that it received."""

    protocol_version = "HTTP/1.1"
    queue: Queue[str]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while text := self.queue.get(timeout=DEADLINE):
            event = f"data: {self.headers['Authorization']} {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def events() -> Iterator[tuple[int, Queue[str]]]:
    """Run a server of events. Yield its port and its queue; an empty text ends the response."""
    queue: Queue[str] = Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Events,), {"queue": queue}))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield server.server_port, queue
    finally:
        queue.put("")
        server.shutdown()
        serving.join()
        server.server_close()


def test_curl_receives_each_event_before_the_next_is_sent(tmp_path: Path) -> None:
    """No event contains the credential."""
    curl = programs.require("curl")
    with events() as (port, queue), SidekeyProcess(config(port), tmp_path) as child:
        command = [curl, "--silent", "--no-buffer", f"http://127.0.0.1:{child.proxy_port}/i/crm/events"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number in range(10):
                queue.put(f"{number} {SECRET} {PAIR[:5]}")
                assert process.stdout.readline() == f"data: Basic [redacted] {number} [redacted] {PAIR[:5]}\n"
                assert process.stdout.readline() == "\n"
            queue.put("")
            assert process.stdout.read() == ""
        assert process.returncode == 0


ECHO = """
        gzip on;
        gzip_min_length 1;
        gzip_types application/json;
        location / {
            default_type application/json;
            add_header X-Echo $http_authorization always;
            return 200 '{"authorization": "$http_authorization", "coding": "$http_accept_encoding", "rest": "%s"}';
        }
"""


@pytest.mark.parametrize("codings", ["gzip, deflate, br, zstd", "gzip", "br", "identity"])
def test_requests_reads_a_response_compressed_by_nginx(codings: str, tmp_path: Path) -> None:
    """Sidekey decodes it and sends it with unknown length."""
    with (
        Nginx(tmp_path, ECHO % ("x" * 3000)) as upstream,
        SidekeyProcess(config(upstream.port), tmp_path) as child,
        requests.Session() as session,
    ):
        for _ in range(3):
            response = session.get(
                f"http://127.0.0.1:{child.proxy_port}/i/crm/echo",
                headers={"Accept-Encoding": codings},
                timeout=DEADLINE,
            )
            assert response.status_code == 200
            error = json.loads(response.content)
            assert error["authorization"] == "Basic [redacted]"
            assert error["rest"] == "x" * 3000
            assert error["coding"] == ("gzip" if "gzip" in codings else "identity")
            assert response.headers["X-Echo"] == "Basic [redacted]"
            assert "Content-Encoding" not in response.headers
            assert PAIR not in response.text
            assert SECRET not in response.text
