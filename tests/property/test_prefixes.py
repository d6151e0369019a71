"""A check against many prefixes equals the single checks."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.policy import paths
from sidekey.policy.targets import Policy, Prefix, judge_url, parse_prefix
from support.http_strategies import soup

ORIGINS = ["https://a.test", "https://b.test"]
PATHS = [
    "",
    "/a",
    "/a/b",
    "/a/b/c",
    "/api",
    "/api/a",
    "/a%20b",
    "/a%20b/c",
    "/a;v=1",
    "/a;v=1/b",
    "/%C2%BD",
    "/a%2fb/c",
    "/apix",
]
PREFIXES = st.lists(st.tuples(st.sampled_from(ORIGINS), st.sampled_from(PATHS)), min_size=1, max_size=8)
TARGETS = st.tuples(st.sampled_from(["", "/a", "/a/b", "/api", "/a%20b", "/a;v=1", "/%C2%BD", "/a%2fb/c"]), soup()).map(
    "".join
)


def covers(prefix: Prefix, origin: str, path: str) -> bool:
    """Return True if the path is unambiguous and under this prefix."""
    try:
        paths.final_form(path)
    except paths.UnreadablePath:
        return False
    return str(prefix.origin) == origin and paths.under(path, prefix.path)


@given(PREFIXES, st.sampled_from(ORIGINS), TARGETS)
@example([("https://a.test", "/a/b"), ("https://a.test", "/a")], "https://a.test", "/a/b/c")
@example([("https://a.test", "/a/b"), ("https://b.test", "/a")], "https://a.test", "/a/b/c")
@example([("https://a.test", "/a/b"), ("https://a.test", "/a")], "https://a.test", "/a/b/../c")
@example([("https://a.test", "/a/b"), ("https://a.test", "")], "https://a.test", "/x")
def test_target_is_allowed_if_any_prefix_allows_it(written: list[tuple[str, str]], origin: str, target: str) -> None:
    """The decision names a prefix that allows it."""
    prefixes = [parse_prefix(origin + path) for origin, path in written]
    path = target.partition("?")[0]
    decision = judge_url(Policy(prefixes=tuple(prefixes)), "GET", origin + target)
    # What no URL contains is refused before any path is read.
    allowing = (
        [] if decision.reason.startswith("the target contains") else [p for p in prefixes if covers(p, origin, path)]
    )
    assert decision.allowed == bool(allowing)
    if allowing:
        assert decision.rule in map(str, allowing)
        assert len(decision.rule) == min(map(len, map(str, allowing)))


@given(PREFIXES, TARGETS)
def test_target_at_a_placeholder_is_checked_by_its_path_alone(written: list[tuple[str, str]], target: str) -> None:
    prefixes = tuple(parse_prefix(origin + path) for origin, path in written)
    placeholder = parse_prefix("https://c.test").origin
    here = tuple(Prefix(placeholder, prefix.path) for prefix in prefixes)
    url = f"{placeholder}{target}"
    assert judge_url(Policy(prefixes=prefixes, placeholder_origin=placeholder), "GET", url).allowed == (
        judge_url(Policy(prefixes=here), "GET", url).allowed
    )
