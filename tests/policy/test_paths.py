"""Paths: no dot segment in any spelling, and under the prefix byte for byte."""

from __future__ import annotations

import re
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy import paths
from sidekey.policy.urls import check_characters
from support.unicode_texts import ORDINARY

PREFIX = "/api/v1"
OUTSIDE = [
    "/",
    "/api",
    "/api/",
    "/api/v2/x",
    "/api/v1evil",
    "/api/v10/x",
    "/API/V1/x",
    "/api//v1/x",
    "/v1",
    "/x/api/v1",
]
SEGMENT = st.text(string.ascii_letters + string.digits + "-_~.", min_size=1).filter(lambda text: text.strip("."))

# Each function below undoes one transformation that servers apply, so that a server which applies them all reads the
# outside path that was disguised. That is the whole oracle: it shares no code with the module.


def add_dots(draw: st.DrawFn, path: str) -> str:
    """Insert detours before some segments, which removing dot segments undoes."""
    detours = ["", "/.", "/x/..", "/v1/y/../..", "/api/v1/../.."]
    segments = path.split("/")[1:]
    return "".join(draw(st.sampled_from(detours)) + "/" + segment for segment in segments)


def double_slashes(draw: st.DrawFn, path: str) -> str:
    """Repeat some slashes. Merging slashes undoes this."""
    return "".join("/" * draw(st.integers(1, 3)) if char == "/" else char for char in path)


def add_parameters(draw: st.DrawFn, path: str) -> str:
    """End some segments in `;parameters`."""
    parameters = st.sampled_from(["", "", ";", ";v=1", ";..", ";a;b"])
    return "/".join(["", *(segment + draw(parameters) for segment in path.split("/")[1:])])


def turn_slashes(draw: st.DrawFn, path: str) -> str:
    """Write some slashes, except the first, as backslashes."""
    return path[0] + "".join(draw(st.sampled_from("/\\")) if char == "/" else char for char in path[1:])


def escape(draw: st.DrawFn, path: str) -> str:
    """Percent-encode some characters, except the first slash."""
    return path[0] + "".join(
        draw(st.sampled_from([char, char, f"%{ord(char):02x}", f"%{ord(char):02X}"])) for char in path[1:]
    )


ALIKE = {
    ".": "\uff0e\u2024\ufe52",
    "/": "\uff0f\u2044\u2215",
    "\\": "\uff3c\ufe68\u2216",
    "v": "\uff56\u24e5",
    "2": "\u00b2\u2461",
}


def spell(draw: st.DrawFn, path: str) -> str:
    """Replace some characters, except the first slash, by equivalents in UTF-8 or as `%uXXXX`."""
    spelled = path[0]
    for char in path[1:]:
        alike = draw(st.sampled_from([char, char, *ALIKE.get(char, "")]))
        wide = draw(st.sampled_from(["", "", "%u{:04x}", "%U{:04X}"]))
        spelled += wide.format(ord(alike)) or alike.encode().decode("latin-1")
    return spelled


def disguise(draw: st.DrawFn, path: str) -> str:
    """Disguise a path so that some combination of transformations restores it."""
    if draw(st.booleans()):
        path = add_dots(draw, path)
    if "//" not in path and draw(st.booleans()):
        path = double_slashes(draw, path)
    if draw(st.booleans()):
        path = add_parameters(draw, path)
    if draw(st.booleans()):
        path = turn_slashes(draw, path)
    decodings = draw(st.integers(0, 3))
    if decodings and draw(st.booleans()):
        path = spell(draw, path)
    for _ in range(decodings):
        path = escape(draw, path)
    return path


@st.composite
def disguised(draw: st.DrawFn) -> str:
    """Disguise one of OUTSIDE."""
    return disguise(draw, draw(st.sampled_from(OUTSIDE)))


@st.composite
def climbing(draw: st.DrawFn) -> str:
    """Build a path that is below the prefix as written, and leaves it in some combination of transformations."""
    return PREFIX + disguise(draw, draw(st.sampled_from(["/..", "/../v2", "/x/../../v2", "/../../api/v2", "/.././v2"])))


def is_allowed(path: str) -> bool:
    """Return True if the path passes the rule under PREFIX."""
    try:
        paths.final_form(path)
    except paths.UnreadablePath:
        return False
    return paths.under(path, PREFIX)


def is_forbidden(path: str, pattern: str, *, below: bool = False) -> bool:
    """Return True if the path may lead to the pattern, or is ambiguous."""
    try:
        return paths.matches_any(paths.final_form(path), ((pattern, below),))
    except paths.UnreadablePath:
        return True


@given(disguised() | climbing())
def test_disguised_path_outside_is_denied(path: str) -> None:
    """In any combination of transformations by servers."""
    assert not is_allowed(path)


@given(st.lists(SEGMENT))
def test_plain_path_under_the_prefix_is_allowed(segments: list[str]) -> None:
    """It is its own final form."""
    path = "/".join([PREFIX, *segments])
    assert is_allowed(path)
    assert paths.final_form(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1",
        "/api/v1/",
        "/api/v1/a%2Fb",
        "/api/v1/a%2fb%2F%2fc.d/%c2%a5100",
        "/api/v1/a//b",
        "/api/v1/a;x=1/b;y",
        "/api/v1/100%25",
        "/api/v1/%25zz",
        "/api/v1/a%5Cb",
        "/api/v1/..x/...y",
        "/api/v1/caf%C3%A9",
        "/api/v1/%C3%A9.%C3%A9/caf%E9.txt",
        "/api/v1/%c2%bd",
        "/api/v1/.well-known/x",
        "/api/v1/%20.config",
        "/api/v1/%20x/.y",
        "/api/v1/a%20./b",
        "/api/v1/a%20../b",
        "/api/v1/%20/x",
        "/api/v1/+/x",
        "/api/v1/Mr.%20Q.%20.pdf",
        "/api/v1/+49.30",
        "/api/v1/x%2e%2ey/a;b=c",
        "/api/v1/a:b/c?d%3Fe",
    ],
)
def test_unusual_names_are_allowed(path: str) -> None:
    """Encoded slashes, empty segments, parameters, currency signs, and dots and blanks within names."""
    assert is_allowed(path.partition("?")[0])


@pytest.mark.parametrize(
    "path", ["/api/v1;x", "/api/v1%2fx", "/api%2fv1/x", "//api/v1/x", "/api/v1x", "/api/V1/x", "/api/v1\\x", "/api"]
)
def test_the_path_as_written_must_be_under_the_prefix(path: str) -> None:
    """At an unencoded slash."""
    assert not paths.under(path, PREFIX)


DOTS = [
    "/.",
    "/..",
    "/...",
    "/../x",
    "/a/../b",
    "/./b",
    "/a//../../v2",
    "/..;/v2",
    "/..;x=1/v2",
    "/%2e%2e/v2",
    "/.%2E/v2",
    "/%252e%252e/v2",
    "/%252e%252e%252fv2",
    "/%2525252525252e/v2",
    "/..%2fv2",
    "/..%5cv2",
    "\\..\\v2",
    "/%2e%2e%3b/v2",
    "/a%2f../b",
    "/a%2fb/%2e%2e/%2e%2e/x",
    "/a%e2%88%95b/%ef%bc%8e%ef%bc%8e/%ef%bc%8e%ef%bc%8e/x",
    "/..%c2%a5..%c2%a5x",
    "/..%e2%82%a9..%ef%bf%a6x",
    "/%u002e%u002e/v2",
    "/%25u002e./v2",
    "/%2e%u002e%ef%bc%8fv2",
    "/%e2%80%a5/v2",
    "/%e2%80%a6/v2",
    # Three families that a simpler rule misses.
    "/%ef%bc%852e%ef%bc%852e/v2",
    "/caf%e9/%ef%bc%8e%ef%bc%8e/v2",
    "/..%e2%81%84%25u2215",
]


@pytest.mark.parametrize("path", DOTS)
def test_dot_segment_is_refused_in_any_spelling(path: str) -> None:
    """Even below the prefix, since servers disagree on where it leads."""
    with pytest.raises(paths.UnreadablePath, match=r"\Athe path must not contain a dot segment "):
        paths.final_form(PREFIX + path)


@pytest.mark.parametrize(
    "blank",
    [
        *(
            "%20",
            "%2520",
            "%20%20",
            "%20+",
            "+",
            "%85",
            "%a0",
            "%c2%85",
            "%c2%a0",
            "%e1%9a%80",
            "%e2%80%80",
            "%e2%80%8b",
        ),
        *(
            "%e2%80%8f",
            "%e2%80%a8",
            "%e2%80%af",
            "%e2%81%9f",
            "%e2%81%a0",
            "%e3%80%80",
            "%ef%bb%bf",
            "%u3000",
            "%u200b",
        ),
    ],
)
def test_dot_segment_with_blanks_is_refused(blank: str) -> None:
    """Servers trim blanks around a segment, and cut it at `;`, `:`, `?` and `#`."""
    for segment in (f"{blank}.", f"{blank}..", f"..{blank}", f".{blank}.", f"{blank}..{blank}", f"%2e%2e{blank}"):
        for tail in ("", ";a", ":x", "::$DATA", "%3fa", "%23a", "/v2"):
            with pytest.raises(paths.UnreadablePath, match=r"\Athe path must not contain a dot segment "):
                paths.final_form(f"/api/v1/{segment}{tail}")


@pytest.mark.parametrize(
    "path", ["/a%00", "/a%0d%0ab", "/a%2500", "/a%257f", "/a%252500", "/a%25u000a", "/a\tb", "/a\x7f", "/%1f"]
)
def test_control_character_is_refused_in_any_encoding(path: str) -> None:
    with pytest.raises(paths.UnreadablePath, match=r"\Athe path must not contain control characters, encoded or not\Z"):
        paths.final_form(path)


@pytest.mark.parametrize(
    "octets",
    [
        *("c0af", "c1bf", "c041", "e08080", "e09fbf", "e04080", "e05fbf"),
        *("f08080af", "f08fbfbf", "f4908080", "f4bfbfbf", "f5808080", "f7bfbfbf", "ff808080"),
    ],
)
def test_overlong_utf_8_is_refused(octets: str) -> None:
    """Also code points beyond U+10FFFF (RFC 3629 3), encoded twice, alone or beside other text."""
    reason = (
        "the path must not contain overlong UTF-8, code points beyond U+10FFFF, or the bytes C0 and C1, encoded or not"
    )
    for sign in ("%", "%25"):
        spelled = "".join(f"{sign}{octets[at : at + 2]}" for at in range(0, len(octets), 2))
        for path in (f"/{spelled}", f"/a{spelled}b", f"/%ef%bc%8ea{spelled}/%e9"):
            with pytest.raises(paths.UnreadablePath) as refused:
                paths.final_form(path)
            assert str(refused.value) == reason


@pytest.mark.parametrize("octets", ["e0a080", "ef", "f0908080", "f48fbfbf", "f04180", "f49080", "f58080", "e0"])
def test_other_lead_bytes_are_letters_of_latin_1(octets: str) -> None:
    """Some begin other characters of UTF-8."""
    spelled = "".join(f"%{octets[at : at + 2]}" for at in range(0, len(octets), 2))
    assert is_allowed(f"/api/v1/{spelled}/x")


def test_path_encoded_eight_times_is_refused() -> None:
    """No chain of servers decodes more than seven times."""
    assert paths.final_form("/%" + "25" * 6 + "41") == "/A"
    with pytest.raises(paths.UnreadablePath, match=r"\Athe path must not be encoded so many times\Z"):
        paths.final_form("/%" + "25" * 7 + "41")


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_is_allowed_in_a_segment(text: str) -> None:
    """In any script, encoded once or twice, up to the maximum length of a target."""
    once = quote(text, safe="")
    for encoded in (once, quote(once, safe="")):
        assert is_allowed(f"{PREFIX}/{encoded * (16_000 // len(encoded))}")


@pytest.mark.parametrize(
    ("path", "pattern", "below", "forbidden"),
    [
        ("/oauth2/token", "/oauth2/token", False, True),
        ("/oauth2/token/", "/oauth2/token", False, True),
        ("/oauth2//token", "/oauth2/token", False, True),
        ("/x/../oauth2/token", "/oauth2/token", False, True),
        ("/oauth2/%74oken", "/oauth2/token", False, True),
        ("/oauth2%252ftoken", "/oauth2/token", False, True),
        ("/oauth2\\token", "/oauth2/token", False, True),
        ("/OAuth2/Token", "/oauth2/token", False, True),
        ("/oauth2/%ef%bc%b4oken", "/oauth2/token", False, True),
        ("/oauth2/token.", "/oauth2/token", False, True),
        ("/oauth2/token%20.%20", "/oauth2/token", False, True),
        ("/oauth2/token%e3%80%80", "/oauth2/token", False, True),
        ("/oauth2./token", "/oauth2/token", False, True),
        ("/oauth2/token%3fa=b", "/oauth2/token", False, True),
        ("/oauth2/token%23/x", "/oauth2/token", False, True),
        ("/oauth2/token:x", "/oauth2/token", False, True),
        ("/oauth2/token.:x", "/oauth2/token", False, True),
        ("/oauth2/token::$DATA", "/oauth2/token", False, True),
        ("/oauth2:x/token%3fx/y", "/oauth2/token", False, True),
        ("/oauth2/token/%3fx/y", "/oauth2/token", False, True),
        ("/oauth2:x%2fy/token", "/oauth2/token", False, True),
        ("/oauth2:x%2fy/z/token", "/oauth2/token", False, True),
        ("/oauth2:x%2foauth2/token", "/oauth2/token", False, True),
        ("/:x%2fy/oauth2/token", "/oauth2/token", False, True),
        ("/oauth2:x%2fy/tokens", "/oauth2/token", False, True),
        ("/repos/o/r/compare/o:main...p:main", "/app/installations/*/access_tokens", False, False),
        ("/oauth2/x:y/token", "/oauth2/token", False, False),
        ("/a:token/oauth2", "/oauth2/token", False, False),
        ("/oauth2/token/:x/y", "/oauth2/token", False, True),
        ("/oauth2/token/x%3fy", "/oauth2/token", False, False),
        ("/oauth2/%20token", "/oauth2/token", False, True),
        ("/oauth2/.token", "/oauth2/token", False, False),
        ("/logIn", "/login", False, True),
        ("/log%c4%b1n", "/login", False, True),
        ("/oauth2/to%e2%84%aaen", "/oauth2/token", False, True),
        ("/anything::x", "/oauth2/token", False, True),
        ("/anything;x", "/oauth2/token", False, True),
        ("/anything%253bx", "/oauth2/token", False, True),
        ("/anything%cd%be", "/oauth2/token", False, True),
        ("/oauth2/token", "/oauth2/%54oken/", False, True),
        ("/oauth2/token", "/oauth2/token;v=1", False, True),
        ("/oauth2/tokens", "/oauth2/token", False, False),
        ("/oauth2", "/oauth2/token", False, False),
        ("/oauth2/token/x", "/oauth2/token", False, False),
        ("/oauth2/token/x", "/oauth2/token", True, True),
        ("/oauth2/token%2fx", "/oauth2/token", True, True),
        ("/oauth2/tokens/x", "/oauth2/token", True, False),
        ("/rest/api/v1.3/auth/token", "/rest/api/*/auth", True, True),
        ("/rest/api/v9/AUTH", "/rest/api/*/auth", True, True),
        ("/rest/api/v1.3/x/auth/token", "/rest/api/*/auth", True, False),
        ("/rest/api/auth/token", "/rest/api/*/auth", True, False),
        ("/rest/api//auth", "/rest/api/*/auth", True, False),
        ("/", "/", False, True),
        ("//", "", False, True),
        ("/a", "/", False, False),
        ("/a.c", "/a.c", False, True),
        ("/abc", "/a.c", False, False),
        ("/a", "/ax", False, False),
        ("/ax", "/a", False, False),
        ("/%25", "/%25", False, True),
    ],
)
def test_forbidden_path_is_detected_in_any_spelling(path: str, pattern: str, below: bool, forbidden: bool) -> None:
    assert is_forbidden(path, pattern, below=below) is forbidden


def test_semicolons_are_allowed_without_forbidden_paths() -> None:
    """Only the host of a token endpoint or login refuses them."""
    assert not paths.matches_any(paths.final_form("/a;b::c"), ())


@given(st.from_regex(paths.PLAIN_TARGET, fullmatch=True))
def test_plain_path_is_its_own_final_form(target: bytes) -> None:
    """So the fast parser agrees with the exact one."""
    path = re.split(rb"\?", target, maxsplit=1)[0].decode() or "/"
    check_characters(target.decode())
    assert paths.final_form(path) == path
