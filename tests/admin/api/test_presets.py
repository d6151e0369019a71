"""admin/api/presets.py: presets are made, read, changed, deleted and released, by HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.api import Api, basic


def document(integration: str, upstream: int, **more: Any) -> dict[str, Any]:
    return {
        "integration": integration,
        "url": f"http://127.0.0.1:{upstream}/v1/x",
        "content_type": "application/json",
        "body": {"b": 1, "a": "x"},
        **more,
    }


def test_a_preset_from_its_making_to_its_end(api: Api, named: Callable[[str], str], running: Any) -> None:
    crm, name = named("crm"), named("hook")
    api.make("/integrations", {"id": crm, **basic(running.upstream)})
    made = api.make("/presets", {"id": name, **document(crm, running.upstream)})
    assert made["status"] == "ok", made
