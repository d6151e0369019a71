"""The example of a gateway for https:// URLs: its files agree with each other and with Sidekey."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from sidekey.ca import trust_folder
from sidekey.certificates.source import WARN_DAYS
from sidekey.cli.environment import TOKEN_PLACEHOLDER
from support import helm
from support.sidekey_process import run_cli

README = (helm.GATEWAY / "README.md").read_text("utf-8")
VALUES: helm.Values = yaml.safe_load((helm.GATEWAY / "values.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def gateway() -> list[helm.Object]:
    """Render the objects of the values, with the README's names."""
    assert "helm install sidekey helm/sidekey --namespace egress" in README
    return helm.objects(helm.CHART, VALUES, name="sidekey", namespace="egress")


@pytest.fixture(scope="module")
def certificates() -> list[helm.Object]:
    """Return the resources of cert-manager."""
    return helm.documents(helm.GATEWAY / "certificates.yaml")


@pytest.fixture(scope="module")
def caller() -> list[helm.Object]:
    """Return the objects of the service."""
    return helm.documents(helm.GATEWAY / "caller.yaml")


def test_values_pass_helm_lint() -> None:
    assert helm.lint(helm.CHART, VALUES) == []


def test_gateway_mounts_the_ca_but_not_the_key_of_the_root(
    gateway: list[helm.Object], certificates: list[helm.Object]
) -> None:
    """The root's key stays with cert-manager. The root's certificate completes the chain."""
    issued = helm.only(certificates, "Certificate", "sidekey-ca")["spec"]
    issuer = helm.only(certificates, "Issuer", issued["issuerRef"]["name"])["spec"]["ca"]["secretName"]
    root = helm.only(certificates, "Certificate", "sidekey-root")["spec"]
    assert (issued["isCA"], root["isCA"], root["secretName"]) == (True, True, issuer)
    pod = helm.only(gateway, "Deployment", "sidekey")["spec"]["template"]["spec"]
    secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert issued["secretName"] in secrets
    assert issuer not in str(pod)
    assert VALUES["httpsProxy"]["extraRoots"] == [{"secret": issued["secretName"], "key": "ca.crt"}]


def test_ca_is_constrained_to_the_hosts_of_the_integrations(certificates: list[helm.Object]) -> None:
    """Addresses are excluded, since no integration has one."""
    constraints = helm.only(certificates, "Certificate", "sidekey-ca")["spec"]["nameConstraints"]
    prefixes = [integration["endpoint_prefix"] for integration in VALUES["config"]["integrations"].values()]
    assert constraints["critical"] is True
    assert constraints["permitted"] == {"dnsDomains": [urlsplit(prefix).hostname for prefix in prefixes]}
    assert constraints["excluded"] == {"ipRanges": ["0.0.0.0/0", "::/0"]}


def test_ca_is_renewed_before_the_log_warns(certificates: list[helm.Object]) -> None:
    """The renewal is at least a week before the first warning."""
    days = int(helm.only(certificates, "Certificate", "sidekey-ca")["spec"]["renewBefore"].removesuffix("h")) / 24
    assert days >= max(WARN_DAYS) + 7


def test_caller_has_the_variables_that_the_command_prints(caller: list[helm.Object]) -> None:
    """The token is from a Secret, and NO_PROXY has the hosts of the cluster too."""
    (command,) = re.findall(r"`sidekey (env crm [^`]*)`", README)
    printed = yaml.safe_load(run_cli(*command.split()).stdout)["env"]
    for entry in printed:
        entry["value"] = entry["value"].replace(TOKEN_PLACEHOLDER, "$(SIDEKEY_TOKEN)")
        if entry["name"].upper() == "NO_PROXY":
            entry["value"] += ",.svc,.cluster.local"
    (service,) = helm.only(caller, "Deployment", "billing")["spec"]["template"]["spec"]["containers"]
    token, *rest = service["env"]
    assert token == {"name": "SIDEKEY_TOKEN", "valueFrom": {"secretKeyRef": {"name": "sidekey", "key": "token"}}}
    assert rest == printed


def test_caller_mounts_a_config_map_of_the_trust_folder(caller: list[helm.Object], gateway: list[helm.Object]) -> None:
    """The path is the same as in the gateway, because `wgetrc` contains it."""
    pod = helm.only(caller, "Deployment", "billing")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if "configMap" in volume]
    (mount,) = [container for container in pod["containers"][0]["volumeMounts"] if container["name"] == volume["name"]]
    assert mount["readOnly"] is True
    assert mount["mountPath"] == yaml.safe_load(helm.config_of(gateway))["ca"]["trust_folder"]
    assert f"create configmap {volume['configMap']['name']} --from-file=trust" in README
    assert f"for file in {' '.join(trust_folder.FILES)}; do" in README


def test_trust_folder_fits_into_a_config_map(tmp_path: Path) -> None:
    """The limit is 1 MiB, including binary files as base64."""
    trust_folder.write(tmp_path, "", "")
    assert sum(-(-path.stat().st_size * 4 // 3) for path in trust_folder.paths(tmp_path).values()) < 1 << 20


def test_policies_of_gateway_and_caller_agree(caller: list[helm.Object], gateway: list[helm.Object]) -> None:
    """They have the same labels, namespaces, host and port."""
    pod = helm.only(caller, "Deployment", "billing")
    (clients, _) = helm.only(gateway, "NetworkPolicy", "sidekey")["spec"]["ingress"]
    peer, _ = clients["from"]
    assert peer["podSelector"]["matchLabels"].items() <= pod["spec"]["template"]["metadata"]["labels"].items()
    assert peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == pod["metadata"]["namespace"]
    service = helm.only(gateway, "Service", "sidekey")
    (proxy,) = {entry["value"] for entry in pod["spec"]["template"]["spec"]["containers"][0]["env"][1:5]}
    target = urlsplit(proxy)
    assert target.hostname in yaml.safe_load(helm.config_of(gateway))["listen"]["names"]
    assert target.port == service["spec"]["ports"][0]["port"]
    *_, to_gateway = helm.only(caller, "NetworkPolicy", "billing")["spec"]["egress"]
    labels = helm.only(gateway, "Deployment", "sidekey")["spec"]["template"]["metadata"]["labels"]
    (peer,) = to_gateway["to"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    assert peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == service["metadata"]["namespace"]
