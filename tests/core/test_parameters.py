"""Injected parameters: appended to what was judged, found where the caller named them, removed from answers."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core import parameters
from sidekey.core.parameters import FORM, JSON, NamedAlready, Scrubber, Unplaceable

TOKEN = "eyJ.a+b/c=="
PAIRS = (("access_token", TOKEN),)


@pytest.mark.parametrize(
    ("encoded", "added"),
    [("", "p=1"), ("a=b", "a=b&p=1"), ("a=b&", "a=b&p=1"), ("a", "a&p=1"), ("%zz", "%zz&p=1")],
)
def test_a_parameter_is_appended_and_nothing_else_is_touched(encoded: str, added: str) -> None:
    """Byte for byte what was there, then the joint where one is needed."""
    assert parameters.append(encoded, "p=1") == added


@given(st.text(max_size=40))
def test_an_encoded_pair_says_what_was_meant_and_nothing_more(value: str) -> None:
    """Whatever a value holds, it reads back as one parameter."""
    encoded = parameters.encode((("access_token", value),))
    assert parse_qsl(encoded, keep_blank_values=True, separator="&") == [("access_token", value)]
    assert not set(encoded) & set(";#? \r\n")


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
def test_a_callers_own_parameter_is_found_in_any_decoding(query: str) -> None:
    """As the laxest of servers might read it."""
    assert parameters.names_any(query, ["access_token"])


@pytest.mark.parametrize("query", ["", "a=access_token", "access_tokens=x", "my_access_token=x", "a=%", "access=token"])
def test_other_parameters_are_not_taken_for_it(query: str) -> None:
    """A value is no name."""
    assert not parameters.names_any(query, ["access_token"])


@given(st.text(alphabet="access_token", min_size=1, max_size=14), st.integers(0, 2))
def test_a_name_is_found_however_often_it_is_encoded(name: str, times: int) -> None:
    """Every character may be escaped, and the escapes again."""
    spelled = "".join(f"%{ord(character):02x}" for character in name) if times else name
    for _ in range(times - 1):
        spelled = quote(spelled, safe="")
    assert parameters.names_any(f"a=b&{spelled}=1", [name])


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/x-www-form-urlencoded", FORM),
        ("application/x-www-form-urlencoded; charset=ISO-8859-1", FORM),
        ("application/x-www-form-urlencoded; charset=", FORM),
        ("Application/X-WWW-Form-URLencoded; charset=UTF-8", FORM),
        ("application/json", JSON),
        ('application/json;charset="utf-8"', JSON),
        ("application/vnd.api+json", JSON),
    ],
)
def test_forms_and_json_take_parameters(content_type: str, kind: str) -> None:
    """Told by Content-Type."""
    assert parameters.media_type(content_type) == kind


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/xml",
        "json",
    ],
)
def test_other_types_do_not(content_type: str) -> None:
    """Not even where they could."""
    with pytest.raises(Unplaceable):
        parameters.media_type(content_type)


@pytest.mark.parametrize(
    ("body", "kind", "sent"),
    [
        (b"", FORM, b"access_token=eyJ.a%2Bb%2Fc%3D%3D"),
        (b"a=b+c%20d", FORM, b"a=b+c%20d&access_token=eyJ.a%2Bb%2Fc%3D%3D"),
        (b"{}", JSON, b'{"access_token":"eyJ.a+b/c=="}'),
        (b' { "a" : 1.0e5 } \n', JSON, b' { "a" : 1.0e5 ,"access_token":"eyJ.a+b/c=="} \n'),
        ('{"ä": [1, {"b": "}"}]}'.encode(), JSON, '{"ä": [1, {"b": "}"}],"access_token":"eyJ.a+b/c=="}'.encode()),
    ],
)
def test_a_body_takes_the_parameter_behind_what_was_sent(body: bytes, kind: str, sent: bytes) -> None:
    """Nothing is written anew: numbers, white space and order stay."""
    parameters.check_body(body, kind, ["access_token"])
    assert parameters.placed(body, kind, PAIRS) == sent


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda name: name.lower() != "access_token"), JSON_VALUES, max_size=4))
def test_any_json_object_keeps_its_members_and_gains_one(members: dict[str, object]) -> None:
    """A parser sees what the caller wrote, and the token behind it."""
    body = json.dumps(members, ensure_ascii=False).encode()
    parameters.check_body(body, JSON, ["access_token"])
    assert json.loads(parameters.placed(body, JSON, PAIRS)) == members | {"access_token": TOKEN}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'[["access_token", 1]]',
        b"1",
        b"null",
        b'{"a": NaN}',
        b'{"a": 1',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"[" * 60_000,
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_object_is_unplaceable(body: bytes) -> None:
    """However deep or broken it is."""
    with pytest.raises(Unplaceable):
        parameters.check_body(body, JSON, ["access_token"])


def test_a_number_of_any_length_is_no_fault() -> None:
    """It is not converted, and so costs nothing."""
    parameters.check_body(b'{"a": ' + b"9" * 50_000 + b"}", JSON, ["access_token"])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"access_token=x", FORM),
        (b"a=1&access%5ftoken=x", FORM),
        (b'{"access_token": 1}', JSON),
        (b'{"a": 1, "\\u0061ccess_token": 1, "b": 2}', JSON),
        (b'{"Access_Token": null}', JSON),
        ('{"acce\u017f\u017f_token": null}'.encode(), JSON),
        (b'{"access_token\\u0000x": null}', JSON),
    ],
)
def test_a_callers_own_field_is_found_in_a_body(body: bytes, kind: str) -> None:
    """Twice the same name would leave it to the server which one counts."""
    with pytest.raises(NamedAlready):
        parameters.check_body(body, kind, ["access_token"])


def test_a_field_of_an_inner_object_is_another() -> None:
    """Only the outermost members are the token's neighbours."""
    parameters.check_body(b'{"a": {"access_token": 1}}', JSON, ["access_token"])


@pytest.mark.parametrize(
    ("field", "left"),
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
def test_an_answer_loses_the_injected_value(field: bytes, left: bytes, token: str) -> None:
    """Pair and joint go together, so that a redirect may be followed; in each encoding."""
    depth = 3 if b"%25" in field else 2 if b"%3D" in field else 1
    spelled = token
    for _ in range(depth):
        spelled = quote(spelled, safe="")
    clean = Scrubber((("access_token", token),))
    assert clean(field.replace(b"T", spelled.encode()) if b"other" not in field else field) == left


def test_a_value_that_comes_together_only_by_cutting_takes_the_field_along() -> None:
    """What cannot be made clean in two passes is not shown at all."""
    assert Scrubber((("t", "abc"),))(b"/x?q=ababcc") is None


def test_each_occurrence_goes_however_many_there_are() -> None:
    """In one pass, so that a long field costs no more than its length."""
    clean = Scrubber(PAIRS)
    spelled = quote(TOKEN, safe="").encode()
    assert clean(b"/x?" + b"&".join([b"access_token=" + spelled] * 500) + b"#" + spelled) == b"/x#"


@given(st.text(alphabet="abc/+=~.-_%&?", min_size=3, max_size=8), st.integers(0, 3), st.booleans())
def test_no_spelling_of_the_value_stays(token: str, times: int, lower: bool) -> None:
    """Escapes in either case, and escaped again."""
    spelled = token
    for _ in range(times):
        spelled = "".join(f"%{ord(character):02{'x' if lower else 'X'}}" for character in spelled)
    cleaned = Scrubber((("access_token", token),))(b"zz?q=" + spelled.encode() + b"#zz")
    assert cleaned is None or (spelled.encode() not in cleaned and cleaned.endswith(b"#zz"))
