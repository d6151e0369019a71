"""A secret moves to a file that is not there yet: its last value neither goes elsewhere nor opens anything."""

from __future__ import annotations

import json
from pathlib import Path

from support.files import replace
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import connect
from support.serving import HEAD, RunningApp, serving
from support.upstream import RawUpstream, respond_with
from support.wire import Message

KEYS = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"keys":[]}'
BEARER = "token-of-the-old-issuer"
ISSUER = """\
jwt_issuers:
  cluster:
    issuer: https://issuer.test
    audience: sidekey
    jwks: {{{{url: 'https://{host}:{port}/keys'}}}}
    token: {{{{file: {token}}}}}
    allow_private: [127.0.0.0/8]
callers: {{{{svc: {{{{jwt: {{{{issuer: cluster, subject: svc}}}}}}}}}}}}
integrations:
"""
ADMIN = """\
admin: {{{{tokens: {{{{ops: {{{{token: {{{{file: {token}}}}}, role: {role}}}}}{more}}}}}}}}}
integrations:
"""
INTEGRATION = "  it: {endpoint_prefix: 'http://up.test', auth: {type: headers, headers: {X-A: b}}}\n"


def rewrite(folder: Path, old: str, new: str) -> None:
    path = folder / "sidekey.yaml"
    assert old in path.read_text()
    replace(path, path.read_text().replace(old, new))


async def test_bearer_token_does_not_go_to_another_jwks_url(tmp_path: Path, ca: Authority) -> None:
    (tmp_path / "old").write_text(BEARER)
    hosts = {"one.test": ["127.0.0.1"], "two.test": ["127.0.0.1"]}
    async with (
        RawUpstream(respond_with(KEYS), ssl_context=ca.server_context("one.test")) as first,
        RawUpstream(respond_with(KEYS), ssl_context=ca.server_context("two.test")) as second,
    ):
        head = HEAD.replace("integrations:\n", ISSUER.format(host="one.test", port=first.port, token="old"))
        async with serving(INTEGRATION, tmp_path, ca, hosts=hosts, head=head) as sidekey:
            await eventually(lambda: BEARER.encode() in b"".join(first.received))
            rewrite(
                tmp_path,
                f"one.test:{first.port}/keys'}}\n    token: {{file: old}}",
                f"two.test:{second.port}/keys'}}\n    token: {{file: moved}}",
            )
            sidekey.hang_up()
            await sidekey.logged("config reloaded")
            line = await sidekey.logged("secret or CA file cannot be read; what needs it is unavailable")
            assert "jwt_issuers.cluster.token" in line["place"]
            # Once the token is there, the new one goes to the new URL.
            (tmp_path / "moved").write_text("token-of-the-new-issuer")
            sidekey.hang_up()
            await eventually(lambda: b"token-of-the-new-issuer" in b"".join(second.received))
            assert BEARER.encode() not in b"".join(second.received)


async def who(sidekey: RunningApp, token: str) -> str | None:
    """Return the operator that the API knows by a token."""
    session = json.loads((await admin_request(sidekey, "/api/v1/session", token)).body)
    return None if session["who"] is None else str(session["who"]["name"])


async def admin_request(sidekey: RunningApp, path: str, token: str = "") -> Message:
    async with connect(sidekey.app.admin_address.port) as client:
        fields = f"Authorization: Bearer {token}\r\n" if token else ""
        await client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
        return await client.response()


async def test_admin_token_that_moved_no_longer_opens_the_api(tmp_path: Path, ca: Authority) -> None:
    (tmp_path / "old").write_text("token-of-an-operator-0123456789")
    (tmp_path / "other").write_text("token-of-another-operator-01234")
    more = ", other: {{token: {{file: other}}, role: admin}}"
    head = HEAD.replace("integrations:\n", ADMIN.format(token="old", role="viewer", more=more))
    async with serving(INTEGRATION, tmp_path, ca, head=head) as sidekey:
        assert await who(sidekey, "token-of-an-operator-0123456789") == "ops"
        rewrite(tmp_path, "{file: old}", "{file: moved}")
        sidekey.hang_up()
        await sidekey.logged("config reloaded")
        assert await who(sidekey, "token-of-an-operator-0123456789") is None
        assert await who(sidekey, "token-of-another-operator-01234") == "other"
        (tmp_path / "moved").write_text("token-of-the-moved-operator-012")
        sidekey.hang_up()
        await eventually(lambda: sum(line["event"] == "config reloaded" for line in sidekey.lines()) == 2)
        assert await who(sidekey, "token-of-the-moved-operator-012") == "ops"


async def test_reload_without_an_admin_is_refused_and_told(tmp_path: Path, ca: Authority) -> None:
    """The old config stays in use, with its token. Log, metric and `/readyz` say so until a reload works."""
    (tmp_path / "old").write_text("token-of-an-operator-0123456789")
    head = HEAD.replace("integrations:\n", ADMIN.format(token="old", role="admin", more=""))
    async with serving(INTEGRATION, tmp_path, ca, head=head) as sidekey:
        assert (await admin_request(sidekey, "/readyz")).body == b"ok\n"
        rewrite(tmp_path, "{file: old}", "{file: moved}")
        sidekey.hang_up()
        line = await sidekey.logged("config error")
        assert ": admin: would have no admin" in line["place"]
        assert await who(sidekey, "token-of-an-operator-0123456789") == "ops"
        assert await sidekey.metric("sidekey_config_last_reload_successful") == 0
        ready = await admin_request(sidekey, "/readyz")
        assert (ready.status, b"the last reload was refused" in ready.body) == (200, True)
        (tmp_path / "moved").write_text("token-of-the-moved-operator-012")
        await eventually(lambda: any(line["event"] == "config reloaded" for line in sidekey.lines()))
        assert (await admin_request(sidekey, "/readyz")).body == b"ok\n"
        assert await who(sidekey, "token-of-an-operator-0123456789") is None
