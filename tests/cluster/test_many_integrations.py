"""A gateway with 10,000 integrations of several teams, within the memory limit that the documentation recommends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from cluster.conftest import HOST, Upstream
from cluster.kube import CHART, Cluster, Namespace, eventually

SELECTOR: Final = "app.kubernetes.io/component=gateway"
TOKEN: Final = "billing-caller-token-0001"
TEAMS: Final = 5
INTEGRATIONS: Final = 10_000
LIMIT: Final = "640Mi"
"""The recommendation of docs/operations.md for 10,000 integrations."""


def team(number: int, user: str = "webhooks") -> dict[str, str]:
    """Build the ConfigMap of one team: its share of the integrations, at `/team-N/M` of the upstream."""
    auth = {"type": "basic", "username": user, "password": {"file": "/run/secrets/crm/password"}}
    integrations = {
        f"team-{number}-{member}": {"endpoint_prefix": f"https://{HOST}/team-{number}/{member}", "auth": auth}
        for member in range(INTEGRATIONS // TEAMS)
    }
    return {"sidekey.yaml": json.dumps({"version": 1, "integrations": integrations}, separators=(",", ":"))}


@pytest.fixture(scope="module")
def teams(cluster: Cluster, upstream: Upstream) -> Iterator[Namespace]:
    """Install a gateway and a client in a namespace."""
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
        namespace.start_client()
        yield namespace


def send(namespace: Namespace, *names: str) -> list[str]:
    """Send a request to each integration, and return the response bodies. Raises CommandFailed."""
    return namespace.send(TOKEN, *(f"http://sidekey:15080/i/{name}/x" for name in names))


def test_checks_in_the_container_do_not_kill_the_serving_process(teams: Namespace) -> None:
    [before] = teams.pods(SELECTOR)
    names = [f"team-{number}-{member}" for number in range(TEAMS) for member in range(0, INTEGRATIONS // TEAMS, 100)]
    send(teams, *names)
    command = ("kubectl", f"--namespace={teams.name}", "exec", before["metadata"]["name"], "--", "sidekey", "check")
    checks = [teams.cluster.start(*command) for _ in range(3)]
    send(teams, *names)
    for check in checks:
        assert f"ok: {INTEGRATIONS} integrations" in teams.cluster.finish(check)
    [after] = teams.pods(SELECTOR)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [status["restartCount"] for status in after["status"]["containerStatuses"]] == [0]
    send(teams, *names)


def test_changed_config_of_a_team_is_used_without_a_restart(teams: Namespace) -> None:
    teams.config_map("team-0", team(0, user="changed"))
    seconds = eventually("the new user name is used", lambda: "changed:one" in send(teams, "team-0-7")[0], 120)
    print(f"a changed ConfigMap of {INTEGRATIONS // TEAMS} integrations is in use after {seconds:.0f} s")
    [pod] = teams.pods(SELECTOR)
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]
