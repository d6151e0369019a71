"""The exact parser of targets."""

from __future__ import annotations

import pytest

from sidekey.policy.urls import InvalidTarget, Origin, Target, parse_authority, parse_target

HTTPS = Origin("https", "a.example", 443)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://a.example", Target(HTTPS, "/", None)),
        ("https://a.example?x=1", Target(HTTPS, "/", "x=1")),
        ("https://a.example/p?", Target(HTTPS, "/p", "")),
        ("https://a.example/p?a?b/c", Target(HTTPS, "/p", "a?b/c")),
        ("HTTPS://A.Example:443/P", Target(HTTPS, "/P", None)),
        ("https://a.example:/p", Target(HTTPS, "/p", None)),
        ("https://a.example:8443/p", Target(Origin("https", "a.example", 8443), "/p", None)),
        ("http://a.example/p", Target(Origin("http", "a.example", 80), "/p", None)),
        ("http://a.example:443/p", Target(Origin("http", "a.example", 443), "/p", None)),
        ("https://a.example./p", Target(Origin("https", "a.example.", 443), "/p", None)),
        ("https://a_b.example/p", Target(Origin("https", "a_b.example", 443), "/p", None)),
        ("https://127.0.0.1:9/p", Target(Origin("https", "127.0.0.1", 9), "/p", None)),
        ("https://[2001:DB8:0:0::1]/p", Target(Origin("https", "2001:db8::1", 443), "/p", None)),
        ("https://[::1]:9/p", Target(Origin("https", "::1", 9), "/p", None)),
        ("https://a.example//p/../q;x", Target(HTTPS, "//p/../q;x", None)),
        ("http://a.example:/p", Target(Origin("http", "a.example", 80), "/p", None)),
        ("https://a.example:1/p", Target(Origin("https", "a.example", 1), "/p", None)),
        ("https://a.example:65535/p", Target(Origin("https", "a.example", 65535), "/p", None)),
        ("https://a.example:00443/p", Target(HTTPS, "/p", None)),
        ("https://a.example/%41%ff", Target(HTTPS, "/%41%ff", None)),
        ("https://a.example/!~", Target(HTTPS, "/!~", None)),
        ("https://" + "a" * 63 + "/p", Target(Origin("https", "a" * 63, 443), "/p", None)),
        ("https://" + "a." * 127 + "/p", Target(Origin("https", "a." * 127, 443), "/p", None)),
    ],
)
def test_target_is_split_and_its_origin_normalized(url: str, target: Target) -> None:
    """Path and query do not change."""
    assert parse_target(url) == target


NOT_A_URL = "the target must be an absolute URL"
NOT_HTTP = "the target's scheme must be http or https"
USERINFO = "the target must not contain userinfo"
NOT_A_PORT = "the target's port must be 1 to 65535"
NOT_A_NAME = "the target's host must be a host name or an IP address: write an international name in punycode"
NOT_IPV6 = "the target's host in brackets must be an IPv6 address without a zone"
FOREIGN = "the target contains characters that must be percent-encoded"
BAD_ESCAPE = "the target contains an invalid percent-encoding"

REFUSED = {
    NOT_A_URL: [
        "",
        "/p",
        "a.example/p",
        "//a.example/p",
        "https:/a.example/p",
        "https:a.example",
        "1https://a.example/",
    ],
    NOT_HTTP: ["ftp://a.example/p", "file:///etc/passwd", "httpsx://a.example/", "h+t-t.p1://a.example/"],
    USERINFO: ["https://user@a.example/p", "https://user:pass@a.example/p", "https://@a.example/p"],
    NOT_A_PORT: [
        "https://a.example:0/p",
        "https://a.example:65536/p",
        "https://a.example:4x/p",
        "https://a.example:-1/p",
        "https://a.example:000443/p",
        "https://a.example:443:443/p",
        "https://::1/p",
        "https://[::1]:0/p",
    ],
    NOT_IPV6: [
        "https://[::1]x/p",
        "https://[127.0.0.1]/p",
        "https://[fe80::1%25lo]/p",
        "https://[a.example]/p",
        "https://[]/p",
        "https://[",
        "https://[a/p",
    ],
    NOT_A_NAME: [
        "https://",
        "https:///p",
        "https://:443/p",
        "https://a..example/p",
        "https://.example/p",
        "https://-a.example/p",
        "https://a-.example/p",
        "https://a.-b.example/p",
        "https://a.b-.example/p",
        "https://a.example../p",
        "https://a%2eexample/p",
        "https://a*.example/p",
        "https://" + "a" * 64 + ".example/p",
        "https://a." + "a" * 64 + "/p",
        "https://" + "a." * 127 + "a/p",
    ],
    FOREIGN: [
        "https://a.example/p q",
        "https://a.example/p\tq",
        "https://a.example/p\r\nHost: b",
        "https://a.example/p\x00",
        "https://a.example/p\x7f",
        "https://a.example/caf\xe9",
        "https://\xe9.example/p",
        "https://a.example\\p",
        "https://a.example/p\\q",
        "https://a.example/p#f",
        "https://a.example#/p",
    ],
    BAD_ESCAPE: ["https://a.example/%zz", "https://a.example/%2", "https://a.example/%4g", "https://a.example/p?x=%"],
}


def refusal(url: str) -> str | None:
    """Return why a URL is no target, or None if it is one."""
    try:
        parse_target(url)
    except InvalidTarget as refused:
        return str(refused)
    return None


def test_malformed_target_is_refused_without_repeating_it() -> None:
    reasons = {url: reason for reason, urls in REFUSED.items() for url in urls} | {"https://[::1/p": NOT_A_PORT}
    assert {url: refusal(url) for url in reasons} == reasons


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        (HTTPS, "a.example"),
        (Origin("http", "a.example", 80), "a.example"),
        (Origin("http", "a.example", 443), "a.example:443"),
        (Origin("https", "::1", 443), "[::1]"),
        (Origin("https", "::1", 9), "[::1]:9"),
    ],
)
def test_authority_omits_the_default_port(origin: Origin, authority: str) -> None:
    """RFC 9110 7.2."""
    assert origin.authority == authority
    assert str(origin) == f"{origin.scheme}://{authority}"


@pytest.mark.parametrize("rest", ["/", "/p", "/p?", "/p?x=1&y=%20", "//p/%2e?a/b?c"])
def test_request_target_equals_the_parsed_url(rest: str) -> None:
    assert parse_target("https://a.example" + rest).request_target == rest


@pytest.mark.parametrize("host", ["a" * 63 + ".", "1", "0x1", "-", "a."])
def test_too_long_host_is_refused_before_it_is_parsed(host: str) -> None:
    """More than 254 characters, including a trailing dot."""
    with pytest.raises(InvalidTarget, match="must be a host name or an IP address"):
        parse_target(f"https://{(host * 300)[:255]}/")


def test_host_of_254_characters_is_accepted() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61]) + "."
    assert len(longest) == 254
    assert parse_target(f"https://{longest}/").origin.host == longest


@pytest.mark.parametrize("text", ["a.example:443/", "a.example:443?", "/", "https://a.example:443"])
def test_connect_target_has_no_scheme_path_or_query(text: str) -> None:
    with pytest.raises(InvalidTarget) as refused:
        parse_authority(text)
    assert str(refused.value) == "the target of CONNECT must be host:port, without scheme, path and query"
