"""How a service calls an integration, or sends by a preset: commands and code to copy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

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


def ways_to_send(
    snapshot: Snapshot, at: Address, name: str, content_type: str, example: Mapping[str, Any] | str
) -> tuple[Way, ...]:
    """Ways to send by a preset: `example` are parameters, or a payload of this Content-Type.

    Commands and code are ASCII alone: what a text in an example would look like elsewhere changes nothing here.
    """
    callers = snapshot.callers is not None
    payload = example if isinstance(example, str) else json.dumps(example)
    if at.path is not None:
        curl = _curl_post(f"http://localhost/p/{name}", content_type, payload, callers=callers, socket=str(at.path))
        return (Way("curl", curl),)
    url = f"http://{at.reachable()}/p/{name}"
    return (
        Way("curl", _curl_post(url, content_type, payload, callers=callers)),
        Way("Python", _python_post(url, content_type, example, callers=callers)),
        Way("Node", _node_post(url, content_type, example, callers=callers)),
    )


def _curl_post(url: str, content_type: str, payload: str, *, callers: bool, socket: str = "") -> str:
    by = f" --unix-socket {shlex.quote(socket)}" if socket else ""
    token = f' -H "Sidekey-Token: ${TOKEN_VARIABLE}"' if callers else ""
    header = shlex.quote(f"Content-Type: {content_type}")
    # Not --data: of that, a text that begins with @ names a file.
    return f"curl{by}{token} -H {header} --data-raw {shlex.quote(payload)} {shlex.quote(url)}"


def _python_post(url: str, content_type: str, example: Mapping[str, Any] | str, *, callers: bool) -> str:
    token = f'"Sidekey-Token": os.environ["{TOKEN_VARIABLE}"]' if callers else ""
    typed = f'"Content-Type": {content_type!r}' if isinstance(example, str) else ""
    headers = ", ".join(each for each in (typed, token) if each)
    sent = f"data={example!a}" if isinstance(example, str) else f"json={example!a}"
    call = f"response = requests.post({url!r}, {sent}{f', headers={{{headers}}}' if headers else ''})"
    return "\n".join([*(["import os"] if callers else []), "import requests", "", call])


def _node_post(url: str, content_type: str, example: Mapping[str, Any] | str, *, callers: bool) -> str:
    token = f', "Sidekey-Token": process.env.{TOKEN_VARIABLE}' if callers else ""
    body = json.dumps(example) if isinstance(example, str) else f"JSON.stringify({json.dumps(example)})"
    headers = f'{{"Content-Type": {json.dumps(content_type)}{token}}}'
    return f'const response = await fetch({json.dumps(url)}, {{method: "POST", headers: {headers}, body: {body}}})'
