"""What else is rendered: Service, policies, scaling, monitoring."""

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


def one(objects: list[helm.Object], kind: str) -> helm.Object:
    """The only object of a kind."""
    (found,) = helm.of_kind(objects, kind)
    return found


def service(objects: list[helm.Object], component: str = "gateway") -> helm.Object:
    """The only Service of a component: `gateway`, which callers use, or `console`."""
    (found,) = [
        each
        for each in helm.of_kind(objects, "Service")
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return found


def test_nothing_is_rendered_for_a_parent_that_uses_nothing(rendered: Rendered) -> None:
    """`mode: none` with the defaults."""
    assert rendered["none"] == []


@pytest.mark.parametrize("case", ["none-monitoring", *(case for case in helm.cases() if case.startswith("sidecar"))])
def test_a_dependency_brings_no_workload(case: str, rendered: Rendered) -> None:
    """The only Deployment is the service's own."""
    names = [found["metadata"]["name"] for found in helm.of_kind(rendered[case], "Deployment")]
    assert names == ([] if case == "none-monitoring" else ["demo-webhook-sender"])
    assert not {"Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} & {
        found["kind"] for found in rendered[case]
    }


@pytest.mark.parametrize("case", GATEWAYS)
def test_every_selector_finds_the_gateways_pods_alone(case: str, rendered: Rendered) -> None:
    """Service, budget, policy, spread and monitors; not the pods of the config check and of `helm test`."""
    deployment = one(rendered[case], "Deployment")["spec"]
    pod = deployment["template"]
    selectors = [deployment["selector"]["matchLabels"]]
    for found in rendered[case]:
        spec = found.get("spec", {})
        if found["kind"] == "Service":
            selectors.append(spec["selector"])
        elif found["kind"] == "NetworkPolicy":
            selectors.append(spec["podSelector"]["matchLabels"])
        elif found["kind"] in {"PodDisruptionBudget", "PodMonitor"}:
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
def test_every_object_is_labelled_and_in_the_releases_namespace(case: str, rendered: Rendered) -> None:
    """The recommended labels, so that what belongs to a release is found."""
    for found in rendered[case]:
        assert found["metadata"]["namespace"] == "prod"
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert len(found["metadata"]["name"]) <= 63


def test_long_names_stay_names() -> None:
    """A release of 53 characters, the longest that Helm takes, still makes names and labels of at most 63."""
    for found in helm.objects(helm.CHART, helm.values_of("gateway"), name="r" * 53):
        assert len(found["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in found["metadata"]["labels"].values())


@pytest.mark.parametrize(("name", "namespace"), [("123", "456"), ("true", "prod"), ("1e3", "0123")])
@pytest.mark.parametrize("case", ["gateway-teams", "gateway-pod-monitor", "gateway-external-secrets", "sidecar"])
def test_names_that_look_like_numbers_stay_text(case: str, name: str, namespace: str, example: Path) -> None:
    """YAML reads 1e3 as a number and true as a truth; in every label, name and selector they are text."""
    rendered = helm.objects(helm.chart_of(case, example), helm.values_of(case), name=name, namespace=namespace)
    for found in rendered:
        metadata = found["metadata"]
        assert metadata["namespace"] == namespace
        assert metadata["labels"]["app.kubernetes.io/instance"] == name
        if helm.is_built_in(found):
            assert kubeschema.errors(found) == []


def test_values_that_look_like_numbers_stay_text() -> None:
    """Wherever a value names something."""
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
    for found in rendered:
        assert kubeschema.errors(found) == []
    texts = set(texts_in(rendered))
    # The image's two are one text, and the names of a source and of a volume become parts of others.
    assert {str(number) for number in range(1, 29)} - texts == {"6", "12", "19", "20"}
    assert {"19:20", "/run/secrets/12"} <= texts


def texts_in(node: Any) -> Iterator[str]:
    """Every key and every text of a value."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for each in node:
            yield from texts_in(each)
    elif isinstance(node, dict):
        for key, each in node.items():
            yield from texts_in(key)
            yield from texts_in(each)


def test_callers_and_prometheus_come_in_and_dns_and_https_go_out(rendered: Rendered) -> None:
    """Labelled pods and that of `helm test` at the proxy, the namespace `monitoring` at the metrics; nothing else."""
    spec = one(rendered["gateway"], "NetworkPolicy")["spec"]
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


def test_a_policy_without_peers_lets_nobody_through(rendered: Rendered) -> None:
    """An empty list of peers in a rule would mean everybody."""
    spec = one(rendered["gateway-closed"], "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert not spec.get("ingress")
    assert not spec.get("egress")


def test_every_rule_of_a_policy_has_peers(rendered: Rendered) -> None:
    """In all cases, both ways."""
    policies = [found["spec"] for objects in rendered.values() for found in helm.of_kind(objects, "NetworkPolicy")]
    assert policies
    for spec in policies:
        assert all(rule["from"] for rule in spec.get("ingress", []))
        assert all(rule["to"] for rule in spec.get("egress", []))


def test_an_autoscaler_owns_the_number_of_pods(rendered: Rendered) -> None:
    """With one, an upgrade must not set it back."""
    deployment = one(rendered["gateway-scaling"], "Deployment")
    scaler = one(rendered["gateway-scaling"], "HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 12)


def test_what_is_switched_off_is_not_there(rendered: Rendered) -> None:
    """gateway-bare is a Deployment, its Service, its config, and the pod of `helm test`."""
    assert sorted(found["kind"] for found in rendered["gateway-bare"]) == ["ConfigMap", "Deployment", "Pod", "Service"]
    pod = one(rendered["gateway-bare"], "Deployment")["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in pod
    assert pod["serviceAccountName"] == "existing"


def test_the_service_leads_to_the_proxy(rendered: Rendered) -> None:
    """By ClusterIP alone; the admin listener has no way in by it."""
    for case in GATEWAYS:
        spec = service(rendered[case])["spec"]
        assert spec["type"] == "ClusterIP"
        assert spec["ports"][0]["targetPort"] == "sidekey-proxy"
        assert {port["targetPort"] for port in spec["ports"]} <= {"sidekey-proxy", "sidekey-metrics"}


def test_a_service_monitor_reads_a_port_of_its_service(rendered: Rendered) -> None:
    """By the port's name, and the labels of the Service."""
    objects = rendered["gateway-service-monitor"]
    monitor, found = one(objects, "ServiceMonitor")["spec"], service(objects)
    assert monitor["selector"]["matchLabels"].items() <= found["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in found["spec"]["ports"]}


@pytest.mark.parametrize("case", ["gateway-pod-monitor", "sidecar-http-proxy"])
def test_a_pod_monitor_reads_a_port_of_the_pods(case: str, rendered: Rendered) -> None:
    """Of the gateway's, or of the service's pods, where Sidekey is among the init containers."""
    monitor = one(rendered[case], "PodMonitor")["spec"]
    template = one(rendered[case], "Deployment")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"] for port in helm.sidekey_of(template["spec"])["ports"]}
    assert monitor["podMetricsEndpoints"][0]["port"] in ports


def test_rules_and_dashboard_are_those_of_the_chart(rendered: Rendered) -> None:
    """Word for word: what promtool judged is what is installed."""
    objects = rendered["gateway-pod-monitor"]
    rules = yaml.safe_load((helm.CHART / "files" / "alerts.yaml").read_text("utf-8"))
    assert one(objects, "PrometheusRule")["spec"] == rules
    dashboard = next(found for found in helm.of_kind(objects, "ConfigMap") if "sidekey.json" in found["data"])
    wanted = json.loads((helm.CHART / "files" / "dashboard.json").read_text("utf-8"))
    assert json.loads(dashboard["data"]["sidekey.json"]) == wanted


def test_a_runbook_is_an_address_where_its_base_is_given() -> None:
    """Each `runbook_url` is below the base, and none names a path."""
    values = {
        **helm.values_of("none-monitoring"),
        "prometheusRule": {"enabled": True, "runbookBase": "https://git.example.com/sidekey/"},
    }
    groups = one(helm.objects(helm.CHART, values), "PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for rule in alerts:
        anchor = rule["alert"].lower()
        assert rule["annotations"]["runbook_url"] == f"https://git.example.com/sidekey/docs/runbooks.md#{anchor}"
        assert "runbook" not in rule["annotations"]


def test_an_external_secret_makes_the_secret_that_is_mounted(rendered: Rendered) -> None:
    """By the same name, and at the place that the config names."""
    objects = rendered["gateway-external-secrets"]
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["secret"]["secretName"]: volume["name"] for volume in pod["volumes"] if "secret" in volume}
    places = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    made = [found["spec"]["target"]["name"] for found in helm.of_kind(objects, "ExternalSecret")]
    assert {name: places[volumes[name]] for name in made} == {"crm": "/run/secrets/crm", "sms": "/run/sms"}


def test_an_ipv6_gateway_listens_on_it(rendered: Rendered) -> None:
    """Listeners and Service agree."""
    listen = yaml.safe_load(helm.config_of(rendered["gateway-ipv6"]))["listen"]
    assert (listen["proxy"], listen["metrics"]) == ("[::]:15080", "[::]:15091")
    assert service(rendered["gateway-ipv6"])["spec"]["ipFamilies"] == ["IPv6"]


@pytest.mark.parametrize("case", GATEWAYS)
def test_every_name_of_the_service_is_one_of_the_listener(case: str, rendered: Rendered) -> None:
    """A caller that writes any of them as Host is let in."""
    name = service(rendered[case])["metadata"]["name"]
    domain = helm.values_of(case).get("clusterDomain", "cluster.local")
    names = yaml.safe_load(helm.config_of(rendered[case]))["listen"]["names"]
    assert {name, f"{name}.prod", f"{name}.prod.svc", f"{name}.prod.svc.{domain}"} <= set(names)


def test_the_notes_say_what_to_do_next() -> None:
    """The URL, the token, and how to look."""
    rendered = helm.files(helm.CHART, helm.values_of("gateway"))
    (notes,) = [text for path, text in rendered.items() if path.endswith("NOTES.txt")]
    for words in ("demo-sidekey.prod.svc", "kubectl", "billing", "sidekey-callers", "helm --namespace prod test demo"):
        assert words in notes


def notes(values: helm.Values) -> str:
    """The chart's notes, in one line."""
    rendered = helm.files(helm.CHART, values)
    return " ".join(rendered["sidekey/templates/NOTES.txt"].split())


def behind_https(mode: str) -> helm.Values:
    """Values of callers that are matched by host."""
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
def test_the_notes_say_what_https_proxy_means(mode: str) -> None:
    """Hosts that are denied, hosts that bypass Sidekey, and callers that must restart."""
    said = notes(behind_https(mode))
    assert "Sidekey denies hosts that no integration covers" in said
    assert "config.forward.unmatched: pass" in said
    assert "NO_PROXY lists hosts to call without Sidekey, and so without a credential" in said
    assert "restart them when a CA is added" in said


def test_the_notes_do_not_say_that_hosts_are_denied_where_they_pass() -> None:
    """They follow the config."""
    values = {**behind_https("gateway"), "config": {"forward": {"unmatched": "pass"}}}
    assert "Sidekey denies" not in notes(values)


def test_the_notes_of_a_gateway_say_how_callers_come_to_trust_it() -> None:
    """The Secrets that pods wait for, and the command that prints a caller's variables."""
    said = notes(helm.values_of("gateway-https-proxy"))
    assert "Secret sidekey-ca, keys tls.crt and tls.key" in said
    assert "Secret sidekey-ca, key ca.crt" in said
    command = "sidekey env --by-host --shell k8s --proxy http://demo-sidekey.prod.svc:15080 --trust /run/sidekey/trust"
    assert command in said


@pytest.mark.parametrize(
    ("java", "callers", "warned"),
    [
        (True, {"a": {"secret": {"name": "a"}}}, True),
        (True, {}, False),
        (False, {"a": {"secret": {"name": "a"}}}, False),
    ],
)
def test_the_notes_say_where_java_sends_no_user(java: bool, callers: helm.Values, warned: bool) -> None:
    """As `sidekey env --java` does."""
    values = {"mode": "none", "httpsProxy": {"matchByHost": True, "java": java}, "callers": callers}
    assert ("Java sends no proxy user" in notes(values)) is warned


def test_the_notes_name_every_secret_that_pods_wait_for() -> None:
    """Those of variables too; not those that are optional."""
    rendered = helm.files(helm.CHART, helm.values_of("gateway-teams"))
    (notes,) = [text for path, text in rendered.items() if path.endswith("NOTES.txt")]
    assert {name for name in ("sidekey-callers", "team-a", "legacy") if f"Secret {name}" in notes} == {
        "sidekey-callers",
        "team-a",
        "legacy",
    }
    assert "Secret team-b" not in notes
    assert "Secret reports-token" not in notes


def test_a_database_is_let_through_where_the_values_say_it_is(rendered: Rendered) -> None:
    """At its port alone."""
    *_, database = one(rendered["gateway-store"], "NetworkPolicy")["spec"]["egress"]
    assert database == {
        "to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}],
        "ports": [{"port": 6432, "protocol": "TCP"}],
    }
    for case in ("gateway-embedded", "gateway-claim"):
        assert one(rendered[case], "NetworkPolicy") == one(rendered["gateway"], "NetworkPolicy")


@pytest.mark.parametrize("case", ["gateway-store", "gateway-embedded"])
def test_the_notes_of_a_store_say_how_to_begin(case: str) -> None:
    """Its Secrets, the first token, the way to the API, and what is left of it."""
    said = notes(helm.values_of(case))
    assert "Secret sidekey-store, key k2" in said or case == "gateway-embedded"
    assert "exec deployment/demo-sidekey -- sidekey token create NAME --role admin" in said
    assert "port-forward deployment/demo-sidekey 9090:15090" in said
    assert "http://127.0.0.1:9090/api/v1/integrations" in said
    assert ("Secret sidekey-store, key url" in said) is (case == "gateway-store")
    assert ("Secret sidekey-operators, key viewer: the token of the operator grafana" in said) is (
        case == "gateway-store"
    )
    assert ("demo-sidekey-store, which an uninstall keeps" in said) is (case == "gateway-embedded")
    assert "port-forward" not in notes(helm.values_of("gateway"))


CONSOLES = [case for case in GATEWAYS if "console" in case]


@pytest.mark.parametrize("case", GATEWAYS)
def test_the_admin_listener_is_at_loopback_unless_there_is_a_console(case: str, rendered: Rendered) -> None:
    """No port of the pod, no Service and no rule of the policy leads there otherwise."""
    address = yaml.safe_load(helm.config_of(rendered[case]))["listen"]["admin"]
    ports = {
        port["name"]: port["containerPort"]
        for port in helm.sidekey_of(one(rendered[case], "Deployment")["spec"]["template"]["spec"])["ports"]
    }
    admitted = [
        port["port"]
        for policy in helm.of_kind(rendered[case], "NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    ]
    names = {each["metadata"]["name"] for each in helm.of_kind(rendered[case], "Service")}
    if case in CONSOLES:
        assert address in {"0.0.0.0:15090", "[::]:15090"}
        assert (ports["sidekey-console"], admitted.count(15090)) == (15090, 1)
        assert "demo-sidekey-console" in names
    else:
        assert (address, len(names)) == ("127.0.0.1:15090", 1)
        assert 15090 not in {*ports.values(), *admitted}


def test_a_browser_comes_to_the_console_by_the_ingress_alone(rendered: Rendered) -> None:
    """Host, TLS, Service and port fit together, and only the controller's pods may connect."""
    objects = rendered["gateway-console"]
    ingress, found = one(objects, "Ingress"), service(objects, "console")
    (rule,), host = ingress["spec"]["rules"], "sidekey.example.com"
    (path,) = rule["http"]["paths"]
    (port,) = found["spec"]["ports"]
    assert (rule["host"], path["path"], path["pathType"]) == (host, "/", "Prefix")
    assert path["backend"]["service"] == {"name": found["metadata"]["name"], "port": {"name": port["name"]}}
    assert (port["targetPort"], port["name"], port["appProtocol"]) == ("sidekey-console", "http", "http")
    assert ingress["spec"]["tls"] == [{"hosts": [host], "secretName": "sidekey-example-com"}]
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    *_, last = one(objects, "NetworkPolicy")["spec"]["ingress"]
    assert last["ports"] == [{"port": 15090, "protocol": "TCP"}]
    assert last["from"] == helm.values_of("gateway-console")["networkPolicy"]["console"]
    admin = yaml.safe_load(helm.config_of(objects))["admin"]
    assert admin == {"names": [host, "keys.example.com"], "behind_tls": True}


def test_by_default_the_pods_of_ingress_nginx_come_to_the_console_and_no_others(rendered: Rendered) -> None:
    """Both selectors in one peer: a pod of that label in another namespace is none of them."""
    *_, last = one(rendered["gateway-console-tls"], "NetworkPolicy")["spec"]["ingress"]
    (peer,) = last["from"]
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
def test_a_console_that_nobody_may_reach_is_reached_by_nobody(peers: Any) -> None:
    """An empty list of peers in a rule would mean everybody."""
    values = {**helm.values_of("gateway-console-tls"), "networkPolicy": {"console": peers}}
    ingress = one(helm.objects(helm.CHART, values), "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for rule in ingress for port in rule["ports"]] == [15080, 15091]


def test_the_certificate_that_sidekey_presents_is_a_file_where_the_config_names_it(rendered: Rendered) -> None:
    """From its Secret, in a folder, so that a renewed one is seen; the check does not wait for it."""
    objects = rendered["gateway-console-tls"]
    tls = yaml.safe_load(helm.config_of(objects))["admin"]["tls"]
    for pod, optional in ((one(objects, "Deployment"), False), (one(objects, "Job"), True)):
        spec = pod["spec"]["template"]["spec"]
        (volume,) = [each for each in spec["volumes"] if each["name"] == "sidekey-console"]
        (container,) = spec["containers"]
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == volume["name"]]
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
def test_the_notes_of_a_console_say_where_it_is_and_how_one_gets_in(
    changed: helm.Values, words: list[str], others: list[str], policy: bool
) -> None:
    """Its URL, the first token, what is missing of the way to it, and what protects it."""
    values = helm.values_of("gateway-console-tls")
    values |= {"console": {**values["console"], **changed}, "networkPolicy": {"enabled": policy}}
    said = notes(values)
    assert "log in at https://sidekey.example.com/ with a token" in said
    assert "exec deployment/demo-sidekey -- sidekey token create NAME --role admin" in said
    assert "https://sidekey.example.com/api/v1/integrations" in said
    assert "port-forward" not in said
    wanted = [word for word in words if policy or word != "networkPolicy.console"]
    assert [word for word in wanted if word not in said] == []
    assert [word for word in others if policy and word in said] == []
    assert ("No NetworkPolicy protects port 15090" in said) is (not policy and "behindTls" in changed)


def test_the_notes_say_that_tokens_are_in_the_clear_where_no_policy_keeps_others_away() -> None:
    """Behind an ingress that ends TLS."""
    values = helm.values_of("gateway-console")
    values["networkPolicy"] = {"enabled": False}
    assert "tokens travel over plain HTTP and Sidekey trusts X-Forwarded-For" in notes(values)
