"""The guard: addresses that may be dialled."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network

import pytest

from sidekey.errors import ProblemError
from sidekey.network.guard import OwnListener, require_permitted
from sidekey.policy.addresses import METADATA, Network

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
PORT = 8080


def refusal_detail(text: str, *own: OwnListener) -> str:
    """Return the detail of the refusal to dial an address on PORT. Private addresses are allowed."""
    with pytest.raises(ProblemError) as refused:
        require_permitted([ip_address(text)], PORT, EVERYTHING, own)
    assert (refused.value.problem.code, refused.value.problem.error) == (
        "destination_denied",
        "destination_ip_prohibited",
    )
    return refused.value.problem.detail


def denial_of(*texts: str, own: tuple[OwnListener, ...] = (), allowed: tuple[Network, ...] = ()) -> str | None:
    """Return the denial for these addresses."""
    with pytest.raises(ProblemError) as refused:
        require_permitted([ip_address(text) for text in texts], PORT, allowed, own)
    return refused.value.problem.denial


def test_forbidden_addresses_are_dropped_in_order() -> None:
    response = [ip_address(text) for text in ("10.0.0.1", "8.8.8.8", "::1", "2606:4700::1111", "169.254.169.254")]
    assert require_permitted(response, 443, (), ()) == [ip_address("8.8.8.8"), ip_address("2606:4700::1111")]


def test_denial_names_the_classes_and_not_the_addresses() -> None:
    with pytest.raises(ProblemError) as refused:
        require_permitted([ip_address("10.20.30.40"), ip_address("127.9.9.9"), ip_address("10.0.0.2")], 443, (), ())
    assert refused.value.problem.code == "destination_denied"
    assert "(private, loopback)" in refused.value.problem.detail
    assert refused.value.problem.denial == "private_address"
    assert "10." not in refused.value.problem.detail
    assert "127." not in refused.value.problem.detail


@pytest.mark.parametrize("address", sorted(map(str, METADATA)))
def test_metadata_address_is_always_denied(address: str) -> None:
    """In every form that embeds it."""
    assert "metadata" in refusal_detail(address)
    assert denial_of(address, "10.0.0.1", "127.0.0.1") == "metadata_address"
    if "." in address:
        assert "metadata" in refusal_detail(f"::ffff:{address}")


@pytest.mark.parametrize("text", ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0"])
def test_own_listener_is_always_denied(text: str) -> None:
    """In every form of its address."""
    own = OwnListener(ip_address("127.0.0.1"), PORT)
    assert "Sidekey itself" in refusal_detail(text, own)
    assert denial_of("10.0.0.1", "127.0.0.1", own=(own,), allowed=(ip_network("127.0.0.0/8"),)) == ("own_listener")


def test_listener_on_a_mapped_address_is_denied() -> None:
    """A dual-stack socket on an IPv4-mapped address listens on that IPv4 address."""
    assert "Sidekey itself" in refusal_detail("127.0.0.1", OwnListener(ip_address("::ffff:127.0.0.1"), PORT))


def test_own_ipv6_listener_is_denied() -> None:
    """The unspecified IPv6 address reaches loopback."""
    own = OwnListener(ip_address("::1"), PORT)
    assert "Sidekey itself" in refusal_detail("::1", own)
    assert "Sidekey itself" in refusal_detail("::", own)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
@pytest.mark.parametrize("text", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::ffff:127.0.0.1", "::1", "::"])
def test_listener_on_every_address_is_denied_at_each_local_address(wildcard: str, text: str) -> None:
    assert "Sidekey itself" in refusal_detail(text, OwnListener(ip_address(wildcard), PORT))


def test_listener_on_every_address_is_denied_at_the_machines_addresses() -> None:
    """The address of a network card is local too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback ones")
        outward = probe.getsockname()[0]
    assert "Sidekey itself" in refusal_detail(outward, OwnListener(ip_address("0.0.0.0"), PORT))


def test_other_ports_and_addresses_are_not_denied() -> None:
    exact, wildcard = OwnListener(ip_address("127.0.0.1"), PORT), OwnListener(ip_address("0.0.0.0"), PORT)
    local, other, remote = ip_address("127.0.0.1"), ip_address("127.0.0.2"), ip_address("8.8.8.8")
    assert require_permitted([local], PORT + 1, EVERYTHING, (exact, wildcard)) == [local]
    assert require_permitted([other], PORT, EVERYTHING, (exact,)) == [other]
    assert require_permitted([remote], PORT, EVERYTHING, (exact, wildcard)) == [remote]
