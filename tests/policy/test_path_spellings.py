"""Spellings of a path that some server takes for another one: no credential leaves with them, and ordinary text passes.

Asserted at the upstream: nothing reaches it, or exactly the bytes that the caller wrote.
"""

from __future__ import annotations

from typing import Any

import pytest

from support import cases
from support.plane import CREDENTIAL, get, integration
from support.scripted import ScriptedPlane, settle

PREFIX = "https://secure.example.com/api/v1"

CLIMBING = [
    # Overlong UTF-8 (RFC 3629 3), in two to six bytes, and with bytes that only lax decoders take for continuations.
    *("%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "%f0%80%80%ae%f0%80%80%ae", "%f8%80%80%80%ae", "%fc%80%80%80%80%ae"),
    *("..%c0%af", "..%c1%9c", "..%e0%80%af", "..%f0%80%80%af", "%c0%2e%c0%2e", "..%c0%2f", "..%c1%1c", "%e0%40%ae"),
    *("%25c0%25ae%25c0%25ae", "%2525c0%2525ae", "..%25c0%25af", "..%25c1%259c", "%c0%80", "a%c0", "%c1%81"),
    # Beyond U+10FFFF.
    *("%f4%90%80%80", "%f5%80%80%80", "%f7%bf%bf%bf", "%ff%bf%bf%bf"),
    # Three layers of escapes.
    *("%2e%2e", "%252e%252e", "%25252e%25252e", "..%25252f", "..%25255c", "%2e%252e%25252f", "..%253b", "..%25253b"),
    *("%25%32%65%25%32%65", "%252%65%252%65"),
    # %uXXXX that a decoding uncovers, and a surrogate pair among them.
    *("%25u002e%25u002e", "..%25u002f", "..%25U002F", "..%25u005c", "..%2525u002f", "%25uff0e%25uff0e", "..%25u2215"),
    *("..%25u2216", "%25%75002e%25u002e", "..%25u003b"),
    # Compatibility characters.
    *("%ef%bc%8e%ef%bc%8e", "..%ef%bc%8f", "..%ef%bc%bc", "%e2%80%a4%e2%80%a4", "%e2%80%a5", "..%e2%81%84"),
    *("..%e2%88%95", "..%e2%88%96", "%ef%b9%92%ef%b9%92", ".%ef%bc%8e", "..%ef%b9%a8", "..%ef%bc%9b", "..%ef%bc%9f"),
    *("%ef%bc%852e%ef%bc%852e", "%25ef%25bc%258e%25ef%25bc%258e", "%e9..%ef%bc%8f..%ef%bc%8f..%ef%bc%8f"),
    # Dot segments with tails that Windows, trim() or a file system cut off.
    *(
        "..%20",
        "..%2520",
        "..%25252520".replace("252525", "2525"),
        "..%a0",
        "..%c2%a0",
        "..%20%20",
        "..%20.",
        "...",
        "....",
        ".%20",
    ),
    *("..::$DATA", "..%3a%3a$DATA", "..:x", "..::$INDEX_ALLOCATION", "..+", "..%2b", "..%00", "..%2500", "..%e2%80%83"),
    *(
        "..%e3%80%80",
        "..%e2%80%8b",
        "..%ef%bb%bf",
        "..%85",
        "..%c2%85",
        "..%e2%80%a8",
        "..%e1%9a%80",
        "..%20;x",
        "..%a0;x",
    ),
    # What an upstream takes for the end of the path.
    *("..%3f", "..%23", "..%3fx", "..;x%3f", "..%253f", "..%2523", ".%3f", "../x%3f/../v1", "..%5cx%23/../../api/v1"),
    # The habits of servers without any of that.
    *("..", "../v2", "..;", "..;x=1", "..\\", "..%5c", "%5c..%5c", "..%2f", "..%2f..%2f", "//../..", "a/../..", "./.."),
    *("a;/../..", ".;/..", "a%2f..%2f..", "x%5c..%5c../y%5ca%5cb/..", "a;%2fb/%2e%2e/%2e%2e"),
    # What stays below the prefix to some servers, and does not to others.
    *("a/./b", "a/../b", "a/b%3Fc/../d", "caf%e9/%ef%bc%8e%ef%bc%8e", "..%e2%81%84%25u2215"),
]
"""What stands between `/api/v1/` and `/v2`: each leads out of the prefix somewhere, or has no honest meaning."""

ORDINARY = [
    *(
        "a%20b",
        "what%3F",
        "what%3Fever%23x",
        "100%25",
        "100%2525",
        "100%25%20off",
        "z%C3%BCrich",
        "caf%E9",
        "M%FCnchen",
    ),
    *("%E0", "%E0bient%F4t", "voil%E0", "d%E9j%E0%20vu", "%F0", "%F5es", "%FFx", "%ABPer%FA%BB", "%F4%BB", "%FE"),
    *(
        "a...b",
        "v1.2.3",
        ".well-known",
        "..x",
        "x..",
        "x.",
        "x...",
        "...x",
        "%F0%9F%98%80",
        "%E4%BD%A0%E5%A5%BD",
        "a%2Bb",
        "a+b",
    ),
    *(
        "user@example.com",
        "a:b",
        "urn:isbn:0",
        "a::$DATA",
        "a%2Fb",
        "a;v=1",
        "e%CC%81",
        "%C2%BD",
        "x%E2%80%A6",
        "n%C2%B0%205",
    ),
    *("SGVsbG8_-w", "SGVsbG8%2Bw%2F%3D", "%D0%BF%D1%80%D0%B8", "%25u", "%25zz", "50%25ab", "a//b"),
    *(
        "%EF%BD%81",
        "%EF%BC%A1",
        "a%EF%BC%9F",
        "%CE%A9%E1%BD%BC",
        "*",
        "~x",
        "$1",
        "(x)",
        "'x'",
        "a,b",
        "!",
    ),
    *("%E0%B8%81%E0%B8%B4%E0%B8%99", "%E0%A4%95", "%F0%90%8D%88", "%F4%8F%BF%BF", "%ED%95%9C", "%EF%BB%BFx"),
]
"""What people and programs put into a segment."""

ROWS = cases.rows("endpoint_policy")


async def reached(prefix: str, request: bytes) -> bytes | None:
    """Return the head that reached the upstream with the credential, or None if Sidekey refused the request."""
    sidekey = ScriptedPlane(integration("h", prefix))
    caller = sidekey.caller()
    caller.feed(request)
    await settle()
    if not sidekey.upstreams:
        assert caller.read().split(b" ")[1] in (b"400", b"403")
        return None
    head: bytes = sidekey.upstreams[0].read()
    assert head.count(b"\r\nAuthorization: %b\r\n" % CREDENTIAL) == 1
    return head


def forward(url: str) -> bytes:
    """Build a forward-proxy request for an absolute URL."""
    return f"GET {url} HTTP/1.1\r\nHost: any\r\nX-Integration-Id: h\r\n\r\n".encode()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['why']}: {row['url']!r}")
async def test_target_table_holds_at_the_upstream(row: dict[str, Any]) -> None:
    """By the forward proxy and, if the URL begins with the prefix, by the reverse proxy."""
    requests = []
    if not row["url"].startswith("http://"):
        # Such a target is upgraded to https first: that has tests of its own.
        requests.append(forward(row["url"]))
    if row["url"].startswith(row["prefix"]) and row["url"][len(row["prefix"]) :][:1] in ("", "/", "?"):
        requests.append(f"GET /i/h{row['url'].removeprefix(row['prefix'])} HTTP/1.1\r\nHost: h.test\r\n\r\n".encode())
    for request in requests:
        head = await reached(row["prefix"], request)
        if not row["allowed"]:
            assert head is None
        else:
            assert head is not None
            assert head.startswith(f"GET {row['expect_target']} HTTP/1.1\r\nHost: secure.example.com\r\n".encode())


@pytest.mark.parametrize("shape", ["/{}/v2", "/{}", "/{}/{}/v2?q=1"])
async def test_path_that_some_server_resolves_outside_gets_no_credential(shape: str) -> None:
    """By either proxy."""
    paths = [shape.format(spelling, spelling) for spelling in CLIMBING]
    requests = [request for path in paths for request in (get(path), forward(PREFIX + path))]
    heads = {request: await reached(PREFIX, request) for request in requests}
    assert heads == dict.fromkeys(requests)


@pytest.mark.parametrize("shape", ["/{}/v2", "/{}", "/x/{}?q={}"])
async def test_ordinary_text_reaches_the_upstream_unchanged(shape: str) -> None:
    """By either proxy."""
    paths = [shape.format(spelling, spelling) for spelling in ORDINARY]
    written = {
        request: f"GET /api/v1{path} HTTP/1.1\r\nHost: secure.example.com".encode()
        for path in paths
        for request in (get(path), forward(PREFIX + path))
    }
    heads = {request: await reached(PREFIX, request) for request in written}
    assert {request: head and head[: len(written[request])] for request, head in heads.items()} == written


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/oauth2/token",
            "/OAuth2/Token/",
            "/oauth2/./token",
            "/oauth2/%74oken",
            "/oauth2%25252ftoken",
            "/x/%2e%2e/oauth2/token",
        ),
        *(
            "/oauth2/tok%25u0065n",
            "/oauth2/%ef%bd%94oken",
            "/%e2%93%9eauth2/token",
            "/oauth2%e2%81%84token",
            "/oauth2/to%e2%84%aaen",
        ),
        *(
            "/oauth2/token%20",
            "/oauth2/token.",
            "/oauth2./token",
            "/oauth2/token%3f",
            "/oauth2/token%23x",
            "/oauth2/token::$DATA",
            "/oauth2:x/token%3fx/y",
            "/oauth2/%20token",
            "/o%c4%b1uth2/../oauth2/token",
        ),
        *("/oauth2/token;x", "/oauth2//token", "/oauth2/token%c2%a0/", "/oauth2%5ctoken", "/oauth2/token%c0%af"),
    ],
)
async def test_token_endpoint_is_unreachable_in_any_spelling(path: str) -> None:
    """The caller would get the token."""
    base = "https://a.test"
    target_integration = integration("h", domains=[base], forbidden=[(base, "/oauth2/token")])
    for request in (get(path), forward(base + path)):
        sidekey = ScriptedPlane(target_integration)
        caller = sidekey.caller()
        caller.feed(request)
        await settle()
        assert sidekey.upstreams == []
        assert caller.read().split(b" ")[1] in (b"400", b"403")
