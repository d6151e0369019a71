"""Nothing is imported on the event loop once Sidekey listens: a request would wait for it."""

from __future__ import annotations

import signal
from base64 import b64encode
from pathlib import Path

import pytest

from support.ask import get
from support.child import Child
from support.ports import free_port

_RECORDER = """
import sys, threading

class Recorder:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            print("imported:", name, file=sys.stderr, flush=True)

sys.meta_path.insert(0, Recorder())
import wave

from sidekey.cli import main
main(sys.argv[1:], prog_name="sidekey")
"""
"""`sidekey`, saying what it imports; and first a module that it never needs, by which the test sees that it is told."""

_BASIC = "endpoint_prefix: {scheme}://127.0.0.1:{port}\n    auth: {{type: basic, username: u, password: {secret}}}"
_OAUTH2 = (
    "endpoint_prefix: http://127.0.0.1:{port}\n    allow_other_domains: true\n"
    "    allowed_domains: ['http://127.0.0.1:{port}']\n"
    "    auth: {{type: oauth2, client_id: c, client_secret: {secret}, token_endpoint: 'https://127.0.0.1:{port}/token'}}"
)


STANZAS = {
    "http": _BASIC.replace("{scheme}", "http"),
    "https": _BASIC.replace("{scheme}", "https"),
    "oauth2": _OAUTH2,
}

_PLACE = "endpoint_prefix: http://127.0.0.1:{port}\n    auth: "
_FURTHER = (
    "type: headers, headers: {{X-Key: {{secret: {secret}}}}}",
    "type: signature, scheme: github, secret: {secret}",
    "type: jwt, algorithm: HS256, secret: {{insecure_value: of-at-least-as-many-bytes-as-32}}, claims: {{iss: i}}",
    "type: aws_sigv4, region: eu-west-1, service: sqs, access_key_id: AKIAEXAMPLE, secret_access_key: {secret}",
    "type: session, login: {{url: 'https://127.0.0.1:{port}/x', body: {{key: {secret}}}}}, token: {{from: token}}",
)
ADDED = (*STANZAS.values(), *(_PLACE + f"{{{{{each}}}}}" for each in _FURTHER))
"""Integrations that a reload adds, most of them of kinds that nothing has imported before."""


def filled(stanza: str) -> str:
    """An integration's text, for a port that nobody listens on."""
    return stanza.format(port=free_port(), secret="{insecure_value: secret}")


_TOKEN = {"Sidekey-Token": "token"}
_STORE = """\
store: {path: ../state/store.db, keys: [{id: k1, key: {env: STORE_KEY}}]}
callers: {all: {token: {insecure_value: token}, integrations: "*"}}
"""


@pytest.mark.parametrize(
    ("stanza", "top"),
    [*((stanza, "") for stanza in STANZAS.values()), (STANZAS["http"], _STORE)],
    ids=[*STANZAS, "a store"],
)
def test_nothing_is_imported_on_the_loop_once_it_listens(stanza: str, top: str, tmp_path: Path) -> None:
    """For requests, refused ones, pages of the admin listener and a reload; what a thread imports holds nobody up."""
    (tmp_path / "config").mkdir()
    (tmp_path / "state").mkdir()
    environment = {"STORE_KEY": b64encode(bytes(32)).decode()}
    config = f"{top}integrations:\n  one:\n    {filled(stanza)}\n"
    with Child(config, tmp_path / "config", environment=environment, code=_RECORDER) as child:
        assert get(child.proxy_port, "/i/one/x", _TOKEN).status == 502
        assert get(child.proxy_port, "/i/unknown/x", _TOKEN).status == 403
        pages = {"/readyz": 200, "/healthz": 200, "/metrics": 200, "/api/absent": 404}
        pages |= {"/": 303, "/login": 200, "/static/absent": 404} if top else {"/absent": 404}
        for page, status in pages.items():
            assert get(child.admin_port, page).status == status
        added = "".join(f"  kind{number}:\n    {filled(each)}\n" for number, each in enumerate(ADDED))
        child.rewrite(child.config.read_text() + added)
        child.process.send_signal(signal.SIGHUP)
        child.wait_for_line(lambda line: '"config reloaded"' in line)
        for name in ("one", *(f"kind{number}" for number in range(len(ADDED)))):
            assert get(child.proxy_port, f"/i/{name}/x", _TOKEN).status == 502
        assert child.stop() == 0
    events = [("listening" if '"listening"' in line else line) for line in child.lines]
    listening, draining = events.index("listening"), next(i for i, line in enumerate(events) if '"draining"' in line)
    assert "imported: wave" in events[:listening]
    assert [line for line in events[listening:draining] if line.startswith("imported: ")] == []
