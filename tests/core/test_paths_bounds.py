"""The work that a hostile path can cause is bounded, by counts and not by time; honest paths do not meet the bounds."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.core import paths, policy

PREFIX = "/api/v1"
ORIGIN = "https://a.test"
POLICY = policy.Policy(prefixes=(policy.parse_prefix(ORIGIN + PREFIX),))

EVERYTHING = "/%253b;%2fa/a/%3b%5c/..%3b/..//%2f/..%5c%2f%252e/./%2e/..%2e/.//.."
"""Each transformation, raw and encoded once and twice: more readings than are made."""

SHORT_BUT_RAMIFIED = "/b;c//d%2f%2fe%252f%252ff%3bg%253bh/./i/%2e/j/%252e/k"

HOSTILE = {
    "the most readings, short": EVERYTHING,
    "the most readings behind a long plain part": "/" + "b/" * 7400 + EVERYTHING[1:],
    "a few readings of a long path": "/" + "a/" * 7900 + SHORT_BUT_RAMIFIED,
    "a few readings of a long path of escapes": "/" + "%61/" * 3900 + SHORT_BUT_RAMIFIED,
    "one ramified segment after another": "/a;b%3bc%253bd/%2f%252f%5c%255c./%2e/%252e/x" * 350,
}

TOKENS = ["%5c", "%255c", "%3b", "%253b", "%2f", "%252f", "%2e", "%252e", "\\", ";", "//", ".", "/", "/./", "/..", "a"]


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
def test_a_path_with_too_many_readings_is_not_judged(path: str) -> None:
    """Alone, against a prefix and against a forbidden path: unreadable rather than slow to read."""
    with pytest.raises(paths.UnreadablePath):
        paths.readings(path)
    with pytest.raises(paths.UnreadablePath):
        paths.inside(PREFIX + path, PREFIX)
    with pytest.raises(paths.UnreadablePath):
        paths.meets(path, "/oauth2/token")


FOUR_READINGS = "/a;v=1//"
"""With and without the parameter, and with and without the empty segment."""


def test_a_path_with_four_readings_may_be_as_long_as_a_target_may_be() -> None:
    """Which is 16 KiB, so 64 KiB are rewritten at most; one character more is too much."""
    longest = FOUR_READINGS + "c" * ((16 << 10) - len(FOUR_READINGS))
    assert len(paths.readings(longest)) == 4
    with pytest.raises(paths.UnreadablePath, match=r"\Athe path has too many readings for its length\Z"):
        paths.readings(longest + "c")


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("where", [PREFIX, "/elsewhere"])
def test_such_a_path_is_an_error_of_the_request(path: str, where: str) -> None:
    """request_invalid, and the reason repeats nothing of the path."""
    decision = policy.decide(POLICY, "GET", ORIGIN + where + path)
    assert (decision.allowed, decision.code) == (False, "request_invalid")
    assert decision.reason in {"the path has too many readings", "the path has too many readings for its length"}


@pytest.mark.parametrize("origin", ["https://b.test", "https://c.test"], ids=["a domain", "elsewhere"])
def test_such_a_path_is_an_error_where_no_prefix_reads_it(origin: str) -> None:
    """Allowed by its domain or not at all: the path is read once, within the same bounds."""
    rules = policy.Policy(domains=(policy.parse_domain("https://b.test"),))
    for path in HOSTILE.values():
        assert policy.decide(rules, "GET", origin + path).code == "request_invalid"


@given(st.lists(st.sampled_from(TOKENS), max_size=60), st.integers(0, 8000))
@example(["/./", "%5c", ";", "//", "%2f", "%252f"], 8000)
def test_whatever_is_read_stays_within_the_bounds(tokens: list[str], padding: int) -> None:
    """At most MOST_READINGS readings, and in each decoding no more than MOST_CHARACTERS rewritten in sixteen ways."""
    try:
        readings = paths.readings("/" + "b" * padding + "".join(tokens))
    except paths.UnreadablePath:
        return
    assert len(readings) <= paths.MOST_READINGS
    assert sum(map(len, readings)) <= (paths.DECODINGS + 1) * 16 * paths.MOST_CHARACTERS


@pytest.mark.parametrize(
    "path",
    [
        "/" + "a/" * 7900,
        "/" + "%41/" * 3900,
        "/" + "caf%C3%A9%20au%20lait/" * 700,
        "/" + "100%2525/" * 1700,
        "/a;v=1/b;v=2/" + "c/" * 1000,
        "/x/../y/./z//" + "a" * 2000,
        "/a%2Fb%2Fc/d%5Ce",
    ],
    ids=["plain", "escapes", "words", "escaped percents", "parameters", "dots and slashes", "encoded separators"],
)
def test_an_honest_path_is_read_however_long(path: str) -> None:
    """Up to limits.target, which is 16 KiB: ordinary escapes have few readings, whatever their number."""
    assert len(PREFIX + path) <= 16 << 10
    assert paths.inside(PREFIX + path, PREFIX)
    assert len(paths.readings(PREFIX + path)) < 20
