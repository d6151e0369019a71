"""A gateway with TLS: callers with a ServiceAccount, HTTPS_PROXY with an https URL, and a new certificate."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.conftest import HOST, Upstream, tls_secret
from cluster.images import TOOLS
from cluster.kube import CHART, CLIENT, PYTHON, Cluster, Namespace, eventually, pod
from cluster.pki import Authority

NAME: Final = "sidekey-tls"
GATEWAY: Final = f"sidekey.{NAME}.svc:15080"
TARGET: Final = f"https://{HOST}/hooks/v1/x"

# The scripts run in callers' pods. $1 is the file of the token; PROXIED passes further arguments to curl.
PROXIED: Final = f"""
token=$1; shift
export CURL_CA_BUNDLE=/trust/bundle.pem HTTPS_PROXY="https://crm:$(cat /run/sidekey/$token)@{GATEWAY}"
curl --silent --show-error --max-time 20 --proxy-cacert /trust/bundle.pem --data x "$@" {TARGET}
"""
DIRECT: Final = f"""
curl --silent --show-error --max-time 20 --cacert /trust/bundle.pem --data x \
  --header "Sidekey-Token: $(cat /run/sidekey/$1)" --write-out '\\n%{{http_code}}' https://{GATEWAY}/i/crm/x
"""
METRICS: Final = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:15091/metrics').read().decode())"
)
PRESENTED: Final = f"import ssl; print(ssl.get_server_certificate({tuple(GATEWAY.split(':'))!r}))"


class Gateway:
    """A release of one pod, with the Secret of its certificate."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self._stem = folder / "tls"
        self._authority = Authority("gateway-ca")

    def renew_certificate(self) -> str:
        """Put a new key and certificate into the Secret, and return the certificate."""
        self._authority.issue_as_cert_manager(self._stem, GATEWAY.partition(":")[0])
        tls_secret(self.namespace, "gateway-tls", self._stem, self._authority)
        return self._stem.with_suffix(".crt").read_text()

    def send(self, caller: str, token: str) -> tuple[Any, int]:
        """Send a request to the reverse proxy from a caller's pod, and return the response's body and status."""
        body, status = self.namespace.execute(caller, "sh", "-c", DIRECT, "sh", token).splitlines()
        return json.loads(body), int(status)

    def send_through_proxy(self, caller: str, token: str, *arguments: str) -> str:
        """Send a request through HTTPS_PROXY from a caller's pod, and return what curl prints."""
        return self.namespace.execute(caller, "sh", "-c", PROXIED, "sh", token, *arguments)

    def pod(self) -> Any:
        """Return the pod of the gateway."""
        [server] = self.namespace.pods("app.kubernetes.io/component=gateway")
        return server

    def denials(self, reason: str) -> float:
        """Return how many requests were denied for a reason."""
        lines = self.namespace.execute(self.pod()["metadata"]["name"], PYTHON, "-c", METRICS).splitlines()
        denials = [line for line in lines if line.startswith("sidekey_denials_total{") and f'reason="{reason}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in denials)


@pytest.fixture(scope="module")
def gateway(cluster: Cluster, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Install a gateway with TLS, and start a pod for each ServiceAccount."""
    folder = tmp_path_factory.mktemp("tls")
    with cluster.namespace(NAME) as namespace:
        authority = Authority("callers-ca")
        authority.save(folder / "ca")
        tls_secret(namespace, "callers-ca", folder / "ca", authority)
        installed = Gateway(namespace, folder)
        installed.renew_certificate()
        upstream.prepare(namespace, "one")
        discovery = json.loads(cluster.run("kubectl", "get", "--raw", "/.well-known/openid-configuration"))
        values = {
            **upstream.values(cluster),
            "replicaCount": 1,
            "callers": {"billing": {"serviceAccount": {"name": "billing"}, "integrations": ["crm"]}},
            "tls": {"secret": "gateway-tls"},
            "serviceAccounts": {"issuer": discovery["issuer"]},
            "httpsProxy": {"caSecret": "callers-ca", "extraRoots": [{"secret": "gateway-tls", "key": "ca.crt"}]},
        }
        values["networkPolicy"]["extraEgress"].append(to_api_server(cluster))
        namespace.helm("install", "sidekey", CHART, values)
        bundle = namespace.execute("deployment/sidekey", "cat", "/run/sidekey/trust/bundle.pem")
        namespace.config_map("trust", {"bundle.pem": bundle})
        for name in ("billing", "other"):
            namespace.kubectl("create", "serviceaccount", name)
            namespace.apply(caller_pod(name))
        namespace.start_client(bundle)
        namespace.kubectl("wait", "--for=condition=Ready", "pod/billing", "pod/other", "--timeout=60s")
        yield installed


def to_api_server(cluster: Cluster) -> dict[str, Any]:
    """Build the egress rule that the chart's README asks for."""
    selector = "--selector=kubernetes.io/service-name=kubernetes"
    [found] = Namespace(cluster, "default").get("endpointslices", selector)["items"]
    addresses = [address for endpoint in found["endpoints"] for address in endpoint["addresses"]]
    return {
        "to": [{"ipBlock": {"cidr": f"{address}/32"}} for address in addresses],
        "ports": [{"port": port["port"]} for port in found["ports"]],
    }


def caller_pod(account: str) -> dict[str, Any]:
    """Describe a pod with curl, and with two tokens of a ServiceAccount: for Sidekey, and for the API server."""
    described = pod(
        account, TOOLS, command=("sleep", "infinity"), mounts={"trust": "/trust"}, labels={"sidekey-client": "true"}
    )
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "sidekey", "expirationSeconds": 600}},
        {"serviceAccountToken": {"path": "api-token"}},
    ]
    spec = described["spec"]
    spec["serviceAccountName"] = account
    spec["volumes"].append({"name": "tokens", "projected": {"sources": sources}})
    spec["containers"][0]["volumeMounts"].append({"name": "tokens", "mountPath": "/run/sidekey"})
    return described


def test_helm_test_passes(gateway: Gateway) -> None:
    gateway.namespace.helm("test", "sidekey")
    # Helm also reports success for a chart without tests.
    assert "pod/sidekey-test" in gateway.namespace.kubectl("get", "events")


def test_service_account_sends_through_an_https_proxy(gateway: Gateway) -> None:
    assert json.loads(gateway.send_through_proxy("billing", "token"))["sender"] == "webhooks:one"


def test_service_account_sends_to_the_reverse_proxy(gateway: Gateway) -> None:
    body, status = gateway.send("billing", "token")
    assert (body["sender"], status) == ("webhooks:one", 200)


@pytest.mark.parametrize(
    ("caller", "token", "reason"), [("other", "token", "token_unknown"), ("billing", "api-token", "jwt_invalid")]
)
def test_token_of_another_account_or_audience_is_refused(
    caller: str, token: str, reason: str, gateway: Gateway
) -> None:
    before = gateway.denials(reason)
    problem, status = gateway.send(caller, token)
    assert (problem["code"], status) == ("caller_denied", 401)
    script = PROXIED + '[ "$?" = 56 ]'  # the refused CONNECT
    written = gateway.namespace.execute(
        caller, "sh", "-c", script, "sh", token, "--no-show-error", "--write-out", "%{http_connect}"
    )
    assert written == "407"
    assert gateway.denials(reason) == before + 2


def test_renewed_certificate_is_presented_without_a_restart_and_loses_no_request(gateway: Gateway) -> None:
    namespace = gateway.namespace
    before = gateway.pod()
    token = namespace.execute("billing", "cat", "/run/sidekey/token")
    trust = ("SSL_CERT_FILE=/load/ca.crt",)
    proxy = (*trust, f"HTTPS_PROXY=https://crm:{token}@{GATEWAY}")
    url = f"https://{GATEWAY}/i/crm/x"
    load = functools.partial(namespace.start_load, token, senders=2, pause=0.05, seconds=150)
    loads = {
        "kept connections": load(url, connections="keep", environment=trust),
        "new connections": load(url, connections="new", environment=trust),
        "kept tunnels": load(TARGET, connections="keep", environment=proxy),
        "new tunnels": load(TARGET, connections="new", environment=proxy),
    }
    for process in loads.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "sending\n"
    certificate = gateway.renew_certificate()
    seconds = eventually(
        "the new certificate is presented",
        lambda: namespace.execute(CLIENT, PYTHON, "-c", PRESENTED).split() == certificate.split(),
        120,
    )
    print(f"a new certificate is presented after {seconds:.0f} s")
    assert json.loads(gateway.send_through_proxy("billing", "token"))["sender"] == "webhooks:one"
    namespace.execute(CLIENT, "touch", "/tmp/stop")
    counts = namespace.counts(loads)
    for name, count in counts.items():
        print(f"{name}: {count['total']} requests, {count['lost']} lost")
    assert [count["first"] for count in counts.values()] == [[]] * len(counts)
    after = gateway.pod()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [status["restartCount"] for status in after["status"]["containerStatuses"]] == [0]
