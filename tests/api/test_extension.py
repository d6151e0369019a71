"""Health checks and metrics on the admin listener of a Sidekey with an API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import TOKENS, ApiSetup, rewritten, serving
from support.http_get import get, wait_until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSetup]:
    """Run a Sidekey whose config no other test changes."""
    with serving(tmp_path_factory.mktemp("extension")) as process:
        yield process


def test_probes_and_metrics_need_no_token_on_loopback(running: ApiSetup) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert get(running.child.admin_port, path).status == 200


def test_metrics_behind_a_proxy_need_the_token_of_a_viewer(running: ApiSetup) -> None:
    """A proxy on the same machine makes a loopback listener public."""
    child = running.child

    def status(token: str) -> int:
        return get(child.admin_port, "/metrics", {"Authorization": f"Bearer {token}"} if token else {}).status

    with rewritten(child, child.config.read_text().replace("admin: {tokens", "admin: {behind_tls: true, tokens")):
        wait_until(lambda: status("") == 401)
        assert (status(TOKENS["sender"]), status(TOKENS["viewer"])) == (403, 200)
        assert get(child.admin_port, "/healthz").status == 200
    wait_until(lambda: status("") == 200)


def test_errors_outside_of_the_api_are_plain_text(running: ApiSetup) -> None:
    """Only paths of the API have problems as JSON."""
    refused = get(running.child.admin_port, "/metrics", {"Host": "rebound.example"})
    assert (refused.status, refused.headers["Content-Type"]) == (421, "text/plain; charset=utf-8")
    assert get(running.child.admin_port, "/api").status == 404
    assert get(running.child.admin_port, "/api/v2/whoami").status == 404
