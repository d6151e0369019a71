"""The rendered config is Sidekey's own: it loads, and a process that runs it serves as the rendered objects say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidekey.settings.load import load
from support import helm, peers
from support.ask import get
from support.ca import Authority
from support.child import Child, run_cli
from support.nginx import Nginx
from support.ports import free_port

CASES = [case for case in helm.cases() if not case.startswith("none")]
PASSWORD = "s3cret-of-crm"
AUTHORIZATION = "Basic c3ZjOnMzY3JldC1vZi1jcm0="
SECRET = "mounted-secret-value"
OF_A_TEAM = """\
version: 1
integrations:
  sms:
    endpoint_prefix: https://sms.example.com/api
    auth: {type: headers, headers: {Authorization: {secret: {file: /run/team-a/sms/token}}}}
"""
"""What a team's own ConfigMap holds."""


def token(caller: str) -> str:
    """What a caller's Secret holds."""
    return f"token-of-{caller}-1a2b3c"


def mounted(objects: list[helm.Object], folder: Path, config: str) -> str:
    """The config with all places of mounts moved into `folder`, where each file that it names is."""

    def moved(match: re.Match[str]) -> str:
        path = folder / match["path"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if match["path"].startswith("/run/sidekey/callers/"):
            path.write_text(token(path.name))
        else:
            path.write_text(PASSWORD if "crm" in match["path"] else SECRET)
        return f"file: {path}"

    places = [mount["mountPath"] for mount in _sidekey(objects)["volumeMounts"]]
    text = re.sub(r"file: (?P<path>/[\w./-]+)", moved, config)
    named = re.findall(r"file: (/[\w./-]+)", config)
    assert [path for path in named if not any(path.startswith(f"{place}/") for place in places)] == []
    return text


def _sidekey(objects: list[helm.Object]) -> helm.Object:
    (deployment,) = helm.of_kind(objects, "Deployment")
    return helm.sidekey_of(deployment["spec"]["template"]["spec"])


@pytest.mark.parametrize("case", CASES)
def test_the_rendered_config_loads(case: str, rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """Without an error, and every secret that it names lies under a path that the pod mounts."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "sidekey.yaml").write_text(mounted(rendered[case], tmp_path, helm.config_of(rendered[case])))
    if case == "gateway-teams":
        (folder / "team-a.yaml").write_text(mounted(rendered[case], tmp_path, OF_A_TEAM))
    loaded = load(folder, {})
    assert [str(error) for error in loaded.errors] == []
    assert not loaded.unreadable
    assert loaded.snapshot is not None


def test_the_check_of_the_chart_passes(rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """The command of the hook, with the environment of its container, on the mounted folder."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "sidekey.yaml").write_text(mounted(rendered["gateway"], tmp_path, helm.config_of(rendered["gateway"])))
    ((_, pod),) = helm.pods(helm.of_kind(rendered["gateway"], "Job"))
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {"SIDEKEY_CONFIG": "/etc/sidekey"}
    result = run_cli(*container["args"], environment={"SIDEKEY_CONFIG": str(folder)})
    assert (result.returncode, result.stderr) == (0, "")


def test_the_check_of_the_chart_names_a_missing_secret(rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """Which is why the hook's Secrets are optional."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(helm.config_of(rendered["gateway"]).replace("/run/", f"{tmp_path}/none/"))
    result = run_cli("check", environment={"SIDEKEY_CONFIG": str(path)})
    assert result.returncode == 1
    assert "integrations.crm.auth.password" in result.stdout + result.stderr


def test_the_check_of_the_chart_names_a_missing_variable(tmp_path: Path) -> None:
    """Its container starts without the Secret of a variable, and says where one is missing."""
    auth = {"type": "basic", "username": "svc", "password": {"env": "CRM_PASSWORD"}}
    crm = {"endpoint_prefix": "https://crm.example.com", "auth": auth}
    values = {**helm.values_of("gateway"), "config": {"integrations": {"crm": crm}}}
    objects = helm.objects(helm.CHART, values)
    path = tmp_path / "sidekey.yaml"
    path.write_text(mounted(objects, tmp_path, helm.config_of(objects)))
    result = run_cli("check", environment={"SIDEKEY_CONFIG": str(path)})
    assert result.returncode == 1
    assert (
        "integrations.crm.auth.password: environment variable CRM_PASSWORD is not set" in result.stdout + result.stderr
    )


@contextmanager
def running(
    chart: Path, values: helm.Values, tmp_path: Path, ca: Authority, upstream: str
) -> Iterator[tuple[Child, int, list[helm.Object]]]:
    """A process that runs the rendered config, its port of metrics, and the objects.

    `upstream` is the base URL of the CRM. Only what a test machine lacks is different: ports, places of files, and that
    `crm.example.com` is here.
    """
    crm = {
        "endpoint_prefix": f"{upstream}/hooks/v1",
        "auth": {"type": "basic", "username": "svc", "password": {"file": "/run/secrets/crm/password"}},
    }
    network = {
        "hosts": {"crm.example.com": ["127.0.0.1"]},
        "allow_private": ["127.0.0.0/8"],
        "trusted_ca": {"file": "/etc/company-ca/ca.pem"},
    }
    config = {**values.get("config", {}), "integrations": {"crm": crm}, "network": network}
    values = {
        **values,
        "config": config,
        "secrets": [{"name": "crm"}],
        "extraVolumes": [{"name": "company-ca", "configMap": {"name": "company-ca"}}],
        "extraVolumeMounts": [{"name": "company-ca", "mountPath": "/etc/company-ca", "readOnly": True}],
    }
    objects = helm.objects(chart, values if chart == helm.CHART else {"sidekey": values})
    text = mounted(objects, tmp_path, helm.config_of(objects))
    (tmp_path / "etc/company-ca/ca.pem").write_text(ca.bundle.read_text())
    metrics = free_port()
    head = text.replace("{", "{{").replace("}", "}}").replace(":15091", f":{metrics}")
    head = head.replace(":15080", ":{proxy}").replace(":15090", ":{admin}")
    with Child("", tmp_path, head=head) as child:
        yield child, metrics, objects


@pytest.fixture
def upstream(tmp_path: Path, ca: Authority) -> Iterator[Nginx]:
    """The CRM."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    with Nginx(folder, leaf=ca.leaf("crm.example.com")) as nginx:
        yield nginx


def base(upstream: Nginx) -> str:
    """The CRM's https URL."""
    return f"https://crm.example.com:{upstream.tls_port}"


def test_a_gateway_adds_the_credential_for_its_callers(upstream: Nginx, ca: Authority, tmp_path: Path) -> None:
    """By the Service's name as Host, with the mounted token, to a real https upstream."""
    values = helm.values_of("gateway")
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (child, _, objects):
        (service,) = helm.of_kind(objects, "Service")
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:15080"
        answer = get(child.proxy_port, "/i/crm/events", {"Host": host, "Sidekey-Token": token("billing")})
    assert answer.status == 200
    assert f"authorization: {AUTHORIZATION}" in answer.body
    assert answer.body.startswith("GET /hooks/v1/events")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "demo-sidekey.prod.svc"}, 401),
        ({"Host": "demo-sidekey.prod.svc", "Sidekey-Token": "another"}, 401),
        ({"Host": "evil.example", "Sidekey-Token": token("billing")}, 403),
    ],
    ids=["no token", "wrong token", "foreign Host"],
)
def test_a_gateway_lets_nobody_else_in(
    headers: dict[str, str], status: int, upstream: Nginx, ca: Authority, tmp_path: Path
) -> None:
    """Nothing reaches the upstream."""
    values = helm.values_of("gateway")
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (child, _, _):
        assert get(child.proxy_port, "/i/crm/events", headers).status == status
    assert upstream.requests(0) == []


def test_probes_and_metrics_answer_where_the_objects_say(upstream: Nginx, ca: Authority, tmp_path: Path) -> None:
    """By the pod's address, as the kubelet and Prometheus ask, without a token."""
    values = helm.values_of("gateway")
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (_, metrics, objects):
        container = _sidekey(objects)
        probes = [container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")]
        statuses = {path: get(metrics, path, {"Host": "10.1.2.3:15091"}).status for path in [*probes, "/metrics"]}
    assert statuses == {"/readyz": 200, "/healthz": 200, "/metrics": 200}


def environment_of(objects: list[helm.Object], ports: dict[str, str]) -> dict[str, str]:
    """What the service's container gets, expanded as the kubelet expands it."""
    (deployment,) = helm.of_kind(objects, "Deployment")
    (service,) = deployment["spec"]["template"]["spec"]["containers"]
    known = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    for entry in service["env"]:
        text = token("sender") if "valueFrom" in entry else entry["value"]
        known[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: known[match[1]], text)
    for port, real in ports.items():
        known = {name: text.replace(port, real) for name, text in known.items()}
    return known


def curl(environment: dict[str, str], *arguments: str) -> str:
    """What a real curl in the service's container prints."""
    command = [peers.require("curl"), "--silent", "--show-error", "--max-time", "15", *arguments]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return result.stdout


def test_a_service_reaches_its_sidecar_by_its_environment(
    upstream: Nginx, ca: Authority, tmp_path: Path, example: Path
) -> None:
    """SIDEKEY_URL is all that it needs."""
    values = {"mode": "none"}
    with running(example, values, tmp_path, ca, base(upstream)) as (child, _, objects):
        environment = environment_of(objects, {":15080": f":{child.proxy_port}"})
        body = curl(environment, "--json", "{}", f"{environment['SIDEKEY_URL']}/i/crm/events")
    assert f"authorization: {AUTHORIZATION}" in body
    assert not {"HTTP_PROXY", "http_proxy", "NO_PROXY", "HTTPS_PROXY", "https_proxy"} & environment.keys()


@pytest.fixture
def proxied(example: Path) -> helm.Values:
    """The values of a sidecar with HTTP_PROXY and a caller."""
    return helm.sidekey_values("sidecar-http-proxy")


def test_http_proxy_takes_a_services_calls_to_the_sidecar(
    proxied: helm.Values, upstream: Nginx, ca: Authority, tmp_path: Path, example: Path
) -> None:
    """A plain http URL, with integration and caller's token in the proxy's URL: curl knows nothing of Sidekey."""
    crm = f"http://crm.example.com:{upstream.port}"
    with running(example, proxied, tmp_path, ca, crm) as (child, _, objects):
        environment = environment_of(objects, {":15080": f":{child.proxy_port}"})
        body = curl(environment, "--json", "{}", f"{crm}/hooks/v1/events")
    assert f"authorization: {AUTHORIZATION}" in body


def test_no_proxy_holds_what_stays_in_the_cluster(proxied: helm.Values, example: Path) -> None:
    """Loopback, Services, the API server, and what the values add; in both cases of the name."""
    environment = environment_of(helm.objects(example, {"sidekey": proxied}), {})
    assert environment["NO_PROXY"].split(",") == [
        "localhost",
        "127.0.0.1",
        "::1",
        ".svc",
        ".cluster.local",
        "10.96.0.1",
        "billing",
        ".corp.example",
    ]
    assert environment["no_proxy"] == environment["NO_PROXY"]
    assert environment["http_proxy"] == environment["HTTP_PROXY"] == f"http://crm:{token('sender')}@127.0.0.1:15080"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "api.prod.svc", "api.prod.svc.cluster.local", "billing"])
def test_calls_inside_the_cluster_bypass_the_sidecar(
    host: str, proxied: helm.Values, upstream: Nginx, tmp_path: Path, example: Path
) -> None:
    """A real curl goes straight to the host: the proxy of its environment is a port where nobody listens."""
    objects = helm.objects(example, {"sidekey": proxied})
    environment = environment_of(objects, {":15080": f":{free_port()}"})
    body = curl(environment, "--resolve", f"{host}:{upstream.port}:127.0.0.1", f"http://{host}:{upstream.port}/direct")
    assert body.startswith("GET /direct")


def test_no_config_map_holds_a_secret(rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """Every secret of the rendered configs is a reference to a file or a variable."""

    def secrets(node: Any, key: str = "") -> Iterator[Any]:
        if isinstance(node, dict):
            for name, value in node.items():
                yield from secrets(value, name)
        elif isinstance(node, list):
            for value in node:
                yield from secrets(value, key)
        elif key in {"password", "client_secret", "token", "secret", "insecure_value", "inline"}:
            yield node

    for objects in rendered.values():
        for found in helm.of_kind(objects, "ConfigMap"):
            if "sidekey.yaml" in found["data"]:
                assert list(secrets(yaml.safe_load(found["data"]["sidekey.yaml"]))) == []
