"""Objects besides pods: Service, policies, scaling, monitoring, console and notes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import helm, kubeschema

Rendered = dict[str, list[helm.Object]]
GATEWAYS = [case for case in helm.cases() if case.startswith("gateway")]


def service(objects: list[helm.Object], component: str = "gateway") -> helm.Object:
    """Return the only Service of a component: `gateway` for callers, or `console`."""
    (resource,) = [
        resource
        for resource in helm.of_kind(objects, "Service")
        if resource["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return resource


def test_mode_none_renders_nothing(rendered: Rendered) -> None:
    """This holds for the default values."""
    assert rendered["none"] == []


@pytest.mark.parametrize("case", ["none-monitoring", *(case for case in helm.cases() if case.startswith("sidecar"))])
def test_dependency_renders_no_workload(case: str, rendered: Rendered) -> None:
    """The only Deployment is that of the service."""
    names = [resource["metadata"]["name"] for resource in helm.of_kind(rendered[case], "Deployment")]
    assert names == ([] if case == "none-monitoring" else ["demo-webhook-sender"])
    assert not {"Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} & {
        resource["kind"] for resource in rendered[case]
    }


@pytest.mark.parametrize("case", GATEWAYS)
def test_every_selector_matches_only_the_pods_of_the_gateway(case: str, rendered: Rendered) -> None:
    """Service, budget, policy, spread and monitors match neither the config check nor `helm test`."""
    deployment = helm.only(rendered[case], "Deployment")["spec"]
    pod = deployment["template"]
    selectors = [deployment["selector"]["matchLabels"]]
    for resource in rendered[case]:
        spec = resource.get("spec", {})
        if resource["kind"] == "Service":
            selectors.append(spec["selector"])
        elif resource["kind"] == "NetworkPolicy":
            selectors.append(spec["podSelector"]["matchLabels"])
        elif resource["kind"] in {"PodDisruptionBudget", "PodMonitor"}:
            selectors.append(spec["selector"]["matchLabels"])
    spread = pod["spec"].get("topologySpreadConstraints", [])
    selectors += [constraint["labelSelector"]["matchLabels"] for constraint in spread]
    for selector in selectors:
        assert selector.items() <= pod["metadata"]["labels"].items()
        for check in helm.of_kind(rendered[case], "Job"):
            assert not selector.items() <= check["spec"]["template"]["metadata"]["labels"].items()
        for test in helm.of_kind(rendered[case], "Pod"):
            assert not selector.items() <= test["metadata"]["labels"].items()


@pytest.mark.parametrize("case", GATEWAYS)
def test_every_object_has_the_labels_and_namespace_of_the_release(case: str, rendered: Rendered) -> None:
    """The labels are those that Kubernetes recommends."""
    for resource in rendered[case]:
        assert resource["metadata"]["namespace"] == "prod"
        assert resource["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"
        assert resource["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert len(resource["metadata"]["name"]) <= 63


def test_names_of_a_long_release_name_are_valid() -> None:
    """Helm's longest release name, 53 characters, results in names and labels of at most 63."""
    for resource in helm.objects(helm.CHART, helm.values_of("gateway"), name="r" * 53):
        assert len(resource["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in resource["metadata"]["labels"].values())


@pytest.mark.parametrize(("name", "namespace"), [("123", "456"), ("true", "prod"), ("1e3", "0123")])
@pytest.mark.parametrize("case", ["gateway-teams", "gateway-pod-monitor", "gateway-external-secrets", "sidecar"])
def test_names_that_look_like_numbers_stay_strings(case: str, name: str, namespace: str, example: Path) -> None:
    """YAML reads 1e3 as a number and true as a boolean. In every label, name and selector they are strings."""
    rendered = helm.objects(helm.chart_of(case, example), helm.values_of(case), name=name, namespace=namespace)
    for resource in rendered:
        metadata = resource["metadata"]
        assert metadata["namespace"] == namespace
        assert metadata["labels"]["app.kubernetes.io/instance"] == name
        if helm.is_built_in(resource):
            assert kubeschema.errors(resource) == []


def test_values_that_look_like_numbers_stay_strings() -> None:
    """This holds for every value that is a name."""
    values = {
        "fullnameOverride": "1",
        "nameOverride": "2",
        "callers": {"3": {"secret": {"name": "4", "key": "5"}}},
        "configSources": [{"name": "6", "configMap": "7", "key": "8"}],
        "secrets": [{"name": "9", "items": [{"key": "10", "path": "11"}]}],
        "csi": [{"name": "12", "secretProviderClass": "13"}],
        "serviceAccount": {"name": "14"},
        "priorityClassName": "15",
        "topologySpread": {"topologyKeys": ["16"]},
        "configCheck": {"serviceAccountName": "17"},
        "imagePullSecrets": [{"name": "18"}],
        "image": {"repository": "19", "tag": "20"},
        "nodeSelector": {"21": "22"},
        "podLabels": {"23": "24"},
        "podAnnotations": {"25": "26"},
        "service": {"annotations": {"27": "28"}},
    }
    rendered = helm.objects(helm.CHART, values)
    for resource in rendered:
        assert kubeschema.errors(resource) == []
    texts = set(texts_in(rendered))
    # The two values of the image are one text. The names of a source and of a volume are parts of other texts.
    assert {str(number) for number in range(1, 29)} - texts == {"6", "12", "19", "20"}
    assert {"19:20", "/run/secrets/12"} <= texts


def texts_in(node: Any) -> Iterator[str]:
    """Yield every key and every string of a value."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from texts_in(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from texts_in(key)
            yield from texts_in(value)


def test_policy_admits_callers_and_prometheus_and_allows_dns_and_https(rendered: Rendered) -> None:
    """Labelled pods and that of `helm test` reach the proxy. The namespace `monitoring` reaches the metrics."""
    spec = helm.only(rendered["gateway"], "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    labelled, monitoring = spec["ingress"]
    peer, test = labelled["from"]
    assert peer == {"podSelector": {"matchLabels": {"sidekey-client": "true"}}}
    assert test["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert [port["port"] for port in labelled["ports"]] == [15080]
    assert monitoring["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert [port["port"] for port in monitoring["ports"]] == [15091]
    dns, https = spec["egress"]
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert https["ports"] == [{"port": 443, "protocol": "TCP"}]
    assert "169.254.0.0/16" in https["to"][0]["ipBlock"]["except"]


def test_policy_without_peers_admits_nobody(rendered: Rendered) -> None:
    """An empty list of peers in a rule would admit everybody."""
    spec = helm.only(rendered["gateway-closed"], "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert not spec.get("ingress")
    assert not spec.get("egress")


def test_every_rule_of_a_policy_has_peers(rendered: Rendered) -> None:
    """This holds for ingress and egress of all cases."""
    policies = [
        resource["spec"] for objects in rendered.values() for resource in helm.of_kind(objects, "NetworkPolicy")
    ]
    assert policies
    for spec in policies:
        assert all(rule["from"] for rule in spec.get("ingress", []))
        assert all(rule["to"] for rule in spec.get("egress", []))


def test_autoscaler_sets_the_number_of_pods(rendered: Rendered) -> None:
    """An upgrade must not reset the number."""
    deployment = helm.only(rendered["gateway-scaling"], "Deployment")
    scaler = helm.only(rendered["gateway-scaling"], "HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 12)


def test_disabled_objects_are_not_rendered(rendered: Rendered) -> None:
    """gateway-bare has a Deployment, a Service, a config, and the pod of `helm test`."""
    assert sorted(resource["kind"] for resource in rendered["gateway-bare"]) == [
        "ConfigMap",
        "Deployment",
        "Pod",
        "Service",
    ]
    pod = helm.only(rendered["gateway-bare"], "Deployment")["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in pod
    assert pod["serviceAccountName"] == "existing"


def test_service_has_no_port_of_the_admin_listener(rendered: Rendered) -> None:
    """Its type is ClusterIP."""
    for case in GATEWAYS:
        spec = service(rendered[case])["spec"]
        assert spec["type"] == "ClusterIP"
        assert spec["ports"][0]["targetPort"] == "sidekey-proxy"
        assert {port["targetPort"] for port in spec["ports"]} <= {"sidekey-proxy", "sidekey-metrics"}


def test_service_monitor_selects_a_port_of_its_service(rendered: Rendered) -> None:
    """It selects by the port's name and the labels of the Service."""
    objects = rendered["gateway-service-monitor"]
    monitor, target = helm.only(objects, "ServiceMonitor")["spec"], service(objects)
    assert monitor["selector"]["matchLabels"].items() <= target["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in target["spec"]["ports"]}


@pytest.mark.parametrize("case", ["gateway-pod-monitor", "sidecar-http-proxy"])
def test_pod_monitor_selects_a_port_of_the_pods(case: str, rendered: Rendered) -> None:
    """The pods are those of the gateway, or those of the service with Sidekey as an init container."""
    monitor = helm.only(rendered[case], "PodMonitor")["spec"]
    template = helm.only(rendered[case], "Deployment")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"] for port in helm.sidekey_of(template["spec"])["ports"]}
    assert monitor["podMetricsEndpoints"][0]["port"] in ports


def test_rules_and_dashboard_are_those_of_the_chart(rendered: Rendered) -> None:
    """promtool checks those files, so the installed ones must be equal."""
    objects = rendered["gateway-pod-monitor"]
    rules = yaml.safe_load((helm.CHART / "files" / "alerts.yaml").read_text("utf-8"))
    assert helm.only(objects, "PrometheusRule")["spec"] == rules
    dashboard = next(resource for resource in helm.of_kind(objects, "ConfigMap") if "sidekey.json" in resource["data"])
    expected = json.loads((helm.CHART / "files" / "dashboard.json").read_text("utf-8"))
    assert json.loads(dashboard["data"]["sidekey.json"]) == expected


def test_runbook_url_is_below_its_base() -> None:
    """Without a base, no rule has a `runbook_url`."""
    values = {
        **helm.values_of("none-monitoring"),
        "prometheusRule": {"enabled": True, "runbookBase": "https://git.example.com/sidekey/"},
    }
    groups = helm.only(helm.objects(helm.CHART, values), "PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for rule in alerts:
        anchor = rule["alert"].lower()
        assert rule["annotations"]["runbook_url"] == f"https://git.example.com/sidekey/docs/runbooks.md#{anchor}"
        assert "runbook" not in rule["annotations"]


def test_external_secret_has_the_name_of_the_mounted_secret(rendered: Rendered) -> None:
    """The Secret is mounted at the path in the config."""
    objects = rendered["gateway-external-secrets"]
    pod = helm.only(objects, "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["secret"]["secretName"]: volume["name"] for volume in pod["volumes"] if "secret" in volume}
    mount_paths = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    created = [resource["spec"]["target"]["name"] for resource in helm.of_kind(objects, "ExternalSecret")]
    assert {name: mount_paths[volumes[name]] for name in created} == {"crm": "/run/secrets/crm", "sms": "/run/sms"}


def test_ipv6_gateway_listens_on_ipv6(rendered: Rendered) -> None:
    """Listeners and Service agree."""
    listen = yaml.safe_load(helm.config_of(rendered["gateway-ipv6"]))["listen"]
    assert (listen["proxy"], listen["metrics"]) == ("[::]:15080", "[::]:15091")
    assert service(rendered["gateway-ipv6"])["spec"]["ipFamilies"] == ["IPv6"]


@pytest.mark.parametrize("case", GATEWAYS)
def test_listener_accepts_every_name_of_the_service(case: str, rendered: Rendered) -> None:
    """Callers may send each name as Host."""
    name = service(rendered[case])["metadata"]["name"]
    domain = helm.values_of(case).get("clusterDomain", "cluster.local")
    names = yaml.safe_load(helm.config_of(rendered[case]))["listen"]["names"]
    assert {name, f"{name}.prod", f"{name}.prod.svc", f"{name}.prod.svc.{domain}"} <= set(names)


def test_notes_have_the_url_the_token_and_commands_to_check() -> None:
    rendered = helm.files(helm.CHART, helm.values_of("gateway"))
    (notes,) = [text for path, text in rendered.items() if path.endswith("NOTES.txt")]
    for words in ("demo-sidekey.prod.svc", "kubectl", "billing", "sidekey-callers", "helm --namespace prod test demo"):
        assert words in notes


def notes(values: helm.Values) -> str:
    """Return the chart's notes, as one line."""
    rendered = helm.files(helm.CHART, values)
    return " ".join(rendered["sidekey/templates/NOTES.txt"].split())


def https_values(mode: str) -> helm.Values:
    """Return values for callers that are matched by host."""
    gateway = helm.values_of("gateway")
    if mode == "gateway":
        return {**gateway, "httpsProxy": {"matchByHost": True, "caSecret": "sidekey-ca"}}
    return {
        **helm.sidekey_values("sidecar-https-proxy"),
        "mode": "none",
        "image": gateway["image"],
        "config": {"integrations": {"crm": gateway["config"]["integrations"]["crm"]}},
    }


@pytest.mark.parametrize("mode", ["gateway", "sidecar"])
def test_notes_explain_https_proxy(mode: str) -> None:
    """The notes name denied hosts, hosts that bypass Sidekey, and callers that must restart."""
    text = notes(https_values(mode))
    assert "Sidekey denies hosts that no integration covers" in text
    assert "config.forward.unmatched: pass" in text
    assert "NO_PROXY lists hosts to call without Sidekey, and so without a credential" in text
    assert "restart them when a CA is added" in text


def test_notes_do_not_call_passed_hosts_denied() -> None:
    """The notes depend on the config."""
    values = {**https_values("gateway"), "config": {"forward": {"unmatched": "pass"}}}
    assert "Sidekey denies" not in notes(values)


def test_notes_of_a_gateway_explain_the_trust_of_callers() -> None:
    """The notes have the Secrets that pods wait for, and the command that prints the variables of a caller."""
    text = notes(helm.values_of("gateway-https-proxy"))
    assert "Secret sidekey-ca, keys tls.crt and tls.key" in text
    assert "Secret sidekey-ca, key ca.crt" in text
    command = "sidekey env --by-host --shell k8s --proxy http://demo-sidekey.prod.svc:15080 --trust /run/sidekey/trust"
    assert command in text


@pytest.mark.parametrize(
    ("java", "callers", "warned"),
    [
        (True, {"a": {"secret": {"name": "a"}}}, True),
        (True, {}, False),
        (False, {"a": {"secret": {"name": "a"}}}, False),
    ],
)
def test_notes_say_when_java_sends_no_proxy_user(java: bool, callers: helm.Values, warned: bool) -> None:
    """`sidekey env --java` has the same warning."""
    values = {"mode": "none", "httpsProxy": {"matchByHost": True, "java": java}, "callers": callers}
    assert ("Java sends no proxy user" in notes(values)) is warned


def test_notes_name_every_secret_that_pods_wait_for() -> None:
    """The notes also name Secrets of variables, but no optional ones."""
    rendered = helm.files(helm.CHART, helm.values_of("gateway-teams"))
    (notes,) = [text for path, text in rendered.items() if path.endswith("NOTES.txt")]
    assert {name for name in ("sidekey-callers", "team-a", "legacy") if f"Secret {name}" in notes} == {
        "sidekey-callers",
        "team-a",
        "legacy",
    }
    assert "Secret team-b" not in notes
    assert "Secret reports-token" not in notes


def test_policy_allows_the_database_of_the_values(rendered: Rendered) -> None:
    """Only the port of the database is allowed."""
    *_, database = helm.only(rendered["gateway-store"], "NetworkPolicy")["spec"]["egress"]
    assert database == {
        "to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}],
        "ports": [{"port": 6432, "protocol": "TCP"}],
    }
    for case in ("gateway-embedded", "gateway-claim"):
        assert helm.only(rendered[case], "NetworkPolicy") == helm.only(rendered["gateway"], "NetworkPolicy")


@pytest.mark.parametrize("case", ["gateway-store", "gateway-embedded"])
def test_notes_of_a_store_say_how_to_start(case: str) -> None:
    """The notes name Secrets, the first token, the URL of the API, and the volume that remains after an uninstall."""
    text = notes(helm.values_of(case))
    assert "Secret sidekey-store, key k2" in text or case == "gateway-embedded"
    assert "exec deployment/demo-sidekey -- sidekey token create NAME --role admin" in text
    assert "port-forward deployment/demo-sidekey 9090:15090" in text
    assert "http://127.0.0.1:9090/api/v1/integrations" in text
    assert ("Secret sidekey-store, key url" in text) is (case == "gateway-store")
    assert ("Secret sidekey-operators, key viewer: the token of the operator grafana" in text) is (
        case == "gateway-store"
    )
    assert ("demo-sidekey-store, which an uninstall keeps" in text) is (case == "gateway-embedded")
    assert "port-forward" not in notes(helm.values_of("gateway"))


CONSOLES = [case for case in GATEWAYS if "console" in case]


@pytest.mark.parametrize("case", GATEWAYS)
def test_only_a_console_opens_the_admin_listener(case: str, rendered: Rendered) -> None:
    """Without one it is on loopback, and no port, Service or policy rule includes it."""
    address = yaml.safe_load(helm.config_of(rendered[case]))["listen"]["admin"]
    ports = {
        port["name"]: port["containerPort"]
        for port in helm.sidekey_of(helm.only(rendered[case], "Deployment")["spec"]["template"]["spec"])["ports"]
    }
    admitted = [
        port["port"]
        for policy in helm.of_kind(rendered[case], "NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    ]
    names = {resource["metadata"]["name"] for resource in helm.of_kind(rendered[case], "Service")}
    if case in CONSOLES:
        assert address in {"0.0.0.0:15090", "[::]:15090"}
        assert (ports["sidekey-console"], admitted.count(15090)) == (15090, 1)
        assert "demo-sidekey-console" in names
    else:
        assert (address, len(names)) == ("127.0.0.1:15090", 1)
        assert 15090 not in {*ports.values(), *admitted}


def test_only_the_ingress_reaches_the_console(rendered: Rendered) -> None:
    """Host, TLS, Service and port agree, and only the pods of the controller may connect."""
    objects = rendered["gateway-console"]
    ingress, target = helm.only(objects, "Ingress"), service(objects, "console")
    (rule,), host = ingress["spec"]["rules"], "sidekey.example.com"
    (path,) = rule["http"]["paths"]
    (port,) = target["spec"]["ports"]
    assert (rule["host"], path["path"], path["pathType"]) == (host, "/", "Prefix")
    assert path["backend"]["service"] == {"name": target["metadata"]["name"], "port": {"name": port["name"]}}
    assert (port["targetPort"], port["name"], port["appProtocol"]) == ("sidekey-console", "http", "http")
    assert ingress["spec"]["tls"] == [{"hosts": [host], "secretName": "sidekey-example-com"}]
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    *_, rule_of_console = helm.only(objects, "NetworkPolicy")["spec"]["ingress"]
    assert rule_of_console["ports"] == [{"port": 15090, "protocol": "TCP"}]
    assert rule_of_console["from"] == helm.values_of("gateway-console")["networkPolicy"]["console"]
    admin = yaml.safe_load(helm.config_of(objects))["admin"]
    assert admin == {"names": [host, "keys.example.com"], "behind_tls": True}


def test_default_policy_admits_ingress_nginx_to_the_console(rendered: Rendered) -> None:
    """One peer has both selectors, so that a pod with that label in another namespace does not match."""
    *_, rule_of_console = helm.only(rendered["gateway-console-tls"], "NetworkPolicy")["spec"]["ingress"]
    (peer,) = rule_of_console["from"]
    assert peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}},
        "podSelector": {
            "matchLabels": {
                "app.kubernetes.io/name": "ingress-nginx",
                "app.kubernetes.io/component": "controller",
            }
        },
    }


@pytest.mark.parametrize("peers", [[], None])
def test_console_without_peers_admits_nobody(peers: Any) -> None:
    """An empty list of peers in a rule would admit everybody."""
    values = {**helm.values_of("gateway-console-tls"), "networkPolicy": {"console": peers}}
    ingress = helm.only(helm.objects(helm.CHART, values), "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for rule in ingress for port in rule["ports"]] == [15080, 15091]


def test_certificate_of_the_console_is_mounted_at_its_path(rendered: Rendered) -> None:
    """The mount is a folder, so that Sidekey sees a renewed certificate. The config check needs no Secret."""
    objects = rendered["gateway-console-tls"]
    tls = yaml.safe_load(helm.config_of(objects))["admin"]["tls"]
    for pod, optional in ((helm.only(objects, "Deployment"), False), (helm.only(objects, "Job"), True)):
        spec = pod["spec"]["template"]["spec"]
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "sidekey-console"]
        (container,) = spec["containers"]
        (mount,) = [entry for entry in container["volumeMounts"] if entry["name"] == volume["name"]]
        assert volume["secret"]["secretName"] == "sidekey-console"
        assert volume["secret"].get("optional", False) is optional
        files = {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
        assert files == {tls["certificate"]["file"], tls["private_key"]["file"]}
    (port,) = service(objects, "console")["spec"]["ports"]
    assert (port["name"], port["appProtocol"]) == ("https", "https")
    assert helm.of_kind(objects, "Ingress") == []


@pytest.mark.parametrize(
    ("changed", "words", "others"),
    [
        ({}, ["There is no Ingress", "Service demo-sidekey-console", "networkPolicy.console"], ["No NetworkPolicy"]),
        ({"ingress": {"enabled": True}}, ["networkPolicy.console"], ["There is no Ingress"]),
        ({"behindTls": True}, ["Secret sidekey-console, keys tls.crt and tls.key"], ["by plain HTTP"]),
    ],
    ids=["TLS of its own", "an ingress", "both"],
)
@pytest.mark.parametrize("policy", [True, False])
def test_notes_of_a_console_say_where_it_is_and_how_to_log_in(
    changed: helm.Values, words: list[str], others: list[str], policy: bool
) -> None:
    """The notes have the URL, the first token, missing objects, and the protection of the console."""
    values = helm.values_of("gateway-console-tls")
    values |= {"console": {**values["console"], **changed}, "networkPolicy": {"enabled": policy}}
    text = notes(values)
    assert "log in at https://sidekey.example.com/ with a token" in text
    assert "exec deployment/demo-sidekey -- sidekey token create NAME --role admin" in text
    assert "https://sidekey.example.com/api/v1/integrations" in text
    assert "port-forward" not in text
    expected = [word for word in words if policy or word != "networkPolicy.console"]
    assert [word for word in expected if word not in text] == []
    assert [word for word in others if policy and word in text] == []
    assert ("No NetworkPolicy protects port 15090" in text) is (not policy and "behindTls" in changed)


def test_notes_warn_of_plain_tokens_without_a_network_policy() -> None:
    """The console is behind an ingress that terminates TLS."""
    values = helm.values_of("gateway-console")
    values["networkPolicy"] = {"enabled": False}
    assert "tokens travel over plain HTTP and Sidekey trusts X-Forwarded-For" in notes(values)
