"""The one admission, as tables: a head, the callers and the integrations, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidekey.errors import Problem
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.decide import (
    COMMON_METHODS,
    DEFAULT_METHODS,
    Admitted,
    Denied,
    IntegrationRules,
    TunnelAdmitted,
    decide,
    decide_again,
    decide_connect,
    is_forward,
    judge,
    named_id,
    named_origin,
)
from sidekey.policy.match import HostRestriction, Matching
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Forbidden, Policy, Prefix, parse_domain, parse_prefix
from sidekey.policy.tunnel import TunnelEntry
from sidekey.policy.urls import Origin, Target, parse_target
from support.decisions import BASE, PASSING, POLICY, H, Integrations, Known, basic, head, known, outcome, rules, tokens


@pytest.mark.parametrize(
    ("target", "forward"),
    [("/", False), ("/i/h", False), ("*", False), ("http://a.test/", True), ("a.test:443", True), ("x", True)],
)
def test_the_form_of_a_target_tells_its_way_in(target: str, forward: bool) -> None:
    """Origin-form and asterisk-form are the reverse proxy's; whatever else there is, is the forward one's."""
    assert is_forward(target.encode()) is forward


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/", "not_found"),
        ("/i", "not_found"),
        ("/i/", "not_found"),
        ("/i//a", "not_found"),
        ("/i/?a", "not_found"),
        ("/I/h/a", "not_found"),
        ("//i/h/a", "not_found"),
        ("/j/h/a", "not_found"),
        ("*", "not_found"),
        ("/i/h", "https://a.test/api"),
        ("/i/h?q=1", "https://a.test/api?q=1"),
        ("/i/h/", "https://a.test/api/"),
        ("/i/h/a?q=/../x;y", "https://a.test/api/a?q=/../x;y"),
        ("/i/h/a%20b", "https://a.test/api/a%20b"),
        ("/i/%68/a", "integration_denied"),
        ("/i/H/a", "integration_denied"),
        ("/i/unknown/a", "integration_denied"),
        ("/i/h/../x", "request_invalid"),
        ("/i/h/%2e%2e/x", "request_invalid"),
        ("/i/h/%252e%252e/x", "request_invalid"),
        ("/i/h/a\\..\\..\\x", "request_invalid"),
        ("/i/h/a#f", "request_invalid"),
        ("/i/h/a%zz", "request_invalid"),
        ("/i/h/%00", "request_invalid"),
        ("/i/h/\xe9", "request_invalid"),
    ],
)
def test_targets_of_the_reverse_proxy(target: str, wanted: str) -> None:
    """Each is decided by its way in or its policy; what is allowed goes where it was sent, below the base."""
    assert outcome(decide(head(target, b"OPTIONS" if target == "*" else b"GET"), None, known(H))) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
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
def test_targets_of_the_forward_proxy(url: str, wanted: str) -> None:
    """An http:// target is upgraded where only an https policy names its host; Host plays no part."""
    for host in (b"evil.test", None, b"h.test"):
        assert outcome(decide(head(url, host=host, integration_id="h"), None, known(H))) == wanted


def test_what_allowed_a_target_is_named_where_it_was_read_exactly() -> None:
    """And the quick reading is asked first, with what follows the ID, or with the whole target."""
    exact = decide(head("/i/h/a"), None, known(H))
    assert isinstance(exact, Admitted)
    assert (exact.candidate, exact.rule) == (H, "https://a.test/api")
    there = Target(Origin("https", "quick.test", 443), "/x", None)
    quick = Known(rules(), {b"/a": there, b"http://a.test/x": there})
    for found in (head("/i/h/a"), head("http://a.test/x", integration_id="h")):
        decision = decide(found, None, known(quick))
        assert isinstance(decision, Admitted)
        assert (decision.candidate, decision.target, decision.rule) == (quick, there, "")


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ({}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": ""}, False),
        ({"origin": "http://evil.test"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
    ],
)
def test_requests_of_web_pages_are_kept_out(marks: dict[str, str], wanted: bool) -> None:
    """Of the reverse proxy alone: no page can make a browser send an absolute target."""
    reverse = decide(head("/i/h/a", **marks), None, known(H))
    assert outcome(reverse) == ("https://a.test/api/a" if wanted else "door_denied")
    forward = decide(head("http://a.test/api/a", integration_id="h", **marks), None, known(H))
    assert outcome(forward) == "https://a.test/api/a"


def test_origin_passes_where_callers_are_known() -> None:
    """The token tells the caller then; a page's Sec-Fetch-Site is refused all the same, before the token is asked."""
    callers = tokens(t=None)
    assert outcome(decide(head("/i/h/a", origin="http://a.test", token="t"), callers, known(H))).startswith("https")
    assert outcome(decide(head("/i/h/a", sec_fetch_site="cross-site"), callers, known(H))) == "door_denied"


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (b"h.test", True),
        (b"H.TEST:8080", True),
        (b"localhost:1", True),
        (b"127.0.0.1", True),
        (b"[::1]:8080", True),
        (None, True),
        (b"evil.test", False),
        (b"h.test.evil.test", False),
        (b"127.0.0.1.evil.test", False),
        (b"", False),
        (b"user@h.test", False),
    ],
)
def test_the_reverse_proxy_answers_to_its_own_hosts(host: bytes | None, wanted: bool) -> None:
    """Against DNS rebinding."""
    decision = decide(head("/i/h/a", host=host), None, known(H))
    assert outcome(decision) == ("https://a.test/api/a" if wanted else "door_denied")


@pytest.mark.parametrize(
    ("marks", "forward", "reverse"),
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
def test_every_place_that_names_the_integration_must_agree(marks: dict[str, Any], forward: str, reverse: str) -> None:
    """The path, X-Integration-Id and the proxy user; which integration it is then, or why not."""
    routes = known(H, Known(rules("o")))
    for target, wanted in (("https://a.test/api/a", forward), ("/i/h/a", reverse)):
        decision = decide(head(target, **marks), None, routes)
        assert (outcome(decision) if isinstance(decision, Denied) else repr(decision.candidate)) == wanted


def test_a_missing_name_is_asked_for() -> None:
    """By the challenge that a client of a proxy knows."""
    decision = decide(head("https://a.test/api/a"), None, known(H))
    assert isinstance(decision, Denied)
    assert (decision.problem.status, decision.problem.headers) == (
        407,
        (("Proxy-Authenticate", 'Basic realm="sidekey"'),),
    )


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ({"token": "t"}, "https://a.test/api/a"),
        ({"proxy_authorization": basic("h", "t")}, "https://a.test/api/a"),
        ({"proxy_authorization": basic("h", "t"), "token": "t"}, "https://a.test/api/a"),
        ({}, "caller_denied"),
        ({"token": "T"}, "caller_denied"),
        ({"token": ""}, "caller_denied"),
        ({"proxy_authorization": basic("h", "")}, "caller_denied"),
        ({"proxy_authorization": basic("h", "u")}, "caller_denied"),
        ({"proxy_authorization": basic("h", "t"), "token": "u"}, "request_invalid"),
    ],
)
def test_callers_show_their_token(marks: dict[str, Any], wanted: str) -> None:
    """By either way in, and before the ID is looked at: who is not known learns nothing of which IDs exist."""
    for target in ("/i/h/a", "https://a.test/api/a", "/i/nobody/a"):
        named = {} if target.startswith("/") else {"integration_id": "h"}
        routes = known(H)
        found = marks
        if "nobody" in target and "proxy_authorization" in marks:
            continue
        decision = decide(head(target, **found, **named), tokens(t=None), routes)
        if "nobody" in target and wanted.startswith("https"):
            assert outcome(decision) == "integration_denied"
            continue
        assert outcome(decision) == wanted
        if wanted == "caller_denied":
            assert isinstance(decision, Denied)
            challenge = ("Proxy-Authenticate", 'Basic realm="sidekey"')
            if target.startswith("/"):
                challenge = ("WWW-Authenticate", 'Sidekey-Token realm="sidekey"')
            assert decision.problem.status == (401 if target.startswith("/") else 407)
            assert decision.problem.headers == (challenge,)
            assert (decision.candidate, routes.asked) == (None, [])


def test_without_callers_no_token_is_asked() -> None:
    """One that is sent says nothing."""
    assert outcome(decide(head("/i/h/a", token="t"), None, known(H))) == "https://a.test/api/a"


def test_an_unknown_id_is_answered_like_one_of_another_caller() -> None:
    """The same problem, of no integration; and an integration that is not this caller's is not even looked for."""
    callers = tokens(t=frozenset({"o", "gone"}))
    routes = known(H)
    foreign = decide(head("/i/h/a", token="t"), callers, routes)
    assert routes.asked == []
    unknown = decide(head("/i/gone/a", token="t"), callers, routes)
    assert routes.asked == [b"gone"]
    assert isinstance(foreign, Denied)
    assert isinstance(unknown, Denied)
    said = Problem("integration_denied", foreign.problem.detail, denial="integration_unlisted")
    assert foreign.problem == unknown.problem == said
    # What is counted differs by the caller's own list, and so by nothing that a caller could find out.
    assert (foreign.problem.denial, unknown.problem.denial) == ("integration_unlisted", "integration_unknown")
    assert (foreign.candidate, unknown.candidate) == (None, None)


@pytest.mark.parametrize("target", ["/i/h/a", "https://a.test/api/a"])
def test_trace_is_refused_by_either_way_in(target: str) -> None:
    """RFC 9110 9.3.8: it reflects credentials. Whoever asks and whatever they name."""
    for callers in ({}, tokens(t=None)):
        decision = decide(head(target, b"TRACE", host=b"evil.test"), callers, known(H))
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
def test_methods_outside_the_integrations_are_denied(
    methods: set[str] | None, method: bytes, allow: str | None
) -> None:
    """405 with Allow (RFC 9110 10.2.1); TRACE and what no parser knows are never among them."""
    policy = Policy(prefixes=(BASE,), methods=None if methods is None else frozenset(methods))
    narrow = Known(rules(policy=policy))
    decision = decide(head("/i/h/a", method), None, known(narrow))
    if allow is None:
        assert outcome(decision) == "https://a.test/api/a"
        return
    assert isinstance(decision, Denied)
    assert (decision.problem.code, decision.candidate) == ("method_denied", narrow)
    assert decision.problem.headers == (("Allow", allow),)


def test_an_integration_takes_the_methods_that_the_parser_knows() -> None:
    """llhttp's, where it names none."""
    known_methods = (
        "ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY"
        " OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK"
        " UNLOCK UNSUBSCRIBE"
    )
    for method in known_methods.encode().split():
        assert outcome(decide(head("/i/h/", method), None, known(H))) == "https://a.test/api/", method


def test_no_integration_takes_trace_or_connect() -> None:
    """Whatever its config says."""
    given = rules(policy=Policy(prefixes=(BASE,), methods=frozenset({"TRACE", "CONNECT", "GET"})))
    assert given.methods == {b"GET"}
    assert not DEFAULT_METHODS & {b"TRACE", b"CONNECT"}


@pytest.mark.parametrize(
    ("via", "loops"),
    [
        ("1.1 sidekey (word)", True),
        ("1.0 a, 1.1 sidekey (word)", True),
        (", ".join(["1.1 sidekey (x)"] * 6), True),
        (", ".join(["1.1 sidekey (x)"] * 5), False),
        ("1.1 other", False),
        ("", False),
    ],
)
def test_a_loop_is_told_by_via(via: str, loops: bool) -> None:
    """And named with the integration, which the caller knows by then."""
    for target in ("/i/h/a", "https://a.test/api/a"):
        decision = decide(head(target, via=via, integration_id="h"), None, known(H))
        assert outcome(decision) == ("loop_detected" if loops else "https://a.test/api/a")
        if loops:
            assert decision.candidate is H


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", True),
        ("?", True),
        ("?a=b", True),
        ("?access_token=x", False),
        ("?a=b&ACCESS%5FTOKEN", False),
        ("?a=b;access_token=x", False),
    ],
)
def test_a_parameter_that_sidekey_adds_must_not_be_sent(query: str, wanted: bool) -> None:
    """Two would leave it to the server which one counts."""
    given = Known(rules(parameters=("access_token",)))
    for target in (f"/i/h/a{query}", f"https://a.test/api/a{query}"):
        decision = decide(head(target, integration_id="h"), None, known(given))
        assert outcome(decision) == (f"https://a.test/api/a{query}" if wanted else "request_invalid")
    assert outcome(decide(head(f"/i/h/a{query}"), None, known(H))) == f"https://a.test/api/a{query}"


def test_an_unresolved_integration_is_admitted_without_a_target() -> None:
    """Its method is judged at once, its target once it is known what by: nothing is read quickly before."""
    there = Target(Origin("https", "quick.test", 443), "/x", None)
    policy = Policy(prefixes=(BASE,), methods=frozenset({"GET"}))
    given = Known(rules(policy=policy, unresolved=True), {b"/../x": there})
    assert outcome(decide(head("/i/h/../x"), None, known(given))) == "unresolved"
    assert outcome(decide(head("/i/h/../x", b"POST"), None, known(given))) == "method_denied"
    assert outcome(decide_again(head("/i/h/../x"), Known(rules(policy=policy)), None)) == "request_invalid"
    assert outcome(decide_again(head("/i/h/x"), Known(rules(policy=policy)), None)) == "https://a.test/api/x"


def test_a_forbidden_target_is_denied() -> None:
    """Where the credential comes from is never a caller's target."""
    policy = Policy(prefixes=(BASE,), forbidden=(Forbidden(BASE.origin, "/api/token"),))
    decision = judge(head("/i/h/token"), Known(rules(policy=policy)))
    assert isinstance(decision, Denied)
    assert (decision.problem.code, decision.problem.detail) == (
        "target_denied",
        "the target is a token or login endpoint of the integration",
    )


# Where a grant tells the base URL.

PLACEHOLDER = parse_prefix("https://login.a.test/rest")
LEARNING = Policy(
    domains=(parse_domain("https://login.a.test"), parse_domain("https://*.a.test")),
    path="/rest",
    placeholder_origin=PLACEHOLDER.origin,
)


def test_a_learnt_base_moves_targets() -> None:
    """Those of the placeholder and of the reverse proxy; other hosts, allowed until then, are denied."""
    first = IntegrationRules.of("h", LEARNING, PLACEHOLDER, (), unresolved=False)
    asked = ("/i/h/x", "http://login.a.test/rest/x", "https://api5.a.test/rest/x", "https://api6.a.test/rest/x")

    def outcomes(given: IntegrationRules) -> list[str]:
        return [outcome(decide(head(each, integration_id="h"), None, known(Known(given)))) for each in asked]

    before = ["https://login.a.test/rest/x"] * 2 + ["https://api5.a.test/rest/x", "https://api6.a.test/rest/x"]
    assert outcomes(first) == before
    learnt = first.with_base(parse_prefix("https://api5.a.test/rest"))
    assert outcomes(learnt) == ["https://api5.a.test/rest/x"] * 3 + ["target_denied"]
    assert learnt.configured is LEARNING
    again = learnt.with_base(parse_prefix("https://api6.a.test/rest"))
    assert outcomes(again) == ["https://api6.a.test/rest/x"] * 2 + ["target_denied", "https://api6.a.test/rest/x"]
    assert outcomes(first) == before


def test_a_base_outside_the_policy_is_not_learnt() -> None:
    """The grant's word is judged like a target."""
    with pytest.raises(ValueError, match="not under any allowed domain"):
        IntegrationRules.of("h", LEARNING, PLACEHOLDER, (), unresolved=False).with_base(
            parse_prefix("https://evil.test/rest")
        )


def test_a_learnt_base_keeps_the_rest_of_the_rules() -> None:
    """Name, methods, parameters and whether it is resolved."""
    policy = Policy(domains=(parse_domain("https://*.a.test"),), methods=frozenset({"GET"}))
    given = IntegrationRules.of("h", policy, None, ("token",), unresolved=True)
    learnt = given.with_base(parse_prefix("https://b.a.test/v1"))
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
def test_what_no_integration_covers_passes(url: str, unnamed: str, named: str) -> None:
    """As nobody's; a covered host and what cannot be read never do."""
    routes = known(H, passing=True)
    assert outcome(decide(head(url), None, routes)) == unnamed
    assert outcome(decide(head(url, integration_id="h"), None, routes)) == named
    if unnamed == url:
        decision = decide(head(url, integration_id="h"), None, routes)
        assert decision.candidate is not None
        assert decision.candidate.rules is PASSING


def test_nothing_passes_that_an_invalid_name_came_with() -> None:
    """An unknown ID is denied first, as is a loop, TRACE or an unknown caller."""
    routes = known(H, passing=True)
    assert outcome(decide(head("http://up.test/", integration_id="nobody"), None, routes)) == "integration_denied"
    assert outcome(decide(head("http://up.test/", b"TRACE"), None, routes)) == "method_denied"
    assert outcome(decide(head("http://up.test/"), tokens(t=None), routes)) == "caller_denied"
    looped = decide(head("http://up.test/", via="1.1 sidekey (word)"), None, routes)
    assert outcome(looped) == "loop_detected"
    assert outcome(decide(head("/i/h/../x"), None, routes)) == "request_invalid"


def test_nothing_passes_while_an_integration_is_unresolved() -> None:
    """Its hosts might be among the others; the one that is named and unresolved is waited for instead."""
    unresolved = Known(rules("o", Policy(), unresolved=True))
    routes = known(H, unresolved, passing=True, unresolved=("o",))
    for marks in ({}, {"integration_id": "h"}):
        decision = decide(head("http://up.test/", **marks), None, routes)
        assert isinstance(decision, Denied)
        assert (decision.problem.code, decision.problem.error) == (
            "credential_unavailable",
            "proxy_configuration_error",
        )
    assert outcome(decide(head("http://up.test/", integration_id="o"), None, routes)) == "unresolved"
    assert outcome(decide(head("https://a.test/api/x", integration_id="h"), None, routes)) == "https://a.test/api/x"
    passthrough = known(H, passing=True).passthrough
    resolved = Known(rules("o", Policy(prefixes=(parse_prefix("https://o.test"),))))
    passed = decide_again(head("http://up.test/"), resolved, passthrough)
    assert isinstance(passed, Admitted)
    assert (outcome(passed), passed.candidate.rules) == ("http://up.test/", PASSING)
    assert outcome(decide_again(head("https://o.test/x"), resolved, passthrough)) == "https://o.test/x"
    assert outcome(decide_again(head("http://up.test./"), resolved, passthrough)) == "target_denied"


def test_the_quick_reading_spares_covered_targets_the_exact_one() -> None:
    """What the named integration allows quickly is covered."""
    there = Target(Origin("https", "quick.test", 443), "/x", None)
    quick = Known(rules(), {b"http://up.test/x": there})
    decision = decide(head("http://up.test/x", integration_id="h"), None, known(quick, passing=True))
    assert isinstance(decision, Admitted)
    assert (decision.candidate, decision.target) == (quick, there)


def test_what_a_former_config_covered_does_not_pass() -> None:
    """A request that names an integration which has gone was to carry a credential."""
    passthrough = known(passing=True).passthrough
    assert passthrough is not None
    assert passthrough.target(b"https://a.test:8443/x", H.rules) is None
    assert isinstance(passthrough.target(b"https://a.test:8443/x", None), Target)


# Tunnels.


def connect(target: str, **marks: Any) -> RequestHead:
    """The head of a CONNECT."""
    return head(target, b"CONNECT", **marks)


def opening(found: TunnelAdmitted[Known] | Denied[Known]) -> object:
    """What was decided on a CONNECT, in short."""
    if isinstance(found, Denied):
        return found.problem.status, found.problem.code
    return str(found.candidate), found.passes


WIDE = Policy(prefixes=(BASE, parse_prefix("http://plain.test:8080")))
WILD = Policy(domains=(parse_domain("https://*.wild.test"), parse_domain("https://b.test:8443")))
PINNED = Policy(domains=(parse_domain("https://auth.test"),), placeholder_origin=Origin("https", "auth.test", 443))


@pytest.mark.parametrize(
    ("target", "wanted"),
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
def test_a_tunnel_is_opened_to_what_the_policy_reaches(target: str, wanted: object) -> None:
    """On that port by https, or by http as the forward proxy reads it; the path is not known yet."""
    assert (
        opening(decide_connect(connect(target, integration_id="h"), None, known(Known(rules(policy=WIDE))))) == wanted
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
def test_what_a_policy_reaches(policy: Policy, target: str, reached: bool) -> None:
    """Prefixes and domains together; the host that is learnt, or what stands for it."""
    found = decide_connect(connect(target, integration_id="h"), None, known(Known(rules(policy=policy))))
    assert isinstance(found, TunnelAdmitted) is reached


def test_a_learnt_base_is_what_is_reached() -> None:
    """And what stood for it, which moves there."""
    policy = Policy(
        domains=(parse_domain("https://auth.test"), parse_domain("https://*.inst.test")),
        placeholder_origin=Origin("https", "auth.test", 443),
    )
    learnt = Known(rules(policy=policy).with_base(parse_prefix("https://x.inst.test")))
    for target, reached in (("auth.test:443", True), ("x.inst.test:443", True), ("y.inst.test:443", False)):
        found = decide_connect(connect(target, integration_id="h"), None, known(learnt))
        assert isinstance(found, TunnelAdmitted) is reached


def test_an_unresolved_integration_may_open_a_tunnel() -> None:
    """Whoever opens it decides again once it is resolved."""
    routes = known(Known(rules(unresolved=True)))
    assert opening(decide_connect(connect("a.test:443", integration_id="h"), None, routes)) == ("h", False)


@pytest.mark.parametrize(
    ("marks", "wanted"),
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
def test_who_may_open_a_tunnel(marks: dict[str, Any], wanted: object) -> None:
    """The caller is judged before the ID, as everywhere."""
    callers = tokens(one=frozenset({"h"}), two=frozenset())
    assert opening(decide_connect(connect("a.test:443", **marks), callers, known(Known(rules())))) == wanted


@pytest.mark.parametrize(
    ("target", "name", "wanted"),
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
def test_a_tunnel_passes_where_nothing_covers_its_host(target: str, name: str, wanted: object) -> None:
    """To the ports that are listed; what is covered never does."""
    routes = known(Known(rules()), passing=True)
    assert opening(decide_connect(connect(target, integration_id=name), None, routes)) == wanted
    unresolved = known(Known(rules()), passing=True, unresolved=("other",))
    if wanted == ("-", True):
        assert opening(decide_connect(connect(target), None, unresolved)) == (502, "credential_unavailable")


def by_host(*integrations: Known) -> Integrations:
    """These integrations, which requests need not name."""
    routes = known(*integrations)
    routes.matching = Matching.of({each.rules.name: each.rules.configured for each in integrations})
    return routes


ONE = Known(rules("one", Policy(prefixes=(parse_prefix("https://a.test/one"),), methods=frozenset({"GET"}))))
TWO = Known(rules("two", Policy(prefixes=(parse_prefix("https://a.test/two"), parse_prefix("https://b.test")))))


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("a.test:443", ("None", False)),
        ("b.test:443", ("None", False)),
        ("c.test:443", (403, "target_denied")),
        ("a.test:444", (403, "target_denied")),
    ],
)
def test_a_tunnel_without_a_name_must_lead_to_a_policy(target: str, wanted: object) -> None:
    assert opening(decide_connect(connect(target), None, by_host(ONE, TWO))) == wanted


def test_a_tunnel_by_host_is_the_callers_own() -> None:
    """What another caller may use does not count."""
    callers = tokens(x=frozenset({"one"}), y=frozenset({"two"}))
    for token, target, wanted in (
        ("x", "a.test:443", ("None", False)),
        ("x", "b.test:443", (403, "target_denied")),
        ("y", "b.test:443", ("None", False)),
    ):
        head_ = connect(target, proxy_authorization=basic("-", token))
        assert opening(decide_connect(head_, callers, by_host(ONE, TWO))) == wanted


@pytest.mark.parametrize(
    ("target", "method", "wanted"),
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
def test_a_request_without_a_name_is_the_ones_that_covers_it(target: str, method: bytes, wanted: str) -> None:
    """Its whole target, in every reading."""
    found = decide(head(target, method), None, by_host(ONE, TWO))
    assert (str(found.candidate) if isinstance(found, Admitted) else found.problem.code) == wanted


def test_a_name_that_is_given_wins() -> None:
    found = decide(head("https://a.test/one", integration_id="two"), None, by_host(ONE, TWO))
    assert isinstance(found, Denied)
    assert (found.problem.code, str(found.candidate)) == ("target_denied", "two")


ENTRY = TunnelEntry(Origin("https", "a.test", 443), b"h", b"one")


@pytest.mark.parametrize(
    ("given", "code"),
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
def test_a_request_in_a_tunnel(given: RequestHead, code: str) -> None:
    """Names and tokens agree with the CONNECT's; no browser check."""
    callers = tokens(one=frozenset({"h"}), two=None)
    found = decide(given, callers, known(Known(rules())), ENTRY)
    assert (found.problem.code if isinstance(found, Denied) else "") == code


def test_a_tunnel_knows_what_was_given_at_its_connect() -> None:
    """For the requests in it, and for the log."""
    callers = tokens(one=frozenset({"h"}))
    found = decide_connect(connect("a.test:443", integration_id="h", token="one"), callers, known(Known(rules())))
    assert isinstance(found, TunnelAdmitted)
    assert found.caller is next(iter(callers.values()))
    entry = found.entry("https")
    assert (entry.origin, entry.name, entry.token) == (Origin("https", "a.test", 443), b"h", b"one")
    denied = decide_connect(connect("a.test:444", integration_id="h", token="one"), callers, known(Known(rules())))
    assert isinstance(denied, Denied)
    assert denied.authority == ("a.test", 444)


ONE_CALLER = tokens(one=None)
IN_TUNNEL = "a request in a tunnel must have a path or an absolute URL as its target, and must not be a CONNECT"
LOOP = "Via shows that the request has already passed through Sidekey"
UNNAMED = "name the integration in X-Integration-Id or as the proxy user, http://ID:x@HOST:PORT"
TOKEN = "send the caller's token in Sidekey-Token or as the proxy user's password"


@pytest.mark.parametrize(
    ("found", "detail"),
    [
        (decide(head("*"), None, known(H), ENTRY), IN_TUNNEL),
        (
            decide(head("/x"), None, known(H)),
            "no such path: use /i/{id}/..., or /p/{id} of a preset, or configure Sidekey as HTTP_PROXY",
        ),
        (decide(head("/i/h/", b"TRACE"), None, known(H)), "TRACE is never forwarded"),
        (
            decide(head("/i/h/", sec_fetch_site="cross-site"), None, known(H)),
            "requests from web pages are refused (Sec-Fetch-Site)",
        ),
        (
            decide(head("/i/h/", origin="https://b.test"), None, known(H)),
            "requests from web pages are refused (Origin) where no callers are configured",
        ),
        (
            decide(head("/i/h/", host=b"b.test"), None, known(H)),
            "Host must be this listener's: an IP address, localhost or one of listen.names",
        ),
        (decide(head("/i/h/"), ONE_CALLER, known(H)), TOKEN),
        (decide(head("https://a.test/"), ONE_CALLER, known(H)), TOKEN),
        (
            decide(head("https://a.test/", host=b"a.test"), tokens(two=None), known(H), ENTRY),
            "the caller that opened the tunnel is no longer in the config: open another one with a valid token",
        ),
        (decide(head("/i/k/"), None, known(H)), "there is no such integration for this caller"),
        (
            decide(head("https://a.test/api", host=b"b.test"), ONE_CALLER, known(H), ENTRY),
            "Host, and a target that is absolute, must name the authority that the tunnel was opened to",
        ),
        (decide(head("/i/h/", via="1.1 sidekey (word)"), None, known(H)), LOOP),
        (decide(head("/i/h/", b"BREW"), None, known(H)), "BREW is not among the integration's methods"),
        (
            decide(head("/i/h/a?k=1"), None, known(Known(rules(parameters=("k",))))),
            "the query must not contain a parameter that Sidekey adds itself",
        ),
        (
            decide(
                head("/i/h/a?" + "%25252525252525252561=1"), None, known(Known(rules(parameters=("access_token",))))
            ),
            "the query must not be encoded so many times",
        ),
        (
            decide(head("/i/h/a?X-Amz-Date=1"), None, known(Known(rules(spelling=CanonicalForm("x-amz-"))))),
            "the query must not contain a parameter whose name begins with x-amz-",
        ),
        (decide(head("https://a.test/api"), None, known(H)), UNNAMED),
        (
            decide(head("https://c.test/"), None, by_host(ONE)),
            "no integration of this caller covers the target: name one, or see policies",
        ),
        (decide(head("https://c.test./"), None, known(H, passing=True)), "the target's host must not end in a dot"),
        (
            decide(head("https://c.test/"), None, known(H, passing=True, unresolved=("k",))),
            "what an integration covers cannot be read; until then nothing passes without a credential",
        ),
        (decide_connect(connect("a.test:443", via="1.1 sidekey (word)"), None, known(H)), LOOP),
        (decide_connect(connect("a.test:443"), None, known(H)), UNNAMED),
        (
            decide_connect(connect("c.test:25"), None, known(H, passing=True)),
            "the port of the target is not in forward.pass_ports",
        ),
        (
            decide_connect(connect("a.test:444", integration_id="h"), None, known(H)),
            "no target at this host and port is inside the integration's policy",
        ),
    ],
)
def test_a_refusal_says_what_must_be_true(found: Denied[Known], detail: str) -> None:
    """To whoever reads the answer, word by word."""
    assert found.problem.detail == detail


def test_in_a_tunnel_an_unknown_caller_comes_before_a_wrong_host() -> None:
    """And is 403 there."""
    given = head("https://a.test/api", host=b"b.test")
    found = decide(given, tokens(two=None), known(Known(rules())), ENTRY)
    assert isinstance(found, Denied)
    assert (found.problem.status, found.problem.code, found.problem.headers) == (403, "caller_denied", ())


STORED = Known(rules("s", Policy(prefixes=(parse_prefix("https://s.test/api"),)), stored=True))


def stored_at(*hosts: str) -> Integrations:
    """A stored integration beside one of a file, both matched by host."""
    found = known(H, STORED)
    policies = {each.rules.name: each.rules.policy for each in (H, STORED)}
    found.matching = Matching.of(policies, HostRestriction({"s"}, frozenset(hosts)))
    found.stored_at = frozenset(hosts)
    return found


def test_nobody_is_let_in_where_callers_are_judged_and_there_are_none() -> None:
    """As it is once the last caller of a store is removed."""
    assert outcome(decide(head("/i/h/a"), {}, known(H))) == "caller_denied"
    assert outcome(decide(head("/i/h/a", token="t"), {}, known(H))) == "caller_denied"
    decision = decide_connect(head("a.test:443", b"CONNECT"), {}, known(H))
    assert isinstance(decision, Denied)
    assert decision.problem.code == "caller_denied"


def test_a_named_stored_integration_is_used_in_tunnels_only_where_the_operator_says() -> None:
    """The local CA signs for no other host because an editor names it; the other ways in need no CA."""
    callers = tokens(t=frozenset({"s"}))
    connect = head("s.test:443", b"CONNECT", integration_id="s", token="t")
    for hosts, code in (
        ((), "ca_unavailable"),
        (("other.test",), "ca_unavailable"),
        (("s.test",), None),
        (("test",), None),
    ):
        decision = decide_connect(connect, callers, stored_at(*hosts))
        assert (decision.problem.code if isinstance(decision, Denied) else None) == code
        assert decision.candidate is STORED
        if isinstance(decision, Denied):
            assert (decision.problem.status, decision.problem.error) == (502, "proxy_configuration_error")
    # One that is opened before the integration became a stored one is judged by the snapshot of each request.
    entry = TunnelEntry(Origin("https", "s.test", 443), b"s", b"t")
    inside = entry.absolute(head("/api/a", host=b"s.test"))
    assert outcome(decide(inside, callers, stored_at(), entry)) == "ca_unavailable"
    assert outcome(decide(inside, callers, stored_at("s.test"), entry)) == "https://s.test/api/a"
    for target in ("/i/s/a", "https://s.test/api/a"):
        assert (
            outcome(decide(head(target, integration_id="s", token="t"), callers, stored_at())) == "https://s.test/api/a"
        )


def test_a_stored_integration_is_matched_for_callers_that_list_it() -> None:
    """And only at the hosts of the operator's."""
    callers = tokens(lists=frozenset({"s"}), all=None, other=frozenset({"h"}))

    def found(token: str, *hosts: str) -> tuple[str, str]:
        routes = stored_at(*hosts)
        tunnel = decide_connect(head("s.test:443", b"CONNECT", token=token), callers, routes)
        opened = tunnel.problem.code if isinstance(tunnel, Denied) else "opened"
        return outcome(decide(head("https://s.test/api/a", token=token), callers, routes)), opened

    assert found("lists", "s.test") == ("https://s.test/api/a", "opened")
    for token, hosts in (("lists", ()), ("lists", ("x.s.test",)), ("all", ("s.test",)), ("other", ("s.test",))):
        assert found(token, *hosts) == ("target_denied", "target_denied")
    assert outcome(decide(head("https://a.test/api/a", token="all"), callers, stored_at())) == "https://a.test/api/a"


ANY = {"integration_id": "h"}


@pytest.mark.parametrize(
    ("found", "denial"),
    [
        (decide(head("https://a.test/api"), None, known(H)), "integration_missing"),
        (decide_connect(connect("a.test:443"), None, known(H)), "integration_missing"),
        (decide(head("/i/h/a"), ONE_CALLER, known(H)), "token_missing"),
        (decide(head("/i/h/a", token="wrong"), ONE_CALLER, known(H)), "token_unknown"),
        (decide(head("https://a.test/api", host=b"a.test"), tokens(two=None), known(H), ENTRY), "token_unknown"),
        (decide(head("/i/k/a"), None, known(H)), "integration_unknown"),
        (decide(head("/i/k/a", token="one"), ONE_CALLER, known(H)), "integration_unknown"),
        (decide(head("/i/h/a", token="t"), tokens(t=frozenset({"k"})), known(H)), "integration_unlisted"),
        (decide(head("/i/k/a", token="t"), tokens(t=frozenset({"h"})), known(H)), "integration_unlisted"),
        (decide(head("/i/h/", sec_fetch_site="cross-site"), None, known(H)), "browser"),
        (decide(head("/i/h/", origin="https://b.test"), None, known(H)), "browser"),
        (decide(head("/i/h/", host=b"b.test"), None, known(H)), "foreign_host"),
        (decide(head("https://a.test/x", **ANY), None, known(H)), "outside_prefix"),
        (decide(head("/i/h/%2e%2e/x"), None, known(H)), "path_ambiguous"),
        (decide(head("/i/h/a%00"), None, known(H)), "path_ambiguous"),
        (decide(head("ftp://a.test/api", **ANY), None, known(H)), "target_malformed"),
        (decide(head("https:///api", **ANY), None, known(H, passing=True)), "target_malformed"),
        (decide(head("https:///api"), None, known(H, passing=True)), "target_malformed"),
        (decide(head("https:///api"), None, by_host(ONE)), "target_malformed"),
        (decide(head("*"), None, known(H), ENTRY), "target_malformed"),
        (decide_connect(connect("a.test"), None, known(H)), "target_malformed"),
        (decide_connect(connect("a.test:444", **ANY), None, known(H)), "outside_policy"),
        (decide(head("https://c.test/"), None, by_host(ONE)), "not_covered"),
        (decide(head("https://c.test./"), None, known(H, passing=True)), "trailing_dot"),
        (decide_connect(connect("c.test:25"), None, known(H, passing=True)), "pass_ports"),
        (decide_connect(connect("s.test:443", integration_id="s"), None, stored_at()), "ca_hosts"),
        (decide(head("/i/h/", b"BREW"), None, known(H)), "method_not_allowed"),
        (decide(head("/i/h/", b"TRACE"), None, known(H)), "trace"),
        (decide(head("/i/h/", integration_id="k"), None, known(H)), "names_differ"),
        (decide_connect(connect("a.test:443", proxy_authorization=basic("k"), **ANY), None, known(H)), "names_differ"),
        (decide(head("/i/h/a?k=1"), None, known(Known(rules(parameters=("k",))))), "parameter_injected"),
        (
            decide(
                head("/i/h/a?" + "%25252525252525252561=1"), None, known(Known(rules(parameters=("access_token",))))
            ),
            "parameters_unreadable",
        ),
        (decide(head("https://a.test/api", host=b"b.test"), ONE_CALLER, known(H), ENTRY), "other_host"),
        (decide(head("/i/h/", via="1.1 sidekey (word)"), None, known(H)), "loop"),
        (decide(head("/x"), None, known(H)), None),
    ],
)
def test_a_denial_is_one_of_a_closed_list(found: Denied[Known], denial: str | None) -> None:
    """As it is counted; what is no denial, such as a path that is no way in, has none."""
    assert found.problem.denial == denial


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
def test_where_a_denied_request_was_to_go_is_told_as_far_as_it_can_be_read(
    target: str, base: Prefix | None, origin: Origin | None
) -> None:
    """By the base of what it names at the reverse proxy; nothing of a target that is malformed."""
    assert named_origin(head(target), base, None) == origin


def test_where_a_denied_request_was_to_go_is_told_with_the_upgrade_of_its_integration() -> None:
    assert (
        named_origin(head("http://a.test/x"), BASE, replace(PASSING, configured=POLICY, policy=POLICY, base=BASE))
        == BASE.origin
    )


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (head("/i/one/x"), "one"),
        (head("/elsewhere"), ""),
        (head("http://b.test/", integration_id="two"), "two"),
        (head("/i/one/x", integration_id="two"), ""),
    ],
)
def test_the_id_that_a_request_gives_is_told_where_it_gives_one(made: RequestHead, name: str) -> None:
    assert named_id(made) == name
