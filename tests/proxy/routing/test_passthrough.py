"""Targets that no integration covers: what passes without a credential, what does not, and how it goes out."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from sidekey.config.build.snapshot import build_passthrough
from sidekey.snapshot.snapshot import NO_INTEGRATION, Integration, Trust
from support.memory import Upstream, running
from support.plane import CREDENTIAL, MOZILLA, UPSTREAM, Running, base_url, get, integration, problem
from support.unresolved import Missing
from support.wire import Message

H = integration("h", "https://covered.test/api", domains=["https://*.wild.test", "https://covered.test"])
HOSTS = {UPSTREAM: ("127.0.0.1",), "covered.test": ("127.0.0.1",), "meta.test": ("169.254.169.254",)}
NAMED = ("X-Integration-Id: h",)


def asking(url: str, *fields: str, method: str = "GET", body: str = "") -> bytes:
    """A request at the forward door."""
    length = (f"Content-Length: {len(body)}",) if body else ()
    return "\r\n".join([f"{method} {url} HTTP/1.1", "Host: ignored", *fields, *length, "", body]).encode("latin-1")


def basic(user: str, password: str = "x") -> str:
    return "Proxy-Authorization: Basic " + b64encode(f"{user}:{password}".encode()).decode()


def verdict(answer: Message) -> tuple[int, str]:
    """Status and code of a response; the code is empty for an upstream's."""
    return answer.status, "" if not answer.values(b"proxy-status") else problem(answer)["code"]


def adopt(sidekey: Running, *integrations: Integration, passes: bool = True, trust: Trust = MOZILLA) -> None:
    """Serve these integrations from now on."""
    known = {each.id: each for each in integrations}
    passing = build_passthrough(known, trust, (443, 80)) if passes else None
    sidekey.publisher.publish(replace(sidekey.snapshot, integrations=known, passthrough=passing))


OK = (200, "")


@pytest.mark.parametrize("fields", [(), NAMED, (basic("h"),), (basic("", ""),), (basic("h"), *NAMED)])
async def test_a_target_that_no_integration_covers_passes_as_it_came(fields: tuple[str, ...]) -> None:
    """Whether an integration is named or not; with the caller's own credentials and nothing of Sidekey's."""
    async with Upstream() as upstream, running(H, passing=True) as sidekey:
        url = base_url(upstream.port, "/a%2f../b;c//d%0a?q=%00&x[]='")
        own = ("Authorization: Bearer own", "Cookie: a=b", "X-One: 1", "X-HTTP-Method-Override: DELETE")
        answer = await sidekey.ask(asking(url, *fields, *own, "X-One: 2", method="POST", body="hello"))
        assert verdict(answer) == OK
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
async def test_what_ends_at_sidekey_ends_here_too(field: str) -> None:
    """One rule for all that goes out."""
    async with Upstream() as upstream, running(H, passing=True) as sidekey:
        assert verdict(await sidekey.ask(asking(base_url(upstream.port), field, "X-Stays: 1"))) == OK
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
async def test_a_covered_host_and_what_cannot_be_read_never_pass(
    url: str, unnamed: tuple[int, str], named: tuple[int, str]
) -> None:
    """A slip in scheme, port or path is denied; nothing is dialled."""
    async with running(H, passing=True, hosts=HOSTS) as sidekey:
        assert verdict(await sidekey.ask(asking(url))) == unnamed
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == named
        assert [each.connects for each in sidekey.metrics.all_stats() if each.connects] == []


async def test_a_covered_target_is_denied_exactly_as_without_pass() -> None:
    """The whole response is the same."""
    urls = ["http://covered.test/other", "http://covered.test/api"]
    answers = []
    for passing in (False, True):
        async with running(H, passing=passing, hosts=HOSTS, via=False) as sidekey:
            answers.append([await sidekey.ask(asking(url, *fields)) for url in urls[:1] for fields in ((), NAMED)])
            loop = f"Via: {', '.join(['1.1 sidekey'] * 6)}"
            answers[-1] += [await sidekey.ask(asking(urls[1], loop, *fields)) for fields in ((), NAMED)]
            answers[-1].append(await sidekey.ask(asking(urls[1], "X-Integration-Id: nobody")))
    denied, passed = ([(each.start, each.fields, problem(each)) for each in found] for found in answers)
    assert denied == passed


async def test_the_covered_target_beside_it_carries_the_credential() -> None:
    """One proxy for all of a service's calls."""
    async with Upstream() as upstream, Upstream() as other:
        made = integration("h", base_url(upstream.port))
        async with running(made, passing=True, hosts={UPSTREAM: ("127.0.0.1",), "o.test": ("127.0.0.1",)}) as sidekey:
            for _ in range(2):
                assert verdict(await sidekey.ask(asking(base_url(upstream.port), *NAMED, "Authorization: own"))) == OK
                url = f"http://o.test:{other.port}"
                assert verdict(await sidekey.ask(asking(url, *NAMED, "Authorization: own"))) == OK
    assert [message.values(b"authorization") for message in upstream.requests] == [[CREDENTIAL]] * 2
    assert [(message.target, message.values(b"authorization")) for message in other.requests] == [(b"/", [b"own"])] * 2


@pytest.mark.parametrize("passing", [False, True])
async def test_only_where_the_config_says_so(passing: bool) -> None:
    """The default is to deny."""
    async with Upstream() as upstream, running(H, passing=passing) as sidekey:
        url = base_url(upstream.port)
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == (OK if passing else (403, "target_denied"))
        assert verdict(await sidekey.ask(asking(url))) == (OK if passing else (407, "integration_required"))


async def test_a_name_that_is_not_valid_does_not_pass() -> None:
    """An unknown ID, one of another caller, and two that differ."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        tokens = {"t": frozenset({"h"}), "none": frozenset[str]()}
        other = integration("o", "https://o.test")
        async with running(H, other, passing=True, tokens=tokens) as sidekey:
            for fields, wanted in (
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
                assert verdict(await sidekey.ask(asking(url, *fields))) == wanted
        for message in upstream.requests:
            assert [name for name, _ in message.headers] == [b"host", b"via"]


async def test_the_methods_of_an_integration_are_not_those_of_other_targets() -> None:
    """All that the parser knows pass, but TRACE."""
    narrow = integration("h", "https://covered.test", methods=["POST"])
    async with Upstream() as upstream, running(narrow, passing=True) as sidekey:
        for method in ("GET", "DELETE", "PROPFIND", "TRACE"):
            wanted = (405, "method_denied") if method == "TRACE" else OK
            assert verdict(await sidekey.ask(asking(base_url(upstream.port), *NAMED, method=method))) == wanted
    assert [message.method for message in upstream.requests] == [b"GET", b"DELETE", b"PROPFIND"]


@pytest.mark.parametrize("target", ["/", "/x", "/i/nobody/x", "*"])
async def test_nothing_passes_at_the_reverse_door(target: str) -> None:
    """There is no target beside the integrations' there."""
    async with running(H, passing=True) as sidekey:
        method = "OPTIONS" if target == "*" else "GET"
        answer = await sidekey.ask(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert verdict(answer)[1] in ("not_found", "integration_denied")


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "meta.test", "10.0.0.1", "192.168.1.1", "127.0.0.2", "[::1]", "[fd00:ec2::254]", "0x7f000002"],
)
async def test_addresses_are_judged_all_the_same(host: str) -> None:
    """By what the network allows alone; an integration's `allow_private` opens nothing for others."""
    wide = replace(H, allow_private=(*H.allow_private, *map(ip_network, ("10.0.0.0/8", "127.0.0.2/32", "::/0"))))
    loopback = (ip_network("127.0.0.1/32"),)
    async with running(wide, passing=True, hosts=HOSTS, allow_private=loopback) as sidekey:
        answer = await sidekey.ask(asking(f"http://{host}:1/latest/meta-data", *NAMED))
        assert (answer.status, json.loads(answer.body)["code"]) == (403, "destination_denied")


async def test_sidekeys_own_listener_is_no_target() -> None:
    """Whatever is allowed."""
    async with running(H, passing=True) as sidekey:
        answer = await sidekey.ask(asking(f"http://up.test:{sidekey.port}/i/h/x", *NAMED))
        assert verdict(answer) == (403, "destination_denied")


async def test_a_loop_is_detected() -> None:
    """By the process's own word, as ever."""
    async with Upstream() as upstream, running(H, passing=True) as sidekey:
        via = f"Via: 1.1 sidekey ({sidekey.plane.worker.instance.decode()})"
        assert verdict(await sidekey.ask(asking(base_url(upstream.port), via))) == (502, "loop_detected")
        assert upstream.connections == []


async def test_an_options_request_may_end_here() -> None:
    """Max-Forwards: 0 (RFC 9110 7.6.2)."""
    async with running(H, passing=True) as sidekey:
        answer = await sidekey.ask(asking("http://up.test/", "Max-Forwards: 0", method="OPTIONS"))
        assert (answer.status, b"GET" in answer.values(b"allow")[0]) == (204, True)


async def test_metrics_and_logs_name_no_integration(tmp_path: Path) -> None:
    """`-`, which no ID can be; nor does a response of Sidekey's own name one."""
    log = tmp_path / "log"
    async with Upstream() as upstream, running(H, passing=True, log=log) as sidekey:
        assert verdict(await sidekey.ask(asking(base_url(upstream.port), *NAMED))) == OK
        refused = problem(await sidekey.ask(asking("http://127.0.0.1:1/", *NAMED)))
        assert (refused["code"], "integration" in refused) == ("upstream_unreachable", False)
        assert sidekey.metrics.passed.outcomes == {"2xx": 1, "upstream_unreachable": 1}
        assert [stats.integration for stats in sidekey.metrics.used_stats()] == [NO_INTEGRATION]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["integration"], line["door"], line["host"]) for line in lines] == [
        (NO_INTEGRATION, "forward", UPSTREAM),
        (NO_INTEGRATION, "forward", "127.0.0.1"),
    ]


async def test_nothing_passes_while_an_integration_is_unresolved() -> None:
    """Its hosts might be among the others; the response names none."""
    missing = Missing(integration("o", "https://o.test"))
    async with Upstream() as upstream, running(H, missing.integration(), passing=True) as sidekey:
        url = base_url(upstream.port)
        for fields in ((), NAMED):
            said = problem(await sidekey.ask(asking(url, *fields)))
            assert (said["code"], said["status"], said["error"]) == (
                "credential_unavailable",
                502,
                "proxy_configuration_error",
            )
            assert said["detail"] == (
                "the targets of an integration cannot be read: until then nothing passes without a credential"
            )
        assert upstream.connections == []


async def test_a_request_that_names_the_unresolved_integration_waits_and_then_passes() -> None:
    """A host that it turns out not to cover goes on; with its body."""
    missing = Missing(integration("h", "https://covered.test"))
    async with Upstream() as upstream, running(missing.integration(), passing=True, hosts=HOSTS) as sidekey:
        url = base_url(upstream.port)
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == (502, "credential_unavailable")
        missing.appear()
        assert verdict(await sidekey.ask(asking(url, *NAMED, "Authorization: own", method="PUT", body="hello"))) == OK
        assert verdict(await sidekey.ask(asking(url))) == OK
        assert verdict(await sidekey.ask(asking("http://covered.test:1/"))) == (407, "integration_required")
        assert verdict(await sidekey.ask(asking("http://covered.test:1/", *NAMED))) == (403, "target_denied")
    first, _ = upstream.requests
    assert (first.values(b"authorization"), first.body) == ([b"own"], b"hello")


async def test_the_unresolved_integrations_own_target_carries_its_credential() -> None:
    """It is judged by what was read, not passed because it was unknown."""
    async with Upstream() as upstream:
        missing = Missing(integration("h", base_url(upstream.port)))
        missing.appear()
        async with running(missing.integration(), passing=True) as sidekey:
            for path, wanted in (("/api/a", OK), ("/other", (403, "target_denied"))):
                assert verdict(await sidekey.ask(asking(base_url(upstream.port, path), *NAMED))) == wanted
        assert [message.values(b"authorization") for message in upstream.requests] == [[CREDENTIAL]]


async def test_another_unresolved_integration_still_holds_up_the_rest() -> None:
    """One of two has become known."""
    here, there = Missing(integration("h", "https://h.test")), Missing(integration("o", "https://o.test"))
    async with Upstream() as upstream:
        async with running(here.integration(), there.integration(), passing=True) as sidekey:
            here.appear()
            for fields in (NAMED, ()):
                answer = await sidekey.ask(asking(base_url(upstream.port), *fields))
                assert verdict(answer) == (502, "credential_unavailable")
        assert upstream.connections == []


async def test_another_config_decides_from_its_first_request_on() -> None:
    """What it covers, and whether anything passes."""
    async with Upstream() as upstream, running(H, passing=True) as sidekey:
        url = base_url(upstream.port)
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == OK
        adopt(sidekey, H, integration("o", url))
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == (403, "target_denied")
        adopt(sidekey, H)
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == OK
        adopt(sidekey, H, passes=False)
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == (403, "target_denied")
    assert [message.target for message in upstream.requests] == [b"/api"] * 2


async def test_connections_outlive_a_config_that_trusts_the_same() -> None:
    """And are closed by one that does not, or lets nothing pass."""
    async with Upstream() as upstream, running(H, passing=True) as sidekey:
        url = base_url(upstream.port)
        for connections, passes, trust in (
            (1, True, MOZILLA),
            (1, True, MOZILLA),
            (2, True, Trust("system")),
            (2, False, MOZILLA),
            (3, True, MOZILLA),
        ):
            adopt(sidekey, H, passes=passes, trust=trust)
            if passes:
                assert verdict(await sidekey.ask(asking(url))) == OK
            else:
                assert sidekey.metrics.upstream_idle == 0
            assert len(upstream.connections) == connections


async def test_what_was_decided_is_covered_after_another_config_too() -> None:
    """Where the integration is unchanged it stays decided."""
    missing = Missing(integration("h", "https://covered.test"))
    unresolved = missing.integration()
    async with Upstream() as upstream, running(unresolved, passing=True) as sidekey:
        missing.appear()
        url = base_url(upstream.port)
        assert verdict(await sidekey.ask(asking(url, *NAMED))) == OK
        adopt(sidekey, unresolved)
        assert verdict(await sidekey.ask(asking(url))) == OK
        assert verdict(await sidekey.ask(asking("http://covered.test:1/"))) == (407, "integration_required")


async def test_an_integration_of_a_former_config_does_not_let_its_own_host_pass() -> None:
    """Its request was to carry a credential, and the integration has gone while it waited."""
    async with running(H, passing=True) as sidekey:
        former = sidekey.plane.router.find(b"h")
        adopt(sidekey)
        passthrough = sidekey.plane.router.passthrough
        assert former is not None
        assert passthrough is not None
        assert passthrough.target(b"http://covered.test:8080/x", former.rules) is None
        assert passthrough.target(b"http://covered.test:8080/x", None) is not None


async def test_the_quick_reading_serves_covered_targets() -> None:
    """The reverse door, and what is known of the forward one, are as without pass."""
    async with Upstream() as upstream:
        made = integration("h", base_url(upstream.port))
        async with running(made, passing=True) as sidekey:
            for _ in range(2):
                assert verdict(await sidekey.ask(get())) == OK
                assert verdict(await sidekey.ask(asking(base_url(upstream.port, "/api/a"), *NAMED))) == OK
        assert {message.values(b"authorization")[0] for message in upstream.requests} == {CREDENTIAL}
