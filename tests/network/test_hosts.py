"""The hosts file."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

from sidekey.network.hosts import HostsFile, parse_hosts

V4, V6 = ip_address("10.0.0.1"), ip_address("fd00::1")


def test_a_line_gives_its_address_to_each_of_its_names() -> None:
    """Names are separated by blanks or tabs and lose their case."""
    assert parse_hosts("10.0.0.1\tA.test  b.test") == {"a.test": (V4,), "b.test": (V4,)}


def test_a_name_on_several_lines_has_all_their_addresses_in_order() -> None:
    """The file may give a name addresses of both families; a repeated one counts once."""
    assert parse_hosts("fd00::1 a.test\n10.0.0.1 a.test\nfd00::1 a.test\n") == {"a.test": (V6, V4)}


def test_comments_blank_lines_and_lines_without_an_address_are_skipped() -> None:
    """What the C library skips is skipped."""
    text = "# all\n\n10.0.0.1 a.test # b.test\n#10.0.0.1 c.test\nnonsense d.test\n10.0.0.300 e.test\n10.0.0.1\n"
    assert parse_hosts(text) == {"a.test": (V4,)}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """An edit, also one that replaces the file, is seen at the next question."""
    file = tmp_path / "hosts"
    file.write_text("10.0.0.1 a.test\n")
    hosts = HostsFile(file)
    assert hosts.addresses("a.test") == (V4,)
    file.write_text("fd00::1 a.test\n")
    os.utime(file, ns=(1, 1))
    assert hosts.addresses("a.test") == (V6,)
    replacement = tmp_path / "new"
    replacement.write_text("fd00::1 b.test\n")
    os.utime(replacement, ns=(1, 1))
    replacement.replace(file)
    assert hosts.addresses("a.test") == ()
    assert hosts.addresses("b.test") == (V6,)


def test_an_absent_file_counts_as_empty(tmp_path: Path) -> None:
    """Minimal images have no hosts file; one that vanishes takes its names along."""
    file = tmp_path / "hosts"
    hosts = HostsFile(file)
    assert hosts.addresses("a.test") == ()
    file.write_text("10.0.0.1 a.test\n")
    assert hosts.addresses("a.test") == (V4,)
    file.unlink()
    assert hosts.addresses("a.test") == ()
