"""The readings of a path, and what is inside a prefix in every one of them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core import paths

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

# Each step below undoes one transformation of a reading, so that the reading which applies them all finds the
# outside path it began with. That is the whole oracle: it shares no code with the module.


def add_dots(draw: st.DrawFn, path: str) -> str:
    """Put detours before some segments, which removing dots removes again."""
    detours = ["", "/.", "/x/..", "/v1/y/../..", "/api/v1/../.."]
    segments = path.split("/")[1:]
    return "".join(draw(st.sampled_from(detours)) + "/" + segment for segment in segments)


def double_slashes(draw: st.DrawFn, path: str) -> str:
    """Write some slashes as several. Of a path without empty segments merging makes the same one again."""
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
    """Write some characters, except the first slash, as others that stand for them, in UTF-8 or as `%uXXXX`."""
    spelled = path[0]
    for char in path[1:]:
        alike = draw(st.sampled_from([char, char, *ALIKE.get(char, "")]))
        wide = draw(st.sampled_from(["", "", "%u{:04x}", "%U{:04X}"]))
        spelled += wide.format(ord(alike)) or alike.encode().decode("latin-1")
    return spelled


def disguise(draw: st.DrawFn, path: str) -> str:
    """A path that some combination of readings turns into this one."""
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
    """A path that some combination of readings turns into one of OUTSIDE."""
    return disguise(draw, draw(st.sampled_from(OUTSIDE)))


@st.composite
def climbing(draw: st.DrawFn) -> str:
    """A path that is below the prefix as it is written, and leaves it in some combination of readings."""
    return PREFIX + disguise(draw, draw(st.sampled_from(["/..", "/../v2", "/x/../../v2", "/../../api/v2", "/.././v2"])))


def is_inside(path: str) -> bool:
    """Whether the path may be read and is inside."""
    try:
        return paths.inside(path, PREFIX)
    except paths.UnreadablePath:
        return False


@given(disguised() | climbing())
def test_a_path_that_is_outside_in_any_combination_of_readings_is_outside(path: str) -> None:
    """No disguise of a path outside the prefix counts as inside it."""
    assert not is_inside(path)


@given(st.lists(SEGMENT))
def test_a_plain_path_below_the_prefix_is_inside(segments: list[str]) -> None:
    """Ordinary segments below the prefix are inside."""
    assert paths.inside("/".join([PREFIX, *segments]), PREFIX)


@given(st.lists(SEGMENT, min_size=1))
def test_every_plain_path_is_inside_the_root(segments: list[str]) -> None:
    """A prefix without a path covers its whole origin."""
    assert paths.inside("/" + "/".join(segments), "")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1",
        "/api/v1/",
        "/api/v1/a%2Fb",
        "/api/v1/a//b",
        "/api/v1/a/../b",
        "/api/v1/./b",
        "/api/v1/a;x=1/b;y",
        "/api/v1/100%25",
        "/api/v1/%25zz",
        "/api/v1/a%5Cb",
        "/api/v1/..x/...y",
        "/api/v1/caf%C3%A9",
    ],
)
def test_a_path_that_never_leaves_the_prefix_is_inside(path: str) -> None:
    """Unusual spellings are fine as long as each reading stays below the prefix."""
    assert paths.inside(path, PREFIX)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/..",
        "/api/v1/a/../../v2",
        "/api/v1/a//../../v2",
        "/api/v1/..;/v2",
        "/api/v1/..;x=1/v2",
        "/api/v1/%2e%2e/v2",
        "/api/v1/.%2E/v2",
        "/api/v1/%252e%252e/v2",
        "/api/v1/%252e%2e%252fv2",
        "/api/v1/..%2fv2",
        "/api/v1/..%5cv2",
        "/api/v1\\..\\v2",
        "/api/v1/%2e%2e%3b/v2",
        "/api/v1;x",
        "/api/v1%2fx",
        "/api%2fv1/x",
        "//api/v1/x",
        "/api/v1x",
        "/api/V1/x",
    ],
)
def test_a_path_that_leaves_the_prefix_in_one_reading_is_outside(path: str) -> None:
    """One reading outside is enough."""
    assert not paths.inside(path, PREFIX)


@pytest.mark.parametrize(
    "path", ["/a%00", "/a%0d%0ab", "/a%2500", "/a%257f", "/a%252500", "/a%25u000a", "/a\tb", "/a\x7f", "/%1f"]
)
def test_a_path_with_a_control_character_in_any_decoding_is_unreadable(path: str) -> None:
    """However often it is encoded, up to the three decodings that servers may apply."""
    with pytest.raises(paths.UnreadablePath, match=r"\Athe path must not contain control characters, encoded or not\Z"):
        paths.readings(path)


@pytest.mark.parametrize(
    ("path", "readings"),
    [
        ("/a", {"/a"}),
        ("/%20~", {"/%20~", "/ ~"}),
        ("/%2541", {"/%2541", "/%41", "/A"}),
        ("/%252541", {"/%252541", "/%2541", "/%41", "/A"}),
        ("/%25252541", {"/%25252541", "/%252541", "/%2541", "/%41"}),
        ("/a;b", {"/a;b", "/a"}),
        ("/a//b", {"/a//b", "/a/b"}),
        ("/a\\b", {"/a\\b", "/a/b"}),
        ("/a/./b", {"/a/./b", "/a/b"}),
        ("/a/..", {"/a/..", "/"}),
        ("/a.", {"/a."}),
        ("/..a/.b", {"/..a/.b"}),
    ],
)
def test_the_readings_of_a_path(path: str, readings: set[str]) -> None:
    """Each habit of a server alone, and nothing that no server would read."""
    assert paths.readings(path) == readings


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        # The examples of RFC 3986 5.2.4 and 5.4.
        ("/a/b/c/./../../g", "/a/g"),
        ("/b/c/.", "/b/c/"),
        ("/b/c/..", "/b/"),
        ("/b/c/../../../g", "/g"),
        ("/b/c/g.", "/b/c/g."),
        ("/b/c/..g", "/b/c/..g"),
        ("/b/c/./g/.", "/b/c/g/"),
        ("/b/c/g;x=1/../y", "/b/c/y"),
        ("/a//../b", "/a/b"),
        ("/..", "/"),
        ("/", "/"),
    ],
)
def test_dot_segments_are_removed_as_rfc_3986_says(path: str, resolved: str) -> None:
    """Removing dots is the algorithm of RFC 3986 5.2.4."""
    assert paths.remove_dots(path) == resolved


@pytest.mark.parametrize(
    ("path", "pattern", "below", "met"),
    [
        ("/oauth2/token", "/oauth2/token", False, True),
        ("/oauth2/token/", "/oauth2/token", False, True),
        ("/oauth2//token", "/oauth2/token", False, True),
        ("/x/../oauth2/token", "/oauth2/token", False, True),
        ("/oauth2/%74oken", "/oauth2/token", False, True),
        ("/oauth2%252ftoken;a", "/oauth2/token", False, True),
        ("/OAuth2/Token", "/oauth2/token", False, True),
        ("/oauth2/token", "/oauth2/%54oken/", False, True),
        ("/oauth2/tokens", "/oauth2/token", False, False),
        ("/oauth2", "/oauth2/token", False, False),
        ("/oauth2/token/x", "/oauth2/token", False, False),
        ("/oauth2/token/x", "/oauth2/token", True, True),
        ("/oauth2/tokens/x", "/oauth2/token", True, False),
        ("/rest/api/v1.3/auth/token", "/rest/api/*/auth", True, True),
        ("/rest/api/v9/AUTH", "/rest/api/*/auth", True, True),
        ("/rest/api/v1.3/x/%2e%2e/auth/token", "/rest/api/*/auth", True, True),
        ("/rest/api/v1.3/x/auth/token", "/rest/api/*/auth", True, False),
        ("/rest/api/auth/token", "/rest/api/*/auth", True, False),
        ("/", "/", False, True),
        ("//", "", False, True),
        ("/a", "/", False, False),
        ("/a.c", "/a.c", False, True),
        ("/abc", "/a.c", False, False),
        ("/a", "/ax", False, False),
        ("/ax", "/a", False, False),
        ("/rest/api//auth", "/rest/api/*/auth", True, False),
        ("/%25", "/%25", False, True),
    ],
)
def test_a_path_meets_a_pattern_where_any_reading_does(path: str, pattern: str, below: bool, met: bool) -> None:
    """A forbidden path is recognised in each of its disguises, and no other path is."""
    assert paths.meets(path, pattern, below=below) is met


@pytest.mark.parametrize(
    "path",
    [
        # To who leaves encoded slashes alone (RFC 3986 normalisation, WHATWG, Apache's NoDecode) it is one segment.
        "/api/v1/a%2fb/%2e%2e/%2e%2e/x",
        "/api/v1/a%2Fb/.%2E/%2e./x",
        "/api/v1/a%252fb/%252e%252e/%252e%252e/x",
        "/api/v1/a%2fb/%252e%252e/%252e%252e/x",
        # NFKC makes dots of these, but no slash of U+2215.
        "/api/v1/a%e2%88%95b/%ef%bc%8e%ef%bc%8e/%ef%bc%8e%ef%bc%8e/x",
        # Signs of yen and won are backslashes in code pages.
        "/api/v1/..%c2%a5..%c2%a5x",
        "/api/v1/..%e2%82%a9..%ef%bf%a6x",
        # Some merge slashes two by two, and once.
        "/api/v1////../../api/v1",
        # All behind the first semicolon may be parameters.
        "/api/v1/%2e%2e;a/../b/../v1/x/../../v1/x",
    ],
)
def test_what_is_one_segment_to_some_servers_is_not_two_to_all(path: str) -> None:
    """Dots count also while slashes are still encoded."""
    assert not paths.inside(path, "/api/v1")


@pytest.mark.parametrize("path", ["/api/v1/x%2fy/%2e%2e/oauth/token", "/api/v1/oauth/token;x/../../y"])
def test_a_forbidden_path_is_met_with_encoded_slashes_or_parameters_left(path: str) -> None:
    """By one such reading."""
    assert paths.meets(path, "/api/v1/oauth/token")


@pytest.mark.parametrize(
    "path", ["/api/v1/a%2fb/c", "/api/v1/a%2fb%2F%2fc.d/%c2%a5100", "/api/v1/x%2e%2ey/a;b=c/%c2%bd"]
)
def test_encoded_slashes_and_signs_of_money_stay_allowed(path: str) -> None:
    """They are data where no dot segment follows."""
    assert paths.inside(path, "/api/v1")


@pytest.mark.parametrize("blank", ["%20", "%2520", "%20%20", "%20+", "%85", "%a0", "%c2%a0", "%e2%80%8b"])
def test_a_dot_segment_behind_blanks_has_no_honest_meaning(blank: str) -> None:
    """Servers that trim each segment read it without them."""
    for dots in (".", "..", "%2e%2e", "..%20", "...", "..;a", "..:x"):
        for behind in ("", "/v2"):
            with pytest.raises(paths.UnreadablePath, match=r"\Athe path must not contain a dot segment "):
                paths.inside(f"/api/v1/{blank}{dots}{behind}", "/api/v1")


def test_a_blank_below_four_layers_is_none() -> None:
    """Nobody decodes the fourth."""
    assert paths.inside("/api/v1/%25252520x", "/api/v1")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/%20.config",
        "/api/v1/%20x/.y",
        "/api/v1/a%20./b",
        "/api/v1/a%20../b",
        "/api/v1/%20/x",
        "/api/v1/Mr.%20Q.%20.pdf",
        "/api/v1/+49.30",
        "/api/v1/+../x",
        "/api/v1/%C3%A9.%C3%A9/caf%E9.txt",
    ],
)
def test_blanks_and_dots_of_names_stay_allowed(path: str) -> None:
    """A name that begins with a blank, or holds one before a dot, is no dot segment."""
    assert paths.inside(path, "/api/v1")


@pytest.mark.parametrize("dots", ["%2525252e%2525252e", "%2525252E%2525252E"])
def test_dots_are_read_once_more_than_all_else_is_decoded(dots: str) -> None:
    """In either case of hex: a parser of URLs behind the last decoding does so."""
    assert "/b" in paths.readings(f"/./a/{dots}/b")


def test_each_of_several_prefixes_is_read_as_it_is_itself() -> None:
    """And a forbidden pattern is compared with the path, not with a prefix."""
    path, first, second = "/a;b/c;d/token", "/a;b", "/a;b/c;d"
    readings = paths.Readings(path, first, second)
    assert readings.inside(first)
    assert readings.inside(second)
    assert readings.meet((("/a/c/token", False),))
    assert not readings.meet((("/a/c", False),))
    leaving_one = paths.Readings("/a;b/c;d/../x", first, second)
    assert leaving_one.inside(first)
    assert not leaving_one.inside(second)
    leaving = paths.Readings("/p/a;b/../../x", "/p/a;b")
    assert not leaving.inside("/p/a;b")
    assert not leaving.inside("/p")


@pytest.mark.parametrize(
    "octets",
    [
        *("c0af", "c1bf", "c041", "e08080", "e09fbf", "e04080", "e05fbf"),
        *("f08080af", "f08fbfbf", "f4908080", "f4bfbfbf", "f5808080", "f7bfbfbf", "ff808080"),
    ],
)
def test_overlong_utf_8_is_unreadable(octets: str) -> None:
    """And what is beyond U+10FFFF (RFC 3629 3): also encoded twice, alone or beside other text."""
    reason = "the path must not contain overlong UTF-8, what is beyond U+10FFFF, or the bytes C0 and C1, encoded or not"
    for sign in ("%", "%25"):
        spelled = "".join(f"{sign}{octets[at : at + 2]}" for at in range(0, len(octets), 2))
        for path in (f"/{spelled}", f"/a{spelled}b"):
            with pytest.raises(paths.UnreadablePath) as unreadable:
                paths.readings(path)
            assert str(unreadable.value) == reason


@pytest.mark.parametrize("octets", ["e0a080", "ef", "f0908080", "f48fbfbf", "f04180", "f49080", "f58080", "e0"])
def test_other_lead_bytes_are_letters_of_latin_1(octets: str) -> None:
    """Or begin honest characters."""
    spelled = "".join(f"%{octets[at : at + 2]}" for at in range(0, len(octets), 2))
    assert paths.inside(f"/api/v1/{spelled}/x", "/api/v1")


@pytest.mark.parametrize("sign", ["?", "#"])
def test_an_encoded_end_of_the_path_behind_a_dot_segment_is_unreadable(sign: str) -> None:
    """Where the dots come first alone: an upstream ends the path there."""
    with pytest.raises(
        paths.UnreadablePath, match=r"\Athe path must not contain an encoded \? or # behind a dot segment\Z"
    ):
        paths.readings(f"/a/../b%{ord(sign):02x}c")
    assert paths.readings(f"/a/b%{ord(sign):02x}c") == {f"/a/b%{ord(sign):02x}c", f"/a/b{sign}c"}
