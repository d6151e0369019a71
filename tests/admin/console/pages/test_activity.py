"""admin/console/pages/activity.py: what operators did, the newest first."""

from __future__ import annotations

import re

from admin.conftest import Named
from admin.console.conftest import LogIn
from support.api import TOKENS, Api, Running, basic


def test_the_activity_says_who_logged_in_tested_and_changed(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """From where, and with which outcome; pages go back in time."""
    admin, name = log_in("admin"), named("seen")
    api.make("/integrations", {"id": name, **basic(running.upstream)})
    assert Api(running.child.admin_port, TOKENS["admin"]).ask("POST", f"/integrations/{name}/test").status == 200
    text = admin.get("/activity").text
    assert f"admin-of-file test integration {name} OK 127.0.0.1" in text
    assert f"editor-of-file create integration {name} /auth" in text
    assert "admin-of-file login OK 127.0.0.1" in text
    for _ in range(60):
        log_in("viewer")
    older = re.search(r'href="(/activity\?before=\d+)"', admin.get("/activity").body)
    assert older is not None
    assert name in admin.get(older[1]).text
