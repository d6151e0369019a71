"""A real Prometheus with the shipped rules scrapes Sidekey: alerts keep firing through a restart."""

from __future__ import annotations

from pathlib import Path

from support.http_get import get
from support.prometheus_server import prometheus, query, until
from support.sidekey_process import SidekeyProcess

ALERT = "SidekeyUnknownIntegration"
CONFIG = """\
integrations:
  crm: {endpoint_prefix: "https://crm.example.com", auth: {type: basic, username: u, password: {env: SECRET}}}
"""


def scrapes(port: int, value: str) -> bool | None:
    """Return True if the target's `up` has this value in the last scrape."""
    data = query(port, "query?query=up")
    return True if data and [sample["value"][1] for sample in data["result"]] == [value] else None


def firing(port: int) -> str | None:
    """Return the time at which the alert began to fire."""
    alerts = (query(port, "alerts") or {"alerts": []})["alerts"]
    times = [
        alert["activeAt"] for alert in alerts if alert["labels"]["alertname"] == ALERT and alert["state"] == "firing"
    ]
    return times[0] if times else None


def test_alerts_of_a_real_prometheus_keep_firing_through_a_restart(tmp_path: Path) -> None:
    """The alert keeps its start time, and no rule has an error."""
    child = SidekeyProcess(CONFIG, tmp_path, environment={"SECRET": "s3cret"})
    with child, prometheus(tmp_path, child.admin_port) as port:
        until(lambda: scrapes(port, "1"))
        for _ in range(6):
            assert get(child.proxy_port, "/i/stranger/x").status == 403
        since = until(lambda: firing(port))
        child.stop()
        until(lambda: scrapes(port, "0"))
        assert firing(port) == since
        with child:
            until(lambda: scrapes(port, "1"))
            assert get(child.proxy_port, "/i/stranger/x").status == 403
            until(lambda: query(port, "query?query=sidekey_requests_total")["result"] or None)
            assert firing(port) == since
            groups = query(port, "rules")["groups"]

            assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
