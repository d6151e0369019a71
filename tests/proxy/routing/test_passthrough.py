"""Targets that no integration covers: which ones pass without a credential, and how Sidekey forwards them."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from sidekey.config.build.snapshot import build_passthrough
from sidekey.snapshot.snapshot import NO_INTEGRATION, Integration, Trust
from support.memory import MemoryUpstream, running
from support.plane import (
    CREDENTIAL,
    MOZILLA,
    UPSTREAM,
    RunningPlane,
    base_url,
    get,
    integration,
    problem,
    status_and_code,
)
from support.unresolved import UnresolvedIntegration

H = integration("h", "https://covered.test/api", domains=["https://*.wild.test", "https://covered.test"])
HOSTS = {UPSTREAM: ("127.0.0.1",), "covered.test": ("127.0.0.1",), "meta.test": ("169.254.169.254",)}
NAMED = ("X-Integration-Id: h",)


def forward_request(url: str, *fields: str, method: str = "GET", body: str = "") -> bytes:
    """Build a request through the forward proxy."""
    length = (f"Content-Length: {len(body)}",) if body else ()
    return "\r\n".join([f"{method} {url} HTTP/1.1", "Host: ignored", *fields, *length, "", body]).encode("latin-1")


def basic(user: str, password: str = "x") -> str:
    return "Proxy-Authorization: Basic " + b64encode(f"{user}:{password}".encode()).decode()


def apply_config(
    sidekey: RunningPlane, *integrations: Integration, passes: bool = True, trust: Trust = MOZILLA
) -> None:
    """Publish these integrations."""
    known = {item.id: item for item in integrations}
    passing = build_passthrough(known, trust, (443, 80)) if passes else None
    sidekey.publisher.publish(replace(sidekey.snapshot, integrations=known, passthrough=passing))


OK = (200, "")


@pytest.mark.parametrize("fields", [(), NAMED, (basic("h"),), (basic("", ""),), (basic("h"), *NAMED)])
async def test_uncovered_target_passes_unchanged(fields: tuple[str, ...]) -> None:
    """With or without a named integration, with the caller's credentials and none of Sidekey's."""
    async with MemoryUpstream() as upstream, running(H, passing=True) as sidekey:
        url = base_url(upstream.port, "/a%2f../b;c//d%0a?q=%00&x[]='")
        own = ("Authorization: Bearer own", "Cookie: a=b", "X-One: 1", "X-HTTP-Method-Override: DELETE")
        response = await sidekey.send(forward_request(url, *fields, *own, "X-One: 2", method="POST", body="hello"))
        assert status_and_code(response) == OK
        word = sidekey.plane.worker.instance.decode()
    assert upstream.received == [
        "\r\n".join(
            [
                "POST /a%2f../b;c//d%0a?q=%00&x[]=' HTTP/1.1",
                f"Host: {UPSTREAM}:{upstream.port}",
                *own,
                "X-One: 2",
                "Content-Length: 5",
                f"Via: 1.1 sidekey ({word})",
                "",
                "hello",
            ]
        ).encode()
    ]


@pytest.mark.parametrize(
    "field",
    [
        "X-Integration-Id: h",
        "X_Integration_Id: h",
        "Sidekey-Anything: 1",
        "Proxy-Connection: keep-alive",
        "Proxy_Anything: 1",
        "X-Original-URL: /admin",
        "X_Rewrite_URL: /admin",
        "TE: trailers",
        "Connection: X-Hop",
        "Keep-Alive: timeout=5",
    ],
)
async def test_hop_by_hop_fields_are_removed_from_passthrough(field: str) -> None:
    async with MemoryUpstream() as upstream, running(H, passing=True) as sidekey:
        assert status_and_code(await sidekey.send(forward_request(base_url(upstream.port), field, "X-Stays: 1"))) == OK
        (message,) = upstream.requests
    assert [name for name, _ in message.headers] == [b"host", b"x-stays", b"via"]


@pytest.mark.parametrize(
    ("url", "unnamed", "named"),
    [
        ("http://covered.test/other", (407, "integration_required"), (403, "target_denied")),
        ("http://covered.test:8080/api", (407, "integration_required"), (403, "target_denied")),
        ("https://covered.test:8443/", (407, "integration_required"), (403, "target_denied")),
        ("http://COVERED.test./api", (407, "integration_required"), (403, "target_denied")),
        ("http://wild.test/", (407, "integration_required"), (403, "target_denied")),
        ("http://a.b.wild.test/", (407, "integration_required"), (403, "target_denied")),
        ("http://user@covered.test/api", (400, "request_invalid"), (400, "request_invalid")),
        ("http://user@up.test/", (400, "request_invalid"), (400, "request_invalid")),
        ("http://up.test\\@covered.test/", (400, "request_invalid"), (400, "request_invalid")),
        ("http://up.test/\\..", (400, "request_invalid"), (400, "request_invalid")),
        ("http://up.test/\xe9", (400, "request_invalid"), (400, "request_invalid")),
        ("http://u%70.test/", (400, "request_invalid"), (400, "request_invalid")),
        ("http://up.test/#f", (400, "request_invalid"), (400, "request_invalid")),
        ("ftp://up.test/", (400, "request_invalid"), (400, "request_invalid")),
        ("http://up.test./", (403, "target_denied"), (403, "target_denied")),
    ],
)
async def test_covered_hosts_and_unreadable_targets_never_pass(
    url: str, unnamed: tuple[int, str], named: tuple[int, str]
) -> None:
    """A wrong scheme, port or path is denied without a connection."""
    async with running(H, passing=True, hosts=HOSTS) as sidekey:
        assert status_and_code(await sidekey.send(forward_request(url))) == unnamed
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == named
        assert [item.connects for item in sidekey.metrics.all_stats() if item.connects] == []


async def test_covered_target_is_denied_as_without_passthrough() -> None:
    urls = ["http://covered.test/other", "http://covered.test/api"]
    responses = []
    for passing in (False, True):
        async with running(H, passing=passing, hosts=HOSTS, via=False) as sidekey:
            responses.append(
                [await sidekey.send(forward_request(url, *fields)) for url in urls[:1] for fields in ((), NAMED)]
            )
            loop = f"Via: {', '.join(['1.1 sidekey'] * 6)}"
            responses[-1] += [await sidekey.send(forward_request(urls[1], loop, *fields)) for fields in ((), NAMED)]
            responses[-1].append(await sidekey.send(forward_request(urls[1], "X-Integration-Id: nobody")))
    denied, passed = ([(item.start, item.fields, problem(item)) for item in result] for result in responses)
    assert denied == passed


async def test_covered_target_gets_the_credential_with_passthrough() -> None:
    """One proxy serves all requests of a service."""
    async with MemoryUpstream() as upstream, MemoryUpstream() as other:
        configured = integration("h", base_url(upstream.port))
        async with running(
            configured, passing=True, hosts={UPSTREAM: ("127.0.0.1",), "o.test": ("127.0.0.1",)}
        ) as sidekey:
            for _ in range(2):
                assert (
                    status_and_code(
                        await sidekey.send(forward_request(base_url(upstream.port), *NAMED, "Authorization: own"))
                    )
                    == OK
                )
                url = f"http://o.test:{other.port}"
                assert status_and_code(await sidekey.send(forward_request(url, *NAMED, "Authorization: own"))) == OK
    assert [message.values(b"authorization") for message in upstream.requests] == [[CREDENTIAL]] * 2
    assert [(message.target, message.values(b"authorization")) for message in other.requests] == [(b"/", [b"own"])] * 2


@pytest.mark.parametrize("passing", [False, True])
async def test_uncovered_target_is_denied_by_default(passing: bool) -> None:
    async with MemoryUpstream() as upstream, running(H, passing=passing) as sidekey:
        url = base_url(upstream.port)
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == (
            OK if passing else (403, "target_denied")
        )
        assert status_and_code(await sidekey.send(forward_request(url))) == (
            OK if passing else (407, "integration_required")
        )


async def test_request_with_an_invalid_integration_name_does_not_pass() -> None:
    """An unknown ID, an ID of another caller, and two different IDs."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        tokens = {"t": frozenset({"h"}), "none": frozenset[str]()}
        other = integration("o", "https://o.test")
        async with running(H, other, passing=True, tokens=tokens) as sidekey:
            for fields, expected in (
                (("Sidekey-Token: t", "X-Integration-Id: nobody"), (403, "integration_denied")),
                (("Sidekey-Token: t", f"X-Integration-Id: {NO_INTEGRATION}"), (403, "integration_denied")),
                (("Sidekey-Token: t", "X-Integration-Id: o"), (403, "integration_denied")),
                ((basic("h", "t"), "X-Integration-Id: o"), (400, "request_invalid")),
                ((basic("h", "wrong"),), (407, "caller_denied")),
                ((), (407, "caller_denied")),
                (NAMED, (407, "caller_denied")),
                (("Sidekey-Token: t",), OK),
                (("Sidekey-Token: none",), OK),
                ((basic("", "t"),), OK),
                ((basic("h", "t"),), OK),
            ):
                assert status_and_code(await sidekey.send(forward_request(url, *fields))) == expected
        for message in upstream.requests:
            assert [name for name, _ in message.headers] == [b"host", b"via"]


async def test_methods_of_an_integration_do_not_apply_to_passthrough() -> None:
    """All known methods pass, except TRACE."""
    narrow = integration("h", "https://covered.test", methods=["POST"])
    async with MemoryUpstream() as upstream, running(narrow, passing=True) as sidekey:
        for method in ("GET", "DELETE", "PROPFIND", "TRACE"):
            expected = (405, "method_denied") if method == "TRACE" else OK
            assert (
                status_and_code(await sidekey.send(forward_request(base_url(upstream.port), *NAMED, method=method)))
                == expected
            )
    assert [message.method for message in upstream.requests] == [b"GET", b"DELETE", b"PROPFIND"]


@pytest.mark.parametrize("target", ["/", "/x", "/i/nobody/x", "*"])
async def test_nothing_passes_at_the_reverse_proxy(target: str) -> None:
    async with running(H, passing=True) as sidekey:
        method = "OPTIONS" if target == "*" else "GET"
        response = await sidekey.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert status_and_code(response)[1] in ("not_found", "integration_denied")


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "meta.test", "10.0.0.1", "192.168.1.1", "127.0.0.2", "[::1]", "[fd00:ec2::254]", "0x7f000002"],
)
async def test_network_rules_apply_to_passthrough(host: str) -> None:
    """`allow_private` of an integration does not."""
    networks = tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.2/32", "::/0")))
    wide = replace(H, egress=replace(H.egress, allow_private=networks))
    loopback = (ip_network("127.0.0.1/32"),)
    async with running(wide, passing=True, hosts=HOSTS, allow_private=loopback) as sidekey:
        response = await sidekey.send(forward_request(f"http://{host}:1/latest/meta-data", *NAMED))
        assert (response.status, json.loads(response.body)["code"]) == (403, "destination_denied")


async def test_listener_of_sidekey_is_refused_as_target() -> None:
    """With any rules."""
    async with running(H, passing=True) as sidekey:
        response = await sidekey.send(forward_request(f"http://up.test:{sidekey.port}/i/h/x", *NAMED))
        assert status_and_code(response) == (403, "destination_denied")


async def test_a_loop_is_detected() -> None:
    """By the name of the process in Via."""
    async with MemoryUpstream() as upstream, running(H, passing=True) as sidekey:
        via = f"Via: 1.1 sidekey ({sidekey.plane.worker.instance.decode()})"
        assert status_and_code(await sidekey.send(forward_request(base_url(upstream.port), via))) == (
            502,
            "loop_detected",
        )
        assert upstream.connections == []


async def test_sidekey_answers_options_with_max_forwards_0() -> None:
    """RFC 9110 7.6.2"""
    async with running(H, passing=True) as sidekey:
        response = await sidekey.send(forward_request("http://up.test/", "Max-Forwards: 0", method="OPTIONS"))
        assert (response.status, b"GET" in response.values(b"allow")[0]) == (204, True)


async def test_metrics_and_logs_name_no_integration(tmp_path: Path) -> None:
    """They use `-`, which cannot be an ID. Responses of Sidekey name none, either."""
    log = tmp_path / "log"
    async with MemoryUpstream() as upstream, running(H, passing=True, log=log) as sidekey:
        assert status_and_code(await sidekey.send(forward_request(base_url(upstream.port), *NAMED))) == OK
        refused = problem(await sidekey.send(forward_request("http://127.0.0.1:1/", *NAMED)))
        assert (refused["code"], "integration" in refused) == ("upstream_unreachable", False)
        assert sidekey.metrics.passed.outcomes == {"2xx": 1, "upstream_unreachable": 1}
        assert [stats.integration for stats in sidekey.metrics.used_stats()] == [NO_INTEGRATION]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["integration"], line["door"], line["host"]) for line in lines] == [
        (NO_INTEGRATION, "forward", UPSTREAM),
        (NO_INTEGRATION, "forward", "127.0.0.1"),
    ]


async def test_nothing_passes_while_an_integration_is_unresolved() -> None:
    """It could cover the target. The response names no integration."""
    missing = UnresolvedIntegration(integration("o", "https://o.test"))
    async with MemoryUpstream() as upstream, running(H, missing.integration(), passing=True) as sidekey:
        url = base_url(upstream.port)
        for fields in ((), NAMED):
            error = problem(await sidekey.send(forward_request(url, *fields)))
            assert (error["code"], error["status"], error["error"]) == (
                "credential_unavailable",
                502,
                "proxy_configuration_error",
            )
            assert error["detail"] == (
                "the targets of an integration cannot be read: until then nothing passes without a credential"
            )
        assert upstream.connections == []


async def test_a_request_that_names_the_unresolved_integration_waits_and_then_passes() -> None:
    """With its body, if the integration does not cover the host."""
    missing = UnresolvedIntegration(integration("h", "https://covered.test"))
    async with MemoryUpstream() as upstream, running(missing.integration(), passing=True, hosts=HOSTS) as sidekey:
        url = base_url(upstream.port)
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == (502, "credential_unavailable")
        missing.resolve()
        assert (
            status_and_code(
                await sidekey.send(forward_request(url, *NAMED, "Authorization: own", method="PUT", body="hello"))
            )
            == OK
        )
        assert status_and_code(await sidekey.send(forward_request(url))) == OK
        assert status_and_code(await sidekey.send(forward_request("http://covered.test:1/"))) == (
            407,
            "integration_required",
        )
        assert status_and_code(await sidekey.send(forward_request("http://covered.test:1/", *NAMED))) == (
            403,
            "target_denied",
        )
    first, _ = upstream.requests
    assert (first.values(b"authorization"), first.body) == ([b"own"], b"hello")


async def test_target_of_a_resolved_integration_gets_its_credential() -> None:
    async with MemoryUpstream() as upstream:
        missing = UnresolvedIntegration(integration("h", base_url(upstream.port)))
        missing.resolve()
        async with running(missing.integration(), passing=True) as sidekey:
            for path, expected in (("/api/a", OK), ("/other", (403, "target_denied"))):
                assert (
                    status_and_code(await sidekey.send(forward_request(base_url(upstream.port, path), *NAMED)))
                    == expected
                )
        assert [message.values(b"authorization") for message in upstream.requests] == [[CREDENTIAL]]


async def test_second_unresolved_integration_still_blocks_passthrough() -> None:
    here, there = (
        UnresolvedIntegration(integration("h", "https://h.test")),
        UnresolvedIntegration(integration("o", "https://o.test")),
    )
    async with MemoryUpstream() as upstream:
        async with running(here.integration(), there.integration(), passing=True) as sidekey:
            here.resolve()
            for fields in (NAMED, ()):
                response = await sidekey.send(forward_request(base_url(upstream.port), *fields))
                assert status_and_code(response) == (502, "credential_unavailable")
        assert upstream.connections == []


async def test_new_config_applies_from_the_next_request_on() -> None:
    """Its coverage, and whether targets pass."""
    async with MemoryUpstream() as upstream, running(H, passing=True) as sidekey:
        url = base_url(upstream.port)
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == OK
        apply_config(sidekey, H, integration("o", url))
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == (403, "target_denied")
        apply_config(sidekey, H)
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == OK
        apply_config(sidekey, H, passes=False)
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == (403, "target_denied")
    assert [message.target for message in upstream.requests] == [b"/api"] * 2


async def test_connections_survive_a_config_with_the_same_trust() -> None:
    """Other trust, or no passthrough, closes them."""
    async with MemoryUpstream() as upstream, running(H, passing=True) as sidekey:
        url = base_url(upstream.port)
        for connections, passes, trust in (
            (1, True, MOZILLA),
            (1, True, MOZILLA),
            (2, True, Trust("system")),
            (2, False, MOZILLA),
            (3, True, MOZILLA),
        ):
            apply_config(sidekey, H, passes=passes, trust=trust)
            if passes:
                assert status_and_code(await sidekey.send(forward_request(url))) == OK
            else:
                assert sidekey.metrics.upstream_idle == 0
            assert len(upstream.connections) == connections


async def test_resolved_integration_stays_covered_after_a_reload() -> None:
    """If it is unchanged."""
    missing = UnresolvedIntegration(integration("h", "https://covered.test"))
    unresolved = missing.integration()
    async with MemoryUpstream() as upstream, running(unresolved, passing=True) as sidekey:
        missing.resolve()
        url = base_url(upstream.port)
        assert status_and_code(await sidekey.send(forward_request(url, *NAMED))) == OK
        apply_config(sidekey, unresolved)
        assert status_and_code(await sidekey.send(forward_request(url))) == OK
        assert status_and_code(await sidekey.send(forward_request("http://covered.test:1/"))) == (
            407,
            "integration_required",
        )


async def test_target_of_a_removed_integration_does_not_pass() -> None:
    """The request waited for its credential when the integration was removed."""
    async with running(H, passing=True) as sidekey:
        previous = sidekey.plane.router.find(b"h")
        apply_config(sidekey)
        passthrough = sidekey.plane.router.passthrough
        assert previous is not None
        assert passthrough is not None
        assert passthrough.find_target(b"http://covered.test:8080/x", previous.rules) is None
        assert passthrough.find_target(b"http://covered.test:8080/x", None) is not None


async def test_fast_parser_serves_covered_targets_with_passthrough() -> None:
    async with MemoryUpstream() as upstream:
        configured = integration("h", base_url(upstream.port))
        async with running(configured, passing=True) as sidekey:
            for _ in range(2):
                assert status_and_code(await sidekey.send(get())) == OK
                assert (
                    status_and_code(await sidekey.send(forward_request(base_url(upstream.port, "/api/a"), *NAMED)))
                    == OK
                )
        assert {message.values(b"authorization")[0] for message in upstream.requests} == {CREDENTIAL}
