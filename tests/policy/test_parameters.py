"""Parameters: added to requests, detected in what callers send, and removed from responses."""

from __future__ import annotations

import json
import re
import string
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy import parameters
from sidekey.policy.parameters import FORM, JSON, DuplicateParameter, UnsupportedBody
from sidekey.policy.scrubber import Scrubber
from support.unicode_texts import ORDINARY

TOKEN = "eyJ.a+b/c=="
PAIRS = (("access_token", TOKEN),)


@pytest.mark.parametrize(
    ("encoded", "added"),
    [("", "p=1"), ("a=b", "a=b&p=1"), ("a=b&", "a=b&p=1"), ("a", "a&p=1"), ("%zz", "%zz&p=1")],
)
def test_parameter_is_appended(encoded: str, added: str) -> None:
    """The existing bytes do not change."""
    assert parameters.append_pairs(encoded, "p=1") == added


@given(st.text(max_size=40))
def test_encoded_pair_reads_back_as_itself(value: str) -> None:
    encoded = parameters.encode_pairs((("access_token", value),))
    assert parse_qsl(encoded, keep_blank_values=True, separator="&") == [("access_token", value)]
    name, _, written = encoded.partition("=")
    assert name == "access_token"
    assert set(written) <= set(string.ascii_letters + string.digits + "-._~%")


def test_pairs_are_percent_encoded() -> None:
    assert parameters.encode_pairs((("a/b&", "c/d"), ("e", "f=~"))) == "a%2Fb%26=c%2Fd&e=f%3D~"


def test_numbers_and_booleans_are_written_as_in_json() -> None:
    pairs = (("a", True), ("b", 5), ("c", -1.5), ("d", "M\u00fcller"))
    assert parameters.encode_pairs(pairs) == "a=true&b=5&c=-1.5&d=M%C3%BCller"
    written = json.loads(parameters.add_parameters(b"{}", JSON, pairs))
    assert list(written.items()) == [*pairs]
    assert written["a"] is True


@pytest.mark.parametrize(
    "query",
    [
        "access_token=x",
        "a=b&access_token",
        "a=b;access_token=x",
        "ACCESS_TOKEN=x",
        "access%5Ftoken=x",
        "access%255ftoken=x",
        "%61ccess_token=x",
        "?access_token=x",
        "a=b&%3Facce%C5%BFs_token=x",
        "access_token[]=x",
        "access_token%5B0%5D=x",
        "access.token=x",
        "access+token=x",
        "+access_token=x",
        "a=b%26access_token=x",
        "a=b%2526access_token%253Dx",
        "[access_token]=x",
        "]access_token=x",
        "access_token]=x",
        "access[token=x",
        "access_token%00z=x",
        "%u0061ccess_token=x",
        "%U0061ccess_token=x",
        "\xef\xbb\xbfaccess_token=x",
        "%EF%BB%BFaccess_token=x",
    ],
)
def test_callers_parameter_is_detected_in_any_encoding(query: str) -> None:
    """Some servers decode names this leniently."""
    assert parameters.contains_parameter(query, ["access_token"])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "a=access_token",
        "access_tokens=x",
        "my_access_token=x",
        "xaccess_token=x",
        "a=%",
        "access=token",
        "accesstoken=x",
        "accessToken=x",
        "x\0access_token=x",
    ],
)
def test_other_parameters_do_not_match(query: str) -> None:
    """Such as a value, or a name that only contains the parameter."""
    assert not parameters.contains_parameter(query, ["access_token"])


@pytest.mark.parametrize("times", range(8))
def test_name_is_detected_up_to_seven_encodings_deep(times: int) -> None:
    """Deeper encodings are refused."""
    name = "access_token" if times == 0 else "%" + "25" * (times - 1) + "61ccess_token"
    assert parameters.contains_parameter(f"{name}=x", ["access_token"])


def test_text_encoded_eight_times_is_refused() -> None:
    """The message repeats nothing of the text."""
    with pytest.raises(parameters.UnreadableNames, match=r"\Amust not be encoded so many times\Z"):
        parameters.contains_parameter("%" + "25" * 7 + "61=x", ["access_token"])


def test_injected_name_is_folded() -> None:
    """Its case, dots and spaces are ignored."""
    assert parameters.contains_parameter("api_key=x", ["Api.Key"])
    assert parameters.contains_parameter("api%20key=x", ["b", "api_key"])


@given(st.text(alphabet="access_token", min_size=1, max_size=14), st.integers(0, 2))
def test_encoded_name_is_detected(name: str, times: int) -> None:
    """Any character may be escaped, also repeatedly."""
    spelled = "".join(f"%{ord(character):02x}" for character in name) if times else name
    for _ in range(times - 1):
        spelled = quote(spelled, safe="")
    assert parameters.contains_parameter(f"a=b&{spelled}=1", [name])


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/x-www-form-urlencoded; charset=us-ascii", FORM),
        ("application/x-www-form-urlencoded; charset=windows-1252", FORM),
        ("application/x-www-form-urlencoded; charset=utf8", FORM),
        ("application/json; charset=us-ascii", JSON),
        ("application/json; charset=utf8; x=utf-16", JSON),
        ("application/json; charset=", JSON),
        (" application/json ; Charset = UTF-8 ", JSON),
        ("application/x-www-form-urlencoded", FORM),
        ("application/x-www-form-urlencoded; charset=ISO-8859-1", FORM),
        ("application/x-www-form-urlencoded; charset=", FORM),
        ("Application/X-WWW-Form-URLencoded; charset=UTF-8", FORM),
        ("application/json", JSON),
        ('application/json;charset="utf-8"', JSON),
        ("application/vnd.api+json", JSON),
    ],
)
def test_forms_and_json_accept_parameters(content_type: str, kind: str) -> None:
    assert parameters.media_type(content_type) == kind


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "multipart/form-data; boundary=x", "application/xml", "json", "text/x+json"]
)
def test_other_media_types_accept_no_parameters(content_type: str) -> None:
    with pytest.raises(UnsupportedBody, match=r"\AContent-Type must be application/x-www-form-urlencoded or JSON\Z"):
        parameters.media_type(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json; x=1; charset=utf-16",
        "application/x-www-form-urlencoded; charset=utf-16",
    ],
)
def test_other_charsets_accept_no_parameters(content_type: str) -> None:
    """A form's charset must agree with ASCII. JSON is UTF-8 (RFC 8259 8.1)."""
    with pytest.raises(UnsupportedBody, match=r"\Athe charset of Content-Type must be UTF-8\Z"):
        parameters.media_type(content_type)


@pytest.mark.parametrize(
    ("body", "kind", "sent"),
    [
        (b"", FORM, b"access_token=eyJ.a%2Bb%2Fc%3D%3D"),
        (b"a=b+c%20d", FORM, b"a=b+c%20d&access_token=eyJ.a%2Bb%2Fc%3D%3D"),
        (b"{}", JSON, b'{"access_token":"eyJ.a+b/c=="}'),
        (b"{ \t\r\n }", JSON, b'{ \t\r\n "access_token":"eyJ.a+b/c=="}'),
        (b' { "a" : 1.0e5 } \n', JSON, b' { "a" : 1.0e5 ,"access_token":"eyJ.a+b/c=="} \n'),
        ('{"ä": [1, {"b": "}"}]}'.encode(), JSON, '{"ä": [1, {"b": "}"}],"access_token":"eyJ.a+b/c=="}'.encode()),
    ],
)
def test_parameter_is_appended_to_a_body(body: bytes, kind: str, sent: bytes) -> None:
    """Numbers, white space and order do not change."""
    parameters.check_body(body, kind, ["access_token"])
    assert parameters.add_parameters(body, kind, PAIRS) == sent


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda name: name.lower() != "access_token"), JSON_VALUES, max_size=4))
def test_json_object_keeps_its_members(members: dict[str, object]) -> None:
    body = json.dumps(members, ensure_ascii=False).encode()
    parameters.check_body(body, JSON, ["access_token"])
    assert json.loads(parameters.add_parameters(body, JSON, PAIRS)) == members | {"access_token": TOKEN}


@pytest.mark.parametrize("body", [b"[]", b'[["access_token", 1]]', b" [1]", b"1", b"null", b'"{"'])
def test_json_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(UnsupportedBody, match=r"\Athe body must be a JSON object\Z"):
        parameters.check_body(body, JSON, ["access_token"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_invalid_json_is_refused(body: bytes) -> None:
    with pytest.raises(UnsupportedBody, match=r"\Athe body must be valid JSON in UTF-8\Z"):
        parameters.check_body(body, JSON, ["access_token"])


def test_number_of_any_length_is_allowed() -> None:
    """It is not converted."""
    for number in (b"9" * 50_000, b"0." + b"9" * 50_000, b"1e99999"):
        parameters.check_body(b'{"a": ' + number + b"}", JSON, ["access_token"])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"access_token=x", FORM),
        (b"a=1&access%5ftoken=x", FORM),
        (b'{"access_token": 1}', JSON),
        (b'{"a": 1, "\\u0061ccess_token": 1, "b": 2}', JSON),
        (b'{"Access_Token": null}', JSON),
        ('{"acce\u017f\u017f_token": null}'.encode(), JSON),
        (b'{"access_token\\u0000y": null}', JSON),
    ],
)
def test_callers_field_is_detected_in_a_body(body: bytes, kind: str) -> None:
    """Servers disagree on which of two equal names counts."""
    with pytest.raises(DuplicateParameter):
        parameters.check_body(body, kind, ["access_token"])


def test_member_of_a_nested_object_does_not_match() -> None:
    parameters.check_body(b'{"a": {"access_token": 1}}', JSON, ["access_token"])


@pytest.mark.parametrize(
    ("field", "cleaned"),
    [
        (b"/a?access_token=T", b"/a"),
        (b"/a?access_token=T&b=1", b"/a?b=1"),
        (b"/a?b=1&access_token=T", b"/a?b=1"),
        (b"/a?b=1&access_token=T&c=2", b"/a?b=1&c=2"),
        (b"/a?b=1;access_token=T", b"/a?b=1"),
        (b"/a#access_token=T&x=1", b"/a#x=1"),
        (b"/login?next=%2Fa%3Faccess_token%3DT%26b%3D1", b"/login?next=%2Fa%3Fb%3D1"),
        (b"/login?next=%252Fa%253Faccess_token%253DT", b"/login?next=%252Fa"),
        (b"/a/T/b", b"/a//b"),
        (b"0; url=https://a.test/x?access_token=T", b"0; url=https://a.test/x"),
        (b'<https://a.test/x?access_token=T&page=2>; rel="next"', b'<https://a.test/x?page=2>; rel="next"'),
        (b"/a?token=other", b"/a?token=other"),
    ],
)
@pytest.mark.parametrize("token", ["T", TOKEN])
def test_injected_pair_is_removed_from_a_response(field: bytes, cleaned: bytes, token: str) -> None:
    """With its separator, so that a client can follow a redirect."""
    depth = 3 if b"%25" in field else 2 if b"%3D" in field else 1
    spelled = token
    for _ in range(depth):
        spelled = quote(spelled, safe="")
    clean = Scrubber((("access_token", token),))
    assert clean(field.replace(b"T", spelled.encode()) if b"other" not in field else field) == cleaned


def test_header_is_dropped_if_removal_joins_the_value() -> None:
    assert Scrubber((("t", "abc"),))(b"/x?q=ababcc") is None


@pytest.mark.parametrize(
    ("field", "cleaned"),
    [
        (b"ab+c", b""),
        (b"ab%2Bc", b""),
        (b"ab%252Bc", b""),
        (b"ab%2bcab+c", b""),
        (b"ab%25252Bc", b""),
        (b"t=ab%2Bc", b""),
        (b"t=ab%2Bc&u=1", b"&u=1"),
        (b"/?t=ab+c&t=ab%2Bc;u=1", b"/?u=1"),
        (b"/?u=xab+cx", b"/?u=xx"),
        (b"/?a=1&v=d-e&t=ab+c", b"/?a=1"),
        (b"/d-e/ab+c", b"//"),
        (b"/?v=ab+c", b"/?v="),
        (b"ab%2", b"ab%2"),
        (b"100%", b"100%"),
    ],
)
def test_several_injected_values_are_removed(field: bytes, cleaned: bytes) -> None:
    assert Scrubber((("t", "ab+c"), ("v", "d-e")))(field) == cleaned


@pytest.mark.parametrize("unencoded", ["/", "!'()*", "!$&'()*+,;=:@", "!$&'()*+,;=:@/?"])
def test_value_is_removed_in_the_output_of_any_encoder(unencoded: str) -> None:
    """In a URL, and in a URL within another one's query."""
    clean = Scrubber((("key", "s+ab/cd(==)"),))
    spelled = quote("s+ab/cd(==)", safe=unencoded)
    assert clean(f"/x?a=1&key={spelled}".encode()) == b"/x?a=1"
    outer = f"/login?next={quote(f'/x?a=1&key={spelled}', safe='')}"
    assert clean(outer.encode()) == b"/login?next=%2Fx%3Fa%3D1"


def test_non_ascii_value_is_removed_in_utf_8() -> None:
    clean = Scrubber((("t", "M\u00fcller"),))
    assert clean(b"/x?a=1&t=M%C3%BCller#M\xc3\xbcller") == b"/x?a=1#"


def test_all_occurrences_are_removed_in_linear_time() -> None:
    clean = Scrubber(PAIRS)
    spelled = quote(TOKEN, safe="").encode()
    assert clean(b"/x?" + b"&".join([b"access_token=" + spelled] * 500) + b"#" + spelled) == b"/x#"


@given(st.text(alphabet="abc/+=~.-_%&?", min_size=3, max_size=8), st.integers(0, 3), st.booleans())
def test_no_encoding_of_the_value_remains(token: str, times: int, lower: bool) -> None:
    """Escapes in either case, and escaped again."""
    spelled = token
    for _ in range(times):
        spelled = quote(spelled, safe="")
        spelled = re.sub("%..", lambda escape: escape[0].lower(), spelled) if lower else spelled
    cleaned = Scrubber((("access_token", token),))(b"zz?q=" + spelled.encode() + b"#zz")
    assert cleaned is None or (spelled.encode() not in cleaned and cleaned.endswith(b"#zz"))


@pytest.mark.parametrize(
    "name",
    [
        *("acce\u017fs_token", "acce\u017f\u017f_to\u212aen", "\uff41\uff43\uff43\uff45\uff53\uff53\uff3f\uff54oken"),
        *("ac\U0001d41cess_token", "ACCE\u1e9e_TOKEN", "acce\xdf_token", "access\uff0etoken", "access\u3000token"),
        *(
            "access_\u24e3oken",
            "\u3000access_token",
            "access_token\uff3b0\uff3d",
            "access_tok\u2091n",
            "\ufeffacce\u017fs_token",
        ),
    ],
)
def test_names_are_folded_in_queries_forms_and_objects(name: str) -> None:
    """Case and compatibility characters, however often they are encoded."""
    for times in range(1, 5):
        spelled = name
        for _ in range(times):
            spelled = quote(spelled, safe="")
        assert parameters.contains_parameter(f"a=b&{spelled}=x", ["access_token"])
    with pytest.raises(DuplicateParameter):
        parameters.check_body(f"{quote(name, safe='')}=x".encode(), FORM, ["access_token"])
    with pytest.raises(DuplicateParameter):
        parameters.check_body(f"a=b;{name}=x".encode(), FORM, ["access_token"])
    if not set(name) & set("\uff0e\u3000\uff3b\ufeff"):
        with pytest.raises(DuplicateParameter):
            parameters.check_body(json.dumps({"a": 1, name: "x"}).encode(), JSON, ["access_token"])


@pytest.mark.parametrize(
    "name", ["cl\u0131ent_id", "CL\u0130ENT_ID", "cli\u0307ent_id", "client\uff3fid", "\u217dlient_id"]
)
def test_turkish_letters_i_match_an_i(name: str) -> None:
    """Some servers compare in upper case, or by the rules of that language."""
    assert parameters.fold_name(name) == "client_id"
    assert parameters.contains_parameter(f"{quote(name)}=x", ["client_id"])
    with pytest.raises(DuplicateParameter):
        parameters.check_body(json.dumps({name: "x"}, ensure_ascii=False).encode(), JSON, ["client_id"])


@pytest.mark.parametrize(
    "name",
    ["\u0430ccess_token", "acc\xe9ss_token", "access_t\xf6ken", "\u8aaa\u660e", "access\u2011token", "acceS_token"],
)
def test_look_alike_letters_do_not_match(name: str) -> None:
    """No server reads them as equal: folding is limited to NFKC and case."""
    assert not parameters.contains_parameter(f"{quote(name)}=x", ["access_token"])
    parameters.check_body(json.dumps({name: "x", "\ud800": 1}).encode(), JSON, ["access_token"])


def test_invalid_utf_8_does_not_prevent_folding() -> None:
    assert parameters.contains_parameter("%e9=1&acce%c5%bfs_token=x", ["access_token"])
    assert parameters.contains_parameter("acce%c5%bfs_token[%e9]=x", ["access_token"])


def test_name_inside_a_value_does_not_match() -> None:
    """A longer name that contains it does not match either."""
    assert not parameters.contains_parameter("a=acce%c5%bfs_token&b=%ef%bd%81&xacce%c5%bfs_token=1", ["access_token"])
    assert parameters.contains_parameter("a=b%26acce%c5%bfs_token=1", ["access_token"])


def test_only_dots_and_blanks_match_an_underscore() -> None:
    names = [f"k{character}y" for character in (*string.ascii_letters, *string.digits, "-", "~")]
    assert [name for name in names if not parameters.contains_parameter(f"{name}=1", [name])] == []
    assert [name for name in names if parameters.contains_parameter("k_y=1", [name])] == []


def test_any_of_several_names_matches() -> None:
    for query in ("a=1&key=2", "a=1&\uff4bey=2".encode().decode("latin-1"), "app.id=1"):
        assert parameters.contains_parameter(query, ["app_id", "key"])
    assert not parameters.contains_parameter("a=1", [])


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_queries_are_accepted(text: str) -> None:
    """At any length. Names in any script have up to 4 KiB, also encoded twice."""
    value = quote(text, safe="")
    assert not parameters.contains_parameter(f"q={value * (16_000 // len(value))}", ["access_token"])
    assert not parameters.contains_parameter(
        "&".join(f"k{n}={value}" for n in range(16_000 // (len(value) + 6))), ["access_token"]
    )
    names = "&".join(f"{quote(text[n % len(text) :][:8], safe='')}{n}=1" for n in range(200))
    twice = "&".join(f"{quote(field, safe='')}" for field in names.split("&"))
    for query in (names, twice):
        assert not parameters.contains_parameter(query[:4096].rpartition("&")[0], ["access_token"])


@pytest.mark.parametrize(
    ("name", "other", "result"),
    [
        ("client_id", "Client.ID", True),
        ("client_id", "client_id[]", True),
        ("client_id", " client id", True),
        ("client_id", "client%5fid", True),
        ("client_id", "client%255fid", True),
        ("client_id", "%u0063lient_id", True),
        ("client_id", "x&client_id", True),
        ("client_id", "client_id\0x", True),
        ("client_id", "\uff43lient_id", True),
        ("t\u00f6ken", "T\u00d6KEN", True),
        ("key[a]", "key[a][b]", True),
        ("key[a]", "key[b]", False),
        ("client_id", "client-id", False),
        ("client_id", "_client_id", False),
        ("client_id", "client_ids", False),
    ],
)
def test_names_that_a_lenient_server_confuses(name: str, other: str, result: bool) -> None:
    """In either order, with other names between them."""
    assert parameters.ParameterNames(["a", name, "b"]).find(other) == (name if result else None)
    assert parameters.ParameterNames(["a", other, "b"]).find(name) == (other if result else None)
