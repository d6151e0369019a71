"""How a service calls an integration: commands and code to copy."""

from __future__ import annotations

import json
import shlex
from typing import Final, NamedTuple

from sidekey.runtime.snapshot import Address, Snapshot

TOKEN_VARIABLE: Final = "SIDEKEY_TOKEN"  # noqa: S105  a variable's name
"""Where examples take a caller's token from: none of them shows one."""


class Way(NamedTuple):
    """One way to call, with the text to copy."""

    name: str
    text: str


def ways_to_call(snapshot: Snapshot, at: Address, name: str, path: str) -> tuple[Way, ...]:
    """Ways to send `path` (with its query) through an integration, by the proxy listener that is bound `at`."""
    callers = snapshot.callers is not None
    if at.path is not None:
        return (Way("curl", _curl(f"http://localhost/i/{name}{path}", callers=callers, socket=str(at.path))),)
    proxy = at.reachable()
    url = f"http://{proxy}/i/{name}{path}"
    return (
        Way("curl", _curl(url, callers=callers)),
        Way("HTTP_PROXY", _proxy(proxy, name, callers=callers)),
        Way("Python", _python(url, callers=callers)),
        Way("Node", _node(url, callers=callers)),
    )


def _curl(url: str, *, callers: bool, socket: str = "") -> str:
    by = f" --unix-socket {shlex.quote(socket)}" if socket else ""
    token = f' -H "Sidekey-Token: ${TOKEN_VARIABLE}"' if callers else ""
    return f"curl{by}{token} {shlex.quote(url)}"


def _proxy(at: Address, name: str, *, callers: bool) -> str:
    password = f":${TOKEN_VARIABLE}" if callers else ""
    return f'export HTTP_PROXY="http://{name}{password}@{at}"'


def _python(url: str, *, callers: bool) -> str:
    lines = ["import os", ""] if callers else []
    headers = f', headers={{"Sidekey-Token": os.environ["{TOKEN_VARIABLE}"]}}' if callers else ""
    return "\n".join([*lines[:1], "import requests", "", f"response = requests.get({url!r}{headers})"])


def _node(url: str, *, callers: bool) -> str:
    headers = f', {{headers: {{"Sidekey-Token": process.env.{TOKEN_VARIABLE}}}}}' if callers else ""
    return f"const response = await fetch({json.dumps(url)}{headers})"
