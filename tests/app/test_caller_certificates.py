"""TLS on the proxy listener of a running Sidekey, and callers with certificates."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as client
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support import programs
from support.caller_certificates import SPIFFE_ID, CallerCa, dns, uri
from support.certificates import SERVER_AUTH
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import ConnectionEnded, RawConnection, connect
from support.serving import RunningApp, problem, serving
from support.upstream import RawUpstream
from support.wire import Message

HEAD = """\
version: 1
listen:
  proxy: "127.0.0.1:0"
  admin: "127.0.0.1:0"
  tls: {{certificate: {{file: server.crt}}, private_key: {{file: server.key}}, CLIENTS}}
network: {{allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {bundle}}}, hosts: {hosts}}}
log: {{level: debug, access: all}}
timeouts: {{connect: 45s, request_head: 45s, response: 45s}}
ca: {{folder: state}}
callers:
  billing: {{integrations: [it], token: {{insecure_value: token-billing}}, certificate: {{san: "SPIFFE"}}}}
  web: {{integrations: [it], certificate: {{san: "dns:web.example.org"}}}}
  job: {{integrations: [it], token: {{insecure_value: token-job}}}}
integrations:
""".replace("SPIFFE", SPIFFE_ID)

OPTIONAL = "client_ca: {file: callers.crt}, client_auth: optional"
REQUIRED = "client_ca: {file: callers.crt}"
CREDENTIAL = b"Basic c3ZjOnNlY3JldA=="


def head(clients: str) -> str:
    return HEAD.replace("CLIENTS", clients.replace("{", "{{").replace("}", "}}"))


def integration(*urls: str) -> str:
    prefixes = json.dumps(list(urls))
    return f"""\
  it:
    endpoint_prefix: {prefixes}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
"""


@asynccontextmanager
async def running(
    folder: Path, ca: Authority, clients: str = OPTIONAL, *, upstream_tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[RunningApp, CallerCa, RawUpstream]]:
    """Serve an integration over TLS, with certificates by a CA of the test."""
    caller_ca = CallerCa.create(folder)
    caller_ca.server()
    async with RawUpstream(ssl_context=upstream_tls) as upstream:
        scheme = "http" if upstream_tls is None else "https"
        url = f"{scheme}://up.test:{upstream.port}"
        hosts = {"up.test": ["127.0.0.1"]}
        async with serving(integration(url), folder, ca, hosts=hosts, head=head(clients)) as app:
            yield app, caller_ca, upstream


def request(*fields: str, target: str = "/i/it/x") -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: localhost", *fields, "", "")).encode()


async def send(app: RunningApp, context: ssl.SSLContext, *fields: str) -> Message:
    async with connect(app.port, ssl_context=context) as caller:
        return await ask(caller, *fields)


async def ask(caller: RawConnection, *fields: str) -> Message:
    await caller.send(request(*fields))
    return await caller.response()


async def denials(app: RunningApp, reason: str) -> float:
    return sum(
        [
            await app.metric(f'sidekey_denials_total{{integration="{name}",reason="{reason}"}}')
            for name in ("it", "unknown")
        ]
    )


@pytest.mark.parametrize(
    "how", [["URL"], ["-x", "PROXY", "http://up.test:PORT/x"], ["-p", "-x", "PROXY", "http://up.test:PORT/x"]]
)
async def test_curl_with_a_certificate_uses_each_door(how: list[str], tmp_path: Path, ca: Authority) -> None:
    """The reverse proxy, the forward proxy and CONNECT. The upstream sees the credential, and no certificate."""
    curl = programs.require("curl")
    async with running(tmp_path, ca) as (app, caller_ca, upstream):
        caller_ca.client("billing", uri(SPIFFE_ID))
        names = {
            "URL": f"https://localhost:{app.port}/i/it/x",
            "PROXY": f"https://it:@localhost:{app.port}",
        }
        words = [names.get(word, word.replace("PORT", str(upstream.port))) for word in how]
        prefix = "" if how == ["URL"] else "proxy-"
        files = [f"--{prefix}cacert", "callers.crt", f"--{prefix}cert", "billing.crt", f"--{prefix}key", "billing.key"]
        process = await asyncio.create_subprocess_exec(
            curl, "-sS", "--noproxy", "", *files, *words, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert (process.returncode, output) == (0, b"ok")
        assert upstream.requests[0].values(b"authorization") == [CREDENTIAL]
        line = await app.logged("request")
        assert (line["caller"], line["status"]) == ("billing", 200)


async def test_tls_within_tls(tmp_path: Path, ca: Authority) -> None:
    """curl opens a tunnel through the listener's TLS, in which Sidekey terminates the TLS to the upstream."""
    curl = programs.require("curl")
    async with running(tmp_path, ca, REQUIRED, upstream_tls=ca.server_context("up.test")) as (app, caller_ca, upstream):
        caller_ca.client("web", dns("web.example.org"))
        command = [curl, "-sS", "--noproxy", "", "--cacert", "state/trust/ca.pem", "--proxy-cacert", "callers.crt"]
        command += ["--proxy-cert", "web.crt", "--proxy-key", "web.key", "-x", f"https://it:@localhost:{app.port}"]
        process = await asyncio.create_subprocess_exec(
            *command,
            *[f"https://up.test:{upstream.port}/{n}" for n in range(3)],
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert (process.returncode, output) == (0, b"okokok")
        assert [message.values(b"authorization") for message in upstream.requests] == [[CREDENTIAL]] * 3
    assert {line["caller"] for line in app.lines() if line["event"] == "request"} == {"web"}


CERTIFICATES = {
    "billing": [uri(SPIFFE_ID)],
    "web": [dns("WEB.example.org")],
    "nobody": [dns("nobody.example.org")],
    "both": [uri(SPIFFE_ID), dns("web.example.org")],
    "two-ids": [uri(SPIFFE_ID), uri("spiffe://example.org/other")],
    "disguised": [uri("dns:web.example.org")],
    "web.example.org": [],
}
BILLING, JOB, WRONG = ("Sidekey-Token: token-billing",), ("Sidekey-Token: token-job",), ("Sidekey-Token: x",)
FORGED = (f"X-Forwarded-Client-Cert: URI={SPIFFE_ID}", "Client-Cert: :AA==:", "Client-Cert-Chain: :AA==:")


@pytest.mark.parametrize(
    ("certificate", "fields", "caller", "denial"),
    [
        ("billing", (), "billing", ""),
        ("web", (), "web", ""),
        ("billing", BILLING, "billing", ""),
        ("nobody", BILLING, "billing", ""),
        ("", JOB, "job", ""),
        ("", (), None, "token_missing"),
        ("nobody", (), None, "certificate_unknown"),
        ("billing", JOB, None, "names_differ"),
        ("web", BILLING, None, "names_differ"),
        ("billing", WRONG, None, "token_unknown"),
        ("both", (), None, "names_differ"),
        ("both", BILLING, None, "names_differ"),
        ("two-ids", (), None, "certificate_unknown"),
        ("disguised", (), None, "certificate_unknown"),
        ("web.example.org", (), None, "certificate_unknown"),
        ("", FORGED, None, "token_missing"),
        ("nobody", FORGED, None, "certificate_unknown"),
        ("billing", ("Origin: https://evil.example",), None, "browser"),
        ("billing", ("Origin: https://evil.example", "Proxy-Authorization: Basic aXQ6"), None, "browser"),
        ("billing", ("Origin: https://evil.example", "Sidekey-Token:"), None, "browser"),
        ("billing", ("Origin: https://app.example", *BILLING), "billing", ""),
    ],
)
async def test_certificate_and_token_identify_one_caller(
    certificate: str, fields: tuple[str, ...], caller: str | None, denial: str, tmp_path: Path, ca: Authority
) -> None:
    async with running(tmp_path, ca) as (app, caller_ca, upstream):
        if certificate:
            caller_ca.client(certificate, *CERTIFICATES[certificate])
        response = await send(app, caller_ca.context(certificate), *fields)
        line = await app.logged("request")
        assert line["caller"] == caller
        if caller is not None:
            assert response.status == 200
            assert upstream.requests[0].values(b"authorization") == [CREDENTIAL]
            return
        assert response.status == {"names_differ": 400, "browser": 403}.get(denial, 401)
        assert upstream.connections == []
        assert await denials(app, denial) == 1


async def test_headers_with_a_certificate_are_not_forwarded(tmp_path: Path, ca: Authority) -> None:
    async with running(tmp_path, ca) as (app, caller_ca, upstream):
        assert (await send(app, caller_ca.context(), *FORGED, *JOB)).status == 200
        assert b"client-cert" not in upstream.received[0].lower()


async def test_ca_certificate_identifies_nobody(tmp_path: Path, ca: Authority) -> None:
    """X509-SVID 4.1: a signing certificate must not identify a workload."""
    async with running(tmp_path, ca) as (app, caller_ca, _):
        caller_ca.client("sub-ca", uri(SPIFFE_ID), authority=True)
        response = await send(app, caller_ca.context("sub-ca"))
        assert response.status == 401
        assert await denials(app, "certificate_unknown") == 1


LOGGED = {
    "certificate_missing": "a caller has no client certificate, which listen.tls.client_auth requires",
    "certificate_refused": "a caller's client certificate does not verify: see listen.tls.client_ca",
}


@pytest.mark.parametrize(
    ("certificate", "outcome", "reason"),
    [
        ("", "certificate_missing", None),
        ("foreign", "certificate_refused", "unable to get local issuer certificate"),
        ("expired", "certificate_refused", "certificate has expired"),
        ("for-servers", "certificate_refused", "unsuitable certificate purpose"),
    ],
)
async def test_required_certificate_must_verify(
    certificate: str, outcome: str, reason: str | None, tmp_path: Path, ca: Authority
) -> None:
    """The handshake fails: no request is read. The log and the metric say why."""
    async with running(tmp_path, ca, REQUIRED) as (app, caller_ca, _):
        CallerCa.create(tmp_path, "other").client("foreign", uri(SPIFFE_ID))
        caller_ca.client("expired", uri(SPIFFE_ID), life=timedelta(hours=1))
        caller_ca.client("for-servers", uri(SPIFFE_ID), usages=(SERVER_AUTH,))
        with pytest.raises((ssl.SSLError, ConnectionError, ConnectionEnded)):
            await send(app, caller_ca.context(certificate), *BILLING)
        series = f'sidekey_failed_handshakes_total{{outcome="{outcome}"}}'
        assert await app.metric(series) == 1
        line = await app.logged(LOGGED[outcome])
        assert (line["outcome"], line["reason"]) == (outcome, reason)
        assert all(line["event"] != "request" for line in app.lines())


async def test_plain_http_to_the_listener_is_logged(tmp_path: Path, ca: Authority) -> None:
    async with running(tmp_path, ca) as (app, _, _):
        async with connect(app.port) as caller:
            await caller.send(request(*BILLING))
            await caller.until_ended()
        line = await app.logged("TLS with a caller failed: it must use https://, and TLS 1.2 or newer")
        assert line["outcome"] == "tls_failed"


async def test_removed_caller_is_refused_on_an_open_connection(tmp_path: Path, ca: Authority) -> None:
    async with running(tmp_path, ca) as (app, caller_ca, _):
        caller_ca.client("billing", uri(SPIFFE_ID))
        async with connect(app.port, ssl_context=caller_ca.context("billing")) as caller:
            assert (await ask(caller)).status == 200
            config = tmp_path / "sidekey.yaml"
            config.write_text(config.read_text().replace(SPIFFE_ID, "spiffe://example.org/other"))
            app.hang_up()
            await app.logged("config reloaded")
            assert (await ask(caller)).status == 401
            assert (await ask(caller, *BILLING)).status == 200


async def test_change_of_the_ca_refuses_what_only_the_removed_one_verified(tmp_path: Path, ca: Authority) -> None:
    """Old, then both, then new: the callers of the new CA notice nothing, those of the old one must reconnect."""
    async with running(tmp_path, ca) as (app, old, _):
        new = CallerCa.create(tmp_path, "new")
        old.client("web", dns("web.example.org"))
        new.client("billing", uri(SPIFFE_ID))
        bundle = tmp_path / "callers.crt"
        context = old.context()
        context.load_cert_chain(tmp_path / "billing.crt", tmp_path / "billing.key")
        async with connect(app.port, ssl_context=old.context("web")) as by_old:
            assert (await ask(by_old)).status == 200
            bundle.write_bytes(old.issued.pem + new.issued.pem)
            app.hang_up()
            await eventually(lambda: _reloads(app) == 1)
            async with connect(app.port, ssl_context=context) as by_new:
                assert [(await ask(by_old)).status, (await ask(by_new)).status] == [200, 200]
                bundle.write_bytes(new.issued.pem)
                app.hang_up()
                await eventually(lambda: _reloads(app) == 2)
                assert (await ask(by_new)).status == 200
                refused = await ask(by_old)
                assert (refused.status, problem(refused)["detail"]) == (
                    401,
                    "the CA of the client certificate is no longer trusted",
                )
                await by_old.until_ended()
        assert await denials(app, "certificate_invalid") == 1


async def _echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


@pytest.mark.parametrize("removed", ["the CA", "the name"])
async def test_reload_cuts_websockets_of_certificates_that_no_longer_count(
    removed: str, tmp_path: Path, ca: Authority
) -> None:
    caller_ca = CallerCa.create(tmp_path)
    caller_ca.server()
    caller_ca.client("billing", uri(SPIFFE_ID))
    new = CallerCa.create(tmp_path, "new")
    async with serve(_echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        config = integration(f"http://up.test:{port}") + "    upgrade: [websocket]\n"
        async with serving(config, tmp_path, ca, hosts={"up.test": ["127.0.0.1"]}, head=head(REQUIRED)) as app:
            url = f"wss://localhost:{app.port}/i/it/x"
            async with client(url, ssl=caller_ca.context("billing"), proxy=None) as socket:
                bundle, written = tmp_path / "callers.crt", tmp_path / "sidekey.yaml"
                bundle.write_bytes(caller_ca.issued.pem + new.issued.pem)
                app.hang_up()
                await eventually(lambda: _reloads(app) == 1)
                await socket.send("still open")
                assert await socket.recv() == "still open"
                if removed == "the CA":
                    bundle.write_bytes(new.issued.pem)
                else:
                    written.write_text(written.read_text().replace(SPIFFE_ID, "spiffe://example.org/other"))
                app.hang_up()
                with pytest.raises(ConnectionClosed):
                    await asyncio.wait_for(socket.recv(), 10)


def _reloads(app: RunningApp) -> int:
    return sum(line["event"] == "config reloaded" for line in app.lines())


async def test_connection_closes_before_its_certificate_expires(tmp_path: Path, ca: Authority) -> None:
    """The client then connects with its next certificate. A request that is too late anyway is refused."""
    async with running(tmp_path, ca) as (app, caller_ca, _):
        issued = caller_ca.client("billing", uri(SPIFFE_ID))
        end, worker = issued.certificate.not_valid_after_utc.timestamp(), app.app.plane.worker
        async with connect(app.port, ssl_context=caller_ca.context("billing")) as caller:
            worker.wall = lambda: end - 76
            assert (await ask(caller)).values(b"connection") == []
            worker.wall = lambda: end - 75
            assert (await ask(caller)).values(b"connection") == [b"close"]
            await caller.until_ended()
        async with connect(app.port, ssl_context=caller_ca.context("billing")) as caller:
            worker.wall = lambda: end
            response = await ask(caller, *BILLING)
            assert (response.status, response.values(b"connection")) == (401, [b"close"])
            assert problem(response)["detail"] == "the client certificate has expired"
            worker.wall = time.time


async def test_changed_certificate_serves_new_connections(tmp_path: Path, ca: Authority) -> None:
    async with running(tmp_path, ca) as (app, caller_ca, _):
        context = caller_ca.context()
        async with connect(app.port, ssl_context=context) as before:
            (tmp_path / "server.crt").write_bytes(b"")
            second = caller_ca.server("second")
            (tmp_path / "second.key").replace(tmp_path / "server.key")
            (tmp_path / "second.crt").replace(tmp_path / "server.crt")
            app.hang_up()
            await app.logged("config reloaded")
            assert (await ask(before, *JOB)).status == 200
            async with connect(app.port, ssl_context=context) as after:
                assert (await ask(after, *JOB)).status == 200
                tls = after.transport.get_extra_info("ssl_object")
                assert tls.getpeercert(binary_form=True) == second.der
        end = second.certificate.not_valid_after_utc.timestamp()
        assert await app.metric("sidekey_listener_certificate_expiry_timestamp_seconds") == end


async def test_new_key_of_another_certificate_is_not_used(tmp_path: Path, ca: Authority) -> None:
    """Nothing is unavailable, so the log must not claim it."""
    async with running(tmp_path, ca) as (app, caller_ca, _):
        caller_ca.server("second")
        (tmp_path / "second.key").replace(tmp_path / "server.key")
        app.hang_up()
        line = await app.logged("new secret or CA file cannot be used; the previous one stays in use")
        assert "listen.tls.private_key: must be the key of the first certificate" in line["place"]
        async with connect(app.port, ssl_context=caller_ca.context()) as after:
            assert (await ask(after, *JOB)).status == 200
        assert not [line for line in app.lines() if "unavailable" in line["event"]]


def resume(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
    tcp = socket.create_connection(("127.0.0.1", port), timeout=45)
    return context.wrap_socket(tcp, server_hostname="localhost", session=session)


def status_on(caller: ssl.SSLSocket) -> int:
    caller.sendall(request())
    return int(caller.recv(1 << 16).split()[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_each_version_of_tls(version: ssl.TLSVersion, tmp_path: Path, ca: Authority) -> None:
    """TLS 1.3 resumes no session with a certificate, so that each connection verifies it.

    Python cannot prevent it in TLS 1.2. Any CA may then have verified the certificate: the removal of one refuses it.
    """
    async with running(tmp_path, ca, REQUIRED) as (app, caller_ca, _):
        bundle, other = tmp_path / "callers.crt", CallerCa.create(tmp_path, "other")
        bundle.write_bytes(caller_ca.issued.pem + other.issued.pem)
        app.hang_up()
        await eventually(lambda: _reloads(app) == 1)
        caller_ca.client("billing", uri(SPIFFE_ID))
        context = caller_ca.context("billing")
        context.minimum_version = context.maximum_version = version
        session, resumes = None, version == ssl.TLSVersion.TLSv1_2
        for is_second in (False, True):
            with await asyncio.to_thread(resume, app.port, context, session) as caller:
                assert (caller.version(), caller.session_reused) == (
                    version.name.replace("v1_", "v1."),
                    is_second and resumes,
                )
                assert await asyncio.to_thread(status_on, caller) == 200
                session = caller.session
                if is_second:
                    bundle.write_bytes(caller_ca.issued.pem)
                    app.hang_up()
                    await eventually(lambda: _reloads(app) == 2)
                    assert await asyncio.to_thread(status_on, caller) == (401 if resumes else 200)
        with await asyncio.to_thread(resume, app.port, context, session) as caller:
            assert not caller.session_reused
            assert await asyncio.to_thread(status_on, caller) == 200


async def test_plain_http_and_silence_end_the_handshake(tmp_path: Path, ca: Authority) -> None:
    async with running(tmp_path, ca) as (app, _, _upstream):
        async with connect(app.port) as caller:
            await caller.send(request())
            await caller.until_ended()
        assert await app.metric('sidekey_failed_handshakes_total{outcome="tls_failed"}') == 1
        async with connect(app.port) as caller:
            await eventually(lambda: len(app.app.plane.worker.connections) == 1)
            deadlines = app.app.plane.worker.deadlines
            deadlines.look(deadlines.now + 46)
            await caller.until_ended()
        assert await app.metric('sidekey_failed_handshakes_total{outcome="timeout"}') == 1
        assert app.app.plane.worker.connections == frozenset()


async def test_drain_serves_a_handshake_that_has_begun(tmp_path: Path, ca: Authority) -> None:
    """A caller that connected before the stop gets its response."""
    async with (
        running(tmp_path, ca) as (app, caller_ca, _),
        connect(app.port, ssl_context=caller_ca.context()) as caller,
        connect(app.port) as silent,
    ):
        stop = asyncio.create_task(app.app.stop())
        await eventually(lambda: app.app.plane.worker.draining)
        response = await ask(caller, *JOB)
        assert (response.status, response.values(b"connection")) == (200, [b"close"])
        await silent.until_ended()
        await stop


@pytest.mark.parametrize("origin", [None, "https://evil.example"])
async def test_websocket_over_tls_needs_a_token_if_it_has_an_origin(
    origin: str | None, tmp_path: Path, ca: Authority
) -> None:
    """A page could read any WebSocket of a browser with a certificate (RFC 6455 10.2)."""

    caller_ca = CallerCa.create(tmp_path)
    caller_ca.server()
    caller_ca.client("billing", uri(SPIFFE_ID))
    async with serve(_echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        config = integration(f"http://up.test:{port}") + "    upgrade: [websocket]\n"
        async with serving(config, tmp_path, ca, hosts={"up.test": ["127.0.0.1"]}, head=head(REQUIRED)) as app:
            url = f"wss://localhost:{app.port}/i/it/x"
            fields = {} if origin is None else {"Origin": origin}
            opening = client(url, ssl=caller_ca.context("billing"), additional_headers=fields, proxy=None)
            if origin is None:
                async with opening as socket:
                    large = bytes(range(256)) * (4 << 10)
                    await socket.send(large)
                    assert await socket.recv() == large
                return
            with pytest.raises(InvalidStatus) as refused:
                await opening
            assert refused.value.response.status_code == 403
            assert await denials(app, "browser") == 1
