"""The services of the examples run curl in a loop. Log and readiness show the outcome of each webhook."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support import helm, programs
from support.private_ca import Authority
from support.raw_connection import DEADLINE

BODY = b"the body\n"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ webhook: (\d+) in [\d.]+ s\n")


class Upstream(HTTPServer):
    """An https server. `responses` are the statuses for the next webhooks."""

    def __init__(self, ca: Authority) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.socket = ca.server_context("crm.example.com").wrap_socket(self.socket, server_side=True)
        self.webhook_paths: queue.Queue[str] = queue.Queue()
        self.responses: queue.Queue[int] = queue.Queue()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve in a thread."""
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.responses.put(503)
            self.shutdown()
            thread.join()
            self.server_close()


class Receiver(BaseHTTPRequestHandler):
    """Receives a webhook, and waits for the status to respond with."""

    server: Upstream

    def do_POST(self) -> None:
        self.server.webhook_paths.put(self.path)
        self.send_response(self.server.responses.get())
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(params=["webhook-sender", "gateway-https"])
def container(request: pytest.FixtureRequest, rendered: dict[str, list[helm.Object]]) -> helm.Object:
    """Return the container of a service."""
    objects = rendered["sidecar"] if request.param == "webhook-sender" else helm.documents(helm.GATEWAY / "caller.yaml")
    (deployment,) = helm.of_kind(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


class Service:
    """The program and the probes of a service, without its pause, and with a folder in place of /tmp."""

    def __init__(self, container: helm.Object, folder: Path, port: int, ca: Authority) -> None:
        programs.require("curl")
        (folder / ".curlrc").write_text(f'connect-to = "::127.0.0.1:{port}"\ncacert = "{ca.bundle}"\n')
        self.log = folder / "log"
        self._container = container
        self._folder = folder
        self._environment = {"PATH": os.defpath, "CURL_HOME": str(folder), "INTERVAL": "0"}

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the program, with its output in `log`."""
        (program,) = self._container["args"]
        command = [*self._container["command"], self._local(program.replace("sleep 60 ", "sleep 0 "))]
        with self.log.open("wb") as output:
            process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def passes(self, probe: str) -> bool:
        """Run a probe, as the kubelet does."""
        command = [self._local(word) for word in self._container[probe]["exec"]["command"]]
        return subprocess.run(command, env=self._environment, check=False, capture_output=True).returncode == 0

    def _local(self, text: str) -> str:
        return text.replace("/tmp", str(self._folder))


def test_log_and_readiness_show_the_outcome_of_each_webhook(
    container: helm.Object, ca: Authority, tmp_path: Path
) -> None:
    upstream = Upstream(ca)
    service = Service(container, tmp_path, upstream.server_port, ca)
    assert not service.passes("readinessProbe")
    with upstream.serving(), service.running() as process:
        assert upstream.webhook_paths.get(timeout=DEADLINE) == "/hooks/v1/events"
        for status, ready in ((200, True), (403, False), (200, True)):
            upstream.responses.put(status)
            # When the next webhook arrives, the service has finished all steps after the previous one.
            upstream.webhook_paths.get(timeout=DEADLINE)
            assert service.passes("readinessProbe") is ready
            assert service.passes("livenessProbe")
        process.terminate()
        # It ends as soon as its webhook in flight has a response.
        upstream.responses.put(200)
        assert process.wait(DEADLINE) == 0
    text = service.log.read_text()
    assert LINE.findall(text)[:3] == ["200", "403", "200"]
    # The body is printed only for the webhook that failed.
    assert text.count(BODY.decode()) == 1


def test_restarted_container_is_not_ready_before_its_first_webhook(
    container: helm.Object, ca: Authority, tmp_path: Path
) -> None:
    """The files of /tmp outlive a container, because /tmp is a volume."""
    upstream = Upstream(ca)
    service = Service(container, tmp_path, upstream.server_port, ca)
    with upstream.serving():
        with service.running():
            upstream.webhook_paths.get(timeout=DEADLINE)
            upstream.responses.put(200)
            # When the next webhook arrives, the service has finished all steps after the previous one.
            upstream.webhook_paths.get(timeout=DEADLINE)
        assert service.passes("readinessProbe")
        upstream.responses.put(200)
        with service.running():
            upstream.webhook_paths.get(timeout=DEADLINE)
            assert not service.passes("readinessProbe")
