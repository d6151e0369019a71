"""Decisions of a policy, and the parsers of its rules."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from sidekey.policy.targets import (
    Domain,
    Forbidden,
    Policy,
    Verdict,
    judge_url,
    method_allowed,
    parse_discovered_base,
    parse_domain,
    parse_prefix,
    upgrade,
)
from sidekey.policy.urls import Origin, parse_target

PREFIX = parse_prefix("https://a.example/api/v1")
POLICY = Policy(prefixes=(PREFIX,))


def allowed(policy: Policy, url: str) -> bool:
    """Return True if a GET of the URL is allowed."""
    return judge_url(policy, "GET", url).allowed


@pytest.mark.parametrize("url", ["http://a.example/api/v1/x", "http://a.example:443/api/v1/x"])
def test_https_prefix_does_not_cover_http(url: str) -> None:
    """On no port. The other rows of the table of targets are sent to an upstream (test_path_spellings)."""
    assert judge_url(POLICY, "GET", url).code == "target_denied"


def test_policy_without_rules_denies_everything() -> None:
    target = parse_target("https://a.example/")
    denied = Verdict(False, "target_denied", "the integration allows no target", target, denial="nothing_allowed")
    assert judge_url(Policy(), "GET", "https://a.example/") == denied


@pytest.mark.parametrize(
    ("policy", "method", "url", "code", "reason", "denial"),
    [
        (
            POLICY,
            "TRACE",
            "https://a.example/api/v1",
            "method_denied",
            "the method TRACE is not allowed",
            "method_not_allowed",
        ),
        (POLICY, "GET", "a.example", "request_invalid", "the target must be an absolute URL", "target_malformed"),
        (
            POLICY,
            "GET",
            "https://a.example/%00",
            "request_invalid",
            "the path must not contain control characters, encoded or not",
            "path_ambiguous",
        ),
        (
            POLICY,
            "GET",
            "https://a.example./api/v1",
            "target_denied",
            "the target's host must not end in a dot",
            "trailing_dot",
        ),
        (
            POLICY,
            "GET",
            "https://a.example/x",
            "target_denied",
            "the target is not under any endpoint prefix",
            "outside_prefix",
        ),
        (
            Policy(domains=(Domain(PREFIX.origin),)),
            "GET",
            "https://b.example/x",
            "target_denied",
            "the target is not under any allowed domain",
            "outside_domains",
        ),
        (
            Policy(domains=(Domain(PREFIX.origin),), path="/rest"),
            "GET",
            "https://a.example/x",
            "target_denied",
            "the target is not under /rest",
            "outside_path",
        ),
        (
            Policy(domains=(Domain(PREFIX.origin),), forbidden=(Forbidden(None, "/token"),)),
            "GET",
            "https://a.example/token",
            "target_denied",
            "the target is a token or login endpoint of the integration",
            "token_endpoint",
        ),
    ],
)
def test_denial_names_its_rule(policy: Policy, method: str, url: str, code: str, reason: str, denial: str) -> None:
    """The response and `sidekey explain` show the reason, and a metric counts the denial."""
    decision = judge_url(policy, method, url)
    assert (decision.allowed, decision.code, decision.reason, decision.rule) == (False, code, reason, "")
    assert decision.denial == denial
    assert (decision.target is None) == (code != "target_denied")


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Forbidden(Origin("https", "a.example", 443), "/token"), "https://a.example/token"),
        (Forbidden(None, "/rest/*/auth", below=True), "/rest/*/auth/..."),
        (Domain(Origin("https", "a.example", 443), wildcard=True), "https://*.a.example"),
    ],
)
def test_rule_is_printed_as_in_the_config(rule: Forbidden | Domain, text: str) -> None:
    """`sidekey explain` prints rules."""
    assert str(rule) == text


@pytest.mark.parametrize(
    "rule", [PREFIX, Domain(PREFIX.origin), Forbidden(None, "/"), POLICY, judge_url(POLICY, "GET", "/")], ids=repr
)
def test_rules_are_immutable(rule: Any) -> None:
    """All requests of an integration share them."""
    with pytest.raises(FrozenInstanceError):
        setattr(rule, next(iter(rule.__dataclass_fields__)), None)
    assert not hasattr(rule, "__dict__")


def test_decision_names_the_matching_rules() -> None:
    policy = Policy(
        prefixes=(parse_prefix("https://b.example"), PREFIX), domains=(parse_domain("https://*.a.example"),)
    )
    target = parse_target("https://a.example/api/v1/x")
    decision = judge_url(POLICY, "GET", "https://a.example/api/v1/x")
    assert decision == Verdict(True, "", "the target is allowed", target, "https://a.example/api/v1")
    both = judge_url(policy, "GET", "https://a.example/api/v1/x")
    assert (both.code, both.reason) == ("target_denied", "the target is not under any allowed domain")
    wider = replace(policy, domains=(*policy.domains, parse_domain("https://a.example")))
    assert (
        judge_url(wider, "GET", "https://a.example/api/v1/x").rule == "https://a.example/api/v1 and https://a.example"
    )


def test_any_prefix_allows_a_target() -> None:
    policy = Policy(prefixes=(PREFIX, parse_prefix("https://b.example:8443/x")))
    assert allowed(policy, "https://b.example:8443/x/y")
    assert allowed(policy, "https://a.example/api/v1/y")
    assert not allowed(policy, "https://b.example/x/y")


def test_prefixes_and_domains_must_both_allow() -> None:
    policy = Policy(prefixes=(PREFIX,), domains=(parse_domain("https://a.example"), parse_domain("https://b.example")))
    assert allowed(policy, "https://a.example/api/v1/x")
    assert not allowed(policy, "https://a.example/other")
    assert not allowed(policy, "https://b.example/api/v1/x")


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://x.shop.example/p", True),
        ("https://y.x.shop.example/p", True),
        ("https://X.SHOP.example/p", True),
        ("https://shop.example/p", False),
        ("https://evilshop.example/p", False),
        ("https://x.shop.example.evil/p", False),
        ("http://x.shop.example/p", False),
        ("https://x.shop.example:8443/p", False),
        ("https://x.shop.example./p", False),
        ("https://.shop.example/p", False),
    ],
)
def test_wildcard_covers_labels_under_its_suffix(url: str, verdict: bool) -> None:
    """One or more labels, with https on port 443."""
    assert allowed(Policy(domains=(parse_domain("https://*.shop.example"),)), url) is verdict


def test_encoded_control_character_is_an_invalid_request() -> None:
    """No rule allows it."""
    elsewhere = Policy(prefixes=(parse_prefix("https://b.example/api"),))
    for policy in (POLICY, Policy(), Policy(domains=(parse_domain("https://a.example"),)), elsewhere):
        assert judge_url(policy, "GET", "https://a.example/api/v1/%2500").code == "request_invalid"


@pytest.mark.parametrize(
    ("methods", "method", "verdict"),
    [
        (None, "GET", True),
        (None, "PURGE", True),
        (None, "TRACE", False),
        (None, "CONNECT", False),
        (frozenset({"POST"}), "POST", True),
        (frozenset({"POST"}), "GET", False),
        (frozenset({"POST"}), "post", False),
        (frozenset({"TRACE"}), "TRACE", False),
    ],
)
def test_methods_are_those_listed_and_never_trace_or_connect(
    methods: frozenset[str] | None, method: str, verdict: bool
) -> None:
    """Without a list all methods but these two are allowed."""
    policy = Policy(prefixes=(PREFIX,), methods=methods)
    assert method_allowed(policy, method) is verdict
    assert judge_url(policy, method, "https://a.example/api/v1").code == ("" if verdict else "method_denied")


@pytest.mark.parametrize(
    ("policy", "url", "upgraded"),
    [
        (POLICY, "http://a.example/api/v1/x", True),
        (POLICY, "http://a.example:80/other", True),
        (POLICY, "http://a.example:8080/api/v1/x", False),
        (POLICY, "http://b.example/api/v1/x", False),
        (POLICY, "https://a.example/api/v1/x", False),
        (Policy(prefixes=(PREFIX, parse_prefix("http://a.example/x"))), "http://a.example/api/v1/x", False),
        (Policy(prefixes=(parse_prefix("https://a.example:8443/x"),)), "http://a.example/x", False),
        (Policy(domains=(parse_domain("https://*.shop.example"),)), "http://x.shop.example/p", True),
        (Policy(domains=(parse_domain("https://*.shop.example"),)), "http://shop.example/p", False),
        (
            Policy(domains=(parse_domain("https://a.example"), Domain(Origin("http", "example", 80), wildcard=True))),
            "http://a.example/p",
            False,
        ),
        (
            Policy(domains=(parse_domain("https://a.example"), Domain(Origin("http", "a.example", 80), wildcard=True))),
            "http://a.example/p",
            True,
        ),
        (
            Policy(domains=(parse_domain("https://a.example"), parse_domain("http://b.example"))),
            "http://a.example/p",
            True,
        ),
        (
            Policy(domains=(parse_domain("https://a.example"), parse_domain("http://a.example:81"))),
            "http://a.example/p",
            False,
        ),
    ],
)
def test_http_is_upgraded_if_only_https_rules_name_the_host(policy: Policy, url: str, upgraded: bool) -> None:
    """Path and query do not change."""
    target = parse_target(url)
    expected = target._replace(origin=Origin("https", target.origin.host, 443)) if upgraded else target
    assert upgrade(policy, target) == expected


RESPONSYS = Policy(
    domains=tuple(
        map(parse_domain, ("https://login2.responsys.net", "https://*.responsys.net", "https://*.rsys8.net"))
    ),
    forbidden=(Forbidden(None, "/rest/api/*/auth", below=True),),
    path="/rest/api/v1.3",
    placeholder_origin=Origin("https", "login2.responsys.net", 443),
)


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://login2.responsys.net/rest/api/v1.3/campaigns", True),
        ("https://api5-009.responsys.net/rest/api/v1.3", True),
        ("https://api5-009.responsys.net/rest/api/v1.30", False),
        ("https://api5-009.responsys.net/rest/api/v1.3/..;/v1.2/x", False),
        ("https://api5-009.responsys.net/rest/api/v1.3/auth/token", False),
        ("https://api5-009.responsys.net/rest/api/v1.3/x/..%2fauth/token", False),
        ("https://api5-009.responsys.net/rest/api/v1.3/authors", True),
        ("https://responsys.net/rest/api/v1.3/x", False),
        ("https://api.responsys.net.evil.example/rest/api/v1.3/x", False),
        ("http://api5-009.responsys.net/rest/api/v1.3/x", False),
    ],
)
def test_targets_at_any_origin_must_be_under_the_path(url: str, verdict: bool) -> None:
    """In every spelling, and never at the token endpoint."""
    assert judge_url(RESPONSYS, "GET", url).allowed is verdict


def test_discovered_origin_replaces_all_others() -> None:
    """Targets at the login host move there. Other possible hosts are denied."""
    learnt = parse_discovered_base("https://api5-009.responsys.net/rest/api/v1.3")
    policy = RESPONSYS.with_base(learnt)
    login = parse_target("https://login2.responsys.net/rest/api/v1.3/campaigns?a=1")
    moved = policy.move(login, learnt.origin)
    assert (str(moved.origin), moved.request_target) == (str(learnt.origin), "/rest/api/v1.3/campaigns?a=1")
    assert judge_url(policy, "GET", "https://api5-009.responsys.net/rest/api/v1.3/campaigns").allowed
    for other in ("https://api5-010.responsys.net", "https://login2.responsys.net"):
        assert judge_url(policy, "GET", f"{other}/rest/api/v1.3/campaigns").code == "target_denied"
        assert policy.move(parse_target(f"{other}/x"), learnt.origin).origin.host in (
            learnt.origin.host,
            "api5-010.responsys.net",
        )


@pytest.mark.parametrize("written", ["https://login2.responsys.net", "https://api5-009.responsys.net"])
def test_prefix_narrows_the_discovered_base(written: str) -> None:
    """With the host of the login or of the endpoint. Before discovery, only the path counts at the login host."""
    policy = replace(RESPONSYS, prefixes=(parse_prefix(f"{written}/rest/api/v1.3/campaigns"),))
    login = "https://login2.responsys.net/rest/api/v1.3"
    assert judge_url(policy, "GET", f"{login}/campaigns/1").allowed
    assert not judge_url(policy, "GET", f"{login}/lists").allowed
    learnt = policy.with_base(parse_discovered_base("https://api5-009.responsys.net/rest/api/v1.3"))
    assert judge_url(learnt, "GET", "https://api5-009.responsys.net/rest/api/v1.3/campaigns/1").allowed
    assert not judge_url(learnt, "GET", "https://api5-009.responsys.net/rest/api/v1.3/lists").allowed


@pytest.mark.parametrize("url", ["https://a.example/token", "http://a.example/token", "https://a.example:8443/TOKEN/"])
def test_forbidden_target_is_denied_on_every_port(url: str) -> None:
    """A domain may allow another port of the token endpoint's host."""
    policy = Policy(
        domains=tuple(map(parse_domain, ("https://a.example", "http://a.example", "https://a.example:8443"))),
        forbidden=(Forbidden(Origin("https", "a.example", 443), "/token"),),
    )
    assert judge_url(policy, "POST", url).code == "target_denied"


def test_discovered_base_does_not_widen_a_policy() -> None:
    policy = Policy(domains=(parse_domain("https://a.example"),))
    assert policy.with_base(parse_discovered_base("https://a.example/v1")) is policy
    assert POLICY.with_base(parse_discovered_base("https://a.example/v2")) is POLICY
    assert Policy().with_base(parse_discovered_base("https://a.example/v2")) == Policy()


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (RESPONSYS, "it is not under any allowed domain"),
        (replace(RESPONSYS, domains=()), "it is not under any allowed domain"),
        (Policy(domains=(parse_domain("https://a.example"),)), "it is not under any allowed domain"),
        (
            Policy(prefixes=(PREFIX,), domains=(parse_domain("https://*.evil.example"),)),
            "its host is not that of any endpoint_prefix",
        ),
    ],
)
def test_discovered_base_outside_the_policy_is_refused(policy: Policy, reason: str) -> None:
    """A token response cannot send the credential elsewhere."""
    with pytest.raises(ValueError, match=rf"\A{reason}\Z"):
        policy.with_base(parse_discovered_base("https://x.evil.example"))


@pytest.mark.parametrize(
    "text", ["https://a.example", "https://a.example/", "https://a.example/v1/", "https://a.example:443"]
)
def test_discovered_base_is_https_on_port_443(text: str) -> None:
    """With or without a path and a trailing slash."""
    assert parse_discovered_base(text).origin == Origin("https", "a.example", 443)


@pytest.mark.parametrize(
    "text",
    [
        "http://a.example",
        "https://a.example:8443",
        "https://u:p@a.example",
        "https://a.example/?x=1",
        "https://a.example/#x",
        "https://a.example/../x",
        "https://a.example//x",
        "https://a.exämple",
        "a.example",
        "//a.example",
        "https://",
        "",
        "https://a.example\r\nX: y",
        "https://*.a.example",
    ],
)
def test_invalid_discovered_base_is_refused(text: str) -> None:
    """The reason repeats nothing of it."""
    url, https = "it must be an absolute URL without userinfo, query and dot segments", "it must be https on port 443"
    with pytest.raises(ValueError, match=rf"\A({url}|{https})\Z"):
        parse_discovered_base(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("https://a.example/api/v1/", "https://a.example/api/v1"),
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("HTTPS://A.example:443/Api", "https://a.example/Api"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://a.example/a%20b", "https://a.example/a%20b"),
        ("https://127.0.0.1/x", "https://127.0.0.1/x"),
    ],
)
def test_prefix_is_normalized(text: str, written: str) -> None:
    """Its path keeps its case."""
    assert str(parse_prefix(text)) == written


ABSOLUTE = "must be an absolute URL such as https://api.example.com/v1"
HTTP = "the URL's scheme must be http or https"
QUERY = "must not contain a query"
FRAGMENT = "must not contain a fragment"
USERINFO = "must not contain userinfo: put the credential under auth"
DOTS = "the path must not contain a dot segment (. or ..), encoded or not, also with blanks, ;, :, ? or # after it"
EMPTY = "must not contain empty segments (//)"
CONTROL = "the path must not contain control characters, encoded or not"
FOREIGN = "the URL contains characters that must be percent-encoded"
ESCAPE = "the URL contains an invalid percent-encoding"
ASCII = "must be ASCII: write an international host name in punycode (xn--...) and percent-encode a path"
WILDCARD = "a wildcard must be https://*.suffix, and is allowed only in allowed_domains"
FINAL_DOT = "the host must not end in a dot"
PORT = "the URL's port must be 1 to 65535"
HOST = "the URL's host must be a host name or an IP address: write an international name in punycode"
SUFFIX = "a wildcard must be https://*.suffix with a suffix of at least two labels"
BRACES = "the host must not contain { or }: nothing is filled in here, write the name itself"
NO_PATH = "must not contain a path: narrow it with endpoint_prefix"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.example/api", ABSOLUTE),
        ("/api", ABSOLUTE),
        ("ftp://a.example/", HTTP),
        ("https://a.example/p?x=1", QUERY),
        ("https://a.example?", QUERY),
        ("https://a.example/p#f", FRAGMENT),
        ("https://user:pass@a.example/", USERINFO),
        ("https://{tenant.a.example/", BRACES),
        ("https://tenant}.a.example/", BRACES),
        ("https://a.example/a/../b", DOTS),
        ("https://a.example/a/./b", DOTS),
        ("https://a.example/a/%2e%2E/b", DOTS),
        ("https://a.example/%252e/b", DOTS),
        ("https://a.example/..;x", DOTS),
        ("https://a.example/a//b", EMPTY),
        ("https://a.example/a//", EMPTY),
        ("https://a.example/%00", CONTROL),
        ("https://a.example/a b", FOREIGN),
        ("https://a.example/a\\b", FOREIGN),
        ("https://a.example/%g", ESCAPE),
        ("https://stra\xdfe.example/", ASCII),
        ("https://*.a.example/", WILDCARD),
        ("https://a.example./", FINAL_DOT),
        ("https://0x7f.1/", "the address must be written as 127.0.0.1"),
        ("https://a.example:0/", PORT),
        ("https:///x", HOST),
    ],
)
def test_invalid_prefix_is_refused(text: str, reason: str) -> None:
    """The message repeats no password."""
    with pytest.raises(ValueError, match=rf"\A{re.escape(reason)}\Z"):
        parse_prefix(text)


@pytest.mark.parametrize("text", ["https://a.example/@b", "https://a.example/%2A", "https://[2001:db8::1]/x"])
def test_path_may_contain_characters_that_a_host_may_not(text: str) -> None:
    assert str(parse_prefix(text)) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("https://b.example", "https://b.example"),
        ("https://b.example/", "https://b.example"),
        ("http://b.example:8080", "http://b.example:8080"),
        ("https://*.Shop.example", "https://*.shop.example"),
    ],
)
def test_domain_is_a_base_url_or_a_wildcard(text: str, written: str) -> None:
    assert str(parse_domain(text)) == written


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://b.example/path", NO_PATH),
        ("https://b.example?", NO_PATH),
        ("https://*.example", SUFFIX),
        ("http://*.shop.example", SUFFIX),
        ("https://*.10.0.0.1", SUFFIX),
        ("https://*.[::1]", SUFFIX),
        ("https://*", WILDCARD),
        ("https://x.*.example", WILDCARD),
        ("https://*.*.example", WILDCARD),
        ("*.shop.example", ABSOLUTE),
        ("b.example", ABSOLUTE),
    ],
)
def test_invalid_domain_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"\A{re.escape(reason)}\Z"):
        parse_domain(text)
