"""The `request_id` of an error response finds its line in the access log."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from support import programs
from support.nginx import Nginx
from support.private_ca import Authority
from support.sidekey_process import SidekeyProcess

CONFIG = """
integrations:
  good:
    endpoint_prefix: http://127.0.0.1:{nginx.port}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
  bad:
    endpoint_prefix: https://127.0.0.1:{nginx.tls_port}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
log: {{access: errors}}
"""


def test_request_id_of_a_502_finds_its_log_line(ca: Authority, tmp_path: Path) -> None:
    """The line has the code and detail that the client received."""
    curl = programs.require("curl")

    def send(child: SidekeyProcess, name: str) -> tuple[dict[str, str], str]:
        """Return the header fields of a response, and its body."""
        url = f"http://127.0.0.1:{child.proxy_port}/i/{name}/x"
        result = subprocess.run([curl, "-sS", "-i", "--noproxy", "*", url], capture_output=True, text=True, check=True)
        head, _, body = result.stdout.replace("\r\n", "\n").partition("\n\n")
        return {name.lower(): value for name, value in (line.split(": ") for line in head.split("\n")[1:])}, body

    # Sidekey does not trust the CA of nginx's certificate.
    with (
        Nginx(tmp_path, leaf=ca.leaf("127.0.0.1")) as nginx,
        SidekeyProcess(CONFIG.format(nginx=nginx), tmp_path) as child,
    ):
        good, _ = send(child, "good")
        send(child, "bad")
        fields, body = send(child, "bad")
        assert child.stop() == 0
    problem = json.loads(body)
    lines = [json.loads(line) for line in child.lines]
    matches = [line for line in lines if line.get("request_id") == fields["sidekey-request-id"]]
    (line,) = matches
    assert problem["instance"] == line["request_id"]
    assert (line["status"], line["code"], line["reason"]) == (502, "upstream_tls_failed", problem["detail"])
    assert fields["proxy-status"] == f"sidekey; error={line['error']}"
    assert (line["integration"], line["host"], line["port"]) == ("bad", "127.0.0.1", nginx.tls_port)
    assert line["peer"].startswith("127.0.0.1:")
    # A successful response has an ID, too, but `access: errors` logs no line for it.
    assert good["sidekey-request-id"].partition("-")[0] == line["request_id"].partition("-")[0]
    assert all(line.get("request_id") != good["sidekey-request-id"] for line in lines)
