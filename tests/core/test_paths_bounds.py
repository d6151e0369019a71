"""The work that a hostile path can cause is bounded, by prices and not by time; honest paths do not meet the bound."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.core import paths, policy
from support.texts import ORDINARY

PREFIX = "/api/v1"
ORIGIN = "https://a.test"
POLICY = policy.Policy(prefixes=(policy.parse_prefix(ORIGIN + PREFIX),))
TOO_MUCH = "the path has too many readings for its length"
LONGEST = 16 << 10

EVERYTHING = "/%253b;%2fa/a/%3b%5c/..%3b/..//%2f/..%5c%2f%252e/./%2e/..%2f/.//.."
"""Each transformation, raw and encoded once and twice: more readings than are made."""

HOSTILE = {
    "the most readings, short": EVERYTHING,
    "the most readings behind a long plain part": "/" + "b/" * 7400 + EVERYTHING[1:],
    "parameters": "/;" * 8100,
    "one ramified segment after another": "/a;b%3bc%253bd/%2f%252f%5c%255c./%2e/%252e/x" * 350,
    "dot segments that are encoded twice": "/%252e" * 2700,
    "backslashes in parameters": "/%5c;" * 3200,
    "wide escapes": "/%25u002f" * 1800,
    "characters that expand eighteen-fold": "/%ef%b7%ba" * 1600,
    "bytes that are not UTF-8, and parameters": "/%f5;" * 3200,
    "percent signs that stay, behind escapes": "/%25a%2541" * 1600,
}

TOKENS = ["%5c", "%255c", "%3b", "%253b", "%2f", "%252f", "%2e", "%252e", "\\", ";", "//", ".", "/", "/./", "/..", "a"]
FOREIGN = ["%25u002e", "%ef%bc%8f", "%ef%b7%ba", "%cc%81", "%e9", "%f5", "%25", "%25a", "%c2%bd", "%e2%88%95"]


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
def test_a_path_with_too_many_readings_is_not_judged(path: str) -> None:
    """Alone, against a prefix and against a forbidden path: unreadable rather than slow to read."""
    with pytest.raises(paths.UnreadablePath, match=rf"\A{TOO_MUCH}\Z"):
        paths.readings(path)
    with pytest.raises(paths.UnreadablePath):
        paths.inside(PREFIX + path, PREFIX)
    with pytest.raises(paths.UnreadablePath):
        paths.meets(path, "/oauth2/token")


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("where", [PREFIX, "/elsewhere"])
def test_such_a_path_is_an_error_of_the_request(path: str, where: str) -> None:
    """request_invalid, and the reason repeats nothing of the path."""
    decision = policy.decide(POLICY, "GET", ORIGIN + where + path)
    assert (decision.allowed, decision.code, decision.reason) == (False, "request_invalid", TOO_MUCH)


@pytest.mark.parametrize("origin", ["https://b.test", "https://c.test"], ids=["a domain", "elsewhere"])
def test_such_a_path_is_an_error_where_no_prefix_reads_it(origin: str) -> None:
    """Allowed by its domain or not at all: the path is read once, within the same bound."""
    rules = policy.Policy(domains=(policy.parse_domain("https://b.test"),))
    for path in HOSTILE.values():
        assert policy.decide(rules, "GET", origin + path).code == "request_invalid"


@pytest.mark.parametrize(
    ("path", "spent"),
    [
        ("/", 8_009),
        ("/" + "a" * 99, 8_900),
        ("/%4", 8_107),
        ("/%41", 16_114),
        ("/%25", 16_194),
        ("/%25%254", 16_388),
        ("/a;b;c", 16_818),
        ("/a//b///c", 25_468),
        ("/a\\b", 16_560),
        ("/a/../b", 33_338),
        ("/.a/.b", 8_634),
        ("/%25u0041", 27_908),
        ("/%25U0041", 27_908),
        ("/%C3%A9", 21_738),
        ("/%C2%BD", 30_450),
        ("/%C2%BD%C2%BD", 31_563),
        ("/%E9", 21_856),
        ("/%E9;", 46_096),
        ("/%25a%41", 30_048),
        ("/./a;b", 74_642),
        ("/./a%2fb", 73_368),
        ("/./%2e", 90_872),
        ("/./%C3%A9", 103_002),
    ],
)
def test_each_step_has_its_price(path: str, spent: int) -> None:
    """In about nanoseconds: the benchmark row `worst` shows whether they are right, so change them by that."""
    assert paths.Readings(path).spent == spent


def test_a_plain_prefix_costs_nothing() -> None:
    """It is the same in each reading."""
    path = "/api/v1/a%25b"
    assert paths.Readings(path, "/api", PREFIX, "/elsewhere;x").spent == paths.Readings(path).spent
    assert paths.Readings(path, "/api/v1/a%25b").spent > paths.Readings(path).spent


@pytest.mark.parametrize(("letters", "percents", "read"), [(65_757, 2, True), (65_767, 1, False)])
def test_the_bound_is_what_may_be_spent(letters: int, percents: int, read: bool) -> None:
    """600 000, and no more."""
    path = "/" + "%" * percents + "g" * letters
    assert 8_000 + 9 * len(path) + 80 * percents == (600_000 if read else 600_001)
    if read:
        assert paths.Readings(path).spent == 600_000
    else:
        with pytest.raises(paths.UnreadablePath, match=TOO_MUCH):
            paths.Readings(path)


def test_rules_are_charged_for_what_is_compared() -> None:
    """By the number of patterns for each reading; where there are none nothing is."""
    readings = paths.Readings("/a;b")
    before = readings.spent
    assert not readings.meet(())
    assert readings.spent == before
    assert readings.meet((("/b", False), ("/a", False)))
    assert readings.spent == before + 2 * (400 + 2 * 100)


def test_many_forbidden_targets_are_within_the_bound() -> None:
    """An ordinary path is judged by a thousand of them, a hostile one is refused."""
    forbidden = tuple(policy.Forbidden(None, f"/oauth2/token{number}") for number in range(1000))
    rules = policy.Policy(domains=(policy.parse_domain("https://b.test"),), forbidden=forbidden)
    assert policy.decide(rules, "GET", "https://b.test/a%20b;c").allowed
    assert policy.decide(rules, "GET", "https://b.test/OAuth2/./token999;c").code == "target_denied"
    ramified = "https://b.test/a;b%3bc/%2f%5c./%2e/x"
    assert policy.decide(rules, "GET", ramified).reason == TOO_MUCH


@given(st.lists(st.sampled_from(TOKENS + FOREIGN), max_size=60), st.integers(0, 8000))
@example(["/./", "%5c", ";", "//", "%2f", "%252f"], 8000)
def test_whatever_is_read_stays_within_the_bound(tokens: list[str], padding: int) -> None:
    """Readings and their characters cost less than it."""
    try:
        readings = paths.Readings("/" + "b" * padding + "".join(tokens))
    except paths.UnreadablePath:
        return
    assert readings.spent <= paths.WORK
    assert 4_000 * len(readings.paths) + 3 * sum(map(len, readings.paths)) <= paths.WORK


@pytest.mark.parametrize("encode", [lambda text: quote(text, safe=""), lambda text: quote(text, safe="/;:@&=+$,")])
@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_four_kibibytes_of_ordinary_text_are_read(text: str, encode: object) -> None:
    """Encoded as clients encode a segment, or as they encode a path; also encoded twice."""
    assert callable(encode)
    for times in (1, 2):
        encoded = text
        for _ in range(times):
            encoded = encode(encoded)
        path = f"{PREFIX}/{encoded * ((4096 - len(PREFIX) - 1) // len(encoded))}"
        assert 3500 < len(path) <= 4096
        assert paths.inside(path, PREFIX)


@pytest.mark.parametrize(
    "path",
    [
        "/" + "a/" * 7900,
        "/" + "%41/" * 3900,
        "/" + "caf%C3%A9%20au%20lait/" * 700,
        "/" + "%E8%AA%AA" * 1700,
        "/a;v=1/b;v=2/" + "c/" * 1000,
        "/x/../y/./z//" + "a" * 2000,
        "/a%2Fb%2Fc/d%5Ce",
    ],
    ids=["plain", "escapes", "words", "characters", "parameters", "dots and slashes", "encoded separators"],
)
def test_an_honest_path_is_read_however_long(path: str) -> None:
    """Up to limits.target, which is 16 KiB: ordinary escapes have few readings, whatever their number."""
    assert len(PREFIX + path) <= LONGEST
    assert paths.inside(PREFIX + path, PREFIX)
    assert len(paths.readings(PREFIX + path)) < 20
