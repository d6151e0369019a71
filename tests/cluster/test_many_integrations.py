"""A gateway with 10,000 integrations of several teams, within the memory limit that the documentation recommends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from cluster.conftest import HOST, Upstream
from cluster.kube import CHART, PYTHON, Cluster, Namespace, eventually

SELECTOR: Final = "app.kubernetes.io/component=gateway"
TOKEN: Final = "billing-caller-token-0001"
TEAMS: Final = 5
INTEGRATIONS: Final = 10_000
LIMIT: Final = "640Mi"
"""For 10,000 integrations: docs/operations.md."""

SEND: Final = """
import http.client, sys
token, *names = sys.argv[1:]
for name in names:
    connection = http.client.HTTPConnection("sidekey", 15080, timeout=20)
    connection.request("POST", f"/i/{name}/x", b"x", {"Sidekey-Token": token})
    response = connection.getresponse()
    print(response.status, response.read().decode())
"""


def team(number: int, user: str = "webhooks") -> dict[str, str]:
    """The ConfigMap of one team: its share of the integrations, as `/team-N/M` below the upstream's host."""
    auth = {"type": "basic", "username": user, "password": {"file": "/run/secrets/crm/password"}}
    integrations = {
        f"team-{number}-{each}": {"endpoint_prefix": f"https://{HOST}/team-{number}/{each}", "auth": auth}
        for each in range(INTEGRATIONS // TEAMS)
    }
    return {"sidekey.yaml": json.dumps({"version": 1, "integrations": integrations}, separators=(",", ":"))}


@pytest.fixture(scope="module")
def teams(cluster: Cluster, upstream: Upstream) -> Iterator[Namespace]:
    """A namespace with the installed gateway, and a client."""
    with cluster.namespace("sidekey-teams") as namespace:
        upstream.prepare(namespace, "one")
        namespace.secret("callers", billing=TOKEN)
        for number in range(TEAMS):
            namespace.config_map(f"team-{number}", team(number))
        values: dict[str, Any] = {
            **upstream.values(cluster),
            "replicaCount": 1,
            "resources": {"requests": {"cpu": "100m", "memory": LIMIT}, "limits": {"memory": LIMIT}},
            "configSources": [{"name": f"team-{number}", "configMap": f"team-{number}"} for number in range(TEAMS)],
            "callers": {"billing": {"secret": {"name": "callers"}, "integrations": "*"}},
        }
        values["config"]["integrations"] = {}
        namespace.helm("install", "sidekey", CHART, values)
        namespace.client()
        yield namespace


def send(namespace: Namespace, *names: str) -> list[str]:
    """The status and body of a request to each of these integrations."""
    return namespace.execute("client", PYTHON, "-c", SEND, TOKEN, *names).splitlines()


def test_checks_beside_it_do_not_end_the_process_that_serves(teams: Namespace) -> None:
    [before] = teams.pods(SELECTOR)
    names = [f"team-{number}-{each}" for number in range(TEAMS) for each in range(0, INTEGRATIONS // TEAMS, 100)]
    assert {line.partition(" ")[0] for line in send(teams, *names)} == {"200"}
    command = ("kubectl", f"--namespace={teams.name}", "exec", before["metadata"]["name"], "--", "sidekey", "check")
    checks = [teams.cluster.start(*command) for _ in range(3)]
    assert {line.partition(" ")[0] for line in send(teams, *names)} == {"200"}
    for check in checks:
        assert f"ok: {INTEGRATIONS} integrations" in teams.cluster.finish(check)
    [after] = teams.pods(SELECTOR)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [status["restartCount"] for status in after["status"]["containerStatuses"]] == [0]
    assert {line.partition(" ")[0] for line in send(teams, *names)} == {"200"}


def test_changed_config_of_a_team_is_used_without_a_restart(teams: Namespace) -> None:
    teams.config_map("team-0", team(0, user="changed"))
    took = eventually("the new user name is used", lambda: "changed:one" in send(teams, "team-0-7")[0], 120)
    print(f"a changed ConfigMap of {INTEGRATIONS // TEAMS} integrations is in use after {took:.0f} s")
    [pod] = teams.pods(SELECTOR)
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]
