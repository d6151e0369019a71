"""Origins of integrations, and whether they differ."""

from __future__ import annotations

import pytest

from sidekey.policy.match import has_several, target_origins
from sidekey.policy.targets import Policy, parse_domain, parse_prefix

A, B = "https://a.test", "https://b.test"


def policy(*prefixes: str, domains: tuple[str, ...] = (), learnt: bool = False) -> Policy:
    """Build a policy. With `learnt`, its first domain is a placeholder."""
    allowed = tuple(map(parse_domain, domains))
    placeholder_origin = allowed[0].origin if learnt else None
    return Policy(prefixes=tuple(map(parse_prefix, prefixes)), domains=allowed, placeholder_origin=placeholder_origin)


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], False),
        ([policy(f"{A}/v1")], False),
        ([policy(f"{A}/v1"), policy(f"{A}:443/v2")], False),
        ([policy(f"{A}/v1", f"{A}/v2")], False),
        ([policy(f"{A}/v1", f"{B}/v1")], True),
        ([policy(f"{A}/v1"), policy(f"{B}/v1")], True),
        ([policy("https://a.test:8443"), policy(A)], True),
        ([policy("http://a.test"), policy(A)], True),
        ([policy(domains=(A,)), policy(f"{A}/v1")], False),
        ([policy(domains=(A, B))], True),
        ([policy(f"{A}/v1", domains=(A, B))], False),
        ([policy(domains=("https://*.x.test",))], False),
        ([policy(domains=("https://*.x.test",)), policy(domains=("https://*.x.test",))], False),
        ([policy(domains=("https://*.x.test", "https://*.y.test"))], True),
        ([policy(domains=("https://*.x.test", "https://x.test"))], True),
        ([policy(domains=(A, "https://*.x.test"), learnt=True)], False),
        ([policy(domains=(A,), learnt=True), policy(domains=(A,), learnt=True)], True),
    ],
)
def test_target_origins(policies: list[Policy], expected: bool) -> None:
    """Prefixes narrow the domains. A discovered base is an origin of its own."""
    result = [
        each for number, one in enumerate(policies) for each in target_origins(f"i{number}", one, unresolved=False)
    ]
    assert has_several(result) is expected


def test_unresolved_origin_differs_from_all_others() -> None:
    assert [*target_origins("h", Policy(), unresolved=True)] == ["h"]
    assert has_several(
        [*target_origins("h", Policy(), unresolved=True), *target_origins("i", Policy(), unresolved=True)]
    )
