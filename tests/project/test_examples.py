"""The examples load, and are as restricted as they claim."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from sidekey.ca.storage import state_file
from sidekey.config.load import load
from support import programs
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess, run_cli, run_process

EXAMPLES = Path(__file__).parents[2] / "examples"
TRIAL = EXAMPLES.parent / "config" / "example.yaml"
COMPOSE = EXAMPLES / "compose.yaml"
GATEWAY = EXAMPLES / "compose-gateway.yaml"
UNIT = EXAMPLES / "systemd" / "sidekey.service"
INSTANCES = EXAMPLES / "systemd" / "instances"
CONFIGS = {
    "compose": (EXAMPLES / "compose" / "sidekey.yaml", {"/run/secrets/crm_password"}),
    "gateway": (EXAMPLES / "gateway" / "sidekey.yaml", {"/run/secrets/crm_password", "/run/secrets/billing_token"}),
    "systemd": (
        EXAMPLES / "systemd" / "sidekey.yaml",
        {
            "/run/credentials/sidekey.service/crm_password",
            "/run/credentials/sidekey.service/billing_token",
        },
    ),
}


def services(compose: Path = COMPOSE) -> dict[str, Any]:
    """Return the services of a compose file."""
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(compose.read_text())
    return loaded["services"]


def unit_settings(unit: Path = UNIT) -> dict[str, list[str]]:
    """Return the settings of a systemd unit. A name may have several values."""
    settings: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Za-z0-9]+)=(.*)$", unit.read_text(), re.M):
        settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize("example", CONFIGS)
def test_config_of_the_example_loads_without_warnings(example: str) -> None:
    """Only the mounted secrets are unreadable."""
    path, secrets = CONFIGS[example]
    loaded = load(path, {})
    assert loaded.errors == []
    assert loaded.warnings == []
    assert loaded.snapshot is not None
    assert set(re.findall(r"\{file: ([^}]+)\}", path.read_text())) == secrets
    assert len(loaded.of("unreadable")) == len(secrets)


def test_service_shares_the_network_of_a_started_sidekey() -> None:
    """The service starts as soon as Sidekey serves the integrations of files, and does not wait for a store."""
    app, sidekey = services()["app"], services()["sidekey"]
    assert app["network_mode"] == "service:sidekey"
    assert app["depends_on"]["sidekey"]["condition"] == "service_healthy"
    assert sidekey["healthcheck"]["test"] == ["CMD", "sidekey", "healthcheck", "--startup"]


@pytest.mark.parametrize("compose", [COMPOSE, GATEWAY], ids=lambda path: path.stem)
def test_sidekey_container_has_no_unneeded_rights(compose: Path) -> None:
    sidekey = services(compose)["sidekey"]
    assert sidekey["read_only"] is True
    assert sidekey["cap_drop"] == ["ALL"]
    assert sidekey["security_opt"] == ["no-new-privileges:true"]
    assert sidekey["ulimits"] == {"core": 0}
    assert not sidekey["user"].startswith(("0", "root"))


def test_secret_of_the_container_is_a_file_for_sidekey_only() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    assert list(compose["secrets"]["crm_password"]) == ["file"]
    assert services()["sidekey"]["secrets"] == ["crm_password"]
    assert "environment" not in services()["sidekey"]
    assert "secrets" not in services()["app"]


def test_gateway_serves_only_known_callers_and_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "billing_token").write_text("the-token-of-billing")
    (tmp_path / "crm_password").write_text("secret")
    child = SidekeyProcess("", tmp_path, head="")
    config = CONFIGS["gateway"][0].read_text().replace("/run/secrets", str(tmp_path))
    config = config.replace("0.0.0.0:8080", f"0.0.0.0:{child.proxy_port}").replace(":9090", f":{child.admin_port}")
    child.rewrite(config)

    def error_code(host: str, token: str = "") -> str:
        headers = {"Host": host, **({"Sidekey-Token": token} if token else {})}
        # Another loopback address is like another interface. The integration refuses the method.
        with closing(HTTPConnection("127.0.0.2", child.proxy_port, timeout=DEADLINE)) as connection:
            connection.request("DELETE", "/i/crm/whoami", headers=headers)
            return str(json.load(connection.getresponse())["code"])

    with child:
        assert error_code("sidekey:8080", "the-token-of-billing") == "method_denied"
        assert error_code("sidekey:8080") == "caller_denied"
        assert error_code("elsewhere:8080", "the-token-of-billing") == "door_denied"


def test_caller_of_the_gateway_gets_its_token_and_not_the_credential() -> None:
    billing, sidekey = services(GATEWAY)["billing"], services(GATEWAY)["sidekey"]
    assert (billing["secrets"], sidekey["secrets"]) == (["billing_token"], ["crm_password", "billing_token"])
    assert "network_mode" not in billing
    assert "ports" not in sidekey
    assert billing["depends_on"]["sidekey"]["condition"] == "service_healthy"


def test_first_integration_of_the_example_can_be_tested(tmp_path: Path) -> None:
    config = tmp_path / "example.yaml"
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        config.write_text(TRIAL.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{server.server_port}"))
        Thread(target=server.serve_forever, daemon=True).start()
        result = run_process("test", "--config", str(config), "trial")
        server.shutdown()
    assert (result.returncode, result.stdout) == (0, "ok: GET /i/trial/: 200 OK, from the upstream\n")


@pytest.mark.parametrize("example", CONFIGS)
def test_supervisor_waits_longer_than_the_drain(example: str) -> None:
    snapshot = load(CONFIGS[example][0], {}).snapshot
    assert snapshot is not None
    stop_timeouts = {
        "compose": services()["sidekey"]["stop_grace_period"],
        "gateway": services(GATEWAY)["sidekey"]["stop_grace_period"],
        "systemd": unit_settings()["TimeoutStopSec"][0],
    }
    assert int(stop_timeouts[example].removesuffix("s")) > snapshot.timeouts.drain_delay + snapshot.timeouts.drain


def test_unit_loads_exactly_the_secrets_of_its_config() -> None:
    loaded = {value.partition(":")[0] for value in unit_settings()["LoadCredential"]}
    assert {Path(secret).name for secret in CONFIGS["systemd"][1]} == loaded


def test_unit_has_the_ca_folders_of_its_config(tmp_path: Path) -> None:
    """Callers can read the trust folder, but not the key."""
    settings = unit_settings()
    assert settings["StateDirectoryMode"] == ["0700"]
    assert (settings["RuntimeDirectoryMode"], settings.get("RuntimeDirectoryPreserve")) == (["0755"], None)
    state, public = (settings[name][0] for name in ("StateDirectory", "RuntimeDirectory"))
    path = CONFIGS["systemd"][0]
    snapshot = load(path, {"STATE_DIRECTORY": f"/var/lib/{state}"}).snapshot
    assert snapshot is not None
    assert snapshot.ca.folder is not None
    assert (snapshot.ca.folder.parent, snapshot.ca.trust_folder) == (Path(f"/var/lib/{state}"), Path(f"/run/{public}"))
    config = tmp_path / "sidekey.yaml"
    config.write_text(path.read_text().replace(f"/run/{public}", str(tmp_path / "public")))
    environment = {"STATE_DIRECTORY": str(tmp_path / "state"), "SIDEKEY_CONFIG": str(config)}
    assert run_cli("ca", "path", environment=environment).stdout == f"{tmp_path / 'public' / 'ca.pem'}\n"
    (folder,) = (tmp_path / "state").iterdir()
    assert state_file(folder).stat().st_mode & 0o777 == 0o600
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "public").iterdir()} == {0o644}


def test_unit_has_the_type_notify_reload() -> None:
    """The type sends SIGHUP itself. A command for a reload would run in addition."""
    settings = unit_settings()
    assert settings["Type"] == ["notify-reload"]
    assert "ExecReload" not in settings


def test_systemd_analyze_accepts_the_unit(tmp_path: Path) -> None:
    """Its exposure level is at most 1.5 of 10."""
    analyze = programs.require("systemd-analyze")
    unit = tmp_path / UNIT.name
    # `verify` needs a program that exists.
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.M))
    for arguments in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=15"]):
        result = subprocess.run([analyze, *arguments, unit], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stderr == ""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Install the instances by the commands of their first lines, in this folder instead of /etc."""
    head, _, _ = (INSTANCES / "instance.conf").read_text().partition("[Unit]")
    commands = "".join(re.findall(r"^#  (.*\n)", head, re.M))
    commands = re.sub(r"^ *(useradd|systemctl) .*\n", "", commands, flags=re.M).replace("/etc/", f"{tmp_path}/etc/")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    subprocess.run(["sh", "-ec", commands], cwd=INSTANCES, check=True)
    return tmp_path / "etc"


def test_instances_share_all_but_the_admin_listener(etc: Path) -> None:
    """One local CA and one trust folder, which a stopped instance does not remove."""
    unit, drop_in = unit_settings(), unit_settings(INSTANCES / "instance.conf")
    socket_unit = unit_settings(INSTANCES / "sidekey.socket")
    assert (drop_in["DynamicUser"], drop_in["User"], drop_in["RuntimeDirectoryPreserve"]) == (
        ["no"],
        ["sidekey"],
        ["yes"],
    )
    snapshots = []
    for instance in ("1", "2"):
        folder = etc / "sidekey" / instance
        loaded = load(folder, {"STATE_DIRECTORY": "/var/lib/sidekey"})
        assert loaded.errors == []
        assert loaded.warnings == []
        assert loaded.snapshot is not None
        assert len(loaded.of("unreadable")) == len(unit["LoadCredential"])
        assert str((folder / "credentials").readlink()) == f"/run/credentials/sidekey@{instance}.service"
        snapshots.append(loaded.snapshot)
    assert [str(snapshot.listen.proxy) for snapshot in snapshots] == socket_unit["ListenStream"] * 2
    assert [str(snapshot.listen.admin) for snapshot in snapshots] == ["127.0.0.1:9091", "127.0.0.1:9092"]
    folders = {(str(snapshot.ca.folder), str(snapshot.ca.trust_folder)) for snapshot in snapshots}
    assert folders == {(f"/var/lib/{unit['StateDirectory'][0]}", f"/run/{unit['RuntimeDirectory'][0]}")}


def test_systemd_analyze_accepts_the_instances(etc: Path) -> None:
    analyze = programs.require("systemd-analyze")
    units = etc / "systemd" / "system"
    for file in (units / "sidekey@.service", units / "sidekey@.service.d" / "instance.conf"):
        file.write_text(re.sub(r"^ExecStart=/\S+", "ExecStart=/bin/true", file.read_text(), flags=re.M))
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
    for arguments in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=15"]):
        names = ["sidekey@1.service", "sidekey.socket"][: 2 if arguments[0] == "verify" else 1]
        command = [analyze, *arguments, *(str(units / name) for name in names)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stderr == ""
