"""Pods: restricted security, mounts of secrets, start and end."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from sidekey.tokens.shared import SHUTDOWN_SECONDS as SHUTDOWN_OF_LEASES
from sidekey.tokens.store_ledger import SHUTDOWN_SECONDS as SHUTDOWN_OF_LEDGER
from support import helm
from tools import charts

ALLOWED_VOLUMES = {"configMap", "csi", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
WRITABLE = {"emptyDir", "persistentVolumeClaim"}
CASES = [case for case in helm.cases() if not case.startswith("none")]
GATEWAYS = [case for case in CASES if case.startswith("gateway")]
SIDECARS = [case for case in CASES if case.startswith("sidecar")]
WITHOUT_CA = {
    case
    for case in CASES
    if case not in {"sidecar", "sidecar-https-proxy", "sidecar-by-host", "sidecar-store", "gateway-https-proxy"}
}
TRUST = {"name": "sidekey-trust", "mountPath": "/run/sidekey/trust", "readOnly": True}
"""The mount of the sidecar's trust folder in the service."""

Rendered = dict[str, list[helm.Object]]


def pods(rendered: Rendered, case: str) -> list[helm.Object]:
    """Return the pod specs of a case. There is at least one."""
    selected = [pod for _, pod in helm.pods(rendered[case])]
    assert selected
    return selected


def containers(rendered: Rendered, case: str) -> list[helm.Object]:
    """Return all containers of a case."""
    return [container for pod in pods(rendered, case) for container in helm.containers(pod)]


def deployment(objects: list[helm.Object]) -> helm.Object:
    """Return the pod template of the only Deployment."""
    (resource,) = helm.of_kind(objects, "Deployment")
    template: helm.Object = resource["spec"]["template"]
    return template


def sidekey_container(rendered: Rendered, case: str) -> helm.Object:
    """Return the container of the running Sidekey."""
    return helm.sidekey_of(deployment(rendered[case])["spec"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("allowPrivilegeEscalation", False),
        ("capabilities", {"drop": ["ALL"]}),
        ("readOnlyRootFilesystem", True),
        ("runAsNonRoot", True),
        ("seccompProfile", {"type": "RuntimeDefault"}),
    ],
)
def test_every_container_is_restricted(field: str, expected: object, case: str, rendered: Rendered) -> None:
    """The containers fulfil the pod security standard `restricted`, and their root is read-only."""
    assert [container["securityContext"][field] for container in containers(rendered, case)] == (
        [expected] * len(containers(rendered, case))
    )


@pytest.mark.parametrize("case", CASES)
def test_no_container_is_privileged_or_root(case: str, rendered: Rendered) -> None:
    """Neither a field nor the user gives it such rights."""
    for context in (container["securityContext"] for container in containers(rendered, case)):
        assert not context.get("privileged")
        assert "add" not in context["capabilities"]
        assert context.get("runAsUser") != 0
        assert context.get("runAsGroup") != 0
        assert "procMount" not in context


@pytest.mark.parametrize("case", CASES)
def test_no_pod_shares_resources_of_its_node(case: str, rendered: Rendered) -> None:
    """Pods use no namespace, path or port of the host, and only the kinds of volumes that `restricted` admits."""
    for pod in pods(rendered, case):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "sysctls" not in pod["securityContext"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys()
        assert {kind for volume in pod.get("volumes", []) for kind in volume.keys() - {"name"}} <= ALLOWED_VOLUMES
    for container in containers(rendered, case):
        assert not [port for port in container.get("ports", []) if "hostPort" in port]


@pytest.mark.parametrize("case", CASES)
def test_no_pod_gets_a_token_of_the_cluster(case: str, rendered: Rendered) -> None:
    """Except for the keys of a cluster whose ServiceAccounts are callers. Other tokens name their audience."""
    assert {pod["automountServiceAccountToken"] for pod in pods(rendered, case)} == {False}
    accounts = helm.of_kind(rendered[case], "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    sources = [
        source
        for pod in pods(rendered, case)
        for volume in pod.get("volumes", [])
        for source in volume.get("projected", {}).get("sources", [])
    ]
    tokens = [source["serviceAccountToken"] for source in sources if "serviceAccountToken" in source]
    named = helm.sidekey_values(case).get("serviceAccountTokens", [])
    expected = {item["audience"] for item in named} | ({""} if case == "gateway-tls" else set())
    assert {token.get("audience", "") for token in tokens} == expected


def test_service_account_tokens_are_mounted_in_pods_and_in_the_check(rendered: Rendered) -> None:
    """Each in a folder of its own, with an audience. Only Sidekey's container mounts them."""
    check, deployed = helm.of_kind(rendered["sidecar-secrets"], "Job"), deployment(rendered["sidecar-secrets"])
    ((_, checking),) = helm.pods(check)
    for pod in (checking, deployed["spec"]):
        tokens = {
            volume["name"]: volume["projected"]["sources"][0]["serviceAccountToken"]
            for volume in pod["volumes"]
            if "serviceAccountToken" in volume.get("projected", {}).get("sources", [{}])[0]
        }
        mounts = [
            {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in tokens}
            for container in (*pod["containers"], *pod.get("initContainers", []))
        ]
        (mounted,) = [mount for mount in mounts if mount]
        assert {mounted[name]: token for name, token in tokens.items()} == {
            "/run/secrets/azure": {
                "audience": "api://AzureADTokenExchange",
                "expirationSeconds": 3600,
                "path": "token",
            },
            "/var/run/google": {"audience": "google", "expirationSeconds": 900, "path": "token"},
        }


@pytest.mark.parametrize("case", GATEWAYS)
def test_run_as_user_is_set_unless_the_platform_chooses(case: str, rendered: Rendered) -> None:
    """It is 65532, as in the image. `runAsUser: 0` omits it, and the user is still not root."""
    expected = None if helm.values_of(case).get("runAsUser") == 0 else 65532
    for context in (container["securityContext"] for container in containers(rendered, case)):
        assert (context.get("runAsUser"), context.get("runAsGroup")) == (expected, expected)


@pytest.mark.parametrize("case", CASES)
def test_every_container_has_requests_and_a_memory_limit(case: str, rendered: Rendered) -> None:
    for container in containers(rendered, case):
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("case", CASES)
def test_images_have_a_fixed_tag_or_digest(case: str, rendered: Rendered) -> None:
    """The tag is never `latest`."""
    for container in containers(rendered, case):
        name, at, digest = container["image"].partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        assert digest.startswith("sha256:") if at else tag not in {"", "latest"}


@pytest.mark.parametrize("case", CASES)
def test_no_container_has_a_prestop_hook(case: str, rendered: Rendered) -> None:
    """`drain_delay` replaces it."""
    assert not [container for container in containers(rendered, case) if "lifecycle" in container]


@pytest.mark.parametrize("case", GATEWAYS)
def test_gateway_has_time_to_drain(case: str, rendered: Rendered) -> None:
    """The grace period is drain_delay and drain in whole seconds, and 5 s, and 20 s more with a store."""
    seconds = {"5s": 5.0, "25s": 25.0, "1500ms": 1.5, "2m": 120.0}
    config = yaml.safe_load(helm.config_of(rendered[case]))
    margin = 5 if config.get("store") is None else 5 + SHUTDOWN_OF_LEASES + SHUTDOWN_OF_LEDGER
    expected = sum(-(-seconds[config["timeouts"][name]] // 1) for name in ("drain_delay", "drain")) + margin
    assert deployment(rendered[case])["spec"]["terminationGracePeriodSeconds"] == expected


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        ({}, 35),
        ({"drain": "1m"}, 70),
        ({"drain_delay": "10s"}, 40),
        ({"drain_delay": "1500ms", "drain": "2m"}, 127),
        ({"drain_delay": "0s", "drain": "1h"}, 3605),
    ],
)
def test_grace_period_follows_the_config(timeouts: dict[str, str], expected: int) -> None:
    """Operators who change the drain need not set the grace period."""
    values = {**helm.values_of("gateway"), "config": {"timeouts": timeouts}}
    objects = helm.objects(helm.CHART, values)
    assert deployment(objects)["spec"]["terminationGracePeriodSeconds"] == expected
    config = yaml.safe_load(helm.config_of(objects))
    assert {name: config["timeouts"][name] for name in timeouts} == timeouts


@pytest.mark.parametrize("case", CASES)
def test_probes_use_the_metrics_listener(case: str, rendered: Rendered) -> None:
    """Startup does not wait for the store, so that a sidecar never delays its pod. A gateway's readiness does."""
    container = sidekey_container(rendered, case)
    paths = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    expected = {"startupProbe": "/startupz", "livenessProbe": "/healthz"}
    if case in GATEWAYS:
        expected["readinessProbe"] = "/readyz"
    assert paths == {name: {"path": path, "port": "sidekey-metrics"} for name, path in expected.items()}
    # An earlier attempt would fail, and cause an event at each start.
    assert container["startupProbe"]["initialDelaySeconds"] == 2
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    console = {"sidekey-console": 15090} if "console" in case else {}
    assert ports == {"sidekey-proxy": 15080, "sidekey-metrics": 15091, **console}


@pytest.mark.parametrize("case", CASES)
def test_config_and_secrets_are_mounted_as_folders(case: str, rendered: Rendered) -> None:
    """Kubernetes never updates a subPath mount. The mounts are read-only."""
    container = sidekey_container(rendered, case)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert not [mount for mount in mounts.values() if "subPath" in mount or "subPathExpr" in mount]
    assert mounts["/etc/sidekey"]["readOnly"] is True
    assert {"name": "SIDEKEY_CONFIG", "value": "/etc/sidekey"} in container["env"]
    volumes = {volume["name"]: volume for volume in deployment(rendered[case])["spec"]["volumes"]}
    for mount in mounts.values():
        assert mount.get("readOnly", False) is (not WRITABLE & volumes[mount["name"]].keys())


@pytest.mark.parametrize("case", CASES)
def test_every_mount_has_a_volume(case: str, rendered: Rendered) -> None:
    """Names of volumes and paths of mounts are unique."""
    for pod in pods(rendered, case):
        names = [volume["name"] for volume in pod.get("volumes", [])]
        assert len(names) == len(set(names))
        for container in helm.containers(pod):
            mounts = container.get("volumeMounts", [])
            paths = [mount["mountPath"] for mount in mounts]
            assert len(paths) == len(set(paths))
            assert {mount["name"] for mount in mounts} <= set(names)


@pytest.mark.parametrize("case", SIDECARS)
def test_service_beside_a_sidecar_sees_no_secret(case: str, rendered: Rendered) -> None:
    """The service mounts only the trust folder, and has only the token of its caller."""
    (service,) = deployment(rendered[case])["spec"]["containers"]
    mounts = [mount for mount in service["volumeMounts"] if mount["name"].startswith("sidekey")]
    assert mounts == ([] if case in WITHOUT_CA else [TRUST])
    assert [entry["name"] for entry in service["env"] if "valueFrom" in entry] == (
        ["SIDEKEY_TOKEN"] if case in {"sidecar-http-proxy", "sidecar-https-proxy", "sidecar-store"} else []
    )


@pytest.mark.parametrize("case", [case for case in CASES if case not in WITHOUT_CA])
def test_only_sidekey_mounts_the_key_of_the_ca(case: str, rendered: Rendered) -> None:
    """A sidecar's key is in memory that outlives its container, and a gateway's in a Secret."""
    pod = deployment(rendered[case])["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in sidekey_container(rendered, case)["volumeMounts"]}
    ca = yaml.safe_load(helm.config_of(rendered[case]))["ca"]
    if case in SIDECARS:
        key_mount = mounts[ca["folder"]]
        assert volumes[key_mount["name"]]["emptyDir"]["medium"] == "Memory"
    else:
        key_mount = mounts["/run/sidekey/ca"]
        assert volumes[key_mount["name"]]["secret"]["secretName"] == "sidekey-ca"
        assert {Path(ca[key]["file"]).parent for key in ("certificate", "private_key")} == {
            Path(key_mount["mountPath"])
        }
    trust = mounts[ca["trust_folder"]]
    assert (trust["name"], volumes[trust["name"]].keys()) == (TRUST["name"], {"name", "emptyDir"})
    assert "readOnly" not in trust
    for container in helm.containers(pod):
        if container["name"] != "sidekey":
            assert key_mount["name"] not in {mount["name"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("case", ["sidecar-by-host", "gateway-https-proxy"])
def test_extra_roots_are_mounted_at_their_paths(case: str, rendered: Rendered) -> None:
    """Each source is one file, so that two sources are never merged."""
    pod = deployment(rendered[case])["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "sidekey-extra-roots"]
    (mount,) = [
        resource for resource in sidekey_container(rendered, case)["volumeMounts"] if resource["name"] == volume["name"]
    ]
    sources = [value for source in volume["projected"]["sources"] for value in source.values()]
    files = [item["path"] for source in sources for item in source["items"]]
    expected = [Path(root["file"]) for root in yaml.safe_load(helm.config_of(rendered[case]))["ca"]["extra_roots"]]
    assert [Path(mount["mountPath"]) / file for file in files] == expected
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == (
        ["configMap", "secret"] if case == "sidecar-by-host" else ["secret"]
    )


def test_config_check_does_not_wait_for_the_ca(rendered: Rendered) -> None:
    """The check names a missing Secret of the CA or of extra roots. The gateway waits for it."""
    ((_, check),) = helm.pods(helm.of_kind(rendered["gateway-https-proxy"], "Job"))
    optional = []
    for pod in (check, deployment(rendered["gateway-https-proxy"])["spec"]):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (root,) = volumes["sidekey-extra-roots"]["projected"]["sources"]
        optional.append((volumes["sidekey-ca"]["secret"].get("optional"), root["secret"].get("optional")))
    assert optional == [(True, True), (None, None)]


@pytest.mark.parametrize("case", SIDECARS)
def test_sidecar_is_an_init_container_that_keeps_running(case: str, rendered: Rendered) -> None:
    """It is ready before the service starts, and ends after it."""
    (sidecar,) = deployment(rendered[case])["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"], sidecar["args"]) == ("sidekey", "Always", ["run"])


def test_changed_config_restarts_no_pod() -> None:
    """Sidekey reloads it, so the pod template does not depend on it."""
    values = helm.values_of("gateway")
    changed = deepcopy(values)
    changed["config"]["integrations"]["crm"]["description"] = "another one"
    changed["callers"]["billing"]["integrations"] = "*"
    before, after = helm.objects(helm.CHART, values), helm.objects(helm.CHART, changed)
    assert helm.config_of(before) != helm.config_of(after)
    assert deployment(before) == deployment(after)


def test_changed_listener_restarts_the_pods() -> None:
    """A reload cannot change `listen`."""
    values = helm.values_of("gateway")
    changed = {**values, "service": {"names": ["keys.example.com"]}}
    assert deployment(helm.objects(helm.CHART, values)) != deployment(helm.objects(helm.CHART, changed))


def test_console_restarts_the_pods_but_its_host_does_not() -> None:
    """A console changes the address of the admin listener. Its host changes only the accepted names."""
    values = helm.values_of("gateway-console")
    renamed = {**values, "console": {**values["console"], "host": "keys.example.com"}}
    without = {**values, "console": None}
    before, after, none = (helm.objects(helm.CHART, value) for value in (values, renamed, without))
    assert deployment(before) == deployment(after) != deployment(none)
    assert helm.config_of(before) != helm.config_of(after)


def test_config_check_is_a_hook_before_the_release(rendered: Rendered) -> None:
    """It has a separate ConfigMap. It does not wait for a missing Secret, so that it can name it."""
    hooks = [resource for resource in rendered["gateway"] if resource["metadata"]["name"].endswith("-config-check")]
    assert [resource["kind"] for resource in hooks] == ["ConfigMap", "Job"]
    assert {resource["metadata"]["annotations"]["helm.sh/hook"] for resource in hooks} == {"pre-install,pre-upgrade"}
    ((_, pod),) = helm.pods(hooks)
    assert pod["containers"][0]["args"] == ["check"]
    assert pod["restartPolicy"] == "Never"
    (mounted,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert mounted["optional"] is True


@pytest.mark.parametrize("case", ["gateway-teams", "sidecar-secrets"])
def test_pod_waits_for_a_missing_variable_but_the_check_does_not(case: str, rendered: Rendered) -> None:
    """Otherwise the check would wait until its deadline, without a message."""
    ((_, pod),) = helm.pods(helm.of_kind(rendered[case], "Job"))
    optional = [
        [entry["valueFrom"]["secretKeyRef"].get("optional") for entry in container["env"] if "valueFrom" in entry]
        for container in (*pod["containers"], sidekey_container(rendered, case))
    ]
    assert optional == [[True], [None]]


def sources(pod: helm.Object) -> Iterator[tuple[str, helm.Object]]:
    """Yield the kind and the source of every ConfigMap and Secret that a pod mounts."""
    for volume in pod["volumes"]:
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            yield from ((kind, source[kind]) for kind in ("configMap", "secret") if kind in source)


@pytest.mark.parametrize("case", ["gateway-teams", "sidecar-by-host", "gateway-console-tls"])
def test_config_check_waits_only_for_its_config(case: str, rendered: Rendered) -> None:
    """The kubelet would wait for a missing source until the deadline, without a message. Sidekey's message names it."""
    ((_, check),) = helm.pods(helm.of_kind(rendered[case], "Job"))
    (config, *others) = sources(check)
    assert config[1]["name"].endswith("-config-check")
    assert [source for _, source in (config, *others) if source.get("optional") is not True] == [config[1]]
    running = list(sources(deployment(rendered[case])["spec"]))
    assert [kind for kind, _ in running] == [kind for kind, _ in (config, *others)]
    assert not all(source.get("optional") for _, source in running[1:])


@pytest.mark.parametrize("case", ["gateway-external-secrets", "gateway-csi"])
def test_config_check_does_not_read_secrets_of_the_release(case: str, rendered: Rendered) -> None:
    """ExternalSecrets and the ServiceAccount of a CSI mount do not exist before the release."""
    hooks = {
        resource["kind"]: resource["metadata"]["annotations"]["helm.sh/hook"]
        for resource in rendered[case]
        if resource["metadata"]["name"].endswith("-config-check")
    }
    assert hooks == {"ConfigMap": "post-install,post-upgrade", "Job": "post-install,post-upgrade"}


def test_no_secret_is_rendered(rendered: Rendered) -> None:
    """The values name existing Secrets."""
    plain = list(yaml.safe_load_all(charts.PLAIN.read_text("utf-8")))
    assert not [
        resource for objects in [*rendered.values(), plain] for resource in objects if resource["kind"] == "Secret"
    ]


STORES = ["gateway-store", "gateway-embedded", "gateway-claim", "sidecar-store"]


@pytest.mark.parametrize("case", STORES)
def test_keys_and_tokens_of_a_store_are_mounted_at_their_paths(case: str, rendered: Rendered) -> None:
    """Each is from its Secret, and none is in a variable. Only the config has the order of the keys."""
    pod = deployment(rendered[case])["spec"]
    config = yaml.safe_load(helm.config_of(rendered[case]))
    named = {Path(entry["key"]["file"]) for entry in config["store"]["keys"]}
    named |= {Path(config["store"]["url"]["file"])} if "url" in config["store"] else set()
    named |= {Path(entry["token"]["file"]) for entry in config.get("admin", {}).get("tokens", {}).values()}
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in sidekey_container(rendered, case)["volumeMounts"]}
    volumes = [volume for volume in pod["volumes"] if volume["name"] in {"sidekey-store", "sidekey-operators"}]
    files = [
        mounts[volume["name"]] / item["path"]
        for volume in volumes
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    ]
    assert set(files) == named
    assert len(files) == len(named)
    assert [entry["id"] for entry in config["store"]["keys"]] == (["k2", "k1"] if case == "gateway-store" else ["k1"])
    assert [entry for entry in sidekey_container(rendered, case)["env"] if "valueFrom" in entry] == []


def test_each_secret_of_a_store_is_that_of_the_values(rendered: Rendered) -> None:
    """The default key in a Secret is the ID, the operator's name, or `url`."""
    volumes = {volume["name"]: volume for volume in deployment(rendered["gateway-store"])["spec"]["volumes"]}
    by_name = {
        item["path"]: (source["secret"]["name"], item["key"])
        for name in ("sidekey-store", "sidekey-operators")
        for source in volumes[name]["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert by_name == {
        "keys/k1": ("sidekey-store", "former"),
        "keys/k2": ("sidekey-store", "k2"),
        "url": ("sidekey-store", "url"),
        "ops": ("sidekey-operators", "ops"),
        "grafana": ("sidekey-operators", "viewer"),
    }


def test_changed_order_of_keys_restarts_no_pod() -> None:
    """Sidekey reloads the config."""
    values = helm.values_of("gateway-store")
    reordered = {**values, "store": {**values["store"], "keys": values["store"]["keys"][::-1]}}
    before, after = (helm.objects(helm.CHART, value) for value in (values, reordered))
    assert deployment(before) == deployment(after)
    assert helm.config_of(before) != helm.config_of(after)


@pytest.mark.parametrize("case", STORES)
def test_embedded_store_is_in_a_volume_of_one_pod(case: str, rendered: Rendered) -> None:
    """The pod ends before its successor starts, and no budget prevents that. With a database there is no volume."""
    (resource,) = helm.of_kind(rendered[case], "Deployment")
    config = yaml.safe_load(helm.config_of(rendered[case]))["store"]
    mounts = {mount["mountPath"]: mount["name"] for mount in sidekey_container(rendered, case)["volumeMounts"]}
    claims = {
        volume["name"]: volume.get("persistentVolumeClaim")
        for volume in resource["spec"]["template"]["spec"]["volumes"]
    }
    if "url" in config:
        assert not any(claims.values())
        assert resource["spec"]["replicas"] == {"gateway-store": 3, "sidecar-store": 2}[case]
        assert resource["spec"].get("strategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
        return
    assert (resource["spec"]["replicas"], resource["spec"]["strategy"]) == (1, {"type": "Recreate"})
    claim = claims[mounts[str(Path(config["path"]).parent)]]["claimName"]
    created = [resource["metadata"]["name"] for resource in helm.of_kind(rendered[case], "PersistentVolumeClaim")]
    assert created == ([claim] if case == "gateway-embedded" else [])
    assert claim == ("demo-sidekey-store" if case == "gateway-embedded" else "sidekey")
    (budget,) = helm.of_kind(rendered[case], "PodDisruptionBudget")
    assert budget["spec"].keys() & {"minAvailable", "maxUnavailable"} == {"maxUnavailable"}
    assert budget["spec"]["maxUnavailable"] == 1


def test_claim_outlives_the_release(rendered: Rendered) -> None:
    """It has the class, size and mode of the values."""
    (claim,) = helm.of_kind(rendered["gateway-embedded"], "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "2Gi"}},
    }
    (default,) = helm.of_kind(
        helm.objects(
            helm.CHART, helm.values_of("gateway-embedded") | {"store": {**STORE, "embedded": {"enabled": True}}}
        ),
        "PersistentVolumeClaim",
    )
    assert default["spec"] == {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "1Gi"}}}


STORE = {"keys": [{"id": "k1", "secret": {"name": "sidekey-store"}}]}


@pytest.mark.parametrize(
    ("case", "group"), [("gateway-embedded", {"fsGroup": 65532}), ("gateway-claim", {}), ("gateway-store", None)]
)
def test_volume_of_a_store_is_writable_by_its_group(
    case: str, group: dict[str, int] | None, rendered: Rendered
) -> None:
    """Platforms that choose the user choose the group too. A pod without a volume has no group."""
    context = deployment(rendered[case])["spec"]["securityContext"]
    expected = {} if group is None else {**group, "fsGroupChangePolicy": "OnRootMismatch"}
    assert {key: value for key, value in context.items() if key.startswith("fsGroup")} == expected


@pytest.mark.parametrize("case", STORES)
def test_config_check_opens_no_store(case: str, rendered: Rendered) -> None:
    """It needs neither a Secret nor a volume, which the gateway's pod may use, or which may not exist yet."""
    ((_, pod),) = helm.pods(helm.of_kind(rendered[case], "Job"))
    sources = [source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    assert {source["secret"].get("optional") for source in sources if "secret" in source} == {True}
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert not [key for key in pod["securityContext"] if key.startswith("fsGroup")]
