"""Whether a policy can allow any target: what is said to be impossible is denied whatever is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core.policy import Domain, Forbidden, Policy, Prefix, decide, parse_domain, parse_prefix
from sidekey.core.possible import learns_any, passes
from sidekey.core.urls import Origin

AUTH = Origin("https", "auth.example.com", 443)
TOKEN = Forbidden(AUTH, "/token")
LOGINS = Forbidden(None, "/rest/api/*/auth", below=True)

PREFIXES = (
    "https://auth.example.com",
    "https://auth.example.com/token",
    "https://auth.example.com:8443/v1",
    "http://auth.example.com/v1",
    "https://api.example.com/v1",
    "https://api.example.com/rest/api/v1",
    "https://api.example.com/rest/api/v1/auth",
    "https://api.example.com/rest",
    "https://api.example.com/a%2Fb;c=d",
    "https://eu.api.example.com/%7Bid%7D",
)
DOMAINS = ("https://auth.example.com", "https://api.example.com", "https://*.example.com", "http://auth.example.com")


def rules_of(policy: Policy) -> list[Prefix | Domain]:
    """What a target may be allowed by."""
    return [*(policy.prefixes or policy.domains)]


def possible(policy: Policy, *, learns: bool = False) -> bool:
    """Whether any of its rules lets a target pass."""
    return any(passes(policy, rule, learns=learns) for rule in rules_of(policy))


def policy_of(prefixes: list[str], domains: list[str], *forbidden: Forbidden, path: str = "") -> Policy:
    return Policy(tuple(map(parse_prefix, prefixes)), tuple(map(parse_domain, domains)), forbidden, path=path)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (policy_of([], []), False),
        (policy_of(["https://api.example.com/v1"], []), True),
        (policy_of(["https://api.example.com"], []), True),
        (policy_of([], ["https://auth.example.com"], TOKEN), True),
        (policy_of([], ["https://*.example.com"], TOKEN), True),
        (policy_of(["https://api.example.com/v1"], ["https://auth.example.com"], TOKEN), False),
        (policy_of(["http://auth.example.com/v1"], ["https://auth.example.com"], TOKEN), False),
        (policy_of(["https://auth.example.com:8443/v1"], ["https://auth.example.com"], TOKEN), False),
        (policy_of(["https://auth.example.com/token"], ["https://auth.example.com"], TOKEN), True),
        (policy_of(["https://api.example.com/v1"], ["https://*.example.com"], TOKEN), True),
        (policy_of(["https://example.com/v1"], ["https://*.example.com"], TOKEN), False),
        (policy_of(["https://api.example.com/rest/api/v1/auth"], ["https://api.example.com"], LOGINS), False),
        (policy_of(["https://api.example.com/rest/api/v1/auth/x"], ["https://api.example.com"], LOGINS), False),
        (policy_of(["https://api.example.com/rest/api/v1"], ["https://api.example.com"], LOGINS), True),
        (policy_of(["https://api.example.com/rest/api"], ["https://api.example.com"], LOGINS), True),
        (policy_of(["https://api.example.com/other"], ["https://api.example.com"], path="/rest/api"), False),
        (policy_of(["https://api.example.com/rest"], ["https://api.example.com"], path="/rest/api"), True),
        (policy_of(["https://api.example.com/rest/api/v1"], ["https://api.example.com"], path="/rest/api"), True),
        (policy_of([], ["https://api.example.com"], path="/rest/api"), True),
        (policy_of(["https://api.example.com/a%2Fb;c=d"], []), True),
        (policy_of(["https://api.example.com/x"], [], Forbidden(None, "/", below=True)), False),
    ],
)
def test_a_policy_is_possible_where_one_target_passes(policy: Policy, expected: bool) -> None:
    """Of prefixes, domains, forbidden targets and a path, all of which must let it."""
    assert possible(policy) is expected


@pytest.mark.parametrize(
    ("prefixes", "domains", "expected"),
    [
        (["https://api.example.com/v1"], ["https://*.example.com"], True),
        ([], ["https://*.example.com"], True),
        ([], ["https://auth.example.com"], True),
        ([], ["http://auth.example.com"], False),
        ([], ["https://auth.example.com:8443"], False),
        (["http://auth.example.com"], ["http://auth.example.com", "https://auth.example.com"], False),
        (
            ["http://auth.example.com", "https://auth.example.com/x"],
            ["http://auth.example.com", "https://*.example.com"],
            True,
        ),
    ],
)
def test_a_learnt_base_url_must_be_one_that_can_be_allowed(
    prefixes: list[str], domains: list[str], expected: bool
) -> None:
    """It is https on port 443, at an allowed domain, and at the host of a prefix where there are any."""
    policy = policy_of(prefixes, domains)
    assert learns_any(policy) is expected
    assert possible(policy, learns=True) is expected


@pytest.mark.parametrize(
    ("prefixes", "domains", "expected"),
    [
        ([], [], True),
        (["https://auth.example.com/v1"], [], True),
        (["https://auth.example.com/v1"], ["https://*.example.org"], True),
        (["https://api.example.org/v1"], ["https://*.example.org"], True),
        (["https://api.example.org/v1"], [], False),
        (["http://api.example.org/v1"], ["http://api.example.org"], False),
    ],
)
def test_what_is_at_a_placeholder_moves_to_what_is_learnt(
    prefixes: list[str], domains: list[str], expected: bool
) -> None:
    """A prefix there is one at each host that may be learnt; a prefix elsewhere must be the learnt one."""
    policy = Policy(
        tuple(map(parse_prefix, prefixes)),
        (*map(parse_domain, domains), Domain(AUTH)),
        (Forbidden(None, "/token"),),
        placeholder_origin=AUTH,
    )
    assert possible(policy, learns=True) is expected


@given(
    st.lists(st.sampled_from(PREFIXES), max_size=2),
    st.lists(st.sampled_from(DOMAINS), max_size=2),
    st.lists(st.sampled_from((TOKEN, LOGINS, Forbidden(None, "/v1", below=True)))),
    st.sampled_from(("", "/rest/api", "/v1")),
    st.text("/aA1.%;{}~", max_size=12),
)
def test_what_is_impossible_is_denied_whatever_is_asked_for(
    prefixes: list[str], domains: list[str], forbidden: list[Forbidden], path: str, rest: str
) -> None:
    """Under each prefix, and at each domain."""
    policy = policy_of(prefixes, domains, *forbidden, path=path)
    dead = [rule for rule in rules_of(policy) if not passes(policy, rule, learns=False)]
    for rule in dead:
        base = str(rule).replace("*.", "x.")
        for target in (f"{base}{rest}", f"{base}/{rest}", f"{base}{path}/{rest}", f"{base}/rest/api/v1/{rest}"):
            found = decide(policy, "GET", target)
            # What another rule allows is that one's.
            assert not found.allowed or len(rules_of(policy)) > len(dead)
