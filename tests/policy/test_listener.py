"""Checks of the Host that a request names, and of loops."""

from __future__ import annotations

import pytest

from sidekey.policy.listener import MAX_HOST_LENGTH, check_loop, is_listener_host
from support.decisions import IntegrationTable, head


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1",
        b"127.0.0.1:8080",
        b"127.0.0.1:",
        b"[::1]:",
        b"[::1]:80",
        b"[::1]",
        b"localhost",
        b"LOCALHOST:1",
        b"10.1.2.3",
        b"side.svc:80",
    ],
)
def test_listener_hosts(host: bytes) -> None:
    """A page cannot send an IP literal as Host for a name that it controls."""
    assert is_listener_host(host, frozenset({"side.svc"}))


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.1:x",
        b"127.0.0.1:80x",
        b"127.0.0.1:\xb2",
        b"[::1]x",
        b"[::1]80",
        b"[::1]:x",
        b"[127.0.0.1]",
        b"::1",
        b"[::1",
        b"[localhost]",
        b"side.svc.",
    ],
)
def test_other_hosts_are_not_the_listener(host: bytes) -> None:
    """DNS rebinding sends another name."""
    assert not is_listener_host(host, frozenset({"side.svc"}))


@pytest.mark.parametrize(
    "host", [b"1" * 5000, b"0x" + b"f" * 60_000, b"a" * 261, b"[" + b":" * 300 + b"]", b"0" * 260 + b"1"]
)
def test_too_long_host_is_not_the_listener(host: bytes) -> None:
    """Even if it reads as an address."""
    assert not is_listener_host(host, frozenset({"a" * 261}))


def test_host_of_the_maximum_length_is_accepted() -> None:
    longest = b"a" * (MAX_HOST_LENGTH - 6) + b":65535"
    assert is_listener_host(longest, frozenset({"a" * (MAX_HOST_LENGTH - 6)}))
    assert is_listener_host(b"0" * (MAX_HOST_LENGTH - 1) + b"1", frozenset())


@pytest.mark.parametrize(
    ("via", "loops"),
    [
        (b"", False),
        (b"1.1 other", False),
        (b"1.1 sidekey (aaaa)", False),
        (b"1.1 sidekey (beef)", True),
        (b"1.0 x, 1.1 sidekey (beef), 1.1 y", True),
        (b",".join([b"1.1 Sidekey (a)"] * 5), False),
        (b",".join([b"1.1 Sidekey (a)"] * 6), True),
    ],
)
def test_loop_is_detected_by_via(via: bytes, loops: bool) -> None:
    """This process, or more than five Sidekey processes (RFC 9110 7.6.3)."""
    problem = check_loop(head("/i/h", via=via.decode()), IntegrationTable({}, instance=b"beef"))
    assert (problem is not None and problem.code == "loop_detected") is loops
