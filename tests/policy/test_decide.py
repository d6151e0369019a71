"""Decisions on requests, as tables of heads, callers and integrations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidekey.errors import Problem
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.decide import decide, decide_again, named_origin
from sidekey.policy.decide_connect import decide_connect
from sidekey.policy.decision import Admitted, Denied, TunnelAdmitted
from sidekey.policy.identify import is_forward, named_id
from sidekey.policy.integration_rules import COMMON_METHODS, DEFAULT_METHODS, IntegrationRules
from sidekey.policy.match import HostRestriction, Matching
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy, Prefix, parse_domain, parse_prefix
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.urls import Origin, Target, parse_target
from support.decisions import (
    BASE,
    PASSING,
    POLICY,
    H,
    IntegrationTable,
    KnownIntegration,
    basic,
    head,
    integration_rules,
    integration_table,
    outcome,
    tokens,
)


@pytest.mark.parametrize(
    ("target", "forward"),
    [("/", False), ("/i/h", False), ("*", False), ("http://a.test/", True), ("a.test:443", True), ("x", True)],
)
def test_target_form_selects_the_proxy(target: str, forward: bool) -> None:
    """Origin-form and asterisk-form go to the reverse proxy, all others to the forward proxy."""
    assert is_forward(target.encode()) is forward


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.test/api/x", "https://a.test/api/x"),
        ("http://a.test:80/api/x", "https://a.test/api/x"),
        ("https://a.test/api/x", "https://a.test/api/x"),
        ("http://A.TEST/api/x?q", "https://a.test/api/x?q"),
        ("http://a.test:8080/api/x", "target_denied"),
        ("http://a.test/other", "target_denied"),
        ("http://b.test/api/x", "target_denied"),
        ("http://a.test./api/x", "target_denied"),
        ("http://user@a.test/api/x", "request_invalid"),
        ("ftp://a.test/api/x", "request_invalid"),
        ("a.test:443", "request_invalid"),
    ],
)
def test_forward_proxy_accepts_absolute_urls_and_upgrades_http(url: str, expected: str) -> None:
    """http is upgraded only if https rules alone name the host. Host is ignored."""
    for host in (b"evil.test", None, b"h.test"):
        assert outcome(decide(head(url, host=host, integration_id="h"), None, integration_table(H))) == expected


def test_exact_parser_names_the_rule_and_fast_match_does_not() -> None:
    """The fast match comes first. It gets the part after the ID, or the complete target."""
    exact = decide(head("/i/h/a"), None, integration_table(H))
    assert isinstance(exact, Admitted)
    assert (exact.candidate, exact.rule) == (H, "https://a.test/api")
    fast_target = Target(Origin("https", "quick.test", 443), "/x", None)
    quick = KnownIntegration(integration_rules(), {b"/a": fast_target, b"http://a.test/x": fast_target})
    for result in (head("/i/h/a"), head("http://a.test/x", integration_id="h")):
        decision = decide(result, None, integration_table(quick))
        assert isinstance(decision, Admitted)
        assert (decision.candidate, decision.target, decision.rule) == (quick, fast_target, "")


@pytest.mark.parametrize(
    ("headers", "forward", "reverse"),
    [
        ({}, "integration_required", "h"),
        ({"integration_id": "h"}, "h", "h"),
        ({"integration_id": "o"}, "o", "request_invalid"),
        ({"integration_id": ""}, "integration_required", "h"),
        ({"proxy_authorization": basic("h")}, "h", "h"),
        ({"proxy_authorization": basic("h", "")}, "h", "h"),
        ({"proxy_authorization": basic("", "")}, "integration_required", "h"),
        ({"proxy_authorization": basic("o")}, "o", "request_invalid"),
        ({"proxy_authorization": basic("h"), "integration_id": "h"}, "h", "h"),
        ({"proxy_authorization": basic("h"), "integration_id": "o"}, "request_invalid", "request_invalid"),
        ({"proxy_authorization": basic("o"), "integration_id": "h"}, "request_invalid", "request_invalid"),
        ({"proxy_authorization": b"Bearer h"}, "request_invalid", "request_invalid"),
        ({"proxy_authorization": b"Basic !!"}, "request_invalid", "request_invalid"),
        ({"proxy_authorization": b"Basic aA=="}, "request_invalid", "request_invalid"),
        ({"integration_id": "nobody"}, "integration_denied", "request_invalid"),
        ({"proxy_authorization": basic("h/../o")}, "integration_denied", "request_invalid"),
        ({"integration_id": "\xe9"}, "integration_denied", "request_invalid"),
    ],
)
def test_all_sources_of_the_integration_id_must_agree(headers: dict[str, Any], forward: str, reverse: str) -> None:
    """The path, X-Integration-Id and the proxy user."""
    routes = integration_table(H, KnownIntegration(integration_rules("o")))
    for target, expected in (("https://a.test/api/a", forward), ("/i/h/a", reverse)):
        decision = decide(head(target, **headers), None, routes)
        assert (outcome(decision) if isinstance(decision, Denied) else repr(decision.candidate)) == expected


def test_missing_integration_id_gets_a_challenge() -> None:
    """Proxy clients understand this challenge."""
    decision = decide(head("https://a.test/api/a"), None, integration_table(H))
    assert isinstance(decision, Denied)
    assert (decision.problem.status, decision.problem.headers) == (
        407,
        (("Proxy-Authenticate", 'Basic realm="sidekey"'),),
    )


def test_token_is_ignored_without_callers() -> None:
    assert outcome(decide(head("/i/h/a", token="t"), None, integration_table(H))) == "https://a.test/api/a"


def test_an_unknown_id_is_answered_like_one_of_another_caller() -> None:
    """The same problem without an integration. Sidekey does not even look up another caller's integration."""
    callers = tokens(t=frozenset({"o", "gone"}))
    routes = integration_table(H)
    foreign = decide(head("/i/h/a", token="t"), callers, routes)
    assert routes.lookups == []
    unknown = decide(head("/i/gone/a", token="t"), callers, routes)
    assert routes.lookups == [b"gone"]
    assert isinstance(foreign, Denied)
    assert isinstance(unknown, Denied)
    expected = Problem("integration_denied", foreign.problem.detail, denial="integration_unlisted")
    assert foreign.problem == unknown.problem == expected
    # The counted reason depends only on the caller's own list, which the caller knows.
    assert (foreign.problem.denial, unknown.problem.denial) == ("integration_unlisted", "integration_unknown")
    assert (foreign.candidate, unknown.candidate) == (None, None)


@pytest.mark.parametrize("target", ["/i/h/a", "https://a.test/api/a"])
def test_trace_is_refused_by_either_way_in(target: str) -> None:
    """RFC 9110 9.3.8: it reflects credentials. For every caller and target."""
    for callers in (tokens(), tokens(t=None)):
        decision = decide(head(target, b"TRACE", host=b"evil.test"), callers, integration_table(H))
        assert isinstance(decision, Denied)
        assert (decision.problem.code, decision.candidate) == ("method_denied", None)
        assert decision.problem.headers == (("Allow", COMMON_METHODS),)


@pytest.mark.parametrize(
    ("methods", "method", "allow"),
    [
        (None, b"PURGE", None),
        (None, b"GET", None),
        (None, b"CONNECT", COMMON_METHODS),
        ({"POST", "GET"}, b"POST", None),
        ({"POST", "GET"}, b"DELETE", "GET, POST"),
        ({"GET", "TRACE"}, b"POST", "GET"),
        ({"GET", "FOO"}, b"FOO", "FOO, GET"),
    ],
)
def test_method_that_the_integration_does_not_allow_is_denied(
    methods: set[str] | None, method: bytes, allow: str | None
) -> None:
    """405 with Allow (RFC 9110 10.2.1). TRACE, and methods that llhttp does not parse, are always denied."""
    policy = Policy(prefixes=(BASE,), methods=None if methods is None else frozenset(methods))
    narrow = KnownIntegration(integration_rules(policy=policy))
    decision = decide(head("/i/h/a", method), None, integration_table(narrow))
    if allow is None:
        assert outcome(decision) == "https://a.test/api/a"
        return
    assert isinstance(decision, Denied)
    assert (decision.problem.code, decision.candidate) == ("method_denied", narrow)
    assert decision.problem.headers == (("Allow", allow),)


def test_integration_without_methods_allows_those_that_llhttp_parses() -> None:
    known_methods = (
        "ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY"
        " OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK"
        " UNLOCK UNSUBSCRIBE"
    )
    for method in known_methods.encode().split():
        assert outcome(decide(head("/i/h/", method), None, integration_table(H))) == "https://a.test/api/", method


def test_no_integration_allows_trace_or_connect() -> None:
    narrowed = integration_rules(policy=Policy(prefixes=(BASE,), methods=frozenset({"TRACE", "CONNECT", "GET"})))
    assert narrowed.methods == {b"GET"}
    assert not DEFAULT_METHODS & {b"TRACE", b"CONNECT"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", True),
        ("?", True),
        ("?a=b", True),
        ("?access_token=x", False),
        ("?a=b&ACCESS%5FTOKEN", False),
        ("?a=b;access_token=x", False),
    ],
)
def test_parameter_that_sidekey_adds_is_denied(query: str, expected: bool) -> None:
    """Servers disagree on which of two parameters counts."""
    integration = KnownIntegration(integration_rules(parameters=("access_token",)))
    for target in (f"/i/h/a{query}", f"https://a.test/api/a{query}"):
        decision = decide(head(target, integration_id="h"), None, integration_table(integration))
        assert outcome(decision) == (f"https://a.test/api/a{query}" if expected else "request_invalid")
    assert outcome(decide(head(f"/i/h/a{query}"), None, integration_table(H))) == f"https://a.test/api/a{query}"


def test_unresolved_integration_is_admitted_without_a_target() -> None:
    """Its method is checked at once, its target once it is resolved. No fast match happens before."""
    fast_target = Target(Origin("https", "quick.test", 443), "/x", None)
    policy = Policy(prefixes=(BASE,), methods=frozenset({"GET"}))
    unresolved = KnownIntegration(integration_rules(policy=policy, unresolved=True), {b"/../x": fast_target})
    assert outcome(decide(head("/i/h/../x"), None, integration_table(unresolved))) == "unresolved"
    assert outcome(decide(head("/i/h/../x", b"POST"), None, integration_table(unresolved))) == "method_denied"
    assert (
        outcome(decide_again(head("/i/h/../x"), KnownIntegration(integration_rules(policy=policy)), None))
        == "request_invalid"
    )
    assert (
        outcome(decide_again(head("/i/h/x"), KnownIntegration(integration_rules(policy=policy)), None))
        == "https://a.test/api/x"
    )


# Where a grant tells the base URL.

PLACEHOLDER = parse_prefix("https://login.a.test/rest")
LEARNING = Policy(
    domains=(parse_domain("https://login.a.test"), parse_domain("https://*.a.test")),
    path="/rest",
    placeholder_origin=PLACEHOLDER.origin,
)


def test_discovered_base_moves_targets() -> None:
    """Targets at the placeholder and at the reverse proxy move. Other hosts are denied from then on."""
    first = IntegrationRules.of("h", LEARNING, PLACEHOLDER, (), unresolved=False)
    urls = ("/i/h/x", "http://login.a.test/rest/x", "https://api5.a.test/rest/x", "https://api6.a.test/rest/x")

    def outcomes(current: IntegrationRules) -> list[str]:
        return [
            outcome(decide(head(url, integration_id="h"), None, integration_table(KnownIntegration(current))))
            for url in urls
        ]

    placeholder = ["https://login.a.test/rest/x"] * 2 + ["https://api5.a.test/rest/x", "https://api6.a.test/rest/x"]
    assert outcomes(first) == placeholder
    learnt = first.with_base(parse_prefix("https://api5.a.test/rest"))
    assert outcomes(learnt) == ["https://api5.a.test/rest/x"] * 3 + ["target_denied"]
    assert learnt.configured is LEARNING
    again = learnt.with_base(parse_prefix("https://api6.a.test/rest"))
    assert outcomes(again) == ["https://api6.a.test/rest/x"] * 2 + ["target_denied", "https://api6.a.test/rest/x"]
    assert outcomes(first) == placeholder


def test_discovered_base_keeps_the_other_rules() -> None:
    policy = Policy(domains=(parse_domain("https://*.a.test"),), methods=frozenset({"GET"}))
    original = IntegrationRules.of("h", policy, None, ("token",), unresolved=True)
    learnt = original.with_base(parse_prefix("https://b.a.test/v1"))
    assert (learnt.name, learnt.methods, learnt.parameters, learnt.unresolved) == ("h", {b"GET"}, ("token",), True)
    assert str(learnt.base) == "https://b.a.test/v1"
    target = parse_target("https://c.a.test/x")
    assert learnt.resolve_target(target) == target


# Targets that no integration covers.


@pytest.mark.parametrize(
    ("url", "unnamed", "named"),
    [
        ("http://up.test/x?q", "http://up.test/x?q", "http://up.test/x?q"),
        ("https://a.test/other", "integration_required", "target_denied"),
        ("https://a.test/api/x", "integration_required", "https://a.test/api/x"),
        ("http://A.TEST.:8080/api", "integration_required", "target_denied"),
        ("http://user@up.test/", "request_invalid", "request_invalid"),
        ("ftp://up.test/", "request_invalid", "request_invalid"),
        ("http://up.test./", "target_denied", "target_denied"),
    ],
)
def test_target_that_no_integration_covers_passes(url: str, unnamed: str, named: str) -> None:
    """Covered hosts and malformed targets never pass."""
    routes = integration_table(H, passing=True)
    assert outcome(decide(head(url), None, routes)) == unnamed
    assert outcome(decide(head(url, integration_id="h"), None, routes)) == named
    if unnamed == url:
        decision = decide(head(url, integration_id="h"), None, routes)
        assert decision.candidate is not None
        assert decision.candidate.rules is PASSING


def test_invalid_request_does_not_pass_without_a_credential() -> None:
    """An unknown ID, a loop, TRACE or an unknown caller is denied first."""
    routes = integration_table(H, passing=True)
    assert outcome(decide(head("http://up.test/", integration_id="nobody"), None, routes)) == "integration_denied"
    assert outcome(decide(head("http://up.test/", b"TRACE"), None, routes)) == "method_denied"
    assert outcome(decide(head("http://up.test/"), tokens(t=None), routes)) == "caller_denied"
    looped = decide(head("http://up.test/", via="1.1 sidekey (word)"), None, routes)
    assert outcome(looped) == "loop_detected"
    assert outcome(decide(head("/i/h/../x"), None, routes)) == "request_invalid"


def test_nothing_passes_while_an_integration_is_unresolved() -> None:
    """It may cover the target. A named unresolved integration is awaited instead."""
    unresolved = KnownIntegration(integration_rules("o", Policy(), unresolved=True))
    routes = integration_table(H, unresolved, passing=True, unresolved=("o",))
    for headers in ({}, {"integration_id": "h"}):
        decision = decide(head("http://up.test/", **headers), None, routes)
        assert isinstance(decision, Denied)
        assert (decision.problem.code, decision.problem.error) == (
            "credential_unavailable",
            "proxy_configuration_error",
        )
    assert outcome(decide(head("http://up.test/", integration_id="o"), None, routes)) == "unresolved"
    assert outcome(decide(head("https://a.test/api/x", integration_id="h"), None, routes)) == "https://a.test/api/x"
    passthrough = integration_table(H, passing=True).passthrough
    resolved = KnownIntegration(integration_rules("o", Policy(prefixes=(parse_prefix("https://o.test"),))))
    passed = decide_again(head("http://up.test/"), resolved, passthrough)
    assert isinstance(passed, Admitted)
    assert (outcome(passed), passed.candidate.rules) == ("http://up.test/", PASSING)
    assert outcome(decide_again(head("https://o.test/x"), resolved, passthrough)) == "https://o.test/x"
    assert outcome(decide_again(head("http://up.test./"), resolved, passthrough)) == "target_denied"


def test_fast_match_proves_that_a_target_is_covered() -> None:
    fast_target = Target(Origin("https", "quick.test", 443), "/x", None)
    quick = KnownIntegration(integration_rules(), {b"http://up.test/x": fast_target})
    decision = decide(head("http://up.test/x", integration_id="h"), None, integration_table(quick, passing=True))
    assert isinstance(decision, Admitted)
    assert (decision.candidate, decision.target) == (quick, fast_target)


def test_target_of_a_removed_integration_does_not_pass() -> None:
    """The request names an integration that a reload removed, and expects a credential."""
    passthrough = integration_table(passing=True).passthrough
    assert passthrough is not None
    assert passthrough.find_target(b"https://a.test:8443/x", H.rules) is None
    assert isinstance(passthrough.find_target(b"https://a.test:8443/x", None), Target)


# Tunnels.


def connect(target: str, **headers: Any) -> RequestHead:
    """Build the head of a CONNECT."""
    return head(target, b"CONNECT", **headers)


def opening(result: TunnelAdmitted[KnownIntegration] | Denied[KnownIntegration]) -> object:
    """Summarize the decision on a CONNECT."""
    if isinstance(result, Denied):
        return result.problem.status, result.problem.code
    return str(result.candidate), result.passes


WIDE = Policy(prefixes=(BASE, parse_prefix("http://plain.test:8080")))
WILD = Policy(domains=(parse_domain("https://*.wild.test"), parse_domain("https://b.test:8443")))
PINNED = Policy(domains=(parse_domain("https://auth.test"),), placeholder_origin=Origin("https", "auth.test", 443))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a.test:443", ("h", False)),
        ("A.test:443", ("h", False)),
        ("a.test:80", ("h", False)),
        ("a.test:8443", (403, "target_denied")),
        ("plain.test:8080", ("h", False)),
        ("plain.test:443", (403, "target_denied")),
        ("plain.test:80", (403, "target_denied")),
        ("a.test.:443", (403, "target_denied")),
        ("b.test:443", (403, "target_denied")),
        ("a.test", (400, "request_invalid")),
        ("a.test:", (400, "request_invalid")),
        ("a.test:443/x", (400, "request_invalid")),
        ("a.test:443?", (400, "request_invalid")),
        ("u@a.test:443", (400, "request_invalid")),
        ("u:p@a.test:443", (400, "request_invalid")),
        ("http://a.test:443", (400, "request_invalid")),
        ("a.test:0443x", (400, "request_invalid")),
        ("a.test:65536", (400, "request_invalid")),
        ("/i/h/a", (400, "request_invalid")),
        ("*", (400, "request_invalid")),
        ("[::1:443", (400, "request_invalid")),
        ("[::1]:443", (403, "target_denied")),
        (":443", (400, "request_invalid")),
    ],
)
def test_tunnel_opens_if_the_policy_may_allow_its_authority(target: str, expected: object) -> None:
    """By https on this port, or by http after the upgrade. The path is not known yet."""
    assert (
        opening(
            decide_connect(
                connect(target, integration_id="h"),
                None,
                integration_table(KnownIntegration(integration_rules(policy=WIDE))),
            )
        )
        == expected
    )


@pytest.mark.parametrize(
    ("policy", "target", "reached"),
    [
        (WILD, "x.wild.test:443", True),
        (WILD, "wild.test:443", False),
        (WILD, "x.wild.test:80", True),
        (WILD, "b.test:8443", True),
        (WILD, "b.test:80", False),
        (PINNED, "auth.test:443", True),
        (PINNED, "inst.auth.test:443", False),
        (Policy(prefixes=(BASE,), domains=(parse_domain("https://b.test"),)), "a.test:443", False),
        (Policy(), "a.test:443", False),
    ],
)
def test_tunnel_opens_only_to_hosts_that_the_policy_allows(policy: Policy, target: str, reached: bool) -> None:
    """Prefixes and domains together, and the discovered host or its placeholder."""
    result = decide_connect(
        connect(target, integration_id="h"), None, integration_table(KnownIntegration(integration_rules(policy=policy)))
    )
    assert isinstance(result, TunnelAdmitted) is reached


def test_discovered_base_and_its_placeholder_are_reached() -> None:
    policy = Policy(
        domains=(parse_domain("https://auth.test"), parse_domain("https://*.inst.test")),
        placeholder_origin=Origin("https", "auth.test", 443),
    )
    learnt = KnownIntegration(integration_rules(policy=policy).with_base(parse_prefix("https://x.inst.test")))
    for target, reached in (("auth.test:443", True), ("x.inst.test:443", True), ("y.inst.test:443", False)):
        result = decide_connect(connect(target, integration_id="h"), None, integration_table(learnt))
        assert isinstance(result, TunnelAdmitted) is reached


def test_unresolved_integration_opens_a_tunnel() -> None:
    """The data plane decides again once it is resolved."""
    routes = integration_table(KnownIntegration(integration_rules(unresolved=True)))
    assert opening(decide_connect(connect("a.test:443", integration_id="h"), None, routes)) == ("h", False)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"proxy_authorization": basic("h", "one")}, ("h", False)),
        ({"proxy_authorization": basic("h", "two")}, (403, "integration_denied")),
        ({"proxy_authorization": basic("h", "x")}, (407, "caller_denied")),
        ({"proxy_authorization": basic("-", "one")}, (407, "integration_required")),
        ({"integration_id": "h"}, (407, "caller_denied")),
        ({}, (407, "caller_denied")),
        ({"proxy_authorization": basic("h", "one"), "token": "two"}, (400, "request_invalid")),
        ({"proxy_authorization": basic("h", "one"), "integration_id": "k"}, (400, "request_invalid")),
        ({"proxy_authorization": b"Bearer x"}, (400, "request_invalid")),
        ({"integration_id": "h", "token": "one"}, ("h", False)),
        ({"proxy_authorization": basic("h", "one"), "via": "1.1 sidekey (word)"}, (502, "loop_detected")),
    ],
)
def test_caller_is_authenticated_before_the_id_of_a_tunnel(headers: dict[str, Any], expected: object) -> None:
    callers = tokens(one=frozenset({"h"}), two=frozenset())
    assert (
        opening(
            decide_connect(
                connect("a.test:443", **headers), callers, integration_table(KnownIntegration(integration_rules()))
            )
        )
        == expected
    )


@pytest.mark.parametrize(
    ("target", "name", "expected"),
    [
        ("free.test:443", "", ("-", True)),
        ("free.test:80", "h", ("-", True)),
        ("free.test:25", "", (403, "target_denied")),
        ("free.test.:443", "", (403, "target_denied")),
        ("a.test:443", "", (407, "integration_required")),
        ("a.test:444", "h", (403, "target_denied")),
        ("a.test.:443", "", (407, "integration_required")),
    ],
)
def test_tunnel_passes_to_listed_ports_of_uncovered_hosts(target: str, name: str, expected: object) -> None:
    routes = integration_table(KnownIntegration(integration_rules()), passing=True)
    assert opening(decide_connect(connect(target, integration_id=name), None, routes)) == expected
    unresolved = integration_table(KnownIntegration(integration_rules()), passing=True, unresolved=("other",))
    if expected == ("-", True):
        assert opening(decide_connect(connect(target), None, unresolved)) == (502, "credential_unavailable")


def by_host(*integrations: KnownIntegration) -> IntegrationTable:
    """Integrations that requests need not name."""
    routes = integration_table(*integrations)
    routes.matching = Matching.of({item.rules.name: item.rules.configured for item in integrations})
    return routes


ONE = KnownIntegration(
    integration_rules("one", Policy(prefixes=(parse_prefix("https://a.test/one"),), methods=frozenset({"GET"})))
)
TWO = KnownIntegration(
    integration_rules("two", Policy(prefixes=(parse_prefix("https://a.test/two"), parse_prefix("https://b.test"))))
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a.test:443", ("None", False)),
        ("b.test:443", ("None", False)),
        ("c.test:443", (403, "target_denied")),
        ("a.test:444", (403, "target_denied")),
    ],
)
def test_tunnel_without_an_id_needs_a_policy_that_reaches_it(target: str, expected: object) -> None:
    assert opening(decide_connect(connect(target), None, by_host(ONE, TWO))) == expected


def test_tunnel_without_an_id_ignores_integrations_of_other_callers() -> None:
    callers = tokens(x=frozenset({"one"}), y=frozenset({"two"}))
    for token, target, expected in (
        ("x", "a.test:443", ("None", False)),
        ("x", "b.test:443", (403, "target_denied")),
        ("y", "b.test:443", ("None", False)),
    ):
        head_ = connect(target, proxy_authorization=basic("-", token))
        assert opening(decide_connect(head_, callers, by_host(ONE, TWO))) == expected


@pytest.mark.parametrize(
    ("target", "method", "expected"),
    [
        ("https://a.test/one/x", b"GET", "one"),
        ("http://a.test/two", b"POST", "two"),
        ("https://b.test/", b"GET", "two"),
        ("https://a.test/one/x", b"POST", "method_denied"),
        ("https://a.test/three", b"GET", "target_denied"),
        ("https://a.test/one/../two", b"GET", "request_invalid"),
        ("https://a.test/one/%2e%2e/two", b"GET", "request_invalid"),
        ("https://c.test/", b"GET", "target_denied"),
        ("https://u@a.test/", b"GET", "request_invalid"),
    ],
)
def test_request_without_an_id_goes_to_the_integration_that_covers_its_target(
    target: str, method: bytes, expected: str
) -> None:
    result = decide(head(target, method), None, by_host(ONE, TWO))
    assert (str(result.candidate) if isinstance(result, Admitted) else result.problem.code) == expected


def test_named_integration_takes_precedence() -> None:
    result = decide(head("https://a.test/one", integration_id="two"), None, by_host(ONE, TWO))
    assert isinstance(result, Denied)
    assert (result.problem.code, str(result.candidate)) == ("target_denied", "two")


ENTRY = TunnelContext(Origin("https", "a.test", 443), b"h", b"one")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (head("https://a.test/api", host=b"a.test"), ""),
        (head("https://a.test/api", host=b"b.test"), "misdirected"),
        (head("https://a.test/other", host=b"b.test"), "misdirected"),
        (head("*", host=b"a.test"), "request_invalid"),
        (head("a.test:443", b"CONNECT", host=b"a.test"), "request_invalid"),
        (head("https://a.test/api", b"TRACE", host=b"a.test"), "method_denied"),
        (head("https://a.test/api", host=b"a.test", integration_id="k"), "request_invalid"),
        (head("https://a.test/api", host=b"a.test", token="two"), "request_invalid"),
        (head("https://a.test/api", host=b"a.test", origin="https://a.test", sec_fetch_site="same-origin"), ""),
    ],
)
def test_request_in_a_tunnel_must_match_its_connect(sent: RequestHead, code: str) -> None:
    """Its ID and token must agree with those of the CONNECT. Browser headers are not checked."""
    callers = tokens(one=frozenset({"h"}), two=None)
    result = decide(sent, callers, integration_table(KnownIntegration(integration_rules())), ENTRY)
    assert (result.problem.code if isinstance(result, Denied) else "") == code


def test_tunnel_keeps_the_id_and_the_token_of_its_connect() -> None:
    callers = tokens(one=frozenset({"h"}))
    result = decide_connect(
        connect("a.test:443", integration_id="h", token="one"),
        callers,
        integration_table(KnownIntegration(integration_rules())),
    )
    assert isinstance(result, TunnelAdmitted)
    assert result.caller is callers.find(b"one")
    entry = result.context("https")
    assert (entry.origin, entry.name, entry.token) == (Origin("https", "a.test", 443), b"h", b"one")
    denied = decide_connect(
        connect("a.test:444", integration_id="h", token="one"),
        callers,
        integration_table(KnownIntegration(integration_rules())),
    )
    assert isinstance(denied, Denied)
    assert denied.authority == ("a.test", 444)


ONE_CALLER = tokens(one=None)
IN_TUNNEL = "a request in a tunnel must have a path or an absolute URL as its target, and must not be a CONNECT"
LOOP = "Via shows that the request has already passed through Sidekey"
UNNAMED = "name the integration in X-Integration-Id or as the proxy user, http://ID:x@HOST:PORT"
TOKEN = "send the caller's token in Sidekey-Token or as the proxy user's password"


@pytest.mark.parametrize(
    ("result", "detail"),
    [
        (decide(head("*"), None, integration_table(H), ENTRY), IN_TUNNEL),
        (
            decide(head("/x"), None, integration_table(H)),
            "no such path: use /i/{id}/..., or /p/{id} of a preset, or configure Sidekey as HTTP_PROXY",
        ),
        (decide(head("/i/h/", b"TRACE"), None, integration_table(H)), "TRACE is never forwarded"),
        (
            decide(head("/i/h/", sec_fetch_site="cross-site"), None, integration_table(H)),
            "requests from web pages are refused (Sec-Fetch-Site)",
        ),
        (
            decide(head("/i/h/", origin="https://b.test"), None, integration_table(H)),
            "requests from web pages are refused (Origin) where no callers are configured",
        ),
        (
            decide(head("/i/h/", host=b"b.test"), None, integration_table(H)),
            "Host must be this listener's: an IP address, localhost or one of listen.names",
        ),
        (decide(head("/i/h/"), ONE_CALLER, integration_table(H)), TOKEN),
        (decide(head("https://a.test/"), ONE_CALLER, integration_table(H)), TOKEN),
        (
            decide(head("/i/h/", token="wrong"), ONE_CALLER, integration_table(H)),
            "no caller has this token: send a caller's token in Sidekey-Token or as the proxy user's password",
        ),
        (
            decide(head("/i/h/", token="Bearer one"), ONE_CALLER, integration_table(H)),
            "no caller has this token: send it without the word Bearer",
        ),
        (
            decide(head("/i/h/", token="eyJhbGciOiJSUzI1NiJ9.eyJ"), ONE_CALLER, integration_table(H)),
            "no caller has this token: send the whole JWT, and configure its issuer in jwt_issuers",
        ),
        (
            decide(head("/i/h/", token="x"), ONE_CALLER.on_connection((), None), integration_table(H)),
            "no caller has this token: with a client certificate, send none, and leave the proxy password empty",
        ),
        (
            decide(head("https://a.test/", host=b"a.test"), tokens(two=None), integration_table(H), ENTRY),
            "the caller that opened the tunnel is no longer in the config: open another one with a valid token",
        ),
        (decide(head("/i/k/"), None, integration_table(H)), "there is no such integration for this caller"),
        (
            decide(head("https://a.test/api", host=b"b.test"), ONE_CALLER, integration_table(H), ENTRY),
            "Host, and a target that is absolute, must name the authority that the tunnel was opened to",
        ),
        (decide(head("/i/h/", via="1.1 sidekey (word)"), None, integration_table(H)), LOOP),
        (decide(head("/i/h/", b"BREW"), None, integration_table(H)), "BREW is not among the integration's methods"),
        (
            decide(head("/i/h/a?k=1"), None, integration_table(KnownIntegration(integration_rules(parameters=("k",))))),
            "the query must not contain a parameter that Sidekey adds itself",
        ),
        (
            decide(
                head("/i/h/a?" + "%25252525252525252561=1"),
                None,
                integration_table(KnownIntegration(integration_rules(parameters=("access_token",)))),
            ),
            "the query must not be encoded so many times",
        ),
        (
            decide(
                head("/i/h/a?X-Amz-Date=1"),
                None,
                integration_table(KnownIntegration(integration_rules(spelling=CanonicalForm("x-amz-")))),
            ),
            "the query must not contain a parameter whose name begins with x-amz-",
        ),
        (decide(head("https://a.test/api"), None, integration_table(H)), UNNAMED),
        (
            decide(head("https://c.test/"), None, by_host(ONE)),
            "no integration of this caller covers the target: name one, or see policies",
        ),
        (
            decide(head("https://c.test./"), None, integration_table(H, passing=True)),
            "the target's host must not end in a dot",
        ),
        (
            decide(head("https://c.test/"), None, integration_table(H, passing=True, unresolved=("k",))),
            "the targets of an integration cannot be read: until then nothing passes without a credential",
        ),
        (decide_connect(connect("a.test:443", via="1.1 sidekey (word)"), None, integration_table(H)), LOOP),
        (decide_connect(connect("a.test:443"), None, integration_table(H)), UNNAMED),
        (
            decide_connect(connect("c.test:25"), None, integration_table(H, passing=True)),
            "the port of the target is not in forward.pass_ports",
        ),
        (
            decide_connect(connect("a.test:444", integration_id="h"), None, integration_table(H)),
            "no target at this host and port is inside the integration's policy",
        ),
    ],
)
def test_detail_of_a_denial_names_the_reason(result: Denied[KnownIntegration], detail: str) -> None:
    assert result.problem.detail == detail


def test_unknown_caller_in_a_tunnel_is_403_before_a_wrong_host_is_checked() -> None:
    request = head("https://a.test/api", host=b"b.test")
    result = decide(request, tokens(two=None), integration_table(KnownIntegration(integration_rules())), ENTRY)
    assert isinstance(result, Denied)
    assert (result.problem.status, result.problem.code, result.problem.headers) == (403, "caller_denied", ())


STORED = KnownIntegration(integration_rules("s", Policy(prefixes=(parse_prefix("https://s.test/api"),)), stored=True))


def ca_hosts(*hosts: str) -> IntegrationTable:
    """A stored integration and one of a file, both matched by host."""
    result = integration_table(H, STORED)
    policies = {item.rules.name: item.rules.policy for item in (H, STORED)}
    result.matching = Matching.of(policies, HostRestriction({"s"}, frozenset(hosts)))
    result.ca_hosts = frozenset(hosts)
    return result


def test_empty_callers_admit_nobody() -> None:
    """For example after an operator has deleted the last stored caller."""
    assert outcome(decide(head("/i/h/a"), tokens(), integration_table(H))) == "caller_denied"
    assert outcome(decide(head("/i/h/a", token="t"), tokens(), integration_table(H))) == "caller_denied"
    decision = decide_connect(head("a.test:443", b"CONNECT"), tokens(), integration_table(H))
    assert isinstance(decision, Denied)
    assert decision.problem.code == "caller_denied"


def test_stored_integration_serves_tunnels_only_at_allowed_hosts() -> None:
    """The local CA must not sign for a host that an editor chooses. Requests outside tunnels need no CA."""
    callers = tokens(t=frozenset({"s"}))
    connect = head("s.test:443", b"CONNECT", integration_id="s", token="t")
    for hosts, code in (
        ((), "ca_unavailable"),
        (("other.test",), "ca_unavailable"),
        (("s.test",), None),
        (("test",), None),
    ):
        decision = decide_connect(connect, callers, ca_hosts(*hosts))
        assert (decision.problem.code if isinstance(decision, Denied) else None) == code
        assert decision.candidate is STORED
        if isinstance(decision, Denied):
            assert (decision.problem.status, decision.problem.error) == (502, "proxy_configuration_error")
    # One that is opened before the integration became a stored one is judged by the snapshot of each request.
    entry = TunnelContext(Origin("https", "s.test", 443), b"s", b"t")
    inside = entry.make_absolute(head("/api/a", host=b"s.test"))
    assert outcome(decide(inside, callers, ca_hosts(), entry)) == "ca_unavailable"
    assert outcome(decide(inside, callers, ca_hosts("s.test"), entry)) == "https://s.test/api/a"
    for target in ("/i/s/a", "https://s.test/api/a"):
        assert (
            outcome(decide(head(target, integration_id="s", token="t"), callers, ca_hosts())) == "https://s.test/api/a"
        )


def test_stored_integration_is_matched_for_callers_that_list_it() -> None:
    """At hosts that the operator allows."""
    callers = tokens(lists=frozenset({"s"}), all=None, other=frozenset({"h"}))

    def result(token: str, *hosts: str) -> tuple[str, str]:
        routes = ca_hosts(*hosts)
        tunnel = decide_connect(head("s.test:443", b"CONNECT", token=token), callers, routes)
        opened = tunnel.problem.code if isinstance(tunnel, Denied) else "opened"
        return outcome(decide(head("https://s.test/api/a", token=token), callers, routes)), opened

    assert result("lists", "s.test") == ("https://s.test/api/a", "opened")
    for token, hosts in (("lists", ()), ("lists", ("x.s.test",)), ("all", ("s.test",)), ("other", ("s.test",))):
        assert result(token, *hosts) == ("target_denied", "target_denied")
    assert outcome(decide(head("https://a.test/api/a", token="all"), callers, ca_hosts())) == "https://a.test/api/a"


ANY = {"integration_id": "h"}


@pytest.mark.parametrize(
    ("result", "denial"),
    [
        (decide(head("https://a.test/api"), None, integration_table(H)), "integration_missing"),
        (decide_connect(connect("a.test:443"), None, integration_table(H)), "integration_missing"),
        (decide(head("/i/h/a"), ONE_CALLER, integration_table(H)), "token_missing"),
        (decide(head("/i/h/a", token="wrong"), ONE_CALLER, integration_table(H)), "token_unknown"),
        (
            decide(head("https://a.test/api", host=b"a.test"), tokens(two=None), integration_table(H), ENTRY),
            "token_unknown",
        ),
        (decide(head("/i/k/a"), None, integration_table(H)), "integration_unknown"),
        (decide(head("/i/k/a", token="one"), ONE_CALLER, integration_table(H)), "integration_unknown"),
        (decide(head("/i/h/a", token="t"), tokens(t=frozenset({"k"})), integration_table(H)), "integration_unlisted"),
        (decide(head("/i/k/a", token="t"), tokens(t=frozenset({"h"})), integration_table(H)), "integration_unlisted"),
        (decide(head("/i/h/", sec_fetch_site="cross-site"), None, integration_table(H)), "browser"),
        (decide(head("/i/h/", origin="https://b.test"), None, integration_table(H)), "browser"),
        (decide(head("/i/h/", host=b"b.test"), None, integration_table(H)), "foreign_host"),
        (decide(head("https://a.test/x", **ANY), None, integration_table(H)), "outside_prefix"),
        (decide(head("/i/h/%2e%2e/x"), None, integration_table(H)), "path_ambiguous"),
        (decide(head("/i/h/a%00"), None, integration_table(H)), "path_ambiguous"),
        (decide(head("ftp://a.test/api", **ANY), None, integration_table(H)), "target_malformed"),
        (decide(head("https:///api", **ANY), None, integration_table(H, passing=True)), "target_malformed"),
        (decide(head("https:///api"), None, integration_table(H, passing=True)), "target_malformed"),
        (decide(head("https:///api"), None, by_host(ONE)), "target_malformed"),
        (decide(head("*"), None, integration_table(H), ENTRY), "target_malformed"),
        (decide_connect(connect("a.test"), None, integration_table(H)), "target_malformed"),
        (decide_connect(connect("a.test:444", **ANY), None, integration_table(H)), "outside_policy"),
        (decide(head("https://c.test/"), None, by_host(ONE)), "not_covered"),
        (decide(head("https://c.test./"), None, integration_table(H, passing=True)), "trailing_dot"),
        (decide_connect(connect("c.test:25"), None, integration_table(H, passing=True)), "pass_ports"),
        (decide_connect(connect("s.test:443", integration_id="s"), None, ca_hosts()), "ca_hosts"),
        (decide(head("/i/h/", b"BREW"), None, integration_table(H)), "method_not_allowed"),
        (decide(head("/i/h/", b"TRACE"), None, integration_table(H)), "trace"),
        (decide(head("/i/h/", integration_id="k"), None, integration_table(H)), "names_differ"),
        (
            decide_connect(connect("a.test:443", proxy_authorization=basic("k"), **ANY), None, integration_table(H)),
            "names_differ",
        ),
        (
            decide(head("/i/h/a?k=1"), None, integration_table(KnownIntegration(integration_rules(parameters=("k",))))),
            "parameter_injected",
        ),
        (
            decide(
                head("/i/h/a?" + "%25252525252525252561=1"),
                None,
                integration_table(KnownIntegration(integration_rules(parameters=("access_token",)))),
            ),
            "parameters_unreadable",
        ),
        (decide(head("https://a.test/api", host=b"b.test"), ONE_CALLER, integration_table(H), ENTRY), "other_host"),
        (decide(head("/i/h/", via="1.1 sidekey (word)"), None, integration_table(H)), "loop"),
        (decide(head("/x"), None, integration_table(H)), None),
    ],
)
def test_denial_has_a_reason_from_the_closed_list(result: Denied[KnownIntegration], denial: str | None) -> None:
    """An error that is no denial, such as an unknown path, has none."""
    assert result.problem.denial == denial


@pytest.mark.parametrize(
    ("target", "base", "origin"),
    [
        ("/i/one/x", BASE, BASE.origin),
        ("/i/one/x", None, None),
        ("/p/one", BASE, None),
        ("/elsewhere", BASE, None),
        ("http://b.test:81/x", BASE, Origin("http", "b.test", 81)),
        ("http://b.test:81/x", None, Origin("http", "b.test", 81)),
        ("http://me:pass@word@b.test/", BASE, None),
    ],
)
def test_named_origin_of_a_denied_request(target: str, base: Prefix | None, origin: Origin | None) -> None:
    """The base of the integration at the reverse proxy. A malformed target has no origin."""
    assert named_origin(head(target), base, None) == origin


def test_named_origin_is_upgraded_to_https() -> None:
    assert (
        named_origin(head("http://a.test/x"), BASE, replace(PASSING, configured=POLICY, policy=POLICY, base=BASE))
        == BASE.origin
    )


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (head("/i/one/x"), "one"),
        (head("/elsewhere"), ""),
        (head("http://b.test/", integration_id="two"), "two"),
        (head("/i/one/x", integration_id="two"), ""),
    ],
)
def test_named_id_of_a_request(sent: RequestHead, name: str) -> None:
    assert named_id(sent) == name
