"""The variables that `sidekey env` prints."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from sidekey.environment import TOKEN_PLACE, NoProxyUrl, environment, export_lines, reachable
from sidekey.runtime.snapshot import Address, Caller, Listen, Snapshot


def snapshot(address: Address, *callers: str) -> Snapshot:
    """A config that listens there, with callers of these tokens."""
    known = {hashlib.sha256(token.encode()).digest(): Caller(token, None) for token in callers}
    return Snapshot({}, callers=known, listen=Listen(proxy=address))


def test_both_cases_of_each_variable_are_given() -> None:
    """curl reads http_proxy alone, other clients either."""
    found = environment(snapshot(Address("127.0.0.1", 8080)), "crm")
    assert found == {
        "HTTP_PROXY": "http://crm:x@127.0.0.1:8080",
        "http_proxy": "http://crm:x@127.0.0.1:8080",
        "NO_PROXY": "localhost,127.0.0.1,::1",
        "no_proxy": "localhost,127.0.0.1,::1",
    }


def test_with_callers_the_password_is_a_place_for_the_token() -> None:
    """The token itself is never printed; the placeholder says what belongs there."""
    found = environment(snapshot(Address("127.0.0.1", 8080), "the-token"), "crm")
    assert found["http_proxy"] == f"http://crm:{TOKEN_PLACE}@127.0.0.1:8080"
    assert "the-token" not in str(found)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "127.0.0.1:8080"), ("::", "[::1]:8080"), ("::1", "[::1]:8080"), ("192.0.2.7", "192.0.2.7:8080")],
)
def test_a_listener_on_all_addresses_is_reached_by_loopback(host: str, expected: str) -> None:
    """The unspecified address is nobody's to connect to (RFC 1122 3.2.1.3)."""
    assert environment(snapshot(Address(host, 8080)), "crm")["http_proxy"] == f"http://crm:x@{expected}"


@pytest.mark.parametrize(
    ("address", "reason"),
    [(Address(path="/run/sidekey.sock"), "unix socket"), (Address("127.0.0.1", 0), "chosen at start")],
)
def test_an_address_that_no_url_names_is_an_error_of_its_key(address: Address, reason: str) -> None:
    """The message names the key and the way out."""
    with pytest.raises(NoProxyUrl, match=rf"listen\.proxy: .*{reason}"):
        environment(snapshot(address), "crm")


def test_a_unix_socket_is_reached_where_it_is() -> None:
    """Only TCP has an address that means all of them."""
    address = Address(path="/run/sidekey.sock")
    assert reachable(address) is address


def test_the_lines_are_for_a_shell_to_evaluate() -> None:
    """A POSIX shell takes them over byte for byte, brackets of an IPv6 address too."""
    variables = environment(snapshot(Address("::1", 8080)), "crm")
    script = "\n".join([*export_lines(variables), 'printf %s "$http_proxy"'])
    result = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == variables["http_proxy"] == "http://crm:x@[::1]:8080"
