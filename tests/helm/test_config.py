"""The rendered config loads, and a process that runs it serves at the addresses of the rendered objects."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from sidekey.cli.environment import TOKEN_PLACEHOLDER
from sidekey.config.load import load
from support import helm, programs
from support.api import Api
from support.console_browser import ConsoleBrowser
from support.http_get import get, wait_until
from support.local_cas import cert_manager_secret
from support.nginx import Nginx
from support.ports import free_port
from support.postgres import Postgres
from support.private_ca import Authority
from support.sidekey_process import SidekeyProcess, run_cli

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
presets:
  welcome: {integration: sms, url: "https://sms.example.com/api/messages", content_type: application/json}
"""
"""The content of a team's own ConfigMap."""


def token(caller: str) -> str:
    """Return the content of a caller's Secret."""
    return f"token-of-{caller}-1a2b3c"


DATABASE = "postgresql://sidekey:x@127.0.0.1:1/sidekey"
"""The URL of a database that does not exist."""

CA = cert_manager_secret("crm.example.com")
"""The content of the Secret of a gateway's CA."""


HOST = "sidekey.example.com"
ISSUER = trustme.CA()
CERTIFICATE = ISSUER.issue_cert(HOST)
"""The content of the Secret of a console's certificate."""


def content(path: Path) -> str:
    """Return the content of a file in a config."""
    if path.is_relative_to("/run/sidekey/callers"):
        return token(path.name)
    if path.is_relative_to("/run/sidekey/operators"):
        return token(path.name)
    if path.is_relative_to("/run/sidekey/store/keys"):
        return b64encode(path.name.encode().ljust(32, b"-")).decode()
    if path.is_relative_to("/run/sidekey/store"):
        return DATABASE
    if path.is_relative_to("/run/sidekey/ca"):
        return CA[path.name]
    if path.name == "ca.crt" and path.parent in {Path("/run/sidekey/tls"), Path("/run/sidekey/cluster")}:
        return CA["ca.crt"]
    if path.is_relative_to("/run/sidekey/console") or path.is_relative_to("/run/sidekey/tls"):
        leaf = CERTIFICATE
        pem = leaf.private_key_pem if path.name == "tls.key" else leaf.cert_chain_pems[0]
        return pem.bytes().decode()
    if path.is_relative_to("/run/sidekey/extra-roots"):
        return CA["ca.crt"]
    return PASSWORD if "crm" in str(path) else SECRET


def move_into(objects: list[helm.Object], folder: Path, config: str) -> str:
    """Move all mount paths of a config into `folder`, and write its files there."""

    def move_path(match: re.Match[str]) -> str:
        path = folder / match["path"].lstrip("/")
        if match["key"] in {"file", "path"}:
            path.parent.mkdir(parents=True, exist_ok=True)
        if match["key"] == "file":
            path.write_text(content(Path(match["path"])))
        return f"{match['key']}: {path}"

    mount_paths = [mount["mountPath"] for mount in _sidekey(objects)["volumeMounts"]]
    named = re.compile(r"(?P<key>file|folder|trust_folder|path): (?P<path>/[\w./-]+)")
    paths = [f"{match['path']}/" for match in named.finditer(config)]
    assert [path for path in paths if not any(path.startswith(f"{mount_path}/") for mount_path in mount_paths)] == []
    return named.sub(move_path, config)


def _sidekey(objects: list[helm.Object]) -> helm.Object:
    (deployment,) = helm.of_kind(objects, "Deployment")
    return helm.sidekey_of(deployment["spec"]["template"]["spec"])


@pytest.mark.parametrize("case", CASES)
def test_rendered_config_loads(case: str, rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """The pod mounts every secret of the config."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "sidekey.yaml").write_text(move_into(rendered[case], tmp_path, helm.config_of(rendered[case])))
    if case == "gateway-teams":
        (folder / "team-a.yaml").write_text(move_into(rendered[case], tmp_path, OF_A_TEAM))
    loaded = load(folder, {})
    assert [str(error) for error in loaded.errors] == []
    assert not loaded.of("unreadable")
    assert loaded.snapshot is not None


@pytest.mark.parametrize(
    "case",
    [
        *("gateway", "gateway-https-proxy", "gateway-store", "gateway-embedded"),
        *("gateway-console", "gateway-console-tls", "gateway-tls"),
        *("sidecar", "sidecar-https-proxy", "sidecar-by-host"),
    ],
)
def test_config_check_passes(case: str, rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """The test runs the hook's command, with its environment, on the mounted folder. The command opens no store."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "sidekey.yaml").write_text(move_into(rendered[case], tmp_path, helm.config_of(rendered[case])))
    ((_, pod),) = helm.pods(helm.of_kind(rendered[case], "Job"))
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {"SIDEKEY_CONFIG": "/etc/sidekey"}
    result = run_cli(*container["args"], environment={"SIDEKEY_CONFIG": str(folder)})
    assert (result.returncode, result.stderr) == (0, "")


def test_config_check_names_a_missing_secret(rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """The hook starts, because its Secrets are optional."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(helm.config_of(rendered["gateway"]).replace("/run/", f"{tmp_path}/none/"))
    result = run_cli("check", environment={"SIDEKEY_CONFIG": str(path)})
    assert result.returncode == 1
    assert "integrations.crm.auth.password" in result.stdout + result.stderr


def test_config_check_names_a_missing_variable(tmp_path: Path) -> None:
    """The container of the check starts without the Secret of a variable."""
    auth = {"type": "basic", "username": "svc", "password": {"env": "CRM_PASSWORD"}}
    crm = {"endpoint_prefix": "https://crm.example.com", "auth": auth}
    values = {**helm.values_of("gateway"), "config": {"integrations": {"crm": crm}}}
    objects = helm.objects(helm.CHART, values)
    path = tmp_path / "sidekey.yaml"
    path.write_text(move_into(objects, tmp_path, helm.config_of(objects)))
    result = run_cli("check", environment={"SIDEKEY_CONFIG": str(path)})
    assert result.returncode == 1
    assert (
        "integrations.crm.auth.password: environment variable CRM_PASSWORD is not set" in result.stdout + result.stderr
    )


def test_config_check_names_a_host_outside_of_the_ca(tmp_path: Path) -> None:
    """Otherwise callers of that host would get 502 after the release."""
    values = helm.values_of("gateway-https-proxy")
    values["config"]["integrations"]["crm"]["endpoint_prefix"] = "https://crm.other.example/hooks"
    objects = helm.objects(helm.CHART, values)
    path = tmp_path / "sidekey.yaml"
    path.write_text(move_into(objects, tmp_path, helm.config_of(objects)))
    result = run_cli("check", environment={"SIDEKEY_CONFIG": str(path)})
    assert result.returncode == 1
    assert (
        "ca.certificate: the name constraints of this CA must permit crm.other.example" in result.stdout + result.stderr
    )


@contextmanager
def running(
    chart: Path, values: helm.Values, tmp_path: Path, ca: Authority, upstream: str, database: str = DATABASE
) -> Iterator[tuple[SidekeyProcess, int, list[helm.Object]]]:
    """Run the rendered config; yield the process, its port for metrics, and the objects.

    `upstream` is the base URL of the CRM, `database` the URL of a store. Only the following differs from a pod: ports,
    paths of files, and the address of `crm.example.com`.
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
    text = move_into(objects, tmp_path, helm.config_of(objects))
    (tmp_path / "etc/company-ca/ca.pem").write_text(ca.bundle.read_text())
    if "url:" in text:
        (tmp_path / "run/sidekey/store/url").write_text(database)
    metrics = free_port()
    head = text.replace("{", "{{").replace("}", "}}").replace(":15091", f":{metrics}")
    head = head.replace(":15080", ":{proxy}").replace(":15090", ":{admin}")
    # The image's user has no home, and its environment names no folder for a CA.
    homeless = {"HOME": "", "XDG_STATE_HOME": "", "STATE_DIRECTORY": ""}
    with SidekeyProcess("", tmp_path, head=head, environment=homeless, metrics_port=metrics) as child:
        yield child, metrics, objects


@pytest.fixture
def upstream(tmp_path: Path, ca: Authority) -> Iterator[Nginx]:
    """Run the upstream of the CRM."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    with Nginx(folder, leaf=ca.leaf("crm.example.com")) as nginx:
        yield nginx


def base(upstream: Nginx) -> str:
    """Return the https URL of the CRM."""
    return f"https://crm.example.com:{upstream.tls_port}"


def test_gateway_adds_the_credential_for_its_callers(upstream: Nginx, ca: Authority, tmp_path: Path) -> None:
    """The caller sends the Service's name as Host and the mounted token. The upstream uses https."""
    values = helm.values_of("gateway")
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (child, _, objects):
        (service,) = helm.of_kind(objects, "Service")
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:15080"
        response = get(child.proxy_port, "/i/crm/events", {"Host": host, "Sidekey-Token": token("billing")})
    assert response.status == 200
    assert {type(json.loads(line)) for line in child.lines} == {dict}
    assert f"authorization: {AUTHORIZATION}" in response.body
    assert response.body.startswith("GET /hooks/v1/events")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "demo-sidekey.prod.svc"}, 401),
        ({"Host": "demo-sidekey.prod.svc", "Sidekey-Token": "another"}, 401),
        ({"Host": "evil.example", "Sidekey-Token": token("billing")}, 403),
    ],
    ids=["no token", "wrong token", "foreign Host"],
)
def test_gateway_sends_no_request_of_unknown_callers(
    headers: dict[str, str], status: int, upstream: Nginx, ca: Authority, tmp_path: Path
) -> None:
    values = helm.values_of("gateway")
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (child, _, _):
        assert get(child.proxy_port, "/i/crm/events", headers).status == status
    assert upstream.requests(0) == []


def test_probes_and_metrics_respond_at_the_rendered_ports(upstream: Nginx, ca: Authority, tmp_path: Path) -> None:
    """The kubelet and Prometheus use the pod's address and no token."""
    values = helm.values_of("gateway")
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (_, metrics, objects):
        container = _sidekey(objects)
        probes = [container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")]
        statuses = {path: get(metrics, path, {"Host": "10.1.2.3:15091"}).status for path in [*probes, "/metrics"]}
    assert statuses == {"/startupz": 200, "/readyz": 200, "/healthz": 200, "/metrics": 200}


@pytest.mark.parametrize(
    ("case", "warning"),
    [
        ("gateway-one", "only one process may use this"),
        ("gateway-embedded", "the file of store.path"),
        ("gateway-store", ""),
    ],
)
def test_config_check_warns_unless_pods_share_tokens(case: str, warning: str, tmp_path: Path) -> None:
    """Pods with a database share them. A file belongs to one pod, and without a store each pod has separate tokens."""
    one, values = helm.values_of("gateway-one"), helm.values_of(case)
    config = {**values.get("config", {}), "integrations": one["config"]["integrations"]}
    objects = helm.objects(helm.CHART, {**values, "config": config, "secrets": one["secrets"]})
    path = tmp_path / "sidekey.yaml"
    path.write_text(move_into(objects, tmp_path, helm.config_of(objects)))
    result = run_cli("check", environment={"SIDEKEY_CONFIG": str(path)})
    warnings = [line for line in result.stdout.splitlines() if line.startswith("warning: ")]
    assert result.returncode == 0
    assert [warning in line for line in warnings] == ([True, True] if warning else [])


def store_values(case: str) -> helm.Values:
    """Return the values of a case with a store that may connect to addresses of this machine."""
    values = helm.values_of(case)
    config = {"store": {"allow_private": ["127.0.0.0/8"]}, "timeouts": {"drain_delay": "0s"}}
    return {**values, "config": config}


def shop_integration(upstream: Nginx) -> dict[str, Any]:
    """Build an integration for the API."""
    auth = {"type": "basic", "username": {"value": "svc"}, "password": {"value": PASSWORD}}
    return {"id": "shop", "endpoint_prefix": f"{base(upstream)}/hooks/v1", "auth": auth}


def test_store_in_a_volume_outlives_the_pod(upstream: Nginx, ca: Authority, tmp_path: Path) -> None:
    """`kubectl exec` creates the first token, and the API the other tokens. Probes and Prometheus need no token."""
    values = store_values("gateway-embedded")
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (child, metrics, _):
        created = run_cli("token", "create", "me", "--role", "admin", environment={"SIDEKEY_CONFIG": str(child.config)})
        api = Api(child.admin_port, created.stdout.strip())
        wait_until(lambda: api.request("GET", "/whoami").status == 200)
        api.create("/integrations", shop_integration(upstream))
        caller = {"Sidekey-Token": api.create("/callers", {"name": "billing", "integrations": ["shop"]})["token"]}
        responses = [get(child.proxy_port, "/i/shop/events", caller)]
        scraped = {path: get(metrics, path, {"Host": "10.1.2.3:15091"}) for path in ("/readyz", "/healthz", "/metrics")}
        assert get(child.proxy_port, "/i/shop/events").status == 401
        assert child.stop() == 0
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (child, _, _):
        responses.append(get(child.proxy_port, "/i/shop/events", caller))
    assert [(response.status, f"authorization: {AUTHORIZATION}" in response.body) for response in responses] == [
        (200, True)
    ] * 2
    assert {path: response.status for path, response in scraped.items()} == {
        "/readyz": 200,
        "/healthz": 200,
        "/metrics": 200,
    }
    assert "\nsidekey_store_up 1.0\n" in scraped["/metrics"].body
    assert PASSWORD.encode() not in (tmp_path / "var/lib/sidekey/store.db").read_bytes()


def test_pods_share_a_store_in_postgresql(upstream: Nginx, ca: Authority, tmp_path: Path, postgres: Postgres) -> None:
    """An operator of the values changes one pod, and the other pod serves the change."""
    values, url = store_values("gateway-store"), postgres.url(asyncio.run(postgres.schema()))
    with ExitStack() as stack:
        pods = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            pod = running(helm.CHART, values, tmp_path / name, ca, base(upstream), url)
            pods.append(stack.enter_context(pod)[0])
        first, second = (Api(pod.admin_port, token("ops")) for pod in pods)
        assert Api(pods[1].admin_port, token("grafana")).get("/whoami")["role"] == "viewer"
        first.create("/integrations", shop_integration(upstream))
        caller = {"Sidekey-Token": first.create("/callers", {"name": "billing", "integrations": ["shop"]})["token"]}
        wait_until(lambda: get(pods[1].proxy_port, "/i/shop/events", caller).status == 200)
        assert second.request("DELETE", "/integrations/shop", match='"1"').status == 204
        wait_until(lambda: get(pods[0].proxy_port, "/i/shop/events", caller).status == 403)
    assert len(upstream.requests(1)) >= 1


def console_values(case: str, **console: object) -> helm.Values:
    """Return the values of a console with a store in a volume, on addresses of this machine."""
    case_values = store_values(case)
    embedded_store = {name: helm.values_of("gateway-embedded")[name] for name in ("store", "replicaCount", "strategy")}
    return {**case_values, **embedded_store, "ipFamily": "IPv4", "console": {**case_values["console"], **console}}


def ingress_settings(scheme: str, port: int) -> str:
    """Return nginx settings of an ingress controller that terminates TLS and keeps Host."""
    return f"""
        location / {{
            proxy_pass {scheme}://127.0.0.1:{port};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
"""


def new_integration(name: str) -> dict[str, Any]:
    """Build the document that an operator enters."""
    auth = {"type": "basic", "username": {"value": "svc"}, "password": {"value": PASSWORD}}
    return {"id": name, "endpoint_prefix": "https://shop.example.com", "auth": auth}


def create_token(child: SidekeyProcess, browser: ConsoleBrowser) -> str:
    """Create an operator's token as with `kubectl exec`, and wait until the API at the console's host accepts it."""
    created = run_cli("token", "create", "me", "--role", "admin", environment={"SIDEKEY_CONFIG": str(child.config)})
    wait_until(lambda: browser.request("GET", "/whoami", headers=bearer(created.stdout.strip())).status == 200)
    return created.stdout.strip()


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("tls", [None, {"secretName": "sidekey-console"}], ids=["http to the pod", "https to the pod"])
def test_browser_uses_the_console_through_an_ingress(
    tls: helm.Values | None, upstream: Nginx, ca: Authority, tmp_path: Path
) -> None:
    """Cookies belong to the host. Other sites and other hosts cannot change anything."""
    folder = tmp_path / "ingress"
    folder.mkdir()
    with running(helm.CHART, console_values("gateway-console", tls=tls), tmp_path, ca, base(upstream)) as (child, _, _):
        settings = ingress_settings("https" if tls else "http", child.admin_port)
        with Nginx(folder, settings, leaf=ca.leaf(HOST)) as ingress:
            browser = ConsoleBrowser(ingress.tls_port, host=HOST, trusted=ca.client_context())
            admin = create_token(child, browser)
            assert browser.log_in(admin).headers["Set-Cookie"].startswith("__Host-sidekey-ui=")
            statuses = [
                browser.request("POST", "/integrations", new_integration("shop"), {"Sec-Fetch-Site": site}).status
                for site in ("cross-site", "same-site", "none", "")
            ]
            misdirected = browser.request("GET", "/session", headers={"Host": "evil.example"}).status
            saved = browser.request("POST", "/integrations", new_integration("shop"))
            read = browser.get("/integrations/shop")
            body = browser.get("/audit")
    assert statuses == [403] * 4
    assert misdirected == 421
    assert (saved.status, read["id"]) == (201, "shop")
    entries = [entry for entry in body["items"] if entry["object"] == "integration"]
    assert [(entry["name"], entry["from"]) for entry in entries] == [("shop", "127.0.0.1 by 127.0.0.1")]


def test_browser_uses_the_console_with_sidekeys_certificate(upstream: Nginx, ca: Authority, tmp_path: Path) -> None:
    """The ingress passes connections through. Sidekey ignores X-Forwarded-For of the client."""
    trusted = ssl.create_default_context(cadata=ISSUER.cert_pem.bytes().decode())
    values = console_values("gateway-console-tls", service=None)
    with running(helm.CHART, values, tmp_path, ca, base(upstream)) as (child, _, _):
        browser = ConsoleBrowser(child.admin_port, host=HOST, trusted=trusted)
        browser.log_in(token("ops"))
        refused = browser.request("POST", "/integrations", new_integration("shop"), {"Sec-Fetch-Site": "cross-site"})
        forwarded = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Proto": "http"}
        sent = browser.request("POST", "/integrations", new_integration("shop"), forwarded)
        body = browser.get("/audit")
        with pytest.raises(OSError):
            get(child.admin_port, "/ui/", {"Host": HOST})
    assert (refused.status, sent.status) == (403, 201)
    assert {entry["from"] for entry in body["items"]} == {"127.0.0.1"}


class BrowserOfAllPods(ConsoleBrowser):
    """A browser behind an ingress that terminates TLS and sends each request to the next pod."""

    def __init__(self, ports: list[int], cookie: str = "") -> None:
        super().__init__(ports[0], cookie, host=HOST)
        self._ports = cycle(ports)

    def connect(self) -> HTTPConnection:
        self.port = next(self._ports)
        return super().connect()


def test_every_pod_serves_every_session(upstream: Nginx, ca: Authority, tmp_path: Path, postgres: Postgres) -> None:
    """Sessions are in the store, so neither the Service nor an ingress needs affinity."""
    values, url = store_values("gateway-console"), postgres.url(asyncio.run(postgres.schema()))
    values["admin"] = {"tokens": {"ops": {"secret": {"name": "sidekey-operators"}, "role": "admin"}}}
    with ExitStack() as stack:
        pods = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            pod = running(helm.CHART, values, tmp_path / name, ca, base(upstream), url)
            pods.append(stack.enter_context(pod)[0].admin_port)
        browser = BrowserOfAllPods(pods)
        browser.log_in(token("ops"))
        for name in ("shop", "till", "desk"):
            assert browser.request("POST", "/integrations", new_integration(name)).status == 201
            # The other pod serves it within 2 seconds.
            path = f"/integrations/{name}"
            wait_until(lambda path=path: all(browser.request("GET", path).status == 200 for _ in pods))
        cookie = browser.cookie
        assert browser.request("DELETE", "/session").status == 204
        for port in pods:
            browser_of_pod = BrowserOfAllPods([port], cookie)
            wait_until(lambda browser_of_pod=browser_of_pod: browser_of_pod.request("GET", "/whoami").status == 401)


def environment_of(objects: list[helm.Object], ports: dict[str, str]) -> dict[str, str]:
    """Return the environment of the service's container, expanded as by the kubelet."""
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
    """Return the output of curl with the environment of the service's container."""
    command = [programs.require("curl"), "--silent", "--show-error", "--max-time", "15", *arguments]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return result.stdout


def test_service_reaches_its_sidecar_by_sidekey_url(
    upstream: Nginx, ca: Authority, tmp_path: Path, example: Path
) -> None:
    """The service needs no other variable."""
    values = {"mode": "none", "httpsProxy": None}
    with running(example, values, tmp_path, ca, base(upstream)) as (child, _, objects):
        environment = environment_of(objects, {":15080": f":{child.proxy_port}"})
        body = curl(environment, "--json", "{}", f"{environment['SIDEKEY_URL']}/i/crm/events")
    assert f"authorization: {AUTHORIZATION}" in body
    assert not {"HTTP_PROXY", "http_proxy", "NO_PROXY", "HTTPS_PROXY", "https_proxy"} & environment.keys()


BY_HOST = {"integration": "", "matchByHost": True}
SENDER: helm.Values = {
    "callers": {"sender": {"secret": {"name": "callers"}, "integrations": ["crm"]}},
    "caller": "sender",
}


@pytest.mark.parametrize("values", [{}, SENDER], ids=["no callers", "callers"])
@pytest.mark.parametrize("https", [{"integration": "crm"}, BY_HOST], ids=["by name", "by host"])
def test_unchanged_https_url_reaches_the_upstream_with_the_credential(
    https: helm.Values, values: helm.Values, upstream: Nginx, ca: Authority, tmp_path: Path, example: Path
) -> None:
    """Neither the URL nor the arguments of curl mention Sidekey or its CA."""
    values = {"mode": "none", "httpsProxy": https, **values}
    url = f"{base(upstream)}/hooks/v1/events"
    with running(example, values, tmp_path, ca, base(upstream)) as (child, _, objects):
        environment = environment_of(objects, local_values(tmp_path, child))
        body = curl(environment, "--json", "{}", url)
        denied = tunnel_refusal(environment, f"https://other.example.com:{upstream.tls_port}/")
    assert body.startswith("POST /hooks/v1/events")
    assert f"authorization: {AUTHORIZATION}" in body
    assert token("sender") not in body
    assert len(upstream.requests(1)) == 1
    assert "403 target_denied" in denied


def test_restarted_container_finds_the_ca_of_its_pod(
    upstream: Nginx, ca: Authority, tmp_path: Path, example: Path
) -> None:
    """The CA is in a volume of the pod, so callers still trust it."""
    values = {"mode": "none", "httpsProxy": BY_HOST}
    trusted = []
    for _ in range(2):
        with running(example, values, tmp_path, ca, base(upstream)) as (child, _, objects):
            environment = environment_of(objects, local_values(tmp_path, child))
            trusted.append(Path(environment["NODE_EXTRA_CA_CERTS"]).read_text())
            assert curl(environment, "--json", "{}", f"{base(upstream)}/hooks/v1/events").startswith("POST")
    assert trusted[0] == trusted[1]
    assert "PRIVATE KEY" not in "".join(path.read_text("latin-1") for path in trust_of(tmp_path).iterdir())


@pytest.mark.parametrize("values", [{"matchByHost": True}, {}], ids=["by host", "by name"])
def test_callers_of_a_gateway_trust_the_root_of_its_ca(
    values: helm.Values, upstream: Nginx, ca: Authority, tmp_path: Path
) -> None:
    """The root is in a ConfigMap, and the command in the notes prints the variables of the caller."""
    case = helm.values_of("gateway-https-proxy")
    case["httpsProxy"] = {**case["httpsProxy"], "matchByHost": False, **values}
    options = ["--by-host"] if values else ["crm"]
    config_map = tmp_path / "config-map"
    config_map.mkdir()
    for file in ("ca.pem", "bundle.pem"):
        (config_map / file).write_text(CA["ca.crt"])
    with running(helm.CHART, case, tmp_path, ca, base(upstream)) as (child, _, _):
        proxy = f"http://127.0.0.1:{child.proxy_port}"
        printed = run_cli("env", *options, "--shell", "k8s", "--proxy", proxy, "--trust", str(config_map))
        text = printed.stdout.replace(TOKEN_PLACEHOLDER, token("billing"))
        environment = {entry["name"]: entry["value"] for entry in yaml.safe_load(text)["env"]}
        body = curl(environment, "--json", "{}", f"{base(upstream)}/hooks/v1/events")
        bundle = run_cli("ca", "bundle", environment={"SIDEKEY_CONFIG": str(child.config)}).stdout
    assert f"authorization: {AUTHORIZATION}" in body
    assert CA["ca.crt"].strip() in bundle
    assert CA["tls.crt"].strip() not in bundle


def trust_of(folder: Path) -> Path:
    """Return the trust folder, as moved by `move_into`."""
    return folder / "run/sidekey/trust"


def local_values(folder: Path, child: SidekeyProcess) -> dict[str, str]:
    """Return the replacements for values of a pod: the port, and the path of the trust folder."""
    return {":15080": f":{child.proxy_port}", "/run/sidekey/trust": str(trust_of(folder))}


def tunnel_refusal(environment: dict[str, str], url: str) -> str:
    """Return the output of curl in the service's container when it gets no tunnel."""
    command = [programs.require("curl"), "--verbose", "--silent", "--max-time", "15", url]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert result.returncode != 0
    return result.stderr


@pytest.fixture
def http_proxy_values(example: Path) -> helm.Values:
    """Return the values of a sidecar with HTTP_PROXY and a caller."""
    return helm.sidekey_values("sidecar-http-proxy")


def test_http_proxy_sends_requests_to_the_sidecar(
    http_proxy_values: helm.Values, upstream: Nginx, ca: Authority, tmp_path: Path, example: Path
) -> None:
    """The proxy's URL has integration and token. curl sends to a plain http URL and needs no other change."""
    crm = f"http://crm.example.com:{upstream.port}"
    with running(example, http_proxy_values, tmp_path, ca, crm) as (child, _, objects):
        environment = environment_of(objects, {":15080": f":{child.proxy_port}"})
        body = curl(environment, "--json", "{}", f"{crm}/hooks/v1/events")
    assert f"authorization: {AUTHORIZATION}" in body


def test_no_proxy_lists_hosts_of_the_cluster(http_proxy_values: helm.Values, example: Path) -> None:
    """The list has loopback, Services, the API server, and the hosts of the values."""
    environment = environment_of(helm.objects(example, {"sidekey": http_proxy_values}), {})
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
def test_requests_inside_the_cluster_bypass_the_sidecar(
    host: str, http_proxy_values: helm.Values, upstream: Nginx, tmp_path: Path, example: Path
) -> None:
    """curl connects directly, because nothing listens at the proxy of its environment."""
    objects = helm.objects(example, {"sidekey": http_proxy_values})
    environment = environment_of(objects, {":15080": f":{free_port()}"})
    body = curl(environment, "--resolve", f"{host}:{upstream.port}:127.0.0.1", f"http://{host}:{upstream.port}/direct")
    assert body.startswith("GET /direct")


def test_config_maps_contain_no_secret(rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
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
        for config_maps in helm.of_kind(objects, "ConfigMap"):
            if "sidekey.yaml" in config_maps["data"]:
                assert list(secrets(yaml.safe_load(config_maps["data"]["sidekey.yaml"]))) == []


@pytest.mark.parametrize("more", [0, 1])
def test_config_beyond_the_size_of_a_config_map_is_refused(more: int) -> None:
    """The API server would refuse it too, but during the release."""
    auth = {"type": "basic", "username": "svc", "password": {"file": "/run/secrets/crm/password"}}
    integration = {"description": "x", "endpoint_prefix": "https://crm.example.com", "auth": auth}
    values = {**helm.values_of("gateway-one"), "config": {"integrations": {"crm": integration}}}
    size = len(helm.config_of(helm.objects(helm.CHART, values)).encode())
    integration["description"] = "x" * (2**20 - size + more)
    if more:
        assert "config: must be less than 1048576 bytes as YAML" in helm.refusal(helm.CHART, values)
    else:
        config = helm.config_of(helm.objects(helm.CHART, values))
        assert len(f"{config}\n".encode()) == 2**20
