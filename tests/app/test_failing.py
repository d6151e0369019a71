"""Requests that set or end the status `failing`: the API and `sidekey list` agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from sidekey.snapshot.status import FAILING_AFTER
from support.api import Api, managed
from support.http_get import get, post
from support.nginx import Nginx
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess, run_cli

SNIPPET = """
        location /crm/good { return 200; }
        location /crm/missing { return 404; }
        location /crm/busy { return 429; }
        location / { return 401; }
"""
CALLER = {"Sidekey-Token": "of-a-caller"}
CONFIG = """\
callers: {{all: {{token: {{insecure_value: of-a-caller}}, integrations: "*", presets: "*"}}}}
integrations:
  crm:
    endpoint_prefix: 'http://127.0.0.1:{port}/crm'
    methods: [GET, POST]
    auth: {{type: basic, username: svc, password: {{insecure_value: wrong}}}}
presets:
  hook:
    integration: crm
    url: 'http://127.0.0.1:{port}/crm/hook'
    parameters: {{name: {{type: text}}}}
    body: {{json: {{name: "{{{{name}}}}"}}}}
"""


@dataclass(frozen=True)
class Process:
    """A process with a store. The upstream rejects the credential of its integration `crm`."""

    child: SidekeyProcess

    @property
    def status(self) -> str:
        """Return the status of `crm`, on which the API and the command must agree."""
        status: str = Api(self.child.admin_port).get("/integrations/crm")["status"]
        (listed,) = json.loads(run_cli("list", "--json", "--config", str(self.child.config)).stdout)
        assert listed["status"] == status
        return status

    def get(self, path: str) -> int:
        return get(self.child.proxy_port, path, CALLER).status

    def reject(self, times: int = FAILING_AFTER) -> None:
        for _ in range(times):
            assert self.get("/i/crm/x") == 401

    def send_outside_the_policy(self) -> int:
        target = "http://127.0.0.1:1/elsewhere"
        return get(self.child.proxy_port, target, {**CALLER, "X-Integration-Id": "crm"}).status

    def send_ambiguous_path(self) -> int:
        return self.get("/i/crm/%zz")

    def send_wrong_parameters(self) -> int:
        return post(self.child.proxy_port, "/p/hook", {**CALLER, "Content-Type": "application/json"}, b"{}").status

    def send_wrong_method(self) -> int:
        with closing(HTTPConnection("127.0.0.1", self.child.proxy_port, timeout=DEADLINE)) as connection:
            connection.request("DELETE", "/i/crm/x", headers=CALLER)
            return connection.getresponse().status


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with Nginx(tmp_path, SNIPPET) as nginx, managed(tmp_path, more=CONFIG.format(port=nginx.port)) as child:
        yield Process(child)


MISTAKES: dict[int, Callable[[Process], int]] = {
    400: Process.send_ambiguous_path,
    403: Process.send_outside_the_policy,
    405: Process.send_wrong_method,
    422: Process.send_wrong_parameters,
}
"""Mistakes of callers, by the status of Sidekey's response."""


@pytest.mark.parametrize("status", MISTAKES)
def test_callers_mistakes_do_not_make_an_integration_failing(process: Process, status: int) -> None:
    for _ in range(FAILING_AFTER):
        assert MISTAKES[status](process) == status
    assert process.status == "ok"


def test_callers_mistakes_do_not_end_the_failing_status(process: Process) -> None:
    process.reject()
    for status, send in MISTAKES.items():
        assert send(process) == status
    assert process.status == "failing"


def test_callers_mistakes_do_not_interrupt_failures(process: Process) -> None:
    process.reject(FAILING_AFTER - 1)
    assert process.send_outside_the_policy() == 403
    assert process.status == "ok"
    process.reject(1)
    assert process.status == "failing"


@pytest.mark.parametrize(("path", "status"), [("good", 200), ("missing", 404), ("busy", 429)])
def test_accepted_credential_ends_the_failing_status(process: Process, path: str, status: int) -> None:
    process.reject()
    assert process.status == "failing"
    assert process.get(f"/i/crm/{path}") == status
    assert process.status == "ok"
