"""Redaction of secrets that a response repeats: spellings, heads, and bodies in pieces."""

from __future__ import annotations

import json
import sys
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.build import build
from sidekey.policy.redaction import MARK, MAX_LENGTH, RedactedStream, Redactor, searchable, spellings
from support.http_strategies import cuts, pieces

PLAIN = "s3cr3t-of_the~crm.0"
HARD = "p@ss/w\"or\\d+='é€\U0001f511<&> `x"
SECRETS = [PLAIN, HARD, "Zm9vYmFyL2Jhei8rPz8/Pw==", "~%2F%2f%~", "12345678"]


def redact(redactor: Redactor, text: bytes) -> bytes:
    """Redact a complete text."""
    return redactor.split(text, is_last=True)[0]


def with_lower_case_hex(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def encode(secret: str) -> dict[str, str]:
    """Encode a secret as the standard library and other languages do."""
    ascii_json, utf8_json = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    html_safe = {char: f"\\u{ord(char):04x}" for char in "<>&"}
    dot_net = {char: f"\\u{ord(char):04X}" for char in "<>&'+`"}
    percent = {
        "quote": quote(secret),
        "quote of all": quote(secret, safe=""),
        "quote_plus": quote_plus(secret),
        "encodeURIComponent": quote(secret, safe="!'()*"),
        "URLSearchParams": quote_plus(secret, safe="*").replace("~", "%7E"),
        "a segment of RFC 3986": quote(secret, safe="!$&'()*+,;=:@"),
        "a query of RFC 3986": quote(secret, safe="!$&'()*+,;=:@/?"),
    }
    return {
        "exact": secret,
        **percent,
        **{f"{name}, lower case": with_lower_case_hex(text) for name, text in percent.items()},
        "json.dumps": ascii_json,
        "json.dumps, UTF-8": utf8_json,
        "PHP": ascii_json.replace("/", "\\/"),
        "PHP, UTF-8": utf8_json.replace("/", "\\/"),
        "Go": utf8_json.translate(str.maketrans(html_safe)),
        "Django": ascii_json.translate(str.maketrans(html_safe)),
        "Gson": utf8_json.translate(str.maketrans({**html_safe, "'": "\\u0027", "=": "\\u003d"})),
        ".NET": utf8_json.replace('\\"', "\\u0022").translate(str.maketrans(dot_net)),
    }


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_is_redacted_in_every_usual_spelling(secret: str) -> None:
    """Alone, and within other text."""
    redactor = Redactor((secret.encode(),))
    for name, spelled in encode(secret).items():
        for before, after in (("", ""), ("x", "y"), ('{"a":"', '"}'), ("/?a=", "&b")):
            text = f"{before}{spelled}{after}".encode()
            assert redact(redactor, text) == before.encode() + MARK + after.encode(), name


@pytest.mark.parametrize("url_safe", [False, True])
@pytest.mark.parametrize("secret", SECRETS)
@given(before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_secret_is_redacted_in_base64_at_any_offset(url_safe: bool, secret: str, before: bytes, after: bytes) -> None:
    """At most 4 bits of the secret remain at each end."""
    text = (urlsafe_b64encode if url_safe else b64encode)(before + secret.encode() + after)
    start, end = divmod(len(before) * 8, 6), (len(before) + len(secret.encode())) * 8 // 6
    first = start[0] + (start[1] > 0)
    assert redact(Redactor((secret.encode(),)), text) == text[:first] + MARK + text[end:]


@given(secret=st.text(min_size=8).map(str.encode), before=st.text(max_size=5), after=st.text(max_size=5))
def test_any_secret_is_redacted(secret: bytes, before: str, after: str) -> None:
    """Even one that reads as a pattern or an escape."""
    out = redact(Redactor((secret,)), before.encode() + secret + after.encode())
    assert secret not in out or secret in MARK


def test_secret_that_is_not_utf_8_is_redacted() -> None:
    secret = b"\xff\xfe\x80secret"
    for spelled in (secret, quote(secret).encode(), b64encode(secret)):
        assert redact(Redactor((secret,)), b"<" + spelled + b">") == b"<" + MARK + b">"


def test_short_secrets_are_not_redacted() -> None:
    """They may be words of any response."""
    assert searchable((b"1234567", b"12345678", b"")) == [b"12345678"]
    assert redact(Redactor((b"1234567",)), b"1234567") == b"1234567"
    assert redact(Redactor((b"12345678",)), b"12345678") == MARK


def test_repr_does_not_show_secrets() -> None:
    assert repr(Redactor((PLAIN.encode(),))) == "Redactor(REDACTED)"


@pytest.mark.parametrize(
    ("secrets", "text", "out"),
    [
        # The first to begin counts, then the longest.
        ((b"abcdefgh", b"defghijkl"), b"abcdefghijkl", MARK + b"ijkl"),
        ((b"abcdefgh", b"abcdefghij"), b"abcdefghijk", MARK + b"k"),
        ((b"abcdefgh", b"abcdefghij"), b"abcdefghi", MARK + b"i"),
        ((b"abcdefgh", b"xabcdefghx"), b"xabcdefghxabcdefgh", MARK * 2),
        ((b"abababab",), b"ababababab", MARK + b"ab"),
        ((b"abcdefgh",), b"abcdefgh" * 3, MARK * 3),
        ((b"abcdefgh",), b"ABCDEFGH abcdefg", b"ABCDEFGH abcdefg"),
    ],
)
def test_overlapping_secrets_are_redacted(secrets: tuple[bytes, ...], text: bytes, out: bytes) -> None:
    assert redact(Redactor(secrets), text) == out


ALPHABETS = ["ab", "abc[]", "[redacted]", "aY=WFh%26\\u0", "/+a", "d]a["]
DRAWN = st.sampled_from(ALPHABETS).flatmap(
    lambda alphabet: st.tuples(
        st.lists(st.text(alphabet, min_size=8, max_size=12).map(str.encode), min_size=1, max_size=3),
        st.lists(
            st.one_of(st.text(alphabet, max_size=12).map(str.encode), st.integers(0, 40), st.just(MARK)), max_size=12
        ),
    )
)


def body_of(secrets: list[bytes], parts: list[bytes | int]) -> bytes:
    """Build a text with secrets in several spellings, some without their last character."""
    spelled = sorted(text for secret in secrets for text in spellings(secret))
    chosen = [part if isinstance(part, bytes) else spelled[part % len(spelled)] if spelled else b"" for part in parts]
    return b"".join(text[: len(text) - (len(text) % 3 == 2)] for text in chosen)


@given(drawn=DRAWN, data=st.data())
def test_cuts_of_a_body_do_not_change_the_output(
    drawn: tuple[list[bytes], list[bytes | int]], data: st.DataObject
) -> None:
    """Fewer bytes are buffered than the longest spelling has."""
    secrets, parts = drawn
    redactor = Redactor(secrets)
    longest = max(len(text) for secret in secrets for text in spellings(secret))
    body = body_of(secrets, parts)
    at = data.draw(st.one_of(cuts(len(body)), st.just(list(range(len(body))))))
    stream = RedactedStream(redactor)
    out = bytearray()
    fed = 0
    for piece in pieces(body, at):
        fed += len(piece)
        out += stream.feed(piece)
        assert len(redactor.split(body[:fed], is_last=False)[1]) < longest
    assert bytes(out) + stream.finish() == redact(redactor, body)


@given(drawn=DRAWN)
def test_no_spelling_of_a_secret_remains(drawn: tuple[list[bytes], list[bytes | int]]) -> None:
    secrets, parts = drawn
    out = redact(Redactor(secrets), body_of(secrets, parts))
    for secret in secrets:
        for spelled in spellings(secret):
            assert all(spelled not in part for part in out.split(MARK))


@pytest.mark.parametrize("extra", [0, 1, 7, MAX_LENGTH - 1, MAX_LENGTH])
def test_very_long_secret_is_redacted_in_pieces(extra: int) -> None:
    """No byte of it remains."""
    secret = bytes(33 + (number * number) % 89 for number in range(MAX_LENGTH + extra))
    assert redact(Redactor((secret,)), b"<" + secret + b">").replace(MARK, b"") == b"<>"


@pytest.mark.parametrize("text", [b"a" * 200_000, b"ab" * 100_000, (b"a" * 63 + b"b") * 3000, b"%61" * 60_000])
def test_work_is_linear_in_the_text(text: bytes) -> None:
    """Counted in calls: beginnings of secrets cost no more than other text."""
    if build() == "compiled":
        pytest.skip("sys.setprofile does not see calls of compiled methods")
    redactor = Redactor((b"a" * 64, b"a" * 63 + b"c"))
    counts = []
    for share in (len(text) // 8, len(text)):
        calls: Counter[str] = Counter()

        def count(_: object, event: str, __: object, calls: Counter[str] = calls) -> None:
            calls[event] += 1

        stream = RedactedStream(redactor)
        sys.setprofile(count)
        try:
            for at in range(0, share, 4096):
                stream.feed(text[at : min(share, at + 4096)])
            stream.finish()
        finally:
            sys.setprofile(None)
        counts.append(calls.total())
    assert counts[1] < 10 * counts[0]


@pytest.mark.parametrize("first", range(1, len(HARD.encode())))
def test_only_the_beginning_of_a_secret_is_buffered(first: int) -> None:
    """An event with another end is complete at once."""
    secret = HARD.encode()
    stream = RedactedStream(Redactor((secret,)))
    assert stream.feed(b"data: 1\n\n") == b"data: 1\n\n"
    assert stream.feed(b"data: " + secret[:first]) == b"data: "
    assert stream.feed(b"\n\n") == secret[:first] + b"\n\n"
    assert stream.feed(b"data: " + secret[:first]) == b"data: "
    assert stream.feed(secret[first:] + b"\n\n") == MARK + b"\n\n"
    assert stream.finish() == b""


@pytest.mark.parametrize(
    "secrets",
    [(b"abcdefghXX", b"bcdefghYYYYYY"), (b"abcdefghXXXXXX", b"bcdefghYY")],
    ids=["the shorter begins first", "the longer begins first"],
)
def test_first_of_several_beginnings_is_buffered(secrets: tuple[bytes, bytes]) -> None:
    """Also if one follows directly after another."""
    stream = RedactedStream(Redactor(secrets))
    first, second = secrets
    assert stream.feed(b"- " + first[:8]) == b"- "
    assert stream.feed(first[8:] + b".") == MARK + b"."
    assert stream.feed(b"- " + first[:8]) == b"- "
    assert stream.feed(second[7:] + b".") == b"a" + MARK + b"."


def test_beginning_after_a_false_beginning_is_buffered() -> None:
    """The last seven of eight characters begin the secret."""
    stream = RedactedStream(Redactor((b"aaaaaaabcdef",)))
    assert stream.feed(b"aaaaaaaa") == b"a"
    assert stream.feed(b"bcdef") == MARK


def test_buffered_bytes_are_returned_at_the_end() -> None:
    stream = RedactedStream(Redactor((b"12345678",)))
    assert stream.feed(b"a 1234567") == b"a "
    assert stream.finish() == b"1234567"
    assert stream.finish() == b""


# Fields of a head.

LINES = [b"\r\nServer: a", b"\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT", b"\r\nX-Empty: "]


@pytest.mark.parametrize(
    "line",
    [
        b"\r\nX-Rate: 100% of an hour's",
        b'\r\nX-Path: "C:\\\\of\\\\the\\\\host"',
        b"\r\nLocation: /a%20b/c%20d",
        b"\r\nX-Id: " + PLAIN[:-1].encode(),
    ],
)
def test_headers_without_a_secret_are_unchanged(line: bytes) -> None:
    redactor = Redactor((PLAIN.encode(),))
    assert redactor.clean([*LINES, line]) == [*LINES, line]
    assert redactor.clean([]) == []


@pytest.mark.parametrize("secret", SECRETS)
def test_header_value_is_redacted(secret: str) -> None:
    redactor = Redactor((secret.encode(),))
    for spelled in encode(secret).values():
        echo = b"\r\nX-Echo: Bearer " + spelled.encode()
        assert redactor.clean([*LINES, echo]) == [*LINES, b"\r\nX-Echo: Bearer [redacted]"]


def test_header_with_a_secret_in_its_name_is_dropped() -> None:
    """`[` is not allowed in a name."""
    redactor = Redactor((PLAIN.encode(),))
    assert redactor.clean([b"\r\nX-" + PLAIN.encode() + b": 1", *LINES]) == LINES
    assert redactor.clean([b"\r\n" + PLAIN.encode() + b": " + PLAIN.encode()]) == []
    spanning = Redactor((b"X-Echo: 1",))
    assert spanning.clean([b"\r\nX-Echo: 12"]) == []
    assert Redactor((b": 12345678",)).clean([b"\r\nX: 12345678"]) == []


def test_header_with_a_secret_after_the_colon_is_kept() -> None:
    assert Redactor((b" 12345678",)).clean([b"\r\nX: 12345678"]) == [b"\r\nX:" + MARK]


def test_parameters_are_removed_from_urls_and_redacted_elsewhere() -> None:
    """A client can follow the remaining URL."""
    redactor = Redactor((b"s3cr3t/token",), (("access_token", "s3cr3t/token"),))
    assert redactor.clean(
        [
            b"\r\nLocation: https://a/b?access_token=s3cr3t%2Ftoken&x=1",
            b"\r\nLink: </b?x=1>",
            b"\r\nX-Url: https://a/b?access_token=s3cr3t%2ftoken&x=1",
            b"\r\nRefresh: 5; url=/b?t=s3cr3t%252Ftoken",
        ]
    ) == [
        b"\r\nLocation: https://a/b?x=1",
        b"\r\nLink: </b?x=1>",
        b"\r\nX-Url: https://a/b?access_token=[redacted]&x=1",
        b"\r\nRefresh: 5; url=/b?t=",
    ]


def test_short_parameter_is_removed_from_urls() -> None:
    """Its name identifies it there."""
    redactor = Redactor((b"abc",), (("t", "abc"),))
    assert redactor.clean([b"\r\nLocation: /?t=abc", b"\r\nX-Url: /?t=abc"]) == [
        b"\r\nLocation: /",
        b"\r\nX-Url: /?t=abc",
    ]
    assert redactor.clean([b"\r\nLocation: /x?q=ababcc"]) == []
