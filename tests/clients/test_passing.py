"""One HTTP_PROXY for all requests of a service: real curl, a real nginx, and `forward.unmatched: pass`."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import programs
from support.nginx import Nginx
from support.sidekey_process import SidekeyProcess, run_cli

SECRET = "not-to-be-seen-4711"
CREDENTIAL = "Basic " + b64encode(f"svc:{SECRET}".encode()).decode()
TOKEN = "not-to-be-sent-0815"

HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
forward: {{unmatched: pass}}
log: {{access: all, path: true}}
network:
  allow_private: ["127.0.0.1/32"]
  hosts: {{covered.test: ["127.0.0.1"], free.test: ["127.0.0.1"], inside.test: ["10.1.2.3"],
    metadata.test: ["169.254.169.254"]}}
"""

CONFIG = """
callers: {{service: {{token: {{insecure_value: {token}}}, integrations: [crm]}}}}
integrations:
  crm:
    endpoint_prefix: http://covered.test:{port}/api
    auth: {{type: basic, username: svc, password: {{insecure_value: {secret}}}}}
"""

SHOWN = ("authorization", "cookie", "sidekey_token", "proxy_authorization", "x_integration_id", "via")
"""Fields of the request that nginx repeats in its response, in this order."""

EVERYTHING = f"""
        location / {{
            default_type text/plain;
            return 200 "$host $request_uri {"|".join(f"$http_{name}" for name in SHOWN)}";
        }}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey in front of an nginx with two names, one of which an integration covers."""

    child: SidekeyProcess
    nginx: Nginx

    def curl(self, url: str, *arguments: str, user: str | None = f"crm:{TOKEN}") -> subprocess.CompletedProcess[str]:
        """Send a request with only `http_proxy` set, like a service that does not know Sidekey."""
        proxy = f"127.0.0.1:{self.child.proxy_port}"
        return subprocess.run(
            [programs.require("curl"), "-q", "-sS", "--write-out", " %{http_code}", *arguments, url],
            env={"http_proxy": f"http://{proxy}" if user is None else f"http://{user}@{proxy}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

    def url(self, host: str, path: str) -> str:
        """A URL of the nginx."""
        return f"http://{host}:{self.nginx.port}{path}"


@contextmanager
def scene_in(folder: Path) -> Iterator[Scene]:
    """Run a Sidekey and its nginx."""
    with Nginx(folder, EVERYTHING) as nginx:
        config = CONFIG.format(port=nginx.port, token=TOKEN, secret=SECRET)
        with SidekeyProcess(config, folder, head=HEAD) as child:
            yield Scene(child, nginx)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scene for all tests that neither count nor stop anything."""
    with scene_in(tmp_path_factory.mktemp("passing")) as process:
        yield process


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Scene]:
    """A scene for one test."""
    with scene_in(tmp_path) as process:
        yield process


def test_one_proxy_serves_covered_targets_and_all_others(scene: Scene) -> None:
    """Covered targets get the credential. Others get the Authorization of the service, and no token of a caller."""
    headers = ("-H", "Authorization: Bearer own", "-H", "Cookie: a=b")
    covered = scene.curl(scene.url("covered.test", "/api/x?q=1"), *headers).stdout
    free = scene.curl(scene.url("free.test", "/api/x?q=1"), *headers).stdout
    assert covered.startswith(f"covered.test /api/x?q=1 {CREDENTIAL}|a=b||||1.1 sidekey (")
    assert free.startswith("free.test /api/x?q=1 Bearer own|a=b||||1.1 sidekey (")
    assert covered.endswith(" 200")
    assert free.endswith(" 200")
    assert SECRET not in free
    assert CREDENTIAL not in free
    assert TOKEN not in covered + free


def test_body_passes_unchanged(alone: Scene) -> None:
    """Also chunked."""
    for coding in ((), ("-H", "Transfer-Encoding: chunked")):
        result = alone.curl(alone.url("free.test", "/upload"), "-d", "x" * 100_000, *coding)
        assert result.stdout.startswith("free.test /upload ||||")
    assert [line["method"] for line in alone.nginx.requests(2)] == ["POST", "POST"]


def test_uncovered_target_of_a_covered_host_is_denied(alone: Scene) -> None:
    """Another path, and another port: nothing is sent without the credential."""
    for url in (*(alone.url("covered.test", path) for path in ("/other", "/apix")), "http://COVERED.test:1/api"):
        assert '"code": "target_denied"' in alone.curl(url).stdout
    assert '"code": "request_invalid"' in alone.curl(alone.url("covered.test", "/api/../other"), "--path-as-is").stdout
    alone.curl(alone.url("free.test", "/last"))
    assert [line["host"].partition(":")[0] for line in alone.nginx.requests(1)] == ["free.test"]


@pytest.mark.parametrize("user", [f":{TOKEN}", None])
def test_service_without_an_integration_name_needs_its_token(scene: Scene, user: str | None) -> None:
    """With it other targets pass, and covered targets require the name."""
    free = scene.curl(scene.url("free.test", "/x"), user=user).stdout
    covered = scene.curl(scene.url("covered.test", "/api/x"), user=user).stdout
    if user is None:
        assert '"code": "caller_denied"' in free
        assert '"code": "caller_denied"' in covered
    else:
        assert free.startswith("free.test /x ||||")
        assert '"code": "integration_required"' in covered


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "metadata.test",
        "inside.test",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "127.0.0.2",
        "127.2",
        "[::1]",
        "[fe80::1]",
        "[::ffff:10.0.0.1]",
    ],
)
def test_denied_addresses_are_refused(scene: Scene, host: str) -> None:
    """Metadata services, private networks, and other loopback addresses, as names and as literals."""
    output = scene.curl(f"http://{host}/latest/meta-data/", "-g").stdout
    assert '"code": "destination_denied"' in output
    assert output.endswith(" 403")


def test_listeners_of_sidekey_are_refused(scene: Scene) -> None:
    """Neither the admin API nor the proxy, although loopback is allowed."""
    for port in (scene.child.admin_port, scene.child.proxy_port):
        assert '"code": "destination_denied"' in scene.curl(f"http://free.test:{port}/metrics").stdout


def test_passed_requests_are_logged_and_counted_without_an_integration(alone: Scene) -> None:
    """No line contains a secret."""
    alone.curl(alone.url("free.test", "/seen"))
    line = alone.child.wait_for_line(lambda line: "/seen" in line)
    assert '"integration":"-"' in line
    metrics = subprocess.run(
        [programs.require("curl"), "-q", "-sS", f"http://127.0.0.1:{alone.child.admin_port}/metrics"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 'sidekey_requests_total{integration="-",outcome="2xx"} 1.0\n' in metrics
    assert alone.child.stop() == 0
    assert not [line for line in alone.child.lines if SECRET in line or TOKEN in line]


def test_explain_agrees_about_passed_targets(scene: Scene) -> None:
    config = ("--config", str(scene.child.config))
    free = run_cli("explain", "crm", "http://free.test/x", *config)
    assert (free.returncode, "passes       no integration covers this host" in free.stdout) == (1, True)
    slip = run_cli("explain", "crm", "http://covered.test/x", *config)
    assert (slip.returncode, "denied       target_denied" in slip.stdout) == (1, True)
