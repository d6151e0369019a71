"""The variables of a service beside a sidecar are those of `sidekey env`."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml

from sidekey.cli.environment import TOKEN_PLACEHOLDER, Proxy, build_variables
from sidekey.snapshot.snapshot import Address
from support import helm
from support.sidekey_process import run_cli

ADDRESS = Address("127.0.0.1", 15080)
TRUST = "/run/sidekey/trust"
API = {"IPv4": "10.96.0.1", "IPv6": "fd00::1"}
NO_PROXY = [
    "billing",
    "*.corp.example",
    ".dots.example",
    "203.0.113.7",
    "2001:db8::7",
    "198.51.100.0/24",
    "a.example:8443",
]
"""Hosts of each kind that bypass the proxy."""

CLUSTER = {
    "$(SIDEKEY_TOKEN)": TOKEN_PLACEHOLDER,
    ",.svc,.cluster.local,$(KUBERNETES_SERVICE_HOST)": "",
    "|svc|*.svc|cluster.local|*.cluster.local|$(KUBERNETES_SERVICE_HOST)": "",
}
"""Parts of values that only the chart knows, and the text of the command in their place."""

SENDER = {"callers": {"sender": {"secret": {"name": "callers"}, "integrations": ["crm"]}}, "caller": "sender"}


def variables(example: Path, values: helm.Values) -> list[dict[str, str]]:
    """Return the rendered entries in the service's `env` that are not the service's own."""
    (deployment,) = helm.of_kind(helm.objects(example, {"sidekey": values}), "Deployment")
    (service,) = deployment["spec"]["template"]["spec"]["containers"]
    return [entry for entry in service["env"] if entry["name"] not in {"INTERVAL", "SIDEKEY_URL", "SIDEKEY_TOKEN"}]


def selection(by_host: bool) -> helm.Values:
    """Return the values that select the integration by host or by name."""
    return {"integration": "", "matchByHost": True} if by_host else {"integration": "crm"}


@pytest.mark.parametrize("family", API)
@pytest.mark.parametrize(("by_host", "callers", "java"), [*product([False, True], repeat=3)])
def test_service_has_the_variables_of_sidekey_env(
    by_host: bool, callers: bool, java: bool, family: str, example: Path
) -> None:
    """The order is the same, and NO_PROXY is that for a cluster."""
    values = {
        "ipFamily": family,
        "httpsProxy": {**selection(by_host), "java": java},
        "httpProxy": {"noProxy": NO_PROXY},
        **(SENDER if callers else {}),
    }
    expanded = [
        (
            entry["name"],
            entry["value"].replace("$(SIDEKEY_TOKEN)", "tok-en_1").replace("$(KUBERNETES_SERVICE_HOST)", API[family]),
        )
        for entry in variables(example, values)
    ]
    excluded = ",".join([".svc", ".cluster.local", API[family], *NO_PROXY])
    proxy = Proxy.of(ADDRESS, None if by_host else "crm", "tok-en_1" if callers else None)
    expected = build_variables(proxy, Path(TRUST), {"NO_PROXY": excluded}, java=java).values
    assert expanded == list(expected.items())


@pytest.mark.parametrize("options", [["crm"], ["--by-host"]], ids=["by name", "by host"])
def test_service_has_the_entries_that_the_command_prints(options: list[str], example: Path) -> None:
    """The entries are those of `sidekey env --shell k8s`, except hosts of the cluster and the source of the token."""
    proxy, trust = f"http://{ADDRESS}", TRUST
    printed = run_cli("env", *options, "--java", "--shell", "k8s", "--proxy", proxy, "--trust", trust)
    assert printed.returncode == 0
    values = {"httpsProxy": {**selection(options == ["--by-host"]), "java": True}, **SENDER}
    entries = variables(example, values)
    for entry in entries:
        for ours, theirs in CLUSTER.items():
            entry["value"] = entry["value"].replace(ours, theirs)
    assert entries == yaml.safe_load(printed.stdout)["env"]


@pytest.mark.parametrize("by_host", [False, True])
def test_token_is_set_before_it_is_used(by_host: bool, example: Path) -> None:
    """The kubelet expands $(SIDEKEY_TOKEN) only after its entry."""
    (deployment,) = helm.of_kind(
        helm.objects(example, {"sidekey": {"httpsProxy": selection(by_host), **SENDER}}), "Deployment"
    )
    (service,) = deployment["spec"]["template"]["spec"]["containers"]
    names = [entry["name"] for entry in service["env"]]
    assert len(names) == len(set(names))
    token = service["env"][names.index("SIDEKEY_TOKEN")]
    assert token["valueFrom"] == {"secretKeyRef": {"name": "callers", "key": "sender"}}
    users = [name for name in names if "$(SIDEKEY_TOKEN)" in service["env"][names.index(name)].get("value", "")]
    assert users == ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]
    assert all(names.index("SIDEKEY_TOKEN") < names.index(name) for name in users)


def test_service_without_https_proxy_gets_only_the_url(example: Path) -> None:
    """No variable changes the route of its other requests, or its trust."""
    assert variables(example, {"httpsProxy": None}) == []
