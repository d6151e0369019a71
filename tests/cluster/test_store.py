"""Gateways on one PostgreSQL: the chart's example with a store."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cluster.conftest import HOST, PRIVATE, Upstream
from cluster.images import POSTGRES, POSTGRES_USER
from cluster.kube import CHART, EXAMPLES, PYTHON, Cluster, Namespace, eventually, pod

OPERATOR: Final = "operator-token-that-is-long-enough-0001"
SELECTOR: Final = "app.kubernetes.io/component=gateway"

SERVE = """
set -e
export HOME=/tmp LC_ALL=C
cp /tls/tls.key /tmp/key; chmod 600 /tmp/key
initdb --pgdata=/tmp/data --username=postgres --auth=trust >/dev/null
echo "hostssl all all all scram-sha-256" >/tmp/data/pg_hba.conf
echo "local all all trust" >>/tmp/data/pg_hba.conf
( until psql -h /tmp -U postgres -c "create role sidekey login password 'store-password'" 2>/dev/null; do sleep .2; done
  psql -h /tmp -U postgres -c "create database sidekey owner sidekey" ) &
exec postgres -D /tmp/data -c listen_addresses='*' -c unix_socket_directories=/tmp -c ssl=on \
  -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tmp/key
"""
CALL = """
import http.client, json, sys
method, path, token, body = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", 15090, timeout=20)
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
connection.request(method, "/api/v1" + path, body or None, headers)
response = connection.getresponse()
print(json.dumps([response.status, json.loads(response.read() or b"null")]))
"""


@pytest.fixture(scope="module")
def database(cluster: Cluster, upstream: Upstream) -> Iterator[str]:
    """Start a PostgreSQL server, and yield its host."""
    with cluster.namespace("sidekey-databases") as namespace, tempfile.TemporaryDirectory() as scratch:
        host = "postgres.sidekey-databases.svc"
        upstream.authority.issue(Path(scratch, "tls"), host, names=(host,))
        namespace.config_map("tls", {name: Path(scratch, name).read_text() for name in ("tls.crt", "tls.key")})
        labels = {"app": "postgres"}
        command = ("/bin/bash", "-c", SERVE)
        server = pod("postgres", POSTGRES, command=command, mounts={"tls": "/tls"}, labels=labels, user=POSTGRES_USER)
        server["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 5432}, "periodSeconds": 1}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "postgres"},
            "spec": {"selector": labels, "ports": [{"port": 5432}]},
        }
        namespace.apply(server, service)
        namespace.kubectl("wait", "--for=condition=Ready", "pod/postgres", "--timeout=90s")
        yield host


@pytest.fixture(scope="module")
def managed(cluster: Cluster, upstream: Upstream, database: str) -> Iterator[Namespace]:
    """Install the example, unchanged except for its callers and the addresses of database and upstream."""
    example = yaml.safe_load((EXAMPLES / "gateway-store" / "values.yaml").read_text())
    overrides = upstream.values(cluster)
    del overrides["config"]["integrations"], overrides["secrets"]
    overrides["config"]["store"] = {"allow_private": PRIVATE}
    database_peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "sidekey-databases"}}}
    values = {
        **example,
        **overrides,
        "networkPolicy": {
            **overrides["networkPolicy"],
            "clients": [{"podSelector": {"matchLabels": {"sidekey-client": "true"}}}],
            "database": {"to": [database_peer]},
        },
        **{name: [*example[name], *overrides[name]] for name in ("extraVolumes", "extraVolumeMounts")},
    }
    with cluster.namespace("sidekey-store") as namespace:
        namespace.config_map("company-ca", {"ca.crt": upstream.authority.certificate.decode()})
        namespace.config_map("postgres-ca", {"ca.crt": upstream.authority.certificate.decode()})
        url = f"postgresql://sidekey:store-password@{database}/sidekey?sslmode=verify-full&sslrootcert=/etc/postgres-ca/ca.crt"
        namespace.secret("sidekey-store", k1=base64.b64encode(os.urandom(32)).decode(), url=url)
        namespace.secret("sidekey-operators", ops=OPERATOR)
        namespace.helm("install", "sidekey", CHART, values)
        yield namespace


def call(namespace: Namespace, pod: str, method: str, path: str, body: Any = None) -> Any:
    """Call the API of a pod, and return the body of its successful response."""
    text = "" if body is None else json.dumps(body)
    status, document = json.loads(namespace.execute(pod, PYTHON, "-c", CALL, method, path, OPERATOR, text))
    assert status < 300, document
    return document


def test_all_pods_serve_an_integration_that_one_pod_stored(managed: Namespace) -> None:
    pods = managed.pods(SELECTOR)
    assert len(pods) == 3
    first = pods[0]["metadata"]["name"]
    auth = {"type": "basic", "username": {"value": "webhooks"}, "password": {"value": "stored"}}
    integration = {"id": "crm", "endpoint_prefix": f"https://{HOST}/hooks/v1", "auth": auth}
    call(managed, first, "POST", "/integrations", integration)
    token = call(managed, first, "POST", "/callers", {"name": "billing", "integrations": ["crm"]})["token"]
    managed.start_client()
    for server in pods:
        url = f"http://{server['status']['podIP']}:15080/i/crm/x"
        seconds = eventually(
            f"{server['metadata']['name']} serves it",
            lambda url=url: "webhooks:stored" in managed.send(token, url)[0],
            30,
        )
        print(f"in use after {seconds:.1f} s")
