"""Test requests of a running Sidekey: the API's report, metrics, usage and log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.api import Api, basic, managed
from support.http_get import get
from support.nginx import Nginx
from support.scraping import series
from support.sidekey_process import SidekeyProcess

LARGE = 4 << 20
"""Bytes. More than the kernel buffers between Sidekey and its own test request."""


@dataclass(frozen=True)
class Process:
    """A process with a store, and the port of an upstream that returns a large body."""

    child: SidekeyProcess
    upstream: int

    def requests(self, name: str) -> dict[str, int]:
        """Return the finished requests of an integration by outcome."""
        samples = series(get(self.child.admin_port, "/metrics").body, "sidekey_requests_total")
        return {labels["outcome"]: int(count) for labels, count in samples if labels["integration"] == name}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "large").write_bytes(bytes(LARGE))
    snippet = f"location = /v1/whoami {{ alias {tmp_path}/large; }}"
    with Nginx(tmp_path, snippet) as nginx, managed(tmp_path, more="log: {access: errors}") as child:
        yield Process(child, nginx.port)


def test_successful_test_request_is_recorded_as_success(process: Process) -> None:
    """A large response body makes no difference."""
    child = process.child
    api = Api(child.admin_port)
    api.create("/integrations", {"id": "crm", **basic(process.upstream)})
    response = api.request("POST", "/integrations/crm/test")
    assert (response.status, response.json["ok"], response.json["status"]) == (200, True, 200)
    assert process.requests("crm") == {"2xx": 1}
    assert sum(point["failed"] for point in api.get("/integrations/crm/usage")["points"]) == 0
    assert api.get("/integrations/crm/failures")["items"] == []
    assert child.stop() == 0
    assert [line for line in child.lines if '"event":"request"' in line] == []
