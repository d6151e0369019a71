"""The example of gateways with a store: its files agree with each other and with the API."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from support import helm
from support.api import Api, managed

README = (helm.STORE / "README.md").read_text("utf-8")
VALUES: dict[str, helm.Values] = {
    path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(helm.STORE.glob("values*.yaml"))
}


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[helm.Object]]:
    """Render the objects of the values, with the README's names."""
    assert "helm install sidekey helm/sidekey --namespace egress" in README
    return {
        name: helm.objects(helm.CHART, values, name="sidekey", namespace="egress") for name, values in VALUES.items()
    }


@pytest.mark.parametrize("name", VALUES)
def test_values_pass_helm_lint(name: str) -> None:
    assert helm.lint(helm.CHART, VALUES[name]) == []


@pytest.mark.parametrize("name", VALUES)
def test_example_needs_no_operator(name: str, rendered: dict[str, list[helm.Object]]) -> None:
    """An install of custom resources fails without the definitions of their operator."""
    assert [resource["kind"] for resource in rendered[name] if not helm.is_built_in(resource)] == []


def created_by_commands() -> set[tuple[str, str, str]]:
    """Return kind, name and key of all objects that the README's commands create."""
    resources = set()
    for kind, name, keys in re.findall(r"create (secret generic|configmap) (\S+)((?: --from-file=\S+)+)", README):
        resources |= {(kind.partition(" ")[0], name, key) for key in re.findall(r"--from-file=(\S+)", keys)}
    return resources


@pytest.mark.parametrize("name", VALUES)
def test_commands_create_every_object_that_the_pods_need(name: str, rendered: dict[str, list[helm.Object]]) -> None:
    """They create every Secret and ConfigMap that the chart does not create, with its keys."""
    (deployment,) = helm.of_kind(rendered[name], "Deployment")
    needed = set()
    for volume in deployment["spec"]["template"]["spec"]["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            (kind, content), *_ = source.items()
            if content["name"] != deployment["metadata"]["name"]:
                needed |= {(kind, content["name"], item["key"]) for item in content["items"]}
        if "configMap" in volume:
            needed |= {("configmap", volume["configMap"]["name"], "ca.crt")}
    assert needed == created_by_commands() if name == "values" else needed < created_by_commands()


def test_policy_allows_the_database_of_the_url(rendered: dict[str, list[helm.Object]]) -> None:
    """Policy, URL and mount agree on the namespace of the Service, its port, and the path of the CA."""
    (url,) = re.findall(r"echo '(postgresql://\S+)' > url", README)
    (policy,) = helm.of_kind(rendered["values"], "NetworkPolicy")
    *_, database = policy["spec"]["egress"]
    namespace = database["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert f"@postgres.{namespace}.svc/" in url
    assert database["ports"] == [{"port": 5432, "protocol": "TCP"}]
    mount = VALUES["values"]["extraVolumeMounts"][0]["mountPath"]
    assert url.endswith(f"?sslmode=verify-full&sslrootcert={mount}/ca.crt")


def test_forwarded_port_is_that_of_the_admin_listener(rendered: dict[str, list[helm.Object]]) -> None:
    (forwarded,) = re.findall(r"port-forward deployment/sidekey 9090:(\d+)", README)
    listen = yaml.safe_load(helm.config_of(rendered["values"]))["listen"]
    assert listen["admin"] == f"127.0.0.1:{forwarded}"


@pytest.mark.parametrize("name", VALUES)
def test_console_needs_only_its_values(name: str) -> None:
    """This holds for each file of values. Pods wait for nothing else, and a policy admits the class of its ingress."""
    overlay = yaml.safe_load((helm.STORE / "console.yaml").read_text("utf-8"))
    policy = {**VALUES[name].get("networkPolicy", {}), **overlay["networkPolicy"]}
    values = {**VALUES[name], **overlay, "networkPolicy": policy}
    assert helm.lint(helm.CHART, values) == []
    with_console, without = (
        helm.objects(helm.CHART, value, name="sidekey", namespace="egress") for value in (values, VALUES[name])
    )
    volumes = [
        helm.only(objects, "Deployment")["spec"]["template"]["spec"]["volumes"] for objects in (with_console, without)
    ]
    assert volumes[0] == volumes[1]
    (ingress,) = helm.of_kind(with_console, "Ingress")
    (resource,) = helm.of_kind(with_console, "NetworkPolicy")
    (peer,) = resource["spec"]["ingress"][-1]["from"]
    assert ingress["spec"]["ingressClassName"] == peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
    assert f"https://{ingress['spec']['rules'][0]['host']}/" in README


def test_each_request_of_the_readme_succeeds(tmp_path: Path) -> None:
    """The responses are 201, with the tokens that the text uses next."""
    requests = re.findall(r"^curl .*? \$API(/\w+) -d '(.*?\})'$", README, re.M | re.S)
    assert [path for path, _ in requests] == ["/integrations", "/callers", "/tokens"]
    with managed(tmp_path) as child:
        api = Api(child.admin_port)
        created = [api.create(path, json.loads(body.replace("'$TOKEN'", api.token))) for path, body in requests]
    assert ["token" in response for response in created] == [False, True, True]
