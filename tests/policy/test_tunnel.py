"""Requests in a tunnel: their absolute targets, and contradictions with the tunnel."""

from __future__ import annotations

import pytest

from sidekey.policy.messages import RequestHead
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.urls import Origin

PARTS = [
    "method",
    "host",
    "fields",
    "names",
    "control_headers",
    "connection",
    "length",
    "has_content_length",
    "http_1_1",
    "keep_alive",
]
PARTS += ["token", "integration_id", "proxy_authorization"]
HTTPS = Origin("https", "a.test", 443)


def head(target: str, host: bytes | None = b"a.test") -> RequestHead:
    """Build a head with this target."""
    return RequestHead(b"GET", target.encode(), host, [b"\r\nX: 1"], [b"x"], length=3, http_1_1=False)


@pytest.mark.parametrize(
    ("origin", "target", "absolute"),
    [
        (HTTPS, "/x?y", b"https://a.test/x?y"),
        (HTTPS, "//evil.test/x", b"https://a.test//evil.test/x"),
        (HTTPS, "/@evil.test/", b"https://a.test/@evil.test/"),
        (Origin("https", "a.test", 8443), "/", b"https://a.test:8443/"),
        (Origin("http", "a.test", 80), "/", b"http://a.test/"),
        (Origin("http", "2001:db8::1", 443), "/", b"http://[2001:db8::1]:443/"),
        (HTTPS, "https://b.test/", b"https://b.test/"),
        (HTTPS, "*", b"*"),
    ],
)
def test_origin_form_becomes_absolute(origin: Origin, target: str, absolute: bytes) -> None:
    original = head(target)
    result = TunnelContext(origin, None, None).make_absolute(original)
    assert result.target == absolute
    for name in PARTS:
        assert getattr(result, name) == getattr(original, name)


@pytest.mark.parametrize(
    ("origin", "host", "target", "misdirected"),
    [
        (HTTPS, b"a.test", "/", False),
        (HTTPS, b"A.test:443", "/", False),
        (HTTPS, b"a.test:", "/", False),
        (HTTPS, b" a.test ", "/", False),
        (HTTPS, None, "/", False),
        (HTTPS, b"a.test.", "/", True),
        (HTTPS, b"a.test:80", "/", True),
        (HTTPS, b"b.test", "/", True),
        (HTTPS, b"", "/", True),
        (HTTPS, b"u@a.test", "/", True),
        (HTTPS, b"a.test, b.test", "/", True),
        (HTTPS, b"a.test", "https://A.TEST:443/x", False),
        (HTTPS, b"a.test", "https://a.test", False),
        (HTTPS, b"a.test", "http://a.test/", True),
        (HTTPS, b"a.test", "https://a.test:444/", True),
        (HTTPS, b"a.test", "https://a.test.evil.test/", True),
        (HTTPS, b"b.test", "https://a.test/", True),
        (HTTPS, b"a.test", "https://u@a.test/", False),
        (Origin("http", "a.test", 443), b"a.test", "/", True),
        (Origin("http", "a.test", 443), b"a.test:443", "/", False),
        (Origin("https", "127.0.0.1", 443), b"127.0.0.1", "/", False),
        (Origin("https", "127.0.0.1", 443), b"127.1", "/", True),
        (Origin("https", "::1", 443), b"[0:0::1]", "/", False),
    ],
)
def test_another_authority_is_misdirected(origin: Origin, host: bytes | None, target: str, misdirected: bool) -> None:
    """Case and the default port are ignored. The policy refuses malformed targets."""
    tunnel = TunnelContext(origin, None, None)
    assert tunnel.is_misdirected(tunnel.make_absolute(head(target, host))) is misdirected
