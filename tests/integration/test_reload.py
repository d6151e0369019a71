"""Reloads under load: a real Sidekey, a real nginx that echoes the received request, and concurrent callers."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from support.configmap_mount import ConfigMapMount
from support.nginx import Nginx
from support.raw_connection import DEADLINE
from support.scraping import value_of
from support.sidekey_process import SidekeyProcess

TELL = """
        location / {
            default_type text/plain;
            return 200 "$http_x_one $http_x_two";
        }
"""
INTEGRATION = """
  {name}:
    description: {text}
    endpoint_prefix: http://127.0.0.1:{port}/v1
    auth:
      type: headers
      headers: {{X-One: {{secret: {{file: {secret}}}}}, X-Two: {{secret: {{file: {secret}}}}}}}
"""
TAKEN_UP = "config reloaded"
REFUSED = "the config has errors and was not reloaded; the previous one stays in use"
CALLERS = 4


class Load:
    """Callers on reused connections. `seen` has the echoed requests, `wrong` errors and mixed credentials."""

    def __init__(self, port: int) -> None:
        self.seen: set[str] = set()
        self.wrong: list[str] = []
        self.count = 0
        self.newest = "0"
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]

    def _call(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        while not self._over.is_set():
            oldest = self.newest
            try:
                connection.request("POST", "/i/a/hook", body=b"x" * 1024)
                response = connection.getresponse()
                body = response.read().decode()
            except OSError as error:
                self.wrong.append(repr(error))
                return
            one, _, two = body.partition(" ")
            if response.status != 200 or one != two or int(one) < int(oldest):
                self.wrong.append(f"{response.status} {body} after {oldest}")
            self.seen.add(one)
            self.count += 1
            # Only for the machine's sake: there are requests under way at every moment.
            self._over.wait(0.01)
        connection.close()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=DEADLINE)


class Scene:
    """A Sidekey whose integration `a` sends the same secret in two headers."""

    def __init__(self, folder: Path, upstream: Nginx) -> None:
        self.upstream = upstream
        self.mount = ConfigMapMount(folder / "mounted", {"pw": "0"})
        self.child = SidekeyProcess(self.config("first"), folder)
        self._head = self.child.config.read_text().partition("integrations:")[0]
        self._events = 0

    def config(self, text: str, *, others: int = 3) -> str:
        names = ["a", *(f"other-{number}" for number in range(others))]
        secret = self.mount.folder / "pw"
        blocks = [INTEGRATION.format(name=name, text=text, port=self.upstream.port, secret=secret) for name in names]
        return "integrations:" + "".join(blocks)

    def write(self, text: str) -> None:
        self.child.rewrite(self._head + text)

    def hang_up(self) -> None:
        self.child.process.send_signal(signal.SIGHUP)

    def happens(self, event: str, *, changed: bool = False) -> dict[str, Any]:
        """Wait for the next log line of this event. With `changed`, for one that changed every integration."""

        def matches(line: str) -> bool:
            # All lines are asked for, again and again.
            if event not in line or self.child.lines.index(line) < self._events:
                return False
            error = json.loads(line)
            if error["event"] != event:
                return False
            return not changed or error["changed"] == error["integrations"]

        line = self.child.wait_for_line(matches)
        self._events = self.child.lines.index(line) + 1
        result: dict[str, Any] = json.loads(line)
        return result

    def metric(self, series: str) -> float:
        connection = HTTPConnection("127.0.0.1", self.child.admin_port, timeout=DEADLINE)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return value_of(text, series)


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    with Nginx(folder, TELL) as upstream:
        scene_ = Scene(folder, upstream)
        with scene_.child:
            yield scene_


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as created:
        yield created


def test_many_reloads_fail_no_request_and_mix_no_credentials(running: Scene) -> None:
    """Valid and invalid configs, and rotated secrets. A request after a rotation has the new secret."""
    rotated = 0
    with Load(running.child.proxy_port) as load:
        # The last one is good.
        for number in range(40):
            if number % 4 == 0:
                running.write(running.config(f"text {number}", others=number % 5))
            elif number % 4 == 1:
                running.write("integrations: {broken: [\n" if number % 8 == 1 else "bogus: 1\nintegrations: {}\n")
            elif number % 4 == 2:
                running.write(running.config(f"text {number}"))
            else:
                rotated += 1
                running.mount.update({"pw": str(rotated)})
            running.hang_up()
            if number % 4 == 1:
                running.happens(REFUSED)
            else:
                # A signal that comes while the notification is handled makes one more reload, which changes nothing.
                running.happens(TAKEN_UP, changed=True)
            load.newest = str(rotated)
        before = load.count
        while load.count < before + 10 * CALLERS and not load.wrong:
            time.sleep(0.01)
    assert load.wrong == []
    assert load.seen >= {str(rotated)}
    assert load.seen <= {str(number) for number in range(rotated + 1)}
    assert running.metric("sidekey_config_last_reload_successful") == 1
    assert running.metric('sidekey_requests_total{integration="a",outcome="2xx"}') == load.count


def test_invalid_config_keeps_the_previous_one_and_sets_the_metric(running: Scene) -> None:
    running.write("bogus: 1\n" + running.config("first"))
    running.happens(REFUSED)
    place = running.happens("config error")["place"]
    assert "bogus: unknown key" in str(place)
    assert running.metric("sidekey_config_last_reload_successful") == 0
    status, page = _get(running.child.admin_port, "/readyz")
    assert (status, page.partition("\n")[0]) == (200, "ok")
    assert "the last reload was refused" in page
    assert _get(running.child.proxy_port, "/i/a/x") == (200, "0 0")
    running.write(running.config("x"))
    running.happens(TAKEN_UP)
    assert running.metric("sidekey_config_last_reload_successful") == 1


def test_changed_listener_is_an_error_that_requires_a_restart(running: Scene) -> None:
    text = running.child.config.read_text().replace(str(running.child.proxy_port), "1")
    running.child.rewrite(text)
    running.happens(REFUSED)
    place = str(running.happens("config error")["place"])
    assert "listen.proxy: needs a restart" in place
    assert _get(running.child.proxy_port, "/i/a/x") == (200, "0 0")


def test_every_swap_of_a_mounted_secret_is_loaded_without_a_signal(running: Scene) -> None:
    for value in ("1", "2", "3"):
        running.mount.update({"pw": value})
        running.happens(TAKEN_UP)
        assert _get(running.child.proxy_port, "/i/a/x") == (200, f"{value} {value}")


def test_emptied_secret_keeps_the_previous_one_and_is_counted(running: Scene) -> None:
    running.mount.update({"pw": ""})
    running.happens("new secret or CA file cannot be used; the previous one stays in use")
    running.happens(TAKEN_UP)
    assert _get(running.child.proxy_port, "/i/a/x") == (200, "0 0")
    assert running.metric('sidekey_credential_reload_failures_total{integration="a",credential="secret"}') == 1


def test_unusable_secret_is_counted_once_for_each_change_of_its_file(running: Scene) -> None:
    """Each load reads the secret again while the config has an error."""
    failures = 'sidekey_credential_reload_failures_total{integration="a",credential="secret"}'
    running.write("bogus: 1\n" + running.config("first"))
    running.happens(REFUSED)
    running.mount.update({"pw": ""})
    running.happens(REFUSED)
    assert running.metric(failures) == 1
    for number in (2, 3):
        running.write(f"bogus: {number}\n" + running.config("first"))
        running.happens(REFUSED)
    assert running.metric(failures) == 1
    running.mount.update({"pw": ""})
    running.happens(REFUSED)
    assert running.metric(failures) == 2


def test_removed_integration_is_denied_and_has_no_series(running: Scene) -> None:
    assert _get(running.child.proxy_port, "/i/other-0/x")[0] == 200
    running.write(running.config("x", others=0))
    running.happens(TAKEN_UP)
    assert _get(running.child.proxy_port, "/i/other-0/x")[0] == 403
    assert running.metric('sidekey_requests_total{integration="other-0",outcome="2xx"}') == 0


def test_log_level_and_access_lines_follow_the_config(running: Scene) -> None:
    running.write("log: {level: info, access: all}\n" + running.config("x"))
    running.happens(TAKEN_UP)
    assert _get(running.child.proxy_port, "/i/a/x")[0] == 200
    assert running.happens("request")["integration"] == "a"


def test_sighup_without_a_change_has_no_effect(running: Scene) -> None:
    assert _get(running.child.proxy_port, "/i/a/x") == (200, "0 0")
    running.hang_up()
    running.happens(TAKEN_UP)
    assert _get(running.child.proxy_port, "/i/a/x") == (200, "0 0")
    assert running.metric('sidekey_upstream_connects_total{integration="a",outcome="ok"}') == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_sighup_during_the_start_is_ignored(tmp_path: Path) -> None:
    with Nginx(tmp_path, TELL) as upstream:
        child = Scene(tmp_path, upstream).child
        child.start()
        status = Path(f"/proc/{child.process.pid}/status")
        while not int(re.findall(r"SigIgn:\t(\w+)", status.read_text())[0], 16) & 1 << signal.SIGHUP - 1:
            assert child.process.poll() is None
        child.process.send_signal(signal.SIGHUP)
        child.wait_for_line(lambda line: json.loads(line)["event"] == "listening")
        assert child.stop() == 0


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body
