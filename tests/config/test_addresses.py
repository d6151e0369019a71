import resource
from ipaddress import ip_address

import pytest

from sidekey.config.addresses import is_local


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        # Reserved (RFC 1112 4, RFC 4291 2.4); networks for documentation are in use on some machines.
        ("240.0.0.1", False),
        ("4000::1", False),
    ],
)
def test_address_is_local_if_the_machine_can_bind_it(text: str, *, local: bool) -> None:
    assert is_local(ip_address(text)) is local


def test_address_counts_as_local_if_no_descriptor_is_left() -> None:
    """A reload must not be refused for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert is_local(ip_address("240.0.0.1"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
